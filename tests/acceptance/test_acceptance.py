"""The frame of the models: where they agree, where they differ, and that any bytes have an end."""

from __future__ import annotations

import json
import struct
from itertools import count, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.cli.running import control_page, packet, ring_with
from vmbus.acceptance import (
    MODELS,
    Answer,
    Kind,
    Model,
    RingView,
    Signal,
    Step,
    Write,
    WriteAnswer,
    compare,
    models_with,
)
from vmbus.acceptance.model_arithmetic import readable, writable
from vmbus.acceptance.reading import MOST_PACKETS
from vmbus.errors import CallerError
from vmbus.images import MissingMemory
from vmbus.layout import TransferPageRange
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing, OutgoingPacket, OutgoingRing, PagedRange

IN_BAND = 6
SIZE = 4096
NAMES = [model.name for model in MODELS]

#: Those whose rules for waking the sender are the same for correct senders.
ALIKE = [name for name in NAMES if name != "qemu"]


def waiting(*payloads: bytes, **control: int) -> bytearray:
    """The image of a ring in which packets wait."""
    return bytearray(ring_with(*((IN_BAND, payload) for payload in payloads), **control))


def published(image: bytearray, in_offset: int) -> bytearray:
    """The same with another in."""
    struct.pack_into("<I", image, 0, in_offset)
    return image


# -- what differs -------------------------------------------------------------------------------------


def kinds(image: bytes, **options: object) -> list[tuple[str, int | None]]:
    return [(one.kind.value, one.offset) for one in compare(image, **options).differences]


def with_length(length8: int) -> bytearray:
    """Three packets of which the second has a wrong length."""
    image = waiting(bytes(8), bytes(16), bytes(8))
    struct.pack_into("<H", image, SIZE + 32 + 4, length8)
    return image


def test_a_packet_that_one_takes_and_another_does_not_is_a_difference_in_acceptance():
    comparison = compare(published(waiting(bytes(8), bytes(16)), 64))
    (difference,) = comparison.differences
    assert (difference.kind, difference.offset) == (Kind.ACCEPTANCE, 32)
    assert difference.message == (
        "vmbus: error (it raises footer-not-published); "
        "linux and openvmm: takes a packet of 32 bytes (the footer need not be published); "
        "dpdk and freebsd: stalls (it waits for 32 bytes and their footer (EAGAIN)); "
        "uefi: error (a whole packet and its footer must be published); "
        "qemu: stalls (a packet that is not published whole, with its footer, is none yet)"
    )
    assert not comparison.agree


def models_named(*names: str) -> list[Model]:
    return [model for model in MODELS if model.name in names]


@pytest.mark.parametrize(
    ("image", "names", "expected"),
    [
        (waiting(bytes(8)), NAMES, []),
        (published(waiting(bytes(8)), 8), ["linux", "openvmm"], [("ending", 0)]),
        (published(waiting(bytes(8)), 8), ["linux", "dpdk"], []),
        (published(waiting(bytes(8)), 24), ["linux", "openvmm"], []),
        (published(waiting(bytes(8)), 24), ["linux", "uefi"], [("acceptance", 0)]),
        (waiting(features=0), NAMES, []),
        (waiting(bytes(8), features=0), ["linux", "openvmm"], []),
        (waiting(bytes(8), features=0), ["linux", "qemu"], [("signal", None), ("signal", None)]),
    ],
)
def test_only_models_that_part_differ(image, names, expected):
    assert kinds(image, models=models_named(*names)) == expected


def test_a_packet_of_another_length_is_a_difference_in_length_and_in_where_the_next_one_is():
    buffered = models_with(packet_buffer=24)
    image = waiting(bytes(64), bytes(8))
    assert kinds(image) == []
    found = [one for one in compare(image, models=buffered).differences if one.offset == 0]
    assert [one.kind for one in found] == [Kind.LENGTH, Kind.NEXT]
    assert "linux: 8 bytes of payload from byte 16 (a length of 80 becomes the 24 bytes" in found[0].message
    assert "linux: goes on at 0x0020" in found[1].message


def test_what_is_not_verified_makes_no_difference():
    class Guessing(Model):
        name = "guessing"

        def take(self, ring, out):
            return Step(out, Answer.ERROR, "perhaps").inferred()

        def write(self, ring, size):
            return Write(WriteAnswer.ERROR, None, "perhaps", verified=False)

    comparison = compare(waiting(bytes(8)), models=[*MODELS, Guessing()])
    assert comparison.agree
    assert comparison.reading_of("guessing").end.answer is Answer.ERROR


def test_a_model_that_parted_before_does_not_differ_again():
    """UEFI leaves at the second packet; at the third only those are compared that came there."""
    image = waiting(bytes(8), bytes(16), bytes(8))
    struct.pack_into("<H", image, SIZE + 32 + 6, 4)  # an unknown flag
    struct.pack_into("<H", image, SIZE + 72, 99)  # an unknown type
    second, third = compare(image).differences
    assert (second.offset, third.offset) == (32, 72)
    named = [name for group in third.groups for name in group.models]
    assert sorted(named) == sorted(set(NAMES) - {"vmbus", "openvmm"})


# -- the steps ----------------------------------------------------------------------------------------


def test_a_model_past_in_is_followed_into_what_nobody_published():
    """Linux takes what it sees of the zeros behind the second packet, and is where it was."""
    end = compare(published(waiting(bytes(8), bytes(16)), 24)).reading_of("linux").end
    assert (end.answer, end.offset, end.verified) == (Answer.PAST_IN, 32, False)
    assert end.why == "it goes 8 bytes past in: 2 packets that nobody published, and no end of it"


def test_how_a_model_past_in_ends_is_said():
    end = compare(published(waiting(bytes(8), bytes(16)), 24)).reading_of("openvmm").end
    assert end.why == "it goes 8 bytes past in: 1 packet that nobody published, and then error"


class Walking(Model):
    """Takes a packet of 32 bytes wherever it is."""

    name = "walking"
    by = 32

    def take(self, ring, out):
        return Step.takes(out, 24, 16, (out + self.by) % ring.size)

    def signal_after_read(self, ring, before, after):
        return Signal(False, "")

    def write(self, ring, size):
        return Write(WriteAnswer.NO_ROOM, None, "")


class Standing(Walking):
    by = 0


@pytest.mark.parametrize(
    ("model", "end"),
    [
        (Walking(), "64 packets that nobody published, and more"),
        (Standing(), "1 packet that nobody published, and no end of it"),
    ],
)
def test_a_model_that_never_ends_is_left(model, end):
    (reading,) = compare(waiting(bytes(0)), models=[model]).readings
    assert reading.end.why == f"it goes 8 bytes past in: {end}"


def test_a_model_is_followed_for_so_many_packets_and_no_more(monkeypatch):
    monkeypatch.setattr("vmbus.acceptance.reading.MOST_PACKETS", 3)
    comparison = compare(waiting(*[bytes(8)] * 5))
    assert {reading.end.answer for reading in comparison.readings} == {Answer.CUT}
    assert {len(reading.packets) for reading in comparison.readings} == {3}
    assert comparison.agree


class ChangingMemory:
    """Descriptors that are otherwise at each reading."""

    def __init__(self, image: bytes) -> None:
        self.inside = FlatRingMem.over(image)
        self.control = self.inside.control
        self.size = self.inside.size
        self.numbers = count()

    def acquire(self):
        return None

    def read_at(self, offset, length):
        return struct.pack("<HHHHQ", IN_BAND, 2, 3 + next(self.numbers), 0, 0)


def test_all_models_see_the_same_descriptor_where_somebody_changes_it():
    readings = compare(ChangingMemory(bytes(published(waiting(), 2048)))).readings
    assert {reading.packets[0].payload_length for reading in readings} == {8}


def test_a_descriptor_alone_is_kept_and_no_other_bytes():
    view = RingView(ChangingMemory(bytes(published(waiting(), 2048))))
    assert view.descriptor_at(0) == view.descriptor_at(0)
    assert view.read_at(64, 16) != view.read_at(64, 16)


class TornMemory(ChangingMemory):
    """Memory of which an image has the first 32 bytes."""

    def read_at(self, offset, length):
        if offset + length > 32:
            raise MissingMemory(0x5020)
        return self.inside.read_at(offset, length)


def test_where_an_image_lacks_the_bytes_it_is_said_and_makes_no_difference():
    comparison = compare(TornMemory(bytes(waiting(bytes(8), bytes(8)))))
    assert {reading.end.answer for reading in comparison.readings} == {Answer.MISSING}
    assert comparison.readings[0].end.why == "address 0x5020 is not in the image"
    assert comparison.agree


def test_a_free_space_that_no_ring_has_is_counted_as_32_bits_count_it():
    assert writable(4096, 0x8000_0000, 0) == 0x8000_1000
    assert readable(4096, 0, 8192) == 0xFFFF_F000
    write = compare(control_page(64, 0xFFFF_FFF8) + bytes(SIZE)).reading_of("dpdk").write
    assert (write.answer, write.why) == (
        WriteAnswer.WRITES,
        "it counts 4294967224 bytes free and wants more than the packet",
    )


# -- what is refused, and what is taken ---------------------------------------------------------------


@pytest.mark.parametrize("write_size", [-8, 0, 16, 25])
def test_a_packet_to_be_written_has_a_size_that_packets_have(write_size):
    with pytest.raises(CallerError, match=f"a multiple of 8, and not {write_size}"):
        compare(waiting(), write_size=write_size)


def test_only_models_that_there_are_have_a_reading():
    with pytest.raises(CallerError, match="there is vmbus, linux, openvmm, dpdk, freebsd, uefi, qemu"):
        compare(waiting()).reading_of("windows")


@pytest.mark.parametrize(
    ("length", "data_size", "padding"),
    [(0, 4096, 8192), (1, 4096, 8191), (8192, 4096, 0), (8193, 8192, 4095), (12288, 8192, 0)],
)
def test_bytes_that_are_no_whole_pages_are_taken_with_zeros_behind_them(length, data_size, padding):
    comparison = compare(bytes(length))
    assert (comparison.ring.size, comparison.padding) == (data_size, padding)


def test_a_larger_header_moves_the_data():
    image = bytearray(65536 + SIZE)
    image[:64] = control_page(32)[:64]
    image[65536 : 65536 + 32] = packet(0, IN_BAND, bytes(8))
    (step,) = compare(image, header_size=65536).reading_of("linux").packets
    assert step.payload_length == 8


def test_a_memory_is_read_and_nothing_is_stored_in_it():
    image = bytearray(published(waiting(bytes(8)), 4096))
    before = bytes(image)
    compare(FlatRingMem.over(image))
    assert image == before


# -- any ring, any bytes ------------------------------------------------------------------------------

PAYLOADS = st.integers(0, 40).map(lambda slots: bytes(range(200, 200 + 8)) * slots)
PACKETS = st.one_of(
    st.tuples(st.just("in-band"), PAYLOADS),
    st.tuples(st.just("completion"), PAYLOADS),
    st.tuples(st.just("gpa-direct"), PAYLOADS),
    st.tuples(st.just("transfer-pages"), PAYLOADS),
)


def outgoing(kind: str, size: int) -> OutgoingPacket:
    if kind == "gpa-direct":
        return OutgoingPacket.gpa_direct([PagedRange(8, 4096, [7, 8])], size)
    if kind == "transfer-pages":
        return OutgoingPacket.transfer_pages(7, [TransferPageRange(64, 0)], size)
    if kind == "completion":
        return OutgoingPacket.completion(size, transaction_id=7)
    return OutgoingPacket.in_band(size, completion_requested=True)


@settings(max_examples=60, deadline=None)
@given(
    pages=st.integers(1, 3),
    start=st.integers(0, 511),
    packets=st.lists(PACKETS, max_size=12),
    pending=st.one_of(st.integers(0, 2 * SIZE), st.sampled_from([SIZE - 1, 2 * SIZE - 1])),
    mask=st.integers(0, 1),
    fill=st.integers(0, 2),
)
@example(pages=1, start=511, packets=[("in-band", b"x" * 320)] * 12, pending=352, mask=0, fill=0)
@example(pages=1, start=510, packets=[("gpa-direct", b"")], pending=4095, mask=0, fill=0)
@example(pages=1, start=511, packets=[("in-band", b"")] * 2, pending=24, mask=0, fill=2)
def test_all_take_the_same_packets_from_a_ring_that_a_correct_sender_wrote(
    pages, start, packets, pending, mask, fill
):
    """QEMU's host takes no transfer pages, which guests never send; all others take everything."""
    memory = FlatRingMem(pages * SIZE)
    memory.control[0] = memory.control[1] = 8 * start
    sender, receiver = OutgoingRing(memory), IncomingRing(memory)
    receiver.set_interrupt_mask(bool(mask))
    offset = sender.outgoing()
    written = []
    if fill:  # so much that 0 or 8 bytes are free
        packets = [*packets, ("in-band", b"")]
    for number, (kind, payload) in enumerate(packets):
        size = len(payload)
        if fill and number == len(packets) - 1:
            size = memory.size - 8 - (offset.next_in - 8 * start) % memory.size - 24 - 8 * (fill - 1)
        if size < 0:
            break
        packet_to_be = outgoing(kind, size)
        if not sender.can_write(offset, 24 + len(packet_to_be.extension) + size):
            continue
        written.append((kind, offset.next_in, 16 + len(packet_to_be.extension), size))
        sender.write(offset, packet_to_be).writer(sender).write(bytes(size))
    sender.commit_write(offset)
    memory.control[3] = pending
    comparison = compare(memory)
    for reading in comparison.readings:
        taken = [(step.offset, step.payload_offset, step.payload_length) for step in reading.packets]
        expected = [one[1:] for one in written]
        ends = Answer.EMPTY
        if reading.model.name == "qemu":
            foreign = [one[0] == "transfer-pages" for one in written]
            if any(foreign):
                expected, ends = expected[: foreign.index(True)], Answer.STALLS
        assert (reading.model.name, taken, reading.end.answer) == (reading.model.name, expected, ends)
        assert reading.end.verified
    alike = [comparison.reading_of(name) for name in ALIKE]
    for one, other in pairwise(alike):
        assert (one.after_first is None) == (other.after_first is None)
        if one.after_first is not None and other.after_first is not None:
            assert one.after_first.signals == other.after_first.signals, (one, other)
        if one.after_all is not None and other.after_all is not None:
            assert one.after_all.signals == other.after_all.signals, (one, other)
        assert (one.write.answer, one.write.signals) == (other.write.answer, other.write.signals)


WILD = st.one_of(
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 2 * SIZE),
    st.sampled_from([0, 8, 24, SIZE - 8, SIZE, SIZE + 8, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFF]),
)
DESCRIPTOR = st.builds(
    lambda *numbers: struct.pack("<HHHHQ", *numbers),
    st.one_of(st.integers(0, 14), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 12), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 16), st.integers(0, 600), st.integers(0, 0xFFFF)),
    st.integers(0, 3),
    st.integers(0, 5),
)


@settings(max_examples=100, deadline=None)
@given(
    words=st.tuples(WILD, WILD, st.integers(0, 3), WILD, st.integers(0, 3)),
    pieces=st.lists(
        st.tuples(st.integers(0, 2 * SIZE), st.one_of(DESCRIPTOR, st.binary(max_size=64))), max_size=12
    ),
    write_slots=st.integers(3, 1 << 18),
    packet_buffer=st.one_of(st.none(), st.integers(16, 2 * SIZE)),
    length=st.one_of(st.just(3 * SIZE), st.integers(0, 3 * SIZE)),
)
@example(
    words=(4096, 0, 0, 0, 1), pieces=[], write_slots=3, packet_buffer=None, length=2 * SIZE
)  # Linux takes all of it over and over
@example(words=(8, 0xFFFF_FFF8, 0, 0xFFFF_FFFF, 0), pieces=[], write_slots=3, packet_buffer=16, length=SIZE)
def test_any_bytes_have_a_comparison(words, pieces, write_slots, packet_buffer, length):
    image = bytearray(3 * SIZE)
    image[:20] = struct.pack("<4I4x", *words[:4])
    struct.pack_into("<I", image, 64, words[4])
    for at, piece in pieces:
        image[SIZE + at : SIZE + at + len(piece)] = piece
    comparison = compare(
        bytes(image[:length]),
        write_size=8 * write_slots,
        models=models_with(packet_buffer=packet_buffer),
    )
    for reading in comparison.readings:
        assert reading.end.next_offset is None
        assert all(step.next_offset is not None for step in reading.packets)
        assert len(reading.steps) <= MOST_PACKETS + 1
        assert reading.write.signals is None or reading.write.answer is WriteAnswer.WRITES
        whole = reading.end.answer is Answer.EMPTY and bool(reading.packets)
        assert (reading.after_all is not None) == (
            whole and comparison.ring.out_offset < comparison.ring.size
        )
    json.dumps(comparison.to_json())


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=2 * SIZE + 64))
def test_bytes_that_nobody_shaped_have_a_comparison_too(data):
    assert len(compare(data).readings) == len(MODELS)


def test_the_document_of_a_comparison_says_what_the_table_says():
    document = compare(published(waiting(bytes(8), bytes(16)), 64)).to_json()
    assert list(document) == [
        "data_size",
        "padding",
        "control",
        "write_size",
        "agree",
        "models",
        "differences",
    ]
    linux = document["models"][1]
    assert linux["name"] == "linux"
    assert linux["packets"][1] == {
        "offset": 32,
        "answer": "takes",
        "why": "the footer need not be published",
        "verified": True,
        "length": 32,
        "payload_offset": 16,
        "payload_length": 16,
        "next": 72,
    }
    assert linux["end"]["answer"] == "past in"
    assert linux["signal_after_first"]["signals"] is False
    assert linux["signal_after_all"] is None
    assert linux["write"] == {
        "answer": "writes",
        "signals": False,
        "why": "it counts 4032 bytes free and wants more than the packet",
        "verified": True,
    }
    assert document["differences"][0]["kind"] == "acceptance"
    assert document["differences"][0]["groups"][1]["models"] == ["linux", "openvmm"]


def test_a_view_reads_control_words_once():
    image = bytearray(waiting(bytes(8)))
    memory = FlatRingMem.over(image)
    view = RingView(memory)
    memory.control[0] = 4096
    assert (view.in_offset, view.size, view.control[0]) == (32, 4096, 4096)
    with pytest.raises(CallerError, match="only look"):
        view.write_at(0, b"")
