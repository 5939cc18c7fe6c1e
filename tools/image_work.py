"""A memory image to look through, and reading it without looking.  For measure_speed.py.

The image is what a guest's memory looks like: half of it zeros; a quarter random bytes, as compressed or
encrypted ones are; a quarter pages of small numbers, pointers and pairs of numbers.  A ring's control page
and the messages that opened its channel lie in every megabyte, and all of them must be found.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from queue_work import Wrong

from vmbus import PAGE_SIZE, FlatRingMem, connected_rings
from vmbus.inspection import MessageFinder, find_control_pages, open_dump
from vmbus.layout import Guid
from vmbus.protocols import (
    GPADL_HEADER,
    OFFER,
    OPEN_CHANNEL,
    GpadlHeader,
    MessageType,
    Offer,
    OpenChannel,
    device_class,
)

__all__ = [
    "Image",
    "find_messages",
    "find_pages",
    "mixed_image",
    "peak_of_scan",
    "read_image",
    "sparse_image",
]

MEGABYTE = 1 << 20
SPARSE_SIZE = 8 << 30

#: Where in every megabyte of the image they lie.
CONTROL_PAGE_AT = 77 * PAGE_SIZE
MESSAGES_AT = 130 * PAGE_SIZE + 96

GPADL = 0xE1E10


class Image(NamedTuple):
    """A file of so many megabytes."""

    path: str
    megabytes: int


def mixed_image(folder: Path, megabytes: int) -> Image:
    random = Random(1)
    heap = [numbers(random) for _ in range(64)]
    path = folder / "memory.bin"
    with path.open("wb") as file:
        for number in range(megabytes):
            file.write(megabyte(random, heap, number))
    return Image(str(path), megabytes)


def megabyte(random: Random, heap: list[bytes], number: int) -> bytes:
    zeros = bytes(PAGE_SIZE)
    memory = bytearray()
    for _ in range(MEGABYTE // PAGE_SIZE):
        memory += random.choice([zeros, zeros, random.randbytes(PAGE_SIZE), random.choice(heap)])
    memory[CONTROL_PAGE_AT : CONTROL_PAGE_AT + PAGE_SIZE] = used_control_page()
    place = MESSAGES_AT
    for message in messages(1 + number % 2047):
        memory[place : place + len(message)] = message
        place += 256
    return bytes(memory)


def numbers(random: Random) -> bytes:
    """A page as a kernel's heap may have it."""
    words = []
    for _ in range(PAGE_SIZE // 8):
        kind = random.random()
        if kind < 0.45:
            words.append(0)
        elif kind < 0.55:
            words.append(random.randrange(64))
        elif kind < 0.8:
            words.append(0xFFFF888000000000 + random.randrange(0, 1 << 34, 8))
        elif kind < 0.9:
            words.append(random.randrange(64) | random.randrange(1000) << 32)
        else:
            words.append(random.getrandbits(64))
    return struct.pack(f"<{len(words)}Q", *words)


def used_control_page() -> bytes:
    memory = bytearray(2 * PAGE_SIZE)
    sender, _ = connected_rings(memory=FlatRingMem.over(memory))
    sender.send(bytes(64))
    return bytes(memory[:PAGE_SIZE])


def messages(relid: int) -> list[bytes]:
    """An offer, a GPADL of eight pages, and the opening of a channel over it."""
    network = device_class("network")
    assert network is not None
    guid = Guid.parse("d34b2567-b9b6-42b9-8778-0a4ec0b955bf").wire
    kinds = MessageType
    offered = Offer(
        kinds.OFFER, 0, network.class_id.wire, guid, bytes(16), 0, 0, bytes(120), 0, 0, relid, 0, 0, 1, relid
    )
    ranges = struct.pack("<II8Q", 8 * PAGE_SIZE, 0, *range(0x5000, 0x5008))
    header = GpadlHeader(kinds.GPADL_HEADER, 0, relid, GPADL + relid, len(ranges), 1)
    opening = OpenChannel(kinds.OPEN_CHANNEL, 0, relid, relid, GPADL + relid, 0, 4, bytes(120))
    return [OFFER.pack(offered), GPADL_HEADER.pack(header) + ranges, OPEN_CHANNEL.pack(opening)]


# -- the sides -----------------------------------------------------------------------------------


def read_image(image: Image, rounds: int) -> Callable[[], int]:
    """Every byte into one buffer, and no look at it."""
    buffer = bytearray(MEGABYTE)

    def run() -> int:
        for _ in range(rounds):
            count = 0
            with open(image.path, "rb", buffering=0) as file:
                while length := file.readinto(buffer):
                    count += length
            if count != image.megabytes * MEGABYTE:
                raise Wrong
        return rounds * image.megabytes

    return run


def find_pages(image: Image, rounds: int) -> Callable[[], int]:
    def run() -> int:
        for _ in range(rounds):
            found = []
            with open_dump(image.path) as dump:
                for address, piece in dump.pieces():
                    found += find_control_pages(address, piece)
            expected = range(CONTROL_PAGE_AT, image.megabytes * MEGABYTE, MEGABYTE)
            if [one.address for one in found if not one.unused] != list(expected):
                raise Wrong
        return rounds * image.megabytes

    return run


def find_messages(image: Image, rounds: int) -> Callable[[], int]:
    """Control pages and messages."""

    def run() -> int:
        for _ in range(rounds):
            finder = MessageFinder()
            pages, found = 0, []
            with open_dump(image.path) as dump:
                for address, piece in dump.pieces():
                    pages += len(find_control_pages(address, piece))
                    found += finder.feed(address, piece)
            places = {one.address for one in found + finder.finish()}
            expected = {
                start + place
                for start in range(MESSAGES_AT, image.megabytes * MEGABYTE, MEGABYTE)
                for place in (0, 256, 512)
            }
            if pages < image.megabytes or not expected <= places:
                raise Wrong
        return rounds * image.megabytes

    return run


# -- memory --------------------------------------------------------------------------------------

#: Runs the command line, and tells at its end how much memory it ever had, in KiB.
TELL_PEAK = """
import runpy, sys

def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)

try:
    runpy.run_module("vmbus", run_name="__main__", alter_sys=True)
finally:
    print(peak(), file=sys.stderr)
"""


def sparse_image(folder: Path, size: int = SPARSE_SIZE) -> str:
    """The path of a file that is nearly all hole, with a used ring near its start, middle and end."""
    path = folder / "sparse.bin"
    ring = bytearray(5 * PAGE_SIZE)
    sender, _ = connected_rings(memory=FlatRingMem.over(ring))
    sender.send_many([bytes(64)] * 3)
    random = Random(2)
    with path.open("wb") as file:
        file.truncate(size)
        for place in (MEGABYTE, size // 2, size - 64 * MEGABYTE):
            file.seek(place)
            file.write(ring + random.randbytes(32 * MEGABYTE))
    return str(path)


def peak_of_scan(path: str, environment: dict[str, str]) -> float:
    """MiB that `vmbus scan` had at most while it looked through a file; Wrong where it found no three rings."""
    done = subprocess.run(
        [sys.executable, "-c", TELL_PEAK, "scan", path, "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or done.stdout.count('"control"') < 3:
        raise Wrong(done.stderr[-500:])
    return int(done.stderr.split()[-1]) / 1024
