"""Where a ring lies in a dump, and whose it is."""

from __future__ import annotations

from typing import NamedTuple

from vmbus.images import Finding

__all__ = ["RingDevice", "RingPlace"]


class RingDevice(NamedTuple):
    """The device that a ring belongs to, as the host offered it.

    class_id, instance_id   GUIDs as text; None where no offer was found
    class_name              what the class is called here; None for one that is not known
    channel_id              the host's number for the channel
    """

    class_id: str | None
    class_name: str | None
    instance_id: str | None
    channel_id: int

    def __str__(self) -> str:
        return self.class_name or self.class_id or f"channel {self.channel_id}"


class RingPlace(NamedTuple):
    """Where a ring lies in a dump.

    address          of the control page, in bytes from the start of the dump
    header_size      bytes from there to the data area
    data_size        bytes of the data area
    role             "outbound" or "inbound" in a pair, else None
    findings         what was found on the way
    data_size_known  False where the data size is only what would fit
    device           whose it is, or None
    pair             address of the other ring of the channel, or None
    pages            addresses of the control page and of all data pages, where they do not lie one behind the
                     other; else None
    """

    address: int
    header_size: int
    data_size: int
    role: str | None = None
    findings: tuple[Finding, ...] = ()
    data_size_known: bool = True
    device: RingDevice | None = None
    pages: tuple[int, ...] | None = None
    pair: int | None = None

    @property
    def end(self) -> int:
        return self.address + self.header_size + self.data_size
