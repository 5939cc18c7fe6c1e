"""Bugs of the catalogue that no other test of rings and their memory names: sizes, ids, answers, ranges.

Most of them were bugs of drivers.  What is tested is the part of each that a ring, its memory or a packet
of it can have.
"""

from __future__ import annotations

import importlib
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.helpers import PACKET_KINDS, image_of, padded, paged_memory, pattern, receive_packet, send_packet
from tests.known_bugs import known_bug
from tests.no_error import no_error
from vmbus.channel import connected_channels
from vmbus.errors import CallerError, NotReady, PeerError
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.inspection import RawDump, find_rings
from vmbus.layout import IN_WORD, PIPE_HEADER, PipeHeader, PipePacketType
from vmbus.memory import FlatRingMem, RingMem, SharedMemory
from vmbus.pipe import BytePipe, MessagePipe, PipeFault
from vmbus.ring import (
    AddressRange,
    IncomingRing,
    MultiPagedRangeBuf,
    OutgoingPacket,
    OutgoingRing,
    PagedRange,
    RingFault,
    connected_rings,
)

# -- sizes ---------------------------------------------------------------------------------------

#: Bytes of a page of the guest's processor, where it is not one of Hyper-V's.
LARGE_PAGE = 65536


@known_bug("B34")
@pytest.mark.parametrize("size", [20480, 24576, 61440, 69632])
def test_a_ring_is_as_long_as_4096_divides_it_and_need_not_fill_large_pages(size):
    with no_error(f"memories for a ring of {size} bytes"):
        memories: list[RingMem] = [FlatRingMem(size), paged_memory(size)]
        memories += [
            FlatRingMem.over(bytearray(header + size), header_size=header) for header in (4096, LARGE_PAGE)
        ]
    assert [memory.size for memory in memories] == [size] * 4
    for memory in memories[::2]:
        sender, receiver = connected_rings(memory=memory, start=size - 16)
        sender.send(b"across the end")
        assert receiver.receive()[0].payload == padded(b"across the end")


@known_bug("B38")
@pytest.mark.parametrize("pages", [33, 5, 4, 1])
def test_the_ring_of_a_file_is_as_long_as_the_file_says(pages):
    image = bytearray(4096 + 4096 * pages)
    connected_rings(memory=FlatRingMem.over(image))[0].send(b"a packet")
    [ring] = find_rings(RawDump("a dump", memoryview(image)), address=0)
    assert (ring.data_size, ring.data_size_known) == (4096 * pages, True)


@known_bug("B34", "B39")
@pytest.mark.parametrize("first", [4096, 24576])
def test_two_rings_lie_behind_each_other_for_whoever_maps_them_and_wherever(first):
    """Both ends map all of the memory, so that no ring has to start where the system likes mappings to."""
    places = [(0, 4096 + first), (4096 + first, 4096 + 8192)]
    with SharedMemory.create(sum(length for _, length in places)) as near:
        with SharedMemory.open(near.fileno()) as far:
            for number, place in enumerate(places):
                with FlatRingMem.over(near.map(*place)) as here, FlatRingMem.over(far.map(*place)) as there:
                    OutgoingRing(here).send(b"ring %d" % number)
                    assert there.size == place[1] - 4096
                    assert IncomingRing(there).receive()[0].payload == padded(b"ring %d" % number)
        with near.map() as whole:
            assert [whole[start] for start, _ in places] == [32, 32]


@known_bug("B39")
def test_nothing_in_a_ring_says_where_it_is_mapped():
    images = []
    for start in (0, 4096 + 128):
        buffer = bytearray(start + 8192)
        sender, receiver = connected_rings(memory=FlatRingMem.over(memoryview(buffer)[start : start + 8192]))
        for kind in PACKET_KINDS.values():
            send_packet(sender, pattern(40), kind.outgoing(40))
        receiver.receive()
        images.append(bytes(buffer[start : start + 8192]))
    assert images[0] == images[1]


@pytest.fixture
def imported_on_large_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports parts of the package as on a machine whose pages have 64 KiB."""
    monkeypatch.setattr(mmap, "PAGESIZE", LARGE_PAGE)
    monkeypatch.setattr(mmap, "ALLOCATIONGRANULARITY", LARGE_PAGE)
    if hasattr(os, "sysconf"):
        sysconf = os.sysconf
        page_names = ("SC_PAGESIZE", "SC_PAGE_SIZE")
        monkeypatch.setattr(os, "sysconf", lambda name: LARGE_PAGE if name in page_names else sysconf(name))
    for name in [name for name in sys.modules if name.partition(".")[0] == "vmbus"]:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.partition(".")[0] == "vmbus"]:
        del sys.modules[name]


@known_bug("B35")
def test_pages_are_those_of_the_host_whatever_pages_the_machine_has(imported_on_large_pages):
    sizes, memory, ring = map(imported_on_large_pages, ("vmbus.sizes", "vmbus.memory", "vmbus.ring"))
    assert (sizes.PAGE_SIZE, sizes.MAXIMUM_DATA_SIZE) == (4096, 2**31 - 4096)
    assert memory.FlatRingMem.over(bytearray(4096 + 8192)).size == 8192
    assert memory.FlatRingMem(8192).read_at(0, 8192) == bytes(8192)
    assert ring.PagedRange(0, 8192, [7, 9]).gpns == (7, 9)
    assert [one.start for one in ring.PagedRange(0, 8192, [7, 9]).ranges()] == [0x7000, 0x9000]


# -- packets of more than 4 KiB ------------------------------------------------------------------

BACKUP_MESSAGE = pattern(6304)

#: Every way to take a packet out of a ring, as its payload.
TAKE: dict[str, Callable[[IncomingRing], bytes]] = {
    "receive": lambda receiver: receiver.receive()[0].payload,
    "receive_many": lambda receiver: receiver.receive_many(1)[0][0].payload,
    "read and commit_read": lambda receiver: receive_packet(receiver).payload,
    "receive_into": lambda receiver: received_into(receiver),
}


def received_into(receiver: IncomingRing) -> bytes:
    buffer = bytearray(receiver.size)
    length, _ = receiver.receive_into(buffer)
    return bytes(buffer[:length])


@known_bug("B44")
@pytest.mark.parametrize("start", [0, 16384 - 4096])
@pytest.mark.parametrize("take", TAKE)
def test_a_packet_of_6304_bytes_comes_whole_and_so_does_the_next(take, start):
    sender, receiver = connected_rings(size=16384, start=start)
    sender.send(BACKUP_MESSAGE)
    sender.send(b"the next")
    assert TAKE[take](receiver) == BACKUP_MESSAGE
    assert TAKE[take](receiver) == b"the next"


@known_bug("B44")
def test_a_message_of_6304_bytes_comes_whole_through_a_pipe_and_a_channel():
    sender, receiver = connected_rings(size=16384)
    outgoing, pipe = sender.outgoing(), MessagePipe(receiver, sender)
    assert pipe.maximum_message_size >= 6304
    pipe.write(outgoing, BACKUP_MESSAGE)
    sender.commit_write(outgoing)
    assert pipe.read(receiver.incoming()) == BACKUP_MESSAGE
    guest, host = connected_channels()
    with guest, host:
        guest.send(BACKUP_MESSAGE)
        assert host.receive(timeout=0).payload == BACKUP_MESSAGE


# -- looks that differ ---------------------------------------------------------------------------


@known_bug("B46")
@pytest.mark.parametrize("take", TAKE)
def test_an_in_that_moves_back_after_the_look_publishes_nothing_more(take):
    """The sender showed 32 bytes.  Behind its back in goes to before out, as if nearly all were full."""
    sender, _ = connected_rings(start=1024)
    sender.send(pattern(2000))
    control = sender.memory.control
    control[IN_WORD] = 1024 + 32

    def move_back(access: Access) -> None:
        if str(access) == "load in":
            control[IN_WORD] = 1016

    receiver = IncomingRing(RecordingMemory(sender.memory, after=move_back))
    assert ending(lambda: TAKE[take](receiver)) in (
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        RingFault.FOOTER_NOT_PUBLISHED,
    )


def ending(call: Callable[[], object]) -> object:
    """What a call returned, or the kind of the PeerError, or the NotReady, that it raised."""
    try:
        return call()
    except PeerError as error:
        return error.kind
    except NotReady as error:
        return type(error)


@known_bug("B48")
@pytest.mark.parametrize("kind", PACKET_KINDS.values(), ids=PACKET_KINDS)
@pytest.mark.parametrize("start", [0, 4080])
def test_a_packet_copied_out_is_the_one_in_the_ring_with_its_own_transaction_id(kind, start):
    """Behind one with another id, so that no field can be left from the packet before."""
    copies = []
    for take_all in (
        lambda receiver: [receiver.receive()[0] for _ in range(3)],
        lambda receiver: receiver.receive_many()[0],
    ):
        sender, receiver = connected_rings(start=start)
        sender.send(b"before", transaction_id=0x1111)
        send_packet(sender, pattern(40), kind.outgoing(40))
        sender.send(b"behind", transaction_id=0x2222)
        incoming = receiver.incoming()
        in_place = [receiver.read(incoming) for _ in range(3)]
        copies.append(take_all(receiver))
        for seen, copied in zip(in_place, copies[-1], strict=True):
            assert copied.transaction_id == seen.descriptor.transaction_id
            assert (copied.type, copied.flags) == (seen.type, seen.descriptor.flags)
            assert (copied.ranges, copied.transfer_page_set_id) == (seen.ranges, seen.transfer_page_set_id)
        assert [one.transaction_id for one in copies[-1]] == [0x1111, kind.transaction_id, 0x2222]
    assert copies[0] == copies[1]


# -- answers, and numbers that come from the other side -------------------------------------------


@known_bug("B51")
@pytest.mark.parametrize("announced", [0, 1, 8, 15])
def test_an_answer_longer_than_its_packet_is_refused_and_nothing_of_it_is_sent(announced):
    sender, receiver = connected_rings()
    before = image_of(sender.memory)
    answer = OutgoingPacket.completion(announced, transaction_id=7)
    with pytest.raises(CallerError, match=f"announces {announced} bytes") as caught:
        sender.send_packet(answer, bytes(16))
    assert (caught.value.value, caught.value.limit) == (16, announced)
    assert image_of(sender.memory) == before

    outgoing = sender.outgoing()
    writer = sender.write(outgoing, answer).writer(sender)
    with pytest.raises(CallerError, match=f"{announced} left"):
        writer.write(bytes(16))
    writer.write(b"x" * announced)
    sender.commit_write(outgoing)
    assert receiver.receive()[0].payload == padded(b"x" * announced)


@known_bug("B60")
@pytest.mark.parametrize("claimed", [9, 4096, 16384, 16385, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", [MessagePipe, BytePipe])
def test_a_length_that_the_host_claims_is_judged_before_a_byte_is_used_by_it(kind, claimed):
    sender, receiver = connected_rings()
    sender.send(PIPE_HEADER.pack(PipeHeader(PipePacketType.DATA, claimed)) + b"8 bytes.")
    buffer = bytearray(b"?" * 32768)
    pipe, offset = kind(receiver, sender), receiver.incoming()
    with pytest.raises(PeerError) as caught:
        pipe.receive_into(offset, buffer)
    assert (caught.value.kind, caught.value.found) == (PipeFault.INVALID_LENGTH, claimed)
    assert buffer == b"?" * 32768
    assert offset.next_out == 0


# -- ranges --------------------------------------------------------------------------------------


@known_bug("B69")
def test_pages_that_follow_each_other_are_one_range():
    neighbours = PagedRange(100, 5 * 4096, [7, 8, 9, 10, 11, 12])
    assert list(neighbours.ranges()) == [AddressRange(0x7064, 0xC064)]
    assert MultiPagedRangeBuf([neighbours]).range_count == 1
    apart = PagedRange(100, 3 * 4096, [7, 8, 3, 4])
    assert list(apart.ranges()) == [AddressRange(0x7064, 0x9000), AddressRange(0x3000, 0x4064)]
