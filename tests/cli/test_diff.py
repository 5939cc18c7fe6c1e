"""`vmbus diff`: what it prints of two snapshots, as text and as a document, and its exit status."""

from __future__ import annotations

import pytest

from tests.cli.running import control_page, packet, ring_with, run

IN_BAND = 6
DATA = b"".join(packet(32 * number, IN_BAND, bytes([65 + number]) * 8) for number in range(4)).ljust(
    4096, b"\0"
)


def snapshot(first: int, last: int, **words: int) -> bytes:
    """Of one ring with four packets: those from `first` up to `last` wait, those behind are not written yet."""
    return control_page(32 * last, 32 * first, **words) + DATA[: 32 * last].ljust(4096, b"\0")


@pytest.fixture
def saved(tmp_path):
    def save(*images: bytes) -> list[str]:
        paths = []
        for number, image in enumerate(images):
            path = tmp_path / f"{number}.bin"
            path.write_bytes(image)
            paths.append(str(path))
        return paths

    return save


def test_the_text_says_what_moved_and_lists_the_packets_in_between(saved):
    ending = run("diff", *saved(snapshot(0, 2, mask=1), snapshot(1, 3)))
    assert ending.out.splitlines() == [
        "ring at 0x0, 4096 bytes of data",
        "  in  0x0040 -> 0x0060   32 bytes written, 1 packet",
        "  out 0x0000 -> 0x0020   32 bytes read, 1 packet",
        "  interrupt mask 1 -> 0   pending send size 0 as before",
        "  moved (besides what is counted, any number of laps of 4096 bytes); 1 packet that waited before waits still",
        "  waiting for its reader; the reader may be owed a signal",
        "",
        "read in between, oldest first",
        "  OFFSET   BYTES  TYPE                   TRANSACTION  PAYLOAD",
        "  0x0000      32  in-band                          -  8 bytes: 41 41 41 41 41 41 41 41",
        "",
        "written in between, oldest first",
        "  OFFSET   BYTES  TYPE                   TRANSACTION  PAYLOAD",
        "  0x0040      32  in-band                          -  8 bytes: 43 43 43 43 43 43 43 43",
    ]
    assert ending.status == 0


def test_a_stuck_ring_is_said_to_be_stuck_by_whom_and_by_which_rule(saved):
    ending = run("diff", *saved(snapshot(0, 2), snapshot(0, 2)))
    nothing, verdict, stuck = ending.out.splitlines()[4:]
    assert nothing == "  nothing moved, 2 packets waiting before and now"
    assert verdict == "  waiting for its reader; the reader may be owed a signal"
    assert stuck == (
        "  stuck: the writer owes the reader a signal by the level rule reader_needs_signal: the interrupt mask is "
        "0, and 64 bytes wait from out 0x0000 to in 0x0040"
    )
    assert ending.status == 1


def test_where_the_reader_masked_interrupts_nobody_owes_it_a_signal(saved):
    ending = run("diff", *saved(snapshot(0, 2, mask=1), snapshot(0, 2, mask=1)))
    assert "the reader has masked interrupts and looks by itself, and has not" in ending.out
    assert ending.status == 0


@pytest.mark.parametrize(
    ("later", "status", "says"),
    [
        (control_page(4, 0) + DATA, 1, "what moved cannot be told: an index is out of range"),
        (control_page(64, 0) + bytes([99]) + DATA[1:], 1, "error    committed-bytes-changed"),
        (control_page(64, 0, mask=9) + DATA, 1, "warning  interrupt-mask"),
    ],
)
def test_what_is_wrong_makes_the_status_1(later, status, says, saved):
    ending = run("diff", *saved(snapshot(0, 2), later))
    assert ending.status == status
    assert " ".join(says.split()) in " ".join(ending.out.split())


def test_the_document_is_that_of_the_library(saved):
    paths = saved(snapshot(0, 2), snapshot(1, 4))
    document = run("diff", *paths, "--json").document
    assert document["schema"] == "vmbus.diff/1"
    assert (document["a"]["path"], document["b"]["path"]) == tuple(paths)
    (ring,) = document["rings"]
    assert [one["offset"] for one in ring["written"]] == [64, 96]
    assert [one["offset"] for one in ring["read"]] == [0]
    assert (ring["bytes_written"], ring["bytes_read"], ring["still_waiting"]) == (64, 32, 1)


def test_a_later_ring_that_does_not_look_like_one_is_compared_where_the_earlier_one_was(saved):
    pair = snapshot(0, 2) + snapshot(1, 3)
    broken = snapshot(0, 2) + control_page(2**32 - 1, 7) + DATA
    ending = run("diff", *saved(pair, broken), "--json")
    assert [ring["b"]["role"] for ring in ending.document["rings"]] == ["outbound", "inbound"]
    assert [ring["b"]["verdict"] for ring in ending.document["rings"]] == ["waiting-for-reader", "corrupt"]
    assert ending.status == 1


def test_two_places_of_one_file_can_be_compared(saved):
    (path,) = saved(snapshot(0, 1) + snapshot(1, 2))
    ending = run("diff", path, path, "--offset", 0, "--data-size", "4K", "--offset-b", 8192)
    assert ending.out.startswith("ring at 0x2000 (0x0 in the earlier dump), 4096 bytes of data")
    assert ending.status == 0


def test_where_the_rings_are_is_said_for_both(saved):
    paths = saved(bytes(4096) + snapshot(0, 1), bytes(4096) + snapshot(1, 1))
    ending = run("diff", *paths, "--address", "0x1000", "--json")
    assert [ring["a"]["address"] for ring in ending.document["rings"]] == [4096]


def test_a_snapshot_says_nothing_about_itself(saved):
    (path,) = saved(snapshot(0, 1))
    ending = run("diff", path, path)
    assert (ending.status, "A and B are one file" in ending.err) == (2, True)


@pytest.mark.parametrize(
    ("images", "words", "says"),
    [
        (
            (snapshot(0, 1), ring_with()[:4096]),
            (),
            "the ring at 0x0 would end at 0x2000, and the file has 4096 bytes",
        ),
        ((b"nothing", snapshot(0, 1)), (), "0.bin"),
        ((snapshot(0, 1), snapshot(0, 1)), ("--offset-b", 4096), "would end at 0x3000"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(images, words, says, saved):
    ending = run("diff", *saved(*images), *words)
    assert (ending.status, says in ending.err) == (2, True)


def test_one_of_the_two_can_come_from_standard_input(saved):
    (path,) = saved(snapshot(0, 1))
    assert run("diff", "-", path, stdin=snapshot(0, 0)).status == 0
    assert run("diff", "-", "-").status == 2
