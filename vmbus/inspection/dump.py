"""The bytes to look at: a file mapped into memory, or what came from a pipe.

Only raw files are known: byte n of the file is byte n of the memory.  Files are mapped read-only,
so that a large one costs nothing until it is looked at.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from vmbus.errors import DeviceError, DumpError
from vmbus.memory import SharedMemory

__all__ = ["LARGEST_STREAM", "Dump", "open_dump", "read_stream", "sample_path"]

#: The most bytes taken from a pipe, which cannot be mapped.
LARGEST_STREAM = 1 << 30

READ_SIZE = 1 << 20


class Dump:
    """Bytes with the name they came under.

    path     what to call them in messages
    format   how they were stored: always "raw"
    data     the bytes, read-only
    """

    format = "raw"

    def __init__(self, path: str, data: memoryview) -> None:
        self.path = path
        self.data = data.toreadonly()

    @property
    def size(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Dump {self.path!r}: {self.size} bytes, {self.format}>"


def open_dump(path: str | os.PathLike[str]) -> Dump:
    """The bytes of a file; one that has no size, such as a named pipe, is read to its end.

    Raises DumpError, whose message says what is wrong, when there are none to be had.
    """
    name = os.fspath(path)
    try:
        if os.path.isdir(name):
            raise DumpError("is a directory; a dump is a file", path=name)
        if os.path.isfile(name) and os.path.getsize(name) > 0:
            return Dump(name, SharedMemory.open(name, readonly=True).map())
        with open(name, "rb") as stream:
            return read_stream(stream, name)
    except (DeviceError, OSError) as error:
        why = os.strerror(error.errno) if error.errno else error
        raise DumpError(f"cannot be read: {why}", path=name) from error
    except ValueError as error:  # it shrank or was emptied meanwhile; or its name holds a zero byte
        raise DumpError(f"cannot be read: {error}", path=name) from error


def read_stream(stream: BinaryIO, name: str) -> Dump:
    """All bytes of a stream that cannot be mapped.

    Raises DumpError when there are none, or more than fit into memory with a good conscience.
    """
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
    return Dump(name, memoryview(data))


def sample_path() -> str:
    """A dump that comes with the package: the two rings of a channel."""
    return os.path.join(os.path.dirname(__file__), "sample.bin")
