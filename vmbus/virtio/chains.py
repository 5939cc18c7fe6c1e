"""A chain of descriptors as a device sees it: one request of the driver.

The descriptors of a chain are fetched once and judged as they come; what is used afterwards is the
copy.  The buffers themselves stay the driver's: it may change them at any moment, so copy first,
then check the copy.

Source: OASIS VIRTIO 1.2, sections 2.7.4 to 2.7.5 and 2.8.5 to 2.8.7.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple, NoReturn

from vmbus.errors import PeerError
from vmbus.memory import AddressError, Buffer, QueueMemory, view_bytes

from .cursors import ChainReader, ChainWriter, refuse_buffer
from .descriptor import Descriptor, descriptor_error
from .faults import VirtqueueFault
from .layout import LARGEST_CHAIN_BYTES, WRITE

__all__ = ["ChainRules", "Descriptor", "DescriptorChain", "Tolerance"]

new_tuple: Any = tuple.__new__


class Tolerance(IntFlag):
    """What drivers of the field do and the standard forbids: a device may let it pass."""

    READABLE_AFTER_WRITABLE = 1
    INDIRECT_WITH_NEXT = 2


class ChainRules(NamedTuple):
    """What a chain may be.

    queue_size   descriptors of the queue
    longest      descriptors of a chain, those of its indirect table included
    indirect     whether RING_INDIRECT_DESC was negotiated
    tolerated    rules that are not kept
    """

    queue_size: int
    longest: int
    indirect: bool
    tolerated: int


class DescriptorChain:
    """One request: buffers to read, then buffers to write.

    head_index       what to give to add_used: the first descriptor, or a packed queue's buffer id
    descriptors      all of them, in the chain's order
    writable_bytes   bytes that the device may write
    bytes_left       bytes that the chain might still have
    """

    __slots__ = ("bytes_left", "descriptors", "head_index", "memory", "rules", "writable_bytes")

    def __init__(self, memory: QueueMemory, head_index: int, rules: ChainRules) -> None:
        self.memory = memory
        self.head_index = head_index
        self.rules = rules
        self.descriptors: list[Descriptor] = []
        self.writable_bytes = 0
        self.bytes_left = LARGEST_CHAIN_BYTES

    def add(self, index: int, address: int, length: int, flags: int, table: int | None = None) -> None:
        """Lengthen the chain by a buffer; PeerError, and it is as before, when it must not be there."""
        descriptors = self.descriptors
        bytes_left = self.bytes_left - length
        if bytes_left < 0 or len(descriptors) >= self.rules.longest:
            self._refuse_more(index, length, table)
        if flags & WRITE:
            self.writable_bytes += length
        elif descriptors and descriptors[-1][3] & WRITE:
            self._check_order(index, table)
        self.bytes_left = bytes_left
        descriptors.append(new_tuple(Descriptor, (index, address, length, flags, table)))

    @property
    def readable_bytes(self) -> int:
        """Bytes that the device reads."""
        return LARGEST_CHAIN_BYTES - self.bytes_left - self.writable_bytes

    @property
    def readable(self) -> list[Descriptor]:
        """The buffers that the device reads."""
        return [descriptor for descriptor in self.descriptors if not descriptor.flags & WRITE]

    @property
    def writable(self) -> list[Descriptor]:
        """The buffers that the device writes."""
        return [descriptor for descriptor in self.descriptors if descriptor.flags & WRITE]

    def reader(self) -> ChainReader:
        """A cursor over the readable bytes; PeerError when a buffer is not in memory."""
        return ChainReader(self.memory, self.readable)

    def writer(self) -> ChainWriter:
        """A cursor over the writable bytes; PeerError when a buffer is not in memory."""
        return ChainWriter(self.memory, self.writable)

    def read_all(self) -> bytes:
        """A copy of all readable bytes; PeerError when a buffer is not in memory.

        A hostile driver offers up to 4 GiB, the same bytes over and over: look at readable_bytes
        first, or read piece by piece with `reader`.
        """
        first = self.descriptors[0]
        length = first[2]
        if first[3] & WRITE or length + self.writable_bytes + self.bytes_left != LARGEST_CHAIN_BYTES:
            return self.reader().read()  # it is not all in the first buffer
        try:
            return self.memory.read(first[1], length)
        except AddressError as error:
            refuse_buffer(first, error)

    def write_all(self, data: Buffer) -> int:
        """Store `data` from the first writable byte on, and return its length, for add_used.

        Raises PeerError, and stores nothing, when the driver offers less room or a buffer is not
        in memory.
        """
        if type(data) is not bytes:
            data = view_bytes(data, "data")
        length = len(data)
        last = self.descriptors[-1]
        if not last[3] & WRITE or not length <= last[2] == self.writable_bytes:
            self.writer().write_all(data)
            return length
        try:
            self.memory.write(last[1], data)
        except AddressError as error:
            refuse_buffer(last, error)
        return length

    def fault(
        self,
        kind: VirtqueueFault,
        what: str,
        *,
        index: int,
        table: int | None = None,
        found: object = None,
        allowed: object = None,
    ) -> PeerError:
        """The error that ends this chain at that descriptor."""
        return descriptor_error(
            Descriptor(index, 0, 0, 0, table),
            kind,
            f"in the chain from {self.head_index}, {what}",
            found=found,
            allowed=allowed,
        )

    def _refuse_more(self, index: int, length: int, table: int | None) -> NoReturn:
        """Another descriptor is one too many, or has more bytes than a chain can have."""
        count = len(self.descriptors) + 1
        if count > self.rules.longest:
            kind, found, allowed = VirtqueueFault.CHAIN_TOO_LONG, count, self.rules.longest
            what = f"is number {count}: a chain here has at most {allowed}, so this one may be a circle"
        else:
            kind, found, allowed = (
                VirtqueueFault.CHAIN_TOO_LARGE,
                LARGEST_CHAIN_BYTES - self.bytes_left + length,
                LARGEST_CHAIN_BYTES,
            )
            what = f"brings it to {found} bytes: a chain has at most {allowed}"
        raise self.fault(kind, what, index=index, table=table, found=found, allowed=allowed)

    def _check_order(self, index: int, table: int | None) -> None:
        """A readable buffer follows a writable one, which only some devices let pass."""
        if self.rules.tolerated & Tolerance.READABLE_AFTER_WRITABLE:
            return
        raise self.fault(
            VirtqueueFault.READABLE_AFTER_WRITABLE,
            f"is readable and comes behind writable ones, the first of them {self.writable[0].number}",
            index=index,
            table=table,
            found="readable",
            allowed="writable",
        )

    def __repr__(self) -> str:
        return (
            f"<DescriptorChain: from {self.head_index}, {len(self.descriptors)} descriptors, "
            f"{self.readable_bytes} bytes to read, {self.writable_bytes} to write>"
        )
