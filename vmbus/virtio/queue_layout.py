"""Where a driver puts the areas of its queues, and the data of their requests, in one block.

    split    descriptors | available ring | used ring | requests | indirect tables
    packed   descriptors | driver event | device event | requests | indirect tables

Offsets are in bytes from the start of a queue's part of the block; the parts of several queues
follow each other, `end_offset` apart.  Without indirect tables the numbers are those of the
virtio-driver crate, which gives each ring a header of 8 bytes where the standard needs 6.

Source: the virtio-driver crate, VirtqueueLayout.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import CallerError

from .features import is_packed
from .layout import (
    DESCRIPTOR_SIZE,
    HEAD_SIZE,
    USED_ELEMENT_SIZE,
    QueueAreas,
    VirtioFeatures,
    check_queue_size,
)

__all__ = ["VirtqueueLayout", "round_up"]

#: What that crate calls a ring's header.
ROOMY_HEADER = 8


class VirtqueueLayout(NamedTuple):
    """The offsets of one queue's part, and how many queues there are.

    num_queues           how many parts the block has
    driver_area_offset   the available ring, or the driver's event suppression structure
    device_area_offset   the used ring, or the device's
    request_offset       the first request's place; they are request_size bytes apart
    indirect_offset      the first request's indirect table
    end_offset           where the next queue's part starts: a multiple of 16

    >>> VirtqueueLayout.new(1, 8, VirtioFeatures.VERSION_1, request_size=33)._asdict()["end_offset"]
    496
    """

    num_queues: int
    driver_area_offset: int
    device_area_offset: int
    request_offset: int
    indirect_offset: int
    end_offset: int

    @classmethod
    def new(
        cls,
        num_queues: int,
        queue_size: int,
        features: int = VirtioFeatures.VERSION_1,
        *,
        request_size: int = 0,
        indirect_size: int = 0,
    ) -> VirtqueueLayout:
        """The layout of queues of `queue_size` descriptors, as the features ask for.

        request_size    bytes of each request's place
        indirect_size   entries of each request's indirect table; 0 for none

        Raises CallerError for a queue size that cannot be, and for a negative number.
        """
        packed = is_packed(features)
        check_queue_size(queue_size, packed=packed)
        check_at_least("num_queues", num_queues, 0)
        check_at_least("request_size", request_size, 0)
        check_at_least("indirect_size", indirect_size, 0)
        driver_area = DESCRIPTOR_SIZE * queue_size
        if packed:
            device_area = driver_area + QueueAreas.sizes(queue_size, packed=True).driver_area
            areas_end = driver_area + ROOMY_HEADER
        else:
            device_area = driver_area + round_up(ROOMY_HEADER + HEAD_SIZE * queue_size, 4)
            areas_end = device_area + ROOMY_HEADER + USED_ELEMENT_SIZE * queue_size
        indirect = round_up(areas_end + queue_size * request_size, DESCRIPTOR_SIZE)
        end = indirect + queue_size * indirect_size * DESCRIPTOR_SIZE
        return cls(num_queues, driver_area, device_area, areas_end, indirect, end)

    def areas(self, address: int) -> QueueAreas:
        """The three areas of the queue whose part starts at `address`."""
        return QueueAreas(address, address + self.driver_area_offset, address + self.device_area_offset)

    def queue_offset(self, queue: int) -> int:
        """Where the part of one of the queues starts in the block.

        >>> VirtqueueLayout.new(4, 8).queue_offset(3) == 3 * VirtqueueLayout.new(4, 8).end_offset
        True
        """
        if not 0 <= queue < self.num_queues:
            raise CallerError(
                f"there is no queue {queue} among {self.num_queues}",
                argument="queue",
                value=queue,
                limit=self.num_queues - 1,
            )
        return queue * self.end_offset


def round_up(number: int, multiple: int) -> int:
    """The next multiple that is not below `number`."""
    return -(-number // multiple) * multiple


def check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise CallerError(f"{name} is at least {least}, not {value}", argument=name, value=value, limit=least)
