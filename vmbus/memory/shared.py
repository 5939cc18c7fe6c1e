"""Memory that several processes map: a file, or a memfd that has no name.

A mapping stays valid after the file is deleted and after the descriptor is closed, but not after
the file is cut short: touching a page that is gone ends the process with SIGBUS.  A memfd made
here is therefore sealed against shrinking; for a file, the caller answers for its length.

Sources: memfd_create(2), mmap(2), fcntl(2) on file sealing.
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import sys
import weakref
from types import TracebackType
from typing import final

from vmbus.errors import CallerError, DeviceError

__all__ = ["SharedMemory"]


@final
class SharedMemory:
    """Bytes in a file or memfd, mapped into this process and into others.

    Made by `create` or `open`, never directly.  `map` gives views of the bytes: a view, and a
    ring memory over it, keeps the memory open until it is released or collected.  `fileno` can
    be sent to another process, which passes it to `open`.

    size       bytes
    readonly   whether this mapping can only be read

    >>> from vmbus.memory import FlatRingMem
    >>> with SharedMemory.create(3 * 4096) as shared, FlatRingMem.over(shared.map()) as memory:
    ...     memory.size
    8192
    """

    def __init__(self, descriptor: int, size: int, *, readonly: bool) -> None:
        access = mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE
        self._mapping = mmap.mmap(descriptor, size, access=access)
        self._descriptor = descriptor
        self._release = weakref.finalize(self, os.close, descriptor)  # also when nobody calls close()
        self.size = size
        self.readonly = readonly

    @classmethod
    def create(cls, size: int, path: str | os.PathLike[str] | None = None) -> SharedMemory:
        """`size` zeroed bytes: a new file at `path`, or without one a memfd that has no name.

        The file must not exist yet.  Where the system has no memfd a deleted file does as well.
        Raises CallerError for a size below 1, DeviceError when the system refuses; then no file
        is left behind.
        """
        if not 1 <= size <= sys.maxsize:
            raise CallerError(
                f"shared memory has from 1 to {sys.maxsize} bytes, not {size}",
                argument="size",
                value=size,
                limit=1 if size < 1 else sys.maxsize,
            )
        try:
            if path is None:
                descriptor = nameless()
            else:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.truncate(descriptor, size)
                if path is None:
                    seal_size(descriptor)
                else:
                    reserve(descriptor, size)
                return cls(descriptor, size, readonly=False)
            except BaseException:
                os.close(descriptor)
                if path is not None:
                    os.unlink(path)  # or the next attempt would find half a file in its way
                raise
        except OSError as error:
            raise device_error(
                error, f"cannot create {size} bytes of shared memory{f' at {path}' if path else ''}"
            ) from error
        except ValueError as error:  # a zero byte in the name
            raise argument_error(error, path) from error

    @classmethod
    def open(cls, file: str | os.PathLike[str] | int, *, readonly: bool = False) -> SharedMemory:
        """Map all of a file: a path, or a descriptor, which stays the caller's own.

        Raises DeviceError when the system refuses, CallerError for an empty file.
        """
        try:
            if isinstance(file, int):
                descriptor = os.dup(file)
            else:
                descriptor = os.open(file, os.O_RDONLY if readonly else os.O_RDWR)
            try:
                size = os.fstat(descriptor).st_size
                if size == 0:
                    raise CallerError(
                        f"{file!r} is empty: there is nothing to map", argument="file", value=0, limit=1
                    )
                return cls(descriptor, size, readonly=readonly)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise device_error(error, f"cannot map {file!r}") from error
        except ValueError as error:  # a zero byte in the name; or the file shrank meanwhile
            raise argument_error(error, file) from error

    def fileno(self) -> int:
        """The descriptor behind the memory, for passing on; CallerError when closed."""
        if not self._release.alive:
            raise closed_error()
        return self._descriptor

    def map(self, offset: int = 0, length: int | None = None) -> memoryview:
        """A view of `length` bytes at `offset`, or of all from there on.

        Raises CallerError when that is not inside the memory, or the memory is closed.
        """
        if not self._release.alive:
            raise closed_error()
        end = self.size if length is None else offset + length
        if not 0 <= offset <= end <= self.size:
            raise CallerError(
                f"bytes {offset} to {end} are not inside shared memory of {self.size} bytes",
                argument="offset",
                value=(offset, length),
                limit=self.size,
            )
        return memoryview(self._mapping)[offset:end]

    def close(self) -> None:
        """Unmap; again is harmless.  The bytes live on while another process maps them.

        Raises CallerError, and closes nothing, while a view or a ring memory over one is alive.
        """
        if not self._release.alive:
            return
        try:
            self._unmap()
        except BufferError:
            raise CallerError(
                f"shared memory of {self.size} bytes is still in use: close the ring memories over it, and "
                "release the views of it, first",
                argument="views",
                value="alive",
                limit="none alive",
            ) from None
        self._release()

    def _unmap(self) -> None:
        try:
            self._mapping.close()
        except BufferError:
            # The error that stopped a ring, and its traceback, hold the ring in a circle: nobody
            # can reach it, and it is there until it is collected.
            gc.collect()
            self._mapping.close()

    def __enter__(self) -> SharedMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except CallerError:
            # The block's own error says more than the views that its traceback keeps alive.
            if error is None:
                raise

    def __repr__(self) -> str:
        state = f"{self.size} bytes" if self._release.alive else "closed"
        return f"<SharedMemory: {state}{', read-only' if self.readonly else ''}>"


def nameless() -> int:
    """A descriptor of an empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vmbus", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile  # slow to import, and Linux never needs it

    descriptor, path = tempfile.mkstemp(prefix="vmbus-")
    if os.name == "posix":  # elsewhere an open file cannot be deleted
        os.unlink(path)
    return descriptor


def reserve(descriptor: int, size: int) -> None:
    """Have the file's space now: a full file system would later end whoever touches a new page."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what it says where it cannot
                raise


def seal_size(descriptor: int) -> None:
    """Keep every process from shrinking a memfd under the feet of the others."""
    try:
        import fcntl
    except ImportError:
        return
    if hasattr(fcntl, "F_ADD_SEALS") and hasattr(os, "memfd_create"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)


def device_error(error: OSError, what: str) -> DeviceError:
    """The system's refusal as ours, with its errno and a sentence."""
    return DeviceError(error.errno, f"{what}: {error.strerror or error}")


def argument_error(error: ValueError, file: object) -> CallerError:
    """What a call refused, as our error; ours is kept as it is."""
    if isinstance(error, CallerError):
        return error
    return CallerError(f"{file!r} cannot be mapped: {error}", argument="file", value=file, limit="a file")


def closed_error() -> CallerError:
    return CallerError("this shared memory is closed", argument="self", value="closed", limit="open")
