"""Both sides of one queue, for tests, examples and measurements."""

from __future__ import annotations

from vmbus.memory import GuestMemory, QueueMemory

from .device_queue import DeviceQueue
from .layout import VirtioFeatures
from .queue import Virtqueue
from .queue_layout import VirtqueueLayout

__all__ = ["connected_virtqueues"]


def connected_virtqueues(
    queue_size: int = 16,
    features: int = VirtioFeatures.VERSION_1,
    *,
    request_size: int = 64,
    indirect_size: int = 0,
    memory: QueueMemory | None = None,
    address: int = 0,
    start: int | None = None,
) -> tuple[Virtqueue, DeviceQueue]:
    """The driver's and the device's side of one empty queue, over the same addresses.

    request_size, indirect_size   what each request has of its own, as for Virtqueue
    memory                        the memory to use, from `address` on; None: just enough
    start                         where both begin, as for Virtqueue

    >>> driver, device = connected_virtqueues(8, VirtioFeatures.VERSION_1 | VirtioFeatures.RING_PACKED)
    >>> driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 64, from_dev=True))
    0
    >>> device.pop_descriptor_chain().writable_bytes
    64
    """
    layout = VirtqueueLayout.new(
        1, queue_size, features, request_size=request_size, indirect_size=indirect_size
    )
    if memory is None:
        memory = GuestMemory.from_ranges([(address, layout.end_offset)])
    driver = Virtqueue(
        memory,
        queue_size,
        features,
        address=address,
        request_size=request_size,
        indirect_size=indirect_size,
        start=start,
    )
    device = DeviceQueue(memory, queue_size, features)
    device.set_up(driver.areas, start=start)
    return driver, device
