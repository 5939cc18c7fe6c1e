"""What a bare control page says: its words, and whether either side is owed a signal."""

from __future__ import annotations

import mmap
import struct

import pytest

from tests.known_bugs import known_bug
from vmbus.errors import CallerError, PeerError, RingEmpty
from vmbus.layout import IN_WORD, OUT_WORD, FeatureBits
from vmbus.memory import FlatRingMem
from vmbus.ring import (
    IncomingRing,
    OutgoingRing,
    connected_rings,
    inspect_ring,
    reader_needs_signal,
    writer_needs_signal,
)


def control_page(
    in_offset: int = 0, out_offset: int = 0, mask: int = 0, pending: int = 0, features: int = 0
) -> bytes:
    return struct.pack("<4I48xI60x", in_offset, out_offset, mask, pending, features)


def test_the_words_stand_at_bytes_0_4_8_12_and_64():
    page = bytearray(128)
    for at, value in ((0, 1), (4, 2), (8, 3), (12, 4), (64, 5)):
        page[at] = value
    seen = inspect_ring(page)
    words = (seen.in_offset, seen.out_offset, seen.interrupt_mask, seen.pending_send_size, seen.feature_bits)
    assert words == (1, 2, 3, 4, 5)
    assert FeatureBits.SUPPORTS_PENDING_SEND_SIZE == 1


def test_words_without_a_name_are_shown_by_their_number_where_they_are_not_zero():
    page = struct.pack("<32I", *range(32))
    assert inspect_ring(page).other_words == {n: n for n in range(32) if n not in (0, 1, 2, 3, 16)}
    assert inspect_ring(bytes(128)).other_words == {}


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, lambda data: mapping(data)])
def test_any_buffer_that_begins_with_the_words_can_be_looked_at(buffer):
    assert inspect_ring(buffer(control_page(in_offset=64) + bytes(5000))).in_offset == 64


def mapping(data: bytes) -> mmap.mmap:
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data
    return mapped


@pytest.mark.parametrize("length", [0, 1, 64, 127])
def test_less_than_128_bytes_are_no_control_page(length):
    for look in (inspect_ring, reader_needs_signal, lambda page: writer_needs_signal(page, 4096)):
        with pytest.raises(CallerError, match=f"128 bytes, not {length}"):
            look(bytes(length))


def test_what_is_no_buffer_is_the_callers_error():
    with pytest.raises(CallerError, match="not int"):
        inspect_ring(7)


@known_bug("B40")
@pytest.mark.parametrize("index", [2**31, 2**31 + 8, 2**32 - 8, 2**32 - 1])
def test_an_index_above_the_middle_of_32_bits_is_a_large_number_and_not_a_negative_one(index):
    page = inspect_ring(control_page(in_offset=index, out_offset=index))
    assert (page.in_offset, page.out_offset) == (index, index)
    memory = FlatRingMem(4096)
    memory.control[IN_WORD] = index
    with pytest.raises(PeerError, match=f"in is {index:#x}") as error:
        IncomingRing(memory).receive()
    assert error.value.found == index
    assert "-" not in str(error.value) and "-" not in repr(IncomingRing(memory))
    memory.control[IN_WORD], memory.control[OUT_WORD] = 0, index
    with pytest.raises(PeerError, match=f"out is {index:#x}") as error:
        OutgoingRing(memory).send(b"")
    assert error.value.found == index


@known_bug("B50")
def test_a_page_of_zeros_is_an_empty_ring_that_owes_nobody_a_signal():
    page = inspect_ring(bytes(4096))
    assert set(page) == {0, bytes(48), bytes(60)}
    assert reader_needs_signal(bytes(4096)) is False
    assert writer_needs_signal(bytes(4096), 4096) is False


@known_bug("B50")
def test_a_ring_of_zeros_is_empty_to_its_receiver_and_free_to_its_sender():
    looker = IncomingRing(FlatRingMem.over(bytes(8192)))
    assert looker.can_read(looker.incoming()) is False
    assert looker.supports_pending_send_size() is False
    with pytest.raises(RingEmpty):
        looker.read(looker.incoming())
    memory = FlatRingMem.over(bytearray(8192))
    receiver = IncomingRing(memory)
    assert receiver.receive_many() == ([], False)
    sender = OutgoingRing(memory)
    assert sender.can_write(sender.outgoing(), 4088) is True


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (control_page(), False),
        (control_page(in_offset=64), True),
        (control_page(out_offset=64), True),
        (control_page(in_offset=64, out_offset=64), False),
        (control_page(in_offset=64, mask=1), False),
        (control_page(in_offset=64, mask=2**31), False),
    ],
)
def test_a_reader_may_wait_for_a_signal_where_packets_are_and_the_mask_is_clear(page, expected):
    assert reader_needs_signal(page) is expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (control_page(), False),
        (control_page(pending=4088), True),
        (control_page(pending=4095), True),
        (control_page(pending=7), False),
        (control_page(pending=8), True),
        (control_page(in_offset=2048, pending=2040), True),
        (control_page(in_offset=2048, pending=2047), True),
        (control_page(in_offset=2048, pending=2048), False),
        (control_page(in_offset=64, out_offset=2048, pending=1976), True),
        (control_page(in_offset=64, out_offset=2048, pending=1984), False),
        (control_page(in_offset=4096, pending=8), False),
        (control_page(out_offset=4, pending=8), False),
        (control_page(in_offset=4, pending=8), False),
        (control_page(out_offset=8192, pending=8), False),
    ],
)
def test_a_writer_may_wait_for_a_signal_where_there_is_the_room_it_asked_for(page, expected):
    assert writer_needs_signal(page, 4096) is expected


def test_the_levels_agree_with_the_rings_about_a_ring_in_use():
    sender, receiver = connected_rings()
    page = bytearray(4096)

    def look() -> tuple[bool, bool]:
        page[:128] = bytes(memoryview(sender.memory.control).cast("B"))
        return reader_needs_signal(page), writer_needs_signal(page, 4096)

    assert look() == (False, False)
    for _ in range(3):
        sender.send(bytes(1000))
    assert look() == (True, False)
    sender.set_pending_send_size(2048)
    assert look() == (True, False)
    assert receiver.receive()[1] is False and look() == (True, False)
    assert receiver.receive()[1] is True and look() == (True, True)
    receiver.set_interrupt_mask(True)
    assert look() == (False, True)
    assert receiver.receive()[1] is False and look() == (False, True)
    sender.set_pending_send_size(0)
    assert look() == (False, False)
