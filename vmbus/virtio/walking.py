"""Following a chain through the descriptors of a driver, and judging each.

Nothing but the chain is changed, so that whoever looks at a queue can use these functions as well.  A
chain that must not be ends in a PeerError that names the rule and the descriptor; the descriptors before
it stand in the chain that was given.

Every walk is bounded: a chain refuses more descriptors than its rules allow.

Source: OASIS VIRTIO 1.2, sections 2.7.5, 2.8.5 to 2.8.7 and 2.8.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from vmbus.memory import AddressError

from .chains import DescriptorChain, Tolerance
from .faults import VirtqueueFault
from .layout import (
    DESCRIPTOR_SIZE,
    INDIRECT,
    LARGEST_TABLE,
    NEXT,
    PACKED_DESCRIPTOR,
    SPLIT_DESCRIPTOR,
)

__all__ = ["walk_packed_chain", "walk_split_chain"]

#: A function of a byte offset in the table that fetches the descriptor there.
Fetch = Callable[[int], tuple[Any, ...]]


def walk_split_chain(chain: DescriptorChain, fetch: Fetch, size: int) -> None:
    """Add to `chain` the descriptors that follow from its head, in a table of `size`.

    Raises PeerError for the first that must not be.
    """
    index = chain.head_index
    while True:
        if index >= size:
            refuse_index(chain, index, size)
        address, length, flags, following = fetch(index * DESCRIPTOR_SIZE)
        if flags & INDIRECT:
            check_indirect(chain, index, length, flags)
            walk_split_table(chain, index, address, length // DESCRIPTOR_SIZE)
            return
        chain.add(index, address, length, flags)
        if not flags & NEXT:
            return
        index = following


def walk_split_table(chain: DescriptorChain, table: int, start: int, entries: int) -> None:
    """Add the linked entries of an indirect table at the address `start`."""
    entry = 0
    while True:
        if entry >= entries:
            refuse_index(chain, entry, entries, table)
        fetched = fetch_entry(chain, table, start, entry)
        address, length, flags, following = SPLIT_DESCRIPTOR.struct.unpack(fetched)
        if flags & INDIRECT:
            refuse_nested(chain, entry, table)
        chain.add(entry, address, length, flags, table)
        if not flags & NEXT:
            return
        entry = following


def walk_packed_chain(chain: DescriptorChain, fetch: Fetch, slot: int, size: int) -> tuple[int, int]:
    """Add the descriptors of the list that starts at `slot`; how many slots it takes, and its id.

    The id of a list is in its last descriptor: only afterwards is it known for sure.  An indirect
    descriptor ends the list, also behind others: OpenVMM takes such lists, and the standard has none.

    Raises PeerError for the first that must not be.
    """
    slots = 0
    while True:
        address, length, buffer_id, flags = fetch(slot * DESCRIPTOR_SIZE)
        slots += 1
        if flags & INDIRECT:
            check_indirect(chain, slot, length, flags)
            walk_packed_table(chain, slot, address, length // DESCRIPTOR_SIZE)
            return slots, buffer_id
        chain.add(slot, address, length, flags)
        if not flags & NEXT:
            return slots, buffer_id
        slot += 1
        if slot == size:
            slot = 0


def walk_packed_table(chain: DescriptorChain, table: int, start: int, entries: int) -> None:
    """Add all entries of an indirect table, in their order: there is nothing that links them."""
    for entry in range(entries):
        fetched = fetch_entry(chain, table, start, entry)
        address, length, _, flags = PACKED_DESCRIPTOR.struct.unpack(fetched)
        if flags & INDIRECT:
            refuse_nested(chain, entry, table)
        chain.add(entry, address, length, flags, table)


def check_indirect(chain: DescriptorChain, index: int, length: int, flags: int) -> None:
    """Judge a descriptor that points to an indirect table of `length` bytes."""
    rules = chain.rules
    entries, part = divmod(length, DESCRIPTOR_SIZE)
    found: object = length
    allowed: object = f"a multiple of {DESCRIPTOR_SIZE} up to {LARGEST_TABLE * DESCRIPTOR_SIZE}"
    if not rules.indirect:
        kind, what = VirtqueueFault.INDIRECT_NOT_NEGOTIATED, "is indirect, which was not negotiated"
        found, allowed = "indirect", "a buffer"
    elif flags & NEXT and not rules.tolerated & Tolerance.INDIRECT_WITH_NEXT:
        kind, what = VirtqueueFault.INDIRECT_WITH_NEXT, "is indirect and continues as well"
        found, allowed = "indirect, with another behind it", "one of the two"
    elif part or not entries:
        kind = VirtqueueFault.INDIRECT_LENGTH
        what = f"has a table of {length} bytes: not a whole number of {DESCRIPTOR_SIZE}, or none"
    elif entries > LARGEST_TABLE:
        kind = VirtqueueFault.INDIRECT_TOO_LONG
        what = f"has a table of {entries} entries: at most {LARGEST_TABLE} can be named"
    else:
        return
    raise chain.fault(kind, what, index=index, found=found, allowed=allowed)


def fetch_entry(chain: DescriptorChain, table: int, start: int, entry: int) -> bytes:
    try:
        return chain.memory.read(start + entry * DESCRIPTOR_SIZE, DESCRIPTOR_SIZE)
    except AddressError as error:
        raise chain.fault(
            VirtqueueFault.INDIRECT_OUTSIDE_MEMORY,
            f"is not in memory: {error}",
            index=entry,
            table=table,
            found=error.address,
            allowed="mapped",
        ) from None


def refuse_index(chain: DescriptorChain, index: int, size: int, table: int | None = None) -> NoReturn:
    """A head, or a link, to a descriptor that the table does not have."""
    if not chain.descriptors and table is None:
        raise chain.fault(
            VirtqueueFault.HEAD_OUT_OF_RANGE,
            f"does not exist: the table has {size}",
            index=index,
            found=index,
            allowed=size - 1,
        )
    last = chain.descriptors[-1]
    raise chain.fault(
        VirtqueueFault.NEXT_OUT_OF_RANGE,
        f"is followed by {index}: the table has {size}",
        index=last.number,
        table=last.table,
        found=index,
        allowed=size - 1,
    )


def refuse_nested(chain: DescriptorChain, entry: int, table: int) -> NoReturn:
    raise chain.fault(
        VirtqueueFault.NESTED_INDIRECT,
        "is indirect, inside an indirect table",
        index=entry,
        table=table,
        found="indirect",
        allowed="a buffer",
    )
