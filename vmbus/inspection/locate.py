"""Which rings a raw file holds: one, a pair, or none.

A file that nobody has said anything about is one ring when it looks like one.  A second ring in it
is believed only where everything agrees: then both are shown, the first as outbound (a channel's
memory begins with the ring from guest to host).

Sources: Linux drivers/hv/channel.c lays out both rings of a channel one behind the other; Linux
drivers/hv/ring_buffer.c writes feature bits 1 into both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.errors import DumpError
from vmbus.layout import CONTROL_PAGE, ControlPage, FeatureBits
from vmbus.memory import FlatRingMem
from vmbus.ring import inspect_ring, is_offset
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE

from .dump import Dump
from .findings import Finding, Severity
from .walk import walk

__all__ = ["RingPlace", "ring_at", "rings_in"]

ZERO_CHUNK = 1 << 20

#: So many suspects are walked before a file counts as one ring: each may cost a walk of it all.
MOST_SUSPECTS = 16


class RingPlace(NamedTuple):
    """Where a ring lies in a dump.

    address       of the control page, in bytes from the start of the dump
    header_size   bytes from there to the data area
    data_size     bytes of the data area
    role          "outbound" or "inbound" in a pair, else None
    findings      what was found on the way
    """

    address: int
    header_size: int
    data_size: int
    role: str | None = None
    findings: tuple[Finding, ...] = ()


def ring_at(dump: Dump, address: int, header_size: int, data_size: int) -> RingPlace:
    """The ring that the caller says is there; DumpError when the dump ends before it does."""
    end = address + header_size + data_size
    if end > dump.size:
        raise DumpError(
            f"a ring of {data_size} bytes at {address:#x} ends at {end:#x}, and the file has {dump.size} "
            "bytes; a smaller --data-size would fit",
            path=dump.path,
            place=dump.size,
        )
    return RingPlace(address, header_size, data_size)


def rings_in(dump: Dump, address: int, header_size: int, *, said: bool) -> list[RingPlace]:
    """The ring or the pair that fills the dump from `address` on.

    said   whether the caller says that there is a ring: then any control words and all zeros do

    Raises DumpError with what speaks against a ring.
    """
    data_size = dump.size - address - header_size
    if data_size < PAGE_SIZE or data_size % PAGE_SIZE or data_size > MAXIMUM_DATA_SIZE:
        raise DumpError(
            f"no ring fills the {max(dump.size - address, 0)} bytes from {address:#x} on: behind a control "
            f"page of {header_size} bytes it has a multiple of {PAGE_SIZE}, up to {MAXIMUM_DATA_SIZE}; "
            "--offset and --data-size say where one is",
            path=dump.path,
            place=address,
        )
    place = RingPlace(address, header_size, data_size)
    if not said:
        check_looks_like_a_ring(dump, place)
    return with_second_ring(dump, place)


def check_looks_like_a_ring(dump: Dump, place: RingPlace) -> None:
    """Raise DumpError when a file that nobody vouches for shows no ring at its start."""
    wrong = control_words_wrong(control_page(dump, place.address), place.data_size)
    if wrong is None and is_zero(dump.data[place.address :]):
        wrong = "all bytes are zero"
    if wrong is not None:
        raise DumpError(
            f"no ring at {place.address:#x}: {wrong}; --offset {place.address:#x} shows it as one all the same",
            path=dump.path,
            place=place.address,
        )


def control_page(dump: Dump, address: int) -> ControlPage:
    return inspect_ring(dump.data[address : address + CONTROL_PAGE.size])


def control_words_wrong(control: ControlPage, data_size: int) -> str | None:
    """What keeps control words from being those of a ring of `data_size` bytes, or None."""
    for name, value in (("in", control.in_offset), ("out", control.out_offset)):
        if not is_offset(data_size, value):
            return f"{name} would be {value:#x}, and in {data_size} bytes it is a multiple of 8 below that"
    if control.interrupt_mask > 1:
        return f"the interrupt mask would be {control.interrupt_mask:#x}, and it is 0 or 1"
    return None


def is_zero(data: bytes | memoryview) -> bool:
    """True when the bytes are all zero; a piece at a time, for they may be many."""
    zeros = bytes(ZERO_CHUNK)
    view = memoryview(data)
    return all(
        view[at : at + ZERO_CHUNK].tobytes() == zeros[: min(ZERO_CHUNK, len(view) - at)]
        for at in range(0, len(view), ZERO_CHUNK)
    )


def with_second_ring(dump: Dump, first: RingPlace) -> list[RingPlace]:
    """The pair of which `first` is the start, or `first` alone."""
    suspects = list(second_control_pages(dump, first))
    for address in suspects:
        outbound = first._replace(data_size=address - first.address - first.header_size, role="outbound")
        data_size = dump.size - address - first.header_size
        inbound = RingPlace(address, first.header_size, data_size, role="inbound")
        if ends_at_in(dump, outbound) and ends_at_in(dump, inbound):
            return [outbound, inbound]
    if suspects:
        message = (
            f"a page at {suspects[0]:#x} looks like the control page of a second ring, but the packets "
            "do not bear it out; --data-size says where this ring ends"
        )
        return [first._replace(findings=(Finding("maybe-a-pair", Severity.NOTE, None, message),))]
    return [first]


def second_control_pages(dump: Dump, first: RingPlace) -> Iterator[int]:
    """Addresses behind the first ring's control page where a page has the shape of another.

    The middle comes first: the two rings of a channel are mostly of one size.
    """
    header_size = first.header_size
    low = first.address + header_size + PAGE_SIZE
    high = dump.size - header_size - PAGE_SIZE
    middle = (first.address + dump.size) // 2
    addresses = [at for at in range(low, high + 1, PAGE_SIZE) if has_control_shape(dump, at, header_size)]
    yield from sorted(addresses, key=lambda at: at != middle)[:MOST_SUSPECTS]


def has_control_shape(dump: Dump, address: int, header_size: int) -> bool:
    data = dump.data
    control = control_page(dump, address)
    return (
        (
            control.feature_bits == FeatureBits.SUPPORTS_PENDING_SEND_SIZE
            or control.in_offset > 0
            or control.out_offset > 0
        )
        and control.feature_bits <= FeatureBits.SUPPORTS_PENDING_SEND_SIZE
        and control_words_wrong(control, dump.size - address - header_size) is None
        and not control.other_words
        and is_zero(data[address + CONTROL_PAGE.size : address + PAGE_SIZE])
    )


def ends_at_in(dump: Dump, place: RingPlace) -> bool:
    """True when indices and packets of a ring fit its size, packet after packet up to in."""
    control = control_page(dump, place.address)
    if control_words_wrong(control, place.data_size) is not None:
        return False
    packets = walk(memory_of(dump, place), control.out_offset, control.in_offset)
    return all(packet.whole for packet in packets)


def memory_of(dump: Dump, place: RingPlace) -> FlatRingMem:
    """The ring as a read-only memory."""
    end = place.address + place.header_size + place.data_size
    return FlatRingMem.over(dump.data[place.address : end], header_size=place.header_size)
