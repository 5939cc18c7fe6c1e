"""`vmbus convert`: rings, virtqueues of sockets and captures, into each form, and what becomes of files.

What was written is read back here with struct alone.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import struct
import sys
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.running import Ending, needs_dev_full, posix_only, ring_with, run, run_process
from tests.helpers import SAMPLE_NAMES, SAMPLES, sample
from tests.virtio.by_hand import Areas, HandDriver
from vmbus.cli import convert_command
from vmbus.cli.main import COMMANDS, main
from vmbus.cli.output_file import write_output
from vmbus.errors import DumpError
from vmbus.images import BytesSource, Segment, StoredDump
from vmbus.inspection import RawDump, State, capture_packets, sample_path
from vmbus.memory import GuestMemory
from vmbus.virtio import VirtioFeatures, connected_virtqueues

SOME_RING = SAMPLES / "ring-4-pages.bin"
IN_BAND = 6
VSOCK, USER0, UPPER_PDU = 271, 147, 252
RING_HEADER = 48
NANOSECONDS = 1_000_000_000

#: Five bytes from guest 3, port 1024 to the host's port 1234, and how a capture begins with them.
FIVE_BYTES = bytes.fromhex(
    "0300000000000000 0200000000000000 00040000 d2040000 05000000 0100 0500 00000000 00000400 00000000"
)
PSEUDO_HEADER = bytes.fromhex("0300000000000000 0200000000000000 00040000 d2040000 0400 0200 2c00 0000")
RECORD = PSEUDO_HEADER + FIVE_BYTES + b"hello"
CLOSED = FIVE_BYTES[:24] + struct.pack("<IHH", 0, 1, 3) + bytes(12)
CLOSED_RECORD = PSEUDO_HEADER[:24] + struct.pack("<HHHH", 2, 2, 44, 0) + CLOSED


class Frame(NamedTuple):
    """A packet of a capture, read by hand."""

    link_type: int
    time: int
    original: int
    data: bytes
    comment: str | None = None


def pcapng_frames(data: bytes) -> list[Frame]:
    """The packets of a file as we write it: one section, nanoseconds; without what went through pipes."""
    place, link_types, frames = 0, [], []
    while place < len(data):
        kind, length = struct.unpack_from("<II", data, place)
        assert data[place + length - 4 : place + length] == struct.pack("<I", length)
        body = data[place + 8 : place + length - 4]
        if kind == 1:
            link_types.append(struct.unpack_from("<H", body)[0])
            assert struct.pack("<HHB", 9, 1, 9) in body
        elif kind == 6:
            number, high, low, captured, original = struct.unpack_from("<5I", body)
            rest = body[20 + (captured + 3) // 4 * 4 :]
            comment = None
            if rest:
                code, size = struct.unpack_from("<HH", rest)
                comment = rest[4 : 4 + size].decode() if code == 1 else None
            time = high << 32 | low
            frames.append(Frame(link_types[number], time, original, body[20 : 20 + captured], comment))
        place += length
    assert VSOCK not in link_types or len(link_types) == 1
    return [frame for frame in frames if frame.link_type != UPPER_PDU]


def pcap_frames(data: bytes) -> list[Frame]:
    magic, _, _, _, _, _, link_type = struct.unpack_from("<IHHiIII", data)
    assert magic == 0xA1B23C4D
    place, frames = 24, []
    while place < len(data):
        seconds, rest, captured, original = struct.unpack_from("<4I", data, place)
        place += 16
        frames.append(
            Frame(link_type, seconds * NANOSECONDS + rest, original, data[place : place + captured])
        )
        place += captured
    return frames


READERS = {"pcapng": pcapng_frames, "pcap": pcap_frames}


def pcap(*packets: tuple[bytes, int], link_type: int = VSOCK) -> bytes:
    """A capture to convert: (data, seconds)."""
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)
    for data, seconds in packets:
        file += struct.pack("<4I", seconds, 7, len(data), len(data)) + data
    return file


def converted_to_pcapng() -> bytes:
    """The two packets of a capture as pcapng: blocks put together by hand."""
    file = bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000")
    file += struct.pack("<IIHHII", 1, 20, VSOCK, 0, 0, 20)
    for data in (RECORD, CLOSED_RECORD):
        padded = data + bytes(-len(data) % 4)
        length = 32 + len(padded)
        file += struct.pack("<7I", 6, length, 0, 0, 5, len(data), len(data)) + padded
        file += struct.pack("<I", length)
    return file


class BytesEnding(NamedTuple):
    """How a run ended that printed bytes."""

    status: int
    out: bytes
    err: str


def run_bytes(*words: object, stdin: bytes = b"") -> BytesEnding:
    """Run one command line in this process, with a standard output that takes bytes."""
    below = io.BytesIO()
    given, out, err = io.TextIOWrapper(io.BytesIO(stdin)), io.TextIOWrapper(below), io.StringIO()
    with (
        mock.patch.object(sys, "stdin", given),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
    ):
        status = main([str(word) for word in words])
    Ending(status, "", err.getvalue()).check()
    assert status != 2 or below.getvalue() == b""
    return BytesEnding(status, below.getvalue(), err.getvalue())


def converted(*words: object, stdin: bytes = b"", status: int = 0) -> bytes:
    ending = run_bytes("convert", *words, stdin=stdin)
    assert ending.status == status, ending.err
    return ending.out


def objects(*words: object, stdin: bytes = b"", status: int = 0) -> list[dict]:
    return [
        json.loads(line)
        for line in converted(*words, "--to", "jsonl", stdin=stdin, status=status).splitlines()
    ]


# -- out of rings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
@pytest.mark.parametrize("options", [[], ["--history"], ["--history", "--limit", 3]], ids=len)
def test_json_lines_of_a_ring_are_those_of_inspect(name, options):
    path = SAMPLES / f"{name}.bin"
    shown = [
        one
        for one in run("inspect", "--jsonl", *options, path).objects
        if one["kind"] in ("packet", "consumed")
    ]
    assert objects(path, *options) == shown
    assert shown


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_raw_is_every_payload_one_behind_the_other(name):
    _, written = sample(name)
    whole = converted(SAMPLES / f"{name}.bin", "--to", "raw", "--history")
    assert whole == bytes.fromhex("".join(one["payload"] for one in written["packets"]))


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_frame_of_a_ring_is_the_packet_in_the_image_without_its_footer(name, form):
    image, written = sample(name)
    data = image[4096:] * 2
    frames = READERS[form](converted(SAMPLES / f"{name}.bin", "--to", form, "--history"))
    expected = [data[one["offset"] : one["offset"] + one["length8"] * 8] for one in written["packets"]]
    assert [frame.data[RING_HEADER:] for frame in frames] == expected
    offsets = [struct.unpack_from("<I", frame.data, 12)[0] for frame in frames]
    assert offsets == [one["offset"] for one in written["packets"]]
    assert {(frame.link_type, frame.time) for frame in frames} == {(USER0, 0)}
    assert all(frame.original == len(frame.data) for frame in frames)


def test_a_frame_of_a_ring_says_where_it_was_and_the_file_what_its_frames_are():
    data = converted("--sample", "--history", "--to", "pcapng")
    assert b"then descriptor, header and payload as they lie in the ring" in data
    comments = [frame.comment for frame in pcapng_frames(data)]
    assert comments[3] == "ring at 0x0, offset 0x0fd0, waiting, gpa-direct, transaction 0x17"
    assert comments[-1] == "ring at 0x2000, offset 0x0fe0, waiting, in-band, transaction 0x0"
    assert "read already" in comments[0]


def test_of_a_broken_ring_all_there_is_is_converted_and_the_status_is_1(tmp_path):
    file = tmp_path / "ring.bin"
    image = bytearray(ring_with((IN_BAND, b"first..."), (31337, b"second.."), (IN_BAND, b"third...")))
    struct.pack_into("<H", image, 4096 + 64 + 4, 400)  # the third says that it is longer than the ring
    file.write_bytes(image)
    first, second, third = pcapng_frames(converted(file, "--to", "pcapng", status=1))
    for frame, start, end in ((first, 4096, 4120), (second, 4128, 4152), (third, 4160, 4192)):
        assert frame.data[RING_HEADER:] == bytes(image[start:end])
    assert "unknown-31337" in second.comment
    assert "broken: descriptor-type" in second.comment
    assert "broken: " in third.comment
    assert converted(file, "--to", "raw", status=1) == b"first...second.."
    assert len(objects(file, status=1)) == 3


def serious_of(found: list[dict]) -> list[dict]:
    return [one for one in found if one["severity"] != "note"]


@pytest.mark.parametrize("form", ["pcapng", "pcap", "jsonl", "raw"])
def test_a_line_says_why_the_status_is_1(form, tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((IN_BAND, b"first..."), (31337, b"second.."), (31338, b"third...")))
    found = serious_of(run("inspect", file, "--json").ring["findings"])
    assert len(found) == 2
    ending = run_bytes("convert", file, "--to", form, "-o", tmp_path / "out")
    assert (ending.status, ending.out) == (1, b"")
    assert ending.err == (
        f"vmbus: {file}: 2 findings are errors or warnings, the first {found[0]['check']}: "
        f"{found[0]['message']} (`vmbus inspect` with the same options shows them)\n"
    )


def test_a_line_says_what_is_wrong_with_a_queue_that_gives_nothing(tmp_path):
    file = tmp_path / "memory.raw"
    image = bytearray(8192)
    struct.pack_into("<H", image, 130, 9)  # an available index further ahead than the queue is large
    file.write_bytes(image)
    words = [file, *TX]
    found = serious_of(run("inspect", *words, "--json").document["queues"][0]["findings"])
    ending = run_bytes("convert", *words, "--to", "raw")
    assert (ending.status, ending.out) == (1, b"")
    assert f"{found[0]['check']}: {found[0]['message']} (`vmbus inspect`" in ending.err
    assert re.search(rf": {len(found)} findings? (is|are) ", ending.err)


def test_a_line_says_which_finding_on_a_captured_packet_made_the_status_1():
    ending = run_bytes("convert", "-", "--to", "jsonl", stdin=pcap((RECORD[:78], 1)))
    assert ending.err == (
        "vmbus: standard input: 1 finding is an error or a warning, the first vsock-length: the packet says "
        "that it has 5 bytes of payload, and 2 are there (the objects show them)\n"
    )


def test_the_options_of_inspect_say_where_a_ring_is(tmp_path):
    file = tmp_path / "memory.raw"
    file.write_bytes(bytes(0x1000) + SOME_RING.read_bytes() + bytes(77))
    where = ["--address", "0x1000", "--data-size", "16K"]
    assert converted(file, *where, "--to", "raw") == converted(SOME_RING, "--to", "raw")
    assert objects(file, *where)[0]["ring"] == 0x1000
    assert run("convert", file, "--address", "0x1001", "--to", "raw").status == 2


def test_a_ring_may_come_from_standard_input():
    assert converted("-", "--to", "raw", stdin=SOME_RING.read_bytes()) == converted(SOME_RING, "--to", "raw")


def test_what_is_neither_ring_nor_capture_cannot_be_converted(tmp_path):
    file = tmp_path / "noise"
    file.write_bytes(b"\x7fNOT" + bytes(8188))
    ending = run("convert", file, "--to", "raw")
    assert ending.status == 2
    assert ending.err.startswith(f"vmbus: {file}: no ring at 0x0")


# -- out of captures --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", READERS)
def test_a_capture_of_rings_shows_what_inspect_shows_and_where_it_stood(form):
    capture = converted("--sample", "--history", "--to", form)
    found = objects("-", stdin=capture)
    assert {one["ring"]: one.pop("capture")["role"] for one in found} == {0: "outbound", 0x2000: "inbound"}
    assert found == objects("--sample", "--history")
    assert converted("-", "--to", "raw", stdin=capture) == converted("--sample", "--history", "--to", "raw")
    assert objects("-", "--limit", 2, stdin=capture) == objects("-", stdin=capture)[:2]


def test_a_capture_of_rings_becomes_the_other_form_and_comes_back():
    first = converted("--sample", "--history", "--to", "pcapng")
    again = converted("-", "--to", "pcapng", stdin=first)
    assert pcapng_frames(again) == pcapng_frames(first)
    assert converted("-", "--to", "pcap", stdin=first) == converted("--sample", "--history", "--to", "pcap")


def test_of_a_broken_packet_in_a_capture_the_finding_makes_the_status_1_as_in_its_ring(tmp_path):
    image = ring_with((IN_BAND, b"first..."), (31337, b"second.."))
    capture = converted("-", "--to", "pcapng", stdin=image, status=1)
    first, second = objects("-", stdin=capture)
    assert (first["broken"], second["broken"]) == (None, "descriptor-type")


def test_a_capture_of_rings_that_is_cut_off_gives_the_packets_before():
    capture = converted("--sample", "--history", "--to", "pcapng")
    ending = run_bytes("convert", "-", "--to", "raw", stdin=capture[:-8])
    assert ending.status == 1
    assert "the packets before are converted" in ending.err
    assert converted("--sample", "--history", "--to", "raw").startswith(ending.out)


def test_a_frame_that_contradicts_itself_is_refused_with_its_place():
    capture = bytearray(converted("--sample", "--to", "pcap"))
    assert capture[40:44] == b"VMBR"
    capture[40 + 9] = 7
    ending = run_bytes("convert", "-", "--to", "raw", stdin=bytes(capture))
    assert (
        ending.err == "vmbus: standard input: at 0x18, the state of a frame of a ring is 1 to 2, and here 7\n"
    )


@pytest.mark.parametrize("form", READERS)
def test_a_capture_becomes_the_other_form_with_its_times_and_lengths(form):
    capture = pcap((RECORD, 1_700_000_000), (CLOSED_RECORD, 2**32 - 1))
    frames = READERS[form](converted("-", "--to", form, stdin=capture))
    assert frames == [
        Frame(VSOCK, 1_700_000_000 * NANOSECONDS + 7000, 81, RECORD),
        Frame(VSOCK, (2**32 - 1) * NANOSECONDS + 7000, 76, CLOSED_RECORD),
    ]


def test_a_capture_comes_back_out_of_the_other_form(tmp_path):
    first, second = tmp_path / "a.pcapng", tmp_path / "b.pcap"
    first.write_bytes(converted("-", "--to", "pcapng", stdin=pcap((RECORD, 1), (CLOSED_RECORD, 2))))
    second.write_bytes(converted(first, "--to", "pcap"))
    assert converted(second, "--to", "pcapng") == first.read_bytes()


def test_json_lines_of_a_capture_show_pseudo_header_and_packet():
    (shown, closed) = objects("-", stdin=pcap((RECORD, 1), (CLOSED_RECORD, 2)))
    expected = {
        "kind": "capture",
        "place": 24,
        "timestamp": NANOSECONDS + 7000,
        "captured_length": 81,
        "original_length": 81,
        "comment": None,
        "src_cid": 3,
        "src_cid_hex": "0x3",
        "dst_cid": 2,
        "dst_cid_hex": "0x2",
        "src_port": 1024,
        "dst_port": 1234,
        "operation": "payload",
        "operation_value": 4,
        "transport": "virtio",
        "transport_value": 2,
        "transport_header": FIVE_BYTES.hex(),
        "payload_length": 5,
        "payload": b"hello".hex(),
        "findings": [],
    }
    assert {key: shown[key] for key in expected} == expected
    assert set(shown) == {*expected, "vsock"}
    assert json.dumps(shown).count(b"hello".hex()) == 1
    assert shown["vsock"]["payload_length"] == 5
    assert (shown["vsock"]["operation"], shown["vsock"]["type"]) == ("rw", "stream")
    assert (closed["operation"], closed["vsock"]["operation"]) == ("disconnect", "rst")


def test_raw_of_a_capture_is_what_was_sent():
    assert (
        converted("-", "--to", "raw", stdin=pcap((RECORD, 1), (CLOSED_RECORD, 2), (RECORD, 3)))
        == b"hellohello"
    )


def test_a_record_of_another_transport_has_no_virtio_header():
    other = PSEUDO_HEADER[:26] + struct.pack("<HHH", 1, 7, 0) + b"opaque!" + b"hello"
    (shown,) = objects("-", stdin=pcap((other, 1)))
    assert (shown["vsock"], shown["transport"], shown["payload"]) == (None, "no-info", b"hello".hex())
    assert converted("-", "--to", "raw", stdin=pcap((other, 1))) == b"hello"


def test_what_was_not_captured_is_no_finding_and_what_is_missing_is_one():
    cut = pcap() + struct.pack("<4I", 1, 0, 78, 81) + RECORD[:78]
    (shown,) = objects("-", stdin=cut)
    assert (shown["findings"], shown["payload"], shown["original_length"]) == ([], b"he".hex(), 81)
    (shown,) = objects("-", stdin=pcap((RECORD[:78], 1)), status=1)
    assert [one["check"] for one in shown["findings"]] == ["vsock-length"]
    frames = pcapng_frames(converted("-", "--to", "pcapng", stdin=cut))
    assert frames == [Frame(VSOCK, NANOSECONDS, 81, RECORD[:78])]


def test_packets_of_other_link_types_are_passed_over(tmp_path):
    file = bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000")
    for link_type in (1, VSOCK):
        file += struct.pack("<IIHHII", 1, 20, link_type, 0, 0, 20)
    for number, data in ((0, bytes(60)), (1, RECORD)):
        padded = data + bytes(-len(data) % 4)
        length = 32 + len(padded)
        file += struct.pack("<7I", 6, length, number, 0, 5, len(data), len(data)) + padded
        file += struct.pack("<I", length)
    assert pcap_frames(converted("-", "--to", "pcap", stdin=file)) == [Frame(VSOCK, 5000, 81, RECORD)]


def test_a_capture_without_packets_becomes_one_without_packets():
    assert converted("-", "--to", "raw", stdin=pcap()) == b""
    assert len(converted("-", "--to", "pcap", stdin=pcap(link_type=1))) == 24


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_the_first_packets_of_a_capture_may_be_asked_for_even_of_one_that_is_cut_off(limit):
    capture = pcap((RECORD, 1), (RECORD, 2)) + bytes(5)
    ending = run_bytes("convert", "-", "--to", "raw", "--limit", limit, stdin=capture)
    assert (ending.status, ending.out) == ((0, b"hello" * limit) if limit <= 2 else (1, b"hellohello"))


WHOLE = {"pcap": pcap((RECORD, 1), (CLOSED_RECORD, 2)), "pcapng": converted_to_pcapng()}
CUT = {
    "pcap, in a record": ("pcap", bytes(3), "at 0xd5, a record needs 16 bytes, and there are 3"),
    "pcap, in a packet": (
        "pcap",
        struct.pack("<4I", 3, 0, 81, 81) + RECORD[:9],
        "at 0xe5, a packet has 81 bytes, and there are 9",
    ),
    "pcapng, in a block": ("pcapng", struct.pack("<II", 6, 128) + bytes(40), "a block has 128 bytes, and"),
}


@pytest.mark.parametrize("form", ["pcapng", "pcap", "jsonl", "raw"])
@pytest.mark.parametrize(("kind", "rest", "message"), CUT.values(), ids=CUT)
def test_of_a_capture_that_is_cut_off_the_packets_before_are_written(kind, rest, message, form, tmp_path):
    expected = converted("-", "--to", form, stdin=WHOLE[kind])
    ending = run_bytes("convert", "-", "--to", form, stdin=WHOLE[kind] + rest)
    assert (ending.status, ending.out) == (1, expected)
    assert message in ending.err
    assert "the packets before are converted" in ending.err
    file = tmp_path / "out"
    again = run_bytes("convert", "-", "--to", form, "-o", file, stdin=WHOLE[kind] + rest)
    assert again == (1, b"", ending.err)
    assert file.read_bytes() == expected


def test_the_library_raises_where_a_capture_is_cut_off_after_the_packets_before():
    packets = capture_packets(RawDump("cut.pcap", memoryview(pcap((RECORD, 1)) + bytes(3)))).packets()
    assert next(packets).payload == b"hello"
    with pytest.raises(DumpError, match="a record needs 16 bytes"):
        next(packets)


REFUSED_CAPTURES = {
    "cut off in its first packet": (
        pcap() + bytes(3),
        "at 0x18, a record needs 16 bytes, and there are 3",
    ),
    "cut off, of another link type": (
        pcap((bytes(60), 1), link_type=1) + bytes(3),
        "at 0x64, a record needs 16 bytes, and there are 3",
    ),
    "of another link type": (
        pcap((bytes(60), 1), link_type=1),
        "has no packets of vsock: their link type is 271, and here is 1",
    ),
    "less than a pseudo header": (
        pcap((RECORD, 1), (RECORD[:31], 2)),
        "at 0x79, a captured packet has 31 bytes, and its pseudo header alone 32",
    ),
    "cut in its header": (pcap()[:20], "at 0x0, the header of a pcap file needs 24 bytes, and there are 20"),
}


@pytest.mark.parametrize("form", ["pcapng", "pcap", "jsonl", "raw"])
@pytest.mark.parametrize(("capture", "message"), REFUSED_CAPTURES.values(), ids=REFUSED_CAPTURES)
def test_a_capture_that_is_not_whole_gives_nothing(capture, message, form):
    ending = run_bytes("convert", "-", "--to", form, stdin=capture)
    assert ending == (2, b"", f"vmbus: standard input: {message}\n")


def test_a_time_that_pcap_has_no_room_for_is_refused_with_the_packet():
    file = bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000")
    file += struct.pack("<IIHHI", 1, 28, VSOCK, 0, 0) + struct.pack("<HHB3xI", 9, 1, 0, 28)  # whole seconds
    file += struct.pack("<7I", 6, 32 + 84, 0, 1, 0, 81, 81) + RECORD + bytes(3) + struct.pack("<I", 32 + 84)
    ending = run_bytes("convert", "-", "--to", "pcap", stdin=file)
    assert ending.status == 2
    assert ending.err.startswith(
        "vmbus: standard input: packet 1 does not fit the other form: timestamp is 0 to"
    )
    (frame,) = pcapng_frames(converted("-", "--to", "pcapng", stdin=file))
    assert frame.time == (1 << 32) * NANOSECONDS


# -- out of virtqueues ------------------------------------------------------------------------------

TX = ["--queue-size", 8, "--descriptor-table", 0, "--vsock", "tx"]


@pytest.fixture(scope="module")
def queue_dump(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A tx queue in which one packet waits in one descriptor, and one with its data in a second."""
    memory = GuestMemory([(0, bytearray(0x10000))])
    driver, _ = connected_virtqueues(8, VirtioFeatures.VERSION_1, memory=memory, request_size=0)
    memory.write(0x8000, FIVE_BYTES + b"hello")
    memory.write(0x9000, FIVE_BYTES)
    memory.write(0xA000, b"world")
    driver.add_request(lambda place, add: add(0x8000, 49))
    driver.add_request(lambda place, add: (add(0x9000, 44), add(0xA000, 5)))
    file = tmp_path_factory.mktemp("queue") / "memory.raw"
    file.write_bytes(memory.read(0, 0x10000))
    areas = driver.areas
    return file, [*TX, "--driver-area", areas.driver_area, "--device-area", areas.device_area]


@pytest.mark.parametrize("form", READERS)
def test_the_packets_of_a_socket_queue_become_captured_vsock_packets(queue_dump, form):
    file, where = queue_dump
    frames = READERS[form](converted(file, *where, "--to", form))
    assert [(frame.link_type, frame.data) for frame in frames] == [
        (VSOCK, RECORD),
        (VSOCK, RECORD[:-5] + b"world"),
    ]
    if form == "pcapng":
        assert frames[1].comment == "tx queue at 0x0, chain 1, waiting"


def test_the_packets_of_a_socket_queue_become_objects_and_payloads(queue_dump):
    file, where = queue_dump
    shown = objects(file, *where)
    inspected = run("inspect", file, *where, "--jsonl").objects
    assert shown == [one for one in inspected if one["kind"] == "chain"]
    assert [(one["kind"], one["queue"], one["head"]) for one in shown] == [("chain", 0, 0), ("chain", 0, 1)]
    assert {one["vsock"]["operation"] for one in shown} == {"rw"}
    assert converted(file, *where, "--to", "raw") == b"helloworld"
    assert converted(file, *where, "--to", "raw", "--limit", 1) == b"hello"


def test_what_a_device_gave_the_driver_is_in_the_history_of_the_rx_queue(tmp_path):
    memory = GuestMemory([(0, bytearray(0x10000))])
    driver, device = connected_virtqueues(8, memory=memory, request_size=0)
    driver.add_request(lambda place, add: add(0x8000, 256, from_dev=True))
    chain = device.pop_descriptor_chain()
    chain.write_all(FIVE_BYTES + b"hello")
    device.add_used(chain.head_index, 49)
    file = tmp_path / "memory.raw"
    file.write_bytes(memory.read(0, 0x10000))
    areas = driver.areas
    where = ["--queue-size", 8, "--descriptor-table", 0, "--vsock", "rx"]
    where += ["--driver-area", areas.driver_area, "--device-area", areas.device_area]
    assert converted(file, *where, "--to", "raw") == b""
    assert converted(file, *where, "--to", "raw", "--history") == b"hello"
    inspected = run("inspect", file, *where, "--history", "--jsonl").objects
    assert objects(file, *where, "--history") == [one for one in inspected if one["kind"] == "used"]
    (frame,) = pcapng_frames(converted(file, *where, "--to", "pcapng", "--history"))
    assert frame.data == RECORD
    assert frame.comment == "rx queue at 0x0, chain 0, used already, perhaps overwritten"


def used_rx_buffer(packed: bool, *, offered_again: bool) -> tuple[bytes, list[object]]:
    """An rx queue in which a packet was used, and the options that say where it is."""
    memory = GuestMemory([(0, bytearray(0x10000))])
    features = VirtioFeatures.VERSION_1 | (VirtioFeatures.RING_PACKED if packed else 0)
    driver, device = connected_virtqueues(8, features, memory=memory, request_size=0)
    driver.add_request(lambda place, add: add(0x8000, 256, from_dev=True))
    chain = device.pop_descriptor_chain()
    chain.write_all(FIVE_BYTES + b"hello")
    device.add_used(chain.head_index, 49)
    if offered_again:
        list(driver.completions())
        driver.add_request(lambda place, add: add(0x8000, 256, from_dev=True))
    areas = driver.areas
    where = ["--queue-size", 8, "--descriptor-table", areas.descriptor_table, "--vsock", "rx"]
    where += ["--driver-area", areas.driver_area, "--device-area", areas.device_area]
    return memory.read(0, 0x10000), [*where, *(["--packed"] if packed else [])]


@pytest.mark.parametrize(
    ("packed", "offered_again", "payload"),
    [(False, False, b"hello"), (False, True, b""), (True, False, b""), (True, True, b"")],
)
def test_history_finds_a_used_packet_as_long_as_the_help_says(packed, offered_again, payload):
    image, where = used_rx_buffer(packed, offered_again=offered_again)
    assert converted("-", *where, "--to", "raw", "--history", stdin=image) == payload
    for command in ("convert", "inspect"):
        said = " ".join(run(command, "--help").out.split())
        assert "until the driver has offered a buffer of " in said
        assert "of a packed queue never" in said or "in a packed queue never" in said


# -- out of images ----------------------------------------------------------------------------------

RAW_IMAGE = ["--to", "raw-image"]


def with_missing_pages(path: str, data: bytes, *missing: int) -> StoredDump:
    """An image of pages, of which some were left out, and the last lies behind the end of the file."""
    segments = [
        Segment(at, 4096, at, State.EXCLUDED, "by hand") if at // 4096 in missing else Segment(at, 4096, at)
        for at in range(0, len(data), 4096)
    ]
    segments.append(Segment(len(data), 4096, len(data)))
    return StoredDump(BytesSource(path, memoryview(data)), segments, format="by hand")


def test_an_image_becomes_raw_with_every_byte_at_its_address(tmp_path):
    image = bytes(8192) + b"memory".ljust(4096, b"!") + bytes(4096)
    (tmp_path / "image").write_bytes(image)
    words = ["convert", tmp_path / "image", *RAW_IMAGE, "-o", tmp_path / "out"]
    assert run(*words) == (0, "", "")
    assert (tmp_path / "out").read_bytes() == image
    assert run(*words, "--start", "0x2000", "--end", "0x2006") == (0, "", "")
    assert (tmp_path / "out").read_bytes() == b"memory"


def test_what_an_image_lacks_is_told_with_its_addresses_and_the_status_is_1(tmp_path, monkeypatch):
    data = b"x" * 32 * 4096
    dump = with_missing_pages("guest.core", data, 1, 2, *range(5, 32, 2))
    monkeypatch.setattr(convert_command, "dump_of", lambda arguments: dump)
    err = io.StringIO()
    with mock.patch.object(sys, "stderr", err):
        status = main(["convert", "guest.core", *RAW_IMAGE, "-o", str(tmp_path / "out")])
    assert status == 1
    lines = err.getvalue().splitlines()
    assert lines[1:3] == [
        "vmbus: guest.core: 0x1000 to 0x2fff excluded: by hand",
        "vmbus: guest.core: 0x5000 to 0x5fff excluded: by hand",
    ]
    assert "image-cut-short" in lines[0]
    assert len(lines) == 1 + 8 + 2
    assert lines[-2:] == [
        "vmbus: guest.core: and 8 more places",
        "vmbus: guest.core: 65536 bytes excluded and 4096 bytes lost, which read as zeros in the raw image",
    ]
    assert len((tmp_path / "out").read_bytes()) == 33 * 4096


def test_a_raw_image_that_cannot_be_made_leaves_no_file(tmp_path, monkeypatch):
    far = StoredDump(BytesSource("far", memoryview(b"x")), [Segment(2**63, 1, 0)], format="by hand")
    monkeypatch.setattr(convert_command, "dump_of", lambda arguments: far)
    ending = run("convert", "far", *RAW_IMAGE, "-o", tmp_path / "out")
    assert ending.status == 2
    assert "a raw image has at most 64 TiB; --start and --end take a part of it" in ending.err
    assert os.listdir(tmp_path) == []
    assert run("convert", "far", *RAW_IMAGE, "-o", tmp_path / "out", "--start", 2**63) == (0, "", "")


def test_ctrl_c_leaves_no_half_raw_image(tmp_path, monkeypatch):
    class Interrupted(StoredDump):
        def pieces(self, *arguments, **options):
            yield from super().pieces(*arguments, **options)
            raise KeyboardInterrupt

    dump = Interrupted(BytesSource("x", memoryview(b"x" * 4096)), [Segment(0, 4096, 0)], format="by hand")
    monkeypatch.setattr(convert_command, "dump_of", lambda arguments: dump)
    assert main(["convert", "x", *RAW_IMAGE, "-o", str(tmp_path / "out")]) == 130
    assert os.listdir(tmp_path) == []


def test_progress_of_a_raw_image_is_shown_on_a_terminal_and_nowhere_else(tmp_path):
    terminal = Terminal()
    with mock.patch.object(sys, "stderr", terminal):
        assert main(["convert", "--sample", *RAW_IMAGE, "-o", str(tmp_path / "out")]) == 0
    assert terminal.getvalue() == f"\r{sample_path()}: 100 % of 0 MiB\x1b[K\r\x1b[K"
    assert run("convert", "--sample", *RAW_IMAGE, "-o", tmp_path / "out").err == ""


# -- how it is asked for ----------------------------------------------------------------------------

USAGE = {
    "no form": ["--sample"],
    "an unknown form": ["--sample", "--to", "xml"],
    "no file": ["--to", "raw"],
    "a file and the sample": ["x", "--sample", "--to", "raw"],
    "two places": ["x", "--offset", 1, "--address", 4096, "--to", "raw"],
    "a number that is none": ["x", "--limit", "many", "--to", "raw"],
    "a queue without --vsock": ["x", "--queue-size", 8, "--descriptor-table", 0, "--to", "raw"],
    "a queue of events": ["x", *TX[:-1], "event", "--to", "raw"],
    "an output without a name": ["--sample", "--to", "raw", "-o", ""],
    "a queue without a table": ["x", "--queue-size", 8, "--vsock", "tx", "--to", "raw"],
    "a queue at an offset": ["x", *TX, "--offset", 8, "--to", "raw"],
    "a raw image on standard output": ["--sample", "--to", "raw-image"],
    "a raw image on a device": ["--sample", "--to", "raw-image", "-o", os.devnull],
    "a raw image of a ring": ["--sample", "--to", "raw-image", "-o", "y", "--address", 0],
    "a raw image of a queue": ["x", *TX, "--to", "raw-image", "-o", "y"],
    "a raw image of packets": ["--sample", "--to", "raw-image", "-o", "y", "--limit", 1],
    "a raw image that ends before it begins": [
        "--sample",
        "--to",
        "raw-image",
        "-o",
        "y",
        "--start",
        8,
        "--end",
        8,
    ],
    "a part of packets": ["--sample", "--to", "raw", "--start", 1],
}


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE)
def test_what_makes_no_sense_is_refused_in_one_line_with_where_to_look(words):
    ending = run("convert", *words)
    assert ending.status == 2
    assert "(try 'vmbus convert --help')" in ending.err


def test_an_output_without_a_name_is_asked_for():
    assert (
        "which file? (- or no -o for standard output)"
        in run("convert", "--sample", "--to", "raw", "-o", "").err
    )


def test_only_queues_that_can_be_converted_are_offered():
    assert "--vsock {rx,tx}" in run("convert", "--help").out
    assert "--vsock {rx,tx,event}" in run("inspect", "--help").out


def test_history_makes_no_sense_for_a_capture():
    assert "--history is for dumps" in run("convert", "-", "--to", "raw", "--history", stdin=pcap()).err


def examples() -> list[str]:
    """The command lines of the help, without the remarks behind them."""
    section = run("convert", "--help").out.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [re.split(r" {2,}", line.strip())[0] for line in section.splitlines()]


@pytest.mark.parametrize("example", [*examples(), COMMANDS["convert"].example])
def test_every_example_of_the_help_runs(example, tmp_path, monkeypatch):
    (tmp_path / "ring.bin").write_bytes(SOME_RING.read_bytes())
    (tmp_path / "vsock.pcapng").write_bytes(converted("-", "--to", "pcapng", stdin=pcap((RECORD, 1))))
    memory = GuestMemory([(0, bytearray(0x80000))])
    driver = HandDriver(memory, Areas(0x7A000, 0x7A800, 0x7B000), size=128)
    memory.write(0x9000, RECORD[32:])
    driver.offer((0x9000, 49, 0))
    (tmp_path / "memory.raw").write_bytes(memory.read(0, 0x80000))
    (tmp_path / "guest.core").write_bytes(SOME_RING.read_bytes())
    monkeypatch.chdir(tmp_path)

    before = set(os.listdir())
    command, _, _ = re.split(r" ([|>]) ", example + " | ")[:3]
    words = shlex.split(command)
    assert words[:2] == ["vmbus", "convert"]
    ending = run_bytes(*words[1:])
    assert ending.status == 0
    written = b"".join(Path(name).read_bytes() for name in set(os.listdir()) - before)
    assert len(ending.out + written) > 80


def test_a_file_that_is_not_there_is_named():
    assert run("convert", "nowhere.bin", "--to", "raw").err == (
        "vmbus: nowhere.bin: cannot be read: No such file or directory\n"
    )


# -- where it goes ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", ["pcapng", "pcap", "raw", "jsonl"])
def test_only_text_is_written_to_a_terminal(form):
    terminal, err = Terminal(), io.StringIO()
    with mock.patch.object(sys, "stdout", terminal), mock.patch.object(sys, "stderr", err):
        status = main(["convert", "--sample", "--to", form])
    if form == "jsonl":
        assert (status, len(terminal.getvalue().splitlines())) == (0, 5)
    else:
        assert (status, terminal.getvalue()) == (2, "")
        assert "-o FILE, or a pipe" in err.getvalue()


@pytest.mark.parametrize("form", ["pcapng", "pcap", "raw", "jsonl"])
def test_a_file_gets_what_standard_output_would(form, tmp_path):
    file = tmp_path / "out"
    ending = run("convert", "--sample", "--to", form, "-o", file)
    assert (ending.status, ending.out) == (0, "")
    assert file.read_bytes() == converted("--sample", "--to", form, "-o", "-")
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    file = tmp_path / "out"
    file.write_bytes(b"what was there before")
    file.chmod(0o640)
    broken = pcap((RECORD, 1), (RECORD[:31], 2))
    assert run("convert", "-", "--to", "pcapng", "--output", file, stdin=broken).status == 2
    assert file.read_bytes() == b"what was there before"
    assert os.listdir(tmp_path) == ["out"]
    assert run("convert", "-", "--to", "raw", "--output", file, stdin=pcap((RECORD, 1))).status == 0
    assert file.read_bytes() == b"hello"
    assert os.listdir(tmp_path) == ["out"]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o640


def refused_as_the_input(ending: Ending, name: object, file: Path) -> bool:
    """Whether a run wrote nothing because its output is its input."""
    message = f"vmbus: {name} is the input itself, and would be overwritten: give -o another name"
    return (
        ending.check().status == 2
        and ending.err.startswith(message)
        and file.read_bytes() == pcap((RECORD, 1))
    )


def test_a_file_is_never_converted_into_itself(tmp_path):
    file = tmp_path / "capture"
    file.write_bytes(pcap((RECORD, 1)))
    assert refused_as_the_input(run("convert", file, "--to", "raw", "-o", file), file, file)
    other = f"{tmp_path}/./capture"
    assert refused_as_the_input(run("convert", file, "--to", "raw", "-o", other), other, file)
    assert os.listdir(tmp_path) == ["capture"]


@posix_only
def test_nor_through_a_link_nor_from_standard_input(tmp_path):
    file, link = tmp_path / "capture", tmp_path / "link"
    file.write_bytes(pcap((RECORD, 1)))
    link.symlink_to("capture")
    assert refused_as_the_input(run("convert", file, "--to", "raw", "-o", link), link, file)
    assert refused_as_the_input(run("convert", link, "--to", "raw", "-o", file), file, file)
    words = ("convert", "-", "--to", "raw", "-o", str(file))
    ending = run_process(*words, redirected=f"<{shlex.quote(str(file))}")
    assert refused_as_the_input(ending, file, file)


#: A `vmbus convert` that is sent a signal while half of its output is written.
INTERRUPTED = """
import signal, sys
from vmbus.cli import convert_command
from vmbus.cli.main import main

def half(found, stream, path):
    stream.write(b"half")
    stream.flush()
    signal.raise_signal(int(sys.argv[1]))

convert_command.FORMS["raw"] = half
# A child inherits what is ignored, as by nohup.
signal.signal(int(sys.argv[1]), signal.SIG_IGN if sys.argv[2] == "ignored" else signal.SIG_DFL)
sys.exit(main(["convert", "--sample", "--to", "raw", "-o", sys.argv[3]]))
"""


@posix_only
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("before", [None, b"before"], ids=["new", "replaced"])
def test_a_signal_that_ends_the_command_leaves_no_half_file(name, before, tmp_path):
    file, number = tmp_path / "out", int(getattr(signal, name))
    if before is not None:
        file.write_bytes(before)
    command = [sys.executable, "-c", INTERRUPTED]
    ending = run_process(str(number), "default", str(file), command=command)
    assert ending == (128 + number, "", "")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == (
        [] if before is None else [("out", before)]
    )


@posix_only
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    file = tmp_path / "out"
    command = [sys.executable, "-c", INTERRUPTED]
    ending = run_process(str(int(signal.SIGHUP)), "ignored", str(file), command=command)
    assert (ending.status, file.read_bytes()) == (0, b"half")


def test_signals_are_handled_as_before_once_the_file_is_written(tmp_path):
    before, meanwhile = signal.getsignal(signal.SIGTERM), []
    assert before == signal.SIG_DFL
    write_output(str(tmp_path / "out"), lambda stream: meanwhile.append(signal.getsignal(signal.SIGTERM)))
    assert callable(meanwhile[0])
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_file_may_be_written_in_a_thread_which_has_no_signals(tmp_path):
    file = tmp_path / "out"
    thread = Thread(target=write_output, args=(str(file), lambda stream: stream.write(b"whole")))
    thread.start()
    thread.join(60)
    assert file.read_bytes() == b"whole"


def test_a_half_file_that_somebody_left_is_no_hindrance(tmp_path):
    file, left = tmp_path / "out", tmp_path / f"out.{os.getpid()}.part"
    left.write_bytes(b"of another process of this number")
    assert run("convert", "--sample", "--to", "raw", "-o", file).status == 0
    assert file.read_bytes() == converted("--sample", "--to", "raw")
    assert left.read_bytes() == b"of another process of this number"
    assert len(os.listdir(tmp_path)) == 2


@posix_only
def test_behind_a_link_the_file_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    assert run("convert", "--sample", "--to", "raw", "-o", tmp_path / "link").status == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == converted("--sample", "--to", "raw")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_written_to(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()  # and waits until somebody opens the pipe to write
    assert run("convert", "--sample", "--to", "raw", "-o", fifo).status == 0
    reader.join(60)
    assert got == [converted("--sample", "--to", "raw")]


def test_a_place_that_takes_no_file_is_named_as_it_was_given(tmp_path):
    directory = run("convert", "--sample", "--to", "raw", "-o", tmp_path)
    assert directory.err == f"vmbus: {tmp_path}: Is a directory\n"
    missing = tmp_path / "missing" / "out"
    assert run("convert", "--sample", "--to", "raw", "-o", missing).err == (
        f"vmbus: {missing}: No such file or directory\n"
    )


@needs_dev_full
def test_a_full_disk_is_told():
    assert run("convert", "--sample", "--to", "raw", "-o", "/dev/full").err == (
        "vmbus: /dev/full: No space left on device\n"
    )


# -- any bytes --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.sampled_from([b"", pcap((RECORD, 1), (CLOSED_RECORD, 2)), ring_with((IN_BAND, b"payload."))]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
    st.binary(max_size=40),
    st.sampled_from(["pcapng", "pcap", "jsonl", "raw"]),
    st.sampled_from(
        [[], ["--offset", 0], ["--limit", 1], ["--queue-size", 4, "--descriptor-table", 0, "--vsock", "tx"]]
    ),
)
def test_any_bytes_are_converted_or_refused_in_one_line(start, changes, end, form, options):
    data = bytearray(start + end)
    for place, value in changes:
        if data:
            data[place % len(data)] = value
    run_bytes("convert", "-", "--to", form, *options, stdin=bytes(data))
