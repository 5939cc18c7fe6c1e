"""Captures written and read: pcapng and pcap against bytes spelled by hand, and any bytes at all."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmbus.errors import CallerError, DumpError
from vmbus.inspection import PcapngWriter, PcapWriter, RawDump, is_capture, read_capture

VSOCK = 271
NANOSECONDS = 1_000_000_000


def block(kind: int, body: bytes, order: str = "<", length: int | None = None) -> bytes:
    total = 12 + len(body) if length is None else length
    return struct.pack(order + "II", kind, total) + body + struct.pack(order + "I", total)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


END_OF_OPTIONS = bytes(4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int = VSOCK, *options: bytes, snap_length: int = 0, order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + b"".join(options), order)


def enhanced(
    data: bytes,
    *options: bytes,
    number: int = 0,
    units: int = 0,
    original: int | None = None,
    order: str = "<",
) -> bytes:
    numbers = (
        number,
        units >> 32,
        units & 0xFFFFFFFF,
        len(data),
        len(data) if original is None else original,
    )
    return block(
        6, struct.pack(order + "5I", *numbers) + data + bytes(-len(data) % 4) + b"".join(options), order
    )


def pcap_header(magic: int = 0xA1B2C3D4, link_type: int = VSOCK, order: str = "<") -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)


def written(kind: type, *packets: tuple[bytes, int], **settings: object) -> bytes:
    stream = io.BytesIO()
    writer = kind(stream, VSOCK, **settings)
    for data, timestamp in packets:
        writer.write(data, timestamp=timestamp)
    return stream.getvalue()


def read(data: bytes) -> list[tuple[bytes, int | None]]:
    return [(bytes(packet.data), packet.timestamp) for packet in read_capture(io.BytesIO(data))]


# -- what is written --------------------------------------------------------------------------------


def test_a_pcapng_file_is_a_section_an_interface_and_packets_to_the_byte():
    stream = io.BytesIO()
    writer = PcapngWriter(
        stream, VSOCK, snap_length=96, name="vsockmon0", description="tx", comment="by hand", application="x"
    )
    time = 1_700_000_000_123_456_789
    writer.write(b"hello", timestamp=time, comment="greeting")
    writer.write(b"", timestamp=2**64 - 1)
    assert stream.getvalue() == (
        block(
            0x0A0D0D0A,
            struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
            + option(1, b"by hand")
            + option(4, b"x")
            + END_OF_OPTIONS,
        )
        + block(
            1,
            struct.pack("<HHI", VSOCK, 0, 96)
            + option(2, b"vsockmon0")
            + option(3, b"tx")
            + option(9, b"\x09")
            + END_OF_OPTIONS,
        )
        + enhanced(b"hello", option(1, b"greeting"), END_OF_OPTIONS, units=time)
        + enhanced(b"", units=2**64 - 1)
    )


@pytest.mark.parametrize(("nanoseconds", "magic", "units"), [(True, 0xA1B23C4D, 999), (False, 0xA1B2C3D4, 0)])
def test_a_pcap_file_is_a_header_and_records_to_the_byte(nanoseconds, magic, units):
    data = written(PcapWriter, (b"hello", 7 * NANOSECONDS + 999), (b"", 0), nanoseconds=nanoseconds)
    assert data == (
        pcap_header(magic) + struct.pack("<4I", 7, units, 5, 5) + b"hello" + struct.pack("<4I", 0, 0, 0, 0)
    )


@pytest.mark.parametrize("kind", [PcapngWriter, PcapWriter])
def test_no_more_than_the_snap_length_is_stored_and_the_whole_length_is_told(kind):
    stream = io.BytesIO()
    writer = kind(stream, VSOCK, snap_length=4)
    writer.write(b"hello")
    writer.write(b"five")
    writer.write(b"abc", original_length=1000)
    found = [(bytes(one.data), one.original_length) for one in read_capture(io.BytesIO(stream.getvalue()))]
    assert found == [(b"hell", 5), (b"five", 4), (b"abc", 1000)]


def test_a_snap_length_of_0_stores_all():
    assert read(written(PcapngWriter, (bytes(300_000), 1), snap_length=0)) == [(bytes(300_000), 1)]


REFUSED = {
    "link type of 17 bits": (lambda stream: PcapngWriter(stream, 1 << 16), "link_type"),
    "negative snap length": (lambda stream: PcapngWriter(stream, VSOCK, snap_length=-1), "snap_length"),
    "comment of 65536 bytes": (lambda stream: PcapngWriter(stream, VSOCK, comment="x" * 65536), "comment"),
    "time before 1970": (lambda stream: PcapngWriter(stream, VSOCK).write(b"", timestamp=-1), "timestamp"),
    "time of 65 bits": (
        lambda stream: PcapngWriter(stream, VSOCK).write(b"", timestamp=1 << 64),
        "timestamp",
    ),
    "pcap: time before 1970": (
        lambda stream: PcapWriter(stream, VSOCK).write(b"", timestamp=-1),
        "timestamp",
    ),
    "pcap: time of 33 bits": (
        lambda stream: PcapWriter(stream, VSOCK).write(b"", timestamp=NANOSECONDS << 32),
        "timestamp",
    ),
    "time in seconds": (lambda stream: PcapngWriter(stream, VSOCK).write(b"", timestamp=1.7e9), "timestamp"),
    "pcap: time in seconds": (
        lambda stream: PcapWriter(stream, VSOCK).write(b"", timestamp=1.7e9),
        "timestamp",
    ),
    "link type that is no whole number": (lambda stream: PcapngWriter(stream, 271.0), "link_type"),
    "snap length that is text": (lambda stream: PcapWriter(stream, VSOCK, snap_length="96"), "snap_length"),
    "half a byte": (
        lambda stream: PcapWriter(stream, VSOCK).write(b"", original_length=0.5),
        "original_length",
    ),
    "more captured than there was": (
        lambda stream: PcapWriter(stream, VSOCK).write(b"abc", original_length=2),
        "original_length",
    ),
}


@pytest.mark.parametrize(("call", "argument"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_a_field_is_refused(call, argument):
    with pytest.raises(CallerError) as raised:
        call(io.BytesIO())
    assert raised.value.argument == argument


@pytest.mark.parametrize("kind", [PcapngWriter, PcapWriter])
def test_whoever_gives_seconds_is_told_of_nanoseconds(kind):
    with pytest.raises(CallerError) as raised:
        kind(io.BytesIO(), VSOCK).write(b"", timestamp=1732216690.5)
    assert str(raised.value) == (
        "timestamp is a whole number of nanoseconds: time.time_ns() gives one, not 1732216690.5"
    )


packets = st.lists(st.tuples(st.binary(max_size=70), st.integers(0, (NANOSECONDS << 32) - 1)), max_size=5)


@given(packets, st.booleans())
def test_what_was_written_is_read(packets, nanoseconds):
    assert read(written(PcapngWriter, *packets)) == packets
    units = 1 if nanoseconds else 1000
    expected = [(data, timestamp // units * units) for data, timestamp in packets]
    assert read(written(PcapWriter, *packets, nanoseconds=nanoseconds)) == expected


# -- what is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "units"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_is_read_in_either_byte_order_and_unit(order, magic, units):
    data = pcap_header(magic, VSOCK | 0x04000000, order) + struct.pack(order + "4I", 3, 5, 2, 9) + b"ab"
    (packet,) = read_capture(io.BytesIO(data))
    assert packet[:6] == (24, VSOCK, 3 * NANOSECONDS + 5 * units, 9, b"ab", None)


RESOLUTIONS = {
    "none": ((), 1_234_567, 1_234_567_000),
    "nanoseconds": ((option(9, b"\x09"),), 1_234_567, 1_234_567),
    "seconds": ((option(9, b"\x00"),), 3, 3 * NANOSECONDS),
    "2**-10": ((option(9, b"\x8a"),), 1536, 1_500_000_000),
    "10**-12": ((option(9, b"\x0c"),), 1999, 1),
    "with an offset": ((option(9, b"\x09"), option(14, struct.pack("<q", -2))), 5, 5 - 2 * NANOSECONDS),
    "not one byte": ((option(9, b"\x09\x09"),), 1, 1000),
    "behind the end of options": ((END_OF_OPTIONS, option(9, b"\x09")), 1, 1000),
}


@pytest.mark.parametrize(("options", "units", "expected"), RESOLUTIONS.values(), ids=RESOLUTIONS)
def test_an_interface_says_what_its_times_mean(options, units, expected):
    assert read(section() + interface(VSOCK, *options) + enhanced(b"x", units=units)) == [(b"x", expected)]


def test_every_section_has_its_own_byte_order_and_interfaces():
    data = section(">") + interface(1, order=">") + interface(VSOCK, order=">")
    data += enhanced(b"one", number=1, order=">") + section() + interface(147) + enhanced(b"two")
    found = [(one.link_type, bytes(one.data)) for one in read_capture(io.BytesIO(data))]
    assert found == [(VSOCK, b"one"), (147, b"two")]


def test_older_and_simple_packet_blocks_are_read_and_others_passed_over():
    data = section() + interface(snap_length=3) + block(5, bytes(8)) + block(0xBAD, b"")
    data += block(2, struct.pack("<HHIIII", 0, 7, 1, 2, 3, 9) + b"old\0")
    data += block(3, struct.pack("<I", 5) + b"sim\0")
    old, simple = read_capture(io.BytesIO(data))
    assert old[1:6] == (VSOCK, ((1 << 32) + 2) * 1000, 9, b"old", None)
    assert simple[1:6] == (VSOCK, None, 5, b"sim", None)


def test_a_comment_of_a_packet_is_read_whatever_its_bytes():
    data = section() + interface() + enhanced(b"abcde", option(2, b"\0\0\0\1"), option(1, b"caf\xc3\xa9\xff"))
    (packet,) = read_capture(io.BytesIO(data))
    assert packet.comment == "café\ufffd"


@pytest.mark.parametrize("source", ["path", "name", "stream", "dump"])
def test_a_capture_is_read_from_a_file_a_stream_or_a_dump(source, tmp_path):
    data = written(PcapngWriter, (b"hello", 1))
    file = tmp_path / "x.pcapng"
    file.write_bytes(data)
    given_as = {
        "path": file,
        "name": str(file),
        "stream": io.BytesIO(data),
        "dump": RawDump("x", memoryview(data)),
    }[source]
    assert [bytes(packet.data) for packet in read_capture(given_as)] == [b"hello"]


GOOD = section() + interface()
BROKEN = {
    "nothing known": b"\x7fELF" + bytes(60),
    "two bytes": b"\xd4\xc3",
    "pcap header cut": pcap_header()[:23],
    "pcap record cut": pcap_header() + bytes(15),
    "pcap packet cut": pcap_header() + struct.pack("<4I", 0, 0, 2, 2) + b"x",
    "section cut": section()[:20],
    "section without byte order": block(0x0A0D0D0A, bytes(16)),
    "block cut": GOOD + bytes(7),
    "block longer than the file": GOOD + struct.pack("<II", 6, 0xFFFFFFFC),
    "block of 8 bytes": GOOD + struct.pack("<III", 6, 8, 8),
    "block of 13 bytes": GOOD + block(9, b"x"),
    "block with two lengths": GOOD + block(9, bytes(8))[:-4] + struct.pack("<I", 24),
    "interface too short": section() + block(1, bytes(4)),
    "option cut": section() + interface(VSOCK, struct.pack("<HH", 9, 1)),
    "option without room": section() + interface(VSOCK, b"\x09\0"),
    "packet of no interface": section() + enhanced(b"x"),
    "packet of another interface": GOOD + enhanced(b"x", number=1),
    "packet longer than its block": GOOD + block(6, struct.pack("<5I", 0, 0, 0, 5, 5) + b"four"),
    "packet block too short": GOOD + block(6, bytes(16)),
    "simple packet of no interface": section() + block(3, bytes(8)),
    "simple packet longer than its block": GOOD + block(3, struct.pack("<I", 5) + b"four"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_the_place(data):
    with pytest.raises(DumpError) as raised:
        read(data)
    assert raised.value.place is not None
    assert 0 <= raised.value.place <= len(data)


def test_the_packets_before_a_broken_place_are_handed_out():
    packets = read_capture(io.BytesIO(written(PcapngWriter, (b"one", 1), (b"two", 2))[:-1]))
    assert bytes(next(packets).data) == b"one"
    with pytest.raises(DumpError):
        next(packets)


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"\x0a\x0d\x0d\x0a", True),
        (b"\xd4\xc3\xb2\xa1", True),
        (b"\xa1\xb2\xc3\xd4", True),
        (b"\x4d\x3c\xb2\xa1", True),
        (b"\xa1\xb2\x3c\x4d", True),
        (b"\0\0\0\0", False),
        (b"\x0a\x0d", False),
    ],
)
def test_a_capture_is_known_by_its_first_bytes(start, answer):
    assert is_capture(RawDump("x", memoryview(start + bytes(40) * answer))) is answer


def whole(data: bytes) -> int:
    """How many packets are read; no more than DumpError may come of it."""
    count = 0
    try:
        for packet in read_capture(io.BytesIO(data)):
            assert len(packet.data) <= len(data)
            count += 1
    except DumpError:
        pass
    return count


blocks = st.one_of(
    st.binary(max_size=24).map(lambda body: block(6, body + bytes(-len(body) % 4))),
    st.tuples(st.integers(0, 7), st.binary(max_size=40)).map(
        lambda one: block(one[0], one[1] + bytes(-len(one[1]) % 4))
    ),
    st.binary(max_size=20).map(enhanced),
    st.just(interface()),
    st.just(section(">")),
    st.binary(max_size=9),
)


@given(
    st.sampled_from([b"", section(), GOOD, pcap_header(), pcap_header(order=">")]),
    st.lists(blocks, max_size=6),
)
@example(GOOD, [enhanced(b"x", number=1)])  # of an interface that nobody described
def test_any_bytes_are_packets_or_a_dump_error(start, parts):
    whole(start + b"".join(parts))


@given(
    st.sampled_from([PcapngWriter, PcapWriter]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
def test_a_capture_with_changed_bytes_is_packets_or_a_dump_error(kind, changes, kept):
    data = bytearray(written(kind, (b"first", 1), (b"second!", 2), (bytes(40), 3)))
    for place, value in changes:
        data[place % len(data)] = value
    # A length that has become smaller leaves bytes that may be packets of their own, each with a header.
    assert whole(bytes(data[:kept])) <= 3 + len(data) // 16
