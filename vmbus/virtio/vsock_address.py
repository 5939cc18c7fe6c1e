"""Where a vsock connection ends: a CID and a port.

Source: OASIS VIRTIO 1.2, section 5.10.4.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import CallerError

from .vsock_layout import ANY_CID, ANY_PORT, HOST_CID, is_reserved_cid

__all__ = ["VsockAddress", "check_guest_cid", "check_port"]


class VsockAddress(NamedTuple):
    """One end of a connection."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"{self.cid}:{self.port}"


def check_port(port: int) -> int:
    """Return a port if it is one, else raise CallerError."""
    if not 0 <= port < ANY_PORT:
        raise CallerError(
            f"a port is a number from 0 to {ANY_PORT - 1}, not {port}",
            argument="port",
            value=port,
            limit=ANY_PORT - 1,
        )
    return port


def check_guest_cid(cid: int) -> int:
    """Return a CID if a guest can have it, else raise CallerError."""
    if is_reserved_cid(cid):
        raise CallerError(
            f"a guest's CID is a number from {HOST_CID + 1} to {ANY_CID - 1}, not {cid}",
            argument="cid",
            value=cid,
            limit=ANY_CID - 1,
        )
    return cid
