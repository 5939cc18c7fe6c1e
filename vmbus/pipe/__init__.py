"""Messages and byte streams framed in packets.

MessagePipe and BytePipe write into and read from a ring's offsets.  They never commit and never
wait: that is for whoever holds the rings.
"""

from vmbus.layout import (
    MAXIMUM_PIPE_PACKET_SIZE,
    PIPE_PACKET_TYPE_DATA,
    PIPE_PACKET_TYPE_PARTIAL,
    PIPE_PACKET_TYPE_SETUP_GPA_DIRECT,
    PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT,
    PipeHeader,
)

from .byte_stream import CHUNK_SIZE, BytePipe
from .framing import PipeFault, pipe_header_of
from .message import MessagePipe
from .pair import connected_byte_pipes, connected_message_pipes

__all__ = [
    "CHUNK_SIZE",
    "MAXIMUM_PIPE_PACKET_SIZE",
    "PIPE_PACKET_TYPE_DATA",
    "PIPE_PACKET_TYPE_PARTIAL",
    "PIPE_PACKET_TYPE_SETUP_GPA_DIRECT",
    "PIPE_PACKET_TYPE_TEARDOWN_GPA_DIRECT",
    "BytePipe",
    "MessagePipe",
    "PipeFault",
    "PipeHeader",
    "connected_byte_pipes",
    "connected_message_pipes",
    "pipe_header_of",
]
