"""Two sides ready to explore: a driver that adds requests to a virtqueue, and a device that completes them.

Each request is one buffer that the device writes: the number of a request says how long it is, and what
must be found in it afterwards, so that a request that was lost, doubled or seen half is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.virtio import DescriptorChain, DeviceQueue, Virtqueue, VirtqueueCompletion

from .explored_guest_memory import ExploredGuestMemory
from .queue_explorer import QueueSide
from .ring_explorer import ExploredSignal

__all__ = ["WrongRequest", "queue_sides"]


class WrongRequest(AssertionError):
    """A request came to the device, or its completion to the driver, that is not the next one, whole."""


def queue_sides(count: int = 2, *, silent: bool = False) -> tuple[QueueSide, QueueSide]:
    """A driver that adds so many requests and takes their completions, and a device that serves them.

    count    how many; no more than the bytes of a request (`request_size` of explore_queue)
    silent   each asks the other for silence while it is awake, and before a sleep to be told

    >>> from vmbus.exploration.queue_explorer import explore_queue
    >>> explore_queue(*queue_sides(1), event_idx=True).complete
    True
    """

    def driver(memory: ExploredGuestMemory, signal: ExploredSignal) -> Iterator[None]:
        queue = memory.virtqueue()
        yield
        drive(queue, signal, count, silent)

    def device(memory: ExploredGuestMemory, signal: ExploredSignal) -> Iterator[None]:
        queue = memory.device_queue()
        yield
        serve(queue, signal, count, silent)

    return driver, device


# -- the driver ------------------------------------------------------------------------------------


def drive(queue: Virtqueue, signal: ExploredSignal, count: int, silent: bool) -> None:
    """Add all requests, as soon as there is room for each, and take their completions."""
    numbers: dict[int, int] = {}
    added = done = 0
    if silent:
        queue.set_used_notif_enabled(False)
    while done < count:
        while added < count and queue.free:
            signal.note(f"adds request {added + 1}:")
            numbers[queue.add_place(added + 1, from_dev=True)] = added + 1
            added += 1
            if queue.avail_notif_needed():
                signal.notify()
        before = done
        for completion in queue.completions():
            done += 1
            check_completion(completion, numbers.pop(completion.id, 0), done)
            signal.note(f"has request {done} back")
        if done == before and not (silent and queue.set_used_notif_enabled(True)):
            signal.wait(None)
            if silent:
                queue.set_used_notif_enabled(False)


def check_completion(completion: VirtqueueCompletion, number: int, expected: int) -> None:
    if number != expected:
        raise WrongRequest(f"completion {expected} is of request {number}")
    found = completion.request[: completion.length]
    if found != answer(number):
        raise WrongRequest(f"request {number} came back with {found.hex(' ')}")


# -- the device ------------------------------------------------------------------------------------


def serve(queue: DeviceQueue, signal: ExploredSignal, count: int, silent: bool) -> None:
    """Take so many requests, write an answer into each, and give it back."""
    done = 0
    if silent:
        queue.disable_notification()
    while True:
        for chain in queue:
            done += 1
            check_request(chain, done)
            signal.note(f"has request {done}")
            queue.add_used(chain.head_index, chain.write_all(answer(done)))
            if queue.needs_notification():
                signal.notify()
        if done >= count:
            return
        if not queue.enable_notification():
            signal.wait(None)
        if silent:
            queue.disable_notification()


def check_request(chain: DescriptorChain, expected: int) -> None:
    if chain.writable_bytes != expected:
        raise WrongRequest(f"request {expected} has room for {chain.writable_bytes} bytes")


def answer(number: int) -> bytes:
    """What the device writes into a request: as many bytes as its number, no two alike."""
    return bytes((number << 4 | place) & 0xFF for place in range(number))
