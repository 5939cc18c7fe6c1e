"""Both sides of one vsock device, for tests, examples and measurements."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from .device_queue import DeviceQueue
from .layout import VirtioFeatures
from .pair import connected_virtqueues
from .queue import Virtqueue
from .vsock_device import VsockDevice
from .vsock_driver import VSOCK_PLACE_SIZE, VsockDriver
from .vsock_endpoint import DEFAULT_BUFFER_SIZE, VsockEndpoint
from .vsock_layout import HOST_CID, VSOCK_EVENT

__all__ = ["connected_vsock"]


def connected_vsock(
    queue_size: int = 64,
    features: int = VirtioFeatures.VERSION_1 | VirtioFeatures.RING_EVENT_IDX,
    *,
    guest_cid: int = 3,
    place_size: int = VSOCK_PLACE_SIZE,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    clock: Callable[[], float] = monotonic,
) -> tuple[VsockEndpoint, VsockEndpoint]:
    """The guest's and the host's endpoint over one device.

    queue_size    descriptors of the rx and of the tx queue
    place_size    bytes of each packet's buffer there
    buffer_size   bytes of each connection's receive buffer

    >>> guest, host = connected_vsock()
    >>> guest.cid, host.cid
    (3, 2)
    """

    def queue(size: int, request_size: int) -> tuple[Virtqueue, DeviceQueue]:
        return connected_virtqueues(size, features, request_size=request_size)

    rx, tx, event = queue(queue_size, place_size), queue(queue_size, place_size), queue(8, VSOCK_EVENT.size)
    driver = VsockDriver(rx[0], tx[0], event[0])
    device = VsockDevice(rx[1], tx[1], event[1])
    guest = VsockEndpoint(driver, guest_cid, peer_cid=HOST_CID, buffer_size=buffer_size, clock=clock)
    host = VsockEndpoint(device, HOST_CID, peer_cid=guest_cid, buffer_size=buffer_size, clock=clock)
    return guest, host
