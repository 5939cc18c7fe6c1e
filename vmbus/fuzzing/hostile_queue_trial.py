"""One side of a virtqueue, split or packed, whose other side writes anything anywhere at any moment.

Both sides are there.  The one that is not the victim is honest as far as it can be: it works on the memory itself,
and what is struck under it may stop it.  hostile_driver.py and hostile_device.py have the calls, and the laws.

>>> trial = HostileQueueTrial(victim="device", format="split", size=8, start=0)
>>> trial.perform("add", {"readable": 8, "room": 8, "parts": 1, "indirect": False})
>>> trial.perform("strike_answer", {"after": 0, "ahead": 0, "name": 8, "length": 0, "flags": 0})
>>> trial.perform("pop", {})
>>> trial.victim.fault[1].name
'HEAD_OUT_OF_RANGE'

Lengths are in bytes.

Source: OASIS VIRTIO 1.2, sections 2.6 to 2.8.
"""

from __future__ import annotations

from vmbus.errors import VmbusError
from vmbus.memory import GuestMemory
from vmbus.virtio import DeviceQueue, VirtioFeatures, Virtqueue

from .arguments import Choice, Number
from .hostile_device import DeviceCalls
from .hostile_driver import DriverCalls
from .hostile_queue_calls import Requests
from .hostile_trial import HOSTILE_CORNERS, QueueVictim
from .queue_strikes import BLOCK, BLOCK_SIZE, BUFFERS, BUFFERS_SIZE, READ_ONLY, READ_ONLY_SIZE, QueueStrikes
from .trial import operation

__all__ = ["HostileQueueTrial"]

V1 = VirtioFeatures.VERSION_1 | VirtioFeatures.RING_INDIRECT_DESC
PACKED = VirtioFeatures.RING_PACKED
EVENT_IDX = VirtioFeatures.RING_EVENT_IDX

FORMATS = {
    "split": V1,
    "split-event": V1 | EVENT_IDX,
    "packed": V1 | PACKED,
    "packed-event": V1 | PACKED | EVENT_IDX,
}

#: Behind so many calls that raised the same error again the queue is made anew.
PATIENCE = 3

#: A request's own bytes: the first half for the device to read, the second for it to write.
PLACE_SIZE, TABLE_ENTRIES = 64, 4


class HostileQueueTrial(QueueStrikes, DriverCalls, DeviceCalls):
    """A queue under attack.

    victim   "driver" or "device"
    format   "split", "split-event", "packed" or "packed-event": all have indirect descriptors
    size     descriptors: as they are for a packed queue, rounded down to a power of two for a split one
    start    where both begin: an index of a split queue; of a packed one a slot, and its wrap counter in bit 15
    """

    name = "hostile-queue"
    summary = "a driver or a device of a virtqueue whose other side writes anything at any moment"
    settings = {  # noqa: RUF012
        "victim": Choice("driver", "device"),
        "format": Choice(*FORMATS),
        "size": Number(1, 8, corners=[4, 8, 3]),
        "start": Number(0, 0xFFFF, corners=[0, 0xFFFE, 0x8000, 0x7FFF]),
    }
    CORNERS = (
        *HOSTILE_CORNERS,
        "buffer outside the memory",
        "changed within a write",
        "chain taken",
        "chain given back",
        "completion taken",
        "device restored",
        "request added",
        "started again",
        "word changed",
    )

    def __init__(self, victim: str, format: str, size: int, start: int) -> None:
        super().__init__()
        features = FORMATS[format]
        self.features = int(features)
        self.packed = bool(features & PACKED)
        self.size = size if self.packed else 1 << size.bit_length() - 1
        self.start = start % self.size | start & 0x8000 if self.packed else start
        self.inside = GuestMemory(
            [
                (BLOCK, bytearray(BLOCK_SIZE)),
                (BUFFERS, bytearray(BUFFERS_SIZE)),
                (READ_ONLY, bytes(READ_ONLY_SIZE)),
            ]
        )
        self.victim = QueueVictim(f"the {victim}", self.inside)
        self.attacked = victim
        self.begin_again()

    def begin_again(self) -> None:
        """Both sides anew, over a queue that is empty; what was struck in it is overwritten."""
        victim = self.victim
        victim.begin(f"the making of {victim.name}", 1 << 16)
        self.driver = Virtqueue(
            victim.memory if self.attacked == "driver" else self.inside,
            self.size,
            self.features,
            address=BLOCK,
            request_size=PLACE_SIZE,
            indirect_size=TABLE_ENTRIES,
            start=self.start,
        )
        self.device = DeviceQueue(
            victim.memory if self.attacked == "device" else self.inside, self.size, self.features
        )
        self.areas = self.driver.areas
        self.device.set_up(self.areas, start=self.start)
        self.requests = Requests(self.size, self.packed, self.start)

    @operation()
    def start_again(self) -> None:
        """What a driver does with a queue that has failed.  A queue that works goes on."""
        if self.victim.fault is not None or self.requests.stuck:
            self.victim.put_right()
            self.begin_again()
            self.corners["started again"] += 1

    def check(self) -> None:
        """Nothing that a device writes changes what the driver knows, nor the other way round."""
        if self.victim.refusals >= PATIENCE or self.requests.stuck:
            self.start_again()
        requests = self.requests
        if self.attacked == "driver":
            self.demand_equal(self.driver.outstanding, len(requests.outstanding), "requests outstanding")
            free = self.size - sum(request.entries for request in requests.outstanding.values())
            self.demand_equal(self.driver.free, free, "descriptors free")
        else:
            held = [head for head, _ in self.device.state().held]
            self.demand_equal(sorted(held), sorted(requests.taken), "heads that the device holds")

    # -- for the strikes -------------------------------------------------------------------------

    def victim_is_device(self) -> bool:
        return self.attacked == "device"

    def next_position(self) -> int:
        return self.device.next_avail if self.victim_is_device() else self.requests.used_position

    def table_of_requests(self) -> int:
        return BLOCK + self.driver.layout.indirect_offset

    def honest(self, error: VmbusError, call: str) -> None:
        """An honest side was stopped: that must have been a strike."""
        self.demand(not self.victim.quiet, f"{call} of an honest side raised {error}, and nothing was struck")
        self.requests.stuck = True
