"""Where a vsock packet lies in a chain of descriptors: the checks, in the order in which they are made.

    header and data in one descriptor      the data is right behind the header
    header in one, data in the second      whatever else the first has room for
    header alone                           a packet of the guest without payload

Every error is the guest's fault: a PeerError with a VsockFault, the descriptor to blame, what it has
and what it should have.

Sources: OASIS VIRTIO 1.2, section 5.10.6; rust-vmm virtio-vsock, VsockPacket::from_tx_virtq_chain
and from_rx_virtq_chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

from vmbus.errors import CallerError, PeerError
from vmbus.memory import TOP_OF_MEMORY, AddressError, QueueMemory

from .chains import DescriptorChain
from .descriptor import Descriptor
from .layout import NEXT, WRITE
from .vsock_faults import VsockFault
from .vsock_layout import VSOCK_HEADER, VsockHeader

__all__ = ["find_rx_packet", "find_tx_packet"]

HEADER_SIZE = VSOCK_HEADER.size


def find_tx_packet(
    memory: QueueMemory, chain: DescriptorChain | Iterable[Descriptor], max_data_size: int
) -> tuple[memoryview, memoryview | None, VsockHeader]:
    """The header's bytes, those of the data, and the header read from the bytes once."""
    descriptors = descriptors_of(chain, max_data_size)
    head = head_of(descriptors)
    check_readable(head)
    header = header_of(memory, head)
    values = VSOCK_HEADER.unpack(header)
    length = values.length
    if not length:
        return header, None, values
    if length > max_data_size:
        raise fault(
            head,
            VsockFault.INVALID_HEADER_LENGTH,
            f"a header with {length} bytes of payload, and {max_data_size} are accepted",
            found=length,
            allowed=max_data_size,
        )
    second = next(descriptors, None)
    if second is None:
        if head.flags & NEXT or head.length - HEADER_SIZE < length:
            refuse_short(head, length)
        return header, view_behind_header(memory, head, length), values
    check_readable(second)
    if second.length < length:
        refuse_small(second, length, "payload")
    return header, view_of(memory, second, second.address, length), values


def find_rx_packet(
    memory: QueueMemory, chain: DescriptorChain | Iterable[Descriptor], max_data_size: int
) -> tuple[memoryview, memoryview | None]:
    """Room for a header, and all the room for data that there is."""
    descriptors = descriptors_of(chain, max_data_size)
    head = head_of(descriptors)
    check_writable(head)
    header = header_of(memory, head)
    check_stores(header, head)
    second = next(descriptors, None)
    if second is None:
        room = head.length - HEADER_SIZE
        if head.flags & NEXT or not room:
            refuse_short(head, 1)
        return header, view_behind_header(memory, head, room)
    check_writable(second)
    if second.length > max_data_size:
        raise fault(
            second,
            VsockFault.DESCRIPTOR_LENGTH_TOO_LONG,
            f"{second.length} bytes for data, and a packet here has at most {max_data_size}",
            found=second.length,
            allowed=max_data_size,
        )
    if not second.length:
        return header, None
    data = view_of(memory, second, second.address, second.length)
    check_stores(data, second)
    return header, data


def descriptors_of(chain: DescriptorChain | Iterable[Descriptor], max_data_size: int) -> Iterator[Descriptor]:
    """The descriptors of a chain from its first one on; an iterator goes on where it is."""
    if max_data_size < 0:
        raise CallerError(
            f"a packet has no {max_data_size} bytes of data",
            argument="max_data_size",
            value=max_data_size,
            limit=0,
        )
    return iter(chain.descriptors if isinstance(chain, DescriptorChain) else chain)


def head_of(descriptors: Iterator[Descriptor]) -> Descriptor:
    head = next(descriptors, None)
    if head is None:
        raise PeerError(
            "the chain has no descriptor (left) for a header",
            kind=VsockFault.DESCRIPTOR_CHAIN_TOO_SHORT,
            found=0,
            allowed=1,
        )
    return head


def check_readable(descriptor: Descriptor) -> None:
    if descriptor.flags & WRITE:
        raise fault(
            descriptor,
            VsockFault.UNEXPECTED_WRITE_ONLY_DESCRIPTOR,
            "a writable buffer, in a packet that the device only reads",
            found="writable",
            allowed="readable",
        )


def check_writable(descriptor: Descriptor) -> None:
    if not descriptor.flags & WRITE:
        raise fault(
            descriptor,
            VsockFault.UNEXPECTED_READ_ONLY_DESCRIPTOR,
            "a readable buffer, in a packet that the device writes",
            found="readable",
            allowed="writable",
        )


def header_of(memory: QueueMemory, head: Descriptor) -> memoryview:
    """The header's bytes, at the start of its descriptor."""
    if head.length < HEADER_SIZE:
        refuse_small(head, HEADER_SIZE, "header")
    return view_of(memory, head, head.address, HEADER_SIZE)


def view_behind_header(memory: QueueMemory, head: Descriptor, length: int) -> memoryview:
    """The data that shares its descriptor with the header."""
    address = head.address + HEADER_SIZE
    if address >= TOP_OF_MEMORY:
        refuse_small(head, length, "payload below the top of memory")
    return view_of(memory, head, address, length)


def view_of(memory: QueueMemory, descriptor: Descriptor, address: int, length: int) -> memoryview:
    """Bytes of a descriptor, which must lie inside one region of the memory."""
    try:
        return memory.view(address, length)
    except AddressError as error:
        refuse_place(memory, descriptor, address, length, error)


def refuse_place(
    memory: QueueMemory, descriptor: Descriptor, address: int, length: int, error: AddressError
) -> NoReturn:
    """Tell bytes that begin nowhere from bytes that begin in one region and end elsewhere."""
    try:
        memory.check_range(address, 1)
    except AddressError:
        kind, found = VsockFault.INVALID_MEMORY_ACCESS, address
    else:
        kind, found = VsockFault.FRAGMENTED_MEMORY, error.address
    raise fault(
        descriptor,
        kind,
        f"{length} bytes that are needed in one piece: {error}",
        found=found,
        allowed="inside one region",
    ) from None


def check_stores(view: memoryview, descriptor: Descriptor) -> None:
    """Raise PeerError for memory that the guest cannot offer for writing."""
    if view.readonly:
        raise fault(
            descriptor,
            VsockFault.INVALID_MEMORY_ACCESS,
            f"bytes at {descriptor.address:#x} to be written, in memory that can only be read",
            found=descriptor.address,
            allowed="writable memory",
        )


def refuse_small(descriptor: Descriptor, needed: int, what: str) -> NoReturn:
    raise fault(
        descriptor,
        VsockFault.DESCRIPTOR_LENGTH_TOO_SMALL,
        f"{descriptor.length} bytes, and needs {needed} for the {what}",
        found=descriptor.length,
        allowed=needed,
    )


def refuse_short(head: Descriptor, needed: int) -> NoReturn:
    """No second descriptor, and the first has not got all of the data."""
    room = head.length - HEADER_SIZE
    raise fault(
        head,
        VsockFault.DESCRIPTOR_CHAIN_TOO_SHORT,
        f"{room} bytes behind the header, and {needed} or more are needed there or in another descriptor",
        found=room,
        allowed=needed,
    )


def fault(
    descriptor: Descriptor, kind: VsockFault, what: str, *, found: object, allowed: object
) -> PeerError:
    """The error that puts the blame on a descriptor, which has `what`."""
    nested = descriptor.table is not None
    return PeerError(
        f"{descriptor.place} has {what}",
        kind=kind,
        found=found,
        allowed=allowed,
        descriptor=descriptor.table if nested else descriptor.number,
        entry=descriptor.number if nested else None,
    )
