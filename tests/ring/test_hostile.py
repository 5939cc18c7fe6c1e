"""A ring whose other side is an enemy: packets, NotReady or PeerError, and never anything else.

Three enemies.  One leaves any bytes in the ring and goes; one breaks a single field of a ring that
is right; one changes the bytes between two accesses of the end under test.  Whatever they do, an
end stops within as many steps as the ring has slots, uses no value twice that it read twice, and
loses nothing that was published.

The rings are drawn so that readers get deep into them: a test at the end counts that every fault
is met.

Seen to fail with: the footer left out of the availability check of `read`, `receive` and
`receive_many`; an index out of range taken for an empty ring, or not checked for its low bits; the
descriptor read twice, by each of the three ways; the good packets before a broken one lost; an
error that replaces an earlier one; commit_read raising; a bad index that a commit met forgotten.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as some

from tests.helpers import facts, padded, pattern, send_packet
from tests.known_bugs import known_bug
from vmbus.errors import CallerError, NotReady, PeerError, RingEmpty, RingFull
from vmbus.fuzzing.recording_memory import Access, RecordingMemory
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FOOTER_SIZE,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
    PacketDescriptor,
    PacketType,
)
from vmbus.memory import FlatRingMem, PagedRingMem, RingMem
from vmbus.ring import (
    GpaRangeFault,
    IncomingRing,
    OutgoingPacket,
    OutgoingPacketType,
    OutgoingRing,
    Packet,
    PacketSize,
    PagedRange,
    RingFault,
    TransferPageRange,
    advance,
    connected_rings,
    descriptor_fault,
    free_bytes,
    is_offset,
    parse_extension,
    used_bytes,
)
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE

#: The same rings each time, on slow machines too.
REPEATABLE = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

#: Every fault that reading a ring can meet, or asking it to verify its mask.
READ_FAULTS = {
    RingFault.INVALID_RING_POINTER,
    RingFault.INVALID_DATA_AVAILABLE,
    RingFault.INVALID_DESCRIPTOR_LENGTHS,
    RingFault.INVALID_DESCRIPTOR_FLAGS,
    RingFault.INVALID_DESCRIPTOR_TYPE,
    RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT,
    RingFault.FOOTER_NOT_PUBLISHED,
    RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT,
    *GpaRangeFault,
}


# -- rings -----------------------------------------------------------------------------------------


@dataclass
class Image:
    """A ring as bytes, before anybody reads it.

    words      the control words
    data       the data area
    payloads   of the packets that wait in it, where they are known
    starts     where those packets start
    """

    words: list[int]
    data: bytes
    payloads: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def bytes(self) -> bytes:
        control = struct.pack(f"<{CONTROL_WORD_COUNT}I", *self.words)
        return control.ljust(PAGE_SIZE, b"\0") + self.data

    def flat(self) -> FlatRingMem:
        return FlatRingMem.over(bytearray(self.bytes()))

    def paged(self) -> PagedRingMem:
        whole = self.bytes()
        return PagedRingMem([bytearray(whole[at : at + 4096]) for at in range(0, len(whole), 4096)])

    def with_field(self, packet: int, at: int, letter: str, value: int) -> Image:
        """The same image with a number overwritten, so many bytes from a packet's start."""
        data = bytearray(self.data)
        struct.pack_into("<" + letter, data, advance(len(data), self.starts[packet], at), value)
        return replace(self, data=bytes(data))

    def field(self, packet: int, at: int, letter: str) -> int:
        """The number that stands there."""
        place = advance(len(self.data), self.starts[packet], at)
        value: int = struct.unpack_from("<" + letter, self.data, place)[0]
        return value


def slot_like_a_packet(random: Random) -> int:
    """Eight bytes that could begin a descriptor: mostly right, small, and often wrong by a little."""
    kind = random.choice((6, 6, 11, 7, 9, 9, random.randrange(16), random.getrandbits(16)))
    data_offset8 = random.choice((2, 2, 2, 3, 4, 5, random.randrange(12), random.getrandbits(16)))
    length8 = random.choice(
        (2, 3, 4, 6, 8, random.randrange(40), random.randrange(600), random.getrandbits(16))
    )
    flags = random.choice((0, 0, 1, 1, 1, random.randrange(4), random.getrandbits(16)))
    return kind | data_offset8 << 16 | length8 << 32 | flags << 48


def slot_like_a_range(random: Random) -> int:
    """Eight bytes that could be the header of ranges, or the head of one."""
    low = random.choice((0, 1, 8, 4096, random.getrandbits(32), 0xFFFF_FFFF))
    high = random.choice((0, 1, 2, 1, 4095, 4096, random.getrandbits(32)))
    return low | high << 32


def random_data(random: Random, size: int, likeness: int) -> bytes:
    """Slots that look like packets or ranges, so many of a hundred, and noise for the others."""
    kinds = (slot_like_a_packet, slot_like_a_packet, slot_like_a_range)
    slots = [random.choice(kinds)(random) for _ in range(likeness)]
    slots += [random.getrandbits(64) for _ in range(100 - likeness)]
    return b"".join(random.choices([slot.to_bytes(8, "little") for slot in slots], k=size // 8))


def any_index(size: int) -> some.SearchStrategy[int]:
    """Mostly an offset of the ring; sometimes one beside it, or anything of 32 bits."""
    offset = some.integers(0, size // 8 - 1).map(lambda slot: 8 * slot)
    beside = some.sampled_from((1, 4, size - 1, size, size + 8, 2**31, 2**32 - 8, 2**32 - 1))
    return some.one_of(*[offset] * 8, beside, some.integers(0, 2**32 - 1))


@some.composite
def random_images(draw: Callable[..., Any]) -> Image:
    """Any control words and any data area, of one page or two."""
    size = draw(some.sampled_from((4096, 8192)))
    random = Random(draw(some.integers(0, 2**32 - 1)))
    words = [0] * CONTROL_WORD_COUNT
    words[IN_WORD] = draw(any_index(size))
    words[OUT_WORD] = draw(any_index(size))
    for word in range(2, CONTROL_WORD_COUNT):
        words[word] = random.choice((0, 1, 8, size - 1, random.getrandbits(32)))
    return Image(words, random_data(random, size, draw(some.sampled_from((0, 60, 90, 100)))))


def any_packet() -> some.SearchStrategy[OutgoingPacket]:
    lengths = some.integers(0, 80)
    gpa_ranges = some.builds(
        lambda offset, length: PagedRange(offset, length, range(7, 7 + 3)),
        some.integers(0, 4095),
        some.integers(1, 8192),
    )
    page_ranges = some.builds(TransferPageRange, some.integers(0, 99), some.integers(0, 99))
    return some.one_of(
        some.builds(OutgoingPacket.in_band, lengths, completion_requested=some.booleans()),
        some.builds(OutgoingPacket.completion, lengths, transaction_id=some.integers(0, 2**64 - 1)),
        some.builds(OutgoingPacket.gpa_direct, some.lists(gpa_ranges, min_size=1, max_size=3), lengths),
        some.builds(
            OutgoingPacket.transfer_pages, some.just(5), some.lists(page_ranges, max_size=3), lengths
        ),
    )


@some.composite
def valid_images(draw: Callable[..., Any]) -> Image:
    """A ring that holds a few good packets, from any start, often across its end."""
    size = draw(some.sampled_from((4096, 8192)))
    near_the_end = some.integers(1, 40).map(lambda slots: size - 8 * slots)
    start = draw(some.one_of(near_the_end, some.integers(0, size // 8 - 1).map(lambda slot: 8 * slot)))
    memory = FlatRingMem(size)
    memory.write_at(0, random_data(Random(start), size, 100))
    sender, _ = connected_rings(memory=memory, start=start)
    payloads, starts = [], []
    for number, packet in enumerate(draw(some.lists(any_packet(), min_size=1, max_size=6))):
        payload = pattern(packet.size, seed=number + 1)
        starts.append(memory.control[IN_WORD])
        payloads.append(padded(payload))
        send_packet(sender, payload, packet)
    return Image(list(memory.control), memory.read_at(0, size), payloads, starts)


#: What can be overwritten in a packet: bytes from its start, and the struct letter of the width.
TYPE, DATA_OFFSET8, LENGTH8, FLAGS = (0, "H"), (2, "H"), (4, "H"), (6, "H")
RESERVED, RANGE_COUNT = (16, "I"), (20, "I")
BYTE_COUNT, BYTE_OFFSET = (24, "I"), (28, "I")

DESCRIPTOR_FIELDS = (TYPE, DATA_OFFSET8, LENGTH8, FLAGS)
FIELDS_OF_TYPE = {
    PacketType.GPA_DIRECT: (*DESCRIPTOR_FIELDS, *(RANGE_COUNT, BYTE_COUNT, BYTE_OFFSET) * 3, RESERVED),
    PacketType.TRANSFER_PAGES: (*DESCRIPTOR_FIELDS, *(RANGE_COUNT,) * 3, RESERVED),
}


def any_value(width: int, now: int) -> some.SearchStrategy[int]:
    """A number of so many bits, often one beside what stands there now."""
    top = 2**width - 1
    beside = [now + step for step in (-16, -8, -3, -2, -1, 1, 2, 3, 8, 16)]
    edges = [0, 1, 2, 3, 4, 5, 255, 4095, 4096, top - 1, top, top // 2 + 1, *beside]
    return some.one_of(
        some.sampled_from([value for value in edges if 0 <= value <= top and value != now]),
        some.integers(0, top),
    )


@some.composite
def broken_images(draw: Callable[..., Any]) -> Image:
    """A ring of good packets with one field overwritten: of a packet, or of the control page."""
    good = draw(valid_images())
    if draw(some.integers(0, 3)) == 0:
        words = list(good.words)
        word = draw(some.sampled_from((IN_WORD, IN_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD)))
        a_little_less = some.integers(1, 4).map(lambda slots: (words[word] - 8 * slots) % len(good.data))
        words[word] = draw(some.one_of(a_little_less, any_value(32, words[word])))
        return replace(good, words=words)
    packet = draw(some.integers(0, len(good.starts) - 1))
    kind = good.field(packet, *TYPE)
    at, letter = draw(some.sampled_from(FIELDS_OF_TYPE.get(kind, DESCRIPTOR_FIELDS)))
    now = good.field(packet, at, letter)
    return good.with_field(packet, at, letter, draw(any_value(8 * struct.calcsize(letter), now)))


@some.composite
def images_with_ranges(draw: Callable[..., Any]) -> Image:
    """A ring with a plain packet, one whose ranges are drawn word by word, and a plain one again."""
    heads = some.tuples(
        some.sampled_from((1, 4096, 4097, 0, 2**32 - 4096, 2**32 - 1)),
        some.sampled_from((0, 0, 0, 1, 4095, 4096, 2**32 - 1)),
    )
    kind = draw(some.sampled_from((*[OutgoingPacketType.GPA_DIRECT] * 3, OutgoingPacketType.TRANSFER_PAGES)))
    header = struct.pack(
        "<II", draw(some.integers(0, 2**32 - 1)), draw(some.sampled_from((1, 0, 2, 3, 2**32 - 1)))
    )
    words = [struct.pack("<II", *pair) for pair in draw(some.lists(heads, max_size=5))]
    start = 8 * draw(some.integers(0, 511))
    sender, _ = connected_rings(start=start)
    sender.send(bytes(8))
    send_packet(sender, bytes(8), OutgoingPacket(kind, 8, 1, header + b"".join(words)))
    sender.send(bytes(8))
    return Image(list(sender.memory.control), sender.memory.read_at(0, sender.size))


hostile_images = some.one_of(random_images(), broken_images(), broken_images(), images_with_ranges())


# -- ways to read ----------------------------------------------------------------------------------


def by_receive(receiver: IncomingRing) -> list[bytes]:
    return [receiver.receive()[0].payload]


def by_receive_many(receiver: IncomingRing, limit: int | None = None) -> list[bytes]:
    packets, _ = receiver.receive_many(limit)
    if not packets:
        raise RingEmpty
    return [packet.payload for packet in packets]


def by_receive_many_limited(receiver: IncomingRing) -> list[bytes]:
    return by_receive_many(receiver, limit=2)


def by_receive_into(receiver: IncomingRing) -> list[bytes]:
    buffer = bytearray(receiver.size)
    length, _ = receiver.receive_into(buffer)
    return [bytes(buffer[:length])]


def by_read_and_commit(receiver: IncomingRing) -> list[bytes]:
    incoming = receiver.incoming()
    payload = receiver.read(incoming).payload.reader(receiver).read_all()
    receiver.commit_read(incoming)
    return [payload]


WAYS = {
    way.__name__.removeprefix("by_"): way
    for way in (by_receive, by_receive_many, by_receive_many_limited, by_receive_into, by_read_and_commit)
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def read_to_the_end(
    receiver: IncomingRing, way: Callable[[IncomingRing], list[bytes]]
) -> tuple[list[bytes], Any]:
    """The payloads, and what ended it: "empty", or the kind of the PeerError.

    Anything but NotReady and PeerError, and any ring that does not end, fails the test here.
    """
    payloads: list[bytes] = []
    for _ in range(receiver.size // 8 + 1):
        try:
            payloads += way(receiver)
        except NotReady:
            return payloads, "empty"
        except PeerError as error:
            with pytest.raises(PeerError) as again:
                way(receiver)
            assert facts(again.value) == facts(error)
            return payloads, error.kind
    raise AssertionError(f"{receiver} has more packets than slots")


def read_without_commits(receiver: IncomingRing) -> tuple[list[bytes], Any]:
    """The same in one round that takes nothing out, which a read-only memory allows too."""
    payloads = []
    try:
        incoming = receiver.incoming()
        for _ in range(receiver.size // 8 + 1):
            payloads.append(receiver.read(incoming).payload.reader(receiver).read_all())
    except NotReady:
        return payloads, "empty"
    except PeerError as error:
        return payloads, error.kind
    raise AssertionError(f"{receiver} has more packets than slots")


# -- bytes that stay -------------------------------------------------------------------------------


@known_bug("B26", "B27", "B46")
@settings(REPEATABLE, max_examples=250)
@given(image=hostile_images)
def test_any_bytes_give_packets_not_ready_or_peer_error_and_every_way_to_read_gives_the_same(image):
    expected = read_without_commits(IncomingRing(FlatRingMem.over(image.bytes())))
    for way in WAYS.values():
        assert read_to_the_end(IncomingRing(image.flat()), way) == expected
    assert read_to_the_end(IncomingRing(image.paged()), by_receive) == expected
    event(f"ended by {expected[1]}")


def walk_by_slots(image: Image) -> tuple[list[bytes], bool]:
    """The payloads up to the first fault, and whether there is one: a second, plainer reader.

    Takes the ring apart slot by slot from the bytes alone; ranges are judged by parse_extension.
    """
    size = len(image.data)
    in_offset, out = image.words[IN_WORD], image.words[OUT_WORD]
    if in_offset % 8 or out % 8 or max(in_offset, out) >= size:
        return [], True
    turned = image.data[out:] + image.data[:out]
    waiting = turned[: (in_offset - out) % size]
    payloads = []
    while waiting:
        if len(waiting) < 24:
            return payloads, True
        kind, data8, length8, flags, _ = struct.unpack_from("<HHHHQ", waiting)
        start, length = 8 * data8, 8 * length8
        least = {6: 16, 11: 16, 7: 24, 9: 24}.get(kind, size)
        if not least <= start <= length <= len(waiting) - 8 or flags > 1:
            return payloads, True
        try:
            parse_extension(PACKET_DESCRIPTOR.unpack(waiting), waiting[16:start])
        except PeerError:
            return payloads, True
        payloads.append(waiting[start:length])
        waiting = waiting[length + 8 :]
    return payloads, False


@known_bug("B26", "B28")
@settings(REPEATABLE, max_examples=250)
@given(image=hostile_images)
def test_any_bytes_give_the_packets_that_a_plainer_reader_finds_and_a_fault_where_it_does(image):
    payloads, end = read_to_the_end(IncomingRing(image.flat()), by_receive)
    assert (payloads, end != "empty") == walk_by_slots(image)


@known_bug("B27")
@settings(REPEATABLE, max_examples=100)
@given(
    index=some.integers(0, 2**32 - 1), word=some.sampled_from((IN_WORD, OUT_WORD)), pages=some.integers(1, 2)
)
def test_an_index_out_of_range_is_an_error_and_never_an_empty_ring(index, word, pages):
    memory = FlatRingMem(pages * PAGE_SIZE)
    memory.control[word] = index
    _, end = read_to_the_end(IncomingRing(memory), by_receive)
    if is_offset(memory.size, index):
        assert end == "empty" if index == 0 else end is not RingFault.INVALID_RING_POINTER
    else:
        assert end is RingFault.INVALID_RING_POINTER


@known_bug("B46")
@every_way
def test_an_in_that_moves_back_behind_what_was_read_ends_like_any_other_bytes(way):
    sender, receiver = connected_rings(start=4000)
    for _ in range(4):
        sender.send(bytes(8))
    incoming = receiver.incoming()
    for _ in range(4):
        receiver.read(incoming)
    receiver.memory.control[IN_WORD] = 4032
    receiver.commit_read(incoming)
    read_to_the_end(receiver, way)


def test_the_rings_drawn_here_meet_every_fault_there_is_and_every_good_end():
    met: Counter[Any] = Counter()

    @settings(REPEATABLE, max_examples=600)
    @given(image=hostile_images)
    def look(image: Image) -> None:
        payloads, end = read_without_commits(IncomingRing(FlatRingMem.over(image.bytes())))
        met[end] += 1
        met["deep"] += len(payloads) > 3
        met["broken behind good packets"] += bool(payloads) and end != "empty"
        met["across the end"] += image.words[IN_WORD] < image.words[OUT_WORD] and bool(payloads)

    look()
    goals = {*READ_FAULTS, "empty", "deep", "broken behind good packets", "across the end"}
    assert {goal for goal in goals if not met[goal]} == set(), met
    # The other members are mistakes of the caller, who gets a CallerError, and of the mask.
    assert set(RingFault) - set(met) == {
        RingFault.INVALID_MESSAGE_LENGTH,
        RingFault.RING_TOO_LARGE,
        RingFault.INVALID_RING_MEMORY,
        RingFault.INTERRUPTS_EXTERNALLY_MASKED,
    }


# -- bytes that change -----------------------------------------------------------------------------


class Meddler:
    """The other side, acting between two accesses: after every `every`-th one it changes something.

    It knows what has just been read, and changes that more often than anything else.
    """

    def __init__(self, memory: RingMem, every: int, seed: int) -> None:
        self.memory = memory
        self.every = every
        self.random = Random(seed)
        self.count = 0

    def __call__(self, access: Access) -> None:
        self.count += 1
        if self.count % self.every == 0:
            self.act(access)

    def act(self, access: Access) -> None:
        random, size = self.random, self.memory.size
        slot = random.choice((slot_like_a_packet, slot_like_a_range))(random).to_bytes(8, "little")
        if access.what == "read" and random.randrange(8):
            start = access.place + 8 * random.randrange(max(1, len(access.value) // 8))
            self.memory.write_at(start % size // 8 * 8, slot)
        elif random.randrange(2):
            self.memory.write_at(8 * random.randrange(size // 8), slot)
        else:
            index = random.choice((8 * random.randrange(size // 8), random.getrandbits(32)))
            self.memory.control[random.choice((0, 0, 1, 2, 3, 3, 16))] = index


def meddled(memory: RingMem, every: int, seed: int) -> RecordingMemory:
    """A watched memory with a meddler; quiet until its `every` is set to more than nothing."""
    return RecordingMemory(memory, after=Meddler(memory, every, seed))


def reads_of(accesses: list[Access], size: int, start: int, length: int) -> Iterator[bytes]:
    """What each read that covers the `length` bytes at `start` saw there."""
    for access in accesses:
        if access.what == "read":
            into = (start - access.place) % size
            if into + length <= len(access.value):
                yield access.value[into : into + length]


def ends_by_one_look(
    packet: Packet, start: int, known_in: int, accesses: list[Access], size: int
) -> set[int]:
    """Where `packet` ends, by each single look at its descriptor that explains all the packet says.

    Nothing for a packet put together from two looks: a field of one and a field of the other, a
    length that was checked and another that was used, ranges counted once and taken apart later.
    """
    ends = set()
    available = used_bytes(size, known_in, start)
    for look in reads_of(accesses, size, start, DESCRIPTOR_SIZE):
        descriptor = PACKET_DESCRIPTOR.unpack(look)
        data_offset, length = 8 * descriptor.data_offset8, 8 * descriptor.length8
        said = (descriptor.type, descriptor.flags, descriptor.transaction_id)
        if (
            said == (packet.type, packet.flags, packet.transaction_id)
            and descriptor_fault(descriptor, available) is None
            and packet.payload in reads_of(accesses, size, start + data_offset, length - data_offset)
            and ranges_by_one_look(packet, start, descriptor, accesses, size)
        ):
            ends.add(advance(size, start, length + FOOTER_SIZE))
    return ends


def ranges_by_one_look(
    packet: Packet, start: int, descriptor: PacketDescriptor, accesses: list[Access], size: int
) -> bool:
    """Whether one look at the bytes between descriptor and payload gives the packet's ranges."""
    said = (packet.ranges, packet.transfer_page_set_id)
    if said == ((), None):
        return True
    length = 8 * descriptor.data_offset8 - DESCRIPTOR_SIZE
    for look in reads_of(accesses, size, start + DESCRIPTOR_SIZE, length):
        try:
            if parse_extension(descriptor, look) == said:
                return True
        except PeerError:
            pass
    return False


def take_by_receive(receiver: IncomingRing) -> list[Packet]:
    return [receiver.receive()[0]]


def take_by_receive_many(receiver: IncomingRing) -> list[Packet]:
    packets, _ = receiver.receive_many()
    if not packets:
        raise RingEmpty
    return packets


def take_by_steps(receiver: IncomingRing) -> list[Packet]:
    """read, copy the payload, commit_read, as a Packet."""
    incoming = receiver.incoming()
    packet = receiver.read(incoming)
    payload = packet.payload.reader(receiver).read_all()
    receiver.commit_read(incoming)
    descriptor = packet.descriptor
    assert packet.transaction_id in (None, descriptor.transaction_id)
    return [
        Packet(
            packet.type,
            descriptor.transaction_id,
            payload,
            packet.ranges,
            descriptor.flags,
            packet.transfer_page_set_id,
        )
    ]


TAKES = (take_by_receive, take_by_receive_many, take_by_steps)


@known_bug("B46", "B52")
@pytest.mark.parametrize("take", TAKES)
@settings(REPEATABLE, max_examples=150)
@given(image=hostile_images, every=some.integers(1, 6), seed=some.integers(0, 2**32 - 1))
def test_a_ring_that_changes_while_it_is_read_gives_packets_that_one_look_explains(take, image, every, seed):
    size = len(image.data)
    memory = meddled(image.flat(), every, seed)
    receiver = IncomingRing(memory)
    out = known_in = next(access.value for access in memory.take() if str(access) == "load out")
    for _ in range(60):
        try:
            packets = take(receiver)
        except NotReady:
            packets = []
        except PeerError:
            break
        accesses = memory.take()
        committed = [place for place, access in enumerate(accesses) if str(access) == "store out"]
        assert len(committed) == bool(packets)
        before = accesses[: committed[0]] if committed else accesses
        known_in = ([known_in] + [access.value for access in before if str(access) == "load in"])[-1]
        if committed:
            starts = {out}
            for packet in packets:
                starts = {
                    end for at in starts for end in ends_by_one_look(packet, at, known_in, before, size)
                }
            out = accesses[committed[0]].value
            assert out in starts
            event("took packets from a ring that changes")


@known_bug("B52")
@settings(REPEATABLE, max_examples=150)
@given(image=hostile_images, every=some.integers(1, 6), seed=some.integers(0, 2**32 - 1))
def test_a_ring_that_changes_while_it_is_read_into_a_buffer_never_overruns_it(image, every, seed):
    receiver = IncomingRing(meddled(image.flat(), every, seed))
    buffer = bytearray(receiver.size)
    for _ in range(60):
        try:
            length, signal = receiver.receive_into(buffer)
        except NotReady:
            continue
        except PeerError:
            return
        assert 0 <= length <= receiver.size - 24 and len(buffer) == receiver.size
        assert signal in (True, False)


def looks_at(memory: RecordingMemory, start: int, length: int) -> int:
    """How many reads touched any of the bytes; forgets them."""
    touched = {(start + at) % memory.size for at in range(length)}
    return sum(
        not touched.isdisjoint((access.place + at) % memory.size for at in range(len(access.value)))
        for access in memory.take()
        if access.what == "read"
    )


@known_bug("B52")
@pytest.mark.parametrize("start", [0, 4072, 4080, 4088])
@pytest.mark.parametrize("take", [by_receive, by_receive_into, by_read_and_commit])
@pytest.mark.parametrize(
    "packet",
    [
        OutgoingPacket.in_band(16),
        OutgoingPacket.gpa_direct([PagedRange(0, 8192, [1, 2])], 16),
        OutgoingPacket.transfer_pages(1, [TransferPageRange(8, 8)], 16),
    ],
    ids=["in-band", "GPA-direct", "transfer pages"],
)
def test_descriptor_ranges_and_payload_are_each_read_once(start, take, packet):
    for at, length in ((0, 16), (16, len(packet.extension)), (16 + len(packet.extension), 16)):
        memory = RecordingMemory(FlatRingMem(4096))
        sender, receiver = connected_rings(memory=memory, start=start)
        send_packet(sender, pattern(16), packet)
        memory.take()
        assert take(receiver) == [pattern(16)]
        assert looks_at(memory, start + at, length) == (1 if length else 0)


@known_bug("B52")
def test_a_batch_of_plain_packets_is_read_once():
    memory = RecordingMemory(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory, start=4040)
    sender.send_many([pattern(16)] * 50)
    memory.take()
    assert len(receiver.receive_many()[0]) == 50
    assert looks_at(memory, 0, 4096) == 1


# -- senders ---------------------------------------------------------------------------------------


SEND_ACTIONS = ("send", "send_many", "write", "write twice", "can_write", "set_pending_send_size")


def act_on(sender: OutgoingRing, action: str, length: int) -> int:
    """Do it; how many bytes it published."""
    if action == "send":
        sender.send(bytes(length))
        return PacketSize.in_band(length)
    if action == "send_many":
        count, _ = sender.send_many([bytes(length)] * 3)
        return count * PacketSize.in_band(length)
    if action == "set_pending_send_size":
        sender.set_pending_send_size(min(length, sender.size - 8))
        return 0
    outgoing = sender.outgoing()
    packet = OutgoingPacket.in_band(length)
    if action == "can_write":
        sender.can_write(outgoing, PacketSize.in_band(length))
        return 0
    published = 0
    try:
        for _ in range(1 + (action == "write twice")):
            sender.write(outgoing, packet).writer(sender).write(bytes(length))
            published += PacketSize.in_band(length)
    finally:
        # What was written goes out even when the next write met a bad index.
        sender.commit_write(outgoing)
    return published


def lengths_to_send() -> some.SearchStrategy[int]:
    return some.one_of(some.integers(0, 100), some.integers(900, 2100), some.sampled_from((4056, 4064, 4065)))


@known_bug("B26", "B27")
@settings(REPEATABLE, max_examples=200)
@given(
    start=some.integers(0, 511).map(lambda slot: 8 * slot),
    steps=some.lists(
        some.tuples(some.sampled_from(SEND_ACTIONS), lengths_to_send(), any_index(4096)),
        min_size=4,
        max_size=20,
    ),
)
def test_a_sender_under_any_out_index_sends_or_is_full_or_raises_peer_error(start, steps):
    memory = FlatRingMem(4096)
    sender, _ = connected_rings(memory=memory, start=start)
    out = start
    for action, length, next_out in steps:
        before, out = out, next_out
        memory.control[OUT_WORD] = out
        try:
            act_on(sender, action, length)
        except RingFull as error:
            assert error.needed > error.free
        except CallerError:
            assert PacketSize.in_band(length) > sender.maximum_packet_size()
        except PeerError as error:
            # Found now, or by the signal check of the call before, which could not say so.
            assert error.kind is RingFault.INVALID_RING_POINTER and error.found in (out, before)
            for again in SEND_ACTIONS:
                with pytest.raises(PeerError) as later:
                    act_on(sender, again, 0)
                assert facts(later.value) == facts(error)
            memory.control[OUT_WORD] = memory.control[IN_WORD]
            sender.reset()
        assert is_offset(4096, memory.control[IN_WORD])


@known_bug("B25", "B26")
@settings(REPEATABLE, max_examples=200)
@given(
    steps=some.lists(
        some.tuples(some.sampled_from(SEND_ACTIONS[:4]), lengths_to_send(), any_index(4096)),
        min_size=4,
        max_size=20,
    )
)
def test_a_sender_never_publishes_more_than_is_free_by_an_out_it_was_shown(steps):
    memory = RecordingMemory(FlatRingMem(4096))
    sender, _ = connected_rings(memory=memory)
    shown = {0}
    for action, length, out in steps:
        memory.inside.control[OUT_WORD] = out
        before = memory.inside.control[IN_WORD]
        try:
            act_on(sender, action, length)
        except (NotReady, CallerError):
            pass
        except PeerError:
            break
        shown |= {access.value for access in memory.take() if str(access) == "load out"}
        published = used_bytes(4096, memory.inside.control[IN_WORD], before)
        packet = PacketSize.in_band(length)
        assert published % packet == 0
        for start in range(before, before + published, packet):
            free = [free_bytes(4096, start % 4096, seen) for seen in shown if is_offset(4096, seen)]
            assert packet <= max(free)


@known_bug("B52")
@settings(REPEATABLE, max_examples=200)
@given(
    every=some.integers(1, 6),
    seed=some.integers(0, 2**32 - 1),
    steps=some.lists(
        some.tuples(some.sampled_from(SEND_ACTIONS), lengths_to_send()), min_size=4, max_size=20
    ),
)
def test_a_sender_over_a_ring_that_changes_keeps_its_own_index(every, seed, steps):
    memory = meddled(FlatRingMem(4096), 10**9, seed)
    sender, _ = connected_rings(memory=memory)
    memory.after.every = every
    position = 0
    for action, length in steps:
        memory.take()
        try:
            act_on(sender, action, length)
        except PeerError:
            return
        except (RingFull, CallerError):
            pass
        for access in memory.take():
            if str(access) == "store in":
                written = (access.value - position) % 4096
                assert written % PacketSize.in_band(length) == 0 and written > 0
                position = access.value


# -- nothing is lost -------------------------------------------------------------------------------

#: Values that no packet may have in that field, whatever its type.
NEVER_RIGHT = (
    *((TYPE, 0), (TYPE, 5), (TYPE, 8), (TYPE, 0xFFFF)),
    *((DATA_OFFSET8, 0), (DATA_OFFSET8, 1), (DATA_OFFSET8, 0xFFFF)),
    *((LENGTH8, 0), (LENGTH8, 1), (LENGTH8, 0xFFFF), (FLAGS, 2), (FLAGS, 0x8001)),
)


@every_way
@settings(REPEATABLE, max_examples=80)
@given(
    image=valid_images(),
    broken=some.integers(0, 5),
    damage=some.sampled_from(NEVER_RIGHT),
    index=some.sampled_from((1, 4, 8191, 8192, 2**31, 2**32 - 8, 2**32 - 1)),
)
def test_good_packets_before_a_broken_one_are_given_and_the_others_wait_for_its_repair(
    way, image, broken, damage, index
):
    broken %= len(image.payloads)
    (at, letter), value = damage
    memory = image.with_field(broken, at, letter, value).flat()
    receiver = IncomingRing(memory)
    taken, end = read_to_the_end(receiver, way)
    assert taken == image.payloads[:broken]
    assert isinstance(end, RingFault)
    assert memory.control[OUT_WORD] == image.starts[broken]

    memory.write_at(0, image.data)
    memory.control[IN_WORD] = index
    receiver.reset()
    assert read_to_the_end(receiver, way) == ([], RingFault.INVALID_RING_POINTER)

    memory.control[IN_WORD] = image.words[IN_WORD]
    receiver.reset()
    assert read_to_the_end(receiver, way) == (image.payloads[broken:], "empty")


@known_bug("B27")
@pytest.mark.parametrize("index", [1, 4092, 4096, 4104, 2**31, 2**32 - 8])
def test_commit_read_answers_false_where_in_is_bad_and_the_next_call_raises(index):
    sender, receiver = connected_rings()
    sender.send(b"first")
    sender.send(b"second")
    sender.set_pending_send_size(4088)
    incoming = receiver.incoming()
    receiver.read(incoming)
    receiver.memory.control[IN_WORD] = index
    assert receiver.commit_read(incoming) is False
    assert receiver.memory.control[OUT_WORD] == 32
    for call in (receiver.incoming, receiver.receive, lambda: receiver.can_read(incoming)):
        with pytest.raises(PeerError, match=f"in is {index:#06x}"):
            call()
    receiver.memory.control[IN_WORD] = 64
    receiver.reset()
    assert receiver.receive()[0].payload == padded(b"second")


@pytest.mark.parametrize("call", [by_receive, by_receive_into, by_receive_many])
def test_a_packet_received_at_the_moment_in_goes_bad_is_given_and_the_next_call_raises(call):
    memory = RecordingMemory(FlatRingMem(4096))
    sender, receiver = connected_rings(memory=memory)
    sender.send(b"the first")
    sender.set_pending_send_size(4088)
    sender.send(b"the other")

    def break_in(access: Access) -> None:
        if str(access) == "store out":
            memory.inside.control[IN_WORD] = 3

    memory.after = break_in
    assert call(receiver)[0] == padded(b"the first")
    with pytest.raises(PeerError, match="in is 0x0003"):
        call(receiver)


@known_bug("B27")
@pytest.mark.parametrize("index", [1, 4092, 4096, 4104, 2**31, 2**32 - 8])
def test_commit_write_answers_false_where_out_is_bad_and_the_next_call_raises(index):
    sender, receiver = connected_rings()
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(8)).writer(sender).write(b"12345678")
    sender.memory.control[OUT_WORD] = index
    assert sender.commit_write(outgoing) is False
    for call in (
        sender.outgoing,
        lambda: sender.send(b""),
        lambda: sender.can_write(outgoing, 24),
        lambda: sender.set_pending_send_size(24),
    ):
        with pytest.raises(PeerError, match=f"out is {index:#06x}"):
            call()
    sender.memory.control[OUT_WORD] = 0
    sender.reset()
    sender.send(b"next")
    assert [packet.payload for packet in receiver.receive_many()[0]] == [b"12345678", padded(b"next")]


def test_packets_written_before_a_bad_out_was_met_are_published_by_the_commit():
    sender, receiver = connected_rings()
    outgoing = sender.outgoing()
    sender.write(outgoing, OutgoingPacket.in_band(2000)).writer(sender).write(bytes(2000))
    sender.memory.control[OUT_WORD] = 7
    with pytest.raises(PeerError, match="out is 0x0007"):
        sender.write(outgoing, OutgoingPacket.in_band(2100))
    assert sender.commit_write(outgoing) is False
    assert receiver.receive()[0].payload == bytes(2000)


def test_packets_read_before_a_broken_one_can_still_be_committed_and_the_error_stays_the_first():
    sender, receiver = connected_rings()
    for _ in range(3):
        sender.send(bytes(8))
    sender.set_pending_send_size(4088)
    sender.memory.write_at(32 + 6, b"\x02")
    incoming = receiver.incoming()
    receiver.read(incoming)
    with pytest.raises(PeerError) as first:
        receiver.read(incoming)
    sender.memory.control[IN_WORD] = 5
    assert receiver.commit_read(incoming) is False
    assert sender.memory.control[OUT_WORD] == 32
    for call in (
        receiver.incoming,
        receiver.receive,
        receiver.receive_many,
        receiver.verify_interrupts_unmasked,
        lambda: receiver.receive_into(bytearray(8)),
        lambda: receiver.read(incoming),
        lambda: receiver.can_read(incoming),
        lambda: receiver.set_interrupt_mask(False),
    ):
        with pytest.raises(PeerError) as again:
            call()
        assert facts(again.value) == facts(first.value)


def test_send_many_publishes_what_it_wrote_or_nothing():
    sender, receiver = connected_rings()
    sender.memory.control[OUT_WORD] = 9
    with pytest.raises(PeerError, match="out is 0x0009"):
        sender.send_many([bytes(8)] * 3)
    assert sender.memory.control[IN_WORD] == 0
    with pytest.raises(CallerError):
        connected_rings()[0].send_many([bytes(8), bytes(5000)])
    assert receiver.receive_many() == ([], False)


def test_a_mask_set_by_somebody_else_stops_the_receiver_until_it_is_reset():
    _, receiver = connected_rings()
    receiver.verify_interrupts_unmasked()
    receiver.memory.control[INTERRUPT_MASK_WORD] = 0x8000_0001
    with pytest.raises(PeerError, match="mask is 0x80000001") as error:
        receiver.verify_interrupts_unmasked()
    assert error.value.kind is RingFault.INTERRUPTS_EXTERNALLY_MASKED
    receiver.memory.control[INTERRUPT_MASK_WORD] = 0
    with pytest.raises(PeerError):
        receiver.receive()
    receiver.reset()
    receiver.verify_interrupts_unmasked()
