"""What the other side of a vsock device, or of one connection, can do wrong.

Sources: OASIS VIRTIO 1.2, section 5.10.6; rust-vmm virtio-vsock, Error; Linux
net/vmw_vsock/virtio_transport_common.c.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["VsockFault"]


class VsockFault(Enum):
    """The `kind` of a PeerError."""

    # a packet in a chain of descriptors
    DESCRIPTOR_CHAIN_TOO_SHORT = "a chain has fewer descriptors, or bytes, than its packet"
    DESCRIPTOR_LENGTH_TOO_SMALL = "a descriptor is shorter than what it must hold"
    DESCRIPTOR_LENGTH_TOO_LONG = "a descriptor offers more bytes than a packet may have"
    FRAGMENTED_MEMORY = "a header or a payload is not inside one region of the memory"
    INVALID_HEADER_LENGTH = "a header says that its payload is longer than a packet may have"
    INVALID_MEMORY_ACCESS = "a header or a payload is not in memory"
    UNEXPECTED_READ_ONLY_DESCRIPTOR = "a descriptor that the device writes is readable"
    UNEXPECTED_WRITE_ONLY_DESCRIPTOR = "a descriptor that the device reads is writable"
    # a packet of a connection
    UNEXPECTED_OPERATION = "an operation that this state of a connection does not have"
    CREDIT_EXCEEDED = "more bytes than the receiver has room for"
    CREDIT_BACKWARDS = "more bytes are said to be received than were sent"
    TOO_MANY_MESSAGES = "more small messages than the receiver keeps"
    UNFINISHED_MESSAGE = "the end came in the middle of a message"
    SENT_AFTER_SHUTDOWN = "payload after the sender said that none would come"
    # the device
    INVALID_EVENT = "an event buffer that holds no event"
