"""A vsock device between two processes: its three queues in one piece of shared memory, and the signals.

    [rx: queue and buffers][tx: queue and buffers][event: queue and buffers]

`SharedVsock.create` makes the two ends: the guest's, which drives the queues, and the host's, which is
the device.  Each is attached once, by the process that it is for: inherited by a forked child, or pickled
to one that multiprocessing spawns.

Sizes are in bytes.

Sources: OASIS VIRTIO 1.2, section 5.10; memfd_create(2).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, final, overload

from vmbus.channel import Bells, Life, close_all, in_child, signal_ends, signal_over, to_child
from vmbus.errors import CallerError, DeviceError
from vmbus.memory import GuestMemory, SharedMemory
from vmbus.sizes import PAGE_SIZE
from vmbus.virtio import (
    DEFAULT_BUFFER_SIZE,
    HOST_CID,
    VSOCK_EVENT,
    VSOCK_HEADER,
    VSOCK_PLACE_SIZE,
    DeviceQueue,
    TracedCarrier,
    VirtioFeatures,
    Virtqueue,
    VirtqueueLayout,
    VsockCarrier,
    VsockDevice,
    VsockDriver,
    VsockEndpoint,
    VsockTrace,
    check_buffer_size,
    check_guest_cid,
)

from .asynchronous import AsyncVsockLink
from .link import VsockLink

__all__ = ["SharedVsock"]

Link = TypeVar("Link", VsockLink, AsyncVsockLink)

GUEST, HOST = "guest", "host"

#: The event queue's descriptors, as many as Linux fills.
EVENT_QUEUE_SIZE = 8

#: Descriptors of a chain: the guest's driver here uses one, and others need few.
LONGEST_CHAIN = 32

DEFAULT_FEATURES = VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX


class QueuePlace(NamedTuple):
    """One queue in the memory.

    address        where its block starts
    size           descriptors
    request_size   bytes of each request's place
    """

    address: int
    size: int
    request_size: int
    layout: VirtqueueLayout


class Shape(NamedTuple):
    """What both ends know of the device.

    side         "guest" or "host"
    queue_size   descriptors of the rx and of the tx queue
    place_size   bytes of each packet there, the header's 44 included
    """

    side: str
    guest_cid: int
    queue_size: int
    place_size: int
    buffer_size: int
    features: int

    def queues(self) -> list[QueuePlace]:
        """The rx, the tx and the event queue."""
        packets, events = (self.queue_size, self.place_size), (EVENT_QUEUE_SIZE, VSOCK_EVENT.size)
        places: list[QueuePlace] = []
        for size, request_size in (packets, packets, events):
            layout = VirtqueueLayout.new(1, size, self.features, request_size=request_size)
            places.append(QueuePlace(end_of(places), size, request_size, layout))
        return places


def end_of(places: list[QueuePlace]) -> int:
    """Where the last queue ends, on the next page boundary; 0 where there is none."""
    if not places:
        return 0
    end = places[-1].address + places[-1].layout.end_offset
    return -(-end // PAGE_SIZE) * PAGE_SIZE


@final
class SharedVsock:
    """One end of a vsock device between two processes, to be attached or handed on.

    Made by `create`, never directly.  It holds descriptors; an attached link has its own, so that closing
    the end does not disturb it.  A context manager that closes the end.

    >>> guest, host = SharedVsock.create()
    >>> with guest, host, guest.attach() as near, host.attach() as far:
    ...     repr(near).split(",")[0], repr(far).split(",")[0]
    ('<VsockLink: <VsockEndpoint: CID 3', '<VsockLink: <VsockEndpoint: CID 2')
    """

    def __init__(self, shape: Shape, descriptors: list[int]) -> None:
        self._shape = shape
        self._descriptors = descriptors
        self._attached = False
        self._release = weakref.finalize(self, close_all, descriptors)  # also when nobody calls close()

    @classmethod
    def create(
        cls,
        guest_cid: int = 3,
        *,
        queue_size: int = 128,
        place_size: int = VSOCK_PLACE_SIZE,
        buffer_size: int = DEFAULT_BUFFER_SIZE,
        features: int = DEFAULT_FEATURES,
        bells: Bells | None = None,
    ) -> tuple[SharedVsock, SharedVsock]:
        """The guest's and the host's end of a new device.

        guest_cid     the guest's address; the host's is 2
        queue_size    descriptors of the rx and of the tx queue
        place_size    bytes of each packet's buffer, the header's 44 included
        buffer_size   bytes of each connection's receive buffer
        features      of the queues; streams and messages are always offered
        bells         what the signals are made of; None for the best there is

        Raises CallerError for what no queue can be, DeviceError when the system refuses.
        """
        check_place_size(place_size)
        check_buffer_size(buffer_size)
        guest = Shape(GUEST, check_guest_cid(guest_cid), queue_size, place_size, buffer_size, int(features))
        with SharedMemory.create(end_of(guest.queues())) as memory:
            ends = [[*own, link] for own, link in signal_ends(bells)]
            try:
                for end in ends:
                    end.insert(0, os.dup(memory.fileno()))
            except OSError as error:
                for end in ends:
                    close_all(end)
                raise DeviceError(error.errno, f"no vsock between processes: {error.strerror}") from error
        return cls(guest, ends[0]), cls(guest._replace(side=HOST), ends[1])

    # -- attaching ---------------------------------------------------------------------------

    @overload
    def attach(self, *, life: Life | None = ..., trace: VsockTrace | None = ...) -> VsockLink: ...

    @overload
    def attach(
        self, kind: type[Link], *, life: Life | None = ..., trace: VsockTrace | None = ...
    ) -> Link: ...

    def attach(
        self, kind: type[Any] = VsockLink, *, life: Life | None = None, trace: VsockTrace | None = None
    ) -> Any:
        """A link over this end; once, since nobody knows afterwards how far the queues were worked on.

        kind   VsockLink, or AsyncVsockLink
        life   how the other side is to notice the end of this process; None for the best there is
        trace  called with the header and the payload of every packet, either way: see TracedCarrier

        Raises CallerError when it is attached already, or closed; DeviceError when the system refuses.
        """
        descriptors = self._open_descriptors()
        if self._attached:
            raise CallerError(
                f"the {self._shape.side}'s end was attached already",
                argument="self",
                value="attached",
                limit="attached once",
            )
        with ExitStack() as undo:
            shared = undo.enter_context(SharedMemory.open(descriptors[0]))
            memory = undo.enter_context(GuestMemory([(0, shared.map())]))
            endpoint = self._endpoint(memory, trace)
            closing = ExitStack()  # what is done when the link is closed; nothing until it is there
            signal = signal_over(descriptors[1:], life)
            undo.callback(signal.close)
            link = kind(endpoint, signal, on_close=closing.close)
            signal.greet()
            self._attached = True
            closing.push(undo.pop_all())
        return link

    def _endpoint(self, memory: GuestMemory, trace: VsockTrace | None) -> VsockEndpoint:
        """This side's connections, over queues that nobody has used yet."""
        shape = self._shape
        is_guest = shape.side == GUEST
        carrier: VsockCarrier = guest_carrier(memory, shape) if is_guest else host_carrier(memory, shape)
        if trace is not None:
            carrier = TracedCarrier(carrier, trace)
        own, other = (shape.guest_cid, HOST_CID) if is_guest else (HOST_CID, shape.guest_cid)
        return VsockEndpoint(carrier, own, peer_cid=other, buffer_size=shape.buffer_size)

    # -- handing on and closing ----------------------------------------------------------------

    def __reduce__(self) -> tuple[Callable[..., SharedVsock], tuple[object, ...]]:
        """For multiprocessing, which hands the descriptors to the child that it starts."""
        return rebuild, (tuple(self._shape), to_child(self._open_descriptors()))

    def close(self) -> None:
        """Let go of this end; again is harmless.  A link attached to it works on."""
        self._release()

    def __enter__(self) -> SharedVsock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_descriptors(self) -> list[int]:
        if not self._release.alive:
            raise CallerError(
                f"this {self._shape.side}'s end of a vsock device is closed",
                argument="self",
                value="closed",
                limit="open",
            )
        return self._descriptors

    def __repr__(self) -> str:
        shape = self._shape
        state = "closed" if not self._release.alive else "attached" if self._attached else "not attached"
        return f"<SharedVsock: {shape.side}, guest CID {shape.guest_cid}, {state}>"


def check_place_size(place_size: int) -> None:
    if place_size <= VSOCK_HEADER.size:
        raise CallerError(
            f"a packet's buffer has more than the {VSOCK_HEADER.size} bytes of a header, not {place_size}",
            argument="place_size",
            value=place_size,
            limit=VSOCK_HEADER.size + 1,
        )


def guest_carrier(memory: GuestMemory, shape: Shape) -> VsockDriver:
    rx, tx, event = (
        Virtqueue(
            memory,
            one.size,
            shape.features,
            address=one.address,
            request_size=one.request_size,
            completion_size=VSOCK_EVENT.size,  # events alone are looked at there
        )
        for one in shape.queues()
    )
    return VsockDriver(rx, tx, event)


def host_carrier(memory: GuestMemory, shape: Shape) -> VsockDevice:
    queues = []
    for one in shape.queues():
        queues.append(DeviceQueue(memory, one.size, shape.features, longest_chain=LONGEST_CHAIN))
        queues[-1].set_up(one.layout.areas(one.address))
    return VsockDevice(*queues)


def rebuild(shape: tuple[Any, ...], passed: list[Any]) -> SharedVsock:
    """An end in the process that it was pickled for."""
    return SharedVsock(Shape(*shape), in_child(passed))
