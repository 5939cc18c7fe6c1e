"""Writes the messages with which channels are offered and opened, as they lie in a guest's memory.

An own reading of Linux include/linux/hyperv.h and drivers/hv/channel.c; nothing is shared with what reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from uuid import UUID

__all__ = ["CLASSES", "gpadl_messages", "offer_message", "open_message", "random_guid"]

PAGE = 4096

#: Classes of devices, as their drivers list them.
CLASSES = {
    "network": UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e"),
    "storage": UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"),
    "keyboard": UUID("f912ad6d-2b17-48ea-bd65-f927a61c7684"),
    "shutdown": UUID("0e0b6031-5213-4934-818b-38d90ced39db"),
    "pci": UUID("44c4f61d-4444-4400-9d52-802e27ede19f"),
}

#: Pages listed in a header, and in each message behind it.
IN_HEADER, IN_BODY = 26, 28


def random_guid(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)


def offer_message(class_id: UUID, instance_id: UUID, relid: int) -> bytes:
    """196 bytes."""
    return b"".join(
        [
            struct.pack("<II", 1, 0),
            class_id.bytes_le + instance_id.bytes_le,
            bytes(16) + struct.pack("<HH", 0, 0) + bytes(120),
            struct.pack("<HHIBBHI", 0, 0, relid, 255, 0, 1, 0x10000 | relid),
        ]
    )


def open_message(relid: int, gpadl: int, second_ring: int, processor: int = 0) -> bytes:
    """148 bytes; second_ring is the number of its control page among those of the GPADL."""
    return struct.pack("<IIIIIII", 5, 0, relid, relid, gpadl, processor, second_ring) + bytes(120)


def gpadl_messages(
    relid: int, gpadl: int, pages: Sequence[int], *, numbers: int | None = None
) -> list[bytes]:
    """The header, then the bodies.

    pages     addresses
    numbers   the number of the first body, where the guest numbers them; Linux leaves them 0
    """
    listed = [page // PAGE for page in pages]
    first, others = listed[:IN_HEADER], listed[IN_HEADER:]
    head = struct.pack("<IIIIHHII", 8, 0, relid, gpadl, 8 + 8 * len(listed), 1, PAGE * len(listed), 0)
    messages = [head + struct.pack(f"<{len(first)}Q", *first)]
    for place, at in enumerate(range(0, len(others), IN_BODY)):
        part = others[at : at + IN_BODY]
        number = 0 if numbers is None else numbers + place
        messages.append(struct.pack("<IIII", 9, 0, number, gpadl) + struct.pack(f"<{len(part)}Q", *part))
    return messages
