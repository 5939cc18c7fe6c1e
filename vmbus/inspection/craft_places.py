"""Where packets and other stretches of bytes go in the data area of a ring that is made.

Stretches may overlap where they say the same.  Offsets are in bytes from the start of the data area.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.sizes import SLOT

from .craft_packets import CraftedPacket
from .craft_values import Spec, refuse

__all__ = ["Part", "first_offset", "joined_parts", "place_consumed", "place_packets"]

#: Bytes at an offset of the data area, and the path of what says so.
Part = tuple[int, bytes, str]


def first_offset(packets: list[CraftedPacket]) -> int | None:
    return packets[0].offset if packets else None


def place_consumed(
    spec: Spec, packets: list[CraftedPacket], out: int | None, size: int
) -> tuple[int, list[Part]]:
    """The packets that were read, which end at `out` where they do not say where they are; and where they end."""
    start = 0
    if out is not None and packets and all(packet.offset is None for packet in packets):
        start = (out - sum(packet.takes for packet in packets)) % size
    elif packets and packets[0].offset is None and any(packet.offset is not None for packet in packets):
        packets[0].spec.refuse("offset", "is missing, and others in the list have one")
    end, parts = chained(spec.at("consumed"), packets, start, size)
    return end if out is None else out, parts


def place_packets(spec: Spec, packets: list[CraftedPacket], out: int, size: int) -> tuple[int, list[Part]]:
    """The packets that wait, from `out` on where they do not say where they are; and where they end."""
    if packets and packets[0].offset is None and out not in range(0, size, SLOT):
        refuse(
            spec.at("control.out"), f"is {out}, where no packet can begin: a multiple of {SLOT} below {size}"
        )
    return chained(spec.at("packets"), packets, out, size)


def chained(path: str, packets: list[CraftedPacket], start: int, size: int) -> tuple[int, list[Part]]:
    """Packets at their offsets, or behind the one before; and where the last one ends."""
    total = sum(packet.takes for packet in packets if packet.offset is None)
    if total > size - SLOT:
        refuse(path, f"take {total} bytes, and the ring holds {size - SLOT} at most")
    parts, at = [], start
    for packet in packets:
        if packet.offset is not None:
            at = packet.offset
        if at not in range(0, size, SLOT):
            packet.spec.refuse("offset", f"is a multiple of {SLOT} below {size}, not {at}")
        if packet.is_left_out:
            continue
        if packet.takes > size:
            refuse(packet.spec.path, f"has {packet.takes} bytes, and the ring {size}")
        packet.check_footer_place(at, size)
        parts.append((at, packet.data(at), packet.spec.path))
        at = (at + packet.takes) % size
    return at, parts


def joined_parts(parts: list[Part], size: int) -> Iterator[tuple[int, bytes]]:
    """Parts in order, those that touch or overlap as one; CallerError where two differ."""
    cut = [piece for at, data, path in parts for piece in cut_at_end(at, data, path, size)]
    begin, joined, last = 0, bytearray(), ""
    for at, data, path in sorted(cut, key=lambda part: part[0]):
        if joined and at <= begin + len(joined):
            common = min(begin + len(joined) - at, len(data))
            if joined[at - begin : at - begin + common] != data[:common]:
                refuse(path, f"says other bytes than {last} at {at:#06x} of the data area")
            joined += data[common:]
        else:
            if joined:
                yield begin, bytes(joined)
            begin, joined = at, bytearray(data)
        last = path
    if joined:
        yield begin, bytes(joined)


def cut_at_end(at: int, data: bytes, path: str, size: int) -> Iterator[Part]:
    """A part, and what of it goes over the end of the ring."""
    yield at, data[: size - at], path
    if len(data) > size - at:
        yield 0, data[size - at :], path
