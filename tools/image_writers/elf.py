"""Writes ELF64 cores, right ones and wrong ones, for tests and samples.

An own reading of the System V gABI (chapters 4 and 5) and of what QEMU and makedumpfile do with it: nothing
is shared with what reads them.  Everything is spelled field by field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["elf_core", "elf_header", "elf_load", "elf_section"]

Regions = Sequence[tuple[int, bytes]]

LOAD, NOTE = 1, 4


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def elf_header(
    *,
    count: int,
    stride: int = 56,
    headers_at: int = 64,
    sections_at: int = 0,
    section_count: int = 0,
    names_in: int = 0,
    elf_class: int = 2,
    byte_order: int = 1,
    kind: int = 4,
    machine: int = 62,
    flags: int = 0,
) -> bytes:
    """The first 64 bytes."""
    parts = [
        b"\x7fELF" + bytes([elf_class, byte_order, 1]) + bytes(9),
        number(kind, 2) + number(machine, 2) + number(1, 4),
        number(0, 8) + number(headers_at, 8) + number(sections_at, 8),
        number(flags, 4) + number(64, 2) + number(stride, 2) + number(count, 2),
        number(64 if sections_at else 0, 2) + number(section_count, 2) + number(names_in, 2),
    ]
    return b"".join(parts)


def elf_load(
    *,
    offset: int,
    address: int,
    in_file: int,
    in_memory: int | None = None,
    virtual: int = 0,
    kind: int = LOAD,
    stride: int = 56,
) -> bytes:
    """One program header."""
    in_memory = in_file if in_memory is None else in_memory
    fields = number(kind, 4) + number(7, 4)
    for field in (offset, virtual, address, in_file, in_memory, 0):
        fields += number(field, 8)
    return fields.ljust(stride, b"\xee")


def elf_section(*, name: int = 0, offset: int = 0, size: int = 0, info: int = 0) -> bytes:
    """One section header."""
    head = number(name, 4) + number(0, 4) + number(0, 8) + number(0, 8)
    return head + number(offset, 8) + number(size, 8) + number(0, 4) + number(info, 4) + bytes(16)


def elf_core(
    regions: Regions,
    *,
    tails: Iterable[int] = (),
    virtual: Iterable[int] = (),
    stride: int = 56,
    note: bytes = b"",
    extended_count: bool = False,
    flags: int = 0,
    machine: int = 62,
) -> bytes:
    """A core with a segment for each region.

    tails            of each region, how many bytes of memory behind it the file leaves out
    virtual          of each region, its virtual address
    note             what a PT_NOTE segment in front holds
    extended_count   the number of program headers stands in a section header, as it must from 65,535 on
    """
    tails, virtual = list(tails), list(virtual)
    count = len(regions) + bool(note)
    headers_end = 64 + stride * count
    data_at = headers_end + (64 if extended_count else 0) + len(note)
    parts = [
        elf_header(
            count=0xFFFF if extended_count else count,
            stride=stride,
            sections_at=headers_end if extended_count else 0,
            section_count=1 if extended_count else 0,
            flags=flags,
            machine=machine,
        )
    ]
    if note:
        parts.append(
            elf_load(kind=NOTE, offset=data_at - len(note), address=0, in_file=len(note), stride=stride)
        )
    for place, (address, data) in enumerate(regions):
        tail = tails[place] if place < len(tails) else 0
        parts.append(
            elf_load(
                offset=data_at,
                address=address,
                in_file=len(data),
                in_memory=len(data) + tail,
                virtual=virtual[place] if place < len(virtual) else 0,
                stride=stride,
            )
        )
        data_at += len(data)
    if extended_count:
        parts.append(elf_section(info=count))
    return b"".join([*parts, note, *(data for _, data in regions)])
