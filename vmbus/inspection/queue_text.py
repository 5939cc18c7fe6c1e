"""A queue's report for reading and for grep: no borders, addresses in hex, sizes in decimal.

Bytes that came from the other side never reach a terminal as they are: payloads are shown in hex.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmbus.memory import AddressError
from vmbus.virtio import (
    AvailableRingFlags,
    DescriptorFlags,
    EventFlags,
    EventSuppression,
    UsedRingFlags,
    VirtioFeatures,
    VsockEventId,
)

from .hexdump import hexdump
from .names import bit_names, counted
from .packed_lists import PackedPlace
from .queue_chain import DescriptorReport, QueueChainReport
from .queue_checks import WRAP, QueueVerdict
from .queue_history import UsedReport
from .queue_report import QueueReport
from .to_text import SHOWN_BYTES, shown
from .vsock_report import VsockPacketReport

__all__ = ["queue_to_lines"]

#: Bytes of one buffer in a hexdump.
MOST_DUMPED = 65536

TOP = 1 << 64

VERDICTS = {
    QueueVerdict.NEVER_SET_UP: "never set up: all bytes are zero",
    QueueVerdict.CORRUPT: "corrupt: a device or a driver would refuse it",
    QueueVerdict.NOT_IN_MEMORY: "not all of it is there",
    QueueVerdict.WAITING_FOR_DEVICE: "waiting for the device",
    QueueVerdict.UNCLEAR: "idle, or waiting for the device: the ring does not tell",
    QueueVerdict.IDLE: "idle: the device has used all there was",
}


def queue_to_lines(queue: QueueReport, *, with_hexdump: bool = False) -> Iterator[str]:
    """The lines of one queue; `with_hexdump` adds the bytes of its buffers."""
    kind = "packed" if queue.packed else "split"
    socket = f"vsock {queue.vsock} " if queue.vsock else ""
    yield f"{socket}queue at {queue.areas.descriptor_table:#x}, {kind}, {queue.size} descriptors"
    features = "|".join(bit_names(VirtioFeatures, queue.features)) or "0"
    yield (
        f"  driver area {queue.areas.driver_area:#x}   device area {queue.areas.device_area:#x}"
        f"   features {features}"
    )
    yield from packed_control(queue) if queue.packed else split_control(queue)
    yield f"  {VERDICTS[queue.verdict]}"
    if queue.history:
        yield ""
        yield "used already, oldest first: not to be trusted, the driver may have written over all of it"
        yield from history_to_lines(queue, with_hexdump)
    if queue.chains:
        yield ""
        if queue.history:
            yield "waiting"
        yield from chains_to_lines(queue, with_hexdump)
    yield ""
    yield summary(queue)
    for finding in queue.findings:
        where = "queue" if finding.offset is None else f"descriptor {finding.offset}"
        yield f"  {where:<16}  {finding.severity.value:<7}  {finding.check}  {finding.message}"


def split_control(queue: QueueReport) -> Iterator[str]:
    available, used = queue.available, queue.used
    indices = [
        f"available index {index_of(available)}",
        f"used index {index_of(used)}",
    ]
    if queue.waiting is not None:
        indices.append(f"{counted(queue.waiting, 'chain')} waiting")
    yield "  " + "   ".join(indices)
    wishes = []
    if available is not None:
        wishes.append(f"driver flags {names_of(AvailableRingFlags, available.flags)}")
        wishes.append(f"used event {available.event:#06x}")
    if used is not None:
        wishes.append(f"device flags {names_of(UsedRingFlags, used.flags)}")
        wishes.append(f"available event {used.event:#06x}")
    if wishes:
        yield "  " + "   ".join(wishes)


def packed_control(queue: QueueReport) -> Iterator[str]:
    if queue.waiting is not None:
        yield (
            f"  next available {place_of(queue.next_available)}   next used {place_of(queue.next_used)}"
            f"   {counted(queue.waiting, 'list')} waiting"
        )
    if queue.words is not None:
        yield f"  driver event {event_of(queue.words.driver)}   device event {event_of(queue.words.device)}"


def index_of(words: Any) -> str:
    return "?" if words is None else f"{words.next_index:#06x}"


def place_of(place: PackedPlace | None) -> str:
    return "?" if place is None else f"slot {place.slot} wrap {place.wrap}"


def event_of(event: EventSuppression | None) -> str:
    if event is None:
        return "?"
    label = EventFlags(event.flags).label
    if event.flags != EventFlags.DESCRIPTOR:
        return label
    return f"{label} at slot {event.offset_and_wrap & ~WRAP} wrap {event.offset_and_wrap >> 15}"


def names_of(kind: Any, value: int) -> str:
    return "|".join(bit_names(kind, value)) or "0"


def chains_to_lines(queue: QueueReport, with_hexdump: bool) -> Iterator[str]:
    yield f"  {'CHAIN':>6}  {'DESCRIPTOR':>10}  {'ADDRESS':<18}  {'BYTES':>10}  FLAGS"
    for chain in queue.chains:
        yield from chain_to_lines(queue, chain, with_hexdump)


def chain_to_lines(queue: QueueReport, chain: QueueChainReport, with_hexdump: bool) -> Iterator[str]:
    """A line for each descriptor, the first with the chain's head; then what is in it."""
    name = str(chain.head)
    remarks = remarks_of(chain)
    for one in chain.descriptors:
        yield f"  {name:>6}  {place_in_table(one):>10}  {one.address:<#18x}  {one.length:>10}  {flags_of(one)}{remarks}"
        name = remarks = ""
        if with_hexdump:
            yield from buffer_to_lines(queue, one)
    if not chain.descriptors:
        yield f"  {name:>6}  {'-':>10}  {'-':<18}  {'-':>10}  -{remarks}"
    if chain.vsock is not None:
        yield f"  {'':>6}  {packet_line(chain.vsock)}"
    if chain.event is not None:
        yield f"  {'':>6}  event {VsockEventId(chain.event).label}"


def remarks_of(chain: QueueChainReport) -> str:
    remarks = [] if chain.broken is None else [f"broken: {chain.broken}"]
    if chain.perhaps_used:
        remarks.append("perhaps used")
    return f"  {', '.join(remarks)}" if remarks else ""


def place_in_table(one: DescriptorReport) -> str:
    """The index of a descriptor; in an indirect table, behind that of the descriptor it belongs to."""
    return str(one.number) if one.table is None else f"{one.table}[{one.number}]"


def flags_of(one: DescriptorReport) -> str:
    there = "" if one.in_memory else " (not there)"
    return names_of(DescriptorFlags, one.flags) + there


def packet_line(packet: VsockPacketReport) -> str:
    """One packet: from whom to whom, what it is, its payload, its credit."""
    header = packet.header
    if header is None:
        return f"vsock  no header: {len(packet.raw)} bytes"
    flags = f", flags {'|'.join(packet.flags)}" if packet.flags else ""
    size = f", {counted(len(packet.payload), 'byte')}: {shortened(packet.payload)}" if packet.payload else ""
    return (
        f"vsock  {header.src_cid}:{header.src_port} -> {header.dst_cid}:{header.dst_port}  {packet.operation}"
        f" {packet.type}{flags}{size}, buf_alloc {header.buf_alloc}, fwd_cnt {header.fwd_cnt}"
    )


def shortened(payload: bytes) -> str:
    return payload[:SHOWN_BYTES].hex(" ") + (" …" if len(payload) > SHOWN_BYTES else "")


def buffer_to_lines(queue: QueueReport, one: DescriptorReport) -> Iterator[str]:
    """The bytes of a buffer, as far as they are there and anybody wants to see them."""
    length = min(one.length, MOST_DUMPED)
    try:
        data = queue.memory.read(one.address, length)
    except AddressError:
        return
    for line in hexdump(data, one.address, TOP):
        yield f"    {line}"
    if length < one.length:
        yield f"    … and {one.length - length} bytes more"


def history_to_lines(queue: QueueReport, with_hexdump: bool) -> Iterator[str]:
    yield f"  {'ENTRY' if not queue.packed else 'SLOT':>6}  {'ID':>10}  {'WRITTEN':>10}"
    for one in queue.history:
        yield f"  {entry_of(one, queue):>6}  {one.id:>10}  {one.length:>10}{doubt_of(one)}"
        if one.chain is not None:
            for line in chain_to_lines(queue, one.chain, with_hexdump):
                yield f"    {line}"


def entry_of(one: UsedReport, queue: QueueReport) -> str:
    return str(one.position) if queue.packed else f"{one.position:#06x}"


def doubt_of(one: UsedReport) -> str:
    return "" if one.length_is_valid or not one.length else "  (perhaps no length)"


def summary(queue: QueueReport) -> str:
    if queue.waiting is None:
        waiting = "no telling what waits"
    else:
        noun = "list" if queue.packed else "chain"
        waiting = counted(queue.waiting, noun) + shown(len(queue.chains), queue.waiting)
    used = (
        f", {queue.recovered} used already{shown(len(queue.history), queue.recovered)}"
        if queue.recovered
        else ""
    )
    return f"{waiting}{used}, {counted(len(queue.findings), 'finding')}"
