"""A device whose driver is an enemy: chains, nothing, or PeerError, and never anything else.

Three enemies.  One leaves any bytes in the three areas, the tables and the buffers, and goes; what
is made of those is compared with a second, slow reading of the same bytes.  One changes bytes
between any two accesses of the device.  One hands over a saved state with any numbers in it.

Whatever they do, every call ends after about as many accesses as the queue has descriptors, the
device stores only where it may, and what it has taken it can give back.  Every fault that a driver
can commit is met here, counted in the test itself.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.helpers import facts
from tests.known_bugs import known_bug
from tests.virtio.watched_memory import Access, WatchedMemory
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    LARGEST_CHAIN_BYTES,
    DescriptorChain,
    DeviceQueue,
    HeldChain,
    QueueAreas,
    QueueState,
    VirtioFeatures,
    VirtqueueFault,
)

#: The same rings each time, on slow machines too.
REPEATABLE = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

V1 = VirtioFeatures.VERSION_1
PACKED = VirtioFeatures.RING_PACKED
EVENT_IDX = VirtioFeatures.RING_EVENT_IDX
INDIRECT_DESC = VirtioFeatures.RING_INDIRECT_DESC

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAILABLE, USED = 0x0080, 0x8000
DESCRIPTOR = struct.Struct("<QIHH")

#: The queue, then indirect tables and buffers; a second region that touches; a small one behind a
#: hole; and one that cannot be written.
MAIN, MAIN_SIZE = 0x1000, 0x2000
TOUCHING, TOUCHING_SIZE = MAIN + MAIN_SIZE, 0x400
LONELY, LONELY_SIZE = 0x8000, 0x40
READ_ONLY, READ_ONLY_SIZE = 0x9000, 0x40
TABLES = 0x2000
AREAS = QueueAreas(0x1000, 0x1400, 0x1800)

FORMATS = {
    "split": V1 | INDIRECT_DESC,
    "split-event": V1 | INDIRECT_DESC | EVENT_IDX,
    "split-direct": V1,
    "packed": V1 | PACKED | INDIRECT_DESC,
    "packed-event": V1 | PACKED | INDIRECT_DESC | EVENT_IDX,
    "packed-direct": V1 | PACKED,
}
every_format = pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS.keys())

#: What a chain can be refused for, and of which kind of queue.
CHAIN_FAULTS = {
    VirtqueueFault.HEAD_IN_FLIGHT,
    VirtqueueFault.CHAIN_TOO_LONG,
    VirtqueueFault.CHAIN_TOO_LARGE,
    VirtqueueFault.READABLE_AFTER_WRITABLE,
}
SPLIT_FAULTS = {
    VirtqueueFault.AVAILABLE_INDEX_JUMP,
    VirtqueueFault.HEAD_OUT_OF_RANGE,
    VirtqueueFault.NEXT_OUT_OF_RANGE,
}
INDIRECT_FAULTS = {
    VirtqueueFault.INDIRECT_WITH_NEXT,
    VirtqueueFault.NESTED_INDIRECT,
    VirtqueueFault.INDIRECT_LENGTH,
    VirtqueueFault.INDIRECT_TOO_LONG,
    VirtqueueFault.INDIRECT_OUTSIDE_MEMORY,
}


def faults_of(features: int) -> set[VirtqueueFault]:
    """What a driver of such a queue can do wrong before its buffers are looked at."""
    own = {VirtqueueFault.TOO_MANY_IN_FLIGHT} if features & PACKED else SPLIT_FAULTS
    direct = {VirtqueueFault.INDIRECT_NOT_NEGOTIATED}
    return CHAIN_FAULTS | own | (INDIRECT_FAULTS if features & INDIRECT_DESC else direct)


def new_memory() -> GuestMemory:
    return GuestMemory(
        [
            (MAIN, bytearray(MAIN_SIZE)),
            (TOUCHING, bytearray(TOUCHING_SIZE)),
            (LONELY, bytearray(LONELY_SIZE)),
            (READ_ONLY, bytes(READ_ONLY_SIZE)),
        ]
    )


# -- enemies ---------------------------------------------------------------------------------------


class Enemy:
    """A driver that writes what is almost right.

    random     decides everything
    memory     where
    size       of the queue
    features   of the queue
    """

    def __init__(self, random: Random, memory: GuestMemory, size: int, features: int) -> None:
        self.random = random
        self.memory = memory
        self.size = size
        self.packed = bool(features & PACKED)
        self.indirect = bool(features & INDIRECT_DESC)
        self.available = 0  # the index, or the position with its wrap counter
        self.patience = 0
        self.nested = random.choice((0.05, 0.5))

    def address(self) -> int:
        """Of a buffer: mostly mapped, often at an edge."""
        choose = self.random.choice
        return choose(
            (
                *[MAIN + 0x1800 + self.random.randrange(0x700)] * 6,
                *[
                    TOUCHING - 8,
                    TOUCHING + TOUCHING_SIZE - 8,
                    TOUCHING + TOUCHING_SIZE,
                    LONELY + LONELY_SIZE - 4,
                ],
                *[READ_ONLY + 8, 0, 2**64 - 8, self.random.getrandbits(64)],
            )
        )

    def entry(self, links: int, *, nested: bool = False) -> tuple[int, int, int, int]:
        """A descriptor: address, length, flags, next; in a table, so that fewer are `nested`."""
        random = self.random
        flags = random.choice((0, 0, NEXT, NEXT, NEXT, WRITE, WRITE, WRITE | NEXT, WRITE | NEXT))
        length = random.choice(
            (0, 1, 4, 7, 16, 16, random.randrange(200), random.randrange(200), 2**31, 2**32 - 1)
        )
        following = random.choice((*range(links), *range(links), links, random.getrandbits(16)))
        if random.random() < (self.nested if nested else 0.3):
            flags = random.choice((INDIRECT, INDIRECT, INDIRECT, INDIRECT | WRITE, INDIRECT | NEXT))
            length = 16 * random.choice((1, 2, 3, self.size, self.size + 1)) + random.choice(
                (0,) * 12 + (1, 15)
            )
            length = random.choice((*[length] * 6, 0, 16 * 65536, 2**32 - 16))
            address = TABLES + 16 * random.randrange(16) + random.choice((0, 0, 1))
            return (
                random.choice((*[address] * 6, TOUCHING - 8, LONELY + LONELY_SIZE - 16, 0)),
                length,
                flags,
                following,
            )
        if random.random() < 0.02:
            flags = random.getrandbits(16)
        return self.address(), length, flags, following

    def write_entry(self, address: int, links: int, *, nested: bool = False) -> None:
        buffer, length, flags, following = self.entry(links, nested=nested)
        if self.packed:
            lap = self.random.choice((AVAILABLE, USED, AVAILABLE, USED, 0, AVAILABLE | USED))
            self.memory.write(address, DESCRIPTOR.pack(buffer, length, following, flags & 0x7F7F | lap))
        else:
            self.memory.write(address, DESCRIPTOR.pack(buffer, length, flags, following))

    def fill(self) -> None:
        """All descriptors, all heads, the tables."""
        for number in range(self.size):
            self.write_entry(AREAS.descriptor_table + 16 * number, self.size)
            self.write_head(number)
        for number in range(20):
            self.write_entry(TABLES + 16 * number, 4, nested=True)
        self.publish()

    def write_head(self, slot: int) -> None:
        head = self.random.choice(
            (*range(self.size), *range(self.size), self.size, self.random.getrandbits(16))
        )
        if not self.packed:
            self.memory.store_field(AREAS.driver_area + 4 + 2 * slot, 2, head)

    def publish(self) -> None:
        """Move the index on: mostly by what is allowed."""
        by = self.random.choice((0, 1, 1, 2, self.size, self.size, self.size + 1, 0xFFFF))
        if not self.packed:
            self.available = (self.available + by) & 0xFFFF
            self.memory.store_field(AREAS.driver_area + 2, 2, self.available)
            return
        lap = self.random.choice((AVAILABLE, USED))
        for slot in range(min(by, self.size)):
            address = AREAS.descriptor_table + 16 * slot + 14
            self.memory.store_field(address, 2, self.memory.load_field(address, 2) & 0x7F7F | lap)

    def make_good(self) -> None:
        """Chains of plain buffers without fault, but for what the device has of them already."""
        random = self.random
        flags = random.choice((0, WRITE))
        continues = random.choice((0, 0, 0.2, 0.6))
        first, wrap = self.available & 0x7FFF, self.available >> 15
        one_too_many = (first - 1) % self.size if random.random() < 0.4 else None
        for number in range(self.size):
            address = MAIN + 0x1C00 + 16 * number if random.random() < 0.9 else self.address()
            linked = flags | NEXT if random.random() < continues else flags
            length = random.randrange(64)
            if self.packed:
                lap = AVAILABLE if wrap == (number >= first) else USED
                linked |= NEXT if number == one_too_many else 0
                record = DESCRIPTOR.pack(address, length, random.getrandbits(16), linked | lap)
            else:
                self.memory.store_field(AREAS.driver_area + 4 + 2 * number, 2, number)
                record = DESCRIPTOR.pack(address, length, linked, (number + 1) % self.size)
            self.memory.write(AREAS.descriptor_table + 16 * number, record)

    def change(self) -> None:
        """One change to something."""
        random = self.random
        what = random.randrange(10)
        if what < 3:
            self.write_entry(AREAS.descriptor_table + 16 * random.randrange(self.size), self.size)
        elif what < 5:
            self.write_entry(TABLES + 16 * random.randrange(20), 4, nested=True)
        elif what == 5:
            self.write_head(random.randrange(self.size))
        elif what < 8:
            self.publish()
        else:
            area = random.choice((*AREAS, TABLES))
            address = area + random.randrange(16 * self.size)
            self.memory.write(address, bytes([random.choice((0, 1, 2, 0x80, 0xFF, random.randrange(256)))]))

    def meddle(self, access: Access) -> None:
        """Between two accesses of the device: now and then a change."""
        self.patience -= 1
        if self.patience < 0:
            self.patience = self.random.choice((0, 1, 2, 5, 20))
            self.change()


class Taken(NamedTuple):
    """A chain that the device has."""

    chain: DescriptorChain
    writable: int


class Device:
    """A DeviceQueue that is used at random, and judged."""

    def __init__(self, random: Random, memory: GuestMemory, size: int, features: int, start: int) -> None:
        self.random = random
        self.size = size
        self.features = features
        self.start = start
        self.memory = WatchedMemory(memory, [])
        self.queue = DeviceQueue(self.memory, size, features)
        self.queue.set_up(AREAS, start=start)
        self.taken: dict[int, Taken] = {}
        self.fault: tuple[object, ...] | None = None
        self.met: Counter[VirtqueueFault | str] = Counter()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            name = self.random.choice(ACTIONS)
            self.memory.take()
            getattr(self, name)()

    def bounded(self, limit: int) -> None:
        """The last call was done after so many accesses at most, and it stored only where a device may."""
        accesses = self.memory.take()
        assert len(accesses) <= limit, [str(access) for access in accesses]
        own = range(AREAS.device_area, AREAS.device_area + 6 + 8 * self.size)
        if self.features & PACKED:
            own = range(AREAS.device_area, AREAS.device_area + 4)
        slots = range(AREAS.descriptor_table, AREAS.descriptor_table + 16 * self.size)
        for access in accesses:
            if access.what in ("store", "write"):
                last = access.address + access.length - 1
                in_slots = self.features & PACKED and access.address in slots and last in slots
                assert (access.address in own and last in own) or in_slots, access

    def refused(self, error: PeerError) -> None:
        assert isinstance(error.kind, VirtqueueFault)
        if self.fault is not None:
            assert facts(error) == self.fault, "a later error replaced the first"
        self.fault = facts(error)
        self.met[error.kind] += 1

    def pop(self) -> None:
        before = self.queue.next_avail
        try:
            chain = self.queue.pop_descriptor_chain()
        except PeerError as error:
            self.refused(error)
            assert self.queue.next_avail == before
            chain = None
        else:
            assert self.fault is None, "a queue that was given up gave a chain"
        self.bounded(self.size + 6)
        if chain is not None:
            self.took(chain)

    def took(self, chain: DescriptorChain) -> None:
        self.met["popped"] += 1
        assert chain.head_index not in self.taken
        assert 0 < len(chain.descriptors) <= self.size
        assert chain.readable + chain.writable == chain.descriptors
        assert chain.readable_bytes == sum(one.length for one in chain.readable)
        assert chain.writable_bytes == sum(one.length for one in chain.writable)
        assert chain.readable_bytes + chain.writable_bytes <= LARGEST_CHAIN_BYTES
        assert not self.features & PACKED or len(self.taken) < self.size
        self.taken[chain.head_index] = Taken(chain, chain.writable_bytes)

    def iterate(self) -> None:
        count = 0
        try:
            for chain in self.queue:
                self.took(chain)
                count += 1
        except PeerError as error:
            self.refused(error)
        assert count <= self.size
        self.bounded((count + 1) * (self.size + 6))

    def read(self) -> None:
        for _, (chain, _) in self.some_taken():
            try:
                data = self.random.choice((chain.read_all, lambda chain=chain: chain.reader().read()))()
            except PeerError as error:
                assert error.kind is VirtqueueFault.BUFFER_OUTSIDE_MEMORY
                self.met[error.kind] += 1
            else:
                assert len(data) == chain.readable_bytes
            self.bounded(len(chain.readable))

    def write(self) -> None:
        for _, (chain, writable) in self.some_taken():
            data = bytes(self.random.choice((0, 1, 4, min(writable, 2000), min(writable, 2000) + 1)))
            try:
                assert chain.write_all(data) == len(data) <= writable
            except PeerError as error:
                assert isinstance(error.kind, VirtqueueFault)
                assert error.kind not in faults_of(self.features)
                self.met[error.kind] += 1
            stored = [access for access in self.memory.take() if access.what == "write" and access.length]
            assert sum(access.length for access in stored) <= len(data)
            for access in stored:
                assert any(
                    one.address <= access.address
                    and access.address + access.length <= one.address + one.length
                    for one in chain.writable
                )

    def some_taken(self) -> list[tuple[int, Taken]]:
        return self.random.sample(list(self.taken.items()), min(1, len(self.taken)))

    def give_back(self) -> None:
        """Whatever the driver does, a chain that was taken can be given back, once."""
        for head, (_, writable) in self.some_taken():
            with pytest.raises(CallerError):
                self.queue.add_used(head, writable + 1)
            self.bounded(0)
            before = self.queue.next_used
            self.queue.add_used(head, self.random.choice((0, writable)))
            assert self.queue.next_used != before or self.features & PACKED
            self.bounded(4)
            del self.taken[head]
            with pytest.raises(CallerError):
                self.queue.add_used(head)
            self.bounded(0)
            self.met["given back"] += 1

    def go_back(self) -> None:
        before = self.queue.state()
        try:
            self.queue.go_to_previous_position()
        except CallerError:
            assert self.queue.state() == before
            return
        (head,) = self.taken.keys() - dict(self.queue.state().held).keys()
        assert head == list(self.taken)[-1]
        del self.taken[head]
        self.bounded(0)

    def notifications(self) -> None:
        assert self.queue.enable_notification() in (True, False)
        assert self.queue.needs_notification() in (True, False)
        self.queue.disable_notification()
        self.bounded(15)

    def migrate(self) -> None:
        state = self.queue.state()
        self.queue = DeviceQueue.from_state(self.memory, state)
        assert self.queue.state() == state
        self.fault = None
        self.met["migrated"] += 1

    def start_over(self) -> None:
        """Seldom: reset, and as it was in the beginning."""
        if self.fault is None or self.random.random() < 0.5:
            return
        self.queue.reset()
        with pytest.raises(CallerError):
            self.queue.pop_descriptor_chain()
        self.queue = DeviceQueue(self.memory, self.size, self.features)
        self.queue.set_up(AREAS, start=self.start)
        self.taken.clear()
        self.fault = None


ACTIONS = [
    *["pop"] * 6,
    *["give_back"] * 3,
    *["iterate", "read", "read", "write", "go_back", "notifications", "migrate", "start_over"],
]


def attack(features: int, seeds: range, *, between: bool) -> Counter[VirtqueueFault | str]:
    """Many queues under attack, and what the devices met."""
    met: Counter[VirtqueueFault | str] = Counter()
    for seed in seeds:
        random = Random(seed)
        size = random.choice((1, 2, 3, 5, 8) if features & PACKED else (1, 2, 4, 4, 8))
        start = random.choice((0, 0xFFFE, 0xFFFF, 0x8000))
        if features & PACKED:
            start = random.randrange(size) | random.choice((0, 0x8000))
        memory = new_memory()
        enemy = Enemy(random, memory, size, features)
        enemy.available = start
        device = Device(random, memory, size, features, start)
        device.met = met
        for _ in range(4):
            enemy.available = device.queue.next_avail
            enemy.fill()
            if random.random() < 0.6:
                enemy.make_good()
            device.memory.after = enemy.meddle if between else None
            device.run(14)
    return met


@known_bug("V01", "V02", "V03", "V05", "V06", "V07")
@every_format
@pytest.mark.parametrize("between", [False, True], ids=["before", "between-accesses"])
def test_a_device_takes_chains_or_refuses_them_whatever_the_driver_changes(features, between):
    met = attack(features, range(180), between=between)
    assert {fault for fault in faults_of(features) if not met[fault]} == set()
    assert met[VirtqueueFault.BUFFER_OUTSIDE_MEMORY] > 0
    assert met["popped"] > 150 and met["given back"] > 100 and met["migrated"] > 100


def test_a_buffer_that_cannot_be_written_is_the_drivers_mistake():
    memory = new_memory()
    device = DeviceQueue(memory, 2, V1)
    device.set_up(AREAS)
    memory.write(AREAS.descriptor_table, DESCRIPTOR.pack(READ_ONLY, 16, WRITE, 0))
    memory.store_field(AREAS.driver_area + 2, 2, 1)
    chain = device.pop_descriptor_chain()
    assert chain is not None
    for write in (lambda: chain.write_all(b"x"), lambda: chain.writer().write(b"x")):
        with pytest.raises(PeerError) as caught:
            write()
        assert isinstance(caught.value.kind, VirtqueueFault)


@every_format
@pytest.mark.parametrize("area", QueueAreas._fields)
def test_an_area_that_cannot_be_written_ends_in_an_error_of_this_package(features, area):
    """A driver may put any area of its queue where there is a ROM."""
    rom = bytes(0x100)
    memory = GuestMemory([(0x1000, bytearray(0x1000)), (0x4000, rom)])
    device = DeviceQueue(memory, 4, features)
    areas = QueueAreas(0x1000, 0x1400, 0x1800)._replace(**{area: 0x4000})
    calls: list[Callable[[], object]] = [
        lambda: device.set_up(areas),
        device.pop_descriptor_chain,
        device.enable_notification,
        device.disable_notification,
        device.needs_notification,
    ]
    for call in calls:
        with suppress(PeerError, CallerError):
            call()


# -- the same bytes read twice ---------------------------------------------------------------------


class Broken(Exception):
    """The slow reader's word for a chain that must not be."""


def read_slowly(
    memory: GuestMemory, features: int, size: int, first: int
) -> tuple[list[tuple[int, int, bool]], int]:
    """The buffers of the chain from `first`, and what to call it: its head, or its buffer id.

    Written from the rules of the standard alone, one after the other: OASIS VIRTIO 1.2, sections
    2.7.4 to 2.7.5.3 and 2.8.5 to 2.8.8.
    """
    packed = bool(features & PACKED)
    todo = [("queue", first)]
    found: list[tuple[int, int, bool]] = []
    name = first
    table, entries = AREAS.descriptor_table, size
    while todo:
        where, number = todo.pop()
        if number >= entries:
            raise Broken("no such descriptor")
        if any(memory.first_hole(table + 16 * number + byte, 1) is not None for byte in range(16)):
            raise Broken("the table is not there")
        address, length, third, fourth = DESCRIPTOR.unpack(memory.read(table + 16 * number, 16))
        flags, other = (fourth, third) if packed else (third, fourth)
        if packed and where == "queue":
            name = other
        if flags & INDIRECT:
            if where == "table" or not features & INDIRECT_DESC or flags & NEXT:
                raise Broken("indirect where it must not be")
            if length == 0 or length % 16 or length // 16 > 65535:
                raise Broken("the length of the table")
            where, table, entries = "table", address, length // 16
            todo = [("table", 0)]
            continue
        if len(found) == size:
            raise Broken("too long")
        if found and found[-1][2] and not flags & WRITE:
            raise Broken("readable behind writable")
        found.append((address, length, bool(flags & WRITE)))
        if sum(length for _, length, _ in found) > 2**32 - 1:
            raise Broken("too many bytes")
        if packed and where == "table":
            todo = [("table", number + 1)] if number + 1 < entries else []
        elif flags & NEXT:
            todo = [(where, (number + 1) % size if packed else other)]
    return found, name


@every_format
@settings(REPEATABLE, max_examples=150)
@given(seed=some.integers(0, 2**32), good_start=some.integers(0, 3))
def test_a_device_reads_a_chain_as_a_slow_reader_of_the_standard_does(features, seed, good_start):
    random = Random(seed)
    size = random.choice((1, 2, 3, 5, 7) if features & PACKED else (1, 2, 4, 8))
    memory = new_memory()
    enemy = Enemy(random, memory, size, features)
    enemy.fill()
    head = random.randrange(size)
    if features & PACKED:
        start = head | 0x8000
        flags = AREAS.descriptor_table + 16 * head + 14
        memory.store_field(flags, 2, memory.load_field(flags, 2) & 0x7F7F | AVAILABLE)
    else:
        start = random.choice((0, 65535))
        memory.store_field(AREAS.driver_area + 2, 2, (start + 1) & 0xFFFF)
        memory.store_field(AREAS.driver_area + 4 + 2 * (start % size), 2, head)
    device = DeviceQueue(memory, size, features)
    device.set_up(AREAS, start=start)
    try:
        expected = read_slowly(memory, features, size, head)
    except Broken:
        with pytest.raises(PeerError):
            device.pop_descriptor_chain()
        return
    chain = device.pop_descriptor_chain()
    assert chain is not None
    found = [(one.address, one.length, bool(one.flags & WRITE)) for one in chain.descriptors]
    assert (found, chain.head_index) == expected
    mapped = all(memory.first_hole(address, length) is None for address, length, write in found if not write)
    if mapped:
        parts = [memory.read(address, length) for address, length, write in found if not write]
        assert chain.read_all() == b"".join(parts)
    else:
        with pytest.raises(PeerError, match="not in memory"):
            chain.read_all()


@every_format
@settings(REPEATABLE, max_examples=60)
@given(image=some.binary(min_size=0x200, max_size=0x200), index=some.integers(0, 0xFFFF))
def test_any_bytes_at_all_end_in_chains_or_peer_error(features, image, index):
    memory = new_memory()
    memory.write(AREAS.descriptor_table, image[:0x80])
    memory.write(AREAS.driver_area, image[0x80:0x100])
    memory.write(AREAS.device_area, image[0x100:0x180])
    memory.write(TABLES, image[0x180:])
    device = DeviceQueue(memory, 8, features)
    device.set_up(AREAS, start=index & 0x8007 if features & PACKED else index)
    try:
        chains = list(device)
    except PeerError:
        return
    assert len(chains) <= 8
    for chain in chains:
        device.add_used(chain.head_index)


# -- saved states ----------------------------------------------------------------------------------

numbers = some.one_of(
    some.integers(0, 9),
    some.sampled_from([15, 16, 32767, 32768, 32769, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 16, 2**64]),
    some.sampled_from([-1, -16, -65536, 0x8001, 0x8007, 0x1000, 0x1400, 0x1800]),
)
positions = some.one_of(
    numbers, some.integers(0, 3), some.integers(0x8000, 0x8003), some.integers(65530, 65535)
)
sizes = some.one_of(some.sampled_from([1, 2, 3, 4, 8]), numbers)
holdings = some.lists(
    some.tuples(
        numbers,
        some.builds(
            HeldChain, some.one_of(some.just(1), numbers), numbers, some.one_of(some.none(), numbers)
        ),
    ),
    max_size=3,
)


@known_bug("V13")
@settings(REPEATABLE, max_examples=200)
@given(features=some.sampled_from(list(FORMATS.values())), data=some.data())
def test_a_saved_state_with_any_numbers_is_refused_or_works(features, data):
    size = data.draw(sizes)
    state = QueueState(
        data.draw(some.one_of(some.just(size), sizes)),
        size,
        True,
        int(features),
        *(data.draw(some.one_of(some.just(area), some.just(area), numbers)) for area in AREAS),
        next_avail := data.draw(positions),
        data.draw(some.one_of(some.just(next_avail), positions)),
        tuple(data.draw(holdings)),
    )
    memory = new_memory()
    random = Random(0)
    try:
        device = DeviceQueue.from_state(memory, state)
    except CallerError:
        return
    if device.is_valid():
        enemy = Enemy(random, memory, min(state.size, 8), features)
        enemy.fill()
    heads = [head for head, _ in state.held]
    calls: list[Callable[[], object]] = [
        device.enable_notification,
        device.go_to_previous_position,
        *(lambda head=head: device.add_used(head) for head in heads),
        *(lambda held=held, head=head: device.add_used(head, held.writable) for head, held in state.held),
        device.pop_descriptor_chain,
        device.needs_notification,
        device.go_to_previous_position,
        device.enable_notification,
        device.disable_notification,
        device.state,
        lambda: DeviceQueue.from_state(memory, device.state()),
    ]
    for call in calls:
        with suppress(PeerError, CallerError):
            call()


# -- any operation at any time ---------------------------------------------------------------------


class Operations:
    """Whatever a transport and a device can do with a queue, in any order, with any arguments."""

    def __init__(self, random: Random, features: int) -> None:
        self.random = random
        self.memory = new_memory()
        self.max_size = random.choice((1, 4, 8) if not features & PACKED else (1, 3, 4, 6, 8))
        self.queue = DeviceQueue(self.memory, self.max_size, features)
        self.enemy = Enemy(random, self.memory, self.max_size, features)
        self.enemy.fill()
        self.done: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        names = [name for name in vars(Operations) if name.startswith("do_")]
        for _ in range(steps):
            name = self.random.choice(names)
            before = self.queue.state()
            try:
                answer = getattr(self, name)()
                self.done[name] += 1
            except CallerError:
                self.done[name + " refused"] += 1
            except PeerError as error:
                assert isinstance(error.kind, VirtqueueFault)
                self.done[str(error.kind)] += 1
            else:
                assert answer is not NotImplemented
                continue
            after = self.queue.state()
            assert before == after or name in PASSES, f"{name} failed and left its mark"

    def number(self) -> int:
        return self.random.choice(
            (0, 1, 2, 4, self.max_size, 16, 0x1000, 0xFFFF, self.random.getrandbits(16))
        )

    def half(self) -> int | None:
        return self.random.choice((None, 0, 1, *AREAS, *AREAS, 2**32 - 16, 2**32, -1))

    def do_is_valid(self) -> bool:
        return self.queue.is_valid()

    def do_reset(self) -> None:
        if self.random.random() < 0.2:
            features = self.queue.features
            try:
                self.queue.reset()
            except CallerError as error:
                raise AssertionError("a driver can always reset a device") from error
            assert not self.queue.ready and self.queue.features == V1
            assert self.queue.size == self.queue.max_size == self.max_size
            self.queue.features = features

    def do_sizes(self) -> bool:
        return 0 < self.queue.size <= self.queue.max_size

    def do_set_size(self) -> None:
        self.queue.set_size(self.number())

    def do_set_ready(self) -> None:
        self.queue.set_ready(self.random.random() < 0.8)

    def do_set_up(self) -> None:
        """All addresses at once, so that much of the rest is done with a queue that works."""
        if not self.queue.ready:
            self.queue.set_desc_table_address(AREAS[0], 0)
            self.queue.set_avail_ring_address(AREAS[1], 0)
            self.queue.set_used_ring_address(AREAS[2], 0)
            self.queue.set_ready(True)

    def do_set_desc_table(self) -> None:
        self.queue.set_desc_table_address(self.half(), self.half())

    def do_set_avail_ring(self) -> None:
        self.queue.set_avail_ring_address(self.half(), self.half())

    def do_set_used_ring(self) -> None:
        self.queue.set_used_ring_address(self.half(), self.half())

    def do_set_features(self) -> None:
        if self.random.random() < 0.2:
            self.queue.features = self.random.choice(list(FORMATS.values()))
            self.enemy.packed = bool(self.queue.features & PACKED)

    def do_add_used(self) -> None:
        held = self.queue.state().held
        if held and self.random.random() < 0.8:
            head, one = self.random.choice(held)
            if not self.queue.ready or not self.queue.is_valid():
                return
            self.queue.add_used(head, self.random.choice((0, one.writable)))
            assert head not in dict(self.queue.state().held)
        else:
            self.queue.add_used(self.number(), self.number())

    def do_enable(self) -> bool:
        return self.queue.enable_notification()

    def do_disable(self) -> None:
        self.queue.disable_notification()

    def do_needs(self) -> bool:
        return self.queue.needs_notification()

    def do_positions(self) -> tuple[int, int]:
        assert 0 <= self.queue.next_avail <= 0xFFFF
        return self.queue.next_avail, self.queue.next_used

    def do_areas(self) -> QueueAreas:
        return self.queue.areas

    def do_event_idx(self) -> bool:
        return bool(self.queue.features & EVENT_IDX)

    def do_pop(self) -> object:
        return self.queue.pop_descriptor_chain()

    def do_pop_loop(self) -> object:
        for _ in range(2 * self.max_size):
            if self.queue.pop_descriptor_chain() is None:
                break
        else:
            raise AssertionError("more chains than the queue has descriptors were in flight")
        return None

    def do_iterate(self) -> list[DescriptorChain]:
        return list(self.queue)

    def do_go_back(self) -> None:
        self.queue.go_to_previous_position()

    def do_read_and_write(self) -> object:
        chain = self.queue.pop_descriptor_chain()
        return chain and (chain.read_all(), chain.write_all(b"abc"))

    def do_save_and_restore(self) -> None:
        state = self.queue.state()
        self.queue = DeviceQueue.from_state(self.memory, state)
        assert self.queue.state() == state

    def do_show(self) -> str:
        return repr(self.queue)

    def do_change(self) -> None:
        self.enemy.size = min(8, self.queue.size)
        self.enemy.available = self.queue.next_avail
        self.enemy.change()

    def do_fill(self) -> None:
        self.enemy.size = min(8, self.queue.size)
        self.enemy.available = self.queue.next_avail
        self.enemy.fill()
        if self.random.random() < 0.5:
            self.enemy.make_good()


#: What does several things: when the last is refused the others are done.
PASSES = {"do_set_up", "do_pop_loop", "do_iterate", "do_read_and_write"}


@known_bug("V08")
@pytest.mark.parametrize("features", [V1, V1 | PACKED | EVENT_IDX], ids=["split", "packed"])
def test_any_operation_at_any_time_works_or_is_refused_and_changes_nothing_then(features):
    done: Counter[str] = Counter()
    for seed in range(200):
        operations = Operations(Random(seed), features)
        operations.run(100)
        done += operations.done
    never = [name for name in vars(Operations) if name.startswith("do_") and not done[name]]
    assert never == []
    assert done["do_pop"] > 50 and done["do_add_used"] > 50
