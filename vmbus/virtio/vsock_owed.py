"""What a vsock connection may have to tell the other side, beside payload.

Source: OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

from enum import IntFlag

from .vsock_layout import VsockOperation

__all__ = ["OWED_PACKETS", "OWED_PAYLOAD", "OWED_SHUTDOWN", "OWED_UPDATE", "Owed"]


class Owed(IntFlag):
    """What a connection has to tell the other side, in the order in which it does."""

    REQUEST = 1
    RESPONSE = 2
    PAYLOAD = 4  # the rest of a message
    CREDIT_UPDATE = 8
    CREDIT_REQUEST = 16
    SHUTDOWN = 32


OWED_PAYLOAD = int(Owed.PAYLOAD)
OWED_UPDATE = int(Owed.CREDIT_UPDATE)
OWED_SHUTDOWN = int(Owed.SHUTDOWN)

#: Bit and operation of each; the rest of a message is sent by the kind of connection that has one.
OWED_PACKETS = [
    (int(owed), None if owed is Owed.PAYLOAD else int(VsockOperation[str(owed.name)])) for owed in Owed
]
