"""A double of the kernel of a Linux guest, and of the host behind it, in a process of its own.

    with Machine() as machine, machine.boot(tmp_path) as kernel:
        kernel.add_device()
        device = find_device("uio0", kernel.system)

`system` is what the package is given in place of "/": a tree of files as the kernel shows them, and nodes of /dev
that answer as uio_hv_generic does.  Everything else of a Kernel is an order to that process: what devices there
are, what happens to them, and what the host does.  See kernel_device.py for what stands for which function of
Linux, and host_end.py for the host.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

from tests.uio.calls import Caller
from tests.uio.host_end import Manner
from tests.uio.kernel_channel import Age
from tests.uio.kernel_process import ChannelReport
from tests.uio.stand_in_node import StandInSystem
from vmbus.layout import TransferPageRange
from vmbus.ring import OutgoingPacket, Packet

__all__ = [
    "INSTANCE",
    "LATE",
    "MASKS_ALL",
    "OLD",
    "PAGES_64K",
    "PRIMARY_ONLY",
    "RELID",
    "RING_SIZE",
    "ROOT_NAME",
    "Age",
    "ChannelReport",
    "Kernel",
    "Manner",
]

#: Of the device that tests have where they need just one; five pages a ring, control page included.
INSTANCE = "4487b255-b88c-403f-bb51-d1f69cf17f87"
RELID = 14
RING_SIZE = 20480

#: Linux from late 2025 on, the kernels before 2025, and one with pages of 64 KiB.
LATE = Age()
OLD = Age(masks_itself=True, controls_subchannels=False)
PAGES_64K = Age(page_size=65536)

#: The two changes came one by one: mainline first reached the subchannels, some stable releases first left the mask
#: alone.
MASKS_ALL = Age(masks_itself=True, controls_subchannels=True)
PRIMARY_ONLY = Age(masks_itself=False, controls_subchannels=False)

#: Of the folder that stands for /.
ROOT_NAME = "root"


@final
class Kernel:
    """The test's end; made by Machine.boot.  Leaving the block shuts it down.

    system   what the package is given for "/"
    root     of its tree of files
    """

    def __init__(
        self,
        calls: socket.socket,
        orders: socket.socket,
        folder: Path,
        age: Age,
        confirm_end: Callable[[], object],
    ) -> None:
        self.root = folder / ROOT_NAME
        self.age = age
        self._calls, self._orders = Caller(calls), Caller(orders)
        self._confirm_end = confirm_end
        self._uio_count = 0
        self._closed = False
        self._orders.ask("report_for_duty")
        self.system = StandInSystem(self._calls, str(self.root), age.page_size)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every node that is open, and end; again is harmless."""
        if not self._closed:
            self._closed = True
            for node in self.system.nodes:
                with suppress(OSError, AssertionError):
                    node.close()
            self._calls.close()
            self._orders.close()
            self._confirm_end()

    # -- what there is ---------------------------------------------------------------------------

    def add_device(
        self,
        kind: str = "file-copy",
        instance: str = INSTANCE,
        relid: int = RELID,
        *,
        ring_size: int = RING_SIZE,
        map_size: int | None = None,
        ring_file: bool = True,
        buffers: Mapping[str, int] | None = None,
        pages: bool = True,
        monitor_id: int | None = None,
        manner: Manner = Manner.KEEP,
        event: int = 0,
    ) -> str:
        """A device that uio_hv_generic has: its node, such as "uio0".

        ring_size    bytes of each ring, control page included; a page of the system and more
        map_size     of both rings, where it is to be something else than twice that
        ring_file    whether the primary channel has its file `ring` from the beginning
        buffers      more maps, by their names, such as "recv:7", with their sizes
        pages        whether the interrupt page and the monitor page are among the maps
        monitor_id   of a channel that is signaled through the monitor page
        manner       what the host does with packets
        event        the number of interrupts so far
        """
        uio = f"uio{self._uio_count}"
        self._uio_count += 1
        self._orders.ask(
            "add_device",
            kind,
            instance,
            relid,
            uio,
            map_size=2 * ring_size if map_size is None else map_size,
            ring_file=ring_file,
            buffers=dict(buffers or {}),
            pages=pages,
            monitor_id=monitor_id,
            manner=manner,
            event=event,
        )
        return uio

    def offer_subchannel(
        self,
        relid: int,
        subchannel: int,
        *,
        ring_size: int = 2 << 20,
        ring_file: bool = True,
        manner: Manner = Manner.KEEP,
        monitor_id: int | None = None,
    ) -> int:
        """A subchannel of an open device, whose primary channel is `relid`: the relid of the new one.

        ring_file   whether its file `ring` is there at once; else show_ring() brings it
        """
        self._orders.ask("offer_subchannel", relid, subchannel, 2 * ring_size, manner, monitor_id)
        if ring_file:
            self.show_ring(relid + subchannel)
        return relid + subchannel

    def show_ring(self, relid: int) -> None:
        self._orders.ask("show_ring", relid)

    # -- what happens ----------------------------------------------------------------------------

    def refuse_opens(self, uio: str, *numbers: int) -> None:
        """Answer the next opens of that node with these errors."""
        self._orders.ask("refuse_opens", uio, list(numbers))

    def begin_opening(self, relid: int, looks: int) -> None:
        """Another process begins to open the device: done when `out_mask` has been asked for so often."""
        self._orders.ask("begin_opening", relid, looks)

    def end_opening(self, relid: int) -> None:
        """That other process closes it."""
        self._orders.ask("end_opening", relid)

    def interrupt(self, relid: int) -> None:
        """Interrupt the guest for nothing."""
        self._orders.ask("interrupt", relid)

    def revoke(self, relid: int, *, unregister: bool = True) -> None:
        """The host takes the device away.

        unregister   and its files and its node are gone at once, as in kernels from 2023 on
        """
        self._orders.ask("revoke", relid, unregister)

    def remove_device(self, relid: int) -> None:
        """Its files and its node are gone."""
        self._orders.ask("remove_device", relid)

    def reuse_memory(self, relid: int) -> None:
        """Give the memory of a channel that is gone to somebody else, who fills it."""
        self._orders.ask("reuse_memory", relid)

    def memory_is_untouched(self, relid: int) -> bool:
        """Whether nobody but that one has stored anything there."""
        return self._orders.ask("memory_is_untouched", relid) is True

    def fill_map(self, relid: int, number: int, offset: int, data: bytes) -> None:
        """Store bytes in a map."""
        self._orders.ask("fill_map", relid, number, offset, data)

    # -- what the host does ----------------------------------------------------------------------

    def send(
        self, relid: int, payload: bytes, transaction_id: int = 0, *, completion_requested: bool = False
    ) -> None:
        packet = OutgoingPacket.in_band(
            len(payload), transaction_id=transaction_id, completion_requested=completion_requested
        )
        self.send_packet(relid, packet, payload)

    def send_packet(self, relid: int, packet: OutgoingPacket, payload: bytes = b"") -> None:
        self._orders.ask("post", relid, [(packet, payload)])

    def send_transfer_pages(
        self, relid: int, set_id: int, ranges: Sequence[TransferPageRange], payload: bytes = b""
    ) -> None:
        packet = OutgoingPacket.transfer_pages(set_id, ranges, len(payload))
        self.send_packet(relid, packet, payload)

    def complete(self, relid: int, transaction_id: int, payload: bytes = b"") -> None:
        packet = OutgoingPacket.completion(len(payload), transaction_id=transaction_id)
        self.send_packet(relid, packet, payload)

    def flood(self, relid: int, count: int, size: int) -> None:
        """So many packets of `size` bytes; the number of each is its transaction id, and fills its payload."""
        self._orders.ask("flood", relid, count, size)

    def set_manner(self, relid: int, manner: Manner) -> None:
        self._orders.ask("set_manner", relid, manner)

    def silence(self, relid: int) -> None:
        """The host does not look any more, whatever it is told."""
        self._orders.ask("set_silent", relid, True)

    def end_silence(self, relid: int) -> None:
        """It does again, and looks at once."""
        self._orders.ask("set_silent", relid, False)

    # -- what has happened -----------------------------------------------------------------------

    def taken(self, relid: int) -> list[Packet]:
        """What the host has received since this was asked last."""
        packets = self._orders.ask("taken", relid)
        assert isinstance(packets, list)
        return packets

    def report(self, relid: int) -> ChannelReport:
        report = self._orders.ask("report", relid)
        assert isinstance(report, ChannelReport)
        return report

    def await_received(self, relid: int, count: int) -> list[Packet]:
        """Wait until the host has received so many packets in all: those that it has kept."""
        self._orders.ask("await_received", relid, count)
        return self.taken(relid)

    def await_unmasked(self, relid: int) -> None:
        """Wait until the guest sleeps for packets, or is about to."""
        self._orders.ask("await_unmasked", relid)

    def await_asking(self, relid: int) -> None:
        """Wait until the guest sleeps for room, or is about to."""
        self._orders.ask("await_asking", relid)

    def await_host_asking(self, relid: int) -> None:
        """Wait until the host has asked for room."""
        self._orders.ask("await_host_asking", relid)
