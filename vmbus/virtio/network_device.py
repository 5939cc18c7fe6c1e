"""A guest's network device as a user-space network stack sees it.

The stack takes one frame of the guest at a time, and answers through tokens; between the two sits
somebody who looks at each frame first and may drop it.  So a frame is staged, looked at, and then
received or dropped: `stage_next_frame`, then `receive` or `drop_staged_frame`.

Frames are Ethernet frames; there is no virtio header here.  For one thread at a time, but for the
queues.

Sources: smolvm smolvm-network, VirtioNetworkDevice; smoltcp src/phy/mod.rs, Device, RxToken, TxToken.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, NoReturn, TypeVar

from vmbus.errors import CallerError

from .frame_queues import FrameQueue, NetworkFrameQueues
from .network_layout import ETHERNET_HEADER_SIZE

__all__ = [
    "DEFAULT_MTU",
    "ChecksumCapabilities",
    "ChecksumWork",
    "DeviceCapabilities",
    "Medium",
    "RxToken",
    "TxToken",
    "VirtioNetworkDevice",
]

#: Bytes of the largest IP packet.
DEFAULT_MTU = 1500

Result = TypeVar("Result")


class Medium(Enum):
    """What the frames are."""

    ETHERNET = "ethernet"
    IP = "ip"


class ChecksumWork(Enum):
    """When a stack must deal with a checksum in software."""

    BOTH = "computed when sent and checked when received"
    RECEIVE = "checked when received"
    TRANSMIT = "computed when sent"
    NONE = "neither"


class ChecksumCapabilities(NamedTuple):
    """What a stack must do about each protocol's checksum."""

    ipv4: ChecksumWork = ChecksumWork.BOTH
    udp: ChecksumWork = ChecksumWork.BOTH
    tcp: ChecksumWork = ChecksumWork.BOTH
    icmpv4: ChecksumWork = ChecksumWork.BOTH
    icmpv6: ChecksumWork = ChecksumWork.BOTH


class DeviceCapabilities(NamedTuple):
    """What a stack must know of a device.

    max_transmission_unit   bytes of the largest frame, the Ethernet header included
    max_burst_size          frames that may be sent in a row; None for any number
    """

    medium: Medium
    max_transmission_unit: int
    max_burst_size: int | None = None
    checksum: ChecksumCapabilities = ChecksumCapabilities()


class RxToken:
    """A frame of the guest, to be looked at once."""

    def __init__(self, frame: bytes) -> None:
        self._frame: bytes | None = frame

    def consume(self, look: Callable[[bytes], Result]) -> Result:
        """What `look` makes of the frame; CallerError the second time."""
        frame, self._frame = self._frame, None
        if frame is None:
            refuse_second("receive")
        return look(frame)


class TxToken:
    """The right to send one frame to the guest."""

    def __init__(self, device: VirtioNetworkDevice) -> None:
        self._device: VirtioNetworkDevice | None = device

    def consume(self, length: int, fill: Callable[[memoryview], Result]) -> Result:
        """Have `fill` fill a frame of `length` bytes, all zeros at first, and send it.

        Returns what `fill` returns, also when the queue is full and the frame is lost.  What `fill`
        raises is raised, and nothing sent; the token is gone either way.  The length is not checked
        against the MTU.

        Raises CallerError for a negative length, and the second time.
        """
        device, self._device = self._device, None
        if device is None:
            refuse_second("transmit")
        if length < 0:
            raise CallerError(
                f"a frame of {length} bytes cannot be", argument="length", value=length, limit=0
            )
        frame = bytearray(length)
        result = fill(memoryview(frame))
        device._emit(bytes(frame))
        return result


def refuse_second(kind: str) -> NoReturn:
    raise CallerError(
        f"this {kind} token has been consumed: each is for one frame",
        argument="self",
        value="consumed",
        limit="one use",
    )


class VirtioNetworkDevice:
    """A guest's frames, one at a time, with a look at each before the stack gets it.

    queues   where the guest's frames come from and where those for it go
    mtu      bytes of the largest IP packet

    frames_lost   frames for the guest that found the queue full

    >>> queues = NetworkFrameQueues.shared(4)
    >>> device = VirtioNetworkDevice.new(queues, mtu=1500)
    >>> queues.guest_to_host.push(b"ping"), device.stage_next_frame()
    (None, b'ping')
    >>> rx, tx = device.receive()
    >>> rx.consume(len), tx.consume(4, lambda frame: frame[:2].tobytes())
    (4, b'\\x00\\x00')
    >>> queues.host_to_guest.pop(), queues.egress_bytes(), device.take_frames_emitted()
    (b'\\x00\\x00\\x00\\x00', 4, True)
    """

    def __init__(self, queues: NetworkFrameQueues, mtu: int = DEFAULT_MTU) -> None:
        if mtu < 1:
            raise CallerError(f"an MTU of {mtu} bytes cannot be", argument="mtu", value=mtu, limit=1)
        self.queues = queues
        self.mtu = mtu
        self.frames_lost = 0
        self._staged: bytes | None = None
        self._frames_emitted = False

    @classmethod
    def new(cls, queues: NetworkFrameQueues, mtu: int = DEFAULT_MTU) -> VirtioNetworkDevice:
        """The constructor, by the name that it has elsewhere."""
        return cls(queues, mtu)

    @property
    def staged_frame(self) -> bytes | None:
        """The frame that is staged."""
        return self._staged

    def stage_next_frame(self) -> bytes | None:
        """Stage the guest's next frame and show it; the staged one again, until it is taken or dropped.

        None when there is none.
        """
        if self._staged is None:
            self._staged = self.queues.guest_to_host.pop()
        return self._staged

    def drop_staged_frame(self) -> bool:
        """Forget the staged frame, which is then not counted; False, and nothing done, without one."""
        staged, self._staged = self._staged, None
        return staged is not None

    def receive(self, now: float = 0.0) -> tuple[RxToken, TxToken] | None:
        """The staged frame, and the right to answer it; None when nothing is staged.

        now   seconds of the stack's clock; not used here

        The frame counts as egress from this moment on, whatever becomes of the token.  There is a
        right to answer even when there is no room: the answer is then lost.
        """
        staged, self._staged = self._staged, None
        if staged is None:
            return None
        self.queues.add_egress_bytes(len(staged))
        return RxToken(staged), TxToken(self)

    def transmit(self, now: float = 0.0) -> TxToken | None:
        """The right to send a frame; None while the queue to the guest is full."""
        return None if self._outgoing.is_full else TxToken(self)

    def capabilities(self) -> DeviceCapabilities:
        """What the stack must know: frames of Ethernet, and all checksums in software."""
        return DeviceCapabilities(Medium.ETHERNET, self.mtu + ETHERNET_HEADER_SIZE)

    @property
    def frames_emitted(self) -> bool:
        """Whether frames for the guest were queued since `take_frames_emitted`."""
        return self._frames_emitted

    def take_frames_emitted(self) -> bool:
        """The same, and forget it: who gets True must wake whoever brings them to the guest."""
        emitted, self._frames_emitted = self._frames_emitted, False
        return emitted

    @property
    def _outgoing(self) -> FrameQueue:
        return self.queues.host_to_guest

    def _emit(self, frame: bytes) -> None:
        if self._outgoing.push(frame) is None:
            self._frames_emitted = True
        else:
            self.frames_lost += 1

    def __repr__(self) -> str:
        staged = "nothing" if self._staged is None else f"{len(self._staged)} bytes"
        return f"<VirtioNetworkDevice: MTU {self.mtu}, {staged} staged, over {self.queues!r}>"
