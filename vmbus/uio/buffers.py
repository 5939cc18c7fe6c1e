"""The large buffers that a device shares with the host beside its rings.

The host puts data into the receive buffer and sends packets of transfer pages, whose ranges say where in it
the data lies.  The kernel makes these buffers with the device and names the maps after their GPADLs:
recv:<gpadl> and send:<gpadl>.  A kernel may have none, or only for network cards.

Sizes and offsets are in bytes.

Sources: Linux drivers/uio/uio_hv_generic.c, hv_uio_probe(); drivers/net/hyperv/netvsc.c,
netvsc_receive(), which checks each range as `resolve` does.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from vmbus.errors import DeviceError, PeerError
from vmbus.ring import IncomingPacket, Packet, TransferPageRange

from .maps import RECEIVE_BUFFER, SEND_BUFFER, UioMap
from .rings import let_go

__all__ = ["BufferFault", "DeviceBuffers", "SharedBuffer"]


class BufferFault(Enum):
    """What can be wrong with a packet that points into a buffer."""

    NOT_TRANSFER_PAGES = "packet-without-transfer-pages"
    RANGE_OUTSIDE = "range-outside-buffer"
    WRONG_SET = "transfer-page-set-id"


class SharedBuffer(NamedTuple):
    """One buffer.

    gpadl   the number that the host knows it by
    data    its bytes, which both sides may change at any time
    """

    gpadl: int
    data: memoryview


class DeviceBuffers:
    """The buffers of a device, each mapped when it is first asked for.

    maps         those of the device
    map_buffer   maps one of them, writable or not
    """

    def __init__(self, maps: Iterable[UioMap], map_buffer: Callable[[UioMap, bool], mmap.mmap]) -> None:
        self._maps = [(one.gpadl, one) for one in maps if one.gpadl is not None]
        self._map_buffer = map_buffer
        self._mapped: dict[str, tuple[SharedBuffer, mmap.mmap]] = {}

    @property
    def receive(self) -> SharedBuffer:
        """What the host puts data into; read-only.  DeviceError where the kernel has made none."""
        return self._buffer(RECEIVE_BUFFER, writable=False)

    @property
    def send(self) -> SharedBuffer:
        """What the host takes data from.  DeviceError where the kernel has made none."""
        return self._buffer(SEND_BUFFER, writable=True)

    def _buffer(self, kind: str, *, writable: bool) -> SharedBuffer:
        if kind not in self._mapped:
            gpadl, one = self._map_of(kind)
            mapping = self._map_buffer(one, writable)
            self._mapped[kind] = SharedBuffer(gpadl, memoryview(mapping)), mapping
        return self._mapped[kind][0]

    def _map_of(self, kind: str) -> tuple[int, UioMap]:
        for gpadl, one in self._maps:
            if one.name.startswith(kind):
                return gpadl, one
        raise DeviceError(
            errno.ENODEV,
            f"the device has no map {kind}:<gpadl>: newer kernels make them for network cards alone",
        )

    def close(self) -> None:
        """Unmap; again is harmless.  Views that somebody still holds keep their buffer mapped."""
        for buffer, mapping in self._mapped.values():
            buffer.data.release()
            let_go(mapping)
        self._mapped.clear()

    def resolve(
        self, packet: Packet | IncomingPacket, *, transfer_page_set_id: int | None = None
    ) -> list[bytes]:
        """The bytes that a packet of transfer pages points to: for each of its ranges a copy.

        transfer_page_set_id   what the packet must say, where the device has agreed with the host on one

        Complete the packet when they are used: until then the host leaves them alone.

        Raises PeerError for any other kind of packet and for a range that is not in the buffer.
        """
        ranges = [one for one in packet.ranges if isinstance(one, TransferPageRange)]
        if not ranges:
            raise PeerError(
                f"a packet of type {packet.type.name} points into no buffer",
                kind=BufferFault.NOT_TRANSFER_PAGES,
                found=packet.type.name,
                allowed="TRANSFER_PAGES",
            )
        if transfer_page_set_id is not None and packet.transfer_page_set_id != transfer_page_set_id:
            raise PeerError(
                f"a packet of transfer page set {packet.transfer_page_set_id}, where only "
                f"{transfer_page_set_id} was agreed on",
                kind=BufferFault.WRONG_SET,
                found=packet.transfer_page_set_id,
                allowed=transfer_page_set_id,
            )
        data = self.receive.data
        return [copy_of(data, one.byte_offset, one.byte_count) for one in ranges]


def copy_of(data: memoryview, offset: int, length: int) -> bytes:
    """A part of a buffer; PeerError where it is not all there."""
    if offset + length > len(data):
        raise PeerError(
            f"a range of {length} bytes at {offset:#x} of a buffer of {len(data)} bytes",
            kind=BufferFault.RANGE_OUTSIDE,
            found=offset + length,
            allowed=len(data),
        )
    return data[offset : offset + length].tobytes()
