"""A fixed set of cases of every target: they find nothing wrong here, and must where a fault is planted.

The cases are random bytes from one seed, so the same in every run.  Only a finding, which a trial raises as Wrong,
makes a test fail; any other exception is shown as an error, behind the test, and is no finding: a fault that merely
crashes has not been found by a trial.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from vmbus.fuzzing.byte_channel_trial import ByteChannelTrial
from vmbus.fuzzing.byte_pipe_trial import BytePipeTrial
from vmbus.fuzzing.case import Case
from vmbus.fuzzing.channel_trial import ChannelTrial
from vmbus.fuzzing.corpus import random_case
from vmbus.fuzzing.image_trial import ImageTrial
from vmbus.fuzzing.pipe_trial import MessagePipeTrial
from vmbus.fuzzing.queue_trial import PackedQueueTrial, SplitQueueTrial
from vmbus.fuzzing.ring_trial import RingTrial
from vmbus.fuzzing.trial import Trial, Wrong

#: The trials, and how many cases of each.
TARGETS: dict[str, tuple[type[Trial], int]] = {
    "ring": (RingTrial, 120),
    "message-pipe": (MessagePipeTrial, 50),
    "byte-pipe": (BytePipeTrial, 60),
    "channel": (ChannelTrial, 150),
    "byte-channel": (ByteChannelTrial, 100),
    "virtqueue-split": (SplitQueueTrial, 80),
    "virtqueue-packed": (PackedQueueTrial, 80),
    "image": (ImageTrial, 100),
}

SEED = 20251122


class NotAFinding(Exception):
    """A trial has raised something else than Wrong."""


@pytest.fixture
def unexpected() -> Iterator[list[Exception]]:
    """Where a test leaves what is no finding; it is raised behind the test."""
    found: list[Exception] = []
    yield found
    if found:
        raise NotAFinding("a case ended with an exception that is not Wrong") from found[0]


def perform_cases(trial: type[Trial], count: int, unexpected: list[Exception]) -> None:
    """Perform some cases; fails with the first finding."""
    random = Random(SEED)
    for _ in range(count):
        case = random_case(trial, random)
        finding = finding_of(case, unexpected)
        if finding is not None:
            pytest.fail(f"{finding}\n\nfound by this case:\n{case}", pytrace=False)


def finding_of(case: Case, unexpected: list[Exception]) -> Wrong | None:
    try:
        case.perform()
    except Wrong as error:
        return error
    except Exception as error:  # noqa: BLE001 - raised again behind the test
        unexpected.append(error)
    return None


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_finds_nothing_wrong(target, unexpected):
    trial, count = TARGETS[target]
    assert trial.name == target
    perform_cases(trial, count, unexpected)


class Crashing(RingTrial):
    def check(self) -> None:
        raise IndexError("a mistake of the trial itself")


def test_what_a_trial_raises_by_mistake_is_no_finding():
    unexpected: list[Exception] = []
    perform_cases(Crashing, 2, unexpected)
    assert [type(error) for error in unexpected] == [IndexError] * 2
