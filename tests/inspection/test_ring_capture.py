"""Packets of rings in captures: every frame to the byte, and back to what inspect said of the packet.

The header of a frame is spelled here by hand, field by field, and files are read with struct alone; where an
independent reader of captures is installed, it reads them as well.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers import SAMPLE_NAMES, SAMPLES
from tests.inspection.dumps import HISTORY, control_page, data_area, dump_of, packet, ring_image
from tests.inspection.test_craft import ring_images
from vmbus.errors import CallerError, DumpError
from vmbus.inspection import (
    Direction,
    PcapngWriter,
    PcapWriter,
    Report,
    capture_packets,
    frame_to_report,
    inspect_dump,
    open_dump,
    packet_to_json,
    parse_ring_frame,
    read_capture,
    ring_packets,
    sample_path,
    write_ring_capture,
)
from vmbus.inspection.ring_capture import RING_FRAME_HEADER, is_ring_frame

USER0, UPPER_PDU = 147, 252
PIPE = struct.pack("<II", 1, 5) + b"hello"


def header(
    packet_size: int,
    *,
    direction: int = 0,
    state: int = 1,
    trust: int = 0,
    flags: int = 2,
    offset: int = 0,
    address: int = 0,
    data_size: int = 4096,
    available: int | None = None,
    footer: bytes | None = None,
    version: int = 1,
    magic: bytes = b"VMBR",
    size: int = 48,
) -> bytes:
    """The header of a frame, field by field."""
    fields = magic + struct.pack("<HH", version, size) + bytes([direction, state, trust, flags])
    fields += struct.pack(
        "<IQII", offset, address, data_size, packet_size if available is None else available
    )
    footer = struct.pack("<II", 0, offset) if footer is None else footer
    return fields + struct.pack("<II", packet_size, 0) + footer


def captured(report: Report) -> bytes:
    stream = io.BytesIO()
    write_ring_capture(report, stream)
    return stream.getvalue()


def inspected(image: bytes, **options: object) -> Report:
    return inspect_dump(dump_of(image), address=0, selection=HISTORY, **options)  # type: ignore[arg-type]


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """The blocks of a pcapng file, read by hand: type and body."""
    found, place = [], 0
    while place < len(data):
        kind, length = struct.unpack_from("<II", data, place)
        assert length % 4 == 0 and data[place + length - 4 : place + length] == struct.pack("<I", length)
        found.append((kind, data[place + 8 : place + length - 4]))
        place += length
    return found


def options(body: bytes) -> dict[int, bytes]:
    found = {}
    while body:
        code, length = struct.unpack_from("<HH", body)
        if code == 0:
            break
        found[code] = body[4 : 4 + length]
        body = body[4 + (length + 3) // 4 * 4 :]
    return found


# -- to the byte ------------------------------------------------------------------------------------


def test_a_frame_is_its_header_and_the_packet_without_its_footer():
    first, second = packet(4080, PIPE, transaction_id=7), packet(24, b"waiting!", flags=1)
    image = control_page(56, 24) + data_area(4096, (4080, first + second))
    place = 0x5000
    (ring,) = inspect_dump(
        dump_of(bytes(place) + image), address=place, data_size=4096, selection=HISTORY
    ).rings
    ring = ring._replace(place=ring.place._replace(role="outbound", address=0x1122334455667000))
    found = [one.frame for one in ring_packets(Report("x", "raw", 0, [ring])).packets()]
    common = {"address": 0x1122334455667000, "direction": 2}
    assert [bytes(frame) for frame in found] == [
        header(40, state=2, trust=1, offset=4080, **common) + first[:-8],
        header(32, offset=24, **common) + second[:-8],
    ]


def test_the_header_has_48_bytes_and_no_gap():
    assert RING_FRAME_HEADER.size == 48 == len(header(0))


def test_a_ring_is_an_interface_and_its_pipe_is_another_and_flags_tell_the_direction():
    report = inspect_dump(open_dump(sample_path()), selection=HISTORY)
    found = blocks(captured(report))
    interfaces = [
        (struct.unpack_from("<H", body)[0], options(body[8:])[2].decode(), options(body[8:]).get(3))
        for kind, body in found
        if kind == 1
    ]
    assert interfaces[:2] == [
        (USER0, "ring 0x0 outbound", b"VMBus ring, 4096 bytes of data"),
        (USER0, "ring 0x2000 inbound", b"VMBus ring, 4096 bytes of data"),
    ]
    assert {(link, name) for link, name, _ in interfaces[2:]} == {
        (UPPER_PDU, "ring 0x0 outbound pipe payload"),
        (UPPER_PDU, "ring 0x2000 inbound pipe payload"),
    }
    for kind, body in found:
        if kind == 6:
            number, _, _, length, _ = struct.unpack_from("<5I", body)
            (flags,) = struct.unpack("<I", options(body[20 + (length + 3) // 4 * 4 :])[2])
            assert flags == (2 if "outbound" in interfaces[number][1] else 1)


def test_what_goes_through_a_pipe_is_an_exported_pdu_behind_its_packet():
    found = [
        body[20:] for kind, body in blocks(captured(inspected(ring_image([packet(0, PIPE)])))) if kind == 6
    ]
    tags = bytes.fromhex("000c0004 64617461 0021000c 564d4275732070697065 0000 00000000")
    assert found[1][: len(tags) + 5] == tags + b"hello"
    assert len(found) == 2


@pytest.mark.parametrize(
    "payload", [b"no pipe.", struct.pack("<II", 1, 99) + bytes(8), struct.pack("<II", 1, 0)], ids=len
)
def test_other_payloads_have_one_frame_alone(payload):
    kinds = [kind for kind, _ in blocks(captured(inspected(ring_image([packet(0, payload)]))))]
    assert kinds.count(6) == 1


def test_a_ring_without_packets_is_described_all_the_same():
    kinds = [kind for kind, _ in blocks(captured(inspected(control_page() + bytes(4096))))]
    assert kinds == [0x0A0D0D0A, 1]


# -- and back ---------------------------------------------------------------------------------------


def came_back(report: Report, writer: str = "pcapng") -> list[dict]:
    """The objects of a capture of all packets."""
    if writer == "pcapng":
        data = captured(report)
    else:
        stream = io.BytesIO()
        older = PcapWriter(stream, USER0)
        for one in ring_packets(report).packets():
            older.write(one.frame)
        data = stream.getvalue()
    return [one.document() for one in capture_packets(dump_of(data, "x.pcapng")).packets()]


def shown_by_inspect(report: Report) -> list[dict]:
    return [one.document() for one in ring_packets(report).packets()]


@settings(max_examples=200, deadline=None)
@given(ring_images(), st.sampled_from(["pcapng", "pcap"]))
@example(
    (ring_image([packet(0, length8=1), packet(24)]), 4096), "pcapng"
)  # a length of 8, and 48 bytes up to in
def test_a_capture_says_of_every_packet_what_inspect_said(made, writer):
    image, header_size = made
    report = inspected(image, header_size=header_size, data_size=len(image) - header_size)
    found = came_back(report, writer)
    assert [one.pop("capture")["data_size"] for one in found] == [len(image) - header_size] * len(found)
    assert found == shown_by_inspect(report)


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_frames_payloads_and_comments_of_a_sample_come_back(name):
    report = inspect_dump(open_dump(SAMPLES / f"{name}.bin"), selection=HISTORY)
    found = list(capture_packets(dump_of(captured(report))).packets())
    written = list(ring_packets(report).packets())
    for one, other in zip(found, written, strict=True):
        assert one[:2] + one[3:4] + one[5:] == other[:2] + other[3:4] + (other[5], *other[6:])


def test_an_object_says_where_in_the_capture_it_stood():
    report = inspect_dump(open_dump(sample_path()), selection=HISTORY)
    first, *_, last = came_back(report)
    assert {key: first["capture"][key] for key in ("timestamp", "interface", "role", "data_size")} == {
        "timestamp": 0,
        "interface": "ring 0x0 outbound",
        "role": "outbound",
        "data_size": 4096,
    }
    assert (last["ring"], last["capture"]["role"]) == (0x2000, "inbound")


def test_a_packet_that_was_not_captured_whole_shows_what_there_is():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, USER0, snap_length=48 + 20)
    (one,) = ring_packets(inspected(ring_image([packet(0, b"payload!", transaction_id=9)]))).packets()
    writer.write(one.frame)
    (found,) = capture_packets(dump_of(stream.getvalue())).packets()
    shown = found.document()
    assert (shown["transaction_id"], shown["payload"], shown["broken"]) == (9, None, None)
    assert shown["raw"] == packet(0, b"payload!", transaction_id=9)[:20].hex()
    assert found.payload == b"payl"


def test_frames_of_others_with_this_link_type_are_passed_over():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, USER0)
    writer.write(b"some other protocol")
    writer.write(header(24) + packet(0)[:-8])
    writer.write(b"VM")
    assert len(list(capture_packets(dump_of(stream.getvalue())).packets())) == 1


# -- frames that contradict themselves --------------------------------------------------------------

SOUND = packet(8, b"payload!")[:-8]

REFUSED = {
    "other magic": (header(32, magic=b"VMBQ") + SOUND, "begins with b'VMBR'"),
    "cut in the header": (header(32)[:47], "has 48 bytes at least, and this one 47"),
    "later version": (
        header(32, version=2) + SOUND,
        "the version of a frame of a ring is 1 to 1, and here 2",
    ),
    "short header": (header(32, size=40) + SOUND, "the header_size of"),
    "fourth direction": (header(32, direction=3) + SOUND, "the direction of"),
    "no state": (header(32, state=0) + SOUND, "the state of"),
    "trust in a waiting one": (header(32, trust=1) + SOUND, "the trust of a frame is 0 to 0"),
    "no trust in a consumed one": (header(32, state=2) + SOUND, "the trust of a frame is 1 to 4"),
    "unknown flag": (header(32, flags=6) + SOUND, "the flags of"),
    "offset between slots": (header(32, offset=12) + SOUND, "is a multiple of 8, and here 12"),
    "offset behind the ring": (header(32, offset=4096) + SOUND, "the offset of"),
    "data size of no ring": (header(32, data_size=4095) + SOUND, "the data_size of a frame cannot be"),
    "more than the ring": (header(32, available=4104) + SOUND, "the available of"),
    "less available than there is": (header(32, available=24) + SOUND, "the available of"),
    "other size": (header(40) + SOUND, "the frame has 32 bytes of its packet, and its header says 40"),
    "longer than it is": (
        header(32, offset=8, available=400) + struct.pack("<H", 6) + SOUND[2:4] + b"\x08" + SOUND[5:],
        "its packet has 32 bytes in the frame, and says that it has 72",
    ),
    "shorter than it is": (
        header(32, offset=8, available=400) + SOUND[:4] + b"\2" + SOUND[5:],
        "the header of a frame speaks of 32 bytes",
    ),
    "less than a descriptor": (header(8, flags=0, available=16) + bytes(8), "its packet has 8 bytes in the"),
}


@pytest.mark.parametrize(("frame", "message"), REFUSED.values(), ids=REFUSED)
def test_a_frame_that_contradicts_itself_is_refused(frame, message):
    with pytest.raises(DumpError, match=message.replace("(", r"\(")):
        frame_to_report(parse_ring_frame(frame))


def test_in_a_file_the_place_of_such_a_frame_is_told():
    stream = io.BytesIO()
    writer = PcapngWriter(stream, USER0)
    writer.write(header(40) + SOUND)
    with pytest.raises(DumpError, match=r"^x\.pcapng: at 0x[0-9a-f]+, the frame has 32 bytes") as caught:
        list(capture_packets(dump_of(stream.getvalue(), "x.pcapng")).packets())
    assert stream.getvalue()[caught.value.place] == 6


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=4),
    st.integers(0, 90),
    st.binary(max_size=40),
    st.integers(0, 200),
)
def test_any_bytes_are_a_packet_or_refused(changes, end, more, original):
    frame = bytearray(header(40, offset=8, available=80) + packet(8, b"payload!" * 2)[:-8] + more)
    for place, value in changes:
        frame[place] = value
    frame = frame[:end]
    try:
        report = frame_to_report(parse_ring_frame(frame, original))
    except DumpError:
        return
    assert is_ring_frame(frame)
    packet_to_json(report)


# -- what writes several interfaces -----------------------------------------------------------------


def test_a_packet_of_an_interface_that_was_not_described_is_refused():
    writer = PcapngWriter(io.BytesIO(), None)
    with pytest.raises(CallerError, match="of interface 0, and 0 were described"):
        writer.write(b"x")
    assert writer.add_interface(USER0) == 0
    with pytest.raises(CallerError, match="of interface 1, and 1 were described"):
        writer.write(b"x", interface=1)


@pytest.mark.parametrize("direction", [None, *Direction])
def test_interface_and_direction_of_a_packet_are_read_back(direction):
    stream = io.BytesIO()
    writer = PcapngWriter(stream, 1, name="first")
    number = writer.add_interface(USER0, name="second", description="of two")
    writer.write(b"x", interface=number, direction=direction, comment="y")
    (one,) = read_capture(io.BytesIO(stream.getvalue()))
    assert (one.link_type, one.interface, one.description) == (USER0, "second", "of two")
    assert (one.direction, one.comment) == (direction, "y")


def test_a_direction_without_a_meaning_is_none():
    stream = io.BytesIO()
    PcapngWriter(stream, 1).write(b"x", direction=Direction.OUTBOUND)
    data = stream.getvalue()
    assert data.count(struct.pack("<HHI", 2, 4, 2)) == 1
    (one,) = read_capture(
        io.BytesIO(data.replace(struct.pack("<HHI", 2, 4, 2), struct.pack("<HHI", 2, 4, 3)))
    )
    assert one.direction is None


# -- independent readers ----------------------------------------------------------------------------


@pytest.fixture
def capture_file(tmp_path):
    file = tmp_path / "ring.pcapng"
    file.write_bytes(captured(inspect_dump(open_dump(sample_path()), selection=HISTORY)))
    return file


def frames_of(file) -> list[bytes]:
    return [bytes(one.data) for one in read_capture(file)]


def test_dpkt_reads_the_capture(capture_file):
    dpkt = pytest.importorskip("dpkt", reason="dpkt is not installed")
    with open(capture_file, "rb") as stream:
        assert [data for _, data in dpkt.pcapng.Reader(stream)] == frames_of(capture_file)


def test_python_pcapng_reads_the_capture(capture_file):
    pcapng = pytest.importorskip("pcapng", reason="python-pcapng is not installed")
    with open(capture_file, "rb") as stream:
        found = [block for block in pcapng.FileScanner(stream) if hasattr(block, "packet_data")]
    assert [block.packet_data for block in found] == frames_of(capture_file)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_the_capture(capture_file):
    fields = ["frame.interface_name", "frame.len", "frame.packet_flags_direction"]
    call = [
        "tshark",
        "-r",
        str(capture_file),
        "-T",
        "fields",
        *(word for one in fields for word in ("-e", one)),
    ]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True)
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(name, int(length)) for name, length, _ in found] == [
        (one.interface, len(one.data)) for one in read_capture(capture_file)
    ]
