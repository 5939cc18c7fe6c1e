"""What packets carry through a pipe, as frames of a capture: link type 252, Wireshark's exported PDUs.

A frame is tags and the bytes of the pipe.  Tag 12 names the dissector, "data"; tag 33 says what to show as the
protocol; tag 0 ends them.  A tag and its length have 16 bits each, big-endian; values are padded with zeros to 4
bytes, and the length counts those.  hvsock puts its bytes into packets as pipes do.

Sources: Wireshark wsutil/exported_pdu_tlvs.h, and what its own writers of such frames do.
"""

from __future__ import annotations

from struct import Struct

from vmbus.layout import PIPE_HEADER_SIZE, PacketType
from vmbus.pipe import pipe_header_of

from .examine import PacketReport

__all__ = ["pipe_content", "pipe_frame"]

TAG = Struct(">HH")
TAG_END, TAG_DISSECTOR_NAME, TAG_PROTOCOL_TEXT = 0, 12, 33


def pipe_content(packet: PacketReport) -> bytes | None:
    """What a packet carries through a pipe, if its payload looks like that; None where it does not."""
    if packet.descriptor is None or packet.descriptor.type != PacketType.IN_BAND or packet.payload is None:
        return None
    header = pipe_header_of(packet.payload)
    return None if header is None else packet.payload[PIPE_HEADER_SIZE : PIPE_HEADER_SIZE + header.length]


def pipe_frame(content: bytes) -> bytes:
    """The bytes of a pipe as an exported PDU.

    >>> pipe_frame(b"hello").hex(" ", -4)
    '000c0004 64617461 0021000c 564d4275 73207069 70650000 00000000 68656c6c 6f'
    """
    return (
        pdu_tag(TAG_DISSECTOR_NAME, b"data")
        + pdu_tag(TAG_PROTOCOL_TEXT, b"VMBus pipe")
        + pdu_tag(TAG_END)
        + content
    )


def pdu_tag(tag: int, value: bytes = b"") -> bytes:
    """A tag; Wireshark counts the padding in its length."""
    padded = value + bytes(-len(value) % 4)
    return TAG.pack(tag, len(padded)) + padded
