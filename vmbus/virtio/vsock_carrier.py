"""What takes vsock packets to the other side: the queues of a driver, or those of a device.

Source: OASIS VIRTIO 1.2, section 5.10.6.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from .vsock_layout import VsockHeader

__all__ = ["CarrierStatistics", "VsockArrival", "VsockCarrier"]

#: A packet that has come: its header, and a copy of its payload, which only an RW has.
VsockArrival: TypeAlias = "tuple[VsockHeader, bytes]"


class CarrierStatistics(NamedTuple):
    """What a carrier has done so far.

    sent, received   packets
    refused          chains and buffers of the other side that held no packet, or had no room for one
    """

    sent: int
    received: int
    refused: int


class VsockCarrier(Protocol):
    """The queues of one side, which never wait."""

    def room(self) -> int:
        """The most payload that the next packet can have; -1 when no packet can be sent now."""
        ...

    def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Send a packet, of no more payload than `room` has just said."""
        ...

    def receive(self) -> VsockArrival | None:
        """The next packet that has come; None when there is none.

        What is no packet is counted as refused, and the next one is looked at.  Raises PeerError when
        the queue itself is broken.
        """
        ...

    def take_reset(self) -> bool:
        """Whether the device has said, since this was last asked, that all connections are gone."""
        ...

    def must_notify(self) -> bool:
        """Whether the other side must be notified of what was done since this was last asked."""
        ...

    def prepare_to_sleep(self) -> bool:
        """Ask to be notified of packets and of room; True when there is something to do already."""
        ...

    def stay_awake(self) -> None:
        """Ask not to be notified until the next `prepare_to_sleep`, as far as the queues have such a wish."""
        ...

    def statistics(self) -> CarrierStatistics:
        """What was done so far."""
        ...
