"""One chain of a virtqueue taken apart for people, whole or as far as it can be followed.

A device refuses a chain that must not be; here the fault is a finding, and what a lenient device would
follow is shown all the same.

Source: OASIS VIRTIO 1.2, sections 2.7.4 to 2.7.5 and 2.8.5 to 2.8.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vmbus.errors import PeerError
from vmbus.images import Finding, Severity
from vmbus.memory import TOP_OF_MEMORY, AddressError
from vmbus.virtio import (
    LARGEST_PAYLOAD,
    PACKED_DESCRIPTOR,
    SPLIT_DESCRIPTOR,
    VSOCK_EVENT,
    VSOCK_HEADER,
    ChainRules,
    DescriptorChain,
    DescriptorFlags,
    Tolerance,
    VirtqueueFault,
    walk_packed_chain,
    walk_split_chain,
)

from .queue_image import ReadableMemory
from .vsock_report import VsockPacketReport, examine_vsock_packet

__all__ = ["MOST_BYTES_IN_ALL", "ChainWalker", "DescriptorReport", "QueueChainReport", "fault_label"]

WRITE = int(DescriptorFlags.WRITE)
ROUND_FLAGS = int(DescriptorFlags.AVAILABLE | DescriptorFlags.USED)
KNOWN_FLAGS = int(DescriptorFlags.NEXT | DescriptorFlags.WRITE | DescriptorFlags.INDIRECT)

ALL_TOLERATED = int(Tolerance.READABLE_AFTER_WRITABLE | Tolerance.INDIRECT_WITH_NEXT)

#: Faults that a chain is followed beyond.
PASSABLE = (
    VirtqueueFault.INDIRECT_NOT_NEGOTIATED,
    VirtqueueFault.INDIRECT_WITH_NEXT,
    VirtqueueFault.READABLE_AFTER_WRITABLE,
)

#: The most bytes of a chain that are copied: those of the largest vsock packet.
MOST_BYTES = VSOCK_HEADER.size + LARGEST_PAYLOAD

#: The most bytes of all packets of a queue: a hostile driver offers the same bytes in every chain.
MOST_BYTES_IN_ALL = 1 << 26


class DescriptorReport(NamedTuple):
    """One buffer.

    number     of its descriptor, in the table of the queue or in an indirect one
    table      the descriptor that points to the indirect table; None in the queue's own
    flags      as they are, without the two of a packed queue that tell rounds
    in_memory  whether all its bytes are there
    """

    number: int
    table: int | None
    address: int
    length: int
    flags: int
    in_memory: bool


class QueueChainReport(NamedTuple):
    """A chain as it lies in a queue.

    head           its first descriptor; of a packed queue its buffer id
    position       where it was made available: the index of its entry; of a packed queue its first slot
    slots          how many descriptors of the queue it takes, as far as it was followed
    descriptors    its buffers, without descriptors that point to indirect tables
    broken         the check that speaks against the chain, or None
    perhaps_used   whether it may have been used already
    vsock          the packet in it, where one was looked for
    event          of the event queue of a socket device: the event's number
    findings       what is wrong with it and its packet
    """

    head: int
    position: int
    slots: int
    descriptors: tuple[DescriptorReport, ...]
    broken: str | None = None
    perhaps_used: bool = False
    vsock: VsockPacketReport | None = None
    event: int | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def readable_bytes(self) -> int:
        """Bytes that the device reads."""
        return sum(one.length for one in self.descriptors if not one.flags & WRITE)

    @property
    def writable_bytes(self) -> int:
        """Bytes that the device writes."""
        return sum(one.length for one in self.descriptors if one.flags & WRITE)

    @property
    def in_memory(self) -> bool:
        """Whether all its buffers are there."""
        return all(one.in_memory for one in self.descriptors)


class ChainWalker:
    """Follows the chains of one queue.

    table   the bytes of its descriptors
    walked  descriptors that were looked at so far
    """

    def __init__(
        self, memory: ReadableMemory, table: bytes, size: int, *, packed: bool, indirect: bool
    ) -> None:
        self._memory: Any = memory  # a chain asks it for nothing but bytes
        self._table = table
        self._size = size
        self._packed = packed
        self._strict = ChainRules(size, size, indirect, 0)
        self._lenient = ChainRules(size, size, True, ALL_TOLERATED)
        self.walked = 0
        self._copied = 0

    @property
    def has_copied_enough(self) -> bool:
        """Whether no further packet is looked at."""
        return self._copied >= MOST_BYTES_IN_ALL

    def walk(self, head: int, position: int, *, perhaps_used: bool = False) -> QueueChainReport:
        """The chain from a head; of a packed queue, the list from the slot `position` on."""
        first = position if self._packed else head
        chain, slots, buffer_id, fault = self._follow(first, self._strict)
        if fault is not None and fault.kind in PASSABLE:
            chain, slots, buffer_id, _ = self._follow(first, self._lenient)
        self.walked += len(chain.descriptors) + 1
        descriptors = tuple(self._describe(*one) for one in chain.descriptors)
        findings = [] if fault is None else [fault_finding(fault, first)]
        findings += odd_flags(descriptors)
        findings += impossible_addresses(descriptors)
        errors = [one.check for one in findings if one.severity is Severity.ERROR]
        broken = fault_label(fault.kind) if fault is not None else next(iter(errors), None)
        return QueueChainReport(
            head=head if buffer_id is None else buffer_id,
            position=position,
            slots=slots,
            descriptors=descriptors,
            broken=broken,
            perhaps_used=perhaps_used,
            findings=tuple(findings),
        )

    def _follow(
        self, first: int, rules: ChainRules
    ) -> tuple[DescriptorChain, int, int | None, PeerError | None]:
        """Walk once: the chain, how many descriptors of the queue it takes, its id, what ended it."""
        chain = DescriptorChain(self._memory, first, rules)
        try:
            if self._packed:
                slots, buffer_id = walk_packed_chain(chain, self._fetch_packed, first, self._size)
                return chain, slots, buffer_id, None
            walk_split_chain(chain, self._fetch_split, self._size)
        except PeerError as error:
            return chain, own_slots(chain), None, error
        return chain, own_slots(chain), None, None

    def _fetch_split(self, offset: int) -> tuple[Any, ...]:
        return SPLIT_DESCRIPTOR.struct.unpack_from(self._table, offset)

    def _fetch_packed(self, offset: int) -> tuple[Any, ...]:
        return PACKED_DESCRIPTOR.struct.unpack_from(self._table, offset)

    def _describe(
        self, index: int, address: int, length: int, flags: int, table: int | None
    ) -> DescriptorReport:
        if self._packed:
            flags &= ~ROUND_FLAGS
        return DescriptorReport(index, table, address, length, flags, self._is_there(address, length))

    def _is_there(self, address: int, length: int) -> bool:
        try:
            self._memory.check_range(address, length)
        except AddressError:
            return False
        return True

    def vsock_packet(
        self, chain: QueueChainReport, queue: str, length: int | None = None
    ) -> QueueChainReport:
        """The chain with the packet, or the event, that is in it.

        length   None for the bytes that a device reads; else how many it wrote, of those that it writes

        The chain as it is once too many bytes were copied of all chains.
        """
        if self.has_copied_enough:
            return chain
        most = MOST_BYTES if length is None else min(length, MOST_BYTES)
        data = b"".join(self._bytes(chain, most, written=length is not None))
        self._copied += len(data)
        if not data and not chain.in_memory:
            return chain
        if queue == "event":
            if len(data) < VSOCK_EVENT.size:
                return chain
            return chain._replace(event=int(VSOCK_EVENT.unpack(data).id))
        header, payload = data[: VSOCK_HEADER.size], data[VSOCK_HEADER.size :]
        packet = examine_vsock_packet(header, payload, queue=queue)
        whole = chain.in_memory and chain.broken is None
        severity = None if whole else Severity.NOTE
        findings = tuple(
            one._replace(offset=self._first(chain), severity=severity or one.severity)
            for one in packet.findings
        )
        return chain._replace(vsock=packet._replace(findings=findings), findings=(*chain.findings, *findings))

    def _first(self, chain: QueueChainReport) -> int:
        return chain.position if self._packed else chain.head

    def _bytes(self, chain: QueueChainReport, most: int, *, written: bool) -> Iterator[bytes]:
        """The first bytes that the device reads, or writes, up to the first that are not there."""
        for one in chain.descriptors:
            if bool(one.flags & WRITE) is not written:
                continue
            length = min(one.length, most)
            if not one.in_memory and not self._is_there(one.address, length):
                return
            yield self._memory.read(one.address, length)
            most -= length
            if not most:
                return


def own_slots(chain: DescriptorChain) -> int:
    """How many descriptors of the queue's own table a chain was seen to take."""
    return len({one.number if one.table is None else one.table for one in chain.descriptors})


def fault_label(kind: Any) -> str:
    """A fault as the name of a check.

    >>> fault_label(VirtqueueFault.HEAD_OUT_OF_RANGE)
    'head-out-of-range'
    """
    return str(kind.name.lower().replace("_", "-"))


def fault_finding(error: PeerError, first: int) -> Finding:
    """What ended a walk; a table outside the dump speaks against the dump, not against the chain."""
    outside = error.kind is VirtqueueFault.INDIRECT_OUTSIDE_MEMORY
    severity = Severity.WARNING if outside else Severity.ERROR
    place = first if error.descriptor is None else error.descriptor
    return Finding(fault_label(error.kind), severity, place, str(error))


def odd_flags(descriptors: tuple[DescriptorReport, ...]) -> list[Finding]:
    """Flags without a meaning: one finding a chain."""
    for one in descriptors:
        unknown = one.flags & ~KNOWN_FLAGS
        if unknown:
            place = one.number if one.table is None else one.table
            message = f"the descriptor has the flags {unknown:#x}, which have no known meaning"
            return [Finding("descriptor-flags", Severity.WARNING, place, message)]
    return []


def impossible_addresses(descriptors: tuple[DescriptorReport, ...]) -> list[Finding]:
    """A buffer that no memory has: one finding a chain."""
    for one in descriptors:
        if one.address + one.length > TOP_OF_MEMORY:
            place = one.number if one.table is None else one.table
            message = f"{one.length} bytes at {one.address:#x} end behind the last address of 64 bits"
            return [
                Finding(fault_label(VirtqueueFault.BUFFER_OUTSIDE_MEMORY), Severity.ERROR, place, message)
            ]
    return []
