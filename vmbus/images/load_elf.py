"""ELF64 cores of whole machines: guest-physical addresses in the program headers.

Written by QEMU's dump-guest-memory and `virsh dump --memory-only`, by Linux as /proc/vmcore and /proc/kcore,
and by makedumpfile -E.  A segment (PT_LOAD) is a stretch of memory at p_paddr: p_filesz bytes of it stand in
the file, and what p_memsz has beyond them was left out by the writer, which does not mean that it is zero.

Limits: little-endian ELF64 of type CORE; at most MOST_PROGRAM_HEADERS program headers.  Cores of one process
have no guest-physical addresses and are refused; so are Xen cores, whose pages stand in sections.

Sizes and offsets are in bytes.  Sources: System V gABI, chapters 4 and 5; Linux elf.h (PN_XNUM) and
fs/proc/kcore.c; QEMU dump/dump.c; makedumpfile elf_info.c and makedumpfile.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, NoReturn

from vmbus.errors import DumpError

from . import magics
from .dump import TOP, Dump, State
from .findings import Finding, Severity
from .source import Source
from .stored import Segment, StoredDump

__all__ = ["MOST_PROGRAM_HEADERS", "ElfDump", "load"]

#: More program headers than this are not a memory image: at 4 KiB a segment they would be 16 GiB.
MOST_PROGRAM_HEADERS = 1 << 20

#: How many sections are looked at for the names that tell a Xen core.
MOST_SECTIONS = 1024

#: So many bytes of program headers are taken from the file at a time.
READ_SIZE = 1 << 20


class ElfHeader(NamedTuple):
    """The first 64 bytes of the file, without the identification at its start."""

    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int  # QEMU has written 8 here
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


class Section(NamedTuple):
    sh_name: int
    sh_type: int
    sh_flags: int
    sh_addr: int
    sh_offset: int
    sh_size: int
    sh_link: int
    sh_info: int


IDENTIFICATION_SIZE = 16
CLASS, DATA = 4, 5  # places in the identification
CLASS_64, LITTLE_ENDIAN = 2, 1

ELF_HEADER = Struct("<16xHHIQQQIHHHHHH")
SECTION = Struct("<IIQQQQII16x")
#: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz and p_align, of each program header.
PROGRAM_HEADER_FIELDS = "<IIQQQQQQ"
PROGRAM_HEADER_SIZE = 56

ET_CORE = 4
OTHER_TYPES = {1: "a relocatable file", 2: "a program", 3: "a shared library"}
PT_LOAD = 1

#: In e_phnum: the number stands in the first section header.
PN_XNUM = 0xFFFF

#: p_paddr of what has no physical address, such as the module area in /proc/kcore.
NO_ADDRESS = 2**64 - 1

#: In e_flags, by makedumpfile: its disk was full before everything was written.
INCOMPLETE = 1

#: Virtual addresses of a kernel; programs have those below.
KERNEL_HALF = 2**63

XEN_SECTIONS = {b".xen_pfn", b".xen_p2m"}

#: A section name that matters here is shorter than this.
NAME_SIZE = 16


class ElfDump(StoredDump):
    """The memory in an ELF core.  Raises DumpError when the file is not one, or has no memory."""

    def __init__(self, source: Source) -> None:
        header = read_header(source)
        refuse_xen(source, header)
        headers = ProgramHeaders(source, header)
        super().__init__(source, headers.segments(), format="elf")
        self.findings[:0] = headers.findings
        if not self.segments:
            headers.refuse_without_memory()
        if header.e_flags & INCOMPLETE:
            message = "it is marked as incomplete: makedumpfile ran out of disk space"
            self.findings.append(Finding("image-cut-short", Severity.WARNING, None, message))


def load(source: Source) -> Dump:
    return ElfDump(source)


def read_header(source: Source) -> ElfHeader:
    """The header of a core of a kind that is read here."""
    first = source.read(0, min(IDENTIFICATION_SIZE, source.size))
    if not first.startswith(magics.ELF):
        raise DumpError("is no ELF file", path=source.path, place=0)
    if len(first) == IDENTIFICATION_SIZE and first[CLASS] == 1:
        raise DumpError("is a 32-bit ELF file; only 64-bit cores are read", path=source.path, place=CLASS)
    if len(first) == IDENTIFICATION_SIZE and first[DATA] == 2:
        raise DumpError(
            "is a big-endian ELF file; only little-endian cores are read", path=source.path, place=DATA
        )
    header = ElfHeader._make(ELF_HEADER.unpack(source.read(0, ELF_HEADER.size)))
    if first[CLASS] != CLASS_64 or first[DATA] != LITTLE_ENDIAN:
        message = (
            f"has ELF class {first[CLASS]} and byte order {first[DATA]}, not {CLASS_64} and {LITTLE_ENDIAN}"
        )
        raise DumpError(message, path=source.path, place=CLASS)
    if header.e_type != ET_CORE:
        what = OTHER_TYPES.get(header.e_type, f"an ELF file of type {header.e_type}")
        raise DumpError(
            f"is {what}, not a core (type {ET_CORE})", path=source.path, place=IDENTIFICATION_SIZE
        )
    return header


def refuse_xen(source: Source, header: ElfHeader) -> None:
    """Raise DumpError for a core whose pages stand in sections."""
    for name in section_names(source, header):
        if name in XEN_SECTIONS:
            message = f"is a Xen core (it has a section {name.decode()}), which is not supported"
            raise DumpError(message, path=source.path, place=header.e_shoff)


def section_names(source: Source, header: ElfHeader) -> Iterator[bytes]:
    """The names of the sections as far as they are there, the first MOST_SECTIONS of them."""
    count = min(header.e_shnum, MOST_SECTIONS)
    size = count * SECTION.size
    if (
        header.e_shentsize != SECTION.size
        or header.e_shoff + size > source.size
        or header.e_shstrndx >= count
    ):
        return
    sections = [Section._make(fields) for fields in SECTION.iter_unpack(source.read(header.e_shoff, size))]
    names = sections[header.e_shstrndx]
    for section in sections:
        if section.sh_name < names.sh_size:
            at = names.sh_offset + section.sh_name
            left = min(NAME_SIZE, names.sh_size - section.sh_name, source.size - at)
            if left > 0:
                yield source.read(at, left).partition(b"\0")[0]


class ProgramHeaders:
    """The program headers of a core.

    findings   what is wrong with them, once `segments` has gone through
    """

    def __init__(self, source: Source, header: ElfHeader) -> None:
        self.source = source
        self.offset = header.e_phoff
        self.stride = header.e_phentsize
        self.findings: list[Finding] = []
        self.loads = 0  # those with an address and a size
        self.without_paddr = 0  # of them, those at physical address 0
        self.vaddr = 0  # a virtual address of one of them
        count = real_count(source, header)
        if count and self.stride < PROGRAM_HEADER_SIZE:
            message = f"has program headers of {self.stride} bytes; {PROGRAM_HEADER_SIZE} is the least"
            raise DumpError(message, path=source.path, place=0)
        self.count = self._there(count) if count else 0

    def _there(self, count: int) -> int:
        """How many of `count` are in the file."""
        there = max(0, (self.source.size - self.offset + self.stride - PROGRAM_HEADER_SIZE) // self.stride)
        if not there:
            message = f"ends at {self.source.size:#x}, before its program headers at {self.offset:#x}"
            raise DumpError(message, path=self.source.path, place=self.offset)
        if there < count:
            self._say(
                "image-cut-short", f"the file ends within its program headers: {there} of {count} are there"
            )
        if min(there, count) > MOST_PROGRAM_HEADERS:
            message = f"has {count} program headers; {MOST_PROGRAM_HEADERS} is the most that are read"
            raise DumpError(message, path=self.source.path, place=self.offset)
        return min(there, count)

    def segments(self) -> Iterator[Segment]:
        """The stretches of memory; first what is stored, then what was left out."""
        left_out = []
        over_top = too_large = 0
        for entry in self._entries():
            _, _, offset, vaddr, address, stored, size, _ = entry
            if not size or address == NO_ADDRESS:
                continue
            self.loads += 1
            self.without_paddr += not address
            self.vaddr = self.vaddr or vaddr
            if stored > size:
                too_large += 1
            if address + size > TOP:
                over_top += 1
                size = TOP - address
            stored = min(stored, size)
            if stored:
                yield Segment(address, stored, offset)
            if stored < size:
                left_out.append(Segment(address + stored, size - stored, offset, State.EXCLUDED))
        self.refuse_process()
        yield from left_out
        if over_top:
            self._say(
                "image-damaged", f"{over_top} segments go over the end of 64-bit addresses, and are cut there"
            )
        if too_large:
            self._say("image-damaged", f"{too_large} segments have more bytes in the file than in memory")

    def _entries(self) -> Iterator[tuple[int, ...]]:
        """The fields of every program header of type PT_LOAD."""
        if not self.count:
            return
        layout = Struct(f"{PROGRAM_HEADER_FIELDS}{self.stride - PROGRAM_HEADER_SIZE}x")
        at_a_time = READ_SIZE // self.stride
        for number in range(0, self.count, at_a_time):
            place = self.offset + number * self.stride
            size = min(at_a_time, self.count - number) * self.stride
            # Nothing need follow the fields of the last one.
            data = self.source.read(place, min(size, self.source.size - place)).ljust(size, b"\0")
            for entry in layout.iter_unpack(data):
                if entry[0] == PT_LOAD:
                    yield entry

    def refuse_process(self) -> None:
        """Raise DumpError for the core of one process: virtual addresses, and all physical ones are 0."""
        if self.without_paddr < self.loads or not self.vaddr:
            return
        if self.loads == 1 and self.vaddr >= KERNEL_HALF:
            return  # all memory in one piece, where the kernel maps it
        message = "is a core of a process: its segments have virtual addresses only, and physical address 0"
        raise DumpError(message, path=self.source.path, place=self.offset)

    def refuse_without_memory(self) -> NoReturn:
        message = (
            f"has no memory in it: none of {self.count} program headers has a physical address and a size"
        )
        raise DumpError(message, path=self.source.path, place=self.offset)

    def _say(self, check: str, message: str) -> None:
        self.findings.append(Finding(check, Severity.WARNING, None, message))


def real_count(source: Source, header: ElfHeader) -> int:
    """How many program headers there are; too many for e_phnum stand in the first section header."""
    if header.e_phnum != PN_XNUM:
        return header.e_phnum
    if not header.e_shoff:
        message = (
            f"says that it has {PN_XNUM} program headers or more, and has no section header with their number"
        )
        raise DumpError(message, path=source.path, place=0)
    if header.e_shoff + SECTION.size > source.size:
        message = (
            f"ends at {source.size:#x}, before the section header at {header.e_shoff:#x} that has the number of "
            f"its program headers"
        )
        raise DumpError(message, path=source.path, place=header.e_shoff)
    return Section._make(SECTION.unpack(source.read(header.e_shoff, SECTION.size))).sh_info
