"""The system calls on /dev/uioN.

    read(4)    the running number of interrupts, once it differs from the one this descriptor has read last;
               until then it would wait.  After the device was revoked: EIO
    write(4)   not 0: clear the interrupt mask of the inbound ring, and signal the host unless the channel is
               monitored; 0: set the mask
    mmap       map K stands at offset K times the size of the kernel's pages
    poll       readable when read would not wait

Numbers are signed, of 4 bytes, in the machine's own order; any other length is refused with EINVAL.

Sources: Linux drivers/uio/uio.c, uio_read(), uio_write(), uio_poll(), uio_mmap();
drivers/uio/uio_hv_generic.c, hv_uio_irqcontrol().
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from typing import Protocol

from vmbus.errors import CallerError, DeviceError

__all__ = ["QUIETLY", "SystemNode", "UioNode", "map_descriptor", "refused"]

#: How files are opened, as far as this system knows: a pipe that nobody writes to must not hang this.
QUIETLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class UioNode(Protocol):
    """/dev/uioN, opened without blocking.  Tests bring one of their own."""

    def fileno(self) -> int:
        """What to poll."""
        ...

    def read(self, length: int) -> bytes:
        """read(2).  BlockingIOError where it would wait; OSError as the kernel answers."""
        ...

    def write(self, data: bytes) -> int:
        """write(2).  OSError as the kernel answers."""
        ...

    def map(self, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        """mmap(2), shared.  DeviceError where the kernel refuses."""
        ...

    def close(self) -> None:
        """close(2); again is harmless.  The last one closes the channel."""
        ...


class SystemNode:
    """The device itself.

    path       such as /dev/uio0
    writable   False: nothing can be stored in what is mapped, and nobody signaled

    Raises DeviceError when the system refuses.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        flags = os.O_RDWR if writable else os.O_RDONLY
        self.path = path
        try:
            self._descriptor = os.open(path, flags | QUIETLY)
        except OSError as error:
            raise refused(error, path) from error
        self._release = weakref.finalize(self, os.close, self._descriptor)  # also when nobody calls close()

    def fileno(self) -> int:
        return self._descriptor

    def read(self, length: int) -> bytes:
        return os.read(self._descriptor, length)

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def map(self, offset: int, length: int, *, writable: bool) -> mmap.mmap:
        return map_descriptor(self._descriptor, self.path, offset, length, writable=writable)

    def close(self) -> None:
        self._release()
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"<SystemNode: {self.path}{', closed' if self._descriptor < 0 else ''}>"


def refused(error: OSError, path: str) -> DeviceError:
    """What to raise for a device or a file of one that cannot be opened."""
    hint = ": usually only root may open it (sudo)" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return DeviceError(error.errno, f"{path}: {error.strerror}{hint}")


def map_descriptor(descriptor: int, path: str, offset: int, length: int, *, writable: bool) -> mmap.mmap:
    """`length` bytes at `offset` of an open file, shared; DeviceError, which names `path`, when refused."""
    if length <= 0:
        raise CallerError(
            f"{path}: {length} bytes cannot be mapped", argument="length", value=length, limit="more than 0"
        )
    try:
        return mmap.mmap(
            descriptor,
            length,
            access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ,
            offset=offset,
        )
    except (OSError, ValueError, OverflowError) as error:  # longer than the file; than any memory
        raise DeviceError(
            getattr(error, "errno", None), f"{path}: {length} bytes at {offset:#x} cannot be mapped: {error}"
        ) from error
