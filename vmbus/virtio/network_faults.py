"""What the other side of a network device, or of a stream of frames, can do wrong.

Sources: OASIS VIRTIO 1.2, section 5.1.6; the frame streams of libkrun and smolvm.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["FrameStreamFault", "NetworkFault"]


class NetworkFault(Enum):
    """Why a network device is not to be trusted: the `kind` of a PeerError."""

    NO_FRAME = "a receive buffer came back with less than a header and a byte of a frame"
    FRAME_TOO_LONG = "a received frame is longer than any can be"
    NO_BUFFERS = "a received frame says that it takes no buffer"
    TOO_MANY_BUFFERS = "a received frame says that it takes more buffers than the queue has"
    BUFFER_NOT_FILLED = "a frame goes on in the next buffer, and this one has room left"
    EMPTY_BUFFER = "a buffer of a frame holds nothing of it"
    FLAGS_NOT_NEGOTIATED = "a received frame needs work that was not negotiated"


class FrameStreamFault(Enum):
    """Why a stream of frames is not to be trusted: the `kind` of a PeerError."""

    LENGTH = "the length of a frame is 0 or too large"
    TRUNCATED = "the stream ends inside a frame"
