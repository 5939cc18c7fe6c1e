"""What the trials of virtqueues stand beside: lists of requests, and for either side what it has asked to be told.

The model counts entries from the start and never wraps: it knows no slot, no flag and no rule of vmbus.virtio, and
is slow on purpose.  Only `position` says where a counter stands in the queue, to compare it.

An entry is a chain of a split queue, and a descriptor of a packed one.

Lengths are in bytes.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Asking", "QueueModel", "Refusal", "Request", "Used", "Wish"]


class Request(NamedTuple):
    """A request of the model.

    id         what add_request returned
    area       which bytes outside the queue are its own
    buffers    (driver's address, length, written by the device)
    sent       what the device must read
    place_at   where its own bytes in the queue's block start
    place      what the driver has put there
    indirect   whether its descriptors are in a table of its own
    """

    id: int
    area: int
    buffers: list[tuple[int, int, bool]]
    sent: bytes
    place_at: int
    place: bytes
    indirect: bool

    @property
    def writable(self) -> int:
        return sum(length for _, length, from_dev in self.buffers if from_dev)

    @property
    def descriptors(self) -> int:
        """How many of the queue's it takes."""
        return 1 if self.indirect else len(self.buffers)


class Used(NamedTuple):
    """A request on its way back, and what the device says and has written."""

    request: Request
    length: int
    written: bytes


class Refusal(NamedTuple):
    """Why a request cannot be added.

    never    whether no queue of this size ever takes it
    needed   else the descriptors that the error must name
    called   whether the caller's `prepare` was called before
    """

    never: bool
    needed: int
    called: bool


#: What one side has asked for: every notification, none, or one for the entry of that number.
Wish = Literal["always", "never"] | int


class Asking:
    """One direction of notifications: entries are published, and now and then somebody asks.

    wish        what the other side has asked for
    published   entries from the start
    asked       of those, how many there were when it was last asked
    forgotten   whether that has been forgotten since
    sleeper     whether the other side sleeps, and waits for a notification of the next entry

    >>> asking = Asking(wish=2)
    >>> asking.published = 2
    >>> asking.accepts(False, rounds=8), asking.accepts(True, rounds=8)
    (True, False)
    """

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.published = 0
        self.asked = 0
        self.forgotten = False
        self.sleeper = False

    def expected(self) -> bool:
        """Whether the other side has to be told of what was published since this was last asked."""
        if self.wish == "never" or self.asked == self.published:
            return False
        return self.wish == "always" or self.asked <= self.wish < self.published

    def accepts(self, answer: bool, rounds: int) -> bool:
        """Whether an answer is right to: must the other side be told?

        rounds   as far as an event reaches back

        After a migration nobody knows when it was last asked: one notification too many does no
        harm then.  And whoever has left a packed ring's event more than a round behind is awake.
        """
        old = isinstance(self.wish, int) and self.published - self.wish > rounds
        either_will_do = old or (self.forgotten and not self.expected())
        return either_will_do or answer == self.expected()

    def was_asked(self, answer: bool) -> None:
        """Everything up to now has been asked about."""
        self.asked, self.forgotten = self.published, False
        self.sleeper = self.sleeper and not answer


class QueueModel:
    """One queue as lists.

    size             descriptors
    start            where it began: an index, in a packed queue a slot with its wrap counter in bit 15
    indirect_size    entries of a request's own table
    available        requests that are published and not popped
    held             popped and not given back; in the order of the pops
    popped           all pops that were not undone
    popped_here      of those, by the device queue of now
    used             given back and not yet taken by the driver
    free             descriptors that no request takes
    areas            of the bytes outside the queue, those that no request has
    kicks            notifications from the driver to the device; `published` counts entries made available
    interrupts       from the device to the driver; `published` counts entries given back
    taken_entries    that the driver has taken back
    popped_entries   that the device has popped
    """

    def __init__(self, size: int, start: int, *, packed: bool, event_idx: bool, indirect_size: int) -> None:
        self.size = size
        self.start = start
        self.packed = packed
        self.event_idx = event_idx
        self.indirect_size = indirect_size
        self.available: list[Request] = []
        self.held: list[Request] = []
        self.popped: list[Request] = []
        self.popped_here = 0
        self.used: list[Used] = []
        self.free = size
        self.areas = list(range(size))
        # In a split queue with event indices both begin by waiting for the first entry.
        first: Wish = 0 if event_idx and not packed else "always"
        self.kicks = Asking(first)
        self.interrupts = Asking(first)
        self.taken_entries = 0
        self.popped_entries = 0
        self.driver_enabled = True
        self._known = 0  # completions that a split driver knows of without another look

    @property
    def outstanding(self) -> list[Request]:
        """The requests that the driver has not got back."""
        return [*self.available, *self.held, *(used.request for used in self.used)]

    @property
    def rounds(self) -> int:
        """As far as an event reaches back."""
        return self.size if self.packed else 0x8000

    def entries(self, request: Request) -> int:
        """How many a request counts for."""
        return request.descriptors if self.packed else 1

    def position(self, entries: int) -> int:
        """Where one stands after so many entries: an index, or a slot with its wrap counter."""
        if not self.packed:
            return (self.start + entries) % 65536
        slot, wrap = self.start % 0x8000 + entries, self.start // 0x8000
        return slot % self.size + 0x8000 * ((wrap + slot // self.size) % 2)

    def refusal(self, count: int, indirect: bool) -> Refusal | None:
        """Why a request of so many buffers is refused; None when it fits."""
        if not self.free:
            return Refusal(False, 1, False)
        if indirect:
            never = not self.indirect_size or not 0 < count <= min(self.indirect_size, self.size)
            return Refusal(True, 0, self.indirect_size > 0) if never else None
        if not count or count > self.size == self.free:
            return Refusal(True, 0, True)
        return Refusal(False, self.free + 1, True) if count > self.free else None

    # -- what happens ------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """The driver has made a request available."""
        self.areas.remove(request.area)
        self.available.append(request)
        self.free -= request.descriptors
        self.kicks.published += self.entries(request)

    def pop(self) -> Request:
        """The device has popped the next one."""
        request = self.available.pop(0)
        self.held.append(request)
        self.popped.append(request)
        self.popped_here += 1
        self.popped_entries += self.entries(request)
        return request

    def can_step_back(self) -> bool:
        """Whether the chain that was popped last is still the device's."""
        return bool(self.popped) and any(one is self.popped[-1] for one in self.held)

    def step_back(self) -> None:
        """The device has undone that pop."""
        request = self.popped.pop()
        self.popped_here = max(0, self.popped_here - 1)
        self.held = [one for one in self.held if one is not request]
        self.available.insert(0, request)
        self.popped_entries -= self.entries(request)

    def give_back(self, request: Request, length: int, written: bytes) -> None:
        """The device has given one of its chains back."""
        self.held = [one for one in self.held if one is not request]
        self.used.append(Used(request, length, written))
        self.interrupts.published += self.entries(request)

    def take(self) -> Used:
        """The driver has taken the next completion."""
        self._known = (self._known or len(self.used)) - 1
        used = self.used.pop(0)
        self.free += used.request.descriptors
        self.areas.append(used.request.area)
        self.taken_entries += self.entries(used.request)
        # A split driver looks at the device's index once for all that it announces.
        if not (self.used if self.packed else self._known):
            self.driver_saw_the_end()
        return used

    def migrated(self, *, forgotten: bool) -> None:
        """Another device queue goes on; `forgotten`: it does not know which chains are held."""
        if forgotten:
            self.popped = []
        self.popped_here = 0
        self.interrupts.forgotten = True

    # -- what is asked for -------------------------------------------------------------------------

    def driver_saw_the_end(self) -> None:
        """There was no completion more: whoever waits for an event waits for the next one."""
        if self.event_idx and self.driver_enabled:
            self.interrupts.wish = self.taken_entries

    def device_asks(self, enabled: bool) -> None:
        """The device wants to be told, or not."""
        if enabled:
            self.kicks.wish = self.popped_entries if self.event_idx else "always"
        elif self.packed or not self.event_idx:
            self.kicks.wish = "never"

    def driver_asks(self, enabled: bool) -> None:
        """The driver wants to be told, or not."""
        self.driver_enabled = enabled
        if enabled:
            self.interrupts.wish = self.taken_entries if self.event_idx else "always"
        elif self.packed or not self.event_idx:
            self.interrupts.wish = "never"
