"""The two rings of a split queue as words: what driver and device poll of each other.

Source: OASIS VIRTIO 1.2, sections 2.7.6 and 2.7.8.
"""

from __future__ import annotations

from vmbus.memory import QueueMemory

from .layout import FIRST_SLOT_WORD, RING_HEADER_SIZE, USED_ELEMENT_SIZE, QueueAreas

__all__ = ["SplitAreas"]


class SplitAreas:
    """Where the parts of a split queue lie, and views of the words that the sides poll.

    available              the 16-bit words of the available ring
    used                   those of the used ring, whose elements are two of 32 bits each
    used_event_word        in `available`: the used entry that the driver waits for
    available_event_word   in `used`: the available entry that the device waits for
    table, elements        (address, bytes) of the descriptors, and of the used elements

    Raises AddressError when an area is not inside one region of the memory.
    """

    def __init__(self, memory: QueueMemory, areas: QueueAreas, size: int) -> None:
        sizes = QueueAreas.sizes(size, packed=False)
        self.available = memory.halfwords(areas.driver_area, sizes.driver_area // 2)
        self.used = memory.halfwords(areas.device_area, sizes.device_area // 2)
        self.used_event_word = FIRST_SLOT_WORD + size
        self.available_event_word = sizes.device_area // 2 - 1
        self.table = (areas.descriptor_table, sizes.descriptor_table)
        self.elements = (areas.device_area + RING_HEADER_SIZE, USED_ELEMENT_SIZE * size)
