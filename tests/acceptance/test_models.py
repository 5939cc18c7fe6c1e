"""What each model does with each malformed condition, condition by condition.

The verdicts are written out here from what is known of each implementation, and never computed: one row a
condition, one column an implementation, in the order of MODELS:

    vmbus, Linux, OpenVMM, DPDK, FreeBSD, UEFI, QEMU

A cell has the bytes of payload of each packet taken, and then how it ends; ? where that is not verified.
"""

from __future__ import annotations

import struct

import pytest

from tests.cli.running import control_page, packet
from vmbus.acceptance import MODELS, Comparison, compare, models_with
from vmbus.acceptance.model_linux import LinuxModel
from vmbus.errors import CallerError

NAMES = [model.name for model in MODELS]

SIZE = 4096
IN_BAND, TRANSFER_PAGES, GPA_DIRECT, CANCEL_REQUEST = 6, 7, 9, 10

#: A packet of 8 bytes of payload, which takes 32 bytes; the victim lies behind it.
FIRST = packet(0, IN_BAND, bytes(8))


def ring(*victims: bytes, in_offset: int | None = None, out_offset: int = 0, **control: int) -> bytes:
    """A ring of one page: a packet that is right, then others, and zeros."""
    data = FIRST + b"".join(victims)
    end = len(data) if in_offset is None else in_offset
    return control_page(end, out_offset, **control) + data.ljust(SIZE, b"\0")


def victim(
    kind: int = IN_BAND, *, data_offset8: int = 2, length8: int = 4, flags: int = 0, body: bytes = bytes(16)
) -> bytes:
    """A packet of 16 bytes behind the descriptor, and its footer; any number can be wrong."""
    return struct.pack("<HHHHQ", kind, data_offset8, length8, flags, 0) + body + struct.pack("<II", 0, 32)


def gpa_direct(count: int, *numbers: int) -> bytes:
    """A GPA-direct packet without payload: the count of ranges, and 64-bit words of ranges."""
    body = struct.pack(f"<II{len(numbers)}Q", 0, count, *numbers)
    words = 2 + len(body) // 8
    return victim(GPA_DIRECT, data_offset8=words, length8=words, body=body)


def gpa_range(byte_count: int, byte_offset: int) -> int:
    """The two numbers a GPA range begins with, as one word."""
    return byte_offset << 32 | byte_count


def transfer_pages(count: int) -> bytes:
    """A transfer-page packet with room for one range."""
    body = struct.pack("<HHIII", 0xCAFE, 0, count, 64, 0)
    return victim(TRANSFER_PAGES, data_offset8=4, length8=4, body=body)


def read_by(comparison: Comparison) -> list[str]:
    """A cell for each model."""
    cells = []
    for reading in comparison.readings:
        parts = [
            "?" if one.payload_length is None else f"{one.payload_length}{'' if one.verified else '?'}"
            for one in reading.packets
        ]
        parts.append(f"{reading.end.answer.value}{'' if reading.end.verified else '?'}")
        cells.append(" ".join(parts))
    return cells


CONDITIONS = {
    "well formed": (
        ring(victim()),
        ["8 16 empty"] * 7,
    ),
    "nothing published": (
        ring(in_offset=0),
        ["empty"] * 7,
    ),
    "footer not published": (
        ring(victim(), in_offset=64),
        ["8 error", "8 16 past in?", "8 16 past in?", "8 stalls", "8 stalls", "8 error", "8 stalls"],
    ),
    "8 bytes published": (
        ring(victim(), in_offset=40),
        ["8 error", "8 stalls", "8 error", "8 stalls", "8 stalls", "8 error?", "8 stalls"],
    ),
    "16 bytes published": (
        ring(victim(), in_offset=48),
        ["8 error", "8 0 past in?", "8 error", "8 stalls", "8 stalls", "8 error?", "8 stalls"],
    ),
    "length8 is 0": (
        ring(victim(length8=0)),
        ["8 error", "8 24 past in?", "8 error", "8 error", "8 unknown?", "8 error", "8 stalls"],
    ),
    "length8 is 1": (
        ring(victim(length8=1)),
        ["8 error", "8 24 past in?", "8 error", "8 error", "8 unknown?", "8 error", "8 stalls"],
    ),
    "length8 goes 8 bytes beyond in": (
        ring(victim(length8=6)),
        ["8 error", "8 24 past in?", "8 error", "8 stalls", "8 stalls", "8 error", "8 stalls"],
    ),
    "length8 is the largest": (
        ring(victim(length8=0xFFFF)),
        ["8 error", "8 24 past in?", "8 error", "8 stalls", "8 stalls", "8 error", "8 stalls"],
    ),
    "length8 takes the footer in": (
        ring(victim(length8=5)),
        ["8 error", "8 24 past in?", "8 24 past in?", "8 stalls", "8 stalls", "8 error", "8 stalls"],
    ),
    "data_offset8 is 0": (
        ring(victim(data_offset8=0)),
        ["8 error", "8 16 empty", "8 error", "8 error", "8 ? empty", "8 ? empty", "8 stalls"],
    ),
    "data_offset8 is 1": (
        ring(victim(data_offset8=1)),
        ["8 error", "8 16 empty", "8 error", "8 error", "8 ? empty", "8 ? empty", "8 stalls"],
    ),
    "data_offset8 is beyond length8": (
        ring(victim(data_offset8=5)),
        ["8 error", "8 16 empty", "8 error", "8 error", "8 ? empty", "8 ? empty", "8 stalls"],
    ),
    "data_offset8 is length8": (
        ring(victim(data_offset8=4)),
        ["8 0 empty"] * 7,
    ),
    "unknown flag": (
        ring(victim(flags=4)),
        ["8 error", "8 16 empty", "8 error", "8 16 empty", "8 16 empty", "8 16 empty", "8 16 empty"],
    ),
    "completion requested": (
        ring(victim(flags=1)),
        ["8 16 empty"] * 7,
    ),
    "unknown type": (
        ring(victim(99)),
        ["8 error", "8 16 empty", "8 error", "8 16 empty", "8 16 empty", "8 16 empty", "8 stalls"],
    ),
    "type with a name that nobody sends": (
        ring(victim(CANCEL_REQUEST)),
        ["8 error", "8 16 empty", "8 error", "8 16 empty", "8 16 empty", "8 16 empty", "8 stalls"],
    ),
    "transfer pages": (
        ring(transfer_pages(1)),
        [*["8 0 empty"] * 6, "8 stalls"],
    ),
    "transfer pages, a range too many": (
        ring(transfer_pages(2)),
        ["8 error", "8 0 empty", "8 error", "8 error", "8 0 empty", "8 0 empty", "8 stalls"],
    ),
    "transfer pages without a header": (
        ring(victim(TRANSFER_PAGES)),
        ["8 error", "8 16 empty", "8 error", "8 error", "8 16 empty", "8 16 empty", "8 stalls"],
    ),
    "GPA direct": (
        ring(gpa_direct(1, gpa_range(4096, 4095), 7, 8)),
        ["8 0 empty"] * 7,
    ),
    "GPA direct, words behind the last range": (
        ring(gpa_direct(1, gpa_range(8, 0), 7, 0, 0)),
        ["8 0 empty"] * 7,
    ),
    "GPA direct, no range": (
        ring(gpa_direct(0)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 0 empty"],
    ),
    "GPA direct, no header": (
        ring(victim(GPA_DIRECT)),
        ["8 error", "8 16 empty", "8 error", "8 16 empty", "8 16 empty", "8 16 empty", "8 unknown?"],
    ),
    "GPA range without bytes": (
        ring(gpa_direct(1, gpa_range(0, 0), 7)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 0 empty"],
    ),
    "GPA range without bytes, inside its page": (
        ring(gpa_direct(1, gpa_range(0, 8))),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 0 empty"],
    ),
    "GPA range that starts behind its page": (
        ring(gpa_direct(1, gpa_range(8, 4096), 7, 8)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 stalls"],
    ),
    "GPA range with too few pages": (
        ring(gpa_direct(1, gpa_range(4096, 4095), 7)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 stalls"],
    ),
    "GPA range that needs more than 32 bits": (
        ring(gpa_direct(1, gpa_range(0xFFFF_FFFF, 4095), 7)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 stalls"],
    ),
    "GPA range missing": (
        ring(gpa_direct(2, gpa_range(8, 0), 7)),
        ["8 error", "8 0 empty", "8 error", "8 0 empty", "8 0 empty", "8 0 empty", "8 stalls"],
    ),
    "foreign footer": (
        ring(victim()[:-8] + b"\xff" * 8),
        ["8 16 empty"] * 7,
    ),
    "in is the size": (
        ring(in_offset=SIZE),
        ["error", "8 past in?", "error", "8 past in?", "8 past in?", "error", "error"],
    ),
    "in is far out": (
        ring(in_offset=0xFFFF_FFF8),
        ["error", "8 past in?", "error", "8 past in?", "8 past in?", "error", "error"],
    ),
    "in is no multiple of 8": (
        ring(victim(), in_offset=68),
        ["error", "8 16 past in?", "error", "8 stalls", "8 stalls", "error", "8 stalls"],
    ),
    "out is the size": (
        ring(out_offset=SIZE),
        ["error", "unknown?", "error", "undefined?", "undefined?", "error", "error"],
    ),
    "out is no multiple of 8": (
        control_page(68, 4) + FIRST[:4] + victim()[:-8] + bytes(SIZE - 36),
        ["error", "16 8 past in?", "error", "16 error", "16 unknown?", "error", "16 stalls"],
    ),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_implementation_reads_each_malformed_condition_as_it_is_known_to(condition):
    image, expected = CONDITIONS[condition]
    assert dict(zip(NAMES, read_by(compare(image)), strict=True)) == dict(zip(NAMES, expected, strict=True))


def test_linux_goes_on_inside_a_packet_that_its_buffer_cut():
    """KVP's limit, when it counted the payload alone, left 16 bytes of the packet for the next read."""
    image = ring(victim(length8=66, body=bytes(512)))
    (cut,) = compare(image, models=[LinuxModel(packet_buffer=512)]).readings
    assert [step.payload_length for step in cut.packets][:2] == [8, 496]
    assert cut.packets[1].next_offset == 32 + 512 + 8


def test_a_packet_buffer_holds_a_descriptor_at_least():
    with pytest.raises(CallerError, match="16 bytes or more, not 15"):
        LinuxModel(packet_buffer=15)


def test_dpdk_refuses_a_packet_that_its_callers_buffer_cannot_hold():
    reading = compare(ring(victim()), models=models_with(caller_buffer=24)).reading_of("dpdk")
    assert [step.payload_length for step in reading.packets] == [8]
    assert (reading.end.answer.value, reading.end.verified) == ("error", True)


# -- who is woken, and who has room -------------------------------------------------------------------

#: The two packets of a ring that is all but full, and where it lies: a read of one frees 2048 bytes.
HALF = packet(0, IN_BAND, bytes(2024))


def full(**control: int) -> bytes:
    """Two packets of 2048 and 2040 bytes: 0 bytes are free, 2048 after the first read, 4088 after both."""
    data = HALF + packet(2048, IN_BAND, bytes(2016))
    return control_page(4088, **control) + data.ljust(SIZE, b"\0")


YES, NO, UNSURE = "yes", "no", "no?"

#: Control words, and who wakes the sender: when it gives back the first packet, and when it gives back both.
WAKES = {
    "nobody waits": ({}, [NO] * 7, [NO] * 7),
    "pending size is what the first read frees": (
        {"pending": 2048},
        [YES] * 7,
        [*[YES] * 6, UNSURE],
    ),
    "pending size is 8 more": (
        {"pending": 2056},
        [*[NO] * 6, YES],
        [*[YES] * 6, UNSURE],
    ),
    "pending size is 16 more": (
        {"pending": 2064},
        [NO] * 7,
        [*[YES] * 6, UNSURE],
    ),
    "pending size with low bits": (
        {"pending": 2048 + 7},
        [YES] * 7,
        [*[YES] * 6, UNSURE],
    ),
    "pending size is the size less 1": (
        {"pending": SIZE - 1},
        [NO] * 7,
        [*[YES] * 6, UNSURE],
    ),
    "pending size is the size": (
        {"pending": SIZE},
        [NO] * 7,
        [*[NO] * 6, UNSURE],
    ),
    "pending size of less than 8": (
        {"pending": 7},
        [*[NO] * 6, NO],
        [*[NO] * 6, UNSURE],
    ),
    "mask set": (
        {"pending": 2048, "mask": 1},
        [*[YES] * 6, NO],
        [*[YES] * 6, NO],
    ),
    "feature bit clear": (
        {"pending": 2048, "features": 0},
        [YES, NO, YES, NO, NO, YES, YES],
        [YES, NO, YES, NO, NO, YES, YES],
    ),
    "feature bit clear, nobody waits": (
        {"features": 0},
        [*[NO] * 6, YES],
        [*[NO] * 6, YES],
    ),
    "only other feature bits": (
        {"pending": 2048, "features": 0xFFFF_FFFE},
        [YES, NO, YES, NO, NO, YES, YES],
        [YES, NO, YES, NO, NO, YES, YES],
    ),
}


def signal_cells(signals: list) -> list[str]:
    return [f"{'yes' if one.signals else 'no'}{'' if one.verified else '?'}" for one in signals]


@pytest.mark.parametrize("condition", WAKES)
def test_each_implementation_wakes_the_sender_by_the_rule_it_is_known_to_have(condition):
    control, first, last = WAKES[condition]
    readings = compare(full(**control)).readings
    assert dict(zip(NAMES, signal_cells([one.after_first for one in readings]), strict=True)) == dict(
        zip(NAMES, first, strict=True)
    )
    assert dict(zip(NAMES, signal_cells([one.after_all for one in readings]), strict=True)) == dict(
        zip(NAMES, last, strict=True)
    )


def room(free: int, **control: int) -> bytes:
    """A ring with so many bytes free, and the reader at 0."""
    return control_page(SIZE - 8 - free, **control) + bytes(SIZE)


#: An image, bytes to write, and what each does; "wakes" and "quiet" both write.
WRITES = {
    "empty ring": (room(SIZE - 8), 24, ["wakes"] * 7),
    "empty ring, mask set": (room(SIZE - 8, mask=1), 24, ["quiet"] * 7),
    "empty ring, odd mask": (room(SIZE - 8, mask=0x100), 24, ["quiet"] * 7),
    "the reader has not read all": (room(1000), 24, ["quiet"] * 7),
    "exactly as much is free": (room(48), 48, ["quiet"] * 7),
    "a slot less is free": (room(40), 48, ["no room"] * 7),
    "nothing is free": (room(0), 24, ["no room"] * 7),
    "all that is free in an empty ring": (
        room(SIZE - 8),
        SIZE - 8,
        ["wakes", "wakes", "no room", "wakes", "wakes", "wakes", "wakes"],
    ),
    "a slot less than all": (room(SIZE - 8), SIZE - 16, ["wakes"] * 7),
    "more than all": (room(SIZE - 8), SIZE, ["no room"] * 7),
    "out is the size": (
        control_page(64, SIZE) + bytes(SIZE),
        24,
        ["error", "quiet", "error", "quiet", "quiet", "error", "no room"],
    ),
    "out is far out": (
        control_page(64, 0x8000_0000) + bytes(SIZE),
        8192,
        ["error", "quiet", "error", "quiet", "quiet", "error", "no room"],
    ),
    "out is no multiple of 8": (
        control_page(64, 100) + bytes(SIZE),
        32,
        ["error", "quiet", "error", "quiet", "quiet", "error", "quiet"],
    ),
    "in is the size": (
        control_page(SIZE) + bytes(SIZE),
        24,
        ["error", "undefined", "error", "undefined?", "undefined?", "error", "error"],
    ),
}


@pytest.mark.parametrize("condition", WRITES)
def test_each_implementation_writes_and_wakes_the_reader_as_it_is_known_to(condition):
    image, size, expected = WRITES[condition]
    cells = []
    for write in (one.write for one in compare(image, write_size=size).readings):
        signals = {None: write.answer.value, True: "wakes", False: "quiet"}[write.signals]
        cells.append(f"{signals}{'' if write.verified else '?'}")
    assert dict(zip(NAMES, cells, strict=True)) == dict(zip(NAMES, expected, strict=True))
