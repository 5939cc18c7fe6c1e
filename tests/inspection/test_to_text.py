"""The text that people read: compared whole with files, and line by line where it has to be exact.

The expected texts are tests/expected_output/inspect-*.txt.  After a wanted change of the text write
them anew, and read each before it is kept:

    python -m tests.inspection.test_to_text
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import SAMPLE_NAMES, pattern
from tests.inspection.dumps import (
    COMPLETION,
    GPA_DIRECT,
    HISTORY,
    TRANSFER_PAGES,
    control_page,
    data_area,
    dump_of,
    gpa_header,
    gpa_range,
    packet,
    ring_image,
    sample_dump,
    transfer_header,
)
from tests.known_bugs import known_bug
from vmbus.inspection import Selection, inspect_dump, open_dump, report_to_lines, sample_path

EXPECTED = Path(__file__).parent.parent / "expected_output"


def text_of(image: bytes, *, with_hexdump: bool = False, **options: object) -> list[str]:
    options.setdefault("selection", HISTORY)
    report = inspect_dump(dump_of(image), **options)  # type: ignore[arg-type]
    return list(report_to_lines(report, with_hexdump=with_hexdump))


# -- whole texts ---------------------------------------------------------------------------------


def sample_text(name: str) -> Iterator[str]:
    return report_to_lines(inspect_dump(sample_dump(name), selection=HISTORY))


def shipped_text(*, with_hexdump: bool = False) -> Iterator[str]:
    report = inspect_dump(open_dump(sample_path()), selection=HISTORY)
    return report_to_lines(report, with_hexdump=with_hexdump)


def broken_ring() -> bytes:
    """One packet wrong in each way that leaves a length, the last one without."""
    read = packet(3872, b"read", transaction_id=5) + packet(3904, bytes(40), length8=0xFFFF) + packet(3968)
    waiting = b""
    for make in (
        lambda at: packet(at, b"payload!", kind=99, flags=4, transaction_id=1),
        lambda at: packet(at, b"payload!", kind=GPA_DIRECT, header=gpa_header(gpa_range(9000, 0, 7))),
        lambda at: packet(at, kind=TRANSFER_PAGES, header=transfer_header(1, count=3), flags=1),
        lambda at: packet(at, b"payload!", data_offset8=9),
        lambda at: packet(at, b"no footer", footer=b"\xee" * 8),
        lambda at: packet(at, bytes(96), transaction_id=2**64 - 1, flags=1),
        lambda at: packet(at, b"rest", length8=0xFFFF),
    ):
        waiting += make((3992 + len(waiting)) % 4096)
    words = control_page(
        (3992 + len(waiting)) % 4096, 3992, mask=9, pending=99999, features=3, others={4: 1, 31: 2}
    )
    return words + data_area(4096, (3872, read), (3992, waiting))


TEXTS: dict[str, Callable[[], Iterator[str]]] = {
    **{f"inspect-{name}": lambda name=name: sample_text(name) for name in SAMPLE_NAMES},
    "inspect-shipped-sample": shipped_text,
    "inspect-shipped-sample-hexdump": lambda: shipped_text(with_hexdump=True),
    "inspect-broken-ring": lambda: iter(text_of(broken_ring(), data_size=4096)),
    "inspect-broken-ring-hexdump": lambda: iter(text_of(broken_ring(), data_size=4096, with_hexdump=True)),
    "inspect-zeros": lambda: iter(text_of(bytes(8192), address=0)),
    "inspect-bad-indices": lambda: iter(text_of(control_page(2**32 - 1, 2**31) + bytes(4096), address=0)),
    "inspect-maybe-a-pair": lambda: iter(text_of(ring_image([packet(0)]) + ring_image([], in_offset=8))),
}


def written(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_the_one_that_somebody_has_read_and_kept(name):
    expected = (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")
    assert written(TEXTS[name]()) == expected, "python -m tests.inspection.test_to_text writes it anew"


def test_every_kept_text_is_compared():
    kept = {path.stem for path in EXPECTED.glob("inspect-*.txt")}
    of_queues = {
        name for name in kept if name.startswith("inspect-queue-")
    }  # tests/cli/test_inspect_queue.py's
    assert kept - of_queues == set(TEXTS)


# -- lines ---------------------------------------------------------------------------------------


def only_packet_line(image: bytes) -> str:
    lines = text_of(image)
    (title,) = [number for number, line in enumerate(lines) if "OFFSET" in line]
    return lines[title + 1]


def test_a_ring_begins_with_its_place_its_indices_its_words_and_its_verdict():
    assert text_of(ring_image([packet(0, bytes(40))], mask=1, pending=64, size=16384))[:4] == [
        "ring at 0x0, 16384 bytes of data",
        "  in 0x0040   out 0x0000   64 bytes waiting   16312 bytes free",
        "  interrupts masked   pending send size 64   features pending-send-size",
        "  waiting for its reader; the writer may be owed a signal",
    ]


def test_a_pair_has_its_roles_and_an_empty_line_between_the_two():
    lines = text_of(ring_image([packet(0)]) + ring_image([]))
    assert lines[0] == "outbound ring at 0x0, 4096 bytes of data"
    second = lines.index("inbound ring at 0x2000, 4096 bytes of data")
    assert lines[second - 1] == ""


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (bytes(8192), "  never opened: all bytes are zero"),
        (ring_image([]), "  idle"),
        (ring_image([packet(0)]), "  waiting for its reader; the reader may be owed a signal"),
        (ring_image([packet(0)], mask=1), "  waiting for its reader"),
        (
            ring_image([], pending=4096),
            "  waiting for its writer, who waits for more room than there ever is",
        ),
        (ring_image([], pending=4088), "  idle; the writer may be owed a signal"),
        (
            ring_image([], pending=4120, size=8192),
            "  idle; its writer asks for 4120 bytes for good, as hvsock does, and has them",
        ),
        (
            ring_image([packet(0)], pending=4080, mask=1),
            "  waiting for its reader; its writer waits for 4080 bytes of room",
        ),
        (ring_image([packet(0, bytes(4064))], mask=1), "  full: not even an empty packet fits"),
        (ring_image([], in_offset=4), "  corrupt: a reader would refuse it"),
    ],
)
def test_each_verdict_is_a_sentence_with_the_signals_that_may_be_owed(image, line):
    assert text_of(image, address=0)[3] == line


@known_bug("B40")
def test_indices_out_of_range_are_shown_without_a_sign_and_without_counts():
    lines = text_of(control_page(2**32 - 8, 2**31) + bytes(4096), address=0)
    assert lines[1] == "  in 0xfffffff8   out 0x80000000"
    assert not any("-0x" in line for line in lines)


@pytest.mark.parametrize(
    ("features", "shown"),
    [(0, "0"), (1, "pending-send-size"), (2, "0x2"), (0x80000001, "pending-send-size|0x80000000")],
)
def test_feature_bits_are_named_and_unknown_ones_shown(features, shown):
    assert text_of(ring_image([packet(0)], features=features))[2].endswith(f"   features {shown}")


@pytest.mark.parametrize(
    ("shown", "fields"),
    [
        ("in-band                          -  0 bytes", {}),
        ("in-band                        0x7  0 bytes", {"transaction_id": 7}),
        ("in-band                        0x0  0 bytes, flags completion-requested", {"flags": 1}),
        ("completion                     0x0  0 bytes", {"kind": COMPLETION}),
        (
            "completion      0xffffffffffffffff  8 bytes: 01 02 03 04 05 06 07 08",
            {"kind": COMPLETION, "transaction_id": 2**64 - 1, "payload": bytes(range(1, 9))},
        ),
        (
            "in-band                          -  16 bytes: 01 02 03 04 05 06 07 08 …",
            {"payload": bytes(range(1, 10))},
        ),
        (
            "in-band                          -  pipe data, 3 bytes: 61 62 63",
            {"payload": b"\1\0\0\0\3\0\0\0abc"},
        ),
        ("in-band                          -  pipe end of stream", {"payload": b"\1\0\0\0\0\0\0\0"}),
        (
            "gpa-direct                       -  0 bytes, 2 ranges of 201 bytes outside the ring",
            {"kind": GPA_DIRECT, "header": gpa_header(gpa_range(200, 4000, 7, 9), gpa_range(1, 0, 5))},
        ),
        (
            "transfer-pages                   -  0 bytes, 1 range of 64 bytes outside the ring, transfer page set 0x5",
            {"kind": TRANSFER_PAGES, "header": transfer_header(5, (64, 0))},
        ),
        (
            "transfer-pages                   -  0 bytes, transfer page set 0x0",
            {"kind": TRANSFER_PAGES, "header": transfer_header(0)},
        ),
    ],
)
def test_a_packet_is_a_line_of_columns(shown, fields):
    fields = dict(fields)
    one = packet(64, fields.pop("payload", b""), **fields)
    assert only_packet_line(ring_image([one], out=64)) == f"  0x0040  {len(one):>6}  {shown}"


@known_bug("B58")
def test_a_broken_packet_says_so_and_what_can_be_read_of_it():
    one = packet(0, b"payload!", kind=99, flags=5)
    assert only_packet_line(ring_image([one])) == (
        "  0x0000      32  unknown-99                     0x0  broken: descriptor-flags, "
        "8 bytes: 70 61 79 6c 6f 61 64 21, flags completion-requested|0x4"
    )
    torn = packet(0, length8=9)
    assert only_packet_line(ring_image([torn])) == (
        "  0x0000      80  in-band                          -  broken: descriptor-length"
    )
    assert only_packet_line(ring_image([bytes(8)])) == (
        "  0x0000       -  ?                                ?  broken: data-available"
    )


def test_a_finding_is_a_line_with_its_place_its_severity_and_its_name():
    lines = text_of(ring_image([packet(64, footer=b"\xff" * 8)], out=64, mask=2), address=0)
    assert lines[-3] == "1 packet, 2 findings"
    assert lines[-2].startswith("  control   warning  interrupt-mask  the interrupt mask is 0x2; ")
    assert lines[-1].startswith("  0x0040    note     footer  1 of 1 waiting packets has no footer ")


@pytest.mark.parametrize(
    ("size", "title", "offset"),
    [
        (4096, "  OFFSET   BYTES", "  0x0008      24"),
        (65536, "  OFFSET   BYTES", "  0x0008      24"),
        (65536 + 4096, "  OFFSET    BYTES", "  0x00008      24"),
        (1 << 24, "  OFFSET     BYTES", "  0x000008      24"),
        ((1 << 24) + 4096, "  OFFSET      BYTES", "  0x0000008      24"),
    ],
)
def test_the_offset_column_is_as_wide_as_the_rings_size_needs(size, title, offset):
    lines = text_of(ring_image([packet(8, kind=5)], out=8, size=size), data_size=size)
    number = next(number for number, line in enumerate(lines) if "OFFSET" in line)
    assert lines[number].startswith(f"{title}  TYPE")
    assert lines[number + 1].startswith(f"{offset}  unknown-5")
    assert lines[-1].split()[:2] == [offset.split()[0], "error"]


@pytest.mark.parametrize(
    ("selection", "summary"),
    [
        (Selection(), "3 packets, 0 findings"),
        (Selection(limit=2), "3 packets (2 shown), 0 findings"),
        (Selection(packet_type="completion"), "3 packets (0 shown), 0 findings"),
        (Selection(history=True), "3 packets, 1 read already, 0 findings"),
        (Selection(history=True, limit=0), "3 packets (0 shown), 1 read already (0 shown), 0 findings"),
    ],
)
def test_the_summary_counts_what_waits_and_what_of_it_is_shown(selection, summary):
    one = packet(0) + packet(24) + packet(48) + packet(72)
    image = control_page(96, 24) + data_area(4096, (0, one))
    assert text_of(image, selection=selection)[-1] == summary


def test_no_byte_of_the_other_side_reaches_the_terminal_as_it_is():
    nasty = bytes(range(256)) + "\x1b[2J\x9b31m\u202e".encode()
    image = ring_image(
        [packet(0, nasty), packet(0, nasty, kind=0x1B5B, flags=0xFFFF)], others={5: 0x1B5B324A}
    )
    for line in text_of(image, with_hexdump=True, address=0):
        assert line.isprintable()


def test_a_hexdump_stands_below_each_packet_indented():
    lines = text_of(ring_image([packet(4080, pattern(8))], out=4080), with_hexdump=True)
    title = next(number for number, line in enumerate(lines) if "OFFSET" in line)
    assert lines[title + 2].startswith("     00000ff0  06 00 02 00 03 00 00 00  00 00 00 00 00 00 00 00  |")
    assert lines[title + 3].startswith("    ^00000000  ")
    assert lines[title + 4] == ""


def test_lines_are_made_as_they_are_asked_for():
    lines = report_to_lines(inspect_dump(dump_of(ring_image([packet(0)]))))
    assert next(lines) == "ring at 0x0, 4096 bytes of data"


def main() -> None:
    """Write every expected text anew."""
    for name, make in TEXTS.items():
        path = EXPECTED / f"{name}.txt"
        path.write_text(written(make()), encoding="utf-8")
        print(path.relative_to(EXPECTED.parent.parent), file=sys.stderr)


if __name__ == "__main__":
    main()
