"""A driver whose device is an enemy: completions of requests that it has, or PeerError, and nothing else.

A device may write anything anywhere: used ring, event words, the driver's own descriptors.  It does
so between the calls of the driver, or between any two accesses of it.  Whatever it does, each request
is completed once at most and with no more bytes than it has room for, every call ends after a few
accesses, the driver's own count of descriptors stays right, and what it publishes is what it was given.

Every fault that a device can commit is met here, counted in the test itself.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.helpers import facts
from tests.known_bugs import known_bug
from tests.virtio.watched_memory import Access, WatchedMemory
from vmbus.errors import PeerError, RingFull
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    QueueAreas,
    RequestPlace,
    VirtioFeatures,
    Virtqueue,
    VirtqueueFault,
)

#: The same devices each time, on slow machines too.
REPEATABLE = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

V1 = VirtioFeatures.VERSION_1 | VirtioFeatures.RING_INDIRECT_DESC
PACKED = VirtioFeatures.RING_PACKED
EVENT_IDX = VirtioFeatures.RING_EVENT_IDX

FORMATS = {
    "split": V1,
    "split-event": V1 | EVENT_IDX,
    "packed": V1 | PACKED,
    "packed-event": V1 | PACKED | EVENT_IDX,
}
every_format = pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS.keys())

NEXT, WRITE = 1, 2
AVAILABLE, USED = 0x0080, 0x8000

#: Accesses of one call at most, beside the descriptors that it publishes.
FEW = 14

PLACE = 32
TABLE_ENTRIES = 4


def faults_of(features: int) -> set[VirtqueueFault]:
    """What a device can do wrong; a packed ring has no index that could jump."""
    faults = {
        VirtqueueFault.USED_ID_OUT_OF_RANGE,
        VirtqueueFault.USED_ID_NOT_OUTSTANDING,
        VirtqueueFault.USED_LENGTH_TOO_LARGE,
    }
    return faults if features & PACKED else {*faults, VirtqueueFault.USED_INDEX_JUMP}


class Enemy:
    """A device that answers what is almost right.

    random    decides everything
    memory    where
    queue     the driver, whose requests it may name
    """

    def __init__(self, random: Random, memory: GuestMemory, driver: Driver) -> None:
        self.random = random
        self.memory = memory
        self.driver = driver
        self.patience = 0
        self.malice = random.choice((0.0, 0.1, 0.4))

    def used_id(self) -> int:
        random, size = self.random, self.driver.size
        outstanding = list(self.driver.outstanding)
        if outstanding and random.random() >= self.malice:
            return random.choice(outstanding)
        return random.choice((*range(size), size, size + 1, 0xFFFF))

    def length(self, used_id: int) -> int:
        room = self.driver.outstanding.get(used_id, 0)
        if self.random.random() >= self.malice:
            return self.random.choice((0, room, room // 2))
        return self.random.choice((room + 1, 2**31, 2**32 - 1))

    def change(self) -> None:
        (self.change_packed if self.driver.packed else self.change_split)()
        if self.random.random() < 0.2:
            self.scribble()

    def change_split(self) -> None:
        """An element for the next slots, and an index."""
        random, size = self.random, self.driver.size
        used_ring = self.driver.areas.device_area
        index = self.driver.used_index
        for ahead in range(random.choice((1, 1, 2, size))):
            used_id = self.used_id()
            element = struct.pack(
                "<II", used_id | (random.random() < self.malice / 4) << 16, self.length(used_id)
            )
            self.memory.write(used_ring + 4 + 8 * ((index + ahead) % size), element)
        by = random.choice((0, 1, 1, 1, len(self.driver.outstanding)))
        if random.random() < self.malice:
            by = random.choice((size, size + 1, 0xFFFF, 0x8000))
        self.memory.store_field(used_ring + 2, 2, (index + by) & 0xFFFF)

    def change_packed(self) -> None:
        """A used descriptor in some slot, mostly the one that the driver looks at."""
        random, size = self.random, self.driver.size
        position = self.driver.used_position
        slot = position & 0x7FFF if random.random() > self.malice else random.randrange(size)
        used_id = self.used_id()
        flags = ((AVAILABLE | USED) if position >> 15 else 0) | random.choice((0, WRITE))
        if random.random() < 0.3:
            flags = random.choice((0, AVAILABLE, USED, AVAILABLE | USED)) | random.choice((0, WRITE, NEXT, 4))
        address = self.driver.areas.descriptor_table + 16 * slot
        self.memory.write(address + 8, struct.pack("<IH", self.length(used_id), used_id))
        self.memory.store_field(address + 14, 2, flags)

    def scribble(self) -> None:
        """Any byte of any area; of a split queue these include descriptors that nobody reads back."""
        sizes = QueueAreas.sizes(self.driver.size, packed=self.driver.packed)
        which = self.random.randrange(3)
        if which == 2 and not self.driver.packed and self.malice < 0.2:
            which = 1
        address = self.driver.areas[which] + self.random.randrange(sizes[which])
        self.memory.write(address, bytes([self.random.choice((0, 1, 2, 3, 0x80, 0xFF))]))

    def meddle(self, access: Access) -> None:
        """Between two accesses of the driver: now and then a change."""
        self.patience -= 1
        if self.patience < 0:
            self.patience = self.random.choice((0, 1, 3, 10))
            self.change()


class Driver:
    """A Virtqueue that is used at random, and judged.

    outstanding     of the model: id -> the bytes that the device may write
    used_position   where the next completion is looked for: an index, or a slot with its wrap counter
    """

    def __init__(self, random: Random, features: int) -> None:
        self.random = random
        self.packed = bool(features & PACKED)
        self.size = random.choice((1, 2, 3, 5, 8) if self.packed else (1, 2, 4, 8))
        start = random.choice((0, 0xFFFE, 0xFFFF, 0x7FFF))
        if self.packed:
            start = random.randrange(self.size) | random.choice((0, 0x8000))
        self.inside = GuestMemory.from_ranges([(0x1000, 0x2000)])
        self.memory = WatchedMemory(self.inside, [])
        self.queue = Virtqueue(
            self.memory,
            self.size,
            features,
            address=0x1000,
            request_size=PLACE,
            indirect_size=TABLE_ENTRIES,
            start=start,
        )
        self.areas = self.queue.areas
        self.outstanding: dict[int, int] = {}
        self.entries: dict[int, int] = {}
        self.used_position = self.used_index = start
        self.fault: tuple[object, ...] | None = None
        self.met: Counter[VirtqueueFault | str] = Counter()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            getattr(self, self.random.choice(ACTIONS))()

    def bounded(self, limit: int) -> None:
        """The last call was done after so many accesses at most, and stored nothing that is the device's."""
        accesses = self.memory.take()
        assert len(accesses) <= limit, [str(access) for access in accesses]
        sizes = QueueAreas.sizes(self.size, packed=self.packed)
        for access in accesses:
            if access.what in ("store", "write"):
                end = access.address + access.length
                device = self.areas.device_area
                assert end <= device or access.address >= device + sizes.device_area, access

    def refused(self, error: PeerError) -> None:
        assert isinstance(error.kind, VirtqueueFault)
        assert self.fault in (None, facts(error)), "a later error replaced the first"
        self.fault = facts(error)
        self.met[error.kind] += 1

    def add(self) -> None:
        random = self.random
        count, writable, indirect = random.randrange(1, 5), random.randrange(5), random.random() < 0.3
        buffers = [(8 * number, random.randrange(9), number >= count - writable) for number in range(count)]

        def prepare(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
            for offset, length, from_dev in buffers:
                add_descriptor(place.address + offset, length, from_dev)

        entries = 1 if indirect else count
        free = self.size - sum(self.entries.values())
        self.memory.take()
        try:
            request_id = self.queue.add_request(prepare, indirect=indirect and count <= self.size)
        except PeerError as error:
            assert self.fault is not None, "adding a request reads nothing that could be wrong"
            self.refused(error)
            return
        except (RingFull, ValueError) as error:
            assert entries > free or count > self.size, error
            return
        assert entries <= free
        self.bounded(3 * count + FEW)
        assert self.fault is None, "a queue that was given up took a request"
        assert 0 <= request_id < self.size and request_id not in self.outstanding
        self.outstanding[request_id] = sum(length for _, length, from_dev in buffers if from_dev)
        self.entries[request_id] = entries
        self.met["added"] += 1

    def complete(self) -> None:
        taken = 0
        limit = self.random.choice((1, 99))
        self.memory.take()
        try:
            for completion in self.queue.completions():
                self.check_completion(completion.id, completion.length, completion.request)
                self.bounded(FEW)
                taken += 1
                assert taken <= self.size, "more completions than requests"
                if taken == limit:
                    break
        except PeerError as error:
            self.refused(error)
        self.bounded(FEW)

    def check_completion(self, request_id: int, length: int, request: bytes) -> None:
        assert self.fault is None, "a queue that was given up gave a completion"
        assert request_id in self.outstanding, "a completion of no request, or the second of one"
        assert 0 <= length <= self.outstanding.pop(request_id)
        assert len(request) == PLACE
        entries = self.entries.pop(request_id)
        if self.packed:
            slot, wrap = (self.used_position & 0x7FFF) + entries, self.used_position >> 15
            self.used_position = slot % self.size | (wrap ^ slot // self.size) << 15
        self.used_index = (self.used_index + 1) & 0xFFFF
        self.met["completed"] += 1

    def ask(self) -> None:
        self.memory.take()
        try:
            assert self.queue.avail_notif_needed() in (True, False)
            assert self.queue.has_completion() in (True, False)
            assert self.queue.set_used_notif_enabled(self.random.random() < 0.7) in (True, False)
        except PeerError as error:
            assert self.fault is not None
            self.refused(error)
        self.bounded(2 * FEW)

    def count(self) -> None:
        """Nothing that a device writes changes what the driver knows."""
        assert self.queue.outstanding == len(self.outstanding)
        assert self.queue.free == self.size - sum(self.entries.values())


ACTIONS = [*["add"] * 4, *["complete"] * 3, "ask", "count"]


def attack(features: int, seeds: range, *, between: bool) -> Counter[VirtqueueFault | str]:
    """Many drivers under attack, and what they met."""
    met: Counter[VirtqueueFault | str] = Counter()
    for seed in seeds:
        random = Random(seed)
        driver = Driver(random, features)
        driver.met = met
        enemy = Enemy(random, driver.inside, driver)
        driver.memory.after = enemy.meddle if between else None
        for _ in range(12):
            driver.run(3)
            if not between or random.random() < 0.5:
                enemy.change()
        driver.count()
    return met


@known_bug("V11")
@every_format
@pytest.mark.parametrize("between", [False, True], ids=["between-calls", "between-accesses"])
def test_a_driver_completes_each_request_once_or_refuses_whatever_the_device_writes(features, between):
    met = attack(features, range(150), between=between)
    assert {fault for fault in faults_of(features) if not met[fault]} == set()
    assert met["completed"] > 100 and met["added"] > 200


@every_format
@settings(REPEATABLE, max_examples=100)
@given(
    image=some.binary(min_size=70, max_size=70),
    index=some.integers(0, 65535),
    ahead=some.integers(0, 9),
    requests=some.integers(0, 8),
)
def test_any_bytes_in_the_used_ring_end_in_completions_of_requests_or_peer_error(
    features, image, index, ahead, requests
):
    memory = GuestMemory.from_ranges([(0, 0x2000)])
    start = index & 0x8007 if features & PACKED else index
    queue = Virtqueue(memory, 8, features, request_size=PLACE, start=start)
    left = {
        queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, PLACE, from_dev=True))
        for _ in range(requests)
    }
    if features & PACKED:
        for slot in range(8):
            memory.write(16 * slot + 8, image[8 * slot : 8 * slot + 8])
        memory.write(queue.areas.device_area, image[64:68])
    else:
        memory.write(queue.areas.device_area, image)
        memory.store_field(queue.areas.device_area + 2, 2, (index + ahead) & 0xFFFF)
    try:
        for completion in queue.completions():
            left.remove(completion.id)
            assert completion.length <= PLACE
    except PeerError as error:
        assert error.kind in faults_of(features)
        with pytest.raises(PeerError) as again:
            next(queue.completions())
        assert facts(again.value) == facts(error)
        with pytest.raises(PeerError) as again:
            queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1))
        assert facts(again.value) == facts(error)
    assert queue.outstanding == len(left)
    assert queue.free == 8 - len(left)
    assert queue.avail_notif_needed() in (True, False)


@every_format
def test_a_request_that_the_device_completed_twice_ends_the_queue_and_comes_once(features):
    memory = GuestMemory.from_ranges([(0, 0x2000)])
    queue = Virtqueue(memory, 4, features, request_size=PLACE)
    ids = [
        queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1)) for _ in range(2)
    ]
    for number in range(2):
        if features & PACKED:
            memory.write(16 * number + 8, struct.pack("<IHH", 0, ids[1], AVAILABLE | USED))
        else:
            memory.write(queue.areas.device_area + 4 + 8 * number, struct.pack("<II", ids[1], 0))
    if not features & PACKED:
        memory.store_field(queue.areas.device_area + 2, 2, 2)
    completions = queue.completions()
    assert next(completions).id == ids[1]
    with pytest.raises(PeerError) as caught:
        next(completions)
    assert caught.value.kind is VirtqueueFault.USED_ID_NOT_OUTSTANDING
    assert (queue.free, queue.outstanding) == (3, 1)


def test_what_a_split_queue_publishes_does_not_depend_on_what_was_written_into_its_descriptors():
    """The driver never reads a descriptor back: a chain is freed by what the driver remembers of it."""
    memory = GuestMemory.from_ranges([(0, 0x2000)])
    queue = Virtqueue(memory, 8, V1, request_size=PLACE)

    def prepare(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
        for number in range(3):
            add_descriptor(place.address, number)

    first = queue.add_request(prepare)
    queue.add_request(prepare)
    memory.write(0, struct.pack("<QIHH", 0, 0, NEXT, 0) * 8)
    memory.write(queue.areas.device_area + 4, struct.pack("<II", first, 0))
    memory.store_field(queue.areas.device_area + 2, 2, 1)
    assert [completion.id for completion in queue.completions()] == [first]
    assert queue.free == 5
    for _ in range(5):
        queue.add_request(lambda place, add_descriptor: add_descriptor(place.address, 1))
    with pytest.raises(RingFull):
        queue.add_request(prepare)
