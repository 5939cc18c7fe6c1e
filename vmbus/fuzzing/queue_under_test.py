"""A virtqueue with both its ends, over memory of its own, and its model: what the trials of queues drive.

Buffers lie across regions that touch, and the device may see all memory at other addresses than the driver.

Addresses and lengths are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from vmbus.memory import GuestMemory, QueueMemory
from vmbus.virtio import DeviceQueue, VirtioFeatures, Virtqueue, VirtqueueLayout

from .arguments import Choice, Flag
from .queue_model import QueueModel
from .ring_model import close_memory
from .trial import Trial

__all__ = [
    "AREA",
    "BUFFER",
    "DATA_ADDRESS",
    "HALF",
    "PLACE",
    "QUEUE_CORNERS",
    "QUEUE_SETTINGS",
    "REGION",
    "UNWRITTEN",
    "MakeQueueMemory",
    "QueueUnderTest",
]

#: Where the driver sees the queue and the requests' buffers; the device sees them so much further on.
QUEUE_ADDRESS = 0x1_0000
DATA_ADDRESS = 0x40_0000
SHIFT = 0x1000_0000

#: Each request has so many bytes for its buffers, in regions of which none is a multiple of the other.
AREA = 1400
REGION = 50

#: Of its own place in the queue's block a request gives the first half to read, the other to write.
PLACE = 16
HALF = PLACE // 2

#: What stands in a writable buffer until the device writes there.
UNWRITTEN = b"\xee"

BUFFER = Choice(0, 1, 2, 7, 16, 40)

QUEUE_SETTINGS = {
    "event_idx": Flag(),
    "indirect_size": Choice(0, 1, 2, 8, 40),
    "translated": Flag(),
}

#: The corners of both formats.
QUEUE_CORNERS = (
    "last descriptor taken",
    "queue full",
    "request that never fits",
    "request without buffers",
    "prepare that fails",
    "indirect request",
    "indirect table filled",
    "buffer in the request's place",
    "buffer across regions",
    "device at other addresses",
    "given back out of order",
    "length understated",
    "stepped back",
    "no way back",
    "migrated with chains held",
    "migrated before asking",
    "silence kept",
    "device woken",
    "driver woken",
)

#: How many requests of a case go round by the dozen: more would only take time.
MOST_ROUNDS = 300

#: Makes one side's memory over (address, buffer) of each region; both sides have the same buffers.
MakeQueueMemory: TypeAlias = Callable[[Sequence[tuple[int, bytearray]]], QueueMemory]


class QueueUnderTest(Trial):
    """One queue, both its ends, and lists.

    size            descriptors
    start           where it begins: an index; of a packed queue a slot, with its wrap counter in bit 15
    event_idx       whether RING_EVENT_IDX is negotiated
    indirect_size   entries of each request's own table; with 0 RING_INDIRECT_DESC is not negotiated
    translated      whether the device sees all memory at other addresses
    make_memory     makes the memory of one side, in place of GuestMemory
    make_driver     makes the driver's end, in place of Virtqueue; called as that one is
    make_device     makes the device's end, in place of DeviceQueue; another goes on by the `from_state` of what
                    it has made
    """

    packed: ClassVar[bool]

    def __init__(
        self,
        size: int,
        start: int,
        event_idx: bool,
        indirect_size: int,
        translated: bool,
        *,
        make_memory: MakeQueueMemory = GuestMemory,
        make_driver: Callable[..., Virtqueue] = Virtqueue,
        make_device: Callable[..., DeviceQueue] = DeviceQueue,
    ) -> None:
        super().__init__()
        self.size = size
        self.rounds_left = MOST_ROUNDS
        if self.packed:
            start = start % 0x8000 % size | start & 0x8000
        self.features = queue_features(self.packed, event_idx, indirect_size > 0)
        self.model = QueueModel(
            size, start, packed=self.packed, event_idx=event_idx, indirect_size=indirect_size
        )
        self.shift = shift = SHIFT if translated else 0
        self.requests_made = 0
        layout = VirtqueueLayout.new(1, size, self.features, request_size=PLACE, indirect_size=indirect_size)
        buffers = [(QUEUE_ADDRESS, bytearray(layout.end_offset)), *data_regions(size)]
        with self.demand_no_error("a new queue"):
            self.memory = make_memory(buffers)
            self.device_memory = make_memory([(address + shift, buffer) for address, buffer in buffers])
            self.driver = make_driver(
                self.memory,
                size,
                self.features,
                address=QUEUE_ADDRESS,
                request_size=PLACE,
                indirect_size=indirect_size,
                translate=(lambda address, length: address + shift) if shift else None,
                start=start,
            )
            self.device = make_device(self.device_memory, size, self.features)
            self.device.set_up(self.driver.areas, start=start)
        self.met("device at other addresses", translated)

    def met(self, corner: str, holds: bool = True) -> None:
        """Count a corner, where it has been met."""
        if holds:
            self.corners[corner] += 1

    def check(self) -> None:
        """Both ends stand where the model does."""
        model, driver, device = self.model, self.driver, self.device
        with self.demand_no_error("looking where both ends stand"):
            found = (
                driver.free,
                driver.outstanding,
                driver.has_completion(),
                device.next_avail,
                device.next_used,
            )
        expected = (
            model.free,
            len(model.outstanding),
            bool(model.used),
            model.position(model.popped_entries),
            model.position(model.interrupts.published),
        )
        if found != expected:
            what = "free and outstanding, whether there is a completion, and where the device pops and gives back"
            self.demand_equal(found, expected, what)
        if not self.packed:
            self.check_indices()

    def check_indices(self) -> None:
        """The two indices of a split queue are in memory."""
        areas = self.device.areas
        words = [
            int.from_bytes(self.device_memory.read(area + 2, 2), "little")
            for area in (areas.driver_area, areas.device_area)
        ]
        published = (self.model.kicks.published, self.model.interrupts.published)
        expected = [self.model.position(count) for count in published]
        if words != expected:
            self.demand_equal(words, expected, "available and used index in memory")

    def close(self) -> None:
        close_memory(self.memory)
        close_memory(self.device_memory)


def queue_features(packed: bool, event_idx: bool, indirect: bool) -> VirtioFeatures:
    """What is negotiated."""
    features = VirtioFeatures.VERSION_1
    if packed:
        features |= VirtioFeatures.RING_PACKED
    if event_idx:
        features |= VirtioFeatures.RING_EVENT_IDX
    if indirect:
        features |= VirtioFeatures.RING_INDIRECT_DESC
    return features


def data_regions(size: int) -> list[tuple[int, bytearray]]:
    """The bytes of all requests, in regions that touch."""
    end = AREA * size
    return [(DATA_ADDRESS + offset, bytearray(min(REGION, end - offset))) for offset in range(0, end, REGION)]
