"""What all trials with a hostile peer share: victims, and the law that they keep.

The law: any bytes, at any moment, give a result, NotReady or PeerError, or what else a call says that it may raise,
and nothing else.  A call ends after so many accesses; a PeerError comes again from every later call until the victim
is reset; where nothing has been struck yet, nothing is wrong.

A victim works over two slow memories, one around the other.  The outer one notes whole accesses, as the victim sees
them; the inner one does them in parts, between which the peer strikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vmbus.errors import NotReady, PeerError
from vmbus.memory import GuestMemory, RingMem
from vmbus.ring import GpaRangeFault, RingFault
from vmbus.virtio import VirtqueueFault

from .hostile_peer import HostilePeer, HostileQueuePeer, Peer
from .slow_memory import Access, SlowGuestMemory, SlowMemory
from .strikes import Strike
from .trial import Trial, Wrong

__all__ = [
    "HOSTILE_CORNERS",
    "HostileTrial",
    "Outcome",
    "QueueVictim",
    "RingVictim",
    "Victim",
    "facts",
]

#: What a strike can meet, and what can come of it; of all hostile trials.
HOSTILE_CORNERS = (
    "changed between two looks",
    "changed within a read",
    "error raised",
    "error raised again",
    "result under attack",
)

#: Faults that stop a ring or a queue; any other is of one packet, and the next call looks again.
STOPPING = (RingFault, GpaRangeFault, VirtqueueFault)

Facts = tuple[object, ...]


def facts(error: PeerError) -> Facts:
    """What an error says: each raise of a stopped ring is a new error with the same facts."""
    return (str(error), error.kind, error.offset, error.found, error.allowed)


class Outcome(NamedTuple):
    """What came of a call: a result, or an error of those it may raise."""

    result: Any
    error: Exception | None


class Victim:
    """One side under attack.

    peer       its enemy
    accesses   of the last call, whole, each once it was done
    fault      the facts of the PeerError that every call must raise now
    refusals   how many calls have raised it
    owed       a bad index that a commit has met: the next call must raise PeerError for it
    """

    def __init__(self, name: str, peer: Peer) -> None:
        self.name = name
        self.peer = peer
        self.accesses: list[Access] = []
        self.fault: Facts | None = None
        self.refusals = 0
        self.owed: int | None = None
        self._struck = 0
        self._call = "the making"
        self._most = self._left = 100

    @property
    def quiet(self) -> bool:
        """Whether nothing has been struck yet, or since somebody put right what was."""
        return self.peer.strikes == self._struck

    def put_right(self) -> None:
        """What was struck is put right: from here on all is honest again, until the next strike."""
        self.fault = self.owed = None
        self.refusals = 0
        self._struck = self.peer.strikes

    def begin(self, call: str, most: int) -> None:
        """A call begins that makes so many accesses at most."""
        self.accesses = []
        self.peer.begin()
        self._call = call
        self._most = self._left = most

    def note(self, access: Access) -> None:
        """The `between` of the outer memory."""
        if access.done:
            self.accesses.append(access)
            return
        self._left -= 1
        if self._left < 0:
            raise Wrong(f"{self._call} goes on after {self._most} accesses: the next is {access}")

    def loads(self, word: int) -> list[int]:
        """The values that the last call has loaded of a word."""
        return [access.value for access in self.accesses if access.what == "load" and access.place == word]

    def stores(self, word: int) -> list[int]:
        """The values that the last call has stored in a word."""
        return [access.value for access in self.accesses if access.what == "store" and access.place == word]


class RingVictim(Victim):
    """One end of a ring under attack.

    inside   the ring's memory itself
    memory   what the victim is to be made over
    """

    def __init__(self, name: str, inside: RingMem) -> None:
        peer = HostilePeer(inside)
        super().__init__(name, peer)
        self.inside = inside
        self.memory = SlowMemory(SlowMemory(inside, peer.between), self.note, part_size=None)


class QueueVictim(Victim):
    """One side of a virtqueue under attack."""

    def __init__(self, name: str, inside: GuestMemory) -> None:
        peer = HostileQueuePeer(inside)
        super().__init__(name, peer)
        self.inside = inside
        self.memory = SlowGuestMemory(SlowGuestMemory(inside, peer.between), self.note, part_size=None)


class HostileTrial(Trial):
    """The base of trials whose other side is an enemy."""

    def strike(self, victim: Victim, after: int, what: str, place: int, value: int | bytes) -> None:
        """Have something struck, so many accesses of that victim from now."""
        victim.peer.corners = self.corners
        victim.peer.plan([Strike(after, what, place, value)])

    def attempt(
        self,
        victim: Victim,
        call: str,
        function: Callable[[], Any],
        *,
        most: int,
        may: tuple[type[Exception], ...] = (),
        commits: bool = False,
    ) -> Outcome:
        """Call, and look whether the law is kept.

        call      what is called, for messages
        most      accesses that it may make
        may       what it may raise beside NotReady and PeerError
        commits   it commits: it never raises PeerError
        """
        victim.begin(f"{call} of {victim.name}", most)
        outcome = self.outcome_of(victim, call, function, (NotReady, PeerError, *may))
        error = outcome.error
        if commits:
            self.demand(not isinstance(error, PeerError), f"{call} raised PeerError, and it commits: {error}")
        elif victim.fault is not None:
            self.check_fault_again(victim, call, outcome)
        elif isinstance(error, PeerError):
            self.note_fault(victim, call, error)
        elif victim.owed is not None:
            self.demand(
                False, f"{call} of {victim.name} raised no PeerError; a commit had met {victim.owed:#x}"
            )
        elif error is None and not victim.quiet:
            self.corners["result under attack"] += 1
        return outcome

    def outcome_of(
        self, victim: Victim, call: str, function: Callable[[], Any], may: tuple[type[Exception], ...]
    ) -> Outcome:
        try:
            return Outcome(function(), None)
        except Wrong:
            raise
        except may as error:
            return Outcome(None, error)
        except Exception as error:
            raise Wrong(
                f"{call} of {victim.name} raised {type(error).__name__}, and whatever the other side writes "
                f"is a result, NotReady or PeerError: {error}"
            ) from error

    def check_fault_again(self, victim: Victim, call: str, outcome: Outcome) -> None:
        """Behind a PeerError: the same again."""
        error = outcome.error
        if not isinstance(error, PeerError):
            came = f"returned {outcome.result!r:.60}" if error is None else f"raised {type(error).__name__}"
            raise Wrong(f"{call} of {victim.name} {came}, and it had raised PeerError: {victim.fault[0]}")  # type: ignore[index]
        self.demand_equal(facts(error), victim.fault, f"{call} of {victim.name} behind a PeerError")
        self.corners["error raised again"] += 1
        victim.refusals += 1

    def note_fault(self, victim: Victim, call: str, error: PeerError) -> None:
        if not isinstance(error.kind, STOPPING):
            self.corners["packet refused by a pipe"] += 1
            return
        self.demand(
            not victim.quiet, f"{call} of {victim.name} raised PeerError, and nothing was struck: {error}"
        )
        victim.owed = None
        victim.fault = facts(error)
        self.corners["error raised"] += 1
        if not victim.accesses:
            self.corners["error kept by an earlier call"] += 1

    def check_index(
        self, victim: RingVictim, call: str, outcome: Outcome, bad: list[int], parts: bool
    ) -> None:
        """An index that is none, and was loaded to be used, is refused; `parts`: or by the next call."""
        if not bad:
            return
        error = outcome.error
        refused = isinstance(error, PeerError) and error.found == bad[0]
        self.demand(
            refused or (parts and error is None), f"{call} of {victim.name} took {bad[0]:#x} for an index"
        )
        if not refused:
            victim.owed = bad[0]

    def check_stores(self, victim: Victim, words: tuple[int, ...]) -> None:
        """A side stores its own control words and no others."""
        for access in victim.accesses:
            if access.what == "store":
                self.demand(access.place in words, f"{victim.name} stored word {access.place}: not its own")
