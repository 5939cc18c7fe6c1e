"""Each break of a ring is refused by the rule that it breaks, and what is before it delivered."""

from __future__ import annotations

from itertools import product

import pytest

from tests.fuzzing.some_images import ALL_KINDS, IMAGES, by_receive, check_reading
from vmbus.errors import CallerError, PeerError
from vmbus.fuzzing import BREAKS, RingImage
from vmbus.ring import GpaRangeFault, IncomingRing, OutgoingRing, RingFault


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_refused_by_the_rule_that_it_breaks_and_what_is_before_it_delivered(name):
    for image, choice in product(IMAGES.values(), (0, 1, 2, 3, 5, 8, 11)):
        if image.data_size > 4096 and choice > 1:
            continue  # two packets, and the ring takes longer
        broken = BREAKS[name].apply(image, choice)
        assert broken.fault is BREAKS[name].fault
        packets, error = by_receive(IncomingRing(broken.memory()))
        assert packets == broken.packets()
        assert isinstance(error, PeerError)
        assert error.kind is broken.fault


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_image_is_refused_whichever_way_it_is_read(name):
    check_reading(BREAKS[name].apply(IMAGES["all kinds"], 4))


def test_every_fault_that_reading_can_meet_has_a_break():
    of_the_caller = {
        RingFault.INVALID_MESSAGE_LENGTH,
        RingFault.RING_TOO_LARGE,
        RingFault.INVALID_RING_MEMORY,
        RingFault.INTERRUPTS_EXTERNALLY_MASKED,  # set while the ring is in use: no image has it
    }
    assert {one.fault for one in BREAKS.values()} == {*RingFault, *GpaRangeFault} - of_the_caller


@pytest.mark.parametrize("name", [name for name in BREAKS if name.startswith(("in-", "out-"))])
def test_a_sender_refuses_a_broken_index_too(name):
    # 4000 bytes, so that the sender must look at out: there may be no room.
    for choice in range(4):
        memory = BREAKS[name].apply(IMAGES["one packet"], choice).memory()
        sender = OutgoingRing(memory)
        with pytest.raises(PeerError) as caught:
            sender.send(bytes(4000))
        assert caught.value.kind is RingFault.INVALID_RING_POINTER


@pytest.mark.parametrize("number", range(len(ALL_KINDS)))
def test_a_choice_picks_the_packet_that_is_broken(number):
    broken = BREAKS["type-unknown"].apply(IMAGES["all kinds"], number)
    assert len(broken.packets()) == number
    assert broken.waiting[number].type not in (6, 7, 9, 11)


def test_a_break_changes_nothing_but_the_one_thing():
    image = IMAGES["all kinds"]
    before, after = image.to_bytes(), BREAKS["flags-unknown"].apply(image, 0).to_bytes()
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert changed == [4096 + image.out_offset + 6]


def test_an_image_is_broken_once():
    broken = BREAKS["in-at-end"].apply(RingImage())
    with pytest.raises(CallerError):
        BREAKS["in-at-end"].apply(broken)


def test_breaks_have_sentences_and_the_names_they_are_listed_by():
    assert all(one.name == name and len(one.sentence) > 20 for name, one in BREAKS.items())
    assert len({one.sentence for one in BREAKS.values()}) == len(BREAKS)
