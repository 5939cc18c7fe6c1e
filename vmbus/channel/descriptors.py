"""Descriptors that travel over Unix sockets, and their end.

Whoever receives descriptors owns them: each is closed here, or belongs to what is returned.

Sources: unix(7), cmsg(3), recvmsg(2).
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

__all__ = [
    "AT_ONCE",
    "RECEIVE_AT_ONCE",
    "Received",
    "close_all",
    "close_foreign",
    "in_child",
    "own_socket",
    "receive_with_descriptors",
    "to_child",
    "with_descriptors",
]

#: Never wait, and no signal when the other side is gone.  Asked for with each call: whether a
#: descriptor waits is a setting that all its holders share, and the other side could change it.
AT_ONCE: int = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)
RECEIVE_AT_ONCE: int = getattr(socket, "MSG_DONTWAIT", 0)
CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: What comes unasked with every message over a socket whose other holder has set SO_PASSPIDFD.
SCM_PIDFD = 4

#: struct linger: off, 0 seconds
NO_LINGER = struct.pack("ii", 0, 0)


def to_child(descriptors: Iterable[int]) -> list[Any]:
    """What to pickle in place of descriptors, for a child that multiprocessing starts."""
    from multiprocessing.reduction import DupFd  # slow to import, and only for this

    return [DupFd(one) for one in descriptors]


def in_child(passed: Iterable[Any]) -> list[int]:
    """The descriptors that `to_child` has handed to this process."""
    descriptors = [int(one.detach()) for one in passed]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def own_socket(descriptor: int) -> socket.socket:
    """A socket that owns `descriptor`, which is closed when it is none."""
    try:
        return socket.socket(fileno=descriptor)
    except BaseException:
        close_all([descriptor])
        raise


def with_descriptors(descriptors: Sequence[int]) -> list[tuple[int, int, array[int]]]:
    """What `sendmsg` is given to send them along."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]


class Received(NamedTuple):
    """What came over a socket.

    data          the bytes
    descriptors   those that came with them, now this process's own; not inherited
    cut_off       whether others did not come: more than asked for, or more than the process may have
    """

    data: bytes
    descriptors: list[int]
    cut_off: bool


def receive_with_descriptors(link: socket.socket, size: int, most: int, flags: int = 0) -> Received:
    """Up to `size` bytes and up to `most` descriptors; those beyond are closed, by the system or here."""
    numbers = array("i")
    unwanted = array("i")
    data, ancillary, answered, _ = link.recvmsg(
        size, socket.CMSG_LEN(most * numbers.itemsize), flags | CLOSE_ON_EXEC
    )
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind in (socket.SCM_RIGHTS, SCM_PIDFD):
            came = numbers if kind == socket.SCM_RIGHTS else unwanted
            came.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    descriptors = list(numbers)
    if not CLOSE_ON_EXEC:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    close_foreign([*descriptors[most:], *unwanted])
    cut_off = bool(answered & socket.MSG_CTRUNC) or len(descriptors) > most
    return Received(data, descriptors[:most], cut_off)


def close_all(descriptors: Iterable[int]) -> None:
    """Close them; one that is closed already is passed over."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def close_foreign(descriptors: Iterable[int]) -> None:
    """Close what the other side has sent.

    The last to close a socket that is set to linger waits for its data to be read, as long as
    whoever set it likes.
    """
    for descriptor in descriptors:
        try:
            one = socket.socket(fileno=descriptor)
        except OSError:  # no socket
            close_all([descriptor])
            continue
        with one, suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
