"""What the trials of channels share: two channels in one thread, their signals, and the models of both rings.

Each call has one second of a clock that only a sleep moves, and nobody acts meanwhile but by what was laid ready
for that sleep: so a call does its work at once or says TimedOut, and the model says which.

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from vmbus.errors import ChannelClosed, PeerClosed, TimedOut
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.ring import IncomingRing, OutgoingRing

from .arguments import Number
from .one_thread_signal import SleepClock, one_thread_signals
from .ring_model import (
    HasTotal,
    MakeMemory,
    RingModel,
    close_memory,
    fresh_payload,
    memory_for,
    rounded_up,
    words_of,
)
from .trial import Trial, operation

__all__ = [
    "COMMON_CORNERS",
    "PAGES_OF_CHANNELS",
    "PATIENCE",
    "SIDE",
    "ChannelUnderTest",
    "SideModel",
]

#: Which of the two does something: 0 is called the guest.
SIDE = Number(0, 1)

#: The size of each of the two rings.
PAGES_OF_CHANNELS = Number(1, 5, corners=[1, 1, 2])

#: Seconds that every call has.
PATIENCE = 1.0

#: The corners that every kind of channel has.
COMMON_CORNERS = (
    "full ring",
    "full ring, then room",
    "ring filled to the last slot",
    "wrap",
    "reader signaled",
    "writer signaled",
    "nothing to receive",
    "closed with packets to be received",
    "closed with packets that were sent",
    "closed twice",
    "both sides closed",
    "received after the sender has closed",
    "all read of a side that has closed",
    "call on a closed channel",
    "send to a side that has closed",
)


Item = TypeVar("Item", bound=HasTotal)


class SideModel(Generic[Item]):
    """One side: the ring that it sends to, the ring that it receives from, and whether it has closed.

    notified   how often it must have told the other side to look
    """

    def __init__(self, sends: RingModel[Item], receives: RingModel[Item]) -> None:
        self.sends = sends
        self.receives = receives
        self.closed = False
        self.notified = 0

    def put(self, items: Sequence[Item]) -> None:
        """One commit of this sender."""
        self.notified += self.sends.put(items)

    def take(self, count: int) -> list[Item]:
        """One commit of this receiver, which is awake."""
        self.receives.masked = True
        taken, signaled = self.receives.take(count)
        self.notified += signaled
        return taken

    def sleep(self) -> None:
        """The receiver has found nothing, and says so."""
        self.receives.masked = False

    def ask(self, needed: int) -> None:
        """The sender waits for that many bytes, and asks for a quarter of the ring at least."""
        self.sends.wanted = rounded_up(max(needed, (self.sends.size - 8) // 4))


Side = TypeVar("Side", bound=SideModel[Any])


class ChannelUnderTest(Trial, Generic[Side]):
    """Two channels that face each other.

    sides   the models of both
    ends    both channels

    A call of the model comes before the call itself, but where the other side acts while that sleeps.
    """

    sides: tuple[Side, Side]

    def __init__(
        self,
        pages: int,
        start: int,
        memory: str,
        make_channel: Callable[..., Any],
        make_memory: MakeMemory | None,
        make_side: Callable[[RingModel[Any], RingModel[Any]], Side],
        **options: Any,
    ) -> None:
        super().__init__()
        self.size = 4096 * pages
        self.made = 0
        self.had_asked = False  # for room, before the call that is being made
        self.rings: tuple[RingModel[Any], ...] = tuple(
            RingModel(self.size, 8 * start % self.size, masked=True) for _ in range(2)
        )
        self.sides = (make_side(self.rings[0], self.rings[1]), make_side(self.rings[1], self.rings[0]))
        self.memories = [memory_for(memory, self.size, make_memory) for _ in range(2)]
        for shared in self.memories:
            shared.control[IN_WORD] = shared.control[OUT_WORD] = self.rings[0].start
        clock = SleepClock()
        self.signals = one_thread_signals(clock)
        self.ends: list[Any] = []
        with self.demand_no_error("two new channels"):
            for side, role in enumerate(("guest", "host")):
                incoming, outgoing = IncomingRing(self.memories[1 - side]), OutgoingRing(self.memories[side])
                signal = self.signals[side]
                self.ends.append(make_channel(incoming, outgoing, signal, role=role, clock=clock, **options))

    def close(self) -> None:
        for end in self.ends:
            end.close()
        for memory in self.memories:
            close_memory(memory)

    def check(self) -> None:
        for model, memory in zip(self.rings, self.memories, strict=True):
            if (found := words_of(memory)) != (expected := model.words()):
                self.demand_equal(found, expected, "in, out, mask and pending send size")
        for side, signal in zip(self.sides, self.signals, strict=True):
            if signal.notified != side.notified:
                self.demand_equal(signal.notified, side.notified, "signals sent")

    # -- what the model says ---------------------------------------------------------------------

    def fresh(self, length: int) -> bytes:
        self.made += 1
        return fresh_payload(length, self.made)

    def is_refused(self, side: int, call: Callable[[], object]) -> bool:
        """True for a call of a closed side, once it has been seen to be refused."""
        if not self.sides[side].closed:
            return False
        self.corners["call on a closed channel"] += 1
        with self.demand_raises(ChannelClosed, "a call on a closed channel"):
            call()
        return True

    def send_is_refused(self, side: int, call: Callable[[], object]) -> bool:
        """True for a call that sends although one of the sides is closed, once it has been refused."""
        if self.is_refused(side, call):
            return True
        self.had_asked = self.sides[side].sends.wanted > 0
        self.sides[side].sends.wanted = 0
        if not self.sides[1 - side].closed:
            return False
        self.corners["send to a side that has closed"] += 1
        with self.demand_raises(PeerClosed, "a send to a side that has closed"):
            call()
        return True

    def demand_nothing(self, side: int, call: Callable[[], object]) -> None:
        """The call finds nothing to receive."""
        if self.sides[1 - side].closed:
            self.corners["all read of a side that has closed"] += 1
            with self.demand_raises(PeerClosed, "a receive with all read of a side that has closed"):
                call()
        else:
            self.corners["nothing to receive"] += 1
            with self.demand_raises(TimedOut, "a receive with nothing there"):
                call()

    def demand_full(self, done: int | None, call: Callable[[], object]) -> None:
        """The call does not find enough room; before, it has sent so many, where it counts them."""
        self.corners["full ring"] += 1
        with self.demand_raises(TimedOut, "a send with too little room"):
            try:
                call()
            except TimedOut as error:
                if done is not None:
                    self.demand_equal(error.done, done, "done of TimedOut")
                raise

    def no_error(self, side: int) -> AbstractContextManager[None]:
        return self.demand_no_error("a call of the " + ("guest", "host")[side])

    def put(self, side: int, items: Sequence[Any]) -> None:
        """One commit of a sender, and what it means for the corners."""
        model = self.sides[side]
        before = model.notified
        start = model.sends.in_offset
        model.put(items)
        if self.had_asked:
            self.corners["full ring, then room"] += 1
        if model.sends.in_offset < start:
            self.corners["wrap"] += 1
        if not model.sends.free:
            self.corners["ring filled to the last slot"] += 1
        if model.notified > before:
            self.corners["reader signaled"] += 1

    def take(self, side: int, count: int) -> list[Any]:
        """One commit of a receiver, and what it means for the corners."""
        model = self.sides[side]
        before = model.notified
        taken = model.take(count)
        if model.notified > before:
            self.corners["writer signaled"] += 1
        if taken and self.sides[1 - side].closed:
            self.corners["received after the sender has closed"] += 1
        return taken

    # -- closing ---------------------------------------------------------------------------------

    @operation(side=SIDE, chance=Number(0, 15, corners=[2, 3, 4, 5, 6, 1]))
    def close_now_and_then(self, side: int, chance: int) -> None:
        """Close one side (chance 0) or both (chance 1); again is harmless."""
        if chance == 0:
            self.close_side(side)
        elif chance == 1:
            self.close_side(side)
            self.close_side(1 - side)

    def close_side(self, side: int) -> None:
        model = self.sides[side]
        if model.receives.waiting and not model.closed:
            self.corners["closed with packets to be received"] += 1
        if model.sends.waiting and not model.closed:
            self.corners["closed with packets that were sent"] += 1
        if model.closed:
            self.corners["closed twice"] += 1
        model.closed = True
        with self.no_error(side):
            self.ends[side].close()
        if self.sides[1 - side].closed:
            self.corners["both sides closed"] += 1
