"""An end of a channel on its way to another process: one message with descriptors, over a Unix socket.

    magic   version   side   near's outgoing size   near's incoming size     + memory, bells, link

Whoever receives it trusts nothing of it: the message, the memory and each descriptor are checked, and
all that came is closed when something is wrong.

Limits: on Linux the memory must be sealed against shrinking; elsewhere nothing is sealed, and the other
side must be trusted not to shorten it.  Sizes are in bytes of a ring's data area.

Sources: unix(7), fcntl(2) on file sealing.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from enum import Enum
from typing import NamedTuple, NoReturn

from vmbus.errors import CallerError, DeviceError, PeerError
from vmbus.sizes import PAGE_SIZE, check_data_size

from .descriptors import close_foreign, receive_with_descriptors, with_descriptors

__all__ = ["HAND_OVER", "HandOverFault", "Shape", "receive_end", "send_end"]

SIDES = ("near", "far")

#: What is sent with the descriptors: magic, version, side, near's outgoing size, near's incoming size
HAND_OVER = struct.Struct("<4sBB2xII")
MAGIC = b"VMBC"
VERSION = 1

#: memory, own bell, the other's bell, link
MOST_DESCRIPTORS = 4

ON_LINUX = sys.platform == "linux"


class HandOverFault(Enum):
    """What no correct side hands over as an end of a channel."""

    MALFORMED_MESSAGE = "malformed hand-over"
    BAD_DESCRIPTOR = "descriptor of the wrong kind"
    BAD_MEMORY = "unusable memory"


class Shape(NamedTuple):
    """Which side of which channel an end is.

    side          0 near, 1 far
    near_to_far   data bytes of the first ring
    far_to_near   data bytes of the second
    """

    side: int
    near_to_far: int
    far_to_near: int

    @property
    def role(self) -> str:
        return SIDES[self.side]

    @property
    def total(self) -> int:
        """Bytes of memory that the two rings take."""
        return 2 * PAGE_SIZE + self.near_to_far + self.far_to_near

    def rings(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where in memory the outgoing ring of this side is, and the incoming one: offset, length."""
        first = (0, PAGE_SIZE + self.near_to_far)
        second = (first[1], PAGE_SIZE + self.far_to_near)
        return (first, second) if self.side == 0 else (second, first)


def send_end(sock: socket.socket, shape: Shape, descriptors: list[int]) -> None:
    """Send an end; the descriptors stay the caller's.

    Raises DeviceError when the system refuses; waits as the socket does.
    """
    message = HAND_OVER.pack(MAGIC, VERSION, *shape)
    try:
        sent = sock.sendmsg([message], with_descriptors(descriptors))
        sock.sendall(message[sent:])
    except TimeoutError:
        raise
    except OSError as error:
        raise DeviceError(error.errno, f"cannot send an end of a channel: {error.strerror}") from error


def receive_end(sock: socket.socket) -> tuple[Shape, list[int]]:
    """Receive an end that `send_end` has sent, and check all of it.

    Raises PeerError, and closes every descriptor that came, when something is wrong with it;
    DeviceError when the system refuses; waits as the socket does.
    """
    descriptors: list[int] = []
    try:
        message, descriptors, _ = receive_with_descriptors(sock, HAND_OVER.size, MOST_DESCRIPTORS)
        while message and len(message) < HAND_OVER.size:
            more = sock.recv(HAND_OVER.size - len(message))
            if not more:
                break
            message += more
        shape = check_message(message)
        check_descriptors(descriptors, shape)
    except BaseException as error:
        close_foreign(descriptors)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise DeviceError(error.errno, f"cannot receive an end of a channel: {error.strerror}") from error
        raise
    return shape, descriptors


# -- checks ----------------------------------------------------------------------------------


def check_message(message: bytes) -> Shape:
    """Which end a message hands over; PeerError when none."""
    if len(message) != HAND_OVER.size:
        refuse(
            HandOverFault.MALFORMED_MESSAGE, f"{len(message)} bytes", len(message), f"{HAND_OVER.size} bytes"
        )
    magic, version, *numbers = HAND_OVER.unpack(message)
    if (magic, version) != (MAGIC, VERSION):
        refuse(
            HandOverFault.MALFORMED_MESSAGE,
            f"{magic!r}, version {version}",
            magic,
            f"{MAGIC!r}, version {VERSION}",
        )
    shape = Shape(*numbers)
    if shape.side not in (0, 1):
        refuse(HandOverFault.MALFORMED_MESSAGE, f"side {shape.side}", shape.side, "0 or 1")
    for size in (shape.near_to_far, shape.far_to_near):
        try:
            check_data_size(size)
        except CallerError as error:
            refuse(HandOverFault.MALFORMED_MESSAGE, f"a ring of {size} bytes: {error}", size, error.limit)
    return shape


def check_descriptors(descriptors: list[int], shape: Shape) -> None:
    """Raise PeerError unless these are memory of that shape, bells and a link."""
    if len(descriptors) not in (3, 4):
        refuse(HandOverFault.MALFORMED_MESSAGE, f"{len(descriptors)} descriptors", len(descriptors), "3 or 4")
    memory, *bells, link = descriptors
    check_memory(memory, shape.total)
    if len(bells) == 2:
        for bell in bells:
            check_eventfd(bell)
    else:
        check_socket(bells[0], "bell", (socket.SOCK_STREAM,))
    check_socket(link, "link", (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM))


def check_memory(memory: int, total: int) -> None:
    """Raise PeerError unless `memory` is writable, has `total` bytes, and keeps them."""
    import fcntl  # Unix has it, and only there is anything sent

    status = os.fstat(memory)
    if not stat.S_ISREG(status.st_mode) or status.st_size != total:
        refuse(
            HandOverFault.BAD_MEMORY, f"memory of {status.st_size} bytes", status.st_size, f"{total} bytes"
        )
    if fcntl.fcntl(memory, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        refuse(
            HandOverFault.BAD_MEMORY, "memory that is not opened to read and write", "mode", "read and write"
        )
    if not ON_LINUX:
        return  # nothing there is sealed: the other side must be trusted not to shorten it
    try:
        seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
    except OSError:  # a file, which has none
        seals = 0
    writable = not seals & (fcntl.F_SEAL_WRITE | getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10))
    if not seals & fcntl.F_SEAL_SHRINK or not writable:
        refuse(
            HandOverFault.BAD_MEMORY,
            f"memory with the seals {seals:#x}",
            seals,
            "sealed against shrinking and not against writing",
        )


def check_eventfd(bell: int) -> None:
    """Raise PeerError unless `bell` is an eventfd that does not wait."""
    import fcntl

    try:
        name = os.readlink(f"/proc/self/fd/{bell}")
    except OSError:
        name = "anon_inode:[eventfd]"  # no /proc here: an attachment refuses what epoll refuses
    if name != "anon_inode:[eventfd]":
        refuse(HandOverFault.BAD_DESCRIPTOR, f"{name} as a bell", name, "an eventfd")
    if not fcntl.fcntl(bell, fcntl.F_GETFL) & os.O_NONBLOCK:
        refuse(HandOverFault.BAD_DESCRIPTOR, "a bell that waits", name, "an eventfd that does not wait")


def check_socket(descriptor: int, what: str, kinds: tuple[int, ...]) -> None:
    """Raise PeerError unless `descriptor` is a Unix socket of one of these kinds."""
    found = "no socket"
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        sock = socket.socket(fileno=descriptor)
        family, kind = sock.family, sock.type
        sock.detach()
        if family == socket.AF_UNIX and kind in kinds:
            return
        found = f"a socket of family {int(family)} and kind {int(kind)}"
    refuse(HandOverFault.BAD_DESCRIPTOR, f"{found} as the {what}", found, f"a Unix socket of kind {kinds}")


def refuse(kind: HandOverFault, what: str, found: object, allowed: object) -> NoReturn:
    raise PeerError(
        f"the other side handed over {what}, where {allowed} is right",
        kind=kind,
        found=found,
        allowed=allowed,
    )
