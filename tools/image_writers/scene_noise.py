"""Pages that are no rings, and look like some: what else lies in a guest's memory.

Every function makes one page, or several in a row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from .scene_rings import control_page

__all__ = ["DECOYS", "decoy"]

PAGE = 4096


def random_bytes(random: Random) -> bytes:
    return random.randbytes(PAGE)


def page_table(random: Random) -> bytes:
    """Entries of a page table: addresses with flags in their low bits, many empty."""
    flags = random.choice([0x63, 0x67, 0x25, 0x8000000000000063])
    entries = [
        (random.randrange(1 << 24) * PAGE | flags) % 2**64 if random.random() < 0.4 else 0 for _ in range(512)
    ]
    return struct.pack("<512Q", *entries)


def single_entry_table(random: Random) -> bytes:
    """A page table of one entry, the first: multiples of 8 and zeros."""
    return struct.pack("<Q", random.randrange(1 << 12) * PAGE | 0x67).ljust(PAGE, b"\0")


def small_integers(random: Random) -> bytes:
    return struct.pack("<1024I", *(random.choice([0, 0, 1, 2, 6, 7, 8, 9, 11, 16, 24]) for _ in range(1024)))


def pointers(random: Random) -> bytes:
    base = 0xFFFF_8880_0000_0000
    return struct.pack(
        "<512Q", *(random.choice([0, 1, base + 8 * random.randrange(1 << 28)]) for _ in range(512))
    )


def text(random: Random) -> bytes:
    words = ["ring", "host", "guest", "page", "free", "used", "head", "tail"]
    return " ".join(random.choices(words, k=PAGE // 5)).encode()[:PAGE].ljust(PAGE, b" ")


def unused_ring(random: Random) -> bytes:
    """The control page of a ring that was opened and never used, with a page behind that is zero."""
    return control_page(0, 0) + bytes(PAGE)


def stale_control_page(random: Random) -> bytes:
    """A copy of some control page; what follows is something else."""
    words = [8 * random.randrange(1, 2048) for _ in range(2)]
    follows = random.choice([bytes(PAGE), random.randbytes(PAGE), text(random)])
    return (
        control_page(words[0], words[1], mask=random.getrandbits(1), features=random.getrandbits(1)) + follows
    )


def stale_data(random: Random) -> bytes:
    """A page of a ring's data, without the ring: packets with footers."""
    page, at = b"", 8 * random.randrange(2048)
    while len(page) < PAGE:
        length = 8 * random.randrange(3, 40)
        page += struct.pack("<HHHHQ", 6, 2, length // 8 - 1, 0, random.getrandbits(16))
        page += random.randbytes(length - 24) + struct.pack("<II", 0, at)
        at += length
    return page[:PAGE]


def virtqueue(random: Random) -> bytes:
    """A split virtqueue: descriptor table, available and used ring."""
    size = 128
    table = b"".join(
        struct.pack(
            "<QIHH",
            random.randrange(1 << 30),
            random.randrange(1, 4096),
            random.getrandbits(2),
            (n + 1) % size,
        )
        for n in range(size)
    )
    index = random.randrange(65536)
    available = struct.pack("<HH", 0, index) + struct.pack(
        f"<{size}H", *(random.randrange(size) for _ in range(size))
    )
    used = struct.pack("<HH", 1, index) + b"".join(
        struct.pack("<II", random.randrange(size), 64) for _ in range(size)
    )
    return table.ljust(PAGE, b"\0") + available.ljust(PAGE, b"\0") + used.ljust(PAGE, b"\0")


def io_uring(random: Random) -> bytes:
    """The shared page of an io_uring: heads and tails that grow freely, sizes, flags."""
    head = random.randrange(1 << 32)
    words = [head, head + 3 & 0xFFFFFFFF, 0, 0, head, head, 127, 255, 128, 256, 0, 0, 0, 0]
    return struct.pack(f"<{len(words)}I", *words).ljust(PAGE, b"\0")


def young_io_uring(random: Random) -> bytes:
    """One of which little was used: its heads and tails are multiples of 8 by chance."""
    return struct.pack("<4I", 8 * random.randrange(1, 16), 8 * random.randrange(1, 16), 0, 0).ljust(
        PAGE, b"\0"
    )


def xen_ring(random: Random) -> bytes:
    """A shared ring of Xen: four indices that grow freely, then entries from offset 64 on."""
    index = random.choice([8 * random.randrange(1, 500), random.randrange(1 << 32)])
    head = struct.pack("<4I", index, index + 1 & 0xFFFFFFFF, index, index + 1 & 0xFFFFFFFF)
    return head.ljust(64, b"\0") + random.randbytes(32 * 112).ljust(PAGE - 64, b"\0")


def xenstore_ring(random: Random) -> bytes:
    """Two rings of 1024 bytes of text, then four indices."""
    rings = b"".join(b"device/vif/0/state\0".ljust(1024, b"\0") for _ in range(2))
    return (rings + struct.pack("<4I", *(random.randrange(1 << 16) for _ in range(4)))).ljust(PAGE, b"\0")


def nvme_queue(random: Random) -> bytes:
    """A submission queue of 64 commands of 64 bytes, most of them empty."""
    commands = (
        struct.pack("<BBHI", random.choice([1, 2, 6]), 0, number, 1).ljust(64, b"\0")
        if number < 20
        else bytes(64)
        for number in range(64)
    )
    return b"".join(commands)


DECOYS: dict[str, Callable[[Random], bytes]] = {
    "random": random_bytes,
    "page table": page_table,
    "page table with one entry": single_entry_table,
    "small integers": small_integers,
    "pointers": pointers,
    "text": text,
    "unused ring": unused_ring,
    "stale control page": stale_control_page,
    "stale data": stale_data,
    "virtqueue": virtqueue,
    "io_uring": io_uring,
    "young io_uring": young_io_uring,
    "xen ring": xen_ring,
    "xenstore ring": xenstore_ring,
    "nvme queue": nvme_queue,
}


def decoy(random: Random, kind: str) -> bytes:
    return DECOYS[kind](random)
