"""Which format a memory image has, by its first bytes.

Wrappings (gzip and its like, makedumpfile's flattened form) are taken off first, and what is inside is looked
at again.  What nothing here knows is raw memory, where byte n of the file is byte n of the memory.

A loader is imported when a file of its format is opened, and not before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from vmbus.errors import DumpError

from . import magics
from .dump import Dump
from .findings import Finding
from .raw import RawDump, RawFileDump
from .source import BytesSource, FileSource, Source, file_error

__all__ = ["FORMATS", "LARGEST_STREAM", "MOST_WRAPPINGS", "open_dump", "read_stream"]

#: The most bytes taken from a pipe, which can be read only once.
LARGEST_STREAM = 1 << 30

READ_SIZE = 1 << 20

#: So many wrappings are taken off, one inside the other.
MOST_WRAPPINGS = 4

Progress = Callable[[int, int], object]


def elf(source: Source) -> Dump:
    from .load_elf import load

    return load(source)


def lime(source: Source) -> Dump:
    from .load_lime import load

    return load(source)


def avml(source: Source) -> Dump:
    from .load_avml import load

    return load(source)


def kdump(source: Source) -> Dump:
    from .load_kdump import load

    return load(source)


def dmp(source: Source) -> Dump:
    from .load_dmp import load

    return load(source)


def vmrs(source: Source) -> Dump:
    from .load_vmrs import load

    return load(source)


class Format(NamedTuple):
    """How an image begins, and what opens it.

    magic   bytes of it
    place   where in the file they are
    what    what it is, with the name that `vmbus scan` has for it
    """

    magic: bytes
    place: int
    load: Callable[[Source], Dump]
    what: str


#: The formats of memory images; the first that fits counts.
FORMATS = (
    Format(magics.ELF, 0, elf, "an ELF core (elf)"),
    Format(magics.LIME, 0, lime, "an image of LiME (lime)"),
    Format(magics.AVML, 0, avml, "an image of AVML (avml)"),
    Format(magics.KDUMP, 0, kdump, KDUMP_WORDS := "a compressed kernel dump (kdump)"),
    Format(magics.DISKDUMP, 0, kdump, KDUMP_WORDS),
    Format(magics.WINDOWS_64, 0, dmp, DMP_WORDS := "a Windows dump (dmp)"),
    Format(magics.WINDOWS_32, 0, dmp, DMP_WORDS),
    Format(magics.HYPERV_STORAGE, 0, vmrs, VMRS_WORDS := "a Hyper-V saved state (hyper-v-vmrs)"),
    Format(magics.HYPERV_STORAGE, 4096, vmrs, VMRS_WORDS),
)

#: Images that are known by name alone: what they are, and what makes one of them that can be read.
UNSUPPORTED = (
    (b"QEVM", "a migration stream of QEMU; `dump-guest-memory` writes a core that can be read"),
    (
        b"LibvirtQemudSave",
        "a saved state of libvirt; `virsh dump --memory-only` writes a core that can be read",
    ),
    (b"\xd0\xbe\xd0\xbe", VMWARE := "a saved state of VMware; its .vmem file is raw, with a map (--map)"),
    (b"\xd2\xbe\xd2\xbe", VMWARE),
    (b"\xd3\xbe\xd3\xbe", VMWARE),
    (b"\xd1\xba\xd1\xba", VMWARE),
    (b"\xd2\xba\xd2\xba", VMWARE),
)

#: So many bytes are unpacked to see whether they are zlib's.
TRIED = 4096


def open_dump(
    path: str | os.PathLike[str],
    *,
    memory_map: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Dump:
    """The memory in a file, whatever its format; one that has no size, such as a named pipe, is read to its end.

    memory_map   a file that says where the stretches of a raw file belong: lines of /proc/iomem, or of
                 address, length and offset
    progress     told, while something is unpacked, how many bytes of how many are done

    Raises DumpError, whose message says what is wrong, when there is none to be had.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise DumpError("is a directory; a dump is a file", path=name)
    source = source_of(name)
    try:
        return dump_in(source, memory_map, progress)
    except BaseException:
        source.close()
        raise


def source_of(path: str) -> Source:
    """The bytes of a file that can be read at any place; else all there are, in memory."""
    if "\0" in path:  # what Python says of it differs from version to version
        raise DumpError("cannot be read: its name holds a zero byte", path=path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISBLK(mode) or (stat.S_ISREG(mode) and os.path.getsize(path)):
            return FileSource(path)
        with open(path, "rb") as stream:
            return BytesSource(path, stream_bytes(stream, path))
    except OSError as error:
        raise file_error(error, path) from error


def read_stream(stream: BinaryIO, name: str, *, memory_map: str | os.PathLike[str] | None = None) -> Dump:
    """The memory in what comes from a stream.

    Raises DumpError when there are no bytes, or more than fit into memory with a good conscience.
    """
    return dump_in(BytesSource(name, stream_bytes(stream, name)), memory_map)


def dump_in(
    source: Source,
    memory_map: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Dump:
    """The memory in the bytes of a source, whose format is found out."""
    source, findings = unwrapped(source, progress)
    try:
        dump = loaded(source, memory_map)
    except BaseException:
        source.close()  # what was unpacked is in a file of its own
        raise
    dump.findings[:0] = findings
    return dump


def loaded(source: Source, memory_map: str | os.PathLike[str] | None) -> Dump:
    """The memory in bytes that have no wrapping any more."""
    known = format_of(source)
    if memory_map is None:
        return (raw if known is None else known.load)(source)
    if known is not None:
        raise DumpError(
            f"is {known.what}, which says itself where its memory belongs; --map is for raw files",
            path=source.path,
            place=known.place,
        )
    from .memory_map import load_mapped, read_map

    return load_mapped(source, read_map(memory_map))


def unwrapped(source: Source, progress: Progress | None = None) -> tuple[Source, list[Finding]]:
    """What is inside the wrappings of a file, and what is wrong with them."""
    findings: list[Finding] = []
    unpacked = False
    for _ in range(MOST_WRAPPINGS):
        first = first_bytes(source, len(magics.FLATTENED))
        if first == magics.FLATTENED:
            from .flattened import unflatten

            source, found = unflatten(source)
        elif is_compressed(source, first):
            from .compressed import unpack

            source, found = unpack(source, progress=progress)
            unpacked = True
        else:
            source.unpacked = unpacked
            return source, findings
        findings += found
    raise DumpError(f"has more than {MOST_WRAPPINGS} wrappings, one inside the other", path=source.path)


def is_compressed(source: Source, first: bytes) -> bool:
    """Whether a file is a compressed one: gzip, zlib, xz, bzip2 or zstd."""
    if first.startswith((magics.GZIP, magics.BZIP2, magics.ZSTD, magics.XZ)):
        return True
    # zlib: a window of 32 KiB, or LiME's of 2 KiB, and a checksum that makes it a multiple of 31.
    if first[:1] not in (b"\x78", b"\x38") or int.from_bytes(first[:2], "big") % 31:
        return False
    return begins_as_zlib(first_bytes(source, TRIED))


def begins_as_zlib(first: bytes) -> bool:
    """Whether bytes can be unpacked: a ring whose `in` is 0x178 begins as zlib does, and then not."""
    import zlib

    try:
        return bool(zlib.decompressobj().decompress(first, TRIED)) or len(first) < TRIED
    except zlib.error:
        return False


def format_of(source: Source) -> Format | None:
    """The format of a source that has no wrapping; None: it is raw."""
    for known in FORMATS:
        length = len(known.magic)
        if source.size >= known.place + length and source.read(known.place, length) == known.magic:
            return known
    first = first_bytes(source, max(len(magic) for magic, _ in UNSUPPORTED))
    for magic, what in UNSUPPORTED:
        if first.startswith(magic):
            raise DumpError(f"is {what}", path=source.path, place=0)
    return None


def raw(source: Source) -> Dump:
    if isinstance(source, BytesSource):
        return RawDump(source.path, source.data)
    return RawFileDump(source)


def first_bytes(source: Source, count: int) -> bytes:
    return source.read(0, min(count, source.size))


def stream_bytes(stream: BinaryIO, name: str) -> memoryview:
    """All bytes of a stream; DumpError when there are none, or too many."""
    data = bytearray()
    # A buffered stream's read() goes on in C until it has all, and a Ctrl-C meanwhile would wait as long.
    read = getattr(stream, "read1", stream.read)
    while chunk := read(READ_SIZE):
        data += chunk
        if len(data) > LARGEST_STREAM:
            raise DumpError(
                f"has more than {LARGEST_STREAM} bytes, too many for a pipe; save it to a file first",
                path=name,
                place=LARGEST_STREAM,
            )
    if chunk is None:
        raise DumpError("is set not to wait for its bytes, and they are not there yet", path=name)
    if not data:
        raise DumpError("is empty", path=name, place=0)
    return memoryview(data)
