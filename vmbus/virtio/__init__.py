"""The other ring: virtqueues, both sides, and a disk on them.

Virtqueue is the driver's side and DeviceQueue the device's, over any memory that both reach; split
and packed.  Both say when the other side must be notified, and neither ever waits.
"""

from .block_device import BlockDevice
from .block_driver import BLOCK_PLACE_SIZE, BlockCompletion, BlockDriver
from .block_request import (
    BLOCK_CONFIG,
    BLOCK_CONFIG_SCHEMA,
    BLOCK_HEADER,
    BLOCK_HEADER_SCHEMA,
    BLOCK_ID_SIZE,
    BLOCK_SEGMENT,
    BLOCK_SEGMENT_SCHEMA,
    SECTOR_SIZE,
    BlockConfig,
    BlockFeatures,
    BlockHeader,
    BlockRequest,
    BlockRequestType,
    BlockSegment,
    BlockStatus,
    SegmentFlags,
    block_status_byte,
    parse_block_config,
)
from .chains import ChainRules, DescriptorChain, Tolerance
from .cursors import ChainReader, ChainWriter
from .descriptor import Descriptor
from .device_queue import DeviceQueue
from .device_ring import HeldChain
from .faults import VirtqueueFault
from .iova import IovaMapping, IovaSpace
from .layout import (
    DESCRIPTOR_SIZE,
    EVENT_SUPPRESSION,
    EVENT_SUPPRESSION_SCHEMA,
    LARGEST_CHAIN_BYTES,
    LARGEST_QUEUE,
    LARGEST_TABLE,
    PACKED_DESCRIPTOR,
    PACKED_DESCRIPTOR_SCHEMA,
    SPLIT_DESCRIPTOR,
    SPLIT_DESCRIPTOR_SCHEMA,
    USED_ELEMENT,
    USED_ELEMENT_SCHEMA,
    AvailableRingFlags,
    DescriptorFlags,
    EventFlags,
    EventSuppression,
    PackedDescriptor,
    QueueAreas,
    SplitDescriptor,
    UsedElement,
    UsedRingFlags,
    VirtioFeatures,
    available_ring_schema,
    check_queue_size,
    used_ring_schema,
)
from .notification import event_reached, not_suppressed, notify_after_packed
from .pair import connected_virtqueues
from .queue import Virtqueue
from .queue_layout import VirtqueueLayout
from .queue_state import QueueState
from .requests import AddDescriptor, Prepare, RequestPlace, Translate, VirtqueueCompletion
from .walking import walk_packed_chain, walk_split_chain

__all__ = [
    "BLOCK_CONFIG",
    "BLOCK_CONFIG_SCHEMA",
    "BLOCK_HEADER",
    "BLOCK_HEADER_SCHEMA",
    "BLOCK_ID_SIZE",
    "BLOCK_PLACE_SIZE",
    "BLOCK_SEGMENT",
    "BLOCK_SEGMENT_SCHEMA",
    "DESCRIPTOR_SIZE",
    "EVENT_SUPPRESSION",
    "EVENT_SUPPRESSION_SCHEMA",
    "LARGEST_CHAIN_BYTES",
    "LARGEST_QUEUE",
    "LARGEST_TABLE",
    "PACKED_DESCRIPTOR",
    "PACKED_DESCRIPTOR_SCHEMA",
    "SECTOR_SIZE",
    "SPLIT_DESCRIPTOR",
    "SPLIT_DESCRIPTOR_SCHEMA",
    "USED_ELEMENT",
    "USED_ELEMENT_SCHEMA",
    "AddDescriptor",
    "AvailableRingFlags",
    "BlockCompletion",
    "BlockConfig",
    "BlockDevice",
    "BlockDriver",
    "BlockFeatures",
    "BlockHeader",
    "BlockRequest",
    "BlockRequestType",
    "BlockSegment",
    "BlockStatus",
    "ChainReader",
    "ChainRules",
    "ChainWriter",
    "Descriptor",
    "DescriptorChain",
    "DescriptorFlags",
    "DeviceQueue",
    "EventFlags",
    "EventSuppression",
    "HeldChain",
    "IovaMapping",
    "IovaSpace",
    "PackedDescriptor",
    "Prepare",
    "QueueAreas",
    "QueueState",
    "RequestPlace",
    "SegmentFlags",
    "SplitDescriptor",
    "Tolerance",
    "Translate",
    "UsedElement",
    "UsedRingFlags",
    "VirtioFeatures",
    "Virtqueue",
    "VirtqueueCompletion",
    "VirtqueueFault",
    "VirtqueueLayout",
    "available_ring_schema",
    "block_status_byte",
    "check_queue_size",
    "connected_virtqueues",
    "event_reached",
    "not_suppressed",
    "notify_after_packed",
    "parse_block_config",
    "used_ring_schema",
    "walk_packed_chain",
    "walk_split_chain",
]
