"""Rings whose memory may be taken away while it is read.

The kernel takes the pages of a `ring` file out of every mapping when the device goes, and those of a plain file
are gone when somebody cuts it short.  Touching one then ends the process with SIGBUS.  A system call that is given
such bytes answers EFAULT instead: so bytes are copied by one, and before a control word is loaded, which must be
one access, one looks whether it is there.  What is left is the moment between that look and the load.

Only to read.  Sizes and offsets are in bytes.

Sources: Linux fs/kernfs/file.c, kernfs_drain_open_files() and kernfs_vma_fault(); write(2), EFAULT.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vmbus.errors import DeviceError
from vmbus.memory import ControlWords, RingMem, control_words

from .rings import MappedRings

__all__ = ["fading"]


class Copier:
    """Copies bytes that may not be there, through a file of its own; DeviceError where they are not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def copy(self, view: memoryview) -> bytes:
        try:
            copied = os.pwrite(self._descriptor, view, 0)
        except OSError as error:
            raise gone() from error
        if copied != len(view):
            raise gone()
        return os.pread(self._descriptor, copied, 0)


def gone() -> DeviceError:
    return DeviceError(
        errno.ENODEV, "the memory of the rings was taken away: the device is gone, or its file is cut short"
    )


class FadingWords:
    """Control words, each loaded once there is no doubt that they are there."""

    readonly = True

    def __init__(self, view: memoryview, copier: Copier) -> None:
        self._words = control_words(view)
        self._first = view[:1]
        self._copier = copier

    def __getitem__(self, word: int, /) -> int:
        self._copier.copy(self._first)
        return self._words[word]

    def __setitem__(self, word: int, value: int, /) -> None:
        raise TypeError("these control words can only be read")

    def close(self) -> None:
        self._words.release()
        self._first.release()


class FadingRingMem(RingMem):
    """One ring, to be read.

    view          its control page and its data
    header_size   bytes from its control page to its data
    """

    def __init__(self, view: memoryview, header_size: int, copier: Copier) -> None:
        self._words = FadingWords(view, copier)
        self._data = view[header_size:]
        self._copy = copier.copy

    @property
    def control(self) -> ControlWords:
        return self._words

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        start = offset % self.size
        first = self._copy(self._data[start : start + length])
        return first if len(first) == length else first + self._copy(self._data[: length - len(first)])

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        raise TypeError("this memory can only be read")

    def close(self) -> None:
        self._words.close()
        self._data.release()


@contextmanager
def fading(rings: MappedRings) -> Iterator[tuple[RingMem, RingMem]]:
    """The outbound and the inbound ring, to be read for a while; as they are where the system has no memfd."""
    if not hasattr(os, "memfd_create"):
        yield rings.outbound, rings.inbound
        return
    descriptor = os.memfd_create("vmbus-copy", os.MFD_CLOEXEC)
    try:
        copier = Copier(descriptor)
        with rings.views() as views:
            outbound, inbound = (FadingRingMem(view, rings.halves.header_size, copier) for view in views)
            try:
                yield outbound, inbound
            finally:
                outbound.close()
                inbound.close()
    finally:
        os.close(descriptor)
