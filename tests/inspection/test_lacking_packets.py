"""A packet of which a memory image lacks bytes: shown without them, left out of what is made, and captured in part."""

from __future__ import annotations

import io
import json

import pytest

from tests.inspection.dumps import GPA_DIRECT, HISTORY, control_page, data_area, packet
from tests.inspection.html_reports import ring_with_a_hole
from vmbus.errors import CallerError
from vmbus.images import BytesSource, Segment, StoredDump
from vmbus.inspection import (
    Report,
    capture_packets,
    craft,
    craft_image,
    frame_to_report,
    inspect_dump,
    packet_to_json,
    parse_ring_frame,
    read_stream,
    report_to_html,
    report_to_lines,
    write_ring_capture,
)
from vmbus.inspection.ring_capture import PacketState, original_length, ring_frame
from vmbus.inspection.ring_picture import draw_ring

#: A short packet, one whose bytes go over into the page that is missing, and one that begins in the last page.
PACKETS = packet(4040, b"first...") + packet(4072, bytes(4000)) + packet(8096, b"behind it")
OUT, IN = 4040, 4040 + len(PACKETS)


def lacking(start: int = 4096, end: int = 8192, *, image: bytes | None = None) -> Report:
    """What is found in an image that has not the data from `start` to `end`."""
    image = control_page(IN, OUT) + data_area(12288, (OUT, PACKETS)) if image is None else image
    kept = [Segment(0, 4096 + start, 0), Segment(4096 + end, len(image) - 4096 - end, 4096 + end)]
    dump = StoredDump(BytesSource("image", memoryview(image)), kept, format="by hand")
    return inspect_dump(dump, address=0, data_size=len(image) - 4096, selection=HISTORY)


def test_its_object_has_null_for_its_bytes_and_no_other_packet_has():
    first, second = lacking(4100, 8000).to_json()["rings"][0]["packets"][:2]
    assert (second["broken"], second["raw"], second["payload"]) == ("missing-memory", None, None)
    assert (second["offset"], second["bytes"], second["type"]) == (4072, 4024, "in-band")
    assert "raw" not in first and first["broken"] is None


@pytest.mark.parametrize("with_hexdump", [False, True])
def test_text_page_and_picture_show_it_without_bytes(with_hexdump):
    report = lacking(4100, 8000)
    lines = list(report_to_lines(report, with_hexdump=with_hexdump))
    (place,) = [number for number, line in enumerate(lines) if "broken: missing-memory" in line]
    assert lines[place + 1].startswith("  0x")  # the next packet, and no row of bytes
    assert "broken: missing-memory" in "".join(report_to_html(report))
    assert {"missing"} <= {block.kind.value for block in draw_ring(report.rings[0]).blocks}


def test_what_is_made_of_it_has_zeros_there_and_counts_it():
    report = lacking(4100, 8000)
    document = json.loads(json.dumps(report.to_json(whole=True)))
    made = craft_image(document)
    assert made.left_out == 1
    image = made.to_bytes()
    expected = bytearray(control_page(IN, OUT) + data_area(12288, (OUT, PACKETS)))
    expected[4096 + 4072 : 4096 + 8096] = bytes(4024)
    assert image == expected
    again = inspect_dump(read_stream(io.BytesIO(image), "again"), address=0, data_size=12288)
    assert again.rings[0].packets[0] == report.rings[0].packets[0]


def test_one_that_is_broken_in_another_way_is_refused_without_its_bytes():
    packets = [{"offset": 0, "broken": "descriptor-length", "raw": None}]
    with pytest.raises(
        CallerError, match=r"packets\[0\]\.broken: is said of a packet whose bytes are not there"
    ):
        craft({"data_size": 4096, "packets": packets})


def captured(report: Report) -> list[dict]:
    """The objects of the packets in a capture of all of them."""
    stream = io.BytesIO()
    write_ring_capture(report, stream)
    stream.seek(0)
    return [one.document() for one in capture_packets(read_stream(stream, "x.pcapng")).packets()]


def test_a_capture_has_what_there_is_of_it_and_says_that_it_is_not_whole():
    first, second, *_ = captured(lacking(4100, 8000))
    assert first["capture"]["captured_length"] == first["capture"]["original_length"]
    assert (second["offset"], second["length"], second["raw"]) == (4072, 4016, PACKETS[32:48].hex())
    assert second["capture"]["captured_length"] == 48 + 16
    assert second["capture"]["original_length"] == 48 + 4024


@pytest.mark.parametrize("missing", [16, 20, 23])
def test_also_one_whose_footer_alone_is_missing_is_not_captured_whole(missing):
    """Of a packet without a payload the descriptor is all but the footer."""
    image = control_page(24, 0) + data_area(4096, (0, packet(0)))
    (one,) = lacking(missing, 24, image=image).rings[0].packets
    assert one.broken == "missing-memory"
    (back,) = captured(lacking(missing, 24, image=image))
    assert (back["capture"]["captured_length"], back["capture"]["original_length"]) == (64, 72)


def test_a_packet_that_is_torn_and_not_there_counts_no_more_than_was_published():
    image = control_page(64, 0) + data_area(4096, (0, packet(0, length8=100)))
    report = lacking(32, 48, image=image)
    (one,) = report.rings[0].packets
    assert one.broken == "missing-memory"
    assert original_length(one) == 48 + 64
    frame = parse_ring_frame(
        ring_frame(one, PacketState.WAITING, report.rings[0].place), original_length(one)
    )
    assert not frame.is_whole
    assert packet_to_json(frame_to_report(frame))["raw"] == image[4096 : 4096 + 16].hex()


def test_a_ring_of_scattered_pages_goes_round_too():
    ring = ring_with_a_hole()
    document = Report("x", "x", 0, [ring]).to_json()
    assert craft_image(json.loads(json.dumps(document))).left_out == 1


def test_gpa_direct_packets_have_no_ranges_then():
    image = control_page(64, 0) + data_area(4096, (0, packet(0, bytes(40), kind=GPA_DIRECT)))
    (shown,) = lacking(16, 24, image=image).to_json()["rings"][0]["packets"]
    assert (shown["raw"], shown["ranges"], shown["type"]) == (None, None, "gpa-direct")
