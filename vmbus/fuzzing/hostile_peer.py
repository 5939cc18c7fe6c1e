"""The other side as an enemy: it writes anything anywhere between any two accesses of its victim.

What it does is a plan, a list of strikes, each so many accesses later; the same plan over the same bytes strikes at
the same places, so whatever was found can be repeated.

    ring, peer = HostilePeer.ring([Strike(5, "again", 4, b"\\xff\\xff")])

A peer is the `between` of a SlowMemory around its victim's memory and acts on the memory inside.  HostilePeer does so
to a ring, HostileQueuePeer to the memory of a virtqueue.  Neither needs anything but this package.

Source: the other side of a ring is not trusted, Microsoft Hyper-V TLFS and Linux drivers/hv/ring_buffer.c,
hv_pkt_iter_first(); of a virtqueue, OASIS VIRTIO 1.2, appendix A.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, ClassVar, TypeVar, overload

from vmbus.errors import CallerError
from vmbus.layout import IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import AddressError, FlatRingMem, GuestMemory, RingMem
from vmbus.ring import IncomingRing, OutgoingRing, is_offset
from vmbus.sizes import CONTROL_WORD_COUNT, SLOT

from .slow_memory import Access, SlowMemory
from .strikes import Strike

__all__ = ["HostilePeer", "HostileQueuePeer"]

End = TypeVar("End", IncomingRing, OutgoingRing)


class Peer:
    """What both kinds of hostile peers do.

    accesses   of the victim, so far
    strikes    made so far
    corners    how often each thing was struck that victims are likely to go wrong at
    """

    WHAT: ClassVar[tuple[str, ...]] = ()

    def __init__(self, plan: Iterable[Strike] = ()) -> None:
        self.accesses = 0
        self.strikes = 0
        self.corners: Counter[str] = Counter()
        self._waiting: list[tuple[int, int, Strike]] = []
        self._planned = 0
        self._last_read = 0
        self._seen: set[int] = set()
        self.plan(plan)

    def plan(self, strikes: Iterable[Strike]) -> None:
        """Strike so, counted from now; CallerError for what is no strike."""
        for strike in strikes:
            self._check(strike)
            self._planned += 1  # of two strikes at one moment the one planned first comes first
            heappush(self._waiting, (self.accesses + strike.after, self._planned, strike))

    @property
    def waiting(self) -> int:
        """Strikes that are planned and not made."""
        return len(self._waiting)

    def begin(self) -> None:
        """A call of the victim begins: what it reads from now on is what it can read twice."""
        self._seen.clear()

    def between(self, access: Access) -> None:
        """Told of every access of the victim; strikes where it is time, before the access."""
        if access.done:
            self.accesses += 1
            if access.what == "read":
                self._note_read(access)
            return
        while self._waiting and self._waiting[0][0] <= self.accesses:
            self._strike(heappop(self._waiting)[2], access)

    def strike_now(self) -> None:
        """Make all strikes that are left, whenever they were planned for."""
        while self._waiting:
            self._strike(heappop(self._waiting)[2], Access("fence"))

    # -- inside ----------------------------------------------------------------------------------

    def _note_read(self, access: Access) -> None:
        if access.begins:
            self._last_read = access.place
        first = access.place // SLOT
        self._seen.update(range(first, (access.place + access.length + SLOT - 1) // SLOT))

    def _strike(self, strike: Strike, access: Access) -> None:
        self.strikes += 1
        _, what, place, value = strike
        if isinstance(value, int):
            self._count_word(place, value)
            self._store_word(place, value)
            return
        if what == "again":
            place += self._last_read
        self._write(what, place, value, access)

    def _wrote(self, place: int, length: int, access: Access) -> None:
        """Count the corners of bytes that were written there, before that access."""
        first, last = place // SLOT, (place + length - 1) // SLOT
        if not self._seen.isdisjoint(range(first, last + 1)):
            self.corners["changed between two looks"] += 1
        if not access.begins:
            self.corners[f"changed within a {access.what}"] += 1

    def _check(self, strike: Strike) -> None:
        is_word = strike.what == "word"
        if strike.what not in self.WHAT or is_word != isinstance(strike.value, int) or strike.after < 0:
            raise CallerError(
                f"{strike} is no strike: 'word' takes a number, {', '.join(self.WHAT[1:])} take bytes",
                argument="plan",
                value=strike,
                limit=self.WHAT,
            )

    def _count_word(self, place: int, value: int) -> None:
        raise NotImplementedError

    def _store_word(self, place: int, value: int) -> None:
        raise NotImplementedError

    def _write(self, what: str, place: int, value: bytes, access: Access) -> None:
        raise NotImplementedError


class HostilePeer(Peer):
    """An enemy at the other side of a ring.

    memory   the ring's memory itself, which the victim reaches through a SlowMemory
    plan     the first strikes; `plan` adds more

    >>> ring, peer = HostilePeer.ring([Strike(0, "word", 0, 4)])      # in, which must be a multiple of 8
    >>> ring.receive()
    Traceback (most recent call last):
    vmbus.errors.PeerError: in is 0x0004: in a ring of 4096 bytes it is a multiple of 8 up to 0x0ff8
    >>> peer.corners
    Counter({'index not a multiple of 8': 1})
    """

    WHAT = ("word", "bytes", "again", "next", "packet")

    def __init__(self, memory: RingMem, plan: Iterable[Strike] = ()) -> None:
        self.memory = memory
        super().__init__(plan)

    @overload
    @classmethod
    def ring(
        cls, plan: Iterable[Strike] = (), *, memory: RingMem | None = ..., part_size: int | None = ...
    ) -> tuple[IncomingRing, HostilePeer]: ...

    @overload
    @classmethod
    def ring(
        cls,
        plan: Iterable[Strike],
        kind: type[End],
        *,
        memory: RingMem | None = ...,
        part_size: int | None = ...,
    ) -> tuple[End, HostilePeer]: ...

    @classmethod
    def ring(
        cls,
        plan: Iterable[Strike] = (),
        kind: type[Any] = IncomingRing,
        *,
        memory: RingMem | None = None,
        part_size: int | None = SLOT,
    ) -> tuple[Any, HostilePeer]:
        """A ring end to be attacked, and its enemy.

        kind        IncomingRing or OutgoingRing
        memory      what both share; None: an empty ring of 4096 bytes
        part_size   of the SlowMemory between them

        The plan counts from the first access behind the making of the ring.
        """
        peer = cls(FlatRingMem(4096) if memory is None else memory)
        end = kind(SlowMemory(peer.memory, peer.between, part_size=part_size))
        peer.plan(plan)
        return end, peer

    def _count_word(self, place: int, value: int) -> None:
        size = self.memory.size
        if place in (IN_WORD, OUT_WORD):
            if is_offset(size, value):
                self.corners["index moved"] += 1
            elif value < size:
                self.corners["index not a multiple of 8"] += 1
            else:
                self.corners["index out of range"] += 1
        elif place == INTERRUPT_MASK_WORD:
            self.corners["mask changed"] += 1
        elif place == PENDING_SEND_SIZE_WORD:
            self.corners["pending size changed"] += 1

    def _store_word(self, place: int, value: int) -> None:
        self.memory.control[place % CONTROL_WORD_COUNT] = value & 0xFFFF_FFFF

    def _write(self, what: str, place: int, value: bytes, access: Access) -> None:
        size = self.memory.size
        if what == "next":
            place += self.memory.control[OUT_WORD]
        place %= size
        value = value[:size]
        self.memory.write_at(place, value)
        self._wrote(place, min(len(value), size - place), access)
        if what == "packet":
            self.memory.control[IN_WORD] = (place + len(value)) // SLOT * SLOT % size
            self.corners["packet put in"] += 1

    def _note_read(self, access: Access) -> None:
        # Offsets come as they were given, up to twice the size; from here on they are within the ring.
        super()._note_read(access._replace(place=access.place % self.memory.size))


class HostileQueuePeer(Peer):
    """An enemy at the other side of a virtqueue: a driver's device, or a device's driver.

    memory   the memory itself, which the victim reaches through a SlowGuestMemory

    What would go where there is no memory goes nowhere.
    """

    WHAT = ("word", "bytes", "again")

    def __init__(self, memory: GuestMemory, plan: Iterable[Strike] = ()) -> None:
        self.memory = memory
        super().__init__(plan)

    def _count_word(self, place: int, value: int) -> None:
        self.corners["word changed"] += 1

    def _store_word(self, place: int, value: int) -> None:
        try:
            self.memory.store_field(place & ~1, 2, value & 0xFFFF)
        except AddressError:
            self.corners["nowhere"] += 1

    def _write(self, what: str, place: int, value: bytes, access: Access) -> None:
        try:
            self.memory.write(place, value)
        except AddressError:
            self.corners["nowhere"] += 1
        else:
            self._wrote(place, len(value), access)
