"""A channel between two processes: its two rings in one piece of shared memory, its bells and its link.

    [control page][data]  what the near side sends      [control page][data]  what the far side sends

`SharedChannel.create` makes the two ends.  Each can be attached here, inherited by a forked child,
pickled to a child that multiprocessing spawns, or sent over a Unix socket; and attached again, by
anybody who holds it, after the one before has closed or was killed.  What was committed stays in the
rings meanwhile; a packet that was read and not committed is read again.

Whoever receives an end over a socket checks all of it.  Between processes that do not trust each
other that is the way: memory that the other side could shorten would end this process with SIGBUS.

Sizes are in bytes of a ring's data area.

Sources: memfd_create(2), fcntl(2) on file sealing, unix(7).
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar, final, overload

from vmbus.errors import CallerError, DeviceError
from vmbus.memory import FlatRingMem, SharedMemory
from vmbus.ring import IncomingRing, OutgoingRing, reader_needs_signal, writer_needs_signal
from vmbus.sizes import PAGE_SIZE, check_data_size

from .blocking import PacketChannel
from .common import Channel, check_kind
from .descriptor_signal import Bells, signal_ends, signal_over
from .descriptors import close_all, in_child, to_child
from .hand_over import Shape, receive_end, send_end
from .peer_link import Life

__all__ = ["SharedChannel"]

Kind = TypeVar("Kind", bound=Channel)


@final
class SharedChannel:
    """One end of a channel between two processes, to be attached or handed on.

    Made by `create` or `receive_over`, never directly.  It holds descriptors; an attached channel has
    its own, so that closing the end does not disturb it.  A context manager that closes the end.

    >>> from vmbus.channel import MessageChannel
    >>> near, far = SharedChannel.create(4096)
    >>> with near, far, near.attach(MessageChannel) as one, far.attach(MessageChannel) as other:
    ...     one.send(b"hello")
    ...     other.receive(timeout=1)
    b'hello'
    """

    def __init__(self, shape: Shape, descriptors: list[int]) -> None:
        self._shape = shape
        self._descriptors = descriptors
        self._release = weakref.finalize(self, close_all, descriptors)  # also when nobody calls close()

    @classmethod
    def create(
        cls, size: int = 16384, *, incoming_size: int | None = None, bells: Bells | None = None
    ) -> tuple[SharedChannel, SharedChannel]:
        """The near and the far end of a new channel.

        size            of the ring that the near end sends to, a non-zero multiple of 4096
        incoming_size   of the ring that it receives from; None for the same
        bells           what the signals are made of; None for the best there is

        Raises CallerError for a size that no ring can have, DeviceError when the system refuses.
        """
        check_data_size(size)
        near = Shape(0, size, size if incoming_size is None else check_data_size(incoming_size))
        with SharedMemory.create(near.total) as memory:
            ends = [[*own, link] for own, link in signal_ends(bells)]
            try:
                for end in ends:
                    end.insert(0, os.dup(memory.fileno()))
            except OSError as error:
                for end in ends:
                    close_all(end)
                raise DeviceError(error.errno, f"no channel between processes: {error.strerror}") from error
        return cls(near, ends[0]), cls(near._replace(side=1), ends[1])

    # -- attaching ---------------------------------------------------------------------------

    @overload
    def attach(self, *, life: Life | None = ..., **options: Any) -> PacketChannel: ...

    @overload
    def attach(self, kind: type[Kind], *, life: Life | None = ..., **options: Any) -> Kind: ...

    def attach(self, kind: type[Any] = PacketChannel, *, life: Life | None = None, **options: Any) -> Any:
        """A channel of that kind over this end.

        kind      PacketChannel, MessageChannel, ByteChannel or one of the three for asyncio
        life      how the other side is to notice the end of this process; None for the best there is
        options   of that kind: spin, trace, ...

        For one process at a time; nothing checks that.

        Signals the other side when the rings say that it waits: whoever was attached before may have
        been killed between a commit and its signal.

        Raises CallerError when this end is attached in this process already, or closed; DeviceError
        when the system refuses.  `on_close` is then not called: there was nothing to close.
        """
        check_kind(kind)
        descriptors = self._open_descriptors()
        release = self._claim(descriptors[0])
        with ExitStack() as undo:
            undo.callback(release)
            memory = undo.enter_context(SharedMemory.open(descriptors[0]))
            rings = [FlatRingMem.over(memory.map(*place)) for place in self._shape.rings()]
            for ring in rings:
                undo.callback(ring.close)
            # This masks, and takes back the pending size: what one that was killed has left, awake
            # or asleep, would have the other side signal somebody who does not sleep.
            outgoing, incoming = OutgoingRing(rings[0]), IncomingRing(rings[1])
            signal = signal_over(self._open_descriptors()[1:], life)
            undo.callback(signal.close)
            weakref.finalize(signal, release)  # also when nobody closes the channel
            on_close = options.pop("on_close", None)
            closing = ExitStack()  # what is done when the channel is closed; nothing until it is attached
            own_options = {"role": self._shape.role, **kind.attachment_options()}
            options = {**own_options, **options, "on_close": closing.close}
            channel = kind(incoming, outgoing, signal, **options)
            unattached = undo.enter_context(ExitStack())
            unattached.callback(channel.close)
            signal.greet()
            if must_signal(memory, *self._shape.rings()):
                signal.notify()
            unattached.pop_all()
            if on_close is not None:
                closing.callback(on_close)  # the last
            closing.push(undo.pop_all())
        return channel

    def _claim(self, memory: int) -> Callable[[], None]:
        """Note that this end is attached in this process; the function returned notes that it is not."""
        claim = claim_of(memory, self._shape.side)
        with claims_lock:
            if claim in claims:
                raise CallerError(
                    f"the {self._shape.role} end of this channel is attached in this process already: "
                    "close that channel first",
                    argument="self",
                    value="attached",
                    limit="attached once",
                )
            claims[claim] = ours = object()

        def release() -> None:
            with claims_lock:
                if claims.get(claim) is ours:  # it may be that of a later attachment
                    del claims[claim]

        return release

    @property
    def attached(self) -> bool:
        """Whether this end is attached in this process."""
        return self._release.alive and claim_of(self._descriptors[0], self._shape.side) in claims

    @property
    def size(self) -> int:
        """Data bytes of the ring that this end sends to."""
        return self._shape.rings()[0][1] - PAGE_SIZE

    @property
    def incoming_size(self) -> int:
        """Data bytes of the ring that this end receives from."""
        return self._shape.rings()[1][1] - PAGE_SIZE

    # -- handing on --------------------------------------------------------------------------

    def send_over(self, sock: socket.socket) -> None:
        """Send this end over a Unix socket to another process; this one keeps its own.

        Raises DeviceError when the system refuses; waits as the socket does.
        """
        send_end(sock, self._shape, self._open_descriptors())

    @classmethod
    def receive_over(cls, sock: socket.socket) -> SharedChannel:
        """Receive an end that `send_over` has sent, and check all of it.

        Raises PeerError, and closes every descriptor that came, when something is wrong with it;
        DeviceError when the system refuses; waits as the socket does.
        """
        return cls(*receive_end(sock))

    def __reduce__(self) -> tuple[Callable[..., SharedChannel], tuple[object, ...]]:
        """For multiprocessing, which hands the descriptors to the child that it starts."""
        return rebuild, (tuple(self._shape), to_child(self._open_descriptors()))

    # -- closing -----------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of this end; again is harmless.  A channel attached to it works on."""
        self._release()

    def __enter__(self) -> SharedChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_descriptors(self) -> list[int]:
        if not self._release.alive:
            raise CallerError(
                f"this {self._shape.role} end of a channel is closed",
                argument="self",
                value="closed",
                limit="open",
            )
        return self._descriptors

    def __repr__(self) -> str:
        if not self._release.alive:
            return f"<SharedChannel: {self._shape.role}, closed>"
        state = "attached" if self.attached else "not attached"
        sizes = f"out {self.size} bytes, in {self.incoming_size} bytes"
        return f"<SharedChannel: {self._shape.role}, {sizes}, {state}>"


# -- attaching -------------------------------------------------------------------------------

#: The ends that are attached in this process: device and number of their memory, and their side.
claims: dict[tuple[int, int, int], object] = {}
claims_lock = threading.RLock()  # a finalizer may take it in the middle


def claim_of(memory: int, side: int) -> tuple[int, int, int]:
    status = os.fstat(memory)
    return status.st_dev, status.st_ino, side


def forget_claims() -> None:
    """In a forked child, where nothing is attached."""
    global claims_lock
    claims_lock = threading.RLock()  # whoever held it is not in this process
    claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_claims)


def must_signal(memory: SharedMemory, outgoing: tuple[int, int], incoming: tuple[int, int]) -> bool:
    """Whether the rings say that the other side waits for what it has already.

    outgoing, incoming   offset and length of each ring in memory
    """
    with memory.map(*outgoing) as written, memory.map(*incoming) as read:
        return reader_needs_signal(written) or writer_needs_signal(read, incoming[1] - PAGE_SIZE)


# -- handing on ------------------------------------------------------------------------------


def rebuild(shape: tuple[int, int, int], passed: list[Any]) -> SharedChannel:
    """An end in the process that it was pickled for."""
    return SharedChannel(Shape(*shape), in_child(passed))
