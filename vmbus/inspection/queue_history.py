"""What was used in a virtqueue: shown, never trusted.

The driver takes a used chain apart: its descriptors may be those of another chain by now, its buffers and
its indirect table anything.  In a split queue a chain is followed where no descriptor of it is known
to be another's since; in a packed queue the device has written over its first descriptor.

Source: OASIS VIRTIO 1.2, sections 2.7.8 and 2.8.22.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.images import Finding, Severity
from vmbus.virtio import DescriptorFlags

from .packed_lists import UsedSlot
from .queue_chain import ChainWalker, QueueChainReport
from .queue_image import SplitWords
from .ring_report import Selection

__all__ = ["UsedReport", "own_descriptors", "packed_history", "split_history"]

WRITE = int(DescriptorFlags.WRITE)


class UsedReport(NamedTuple):
    """One chain that the device has given back.

    position         of the element: the free-running index of its entry; of a packed queue the slot
    id               the chain's head; of a packed queue its buffer id
    length           bytes that the device says it wrote
    length_is_valid  False where a packed slot does not say that it is a length
    chain            what its descriptors say now, where they may still be those of this chain
    """

    position: int
    id: int
    length: int
    length_is_valid: bool = True
    chain: QueueChainReport | None = None


def split_history(
    walker: ChainWalker,
    used: SplitWords,
    size: int,
    waiting: set[int],
    vsock: str | None,
    wanted: Selection,
) -> tuple[list[UsedReport], int, list[Finding]]:
    """The used elements, oldest first, how many there are, and what is odd about them.

    waiting   the descriptors of the chains that wait
    """
    if not wanted.history:
        return [], 0, []
    newest_first: list[UsedReport] = []
    findings: list[Finding] = []
    taken = set(waiting)
    still_known = True
    elements = written_elements(used, size)
    for position, used_id, length in elements:
        if wanted.limit is not None and len(newest_first) >= wanted.limit:
            break
        chain = None
        if still_known and used_id < size:
            chain = walker.walk(used_id, position)
            own = own_descriptors(chain)
            still_known = chain.broken is None and not own & taken and not has_table(chain)
            taken |= own
            if not still_known:
                chain = None
        if chain is not None and length > chain.writable_bytes:
            findings.append(length_finding(position, used_id, length, chain))
        elif chain is not None and vsock is not None:
            chain = with_packet(walker, chain, vsock, length)
        newest_first.append(UsedReport(position, used_id, length, chain=chain))
    return newest_first[::-1], len(elements), findings


def with_packet(walker: ChainWalker, chain: QueueChainReport, vsock: str, length: int) -> QueueChainReport:
    """The chain with what was in it; nothing that is odd about that counts any more."""
    if vsock != "tx" and not length:
        return chain
    return walker.vsock_packet(chain, vsock, None if vsock == "tx" else length)


def written_elements(used: SplitWords, size: int) -> list[tuple[int, int, int]]:
    """(position, id, length) of the used elements that a device has written, newest first."""
    found = []
    for back in range(1, size + 1):
        position = used.next_index - back
        element: tuple[int, int] = used.slots[position % size]  # type: ignore[assignment]
        if position < 0 and not any(element):
            break  # most likely nothing was ever written there
        found.append((position & 0xFFFF, *element))
    return found


def own_descriptors(chain: QueueChainReport) -> set[int]:
    """The descriptors of the queue's own table that a chain has."""
    return {one.number if one.table is None else one.table for one in chain.descriptors} | {chain.head}


def has_table(chain: QueueChainReport) -> bool:
    return any(one.table is not None for one in chain.descriptors)


def length_finding(position: int, used_id: int, length: int, chain: QueueChainReport) -> Finding:
    message = (
        f"entry {position:#06x} of the used ring says that {length} bytes were written to the chain from "
        f"{used_id}, which has room for {chain.writable_bytes}: if that is still the chain"
    )
    return Finding("used-length-too-large", Severity.WARNING, used_id, message)


def packed_history(used: list[UsedSlot], wanted: Selection) -> tuple[list[UsedReport], int]:
    """The slots that a device has used, oldest first, and how many there are."""
    if not wanted.history:
        return [], 0
    shown = used if wanted.limit is None else used[max(0, len(used) - wanted.limit) :]
    reports = [UsedReport(one.slot, one.id, one.length, bool(one.flags & WRITE)) for one in shown]
    return reports, len(used)
