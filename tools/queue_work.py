"""A request and its response through a virtqueue, and the same with construct.

Either way carries a request to the device and a response of as many bytes back, and compares both.
For measure_speed.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from construct import Int16ul, Struct

from vmbus import GuestMemory, VirtioFeatures, connected_virtqueues
from vmbus.virtio import (
    DESCRIPTOR_SIZE,
    SPLIT_DESCRIPTOR_SCHEMA,
    USED_ELEMENT_SCHEMA,
    AddDescriptor,
    DescriptorFlags,
    RequestPlace,
    VirtqueueLayout,
)

__all__ = ["QUEUE_SIZE", "Wrong", "construct_requests", "messages_of", "queue_requests"]

QUEUE_SIZE = 256

NEXT = int(DescriptorFlags.NEXT)
WRITE = int(DescriptorFlags.WRITE)

#: The start of an available ring, and of a used one.
RING_HEADER = Struct("flags" / Int16ul, "index" / Int16ul)
HEADER_SIZE = RING_HEADER.sizeof()
SLOT_SIZE = Int16ul.sizeof()
ELEMENT_SIZE = USED_ELEMENT_SCHEMA.sizeof()


class Wrong(Exception):
    """Something else arrived than was sent."""


def messages_of(size: int) -> tuple[bytes, bytes]:
    """A request, and the response to it."""
    request = bytes(number * 7 % 256 for number in range(size))
    return request, request[::-1]


def queue_requests(size: int, features: int, rounds: int) -> Callable[[], int]:
    """A descriptor to read and one to write, both in the request's own place."""
    features |= VirtioFeatures.VERSION_1
    driver, device = connected_virtqueues(QUEUE_SIZE, features, request_size=2 * size)
    request, response = messages_of(size)

    def prepare(place: RequestPlace, add_descriptor: AddDescriptor) -> None:
        place.data[:size] = request
        add_descriptor(place.address, size)
        add_descriptor(place.address + size, size, from_dev=True)

    def run() -> int:
        for _ in range(rounds):
            driver.add_request(prepare)
            chain = device.pop_descriptor_chain()
            if chain is None or chain.read_all() != request:
                raise Wrong
            device.add_used(chain.head_index, chain.write_all(response))
            for completion in driver.completions():
                if completion.request[size:] != response:
                    raise Wrong
        return rounds

    return run


class ConstructQueue:
    """Both sides of a split queue over the same memory, with construct in the place of our codecs.

    Every structure is built and parsed whole: a descriptor, a ring's header, a slot, a used element.
    What the other side wrote is checked as far as these requests need it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.layout = VirtqueueLayout.new(1, QUEUE_SIZE, request_size=2 * size)
        self.memory = GuestMemory.from_ranges([(0, self.layout.end_offset)])
        self.available = self.layout.driver_area_offset
        self.used = self.layout.device_area_offset
        self.free = list(range(QUEUE_SIZE))
        self.chains: dict[int, list[int]] = {}
        self.available_index = self.taken_index = 0  # the driver's
        self.next_available = self.next_used = 0  # the device's
        self.held: set[int] = set()

    def store(self, place: int, schema: Any, value: Any) -> None:
        self.memory.write(place, schema.build(value))

    def load(self, place: int, schema: Any, size: int) -> Any:
        return schema.parse(self.memory.read(place, size))

    def add_request(self, request: bytes) -> None:
        size = self.size
        chain = [self.free.pop(), self.free.pop()]
        first, second = chain
        place = self.layout.request_offset + first * 2 * size
        self.memory.write(place, request)
        readable = {"address": place, "length": size, "flags": NEXT, "next": second}
        writable = {"address": place + size, "length": size, "flags": WRITE, "next": 0}
        self.store(first * DESCRIPTOR_SIZE, SPLIT_DESCRIPTOR_SCHEMA, readable)
        self.store(second * DESCRIPTOR_SIZE, SPLIT_DESCRIPTOR_SCHEMA, writable)
        slot = self.available + HEADER_SIZE + self.available_index % QUEUE_SIZE * SLOT_SIZE
        self.store(slot, Int16ul, first)
        self.chains[first] = chain
        self.available_index = (self.available_index + 1) % 65536
        self.store(self.available, RING_HEADER, {"flags": 0, "index": self.available_index})

    def pop(self) -> tuple[int, list[Any]]:
        ahead = (self.load(self.available, RING_HEADER, HEADER_SIZE).index - self.next_available) % 65536
        if not 0 < ahead <= QUEUE_SIZE:
            raise Wrong
        slot = self.available + HEADER_SIZE + self.next_available % QUEUE_SIZE * SLOT_SIZE
        head = index = self.load(slot, Int16ul, SLOT_SIZE)
        if head in self.held:
            raise Wrong
        self.held.add(head)
        self.next_available = (self.next_available + 1) % 65536
        descriptors: list[Any] = []
        while len(descriptors) < QUEUE_SIZE and index < QUEUE_SIZE:
            descriptors.append(self.load(index * DESCRIPTOR_SIZE, SPLIT_DESCRIPTOR_SCHEMA, DESCRIPTOR_SIZE))
            if not int(descriptors[-1].flags) & NEXT:
                return head, descriptors
            index = descriptors[-1].next
        raise Wrong

    def add_used(self, head: int, length: int) -> None:
        self.held.remove(head)
        place = self.used + HEADER_SIZE + self.next_used % QUEUE_SIZE * ELEMENT_SIZE
        self.store(place, USED_ELEMENT_SCHEMA, {"id": head, "length": length})
        self.next_used = (self.next_used + 1) % 65536
        self.store(self.used, RING_HEADER, {"flags": 0, "index": self.next_used})

    def completions(self) -> Iterator[tuple[int, bytes]]:
        while self.load(self.used, RING_HEADER, HEADER_SIZE).index != self.taken_index:
            place = self.used + HEADER_SIZE + self.taken_index % QUEUE_SIZE * ELEMENT_SIZE
            element = self.load(place, USED_ELEMENT_SCHEMA, ELEMENT_SIZE)
            chain = self.chains.pop(element.id, None)
            if chain is None or element.length > self.size:
                raise Wrong
            self.taken_index = (self.taken_index + 1) % 65536
            self.free.extend(reversed(chain))
            start = self.layout.request_offset + element.id * 2 * self.size
            yield element.id, self.memory.read(start, 2 * self.size)


def construct_requests(size: int, rounds: int) -> Callable[[], int]:
    """The same requests through a ConstructQueue."""
    queue = ConstructQueue(size)
    request, response = messages_of(size)

    def run() -> int:
        for _ in range(rounds):
            queue.add_request(request)
            head, (readable, writable) = queue.pop()
            if queue.memory.read(readable.address, readable.length) != request:
                raise Wrong
            queue.memory.write(writable.address, response)
            queue.add_used(head, size)
            for _, data in queue.completions():
                if data[size:] != response:
                    raise Wrong
        return rounds

    return run
