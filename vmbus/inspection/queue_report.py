"""A virtqueue looked at whole: control words, the chains that the device has, findings, verdict.

What memory does not hold cannot be told: how far the device has taken chains, and the driver used ones,
is in neither.  So "waiting" are the chains that were made available and not used, whether the device
has begun with them or not.  Only these are to be trusted: after its use a chain's buffers, and its
indirect table, are the driver's again, for anything.

The result is data; queue_json and queue_text turn it into what programs and people read.

Sources: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.images import Finding, Findings, Severity
from vmbus.virtio import EventFlags, EventSuppression, QueueAreas, VirtioFeatures, check_queue_size

from .packed_lists import PackedPlace, packed_lists
from .queue_chain import MOST_BYTES_IN_ALL, ChainWalker, QueueChainReport
from .queue_checks import (
    WRAP,
    QueueVerdict,
    Uses,
    check_areas,
    check_lists,
    check_packed,
    check_split,
    doubt_finding,
    effort_finding,
    moved_finding,
    order_finding,
    outside_finding,
    rest_finding,
    waiting_of,
)
from .queue_history import UsedReport, own_descriptors, packed_history, split_history
from .queue_image import PackedWords, QueueImage, ReadableMemory, SplitWords, read_image
from .ring_report import MOST_LOOKS, Selection
from .split_heads import OutstandingHead, outstanding_heads

__all__ = ["MOST_DESCRIPTORS", "QueueReport", "inspect_queue"]

#: What a hostile driver can make of one queue, every chain through all descriptors, nobody waits for.
MOST_DESCRIPTORS = 1 << 17

VSOCK_QUEUES = ("rx", "tx", "event")


class QueueReport(NamedTuple):
    """One queue.  What cannot be known is None.

    memory           where it lies, for the bytes of its buffers
    areas            its three addresses
    size             descriptors
    packed           its format
    features         what it was looked at with
    vsock            which queue of a socket device it was taken for
    available, used  the two rings of a split queue
    words            slots and events of a packed queue
    next_available, next_used   of a packed queue the places of driver and device
    waiting          chains that were made available and not used, shown or not; those that may have been
                     used included in a packed queue
    missing          how many of those are nowhere to be seen
    in_order         whether all that can be seen was used in order
    verdict          its state
    chains           the first of those that wait
    history          what was used, oldest first; never to be trusted
    recovered        how many used elements there are, shown or not
    findings         the first 1000
    is_sound         whether there is neither an error nor a warning among all findings
    """

    memory: ReadableMemory
    areas: QueueAreas
    size: int
    packed: bool
    features: int
    vsock: str | None
    available: SplitWords | None
    used: SplitWords | None
    words: PackedWords | None
    next_available: PackedPlace | None
    next_used: PackedPlace | None
    waiting: int | None
    missing: int | None
    in_order: bool | None
    verdict: QueueVerdict
    chains: list[QueueChainReport]
    history: list[UsedReport]
    recovered: int
    findings: list[Finding]
    is_sound: bool


class Look:
    """What one look at a queue gathers."""

    def __init__(self, memory: ReadableMemory, areas: QueueAreas, size: int, features: int) -> None:
        self.packed = bool(features & VirtioFeatures.RING_PACKED)
        self.image: QueueImage = read_image(memory, areas, size, packed=self.packed)
        self.findings = Findings(check_areas(areas, self.image, size, packed=self.packed))
        self.available: SplitWords | None = None
        self.used: SplitWords | None = None
        self.words: PackedWords | None = None
        self.next_available: PackedPlace | None = None
        self.next_used: PackedPlace | None = None
        self.waiting: int | None = None
        self.certain = 0  # lists of a packed queue that wait for sure
        self.missing: int | None = None
        self.in_order: bool | None = None
        self.chains: list[QueueChainReport] = []
        self.taken: set[int] = set()  # descriptors of the chains that wait, shown or not
        self.uses = Uses()
        self.history: list[UsedReport] = []
        self.recovered = 0
        self.walker = None
        if self.image.table is not None:
            indirect = bool(features & VirtioFeatures.RING_INDIRECT_DESC)
            self.walker = ChainWalker(memory, self.image.table, size, packed=self.packed, indirect=indirect)


def inspect_queue(
    memory: ReadableMemory,
    areas: QueueAreas,
    size: int,
    features: int = VirtioFeatures.VERSION_1,
    *,
    vsock: str | None = None,
    selection: Selection | None = None,
) -> QueueReport:
    """Look at one queue, without storing anything.

    memory      the bytes by the addresses that the device sees: an AddressSpace of a dump, for instance
    areas       where the three areas are
    features    those that were negotiated: RING_PACKED, RING_EVENT_IDX, RING_INDIRECT_DESC and IN_ORDER
                change what is right
    vsock       "rx", "tx" or "event" where it is that queue of a socket device: its packets are decoded
    selection   of its members `limit` and `history`

    Raises CallerError for a size no queue can have, an address that has not 64 bits, and a `vsock` that
    there is not; never for what lies in memory.

    >>> from vmbus.virtio import connected_virtqueues
    >>> driver, device = connected_virtqueues(8, request_size=16)
    >>> driver.add_request(lambda place, add_descriptor: add_descriptor(place.address, 16))
    0
    >>> queue = inspect_queue(driver.memory, driver.areas, 8)
    >>> queue.verdict.value, queue.chains[0].readable_bytes
    ('waiting-for-device', 16)
    """
    check_arguments(areas, size, features, vsock)
    wanted = selection or Selection()
    for _ in range(MOST_LOOKS):
        look = Look(memory, areas, size, features)
        if look.packed:
            look_at_packed(look, size, features, vsock, wanted)
        else:
            look_at_split(look, size, features, vsock, wanted)
        moved = read_image(memory, areas, size, packed=look.packed) != look.image
        if not moved:
            break
    findings = Findings()
    findings.join(look.findings, severity=Severity.NOTE if moved else None)
    if moved:
        findings.add([moved_finding(MOST_LOOKS)])
    return QueueReport(
        memory=memory,
        areas=areas,
        size=size,
        packed=look.packed,
        features=features,
        vsock=vsock,
        available=look.available,
        used=look.used,
        words=look.words,
        next_available=look.next_available,
        next_used=look.next_used,
        waiting=look.waiting,
        missing=look.missing,
        in_order=look.in_order,
        verdict=judge_queue(look, has_errors=findings.counts[Severity.ERROR] > 0),
        chains=look.chains,
        history=look.history,
        recovered=look.recovered,
        findings=findings.to_list(),
        is_sound=not findings.counts[Severity.ERROR] and not findings.counts[Severity.WARNING],
    )


def check_arguments(areas: QueueAreas, size: int, features: int, vsock: str | None) -> None:
    check_queue_size(size, packed=bool(features & VirtioFeatures.RING_PACKED))
    for name, address in zip(areas._fields, areas, strict=True):
        if not 0 <= address < 1 << 64:
            raise CallerError(
                f"an address has 64 bits, and the {name.replace('_', ' ')} is at {address:#x}",
                argument=name,
                value=address,
                limit=(1 << 64) - 1,
            )
    if vsock is not None and vsock not in VSOCK_QUEUES:
        raise CallerError(
            f"{vsock!r} is no queue of a socket device; there is {', '.join(VSOCK_QUEUES)}",
            argument="vsock",
            value=vsock,
            limit=VSOCK_QUEUES,
        )


def look_at_split(look: Look, size: int, features: int, vsock: str | None, wanted: Selection) -> None:
    look.available, look.used = look.image.available(size), look.image.used(size)
    look.findings.add(check_split(look.available, look.used, size, features))
    look.waiting = waiting_of(look.available, look.used, size)
    if look.available is None or look.used is None or look.waiting is None:
        return
    elements = look.used.slots
    heads = outstanding_heads(
        look.available.slots,  # type: ignore[arg-type]
        [one[0] for one in elements],  # type: ignore[index]
        look.available.next_index,
        look.waiting,
        in_order=bool(features & VirtioFeatures.IN_ORDER),
    )
    look.in_order, look.missing = heads.in_order, heads.missing
    look.findings.add(doubt_finding(doubt, size) for doubt in heads.doubts)
    if heads.missing or any(one.perhaps_used for one in heads.outstanding):
        look.findings.add([order_finding(look.waiting, heads.outstanding)])
    if look.walker is not None:
        add_chains(look, look.walker, heads.outstanding, vsock, wanted)
        look.history, look.recovered, odd = split_history(
            look.walker, look.used, size, look.taken, vsock, wanted
        )
        look.findings.add(odd)
        if not look.uses.count:
            used = Uses(one.chain for one in look.history if one.chain is not None)
            look.findings.add(used.check(vsock, waiting=False))


def look_at_packed(look: Look, size: int, features: int, vsock: str | None, wanted: Selection) -> None:
    look.words = words = look.image.packed()
    if words is None or look.walker is None:
        return
    event = driver_event(words.driver, size, features)
    lists = packed_lists(words.slots, event)
    look.findings.add(check_packed(words, size, features, lists.turns))
    look.next_available, look.next_used = lists.next_available, lists.next_used
    look.waiting = len(lists.outstanding)
    look.certain = look.waiting - len([one for one in lists.outstanding if one.perhaps_used])
    look.in_order = lists.in_order
    doubtful = [one for one in lists.outstanding if one.perhaps_used]
    if doubtful:
        look.findings.add([rest_finding(doubtful)])
    look.findings.add(check_lists(lists.outstanding, lists.next_available, {one.id for one in lists.used}))
    heads = (OutstandingHead(one.id, one.slots[0], one.perhaps_used) for one in lists.outstanding)
    add_chains(look, look.walker, heads, vsock, wanted)
    look.history, look.recovered = packed_history(lists.used, wanted)


def driver_event(event: EventSuppression | None, size: int, features: int) -> PackedPlace | None:
    """Where the driver of a packed queue waits for a used slot, if it says so."""
    if event is None or event.flags != EventFlags.DESCRIPTOR or not features & VirtioFeatures.RING_EVENT_IDX:
        return None
    return PackedPlace(event.offset_and_wrap & ~WRAP, event.offset_and_wrap >> 15)


def add_chains(
    look: Look,
    walker: ChainWalker,
    heads: Iterable[OutstandingHead],
    vsock: str | None,
    wanted: Selection,
) -> None:
    """Follow every chain that waits, and keep those that are wanted."""
    outside = []
    count = 0
    findings = Findings()  # what is said of all chains comes first
    for head, position, perhaps_used in heads:
        if walker.walked >= MOST_DESCRIPTORS:
            findings.add([effort_finding(count, MOST_DESCRIPTORS)])
            break
        chain = walker.walk(head, position, perhaps_used=perhaps_used)
        if vsock == "tx":
            chain = walker.vsock_packet(chain, vsock)
        count += 1
        severity = Severity.NOTE if perhaps_used else None
        findings.add(one._replace(severity=severity or one.severity) for one in chain.findings)
        look.uses.add(chain)
        look.taken |= own_descriptors(chain)
        if not chain.in_memory:
            outside.append(chain)
        if wanted.limit is None or len(look.chains) < wanted.limit:
            look.chains.append(chain)
    look.findings.add(look.uses.check(vsock, waiting=True))
    look.findings.join(findings)
    if walker.has_copied_enough:
        message = f"packets beyond {MOST_BYTES_IN_ALL} bytes in all were not looked at"
        look.findings.add([Finding("too-many-bytes", Severity.NOTE, None, message)])
    if outside:
        look.findings.add([outside_finding(outside, count)])


def judge_queue(look: Look, *, has_errors: bool) -> QueueVerdict:
    if not look.image.whole:
        return QueueVerdict.NOT_IN_MEMORY
    if has_errors:
        return QueueVerdict.CORRUPT
    if look.image.all_zero:
        return QueueVerdict.NEVER_SET_UP
    if not look.waiting:
        return QueueVerdict.IDLE
    unclear = look.packed and look.certain == 0
    return QueueVerdict.UNCLEAR if unclear else QueueVerdict.WAITING_FOR_DEVICE
