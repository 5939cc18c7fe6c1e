"""What the tests of virtqueue reports share: queues that real sides made, and queues spelled by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tests.virtio.by_hand import AREAS, EVENT_IDX, INDIRECT_DESC, PACKED, VERSION_1, HandDriver, new_memory
from vmbus.inspection import QueueReport, Selection, inspect_queue
from vmbus.memory import AddressSpace, GuestMemory
from vmbus.virtio import (
    VSOCK_HEADER,
    DeviceQueue,
    QueueAreas,
    Virtqueue,
    VsockHeader,
    connected_virtqueues,
)

HISTORY = Selection(history=True)
BASE = 0x1000
ALL_FEATURES = VERSION_1 | EVENT_IDX | INDIRECT_DESC


class Pair(NamedTuple):
    """Both sides of a queue, and the bytes that they work on."""

    driver: Virtqueue
    device: DeviceQueue
    memory: GuestMemory
    features: int

    def look(self, **options: Any) -> QueueReport:
        """The report on a copy of the memory that nobody could write to."""
        copies = [(region.start, bytes(region.view)) for region in self.memory.regions]
        return inspect_queue(
            AddressSpace(copies), self.driver.areas, self.driver.queue_size, self.features, **options
        )

    def add(self, *lengths: int, indirect: bool = False) -> int:
        """A request of buffers behind each other; a negative length is one that the device writes."""

        def prepare(place: Any, add_descriptor: Any) -> None:
            at = place.address
            for length in lengths:
                add_descriptor(at, abs(length), length < 0)
                at += abs(length)

        return self.driver.add_request(prepare, indirect=indirect)

    def send(
        self, header: VsockHeader, payload: bytes = b"", *, pieces: int = 1, indirect: bool = False
    ) -> int:
        """A request that is a vsock packet, its header and payload in that many buffers."""
        data = VSOCK_HEADER.pack(header) + payload

        def prepare(place: Any, add_descriptor: Any) -> None:
            place.data[: len(data)] = data
            cuts = [len(data) * number // pieces for number in range(pieces + 1)]
            for start, end in pairwise(cuts):
                add_descriptor(place.address + start, end - start)

        return self.driver.add_request(prepare, indirect=indirect)

    def outstanding(self) -> set[int]:
        """What the real sides know: chains that the device has taken, and those that it has not."""
        state = self.device.state()
        heads = {head for head, _ in state.held}
        other = DeviceQueue.from_state(self.memory, state)
        while (chain := other.pop_descriptor_chain()) is not None:
            heads.add(chain.head_index)
        return heads


def pair(
    packed: bool = False, size: int = 8, features: int = ALL_FEATURES, *, start: int | None = None
) -> Pair:
    """Both sides of an empty queue at BASE, with places of 128 bytes and tables of 4."""
    features |= PACKED if packed else 0
    memory = GuestMemory([(BASE, bytearray(0x8000))])
    driver, device = connected_virtqueues(
        size, features, request_size=128, indirect_size=4, memory=memory, address=BASE, start=start
    )
    return Pair(driver, device, memory, features)


def hand(packed: bool = False, size: int = 16, start: int | None = None) -> HandDriver:
    """A driver that writes what it is told."""
    return HandDriver(new_memory(), AREAS, size, packed, start)


def look(driver: HandDriver, features: int = 0, **options: Any) -> QueueReport:
    """The report on a queue made by hand; `features` beside VERSION_1 and the format's."""
    wanted = VERSION_1 | features | (PACKED if driver.packed else 0)
    areas = options.pop("areas", QueueAreas(*driver.areas))
    return inspect_queue(driver.memory, areas, driver.size, wanted, **options)


def checks(report: QueueReport) -> list[str]:
    """The names of the findings."""
    return [finding.check for finding in report.findings]


def heads(report: QueueReport) -> list[int]:
    """Those of the chains that wait."""
    return [chain.head for chain in report.chains]


def lengths(chain: Any) -> Sequence[int]:
    return [one.length for one in chain.descriptors]
