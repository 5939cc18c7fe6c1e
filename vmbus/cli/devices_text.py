"""The devices of a guest, for reading and for grep: a line a device, and below it lines of what more was asked.

Those further lines name every number as its file in sysfs is named.  What is missing is a dash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vmbus.ring import is_offset
from vmbus.uio import STATES, GuestChannel, GuestDevice, MonitorFiles, RingFiles, System, UioMap

__all__ = ["COLUMNS", "MISSING", "devices_to_lines"]

MISSING = "-"

#: The columns, and whether they hold numbers, which stand to the right.
COLUMNS = {
    "RELID": True,
    "CLASS": False,
    "STATE": False,
    "CHANNELS": True,
    "OPEN": True,
    "NODE": True,
    "UIO": False,
    "DRIVER": False,
    "WHAT": False,
}

#: No column is wider: one odd name is not to push all others out of sight.
WIDEST = 24

#: Of more interfaces and disks only so many are named in a device's line; -v names them all.
MOST_CARRIED = 4

#: Further lines stand below CLASS, and what they say behind such a label.
INDENT = " " * 9
LABEL = 9

#: The files of a channel that -v shows, and those that -vv adds.
MASKS_AND_FILLS = ("out_mask", "in_mask", "read_avail", "write_avail")
COUNTERS = ("interrupts", "events", "intr_in_full", "intr_out_empty", "out_full_first", "out_full_total")


def devices_to_lines(
    system: System, devices: list[GuestDevice], maps: Mapping[str, list[UioMap]], detail: int
) -> Iterator[str]:
    """The lines.

    maps     those of the uio devices, by their names
    detail   0: a line a device; 1: also rings and channels; 2: also counters, monitor words and paths
    """
    title, *lines = in_columns([tuple(COLUMNS), *map(cells, devices)])
    yield title
    for device, line in zip(devices, lines, strict=True):
        yield line
        if detail:
            for label, text in details(system, device, maps.get(device.uio or "", []), detail):
                yield f"{INDENT}{label:<{LABEL}} {text}"


def in_columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows, each column as wide as its widest cell."""
    numeric = tuple(COLUMNS.values())
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)]
    for row in rows:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        yield f"  {'  '.join(aligned).rstrip()}"


def cells(device: GuestDevice) -> tuple[str, ...]:
    """A device as one row."""
    relids = {channel.relid for channel in device.channels} | dict(device.channel_vp_mapping).keys()
    return (
        shown(device.id),
        device.name,
        state_of(device),
        str(len(relids)) if relids else MISSING,
        str(sum(channel.is_open for channel in device.channels)) if device.channels else MISSING,
        shown(device.numa_node),
        shown(device.uio),
        shown(device.driver),
        what_it_is(device),
    )


def state_of(device: GuestDevice) -> str:
    return MISSING if device.state is None else STATES.get(device.state, str(device.state))


def what_it_is(device: GuestDevice) -> str:
    """A few words on a device, and what it carries; of a kind that nobody knows, its GUID."""
    known, port = device.device_class, device.hvsock_port
    if known is not None:
        words = [known.description]
    else:
        words = [] if device.class_id is None else [f"class {device.class_id}"]
    if port is not None:
        words.append(f"port {port}")
    words += device.carried[:MOST_CARRIED]
    if len(device.carried) > MOST_CARRIED:
        words.append(f"and {len(device.carried) - MOST_CARRIED} more")
    return ", ".join(words) or MISSING


def details(
    system: System, device: GuestDevice, maps: list[UioMap], detail: int
) -> Iterator[tuple[str, str]]:
    """Further lines on a device, each a label and what stands behind it."""
    yield "class", shown(device.class_id)
    yield "instance", device.instance_id
    if device.carried:
        yield "carries", " ".join(device.carried)
    if detail > 1:
        yield from more_of_device(system, device)
    yield "outbound", ring_text(device.outbound)
    yield "inbound", ring_text(device.inbound)
    if detail > 1:
        yield "server", monitor_text(device.server)
        yield "client", monitor_text(device.client)
        for one in maps:
            yield f"map {one.number}", f"{one.name}  {one.size} bytes  addr {in_hex(one.address)}"
    mapped = dict(device.channel_vp_mapping)
    for channel in device.channels:
        yield "channel", channel_text(channel, mapped.pop(channel.relid, None))
        if detail > 1:
            yield "", f"{channel.relid}  {named(channel, COUNTERS)}"
            yield "", f"{channel.relid}  {monitored_text(channel)}  ring {of_bytes(channel.ring_size)}"
    for relid, cpu in mapped.items():  # older kernels have no folder for a channel
        yield "channel", f"{relid}  subchannel {MISSING}  cpu {cpu}"


def more_of_device(system: System, device: GuestDevice) -> Iterator[tuple[str, str]]:
    """What only -vv says of a device as a whole."""
    yield "device_id", shown(device.device_id)
    yield "sysfs", system.path(device.place)
    yield "modalias", shown(device.modalias)
    numbers = f"vendor {in_hex(device.vendor)}  device {in_hex(device.device)}  state {shown(device.state)}"
    override = f"driver_override {shown(device.driver_override)}"
    yield "kind", f"{numbers}  {override}  monitor_id {shown(device.monitor_id)}"
    pairs = " ".join(f"{relid}:{cpu}" for relid, cpu in device.channel_vp_mapping)
    yield "cpus", f"channel_vp_mapping {pairs or MISSING}"


def ring_text(ring: RingFiles) -> str:
    """A ring: its indices, its mask, how full it is, and an index that no such ring can have."""
    if all(word is None for word in ring):
        return MISSING
    fill = f"{shown(ring.read_bytes_avail)} of {shown(ring.data_size)} bytes waiting"
    size = ring.data_size
    wild = [
        f"  {name} is outside"
        for name in ("write_index", "read_index")
        if size is not None and getattr(ring, name) is not None and not is_offset(size, getattr(ring, name))
    ]
    return (
        f"write_index {offset(ring.write_index)}  read_index {offset(ring.read_index)}  "
        f"intr_mask {shown(ring.intr_mask)}  {fill}{''.join(wild)}"
    )


def channel_text(channel: GuestChannel, mapped_cpu: int | None) -> str:
    """A channel: where its interrupts go, whether it is open, its masks and fills."""
    cpu = mapped_cpu if channel.cpu is None else channel.cpu
    state = "open" if channel.is_open else "closed"
    return (
        f"{channel.relid}  subchannel {shown(channel.subchannel_id)}  cpu {shown(cpu)}  {state}  "
        f"{named(channel, MASKS_AND_FILLS)}"
    )


def monitored_text(channel: GuestChannel) -> str:
    return (
        f"monitor_id {shown(channel.monitor_id)}  pending {in_hex(channel.pending)}  "
        f"latency {duration(channel.latency)}"
    )


def monitor_text(words: MonitorFiles) -> str:
    if all(word is None for word in words):
        return MISSING
    return (
        f"monitor_pending {in_hex(words.pending)}  monitor_latency {duration(words.latency)}  "
        f"monitor_conn_id {in_hex(words.conn_id)}"
    )


def named(channel: GuestChannel, names: tuple[str, ...]) -> str:
    """Some files of a channel, each with its name."""
    return "  ".join(f"{name} {shown(getattr(channel, name))}" for name in names)


def shown(value: object | None) -> str:
    """What a file says, or a dash.

    >>> shown(None), shown(""), shown(0)
    ('-', '-', '0')
    """
    return MISSING if value is None or value == "" else str(value)


def in_hex(value: int | None) -> str:
    return MISSING if value is None else f"{value:#x}"


def offset(value: int | None) -> str:
    return MISSING if value is None else f"{value:#06x}"


def of_bytes(value: int | None) -> str:
    return MISSING if value is None else f"{value} bytes"


def duration(latency: int | None) -> str:
    """A latency, of which sysfs counts units of 100 ns.

    >>> duration(1005), duration(None)
    ('1005 (100.5 us)', '-')
    """
    return MISSING if latency is None else f"{latency} ({latency / 10:g} us)"
