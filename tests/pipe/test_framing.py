"""A pipe packet is its header and its bytes; every other packet is refused by name and stays unread.

The header lies in the ring as spelled by hand here; whatever the other side writes, a pipe returns
bytes or raises NotReady or PeerError, in as many steps as there are packets, and a second reading
of the rules, written out below, says which.
"""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    SearchStrategy,
    binary,
    booleans,
    composite,
    integers,
    lists,
    one_of,
    sampled_from,
)
from hypothesis.strategies import just as exactly

from tests.helpers import PACKET_KINDS, image_of, pattern
from tests.known_bugs import known_bug
from tests.pipe.pipe_packets import (
    DATA,
    PARTIAL,
    Inbox,
    data,
    data_packet,
    header,
    partial_header,
)
from vmbus.errors import NotReady, PeerError, RingEmpty
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.layout import IN_WORD, OUT_WORD, PartialPipeHeader, PipeHeader
from vmbus.memory import FlatRingMem
from vmbus.pipe import PipeFault, connected_message_pipes, pipe_header_of
from vmbus.ring import RingFault, connected_rings

#: What each refused packet is: payload, packet kind, fault, found, allowed, words of the message.
REFUSED_BY_ALL = {
    "a completion": (data(b"x"), "completion", PipeFault.NOT_IN_BAND, 11, 6, "type 11"),
    "a GPA-direct packet": (data(b"x"), "gpa-direct", PipeFault.NOT_IN_BAND, 9, 6, "type 9"),
    "a transfer-page packet": (data(b"x"), "transfer-pages", PipeFault.NOT_IN_BAND, 7, 6, "type 7"),
    "no header": (b"", "in-band", PipeFault.HEADER_MISSING, 0, 8, "0 bytes of payload"),
    "type 0": (header(0, 0), "in-band", PipeFault.UNKNOWN_TYPE, 0, 1, "invalid"),
    "a setup": (header(3, 0), "in-band", PipeFault.SETUP_GPA_DIRECT, 3, 1, "setup gpa direct"),
    "a teardown": (header(4, 0), "in-band", PipeFault.TEARDOWN_GPA_DIRECT, 4, 1, "teardown gpa direct"),
    "an indication": (header(5, 0), "in-band", PipeFault.UNKNOWN_TYPE, 5, 1, "indication complete"),
    "an unknown type": (header(99, 0), "in-band", PipeFault.UNKNOWN_TYPE, 99, 1, "unknown 99"),
    "the largest type": (
        header(2**32 - 1, 0),
        "in-band",
        PipeFault.UNKNOWN_TYPE,
        2**32 - 1,
        1,
        "unknown 4294967295",
    ),
    "one byte too many": (header(DATA, 9) + bytes(8), "in-band", PipeFault.INVALID_LENGTH, 9, 8, "9 bytes"),
    "a length without bytes": (header(DATA, 1), "in-band", PipeFault.INVALID_LENGTH, 1, 0, "1 bytes"),
    "the largest length": (
        header(DATA, 2**32 - 1) + bytes(64),
        "in-band",
        PipeFault.INVALID_LENGTH,
        2**32 - 1,
        64,
        "4294967295 bytes",
    ),
}

REFUSED_BY_STREAMS = {
    "a partial of nothing": (partial_header(0, 0), PipeFault.INVALID_PARTIAL, 0, -1),
    "all of it read": (partial_header(8, 8) + bytes(8), PipeFault.INVALID_PARTIAL, 8, 7),
    "more than all read": (partial_header(8, 65535) + bytes(8), PipeFault.INVALID_PARTIAL, 65535, 7),
    "a partial that is too long": (partial_header(17, 1) + bytes(16), PipeFault.INVALID_LENGTH, 17, 16),
}


@pytest.mark.parametrize("start", [0, 8, 2048, 4072, 4080, 4088])
@pytest.mark.parametrize("content", [b"", b"x", b"eight888", pattern(100)])
def test_a_message_in_the_ring_is_a_descriptor_a_header_its_bytes_and_zeros(start, content):
    memory = FlatRingMem(4096)
    memory.write_at(0, b"\xee" * 4096)
    pipe, _ = connected_message_pipes()
    pipe.outgoing = connected_rings(memory=memory, start=start)[0]

    pipe.write(pipe.outgoing.outgoing(), content)

    expected = data_packet(content, start)
    assert memory.read_at(start, 4096) == expected + b"\xee" * (4096 - len(expected))


@pytest.mark.parametrize(
    ("size", "raw", "limit"),
    [
        (4096, False, 4056),  # the ring's 4096, less 8 kept free, 16 descriptor, 8 header, 8 footer
        (16384, False, 16344),
        (20480, False, 16384),
        (1 << 20, False, 16384),
        (4096, True, 4064),
        (20480, True, 20448),
        (1 << 20, True, 524264),  # 524,288 less descriptor and footer
    ],
)
def test_the_longest_message_is_what_the_ring_or_the_protocol_holds(size, raw, limit):
    assert connected_message_pipes(size, raw=raw)[0].maximum_message_size == limit


@pytest.mark.parametrize("name", REFUSED_BY_ALL)
@pytest.mark.parametrize("reader", ["messages", "stream"])
def test_a_packet_that_is_no_pipe_data_is_refused_by_name_and_stays(name, reader):
    payload, kind, fault, found, allowed, words = REFUSED_BY_ALL[name]
    inbox = Inbox(start=0x0F8)
    inbox.put(payload, PACKET_KINDS[kind].outgoing(len(payload)))
    check_refused(inbox, reader, fault, found, allowed, words)


@pytest.mark.parametrize("name", REFUSED_BY_STREAMS)
def test_a_partial_packet_whose_numbers_cannot_be_is_refused_and_stays(name):
    payload, fault, found, allowed = REFUSED_BY_STREAMS[name]
    inbox = Inbox(start=0x0F8)
    inbox.put(payload)
    check_refused(inbox, "stream", fault, found, allowed, str(found))


@pytest.mark.parametrize("kind", [DATA, PARTIAL])
def test_more_than_16384_bytes_are_refused_although_they_are_there(kind):
    inbox = Inbox(65536, start=0x0F8)
    length = header(kind, 16385) if kind == DATA else partial_header(16385, 1)
    inbox.put(length + bytes(16392))
    check_refused(inbox, "stream", PipeFault.INVALID_LENGTH, 16385, 16384, "16385 bytes")


def test_16384_bytes_are_taken():
    content = pattern(16384)
    inbox = Inbox(65536)
    inbox.put(data(content))
    assert inbox.messages.read(inbox.receiver.incoming()) == content
    assert inbox.stream.read(inbox.receiver.incoming(), 20000) == content


def test_a_message_pipe_refuses_a_packet_of_which_a_part_is_read():
    inbox = Inbox(start=0x0F8)
    inbox.put(partial_header(8, 3) + b"12345678")
    check_refused(inbox, "messages", PipeFault.UNEXPECTED_PARTIAL, PARTIAL, DATA, "partial")


def test_a_raw_pipe_refuses_what_is_not_in_band_and_nothing_else():
    inbox = Inbox(start=0x0F8)
    inbox.put(b"", PACKET_KINDS["completion"].outgoing(0))
    check_refused(inbox, "raw", PipeFault.NOT_IN_BAND, 11, 6, "type 11")
    for payload, kind, *_ in REFUSED_BY_ALL.values():
        if kind == "in-band":
            inbox = Inbox()
            inbox.put(payload)
            assert inbox.raw.read(inbox.receiver.incoming()) == payload


def test_every_fault_is_one_that_these_tests_provoke():
    provoked = {fault for _, _, fault, *_ in REFUSED_BY_ALL.values()}
    provoked |= {fault for _, fault, *_ in REFUSED_BY_STREAMS.values()}
    assert provoked | {PipeFault.UNEXPECTED_PARTIAL} == set(PipeFault)


def check_refused(inbox: Inbox, reader: str, fault: PipeFault, found: int, allowed: int, words: str) -> None:
    """The packet at 0x0f8 is refused, twice the same, and is there unread afterwards."""
    before = image_of(inbox.memory)
    offset = inbox.receiver.incoming()
    messages = set()
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            read_once(inbox, reader, offset)
        error = caught.value
        assert (error.kind, error.offset, error.found, error.allowed) == (fault, 0x0F8, found, allowed)
        assert "0x00f8" in str(error)
        assert words in str(error)
        messages.add(str(error))
        assert offset.next_out == 0x0F8
    assert len(messages) == 1
    assert image_of(inbox.memory) == before
    assert inbox.receiver.read(offset).descriptor.length8 > 0  # the ring itself has nothing against it


def read_once(inbox: Inbox, reader: str, offset: object, limit: int = 1 << 20) -> bytes:
    if reader == "stream":
        return inbox.stream.read(offset, limit)
    return getattr(inbox, reader).read(offset)


# -- packets of any bytes ------------------------------------------------------------------------


@composite
def pipe_payloads(draw) -> bytes:
    """Payloads near what pipes carry: right and nearly right types, lengths and counts."""
    body = draw(binary(max_size=48))
    near = one_of(exactly(len(body)), integers(0, 60), sampled_from([16384, 16385, 65535, 2**32 - 1]))
    kind = draw(one_of(sampled_from([DATA, PARTIAL]), integers(0, 6), integers(0, 2**32 - 1)))
    if kind == PARTIAL and draw(booleans()):
        length = draw(near) & 0xFFFF
        consumed = draw(one_of(integers(0, min(length + 1, 65535)), integers(0, 65535)))
        return partial_header(length, consumed) + body
    return header(kind, draw(near)) + body


any_payload: SearchStrategy[bytes] = one_of(pipe_payloads(), pipe_payloads(), binary(max_size=24))
any_word = integers(0, 2**32 - 1)
any_packet = any_payload.flatmap(
    lambda payload: sampled_from([(payload, "in-band")] * 6 + [(payload, kind) for kind in PACKET_KINDS])
)


def content_of(payload: bytes, kind: str, *, byte_reader: bool) -> tuple[bytes, bytes] | PipeFault:
    """The rules once more: the bytes before and behind what was read already, or the fault."""
    if not kind.startswith("in-band"):
        return PipeFault.NOT_IN_BAND
    payload += bytes(-len(payload) % 8)
    if len(payload) < 8:
        return PipeFault.HEADER_MISSING
    number, length, consumed = int.from_bytes(payload[:4], "little"), 0, 0
    if number == 1:
        length = int.from_bytes(payload[4:8], "little")
    elif number == 2 and byte_reader:
        length = int.from_bytes(payload[4:6], "little")
        consumed = int.from_bytes(payload[6:8], "little")
    else:
        named = {
            2: PipeFault.UNEXPECTED_PARTIAL,
            3: PipeFault.SETUP_GPA_DIRECT,
            4: PipeFault.TEARDOWN_GPA_DIRECT,
        }
        return named.get(number, PipeFault.UNKNOWN_TYPE)
    if length > 16384 or 8 + length > len(payload):
        return PipeFault.INVALID_LENGTH
    if number == 2 and consumed >= length:
        return PipeFault.INVALID_PARTIAL
    return payload[8 : 8 + consumed], payload[8 + consumed : 8 + length]


@settings(max_examples=250, deadline=None, derandomize=True)
@given(packets=lists(any_packet, max_size=5), start=integers(0, 511))
def test_a_message_pipe_gives_each_packets_bytes_or_refuses_it_as_the_rules_say(packets, start):
    inbox = Inbox(start=8 * start)
    for payload, kind in packets:
        inbox.put(payload, PACKET_KINDS[kind].outgoing(len(payload)))
    before = image_of(inbox.memory)
    offset = inbox.receiver.incoming()
    for payload, kind in packets:
        expected = content_of(payload, kind, byte_reader=False)
        if isinstance(expected, PipeFault):
            with pytest.raises(PeerError) as caught:
                inbox.messages.read(offset)
            assert (caught.value.kind, caught.value.offset) == (expected, offset.next_out)
            inbox.receiver.read(offset)  # on to the next: only the pipe refuses it
        else:
            assert inbox.messages.read(offset) == expected[1]
    with pytest.raises(RingEmpty):
        inbox.messages.read(offset)
    assert image_of(inbox.memory) == before


@settings(max_examples=250, deadline=None, derandomize=True)
@given(packets=lists(any_packet, max_size=5), start=integers(0, 511), limit=integers(1, 40))
def test_a_byte_pipe_gives_the_bytes_of_good_packets_and_stops_at_the_first_bad_one(packets, start, limit):
    inbox = Inbox(start=8 * start)
    expected = bytearray()
    fault = None
    for payload, kind in packets:
        inbox.put(payload, PACKET_KINDS[kind].outgoing(len(payload)))
        content = content_of(payload, kind, byte_reader=True)
        fault = fault or (content if isinstance(content, PipeFault) else None)
        if fault is None and content[1]:
            expected += content[1]
    offset = inbox.receiver.incoming()
    control = inbox.control()
    found = bytearray()
    for _ in range(len(expected) + len(packets) + 1):
        try:
            found += inbox.stream.read(offset, limit)
        except PeerError as error:
            assert fault is not None
            assert (error.kind, error.offset) == (fault, offset.next_out)
            break
        except RingEmpty:
            assert fault is None
            break
    else:
        pytest.fail("the stream came to no end")
    assert found == expected
    assert inbox.control() == control


#: Mostly indices that a ring can have, so that most of these rings are read.
indices = one_of(
    integers(0, 511).map(lambda slot: 8 * slot), integers(0, 511).map(lambda slot: 8 * slot), any_word
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=integers(0, 2**32),
    lengths=lists(one_of(integers(2, 12), sampled_from([100, 500, 0xFFFF])), max_size=8),
    in_offset=indices,
    out_offset=indices,
    limit=sampled_from([1, 7, 4096]),
)
@pytest.mark.parametrize("reader", ["messages", "raw", "stream"])
def test_over_any_ring_at_all_a_pipe_returns_or_raises_not_ready_or_peer_error(
    reader, seed, lengths, in_offset, out_offset, limit
):
    inside = FlatRingMem(4096)
    memory = RecordingMemory(inside)
    inbox = Inbox(memory=memory)
    memory.take()
    random = Random(seed)
    inside.write_at(0, random.randbytes(4096))
    at = out_offset % 4096 & ~7
    for length8 in lengths:  # sown in, so that some of it is read
        descriptor = struct.pack("<HHHHQ", 6, 2, length8, 0, 0)
        inside.write_at(at, descriptor + header(random.choice([1, 1, 2, 3]), random.randrange(8 * length8)))
        at = (at + 8 * length8 + 8) % 4096
    inside.control[IN_WORD], inside.control[OUT_WORD] = in_offset, out_offset

    check_bounded_reading(inbox, reader, limit)

    accesses = memory.take()
    assert len(accesses) <= 8 * MOST_READS
    assert not any(access.what == "store" for access in accesses)


#: A byte at a time through a whole ring; the loop below ends long before.
MOST_READS = 4096


def check_bounded_reading(inbox: Inbox, reader: str, limit: int) -> None:
    """Read to the end, or to what is wrong."""
    try:
        inbox.receiver.reset()
        offset = inbox.receiver.incoming()
        for _ in range(MOST_READS):
            assert type(read_once(inbox, reader, offset, limit)) is bytes
        pytest.fail("more was read than the ring has bytes")
    except (NotReady, PeerError):
        pass


@known_bug("B52")
@pytest.mark.parametrize("reader", ["messages", "stream"])
def test_a_header_is_read_once_and_then_used_from_the_copy(reader):
    memory = RecordingMemory(FlatRingMem(4096))
    inbox = Inbox(memory=memory)
    inbox.put(data(b"0123456789abcdef"))

    def grow_after_reading(access):
        if access.what == "read" and access.place <= 16 < access.place + len(access.value):
            memory.inside.write_at(16, header(DATA, 0xFFFF))

    memory.take()
    memory.after = grow_after_reading
    assert read_once(inbox, reader, inbox.receiver.incoming()) == b"0123456789abcdef"
    header_reads = [
        access
        for access in memory.take()
        if access.what == "read" and access.place <= 16 < access.place + len(access.value)
    ]
    assert len(header_reads) == 1


def test_a_broken_ring_under_a_pipe_is_reported_as_the_ring_reports_it():
    for reader in ("messages", "raw", "stream"):
        inbox = Inbox()
        inbox.put(data(b"x"))
        inbox.memory.write_at(4, b"\xff\xff")  # length8
        offset = inbox.receiver.incoming()
        with pytest.raises(PeerError) as caught:
            read_once(inbox, reader, offset)
        assert caught.value.kind is RingFault.INVALID_DESCRIPTOR_LENGTHS
        assert offset.next_out == 0


# -- guessing at a header ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (data(b"hello") + bytes(3), PipeHeader(1, 5)),
        (data(b""), PipeHeader(1, 0)),
        (data(b"eight888"), PipeHeader(1, 8)),
        (partial_header(5, 4) + b"hello" + bytes(3), PartialPipeHeader(2, 5, 4)),
        (data(b"hello"), None),  # a ring would have padded it
        (header(DATA, 9) + bytes(8), None),
        (header(DATA, 8) + bytes(16), None),  # a slot more than its length accounts for
        (partial_header(5, 5) + b"hello" + bytes(3), None),
        (header(3, 8) + bytes(8), None),
        (b"seven77", None),
        (b"", None),
    ],
)
def test_a_payload_is_taken_for_pipe_data_where_its_length_accounts_for_it(payload, expected):
    assert pipe_header_of(payload) == expected
    assert type(pipe_header_of(payload)) is type(expected)
