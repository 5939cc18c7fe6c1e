"""A Hyper-V VMBus ring buffer toolkit: talk over rings, and read those in dumps.

The everyday names are here (`vmbus.IncomingRing`), every part under its own name (`vmbus.ring`).
Both are imported when first used, so that `import vmbus` costs nothing.

>>> from vmbus import connected_rings
>>> sender, receiver = connected_rings(size=4096)
>>> sender.send(b"hello, ring")
True
>>> packet, must_signal = receiver.receive()
>>> packet.payload
b'hello, ring\\x00\\x00\\x00\\x00\\x00'
"""

from vmbus.version import VERSION as __version__  # noqa: F401

#: The everyday names of each part; parts without any stand here too.
_PARTS = {
    "errors": (
        "BufferTooSmall",
        "CallerError",
        "ChannelClosed",
        "ConnectionRefused",
        "DeviceError",
        "DumpError",
        "NotReady",
        "PeerClosed",
        "PeerError",
        "RingEmpty",
        "RingFull",
        "TimedOut",
        "VmbusError",
    ),
    "sizes": ("CONTROL_WORD_COUNT", "PAGE_SIZE"),
    "memory": (
        "AddressError",
        "AddressSpace",
        "FlatRingMem",
        "GuestMemory",
        "PagedMemory",
        "PagedRingMem",
        "RingMem",
        "SharedMemory",
    ),
    "layout": (
        "Guid",
        "MAXIMUM_PIPE_PACKET_SIZE",
        "PIPE_PACKET_TYPE_DATA",
        "PIPE_PACKET_TYPE_PARTIAL",
        "PIPE_PACKET_TYPE_SETUP_GPA_DIRECT",
        "PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT",
        "PacketType",
        "PipeHeader",
    ),
    "ring": (
        "GpaRange",
        "GpaRangeFault",
        "IncomingOffset",
        "IncomingPacket",
        "IncomingPacketType",
        "IncomingRing",
        "MultiPagedRangeBuf",
        "OutgoingOffset",
        "OutgoingPacket",
        "OutgoingPacketType",
        "OutgoingRing",
        "Packet",
        "PacketSize",
        "PagedRange",
        "Ring",
        "RingFault",
        "RingRange",
        "TransferPageRange",
        "connected_rings",
        "inspect_ring",
        "reader_needs_signal",
        "writer_needs_signal",
    ),
    "pipe": ("BytePipe", "MessagePipe", "PipeFault", "connected_byte_pipes", "connected_message_pipes"),
    "virtio": (
        "BLOCK_PLACE_SIZE",
        "LINKTYPE_VSOCK",
        "BlockDevice",
        "BlockDriver",
        "BlockFeatures",
        "BlockStatus",
        "DescriptorChain",
        "DeviceQueue",
        "FrameClass",
        "FrameQueue",
        "FrameStreamDecoder",
        "IovaSpace",
        "NetworkBackend",
        "NetworkDriver",
        "NetworkFeatures",
        "NetworkFrameQueues",
        "NetworkPlan",
        "QueueAreas",
        "QueueState",
        "RequestPlace",
        "Tolerance",
        "VirtioFeatures",
        "VirtioNetworkDevice",
        "Virtqueue",
        "VirtqueueCompletion",
        "VirtqueueFault",
        "VirtqueueLayout",
        "VsockDevice",
        "VsockDriver",
        "VsockEndpoint",
        "VsockFault",
        "VsockPacket",
        "capture_record",
        "classify_frame",
        "connected_virtqueues",
        "connected_vsock",
        "encode_frame",
    ),
    "channel": (
        "AsyncByteChannel",
        "AsyncMessageChannel",
        "AsyncPacketChannel",
        "ByteChannel",
        "MessageChannel",
        "PacketChannel",
        "SharedChannel",
        "Signal",
        "connected_channels",
        "open_streams",
    ),
    "sockets": (
        "AsyncVsockLink",
        "IngressResult",
        "NetworkHooks",
        "NetworkLoop",
        "NetworkStack",
        "SharedVsock",
        "VsockLink",
        "VsockMessages",
        "VsockStream",
        "async_bridge",
        "bridge",
        "shared_frame_queues",
        "wake_of",
    ),
    "uio": ("ChannelObserver", "System", "UioDevice", "find_devices", "open_channel"),
    "protocols": (),
    "images": (),
    "inspection": (
        "PcapngWriter",
        "inspect_dump",
        "inspect_queue",
        "open_dump",
        "read_capture",
        "scan",
        "scan_many",
    ),
    "exploration": (),
    "acceptance": (),
    "fuzzing": (),
}

_HOME = {name: part for part, names in _PARTS.items() for name in names}

__all__ = sorted([*_PARTS, *_HOME])  # noqa: PLE0605


def __getattr__(name: str) -> object:
    import importlib

    if name in _PARTS:
        return importlib.import_module(f"vmbus.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'vmbus' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vmbus.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
