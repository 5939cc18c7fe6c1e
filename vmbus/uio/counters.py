"""What the channels of a guest do: how full their rings are, and how fast their counters go.

A sample is everything that sysfs says at one moment; two of them give rates.  Nothing is opened and nothing
written, so that looking changes nothing.

None: sysfs does not tell, or it would be a guess.  A counter that has gone back belongs to a new channel under
an old number, and none of that channel's rates mean anything: there are none until the next sample.

What sysfs tells differs between channels.  The primary one has files for both sides of both rings.  A
subchannel has two numbers: bytes that wait inbound, and bytes free outbound, so that the size of its rings must
come from elsewhere: from its file `ring`, where uio_hv_generic has the device, or it is taken to be that of the
primary's rings, as it is with every driver of Linux that has subchannels.  What the file holds besides data takes
pages of the kernel, whose size a copy of another machine's files does not always tell: then it is a guess too.

The files of a ring are read one after the other while it moves: what waits and what is free then do not add up
to its size.  A sum that is no number of pages shows that.

Sizes are in bytes, times in seconds of a clock that never goes back.

Sources: Linux Documentation/ABI/stable/sysfs-bus-vmbus; drivers/hv/vmbus_drv.c, vmbus_chan_attrs;
drivers/hv/ring_buffer.c, hv_ringbuffer_get_debuginfo(); include/linux/hyperv.h, hv_get_bytes_to_write().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import NamedTuple

from vmbus.errors import DeviceError
from vmbus.layout import MONITOR_COUNT, monitor_place
from vmbus.sizes import PAGE_SIZE

from .devices import GuestChannel, GuestDevice, RingFiles, find_devices
from .page_sizes import kernel_page_size
from .rings import halves_of
from .system import Root

__all__ = ["COUNTERS", "ChannelRow", "Counter", "Fill", "Sample", "channel_rows", "fill_of", "take_sample"]

#: The fields of a GuestChannel that only grow while the channel lives.
COUNTERS = ("interrupts", "events", "intr_in_full", "intr_out_empty", "out_full_first", "out_full_total")

#: A word of a control page has so many values; sizes that were computed from broken ones are modulo this.
WORDS = 2**32


class Fill(NamedTuple):
    """How full one ring is.

    used        bytes that wait to be read
    data_size   bytes of its data area
    assumed     the size is a guess: that of the primary channel's ring, what is left of the file `ring` behind
                pages of the usual size, or what numbers that do not add up come nearest to
    """

    used: int | None
    data_size: int | None
    assumed: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether more waits than the ring holds: its control page has an index that no ring can have."""
        if self.used is None or self.data_size is None or self.assumed:
            return False
        return self.used > self.data_size

    @property
    def fraction(self) -> float | None:
        """From 0.0, empty, to 1.0.

        >>> Fill(4096, 16384).fraction
        0.25
        """
        if self.used is None or not self.data_size or self.is_broken:
            return None
        return min(1.0, self.used / self.data_size)


class Counter(NamedTuple):
    """A number that grows: what it is, and by how much each second."""

    total: int | None
    rate: float | None


class ChannelRow(NamedTuple):
    """What one channel does.

    device     the device it belongs to
    channel    everything that sysfs says of it
    outbound   the ring that the guest writes
    inbound    the ring that the host writes
    counters   by the names in COUNTERS
    """

    device: GuestDevice
    channel: GuestChannel
    outbound: Fill
    inbound: Fill
    counters: dict[str, Counter]

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by from one sample to the next."""
        return self.device.instance_id, self.channel.relid

    @property
    def is_signal_pending(self) -> bool | None:
        """Whether a signal waits for the host to look; None for a channel that is not monitored.

        `pending` is a word of bits, those of all monitors of a trigger group.
        """
        pending, monitor = self.channel.pending, self.channel.monitor_id
        if pending is None or monitor is None or not 0 <= monitor < MONITOR_COUNT:
            return None
        return bool(pending >> monitor_place(monitor).bit & 1)

    @property
    def is_quiet(self) -> bool:
        """Whether it is closed, or nothing waits in it and none of its counters moves.

        Without rates nobody knows.
        """
        if not self.channel.is_open:
            return True
        rates = [counter.rate for counter in self.counters.values() if counter.rate is not None]
        return bool(rates) and not any(rates) and not self.outbound.used and not self.inbound.used


class Sample(NamedTuple):
    """The devices at one moment.

    at        the moment
    problem   why there are no devices; None where sysfs could be looked at
    """

    devices: tuple[GuestDevice, ...]
    at: float
    problem: str | None = None


def take_sample(root: Root = "/", clock: Callable[[], float] = monotonic) -> Sample:
    """Look at all devices.  Where there is no VMBus, or no longer, the sample says so."""
    at = clock()
    try:
        return Sample(tuple(find_devices(root)), at)
    except DeviceError as error:
        return Sample((), at, error.strerror or str(error))


def channel_rows(sample: Sample, before: Sample | None = None, root: Root = "/") -> list[ChannelRow]:
    """A row a channel, in the order of the devices; their rates are those since `before`."""
    seconds = 0.0 if before is None else sample.at - before.at
    old_devices = {} if before is None else {device.instance_id: device for device in before.devices}
    page_size = kernel_page_size(sample.devices, root)
    return [
        row
        for device in sample.devices
        for row in device_rows(device, old_devices.get(device.instance_id), seconds, page_size)
    ]


def device_rows(
    device: GuestDevice, old: GuestDevice | None, seconds: float, page_size: int | None
) -> Iterator[ChannelRow]:
    old_channels = {} if old is None else {channel.relid: channel for channel in old.channels}
    for channel in device.channels:
        before = old_channels.get(channel.relid)
        outbound, inbound = fill_of(device, channel, old, page_size)
        yield ChannelRow(device, channel, outbound, inbound, counters_of(channel, before, seconds))


def counters_of(channel: GuestChannel, before: GuestChannel | None, seconds: float) -> dict[str, Counter]:
    """The counters of a channel, with rates where both samples are of the same one."""
    known = before is not None and seconds > 0 and is_same_channel(channel, before)
    return {
        name: Counter(
            getattr(channel, name),
            rate_between(getattr(before, name), getattr(channel, name), seconds) if known else None,
        )
        for name in COUNTERS
    }


def is_same_channel(channel: GuestChannel, before: GuestChannel) -> bool:
    """Whether this may be that of before: another one starts to count from 0."""
    if channel.subchannel_id != before.subchannel_id:
        return False
    pairs = ((getattr(before, name), getattr(channel, name)) for name in COUNTERS)
    return all(old is None or new is None or new >= old for old, new in pairs)


def rate_between(old: int | None, new: int | None, seconds: float) -> float | None:
    return None if old is None or new is None else (new - old) / seconds


# -- how full ---------------------------------------------------------------------------------------


def fill_of(
    device: GuestDevice,
    channel: GuestChannel,
    before: GuestDevice | None = None,
    page_size: int | None = None,
) -> tuple[Fill, Fill]:
    """How full the outbound and the inbound ring of a channel are.

    before      the device in an earlier sample, which may show the size of a ring better
    page_size   of the guest's kernel; None: not known
    """
    if not channel.is_open:
        return Fill(None, None), Fill(None, None)
    out_size = ring_size(device.outbound, before and before.outbound)
    in_size = ring_size(device.inbound, before and before.inbound)
    own = size_of_file(channel, page_size)
    if channel == device.primary:
        out_size, in_size = (size if size.bytes is not None else own for size in (out_size, in_size))
        waiting = device.outbound.read_bytes_avail, device.inbound.read_bytes_avail
    elif own.bytes is not None and not own.assumed:
        out_size = in_size = own
        waiting = None, None
    else:
        if own.bytes is not None:
            out_size = in_size = own
        # Rings that hold more than the guess are larger: how large, nothing says.
        larger = is_more(channel.write_avail, out_size) or is_more(channel.read_avail, in_size)
        out_size, in_size = (Size(None if larger else size.bytes, True) for size in (out_size, in_size))
        waiting = None, None
    outbound, inbound = waiting
    return (
        fill_with(outbound_used(channel, out_size) if outbound is None else outbound, out_size),
        fill_with(channel.read_avail if inbound is None else inbound, in_size),
    )


class Size(NamedTuple):
    """Bytes of a data area, and whether that is a guess."""

    bytes: int | None
    assumed: bool = False


def fill_with(used: int | None, size: Size) -> Fill:
    return Fill(used, size.bytes, size.assumed and size.bytes is not None)


def is_more(number: int | None, size: Size) -> bool:
    return number is not None and size.bytes is not None and number > size.bytes


def outbound_used(channel: GuestChannel, size: Size) -> int | None:
    """What waits in the outbound ring: all that is not free, as the kernel counts it."""
    if channel.write_avail is None or size.bytes is None:
        return None
    return (size.bytes - channel.write_avail) % WORDS


def size_of_file(channel: GuestChannel, page_size: int | None) -> Size:
    """Bytes of each data area, from the file `ring`; without the size of the kernel's pages a guess."""
    if channel.ring_size is None:
        return Size(None)
    try:
        halves = halves_of(channel.ring_size, page_size or PAGE_SIZE, "the file `ring`")
    except DeviceError:
        return Size(None)
    return Size(halves.ring_size - halves.header_size, assumed=page_size is None)


def ring_size(files: RingFiles, before: RingFiles | None) -> Size:
    """Bytes of the data area of a primary channel's ring.

    >>> still = RingFiles(0, 0, 0, 0, 16384)
    >>> moved = RingFiles(64, 0, 0, 0, 16320)       # 64 bytes came between the looks at its two files
    >>> ring_size(moved, None), ring_size(moved, still)
    (Size(bytes=16384, assumed=True), Size(bytes=16384, assumed=False))
    """
    if files.data_size is not None:
        return Size(files.data_size)
    if files.read_bytes_avail is None or files.write_bytes_avail is None:
        return Size(None)
    if before is not None and before.data_size is not None:
        return Size(before.data_size)
    nearest = round((files.read_bytes_avail + files.write_bytes_avail) % WORDS / PAGE_SIZE) * PAGE_SIZE
    return Size(nearest or None, assumed=True)
