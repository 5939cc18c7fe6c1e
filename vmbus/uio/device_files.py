"""What is known of a VMBus device of a Linux guest: records, with a field for each file that sysfs has.

None: the file is not there, cannot be read or holds no number.  All of that is usual: attributes appear late,
depend on the kernel, need a channel that is open, and vanish with the device.  Each file is read by itself, while
the rings move: numbers of two files need not fit.

Sizes and offsets are in bytes, latencies in units of 100 ns.

Sources: Linux Documentation/ABI/stable/sysfs-bus-vmbus, drivers/hv/vmbus_drv.c (vmbus_dev_attrs and
vmbus_chan_attrs).
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import Guid
from vmbus.protocols import DeviceClass, device_class, hvsock_port
from vmbus.sizes import check_data_size

__all__ = [
    "BUS",
    "DEVICES",
    "STATES",
    "UNKNOWN_NAME",
    "GuestChannel",
    "GuestDevice",
    "MonitorFiles",
    "RingFiles",
    "guid_of",
]

#: The folder of the bus, and that of all its devices.
BUS = "sys/bus/vmbus"
DEVICES = f"{BUS}/devices"

#: What the numbers of `state` mean.  (include/linux/hyperv.h, enum vmbus_channel_state)
STATES = {0: "offered", 1: "opening", 2: "ready", 3: "open"}

#: What a kind is called that nobody knows.
UNKNOWN_NAME = "unknown"


class RingFiles(NamedTuple):
    """One ring of the primary channel: the files `out_...`, or `in_...`."""

    write_index: int | None
    read_index: int | None
    intr_mask: int | None
    read_bytes_avail: int | None
    write_bytes_avail: int | None

    @property
    def data_size(self) -> int | None:
        """Bytes of its data area: what can be read and what can be written, as Linux counts them.

        None also where no ring has that size: then the ring moved between the look at the one and at the other.
        """
        if self.read_bytes_avail is None or self.write_bytes_avail is None:
            return None
        try:
            # Linux subtracts in 32 bits: where an index is wild both numbers are, and their sum is not.
            return check_data_size((self.read_bytes_avail + self.write_bytes_avail) % 2**32)
        except CallerError:
            return None


class MonitorFiles(NamedTuple):
    """A side's words of the monitor pages: the files `server_monitor_...`, or `client_monitor_...`."""

    pending: int | None
    latency: int | None
    conn_id: int | None


class GuestChannel(NamedTuple):
    """A channel of a device: the folder `channels/<relid>`.

    relid                          its number on the bus
    subchannel_id                  0 for the primary channel
    cpu                            the processor that its interrupts go to
    out_mask, in_mask              the interrupt masks; they can be read only while the channel is open
    read_avail                     bytes that wait in the inbound ring
    write_avail                    bytes free in the outbound ring, all of its data area when it is empty
    interrupts                     signals from the host
    events                         signals to the host that needed a hypercall; those of a monitored channel do not
    intr_in_full, intr_out_empty   why the guest signaled: made room, or ended emptiness
    out_full_first, out_full_total  writes that found no room: the first of each time, and all
    pending, latency, monitor_id   of a monitored channel
    ring_size                      bytes of the file `ring`: both rings, where uio_hv_generic has the device
    """

    relid: int
    subchannel_id: int | None
    cpu: int | None
    out_mask: int | None
    in_mask: int | None
    read_avail: int | None
    write_avail: int | None
    interrupts: int | None
    events: int | None
    intr_in_full: int | None
    intr_out_empty: int | None
    out_full_first: int | None
    out_full_total: int | None
    pending: int | None
    latency: int | None
    monitor_id: int | None
    ring_size: int | None

    @property
    def is_open(self) -> bool:
        """Whether somebody holds it open: only then has it rings."""
        return self.out_mask is not None


class GuestDevice(NamedTuple):
    """A device: the folder /sys/bus/vmbus/devices/<instance>.

    instance_id       its name on the bus, and class_id the GUID of its kind
    id                the relid of its primary channel; monitor_id its bit in the monitor pages, if it has one
    vendor, device    0x1414, and the number that Linux gives to the kind
    state             of its primary channel: see STATES
    channel_vp_mapping  pairs of relid and processor, the primary channel first
    driver            the name of the driver that has it
    uio               such as "uio0", where uio_hv_generic has it
    outbound, inbound   the rings of its primary channel
    server, client      its words in the two monitor pages
    channels            in the order of their relids
    device_id           the GUID that is its name on the bus
    interfaces, disks   what the kernel calls what it carries: such as eth0 or sda
    """

    instance_id: str
    class_id: Guid | None
    id: int | None
    vendor: int | None
    device: int | None
    state: int | None
    modalias: str | None
    numa_node: int | None
    driver_override: str | None
    monitor_id: int | None
    channel_vp_mapping: tuple[tuple[int, int], ...]
    driver: str | None
    uio: str | None
    outbound: RingFiles
    inbound: RingFiles
    server: MonitorFiles
    client: MonitorFiles
    channels: tuple[GuestChannel, ...]
    device_id: Guid | None = None
    interfaces: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()

    @property
    def device_class(self) -> DeviceClass | None:
        """The kind of device; None for one that nobody knows."""
        return None if self.class_id is None else device_class(self.class_id)

    @property
    def class_name(self) -> str | None:
        """What its kind is called, such as "network"; None for one that nobody knows."""
        known = self.device_class
        return None if known is None else known.name

    @property
    def name(self) -> str:
        """What to call its kind in any case: such as "network", or "unknown"."""
        return self.class_name or UNKNOWN_NAME

    @property
    def hvsock_port(self) -> int | None:
        """The port of the service whose socket it is; None where it is none."""
        return None if self.class_id is None else hvsock_port(self.class_id)

    def matches(self, which: str) -> bool:
        """Whether `which` names this device.

        It may be its instance, relid, driver, kind (see is_of_class) or network interface; its uio node or disk, also
        with /dev/ before it.
        """
        wanted = which.strip("{}").lower()
        nodes = [f"/dev/{name}" for name in (self.uio, *self.disks) if name is not None]
        names = (self.instance_id, self.id, self.uio, self.driver, *self.carried, *nodes)
        return wanted in {str(name).lower() for name in names if name is not None} or self.is_of_class(wanted)

    @property
    def carried(self) -> tuple[str, ...]:
        """The names of its interfaces and disks."""
        return self.interfaces + self.disks

    def is_of_class(self, which: str) -> bool:
        """Whether its kind has that name ("network", "netvsc") or GUID.

        "hvsock" are the services of every port, "unknown" all kinds that nobody knows.
        """
        wanted = guid_of(which)
        if wanted is not None:
            return self.class_id == wanted
        if which.lower() == UNKNOWN_NAME:
            return self.device_class is None
        known = device_class(which)
        return known is not None and known == self.device_class

    @property
    def is_open(self) -> bool:
        """Whether one of its channels is open."""
        return any(channel.is_open for channel in self.channels)

    @property
    def place(self) -> str:
        """Its folder, below the root."""
        return f"{DEVICES}/{self.instance_id}"

    def channel(self, relid: int) -> GuestChannel | None:
        """Its channel of that relid; None where it has none."""
        return next((channel for channel in self.channels if channel.relid == relid), None)

    def ring_file(self, relid: int) -> str:
        """Where both rings of that channel can be mapped, below the root, where uio_hv_generic has the device."""
        return f"{self.place}/channels/{relid}/ring"

    @property
    def primary(self) -> GuestChannel | None:
        """Its first channel; None while it has none."""
        by_relid = (channel for channel in self.channels if channel.relid == self.id)
        by_number = (channel for channel in self.channels if channel.subchannel_id == 0)
        return next(by_relid, next(by_number, None))


def guid_of(text: str | None) -> Guid | None:
    """The GUID in an attribute, which has it in braces."""
    try:
        return None if text is None else Guid.parse(text)
    except CallerError:
        return None
