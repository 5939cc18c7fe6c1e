"""A queue of any size, from any start, carries what lists carry, refuses the rest, and wakes whoever sleeps: the
machines of the queue trials, split and packed.

A test counts how often cases of random bytes reach full queues, wraps, migrations and sleepers.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import settings

from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.fuzzing.corpus import random_case
from vmbus.fuzzing.machines import machine_of
from vmbus.fuzzing.queue_trial import PackedQueueTrial, SplitQueueTrial
from vmbus.virtio import DescriptorChain, VirtioFeatures, connected_virtqueues

in_short = settings(max_examples=50, stateful_step_count=40, deadline=None)

TestSplitQueueAgainstLists = machine_of(SplitQueueTrial).TestCase
TestSplitQueueAgainstLists.settings = in_short
TestPackedQueueAgainstLists = machine_of(PackedQueueTrial).TestCase
TestPackedQueueAgainstLists.settings = in_short

#: What these cases must come to, and how often at least; every other corner once.
OFTEN = {
    "last descriptor taken": 100,
    "queue full": 50,
    "request that never fits": 10,
    "indirect request": 15,
    "buffer across regions": 50,
    "given back out of order": 20,
    "stepped back": 10,
    "no way back": 3,
    "migrated with chains held": 10,
    "migrated before asking": 10,
    "device woken": 10,
    "driver woken": 10,
    "available index past 65535": 15,
    "used index past 65535": 15,
    "list over the end of the ring": 15,
    "list of the whole ring": 8,
    "used in the next round": 50,
}


@known_bug("V03", "V04", "V11", "V12", "V13")
@pytest.mark.parametrize("trial", [SplitQueueTrial, PackedQueueTrial], ids=["split", "packed"])
def test_random_cases_come_to_full_queues_wraps_migrations_and_sleepers(trial):
    random = Random(20251122)
    reached = sum((random_case(trial, random).perform() for _ in range(70)), Counter())
    assert {name: reached[name] for name in trial.CORNERS if reached[name] < OFTEN.get(name, 1)} == {}
    assert reached.keys() <= set(trial.CORNERS)


def test_there_is_no_way_back_to_a_chain_that_lies_whole_rounds_behind():
    """It ends where the device stands, by slot and wrap counter, and is not the last that was popped."""
    driver, device = connected_virtqueues(2, VirtioFeatures.VERSION_1 | VirtioFeatures.RING_PACKED)

    def pop_one() -> DescriptorChain:
        driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1))
        chain = device.pop_descriptor_chain()
        assert chain is not None
        return chain

    kept = pop_one()
    for _ in range(4):
        device.add_used(pop_one().head_index)
        next(driver.completions())
    state = device.state()
    with pytest.raises(CallerError):
        device.go_to_previous_position()
    assert device.state() == state
    device.add_used(kept.head_index)
    assert [completion.id for completion in driver.completions()] == [kept.head_index]
