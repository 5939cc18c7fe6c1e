"""A copy of the two rings of a live channel, taken without storing anything and without opening anything.

Whoever opens /dev/uioN when nobody has it open opens its channel: the kernel then zeroes the control pages of
both rings, and what was to be looked at is gone.  So a channel is copied only while somebody has it open, and,
where the kernel has it, through its file `ring`, which can be mapped only then and opens nothing.

A ring in use moves while it is copied.  It is copied again, and when it will not stand still, the copy has those
control words with which every packet in it is whole: see `steady_words`.  The outbound ring is copied first, then
the inbound one.

Sizes and offsets are in bytes.

Sources: Linux drivers/uio/uio_hv_generic.c, hv_uio_open() and hv_uio_ring_mmap();
drivers/hv/vmbus_drv.c, out_mask_show(), which refuses for a channel that is not open.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from vmbus.errors import CallerError, DeviceError
from vmbus.layout import (
    CONTROL_PAGE,
    FEATURE_BITS_WORD,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PENDING_SEND_SIZE_WORD,
    ControlPage,
)
from vmbus.memory import FlatRingMem, RingMem, control_words
from vmbus.ring import IncomingRing, Packet, is_offset, load_control, used_bytes
from vmbus.sizes import CONTROL_WORD_COUNT, PAGE_SIZE

from .devices import GuestChannel, GuestDevice, find_device
from .fading_memory import fading
from .late import node_of
from .maps import RINGS, map_named, read_maps
from .rings import MappedRings, halves_of
from .system import Root, System, system_at

__all__ = ["MOST_TRIES", "MovedWord", "RingCopy", "Snapshot", "copy_ring", "snapshot"]

#: How often a ring is copied that moves meanwhile.
MOST_TRIES = 3

#: What to call the control words that have a name.
NAMES = {
    IN_WORD: "in",
    OUT_WORD: "out",
    INTERRUPT_MASK_WORD: "interrupt mask",
    PENDING_SEND_SIZE_WORD: "pending send size",
    FEATURE_BITS_WORD: "feature bits",
}


class MovedWord(NamedTuple):
    """A control word that was another one after the copy than before it; `word` is its number."""

    word: int
    before: int
    after: int

    @property
    def name(self) -> str:
        return NAMES.get(self.word, f"word {self.word}")


class RingCopy(NamedTuple):
    """One ring, copied.

    content       its control page, and behind it its data
    header_size   bytes from its control page to its data
    moved         control words that moved during the last try; those in `content` are then a choice among both
    passed        True when out went past all that had waited: then no packet is known to be whole, and in
                  `content` out equals in
    tries         how often it was copied; where something moved, MOST_TRIES
    """

    content: bytes
    header_size: int
    moved: tuple[MovedWord, ...] = ()
    passed: bool = False
    tries: int = 1

    def __repr__(self) -> str:
        moved = "".join(f", {one.name} moved" for one in self.moved)
        return f"<RingCopy: {len(self.content) - self.header_size} bytes of data{moved}>"

    @property
    def memory(self) -> FlatRingMem:
        """The copy as a memory that can be inspected, and not written."""
        return FlatRingMem.over(self.content, header_size=self.header_size)

    def packets(self) -> list[Packet]:
        """Those that wait in it, in order.

        Those before a broken one are returned; PeerError, which says what is wrong, where the first is broken.
        """
        own = FlatRingMem.over(bytearray(self.content), header_size=self.header_size)
        return IncomingRing(own).receive_many()[0]


class Snapshot(NamedTuple):
    """Both rings of a channel; `content` is one behind the other, as they lie in the guest's memory."""

    device: GuestDevice
    channel: GuestChannel
    outbound: RingCopy
    inbound: RingCopy

    def __repr__(self) -> str:
        return (
            f"<Snapshot: channel {self.channel.relid} of {self.device.name} {self.device.instance_id}, "
            f"outbound {self.outbound!r}, inbound {self.inbound!r}>"
        )

    @property
    def content(self) -> bytes:
        return self.outbound.content + self.inbound.content


def snapshot(
    which: str | int, *, root: Root = "/", relid: int | None = None, even_if_closed: bool = False
) -> Snapshot:
    """The rings of a device that uio_hv_generic has, copied.

    which            the number of its uio node, or anything that find_device takes
    relid            of a subchannel; None for the primary channel
    even_if_closed   True: open the primary channel where nobody has it open, which empties its rings

    Needs the right to read /dev/uioN, usually root's.  Copies may last longer than a ring takes to go round once:
    then the indices do not tell what is whole, and nothing here does.

    Raises CallerError where no channel is open and none is to be opened, or there is no such channel; DeviceError
    when there is no such device, it is not bound to uio_hv_generic, its memory holds no two rings, or the system
    refuses.
    """
    system = system_at(root)
    # A number might be a relid too; here it is what the names of nodes have.
    name = str(which)
    device = find_device(f"uio{name.lstrip('0') or '0'}" if name.isdecimal() else name, system)
    uio = node_of(device, system, 0)
    wanted = channel_of(device, relid)
    is_primary = wanted == device.primary
    if even_if_closed and not is_primary:
        raise CallerError(
            f"channel {wanted.relid} is a subchannel, and those only the kernel opens: leave out even_if_closed",
            argument="even_if_closed",
            value=True,
            limit=False,
        )
    if not wanted.is_open and not even_if_closed:
        raise CallerError(
            why_not_opened(device, wanted, uio), argument="even_if_closed", value=False, limit=True
        )
    with map_channel(system, device, wanted, uio) as rings:
        return Snapshot(device, wanted, *copy_rings(rings))


def channel_of(device: GuestDevice, relid: int | None) -> GuestChannel:
    """The primary channel, or the one of that relid."""
    found = device.primary if relid is None else device.channel(relid)
    if found is not None:
        return found
    there = ", ".join(str(one.relid) for one in device.channels) or "none"
    message = f"{device.name} {device.instance_id} has no {'primary channel' if relid is None else 'channel'}"
    if relid is None:
        raise DeviceError(errno.ENODEV, f"{message}: it is just coming, or going")
    raise CallerError(f"{message} {relid}; it has {there}", argument="relid", value=relid, limit=there)


def why_not_opened(device: GuestDevice, channel: GuestChannel, uio: str) -> str:
    """What to say instead of opening a channel."""
    if channel != device.primary:
        return f"channel {channel.relid} of {device.name} {device.instance_id} is not open: it has no rings"
    return (
        f"nobody has {uio} ({device.name} {device.instance_id}) open: to look at its rings would open its channel "
        "and zero their control pages; even_if_closed=True does that, and closes it again"
    )


# -- mapping, to read alone ------------------------------------------------------------------------


def map_channel(system: System, device: GuestDevice, channel: GuestChannel, uio: str) -> MappedRings:
    """Both rings of a channel."""
    if device.primary is not None and channel.relid == device.primary.relid:
        return map_primary(system, device, channel, uio)
    return map_other(system, device, channel)


def map_primary(system: System, device: GuestDevice, channel: GuestChannel, uio: str) -> MappedRings:
    """The rings of the primary channel, as long as the map of the node says."""
    path = system.path(f"dev/{uio}")
    rings = map_named(read_maps(uio, system), RINGS, path)
    halves = halves_of(rings.size, system.page_size, f"{path}: map {rings.number} ({RINGS})")
    if channel.is_open and channel.ring_size is not None:
        # It may be closed by now, and this refuses then.  To open the node would open the channel again.
        return MappedRings(
            system.map_file(device.ring_file(channel.relid), rings.size, writable=False), halves
        )
    node = system.open_node(uio, writable=False)
    try:
        mapping = node.map(rings.number * system.page_size, rings.size, writable=False)
    finally:
        node.close()
    return MappedRings(mapping, halves)


def map_other(system: System, device: GuestDevice, channel: GuestChannel) -> MappedRings:
    """The rings of a subchannel, as long as its file says."""
    place = device.ring_file(channel.relid)
    if channel.ring_size is None:
        raise DeviceError(
            errno.ENOENT, f"{system.path(place)} is not there: it may appear late, or not any more"
        )
    halves = halves_of(channel.ring_size, system.page_size, system.path(place))
    return MappedRings(system.map_file(place, channel.ring_size, writable=False), halves)


# -- copying ---------------------------------------------------------------------------------------


def copy_rings(rings: MappedRings) -> tuple[RingCopy, RingCopy]:
    """The outbound ring, and then the inbound one; DeviceError where their memory is taken away meanwhile."""
    with fading(rings) as (outbound, inbound):
        header_size = rings.halves.header_size
        return copy_ring(outbound, header_size=header_size), copy_ring(inbound, header_size=header_size)


def copy_ring(memory: RingMem, *, header_size: int = PAGE_SIZE) -> RingCopy:
    """A ring, copied, also while it is in use.

    header_size   bytes from its control page to its data; behind the control words the copy has zeros there

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send(b"waiting")
    True
    >>> copy = copy_ring(receiver.memory)
    >>> len(copy.content), copy.moved, copy.memory.read_at(16, 7)
    (8192, (), b'waiting')
    """
    tries = 0
    while True:
        tries += 1
        before = load_control(memory.control)
        memory.acquire()  # no byte of a packet is read before the index that says that it is there
        data = memory.read_at(0, memory.size)
        memory.acquire()  # and no index again before all bytes
        after = load_control(memory.control)
        if after == before or tries == MOST_TRIES:
            break
    words, passed = steady_words(before, after, memory.size)
    content = CONTROL_PAGE.pack(words).ljust(header_size, b"\0") + data
    return RingCopy(content, header_size, moved_words(before, after), passed, tries)


def steady_words(before: ControlPage, after: ControlPage, size: int) -> tuple[ControlPage, bool]:
    """The control words with which all packets of a copy are whole, and whether out went past all of them.

    before, after   as they were before and after the copy
    size            bytes of the data area

    What had been published before stood there already when the copy began; what had not been read after it, the
    sender had no right to write over until then.  So the packets from out as it was after to in as it was before
    did not change meanwhile.  Each side's other words are of the moment that its index is of.
    """
    out = after.out_offset
    passed = False
    if all(is_offset(size, index) for index in (before.in_offset, before.out_offset, out)):
        waited = used_bytes(size, before.in_offset, before.out_offset)
        passed = used_bytes(size, out, before.out_offset) > waited
    return (
        before._replace(out_offset=before.in_offset if passed else out, interrupt_mask=after.interrupt_mask),
        passed,
    )


def moved_words(before: ControlPage, after: ControlPage) -> tuple[MovedWord, ...]:
    """Those that are not what they were."""
    earlier, later = (control_words(memoryview(CONTROL_PAGE.pack(page))) for page in (before, after))
    return tuple(
        MovedWord(word, earlier[word], later[word])
        for word in range(CONTROL_WORD_COUNT)
        if earlier[word] != later[word]
    )
