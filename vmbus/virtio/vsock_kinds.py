"""The two kinds of vsock connection, by the type that a packet names.

Source: OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

from typing import TypeAlias

from vmbus.errors import CallerError

from .vsock_layout import VsockType
from .vsock_messages import VsockMessageConnection
from .vsock_streams import VsockStreamConnection

__all__ = ["KINDS", "AnyConnection", "check_kind"]

AnyConnection: TypeAlias = "VsockStreamConnection | VsockMessageConnection"

KINDS: dict[int, type[AnyConnection]] = {
    int(one.kind): one for one in (VsockStreamConnection, VsockMessageConnection)
}


def check_kind(kind: int, types: frozenset[VsockType]) -> VsockType:
    """Return what a connection is to carry if that was negotiated, else raise CallerError."""
    if kind not in types:
        raise CallerError(
            f"over this device a connection is of type {', '.join(sorted(one.name for one in types))}, not {kind!r}",
            argument="kind",
            value=kind,
            limit=sorted(types),
        )
    return VsockType(kind)
