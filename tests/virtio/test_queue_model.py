"""A queue of any size, from any start, carries what lists carry, refuses the rest, and wakes whoever sleeps.

The model is three lists of requests (with the device's ring, with the device, on the way back), a
count of free descriptors, and for either side what it has asked to be told.  It counts entries from
the start and never wraps: it knows no index, no slot and no rule of vmbus.virtio.

The machine fills the queue to the last descriptor on purpose, asks for one more, starts just before
index 65535 or at any slot of a packed ring, gives chains back in any order, steps back, carries the
device's state into a new queue, and lets either side go to sleep.  Buffers lie across regions that
touch, and the device sees them at other addresses than the driver.

A test at the end counts that all of this is reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import ClassVar, Literal, NamedTuple

import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, integers, lists, one_of, sampled_from

from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.errors import CallerError, RingFull
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    DescriptorChain,
    DeviceQueue,
    RequestPlace,
    VirtioFeatures,
    Virtqueue,
    VirtqueueCompletion,
    VirtqueueLayout,
    connected_virtqueues,
)

#: Where the driver sees the queue and the requests' buffers; the device sees them `shift` further on.
QUEUE_ADDRESS = 0x1_0000
DATA_ADDRESS = 0x40_0000

#: Each request has so many bytes for its buffers, in regions of which none is a multiple of the other.
AREA = 1400
REGION = 50

#: Of its own place in the queue's block a request gives the first half to read, the other to write.
PLACE = 16
HALF = PLACE // 2

#: What stands in a writable buffer until the device writes there.
UNWRITTEN = 0xEE

buffer_lengths = sampled_from([0, 1, 2, 7, 16, 40, 40])


class Request(NamedTuple):
    """A request of the model.

    id        what add_request returned
    area      which bytes outside the queue are its own
    buffers   (driver's address, length, written by the device)
    sent      what the device must read
    place     what the driver has put into the request's place
    entries   of the ring
    """

    id: int
    area: int
    buffers: list[tuple[int, int, bool]]
    sent: bytes
    place: bytes
    entries: int

    @property
    def writable(self) -> int:
        return sum(length for _, length, from_dev in self.buffers if from_dev)


class Used(NamedTuple):
    """A request on its way back, and what the device says and has written."""

    request: Request
    length: int
    written: bytes


#: What one side has asked for: every notification, none, or one for the entry of that number.
Wish = Literal["always", "never"] | int


class Asking:
    """One direction of notifications: entries are published, and now and then somebody asks.

    wish        what the other side has asked for
    published   entries from the start
    asked       of those, how many there were when it was last asked
    forgotten   whether that has been forgotten since
    sleeper     whether the other side sleeps, and waits for a notification of the next entry
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

    def check(self, answer: bool, rounds: int) -> None:
        """Judge an answer to: must the other side be told?  `rounds` is as far as an event reaches back.

        After a migration nobody knows when it was last asked: one notification too many does no
        harm then.  And whoever has left a packed ring's event more than a round behind is awake.
        """
        old = isinstance(self.wish, int) and self.published - self.wish > rounds
        if not old and (self.expected() or not self.forgotten):
            assert answer == self.expected()
        self.asked, self.forgotten = self.published, False
        self.sleeper = self.sleeper and not answer


class QueueAgainstLists(RuleBasedStateMachine):
    """One queue, driven from both ends, and lists."""

    reached: ClassVar[Counter[str]] = Counter()
    packed: ClassVar[bool]

    def begin(self, size: int, start: int, event_idx: bool, indirect_size: int, shift: int) -> None:
        features = VirtioFeatures.VERSION_1
        if self.packed:
            features |= VirtioFeatures.RING_PACKED
        if event_idx:
            features |= VirtioFeatures.RING_EVENT_IDX
        if indirect_size:
            features |= VirtioFeatures.RING_INDIRECT_DESC
        self.size, self.start, self.event_idx, self.indirect_size = size, start, event_idx, indirect_size
        layout = VirtqueueLayout.new(1, size, features, request_size=PLACE, indirect_size=indirect_size)
        buffers = [(QUEUE_ADDRESS, bytearray(layout.end_offset))]
        for offset in range(0, AREA * size, REGION):
            length = min(REGION, AREA * size - offset)
            buffers.append((DATA_ADDRESS + offset, bytearray(length)))
        self.memory = GuestMemory(buffers)
        self.driver = Virtqueue(
            self.memory,
            size,
            features,
            address=QUEUE_ADDRESS,
            request_size=PLACE,
            indirect_size=indirect_size,
            translate=(lambda address, length: address + shift) if shift else None,
            start=start,
        )
        self.shift = shift
        self.device_memory = GuestMemory([(address + shift, buffer) for address, buffer in buffers])
        self.device = DeviceQueue(self.device_memory, size, features)
        self.device.set_up(self.driver.areas, start=start)
        self.available: list[Request] = []  # published, not popped
        self.held: list[Request] = []  # popped, not given back; in the order of the pops
        self.popped: list[Request] = []  # all pops that were not undone
        self.popped_here = 0  # of those, by this DeviceQueue
        self.used: list[Used] = []  # given back, not yet taken by the driver
        self.free = size
        self.areas = list(range(size))
        self.taken_entries = 0  # by the driver
        self.popped_entries = 0  # by the device
        self.driver_enabled = True
        self.known = 0  # completions that the driver knows of
        waits_for_first: Wish = 0 if event_idx and not self.packed else "always"
        self.kicks = Asking(waits_for_first)  # driver to device
        self.interrupts = Asking(waits_for_first)  # device to driver
        self.requests_made = 0

    # -- adding ------------------------------------------------------------------------------------

    def outstanding(self) -> list[Request]:
        return [*self.available, *self.held, *(used.request for used in self.used)]

    def shape(self, lengths: list[int], writable: int, in_place: bool) -> list[tuple[int | None, int, bool]]:
        """(None for the place, else an offset in the request's area; length; written by the device)."""
        readable = max(0, len(lengths) - writable)
        shape: list[tuple[int | None, int, bool]] = []
        offset = 53 * self.requests_made % (AREA + 1 - sum(lengths))
        for number, length in enumerate(lengths):
            from_dev = number >= readable
            if in_place and number == 0 and not from_dev:
                shape.append((None, HALF, False))
            elif in_place and number == len(lengths) - 1 and from_dev:
                shape.append((None, HALF, True))
            else:
                shape.append((offset, length, from_dev))
                offset += length
        assert offset <= AREA
        return shape

    def add(self, lengths: list[int], writable: int, *, in_place: bool, indirect: bool) -> None:
        """One request, or the right refusal."""
        area = self.areas[0] if self.areas else 0
        self.requests_made += 1
        shape = self.shape(lengths, writable, in_place)
        fill = pattern(AREA + PLACE, seed=self.requests_made)
        buffers: list[tuple[int, int, bool]] = []
        sent = b""
        called = False

        def prepare(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
            nonlocal sent, called
            called = True
            place.data[:HALF] = fill[-HALF:]
            place.data[HALF:] = bytes([UNWRITTEN]) * HALF
            for offset, length, from_dev in shape:
                if offset is None:
                    address = place.address + (HALF if from_dev else 0)
                else:
                    address = DATA_ADDRESS + AREA * area + offset
                    content = bytes([UNWRITTEN]) * length if from_dev else fill[offset : offset + length]
                    self.memory.write(address, content)
                if not from_dev:
                    sent += self.memory.read(address, length)
                add_descriptor(address, length, from_dev)
                buffers.append((address, length, from_dev))

        request_id = self.attempt(
            len(lengths), indirect, lambda: self.driver.add_request(prepare, indirect=indirect)
        )
        if request_id is None:
            assert called == (self.free > 0 and (not indirect or self.indirect_size > 0))
            return
        assert request_id not in [request.id for request in self.outstanding()]
        entries = 1 if indirect else len(lengths)
        place = fill[-HALF:] + bytes([UNWRITTEN]) * HALF
        self.areas.pop(0)
        self.available.append(Request(request_id, area, buffers, sent, place, entries))
        self.note_added(entries, shape, area)

    def attempt(self, count: int, indirect: bool, add_request: Callable[[], int]) -> int | None:
        """The request's id, or None when it was refused as it must be."""
        never, full = self.refusal(count, indirect)
        if never:
            self.reached["never fits"] += 1
            with pytest.raises(CallerError):
                add_request()
        elif full is not None:
            self.reached["full"] += 1
            with pytest.raises(RingFull) as caught:
                add_request()
            assert (caught.value.needed, caught.value.free) == (full, self.free)
        else:
            return add_request()
        return None

    def refusal(self, count: int, indirect: bool) -> tuple[bool, int | None]:
        """Whether such a request never fits, and else how many descriptors it misses now."""
        if self.free == 0:
            return False, 1
        if indirect:
            return count > min(self.indirect_size, self.size), None
        if count > self.size == self.free:
            return True, None
        return False, self.free + 1 if count > self.free else None

    def note_added(self, entries: int, shape: list[tuple[int | None, int, bool]], area: int) -> None:
        before = self.position(self.kicks.published)
        self.free -= entries
        self.kicks.published += entries if self.packed else 1
        after = self.position(self.kicks.published)
        self.reached["last descriptor taken"] += self.free == 0
        self.reached["index past 65535"] += not self.packed and after < before
        self.reached["list over the end of the ring"] += (
            self.packed and (before ^ after) >> 15 == 1 and after & 0x7FFF != 0
        )
        self.reached["a list of the whole ring"] += self.packed and entries == self.size > 1
        for offset, length, _ in shape:
            if offset is not None and length:
                first = AREA * area + offset
                self.reached["buffer across regions"] += first // REGION != (first + length - 1) // REGION

    @rule(
        lengths=lists(buffer_lengths, min_size=1, max_size=4),
        writable=integers(0, 4),
        in_place=booleans(),
        count=integers(1, 3),
    )
    def add_some(self, lengths: list[int], writable: int, in_place: bool, count: int) -> None:
        for _ in range(count):
            self.add(lengths, writable, in_place=in_place, indirect=False)

    @rule(
        lengths=lists(buffer_lengths, min_size=1, max_size=14),
        writable=integers(0, 8),
        in_place=booleans(),
    )
    def add_indirect(self, lengths: list[int], writable: int, in_place: bool) -> None:
        if self.indirect_size:
            self.reached["indirect"] += 1
            self.add(lengths, writable, in_place=in_place, indirect=True)
            return
        if self.free:
            with pytest.raises(CallerError, match="indirect"):
                self.driver.add_request(never_called, indirect=True)

    @rule(left=integers(-1, 1), length=buffer_lengths, writable=integers(0, 32))
    def add_leaving(self, left: int, length: int, writable: int) -> None:
        """The request that leaves so many descriptors; -1 is one too many."""
        count = self.free - left
        if count > 0:
            self.add([length] * count, writable, in_place=False, indirect=False)

    @rule(length=buffer_lengths, from_dev=booleans(), one_more=booleans())
    def fill_with_small_ones(self, length: int, from_dev: bool, one_more: bool) -> None:
        while self.free:
            self.add([length], int(from_dev), in_place=False, indirect=False)
        if one_more:
            self.add([length], 0, in_place=False, indirect=False)

    @rule(count=integers(0, 4), fault=sampled_from(["raises", "order", "length", "nested"]))
    def a_prepare_that_fails_leaves_nothing_behind(self, count: int, fault: str) -> None:
        if not self.free:
            return

        def prepare(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
            for number in range(min(count, self.free - 1)):
                add_descriptor(place.address, number)
            if fault == "order":
                add_descriptor(place.address, 1, from_dev=True)
                add_descriptor(place.address, 1)
            if fault == "length":
                add_descriptor(place.address, 2**32)
            if fault == "nested":
                self.driver.add_request(never_called)
            raise PrepareFailed

        allowed = PrepareFailed if fault == "raises" else (CallerError, RingFull)
        with pytest.raises(allowed):
            self.driver.add_request(prepare)
        with pytest.raises(CallerError):
            self.driver.add_request(lambda place, add_descriptor: None)

    # -- the device --------------------------------------------------------------------------------

    @rule(count=integers(1, 3), cut=integers(0, 50))
    def pop_some(self, count: int, cut: int) -> None:
        for _ in range(count):
            self.pop(self.device.pop_descriptor_chain(), cut)

    @rule(cut=integers(0, 50))
    def pop_all(self, cut: int) -> None:
        self.wake_device()
        for chain in self.device:
            self.pop(chain, cut)
        assert not self.available

    def wake_device(self) -> None:
        self.kicks.sleeper = False

    def pop(self, chain: DescriptorChain | None, cut: int) -> None:
        self.wake_device()
        if not self.available:
            assert chain is None
            return
        assert chain is not None
        request = self.available.pop(0)
        self.check_chain(chain, request, cut)
        self.held.append(request)
        self.popped.append(request)
        self.popped_here += 1
        self.popped_entries += self.counted(request)

    def counted(self, request: Request) -> int:
        """Entries of the ring, as notifications count them."""
        return request.entries if self.packed else 1

    def check_chain(self, chain: DescriptorChain, request: Request, cut: int) -> None:
        assert chain.head_index == request.id
        found = [(one.address - self.shift, one.length, bool(one.flags & 2)) for one in chain.descriptors]
        assert found == request.buffers
        assert [one.table is not None for one in chain.descriptors] == [
            request.entries < len(request.buffers) or one.table is not None for one in chain.descriptors
        ]
        assert (chain.readable_bytes, chain.writable_bytes) == (len(request.sent), request.writable)
        assert chain.read_all() == request.sent
        reader = chain.reader()
        first = reader.read(cut)
        rest = reader.split_at(reader.available_bytes // 2)
        assert first + reader.read() + rest.read() == request.sent
        assert chain.writer().available_bytes == request.writable

    @rule(
        more=integers(0, 2),
        which=integers(0, 40),
        length=integers(0, 10**6),
        understated=booleans(),
        cut=integers(0, 50),
    )
    def give_one_back(self, more: int, which: int, length: int, understated: bool, cut: int) -> None:
        self.have_held(more)
        if self.held:
            self.give_back(which % len(self.held), length, understated, cut)

    def have_held(self, more: int) -> None:
        """Let the device have so many chains more, where there is room."""
        for _ in range(more):
            if self.free and not self.available:
                self.add([7], more % 2, in_place=False, indirect=False)
            self.pop(self.device.pop_descriptor_chain(), more)

    @rule(more=integers(0, 3), seed=integers(0, 999), count=integers(1, 40))
    def give_many_back(self, more: int, seed: int, count: int) -> None:
        self.have_held(more)
        random = Random(seed)
        for _ in range(min(count, len(self.held))):
            which = random.choice([0, len(self.held) - 1, random.randrange(len(self.held))])
            self.give_back(which, random.choice([0, 1, 10**6]), False, 3)

    def give_back(self, which: int, length: int, understated: bool, cut: int) -> None:
        """Write so many bytes to the chain, or all there is room for, and give it back."""
        self.wake_device()
        request = self.held.pop(which)
        self.reached["given back out of order"] += which > 0
        length = length % (request.writable + 1) if length < 10**6 else request.writable
        written = pattern(length, seed=request.id + 77)
        self.write_to(request, written, cut)
        said = 0 if understated else length
        with pytest.raises(CallerError):
            self.device.add_used(10**5, 0)
        self.device.add_used(request.id, said)
        self.used.append(Used(request, said, written))
        before = self.position(self.interrupts.published)
        self.interrupts.published += self.counted(request)
        after = self.position(self.interrupts.published)
        self.reached["used index past 65535"] += not self.packed and after < before
        self.reached["used in the next round"] += self.packed and (before ^ after) >> 15 == 1

    def write_to(self, request: Request, data: bytes, cut: int) -> None:
        """Through a chain of its own making: the model has not kept the real one."""
        done = 0
        for address, length, from_dev in request.buffers:
            if from_dev:
                part = data[done : done + length]
                self.device_memory.write(address + self.shift, part[:cut])
                self.device_memory.write(address + self.shift + len(part[:cut]), part[cut:])
                done += len(part)

    @rule(data_length=integers(0, 60), cut=integers(0, 60), count=integers(1, 3))
    def serve_some(self, data_length: int, cut: int, count: int) -> None:
        for _ in range(count):
            self.serve_the_next(data_length, cut)

    def serve_the_next(self, data_length: int, cut: int) -> None:
        """Pop, write through the chain itself, give back: what most devices do."""
        if not self.available:
            return
        self.wake_device()
        chain = self.device.pop_descriptor_chain()
        request = self.available[0]
        self.pop(chain, cut)
        assert chain is not None
        data = pattern(min(data_length, request.writable), seed=5)
        if cut % 2:
            writer = chain.writer()
            assert writer.write(data[:cut]) + writer.write(data[cut:]) == len(data)
            length = writer.bytes_written
        else:
            length = chain.write_all(data)
        with pytest.raises(CallerError):
            self.device.add_used(chain.head_index, request.writable + 1)
        self.device.add_used(chain.head_index, length)
        self.held.remove(request)
        self.used.append(Used(request, length, data))
        self.interrupts.published += self.counted(request)

    @rule(more=integers(0, 2), use_last=booleans(), steps=integers(1, 3))
    def step_back(self, more: int, use_last: bool, steps: int) -> None:
        """The last pop is undone, if its chain is still the device's."""
        self.wake_device()
        self.have_held(more)
        if use_last and len(self.held) > 1:
            self.give_back(len(self.held) - 1, 1, False, 2)
        for _ in range(steps):
            self.step_back_once()

    def step_back_once(self) -> None:
        possible = bool(self.popped) and any(one is self.popped[-1] for one in self.held)
        if not possible:
            self.reached["no way back"] += bool(self.held)
            with pytest.raises(CallerError):
                self.device.go_to_previous_position()
            return
        try:
            self.device.go_to_previous_position()
        except CallerError:
            assert self.popped_here == 0, "a chain popped before a migration may be out of reach, no other"
            return
        self.reached["stepped back"] += 1
        request = self.popped.pop()
        self.popped_here = max(0, self.popped_here - 1)
        self.held = [one for one in self.held if one is not request]
        self.available.insert(0, request)
        self.popped_entries -= self.counted(request)

    @rule(more=integers(0, 2), forget=booleans(), stop=booleans(), then_ask=booleans())
    def migrate(self, more: int, forget: bool, stop: bool, then_ask: bool) -> None:
        """Another device queue goes on; of a split queue it need not know which chains are held."""
        self.have_held(more)
        if stop:
            self.device.set_ready(False)
            with pytest.raises(CallerError):
                self.device.pop_descriptor_chain()
        state = self.device.state()
        if forget and not self.packed:
            state = state._replace(held=())
            self.popped = []
        self.device = DeviceQueue.from_state(self.device_memory, state)
        assert self.device.state() == state
        self.device.set_ready(True)
        self.reached["migrated with chains held"] += bool(self.held)
        self.reached["migrated before asking"] += self.interrupts.asked != self.interrupts.published
        self.popped_here = 0
        self.interrupts.forgotten = True
        if then_ask:
            self.device_asks_whether_to_notify()

    # -- the driver again --------------------------------------------------------------------------

    @rule(count=integers(1, 3))
    def take_some(self, count: int) -> None:
        for _ in range(count):
            self.wake_driver()
            if self.used:
                self.take(next(self.driver.completions()))
            else:
                assert next(self.driver.completions(), None) is None
                self.driver_saw_the_end()

    @rule()
    def take_all(self) -> None:
        self.wake_driver()
        for completion in self.driver.completions():
            self.take(completion)
        assert not self.used
        self.driver_saw_the_end()

    def wake_driver(self) -> None:
        self.interrupts.sleeper = False

    def take(self, completion: VirtqueueCompletion) -> None:
        self.known = (self.known or len(self.used)) - 1
        request, length, written = self.used.pop(0)
        assert (completion.id, completion.length) == (request.id, length)
        self.check_buffers(request, written, completion.request)
        self.free += request.entries
        self.areas.append(request.area)
        self.taken_entries += self.counted(request)
        # A split driver looks at the device's index once for all that it announces.
        if not (self.used if self.packed else self.known):
            self.driver_saw_the_end()

    def check_buffers(self, request: Request, written: bytes, place: bytes) -> None:
        """Every byte is what the driver sent or the device wrote, and nothing else was touched."""
        readable, writable, place_now = b"", b"", bytearray(request.place)
        own = QUEUE_ADDRESS + self.driver.layout.request_offset + PLACE * request.id
        for address, length, from_dev in request.buffers:
            content = self.memory.read(address, length)
            if from_dev:
                writable += content
            else:
                readable += content
            if own <= address < own + PLACE:
                place_now[address - own : address - own + length] = content
        assert readable == request.sent
        assert writable == written.ljust(request.writable, bytes([UNWRITTEN]))
        assert place == bytes(place_now)
        assert place[:HALF] == request.place[:HALF]

    def driver_saw_the_end(self) -> None:
        if self.event_idx and self.driver_enabled:
            self.interrupts.wish = self.taken_entries

    # -- notifications -----------------------------------------------------------------------------

    @rule()
    def driver_asks_whether_to_notify(self) -> None:
        slept = self.kicks.sleeper and bool(self.available)
        answer = self.driver.avail_notif_needed()
        self.kicks.check(answer, self.size if self.packed else 0x8000)
        if slept:
            self.reached["the device was woken"] += 1
            assert answer, "the device sleeps and was not told of the next chain"

    @rule()
    def device_asks_whether_to_notify(self) -> None:
        slept = self.interrupts.sleeper and bool(self.used)
        answer = self.device.needs_notification()
        self.interrupts.check(answer, self.size if self.packed else 0x8000)
        if slept:
            self.reached["the driver was woken"] += 1
            assert answer, "the driver sleeps and was not told of the next completion"

    @rule()
    def device_enables(self) -> None:
        self.wake_device()
        assert self.device.enable_notification() == bool(self.available)
        self.kicks.wish = self.popped_entries if self.event_idx else "always"

    @rule()
    def device_disables(self) -> None:
        self.wake_device()
        self.device.disable_notification()
        if self.packed or not self.event_idx:
            self.kicks.wish = "never"

    @rule(enabled=booleans())
    def driver_enables(self, enabled: bool) -> None:
        self.wake_driver()
        assert self.driver.set_used_notif_enabled(enabled) == bool(self.used)
        self.driver_enabled = enabled
        if enabled:
            self.interrupts.wish = self.taken_entries if self.event_idx else "always"
        elif self.packed or not self.event_idx:
            self.interrupts.wish = "never"

    @rule(cut=integers(0, 50))
    def device_sleeps(self, cut: int) -> None:
        self.pop_all(cut)
        self.device_enables()
        self.kicks.sleeper = True

    @rule(enable_anew=booleans())
    def driver_sleeps(self, enable_anew: bool) -> None:
        """With notifications on already, seeing the end of the completions is enough."""
        if enable_anew or not self.driver_enabled:
            self.driver_enables(True)
        self.take_all()
        self.interrupts.sleeper = True

    @rule(lengths=lists(buffer_lengths, min_size=1, max_size=3), more=integers(0, 2))
    def both_sleep_and_a_request_goes_round(self, lengths: list[int], more: int) -> None:
        self.device_sleeps(1)
        self.driver_sleeps(False)
        for _ in range(1 + more):
            self.add(lengths, 1, in_place=True, indirect=False)
        self.driver_asks_whether_to_notify()
        self.give_many_back(0, more, 40)
        self.serve_the_next(8, more)
        self.device_asks_whether_to_notify()

    @rule(rounds=integers(1, 30))
    def many_go_round(self, rounds: int) -> None:
        """One request after another, beside those that the device keeps."""
        for number in range(rounds):
            if not self.free or self.available:
                break
            self.add([number % 5], number % 2, in_place=False, indirect=False)
            self.serve_the_next(4, number)
            self.take_all()

    # -- what always holds -------------------------------------------------------------------------

    def position(self, entries: int) -> int:
        """Where one stands after so many entries: an index, or a slot with its wrap counter."""
        if not self.packed:
            return (self.start + entries) % 65536
        slot, wrap = self.start % 0x8000 + entries, self.start // 0x8000
        return slot % self.size + 0x8000 * ((wrap + slot // self.size) % 2)

    @invariant()
    def both_ends_stand_where_the_model_does(self) -> None:
        assert self.driver.free == self.free
        assert self.driver.outstanding == len(self.outstanding())
        assert self.driver.has_completion() == bool(self.used)
        assert self.device.next_avail == self.position(self.popped_entries)
        assert self.device.next_used == self.position(self.interrupts.published)
        if not self.packed:
            _, available_ring, used_ring = self.driver.layout.areas(QUEUE_ADDRESS)
            assert self.memory.load_field(available_ring + 2, 2) == self.position(self.kicks.published)
            assert self.memory.load_field(used_ring + 2, 2) == self.position(self.interrupts.published)

    def teardown(self) -> None:
        """Whatever is under way arrives, and the queue is empty again."""
        if not hasattr(self, "device"):
            return
        for _ in range(2):
            self.pop_all(7)
            self.give_many_back(0, 1, 99)
            self.take_all()
        assert (self.free, self.driver.free, self.driver.outstanding) == (self.size, self.size, 0)


class PrepareFailed(Exception):
    """Raised by a prepare of these tests."""


def never_called(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
    raise AssertionError("prepare was called")


indirect_sizes = sampled_from([0, 0, 1, 2, 8, 40])
shifts = sampled_from([0, 0x1000_0000])


class SplitQueueAgainstLists(QueueAgainstLists):
    reached: ClassVar[Counter[str]] = Counter()
    packed = False

    @initialize(
        bits=one_of(integers(0, 5), integers(0, 3)),
        start=one_of(integers(65500, 65535), integers(65530, 65535), integers(0, 65535)),
        event_idx=booleans(),
        indirect_size=indirect_sizes,
        shift=shifts,
    )
    def new_queue(self, bits: int, start: int, event_idx: bool, indirect_size: int, shift: int) -> None:
        self.begin(2**bits, start, event_idx, indirect_size, shift)


class PackedQueueAgainstLists(QueueAgainstLists):
    reached: ClassVar[Counter[str]] = Counter()
    packed = True

    @initialize(
        size=one_of(integers(1, 12), integers(1, 4)),
        slot=integers(0, 11),
        wrap=integers(0, 1),
        event_idx=booleans(),
        indirect_size=indirect_sizes,
        shift=shifts,
    )
    def new_queue(
        self, size: int, slot: int, wrap: int, event_idx: bool, indirect_size: int, shift: int
    ) -> None:
        self.begin(size, slot % size + 0x8000 * wrap, event_idx, indirect_size, shift)


in_short = settings(max_examples=80, stateful_step_count=40, deadline=None)

TestSplitQueueAgainstLists = SplitQueueAgainstLists.TestCase
TestSplitQueueAgainstLists.settings = in_short
TestPackedQueueAgainstLists = PackedQueueAgainstLists.TestCase
TestPackedQueueAgainstLists.settings = in_short


#: What each of the machines must come to, and how often at least in the runs below.
REACHED = {
    "split": {
        "index past 65535": 20,
        "used index past 65535": 20,
        "last descriptor taken": 100,
        "full": 50,
        "never fits": 10,
        "indirect": 50,
        "buffer across regions": 50,
        "given back out of order": 50,
        "stepped back": 10,
        "no way back": 3,
        "migrated with chains held": 10,
        "migrated before asking": 10,
        "the device was woken": 10,
        "the driver was woken": 10,
    },
    "packed": {
        "list over the end of the ring": 20,
        "used in the next round": 50,
        "a list of the whole ring": 10,
        "last descriptor taken": 100,
        "full": 50,
        "never fits": 10,
        "indirect": 50,
        "buffer across regions": 50,
        "given back out of order": 20,
        "stepped back": 10,
        "no way back": 3,
        "migrated with chains held": 10,
        "migrated before asking": 10,
        "the device was woken": 10,
        "the driver was woken": 10,
    },
}


@known_bug("V03", "V04", "V11", "V12", "V13")
@pytest.mark.parametrize(
    "machine", [SplitQueueAgainstLists, PackedQueueAgainstLists], ids=["split", "packed"]
)
def test_the_machine_comes_to_full_queues_wraps_migrations_and_sleepers(machine):
    machine.reached.clear()
    repeatable = settings(in_short, max_examples=80, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=repeatable)
    wanted = REACHED["packed" if machine.packed else "split"]
    assert {
        name: machine.reached[name] for name, least in wanted.items() if machine.reached[name] < least
    } == {}


def test_there_is_no_way_back_to_a_chain_that_lies_whole_rounds_behind():
    """It ends where the device stands, by slot and wrap counter, and is not the last that was popped."""
    driver, device = connected_virtqueues(2, VirtioFeatures.VERSION_1 | VirtioFeatures.RING_PACKED)

    def pop_one() -> DescriptorChain:
        driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1))
        chain = device.pop_descriptor_chain()
        assert chain is not None
        return chain

    kept = pop_one()
    for _ in range(4):
        device.add_used(pop_one().head_index)
        next(driver.completions())
    state = device.state()
    with pytest.raises(CallerError):
        device.go_to_previous_position()
    assert device.state() == state
    device.add_used(kept.head_index)
    assert [completion.id for completion in driver.completions()] == [kept.head_index]
