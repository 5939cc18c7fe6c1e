"""What a model of somebody's ring code is asked, and how it answers.

A Model says what one implementation does with a ring that lies before it, from either end.  It is a reading of
that implementation's arithmetic, so the models share none of the rules of this package's rings: 32-bit
numbers wrap where that code lets them wrap.

    take               the receiving end, at one offset: what it makes of the bytes there
    signal_after_read  the receiving end, after it gave space back: does it wake the sender?
    write              the sending end: is there room for a packet, and does it wake the reader?

An answer says whether it is verified: taken from a reading of that code, and not inferred from it.

Offsets and sizes are in bytes.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE, PACKET_DESCRIPTOR, PacketDescriptor
from vmbus.memory import ControlWords, RingMem
from vmbus.ring import load_control

__all__ = [
    "Answer",
    "Model",
    "RingView",
    "Signal",
    "Step",
    "Write",
    "WriteAnswer",
    "mapped_once",
    "wrong_index",
]


class Answer(Enum):
    """What a receiving end does at one offset; the values stand in reports."""

    TAKES = "takes"  # a packet, and goes on behind it
    EMPTY = "empty"  # nothing is published any more
    ERROR = "error"  # tells its caller that the ring is broken
    STALLS = "stalls"  # sees no packet although bytes are published, and never moves on
    PAST_IN = "past in"  # goes on behind what is published
    UNDEFINED = "undefined"  # leaves the ring's memory
    UNKNOWN = "unknown"  # that code was not read so far
    MISSING = "missing"  # an image lacks the bytes
    CUT = "cut"  # not followed any further


class Step(NamedTuple):
    """What a receiving end does at one offset.

    next_offset      where it goes on; None unless it takes a packet
    length           bytes that it takes the packet for, without the footer
    payload_offset   where the payload begins, from the packet's start; None where the ring's code leaves it open
    payload_length   bytes of payload, likewise
    why              a clause that says what rule it follows; empty where there is nothing to say
    """

    offset: int
    answer: Answer
    why: str = ""
    verified: bool = True
    length: int = 0
    payload_offset: int | None = None
    payload_length: int | None = None
    next_offset: int | None = None

    @property
    def taken(self) -> int:
        """Bytes that it goes on by."""
        return self.length + FOOTER_SIZE if self.answer is Answer.TAKES else 0

    def inferred(self) -> Step:
        """The same, not verified."""
        return self._replace(verified=False)

    @classmethod
    def takes(
        cls, offset: int, length: int, data_offset: int | None, next_offset: int, why: str = ""
    ) -> Step:
        """A packet taken; `data_offset` is None where the payload is not for the ring's code to find."""
        payload_length = None if data_offset is None else length - data_offset
        return cls(offset, Answer.TAKES, why, True, length, data_offset, payload_length, next_offset)


class Signal(NamedTuple):
    """Whether an end wakes the other, and by what rule."""

    signals: bool
    why: str
    verified: bool = True


class WriteAnswer(Enum):
    """What a sending end does that has a packet; the values stand in reports."""

    WRITES = "writes"
    NO_ROOM = "no room"
    ERROR = "error"
    UNDEFINED = "undefined"


class Write(NamedTuple):
    """What a sending end does with a packet, and whether it then wakes the reader.

    signals   None where it does not write
    """

    answer: WriteAnswer
    signals: bool | None
    why: str
    verified: bool = True


class RingView(RingMem):
    """A ring as all models see it: the control words of one moment, and of each descriptor the first reading.

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send(b"waiting")
    True
    >>> view = RingView(sender.memory)
    >>> view.in_offset, view.out_offset, view.descriptor_at(0).length
    (32, 0, 24)
    """

    def __init__(self, memory: RingMem) -> None:
        control = load_control(memory.control)
        memory.acquire()  # no packet is read before the indices that say that it is there
        self._memory = memory
        self._size = memory.size
        self._descriptors: dict[int, bytes] = {}
        self.in_offset = control.in_offset
        self.out_offset = control.out_offset
        self.interrupt_mask = control.interrupt_mask
        self.pending_send_size = control.pending_send_size
        self.feature_bits = control.feature_bits

    @property
    def control(self) -> ControlWords:
        return self._memory.control

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        kept = self._descriptors.get(offset) if length == DESCRIPTOR_SIZE else None
        return self._memory.read_at(offset, length) if kept is None else kept

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        raise CallerError("models only look at a ring", argument="self", value="read-only", limit="writable")

    def descriptor_at(self, offset: int) -> PacketDescriptor:
        """The 16 bytes at an offset below twice the size, as a descriptor; the same however often it is asked for."""
        data = self._descriptors[offset] = self.read_at(offset, DESCRIPTOR_SIZE)
        return PACKET_DESCRIPTOR.unpack(data)


class Model:
    """How one implementation takes a ring.

    name         as reports have it
    title        what it is, and which version was read
    source       the file and the functions
    unverified   what of this model is not certain
    """

    name = ""
    title = ""
    source = ""
    unverified: tuple[str, ...] = ()

    def opens(self, ring: RingView) -> Step | None:
        """What keeps it from reading at all, once it has seen both indices; None where nothing does."""
        return None

    def take(self, ring: RingView, out: int) -> Step:
        """What it does at `out`, as the receiving end."""
        raise NotImplementedError

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        """Whether it wakes the sender once it has moved out from `before` to `after`, both below the size."""
        raise NotImplementedError

    def write(self, ring: RingView, size: int) -> Write:
        """What it does with a packet of `size` bytes, descriptor and footer included."""
        raise NotImplementedError


def mapped_once(ring: RingView, out: int, length: int) -> bool:
    """Whether an implementation that goes on at the start once, behind the end, stays in the ring's memory."""
    return out < ring.size and length <= ring.size


def wrong_index(ring: RingView) -> str:
    """Which index cannot be, for those that look; nothing where both can.  OpenVMM and the UEFI driver look alike."""
    for name, index in (("in", ring.in_offset), ("out", ring.out_offset)):
        if index >= ring.size or index % 8:
            return f"{name} is {index:#x}: an index is a multiple of 8 below the size"
    return ""
