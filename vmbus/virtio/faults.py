"""What the other side of a virtqueue can do wrong.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["VirtqueueFault"]


class VirtqueueFault(Enum):
    """Why a queue is not to be trusted: the `kind` of a PeerError."""

    # a driver, seen by the device
    AREA_OUTSIDE_MEMORY = "an area of the queue is not in memory"
    AVAILABLE_INDEX_JUMP = "the available index is further ahead than the queue has descriptors"
    HEAD_OUT_OF_RANGE = "a head is no descriptor of the table"
    HEAD_IN_FLIGHT = "a chain was made available again before it was used"
    TOO_MANY_IN_FLIGHT = "more descriptors are in flight than the queue has"
    NEXT_OUT_OF_RANGE = "a chain continues outside its table"
    CHAIN_TOO_LONG = "a chain has more descriptors than the queue: it may be a circle"
    CHAIN_TOO_LARGE = "a chain has more bytes than 32 bits count"
    READABLE_AFTER_WRITABLE = "a chain has a readable buffer behind a writable one"
    CHAIN_TOO_SHORT = "a chain has fewer bytes than the device needs"
    BUFFER_OUTSIDE_MEMORY = "a buffer is not in memory"
    INDIRECT_NOT_NEGOTIATED = "an indirect descriptor without the feature"
    INDIRECT_WITH_NEXT = "an indirect descriptor that also continues"
    NESTED_INDIRECT = "an indirect descriptor inside an indirect table"
    INDIRECT_LENGTH = "an indirect table is no whole number of descriptors, or empty"
    INDIRECT_TOO_LONG = "an indirect table has more entries than an index can name"
    INDIRECT_OUTSIDE_MEMORY = "an indirect table is not in memory"
    # a device, seen by the driver
    USED_INDEX_JUMP = "the used index is further ahead than chains are outstanding"
    USED_ID_OUT_OF_RANGE = "a used id is no descriptor of the table"
    USED_ID_NOT_OUTSTANDING = "a used id is of no chain that the device has"
    USED_LENGTH_TOO_LARGE = "a used length is larger than the chain's writable buffers"
