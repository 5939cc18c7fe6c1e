"""A packet is taken apart to the byte, and a broken one as far as it can be read, with what is wrong.

For every fault that a ring raises over a packet there is one broken by hand here: it is shown with
the fault's name, its place and a sentence with the numbers.  What inspection finds wrong first is
what stops an IncomingRing, on any bytes.
"""

from __future__ import annotations

import struct
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, sampled_from, tuples

from tests.helpers import (
    PACKET_KINDS,
    SAMPLE_NAMES,
    padded,
    pattern,
    sample,
)
from tests.inspection.dumps import (
    COMPLETION,
    GPA_DIRECT,
    HISTORY,
    TRANSFER_PAGES,
    checks,
    gpa_header,
    gpa_range,
    look,
    packet,
    ring_image,
    sample_dump,
    transfer_header,
)
from tests.known_bugs import known_bug
from vmbus.errors import PeerError, RingEmpty
from vmbus.inspection import (
    PacketReport,
    Severity,
    Trust,
    WalkedPacket,
    examine_packet,
    inspect_dump,
    inspect_memory,
    walk,
)
from vmbus.layout import Footer, PacketDescriptor
from vmbus.memory import FlatRingMem
from vmbus.ring import GpaRangeFault, IncomingRing, PagedRange, RingFault, TransferPageRange

# -- whole packets -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_every_packet_of_a_sample_waiting_and_read_is_shown_to_the_byte(name):
    written = sample(name)[1]
    (ring,) = inspect_dump(sample_dump(name), selection=HISTORY).rings
    for consumed, shown in ((False, ring.packets), (True, ring.consumed)):
        listed = [one for one in written["packets"] if one["consumed"] is consumed]
        assert [one.offset for one in shown] == [one["offset"] for one in listed]
        for one, expected in zip(shown, listed, strict=True):
            numbers = ("type", "data_offset8", "length8", "flags", "transaction_id")
            assert list(one.descriptor) == [expected[key] for key in numbers]
            assert one.data_offset == 8 * expected["data_offset8"]
            assert one.length == 8 * expected["length8"]
            assert one.packet_size == 8 * expected["length8"] + 8
            assert one.header.hex() == expected["extra_header"]
            assert one.payload.hex() == expected["payload"]
            assert one.footer == Footer(0, expected["offset"])
            assert one.footer_offset == (one.offset + one.length) % written["data_size"]
            assert (one.footer_agrees, one.broken, one.raw, one.findings) == (True, None, None, ())
            assert (one.trust.value if consumed else one.trust) == ("intact" if consumed else None)
    assert ring.findings == []


@pytest.mark.parametrize("kind", PACKET_KINDS)
@pytest.mark.parametrize("start", [0, 4000, 4056, 4072, 4080, 4088])
@pytest.mark.parametrize("length", [0, 5, 8, 60])
def test_a_packet_of_each_kind_is_taken_apart_from_any_start(kind, start, length):
    one = PACKET_KINDS[kind]
    ring = look(ring_image([one.whole(pattern(length), start)], out=start))
    (shown,) = ring.packets
    assert shown.descriptor[0:1] + shown.descriptor[3:] == (one.type, one.flags, one.transaction_id)
    assert (shown.header, shown.payload) == (one.extension, padded(pattern(length)))
    assert (shown.ranges, shown.transfer_page_set_id) == (one.ranges, one.transfer_page_set_id)
    assert shown.footer == Footer(0, start)
    assert shown.footer_offset == (start + len(one.whole(pattern(length), 0)) - 8) % 4096
    assert (shown.broken, shown.raw, ring.findings) == (None, None, [])


@known_bug("B57")
def test_garbage_in_reserved_fields_is_neither_wrong_nor_lost():
    gpa = gpa_header(gpa_range(200, 4000, 7, 9), reserved=0xDEADBEEF)
    pages = transfer_header(0xCAFE, (1514, 64), reserved=0xBEEF)
    sent = packet(0, kind=GPA_DIRECT, header=gpa)
    sent += packet(len(sent), kind=TRANSFER_PAGES, header=pages)
    ring = look(ring_image([sent]))
    assert [one.header for one in ring.packets] == [gpa, pages]
    assert [one.ranges for one in ring.packets] == [
        (PagedRange(4000, 200, [7, 9]),),
        (TransferPageRange(1514, 64),),
    ]
    assert ring.findings == []


def test_words_behind_the_last_range_are_part_of_the_header_and_not_wrong():
    header = gpa_header(gpa_range(1, 0, 5), bytes(24), count=1)
    ring = look(ring_image([packet(0, b"payload!", kind=GPA_DIRECT, header=header)]))
    (shown,) = ring.packets
    assert (shown.header, shown.payload, shown.ranges) == (header, b"payload!", (PagedRange(0, 1, [5]),))
    assert ring.findings == []


# -- descriptions --------------------------------------------------------------------------------


def describe(payload: bytes, kind: int = 6) -> tuple[str | None, bytes]:
    (shown,) = look(ring_image([packet(0, payload, kind=kind)])).packets
    return shown.description, shown.content


def test_pipe_data_is_recognised_and_its_bytes_shown_without_frame_and_padding():
    assert describe(struct.pack("<II", 1, 5) + b"hello") == ("pipe data, 5 bytes", b"hello")
    assert describe(struct.pack("<II", 1, 0)) == ("pipe end of stream", b"")
    assert describe(struct.pack("<IHH", 2, 5, 3) + b"hello") == (
        "pipe data, 5 bytes of which 3 are read",
        b"hello",
    )


def test_a_payload_that_only_resembles_pipe_data_is_not_described():
    for payload in (
        b"",
        bytes(8),
        struct.pack("<II", 1, 100) + bytes(8),
        struct.pack("<II", 3, 8) + bytes(8),
    ):
        assert describe(payload) == (None, padded(payload))
    assert describe(struct.pack("<II", 1, 8) + bytes(8), COMPLETION)[0] is None


# -- broken packets ------------------------------------------------------------------------------


class Broken(NamedTuple):
    """A packet broken by hand, at 0x0fc0 in a ring of one page, and what must be said of it.

    packet      its bytes
    fault       what a ring raises over it
    sentence    words of the finding
    header      what is shown of it; None when that cannot be told
    payload     the same
    goes_on     whether the packet behind it is still found
    published   bytes up to in, where that is not the packet's end
    """

    packet: bytes
    fault: RingFault | GpaRangeFault
    sentence: str
    header: bytes | None = b""
    payload: bytes | None = b""
    goes_on: bool = True
    published: int | None = None


AT = 0x0FC0


def broken_gpa(header: bytes, fault: GpaRangeFault | RingFault, sentence: str) -> Broken:
    body = packet(AT, b"payload!", kind=GPA_DIRECT, header=header, flags=1)
    return Broken(body, fault, sentence, header, b"payload!")


BROKEN = {
    "one slot": Broken(
        packet(AT), RingFault.INVALID_DATA_AVAILABLE, "has 8 bytes, and 24", None, None, False, 8
    ),
    "two slots": Broken(
        packet(AT), RingFault.INVALID_DATA_AVAILABLE, "has 16 bytes, and 24", None, None, False, 16
    ),
    "no length": Broken(
        packet(AT, length8=0),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "16 bytes from its start and is only 0 bytes long",
        None,
        None,
        goes_on=False,
    ),
    "longer than what is published": Broken(
        packet(AT, length8=0xFFFF),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "is 524288 bytes long with its footer, but the sender has published 48",
        None,
        None,
        goes_on=False,
    ),
    "payload inside the descriptor": Broken(
        packet(AT, b"payload!", data_offset8=1),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "its payload 8 bytes from its start, and 16 is the least",
        None,
        None,
    ),
    "payload behind the end": Broken(
        packet(AT, b"payload!", data_offset8=4),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "its payload 32 bytes from its start and is only 24 bytes long",
        None,
        None,
    ),
    "no room for the GPA-direct header": Broken(
        packet(AT, b"payload!", kind=GPA_DIRECT),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "its payload 16 bytes from its start, and 24 is the least",
        b"",
        b"payload!",
    ),
    "no room for the transfer-page header": Broken(
        packet(AT, b"payload!", kind=TRANSFER_PAGES),
        RingFault.INVALID_DESCRIPTOR_LENGTHS,
        "its payload 16 bytes from its start, and 24 is the least",
        b"",
        b"payload!",
    ),
    "footer behind in": Broken(
        packet(AT, b"payload!"),
        RingFault.FOOTER_NOT_PUBLISHED,
        "is 32 bytes long with its footer, but the sender has published 24",
        None,
        None,
        False,
        24,
    ),
    "unknown flags": Broken(
        packet(AT, b"payload!", flags=0x8005),
        RingFault.INVALID_DESCRIPTOR_FLAGS,
        "has the flags 0x8005, and only 0x1 is known",
        b"",
        b"payload!",
    ),
    "unknown type": Broken(
        packet(AT, b"payload!", kind=99),
        RingFault.INVALID_DESCRIPTOR_TYPE,
        "has the type 99, and rings carry only",
        b"",
        b"payload!",
    ),
    "known type that rings do not carry": Broken(
        packet(AT, b"payload!", kind=8, header=b"gpadl..."),
        RingFault.INVALID_DESCRIPTOR_TYPE,
        "has the type 8",
        b"gpadl...",
        b"payload!",
    ),
    "no GPA ranges": broken_gpa(
        gpa_header(), RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT, "lists 0 ranges"
    ),
    "a GPA range missing": broken_gpa(
        gpa_header(gpa_range(1, 0, 7), count=2), GpaRangeFault.EMPTY_RANGE, "GPA range 1 is missing"
    ),
    "all GPA ranges missing": broken_gpa(
        gpa_header(count=2**32 - 1), GpaRangeFault.EMPTY_RANGE, "GPA range 0 is missing"
    ),
    "a GPA range of no bytes": broken_gpa(
        gpa_header(gpa_range(0, 0, 7)), GpaRangeFault.EMPTY_BYTE_COUNT, "GPA range 0 has 0 bytes"
    ),
    "too few pages": broken_gpa(
        gpa_header(gpa_range(4097, 0, 7)), GpaRangeFault.RANGE_TOO_SMALL, "need 2 pages; 1 are there"
    ),
    "a page offset of a page": broken_gpa(
        gpa_header(gpa_range(1, 4096, 7)), GpaRangeFault.OFFSET_TOO_LARGE, "starts 4096 bytes into"
    ),
    "more than 32 bits of bytes": broken_gpa(
        gpa_header(gpa_range(2**32 - 1, 1, 7)), GpaRangeFault.OVERFLOW, "4294967295 bytes from offset 1"
    ),
    "too many transfer pages": Broken(
        packet(AT, b"payload!", kind=TRANSFER_PAGES, header=transfer_header(1, (1, 2), count=2)),
        RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT,
        "lists 2 transfer page ranges where 1 have room",
        transfer_header(1, (1, 2), count=2),
        b"payload!",
    ),
}

#: The caller's mistakes, what an index shows, and what only a live reader can see.
NOT_A_PACKETS = {
    RingFault.INVALID_MESSAGE_LENGTH,
    RingFault.RING_TOO_LARGE,
    RingFault.INVALID_RING_MEMORY,
    RingFault.INTERRUPTS_EXTERNALLY_MASKED,
    RingFault.INVALID_RING_POINTER,
}


def test_every_fault_of_a_packet_is_among_those_broken_here():
    assert {one.fault for one in BROKEN.values()} | NOT_A_PACKETS == {*RingFault, *GpaRangeFault}


def broken_image(one: Broken) -> bytes:
    """The broken packet, and a good one behind it unless the ring ends before."""
    if one.published is not None:
        return ring_image([one.packet[: one.published]], out=AT)
    following = packet((AT + len(one.packet)) % 4096, transaction_id=77)
    return ring_image([one.packet, following], out=AT)


@known_bug("B53", "B54", "B55", "B58")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_packet_is_shown_as_far_as_it_can_be_read_with_what_is_wrong(name):
    one = BROKEN[name]
    ring = look(broken_image(one))
    shown = ring.packets[0]
    available = one.published or len(one.packet) + 24

    assert (shown.offset, shown.available) == (AT, available)
    assert shown.broken == one.fault.value
    (finding,) = ring.findings
    assert finding[:3] == (one.fault.value, Severity.ERROR, AT)
    assert one.sentence in finding.message
    assert shown.findings == (finding,)

    if one.published == 8:
        assert shown.descriptor is None
    else:
        assert list(shown.descriptor) == list(struct.unpack("<HHHHQ", one.packet[:16]))
    assert (shown.header, shown.payload) == (one.header, one.payload)
    assert shown.ranges == (None if one.header is None else ())
    if one.goes_on:
        assert shown.raw == one.packet
        assert shown.footer == Footer(0, AT)
    else:
        said = 8 * shown.descriptor.length8 + 8 if shown.descriptor else 0
        round_twice = broken_image(one)[4096:] * 2
        assert shown.raw == round_twice[AT : AT + min(available, max(16, said))]
        assert shown.footer is None
    assert [packet.descriptor.transaction_id for packet in ring.packets[1:]] == [77] * one.goes_on


@pytest.mark.parametrize("name", BROKEN)
def test_the_same_packet_stops_a_ring_for_the_same_reason(name):
    one = BROKEN[name]
    memory = FlatRingMem.over(broken_image(one))
    receiver = IncomingRing(memory)
    with pytest.raises(PeerError) as caught:
        receiver.read(receiver.incoming())
    assert (caught.value.kind, caught.value.offset) == (one.fault, AT)
    assert inspect_memory(memory).findings[0].message.removeprefix("the packet ") in str(caught.value)


def test_a_packet_with_two_faults_is_broken_by_the_one_that_a_ring_names():
    ring = look(ring_image([packet(0, kind=GPA_DIRECT, header=gpa_header(), flags=4)]))
    assert checks(ring) == ["descriptor-flags", "gpa-range-count"]
    assert ring.packets[0].broken == "descriptor-flags"


def test_a_footer_that_disagrees_is_shown_and_breaks_nothing():
    ring = look(ring_image([packet(4072, b"payload!", footer=struct.pack("<II", 5, 4064))], out=4072))
    (shown,) = ring.packets
    assert (shown.footer, shown.footer_offset, shown.footer_agrees) == (Footer(5, 4064), 0, False)
    assert (shown.broken, shown.raw, shown.payload) == (None, None, b"payload!")
    assert shown.findings == ()


@pytest.mark.parametrize("length8", [3, 6, 8, 0xFFFF, 0])
def test_a_packet_known_by_its_footer_alone_ends_where_the_footer_does(length8):
    """Whatever its descriptor says; that stays to be seen."""
    header = gpa_header(gpa_range(200, 4000, 7, 9))
    one = packet(4080, b"payload!", kind=GPA_DIRECT, header=header, transaction_id=5, length8=length8)
    memory = FlatRingMem.over(ring_image([one], out=4080))
    descriptor = PacketDescriptor(GPA_DIRECT, 6, length8, 0, 5)
    walked = WalkedPacket(4080, descriptor, len(one), None)
    shown = examine_packet(memory, walked, Trust.FOOTER_ONLY)
    assert (shown.descriptor, shown.length) == (descriptor, 8 * length8)
    assert (shown.packet_size, shown.shown_bytes, shown.raw) == (len(one), len(one), one)
    assert (shown.header, shown.payload) == (header, b"payload!")
    assert shown.ranges == (PagedRange(4000, 200, [7, 9]),)
    assert (shown.footer, shown.footer_offset) == (Footer(0, 4080), (4080 + len(one) - 8) % 4096)
    assert shown.footer_agrees
    (finding,) = shown.findings
    assert (shown.broken, finding[:3]) == ("descriptor-length", ("descriptor-length", Severity.ERROR, 4080))
    assert f"says that it is {8 * length8 + 8} bytes long" in finding.message
    assert f"ends after {len(one)}" in finding.message


def test_a_packet_can_be_examined_by_itself():
    memory = FlatRingMem(4096)
    memory.write_at(0, packet(0, b"payload!", transaction_id=3))
    (walked,) = walk(memory, 0, 32)
    shown = examine_packet(memory, walked)
    assert type(shown) is PacketReport
    assert (shown.payload, shown.shown_bytes, shown.trust) == (b"payload!", 32, None)


# -- beside the reader ---------------------------------------------------------------------------

#: Parts of packets from which packets right and wrong are put together.
EXTENSIONS = [
    b"",
    gpa_header(gpa_range(200, 4000, 7, 9)),
    gpa_header(gpa_range(1, 0, 7), gpa_range(1, 4095, 7)),  # good for transfer pages as well
    gpa_header(gpa_range(200, 4000, 7)),
    gpa_header(gpa_range(1, 0, 7), count=2),
    gpa_header(),
    transfer_header(5, (1, 2)),
    transfer_header(5, (1, 2), count=9),
]
KINDS = sampled_from([6, 6, 6, 7, 9, 11, 12])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    start=integers(0, 511).map(lambda slot: 8 * slot),
    parts=lists(tuples(KINDS, sampled_from(EXTENSIONS)), max_size=4),
    wrong=sampled_from([None, None, "flags", "data_offset8", "length8"]),
    value=sampled_from([0, 1, 3, 4, 5, 9, 0xFFFF]),
    cut=sampled_from([0, 0, 0, 8, 16, 24]),
)
def test_a_ring_without_an_error_is_read_to_its_end_and_one_with_an_error_stops_there(
    start, parts, wrong, value, cut
):
    sent: list[bytes] = []
    for kind, header in parts:
        at = (start + sum(map(len, sent))) % 4096
        is_last = len(sent) == len(parts) - 1
        fields = {wrong: value} if wrong is not None and is_last else {}
        sent.append(packet(at, b"payload!", kind=kind, header=header, **fields))
    whole = b"".join(sent)
    check_agreement(ring_image([whole[: max(len(whole) - cut, 0)]], out=start))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=integers(0, 2**32),
    indices=lists(integers(0, 511).map(lambda slot: 8 * slot), min_size=2, max_size=2),
    values=integers(2, 6),
)
def test_over_any_bytes_inspection_and_ring_agree(seed, indices, values):
    """Bytes from few values only, so that some packets come out right."""
    data = bytes(byte % values for byte in Random(seed).randbytes(4096))
    check_agreement(ring_image([], in_offset=indices[0], out=indices[1])[:4096] + data)


def check_agreement(image: bytes) -> None:
    """What inspection finds, packet by packet, is what a ring reads and where it stops."""
    memory = FlatRingMem.over(image)
    report = inspect_memory(memory)
    receiver = IncomingRing(memory)
    incoming = receiver.incoming()
    for shown in report.packets:
        assert shown.offset == incoming.next_out
        if shown.broken is not None:
            with pytest.raises(PeerError) as caught:
                receiver.read(incoming)
            assert (caught.value.kind.value, caught.value.offset) == (shown.broken, shown.offset)
            assert report.verdict.value == "corrupt"
            return
        found = receiver.read(incoming)
        assert found.descriptor == shown.descriptor
        assert found.payload.reader(receiver).read_all() == shown.payload
        assert found.extension.reader(receiver).read_all() == shown.header
        assert (found.ranges, found.transfer_page_set_id) == (shown.ranges, shown.transfer_page_set_id)
    with pytest.raises(RingEmpty):
        receiver.read(incoming)
    assert all(finding.severity is Severity.NOTE for finding in report.findings)
    assert report.verdict.value != "corrupt"


def test_the_samples_are_read_by_a_ring_as_inspection_shows_them():
    for name in SAMPLE_NAMES:
        check_agreement(sample(name)[0])
