"""When a side may sleep: two tables, and the code that walks them.

A side at rest has published nothing.  It tries what it came for, and where that cannot be done yet
it publishes that it is about to sleep, looks once more, and sleeps only when that look finds nothing
either: from then on the other side owes it a signal.  Each table says so row by row; the walk does
what the row says and nothing else.

The receiver publishes by clearing the interrupt mask of the ring it reads.  The sender publishes by
storing a pending send size in the ring it writes.  A wait that is given up (its time is over, its
task is cancelled) leaves that published: a signal may then come for nothing, once.

Sources: OpenVMM vmbus_async/src/core.rs, ReadState and WriteState; Linux drivers/hv/ring_buffer.c,
hv_begin_read() and hv_end_read().
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

from vmbus.errors import NotReady, RingFull
from vmbus.ring import IncomingRing, OutgoingRing
from vmbus.sizes import SLOT

__all__ = [
    "GO_ON",
    "NOT_YET",
    "RECEIVER_TABLE",
    "SENDER_TABLE",
    "Action",
    "Event",
    "GoOn",
    "NotYet",
    "ReceiverReadiness",
    "Row",
    "SenderReadiness",
    "State",
    "table_text",
]


class Singleton(Enum):
    """An enum whose members are told apart by what they are: quicker to look up than by their names."""

    __hash__ = object.__hash__


class State(Singleton):
    """What this side has published."""

    MASKED = "masked"
    UNMASKED = "unmasked"
    FREE = "free"
    ASKED = "asked"


class Event(Singleton):
    """What a try or a look found; or that a call begins."""

    READY = "ready"
    NOTHING = "nothing"
    CALL = "a new call"


class Action(Enum):
    """What to do then."""

    RETURN = "return the result"
    UNMASK = "unmask, look again"
    MASK = "mask, try"
    ASK = "publish the pending size, look again"
    CLEAR = "clear the pending size, try"
    SLEEP = "sleep"


class Row(NamedTuple):
    """One line of a table.

    following   the state after the action; where a side sleeps, the one it wakes in
    """

    state: State
    event: Event
    action: Action
    following: State
    why: str


Table = Mapping[tuple[State, Event], Row]


def table_of(*rows: Row) -> Table:
    return {(row.state, row.event): row for row in rows}


#: The receiver: at rest it is MASKED, for it will look again by itself.
RECEIVER_TABLE = table_of(
    Row(
        State.MASKED,
        Event.READY,
        Action.RETURN,
        State.MASKED,
        "while packets are taken out nobody needs to say that more have come",
    ),
    Row(
        State.MASKED,
        Event.NOTHING,
        Action.UNMASK,
        State.UNMASKED,
        "a packet may come between this look and the unmasking, and is not signaled: look again",
    ),
    Row(
        State.UNMASKED,
        Event.READY,
        Action.MASK,
        State.MASKED,
        "the mask is set before packets are taken out, or each that comes meanwhile is signaled",
    ),
    Row(
        State.UNMASKED,
        Event.NOTHING,
        Action.SLEEP,
        State.UNMASKED,
        "the sender now sees the mask clear whenever it ends the emptiness",
    ),
)

#: The sender: at rest it is FREE, for it waits for nothing.
SENDER_TABLE = table_of(
    Row(
        State.FREE,
        Event.READY,
        Action.RETURN,
        State.FREE,
        "there was room",
    ),
    Row(
        State.FREE,
        Event.NOTHING,
        Action.ASK,
        State.ASKED,
        "space may be freed between this look and the asking, and is not signaled: look again",
    ),
    Row(
        State.ASKED,
        Event.READY,
        Action.CLEAR,
        State.FREE,
        "the size is cleared before the packet is written, or the receiver signals for a wait that is over",
    ),
    Row(
        State.ASKED,
        Event.NOTHING,
        Action.SLEEP,
        State.ASKED,
        "the receiver now sees the size whenever it frees that much",
    ),
    Row(
        State.ASKED,
        Event.CALL,
        Action.CLEAR,
        State.FREE,
        "the call that asked was given up; this one may need less",
    ),
)


def table_text(table: Table) -> str:
    """A table for people, a line a row.

    >>> print(table_text(RECEIVER_TABLE).splitlines()[0])
    masked    ready       return the result                     -> masked
    """
    return "\n".join(
        f"{row.state.value:<9} {row.event.value:<11} {row.action.value:<37} -> {row.following.value}"
        for row in table.values()
    )


class NotYet(Enum):
    NOT_YET = "this side may sleep now"


class GoOn(Enum):
    GO_ON = "something was done, and the call is not finished"


#: What `step` returns when it is time to sleep, and what an attempt returns to be made again.
NOT_YET = NotYet.NOT_YET
GO_ON = GoOn.GO_ON

Result = TypeVar("Result")


class Readiness:
    """Where one direction of a channel stands in its table.

    `walked` counts how often each row was gone through, but for the first: a try at rest that succeeds.
    """

    table: Table
    at_rest: State

    def __init__(self) -> None:
        self.state = self.at_rest
        self.refused: Callable[[], object] | None = None
        self.walked: Counter[tuple[State, Event]] = Counter()

    def begin(self) -> None:
        """A new call begins."""
        row = self.table.get((self.state, Event.CALL))
        if row is not None:
            self._follow(row)

    def note(self, attempt: Callable[[], object], refusal: NotReady) -> None:
        """An attempt at rest was refused just now; its next step does not make it again."""
        self.refused = attempt

    def step(self, attempt: Callable[[], Result]) -> Result | NotYet:
        """The attempt's result, or NOT_YET when this side may sleep now.

        attempt   raises NotReady, and has then changed nothing, when it must wait

        Any other error of the attempt goes through, with this side at rest.
        """
        while True:
            if self.state is self.at_rest:
                if self.refused is not attempt:
                    try:
                        return attempt()  # the row (at rest, ready), which changes nothing
                    except NotReady as refusal:
                        self.note(attempt, refusal)
                self.refused = None
                event = Event.NOTHING
            else:
                event = Event.READY if self._look() else Event.NOTHING
            row = self.table[self.state, event]
            self._follow(row)
            if row.action is Action.SLEEP:
                return NOT_YET

    def _follow(self, row: Row) -> None:
        self.walked[row.state, row.event] += 1
        # An interrupt in the middle leaves this side at rest: it then publishes once too often,
        # and never sleeps over something that it has not published.
        self.state = self.at_rest
        self._act(row.action)
        self.state = row.following

    def lack(self) -> str:
        """What is waited for, for messages: no ..."""
        raise NotImplementedError

    def _look(self) -> bool:
        """True when the attempt has a chance now, after this side has published that it waits."""
        raise NotImplementedError

    def _act(self, action: Action) -> None:
        """Publish, or take back, what the row says."""
        raise NotImplementedError


class ReceiverReadiness(Readiness):
    """When the receiver of `ring` may sleep."""

    table = RECEIVER_TABLE
    at_rest = State.MASKED

    def __init__(self, ring: IncomingRing) -> None:
        super().__init__()
        self._ring = ring

    def lack(self) -> str:
        return "nothing to receive"

    def _look(self) -> bool:
        self._ring.verify_interrupts_unmasked()
        return self._ring.can_read(self._ring.incoming())

    def _act(self, action: Action) -> None:
        if action is Action.UNMASK:
            self._ring.set_interrupt_mask(False)
        elif action is Action.MASK:
            self._ring.set_interrupt_mask(True)


class SenderReadiness(Readiness):
    """When the sender of `ring` may sleep."""

    table = SENDER_TABLE
    at_rest = State.FREE

    def __init__(self, ring: OutgoingRing) -> None:
        super().__init__()
        self._ring = ring
        self._needed = 0

    def note(self, attempt: Callable[[], object], refusal: NotReady) -> None:
        assert isinstance(refusal, RingFull)
        super().note(attempt, refusal)
        self._needed = refusal.needed

    def lack(self) -> str:
        return f"no room for {self._needed} bytes in the ring of {self._ring.size}"

    def _look(self) -> bool:
        return self._ring.can_write(self._ring.outgoing(), self._needed)

    def _act(self, action: Action) -> None:
        if action is Action.ASK:
            self._ring.set_pending_send_size(size_to_ask_for(self._ring.size, self._needed))
        elif action is Action.CLEAR:
            self._ring.set_pending_send_size(0)


def size_to_ask_for(ring_size: int, needed: int) -> int:
    """The pending send size of a sender that needs `needed` bytes: at least a quarter of the ring.

    There is no hurry to fill the last bytes of a ring that is nearly full; with a quarter free a
    sender is woken less often.  (OpenVMM vmbus_async/src/core.rs.)

    >>> size_to_ask_for(4096, 24), size_to_ask_for(4096, 2000)
    (1022, 2000)
    """
    return max(needed, (ring_size - SLOT) // 4)
