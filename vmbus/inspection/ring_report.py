"""A ring looked at whole: control words, packets, findings, verdict.

The result is data; to_json and to_text turn it into what programs and people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.images import Finding, Findings, MissingMemory, Severity
from vmbus.layout import CONTROL_PAGE, IN_WORD, OUT_WORD, ControlPage
from vmbus.memory import RingMem
from vmbus.ring import free_bytes, load_control, reader_is_owed_a_signal, used_bytes, writer_is_owed_a_signal
from vmbus.sizes import PAGE_SIZE

from .checks import Verdict, check_control, indices_are_valid, judge
from .examine import PacketReport, examine_packet
from .names import counted, type_label
from .recover import History, Trust, look_back
from .ring_place import RingPlace
from .walk import WalkedPacket, walk
from .zeros import reads_zero

__all__ = ["MOST_LOOKS", "RingReport", "Selection", "inspect_memory"]

#: How often a ring is looked at whose indices move meanwhile.
MOST_LOOKS = 3


class Selection(NamedTuple):
    """Which packets to report; findings of the others are reported all the same.

    packet_type      a name such as "in-band" or "unknown-99", or None for every type
    transaction_id   or None for every packet
    limit            at most so many packets of each list, or None
    history          also the packets that were read already
    """

    packet_type: str | None = None
    transaction_id: int | None = None
    limit: int | None = None
    history: bool = False

    def has_room(self, packets: list[PacketReport]) -> bool:
        """True while the limit leaves room in a list of packets."""
        return self.limit is None or len(packets) < self.limit

    def wants(self, packet: PacketReport) -> bool:
        if packet.descriptor is None:
            return self.packet_type is None and self.transaction_id is None
        return (self.packet_type is None or type_label(packet.descriptor.type) == self.packet_type) and (
            self.transaction_id is None or packet.descriptor.transaction_id == self.transaction_id
        )


class RingReport(NamedTuple):
    """One ring.  What cannot be known because an index is out of range is None.

    place       where it lies
    memory      its bytes
    control     the control words at the moment of looking
    available   bytes from out to in
    free        bytes that could be written
    reader_needs_signal, writer_needs_signal   whether a level rule says so
    verdict     its state
    packets     those waiting, in order
    consumed    those read already and still there, oldest first
    waiting     how many wait in all, selected or not
    recovered   how many were read already and are still there, selected or not
    findings    of the ring and of its waiting packets, the first 1000
    is_sound    whether there is neither an error nor a warning among all findings
    """

    place: RingPlace
    memory: RingMem
    control: ControlPage
    available: int | None
    free: int | None
    reader_needs_signal: bool | None
    writer_needs_signal: bool | None
    verdict: Verdict
    packets: list[PacketReport]
    consumed: list[PacketReport]
    waiting: int
    recovered: int
    findings: list[Finding]
    is_sound: bool


class Waiting:
    """What a walk from out to in came to.

    packets    those that are wanted
    count      how many there are
    findings   of all of them
    """

    def __init__(self) -> None:
        self.packets: list[PacketReport] = []
        self.count = 0
        self.findings = Findings()


class Consumed(NamedTuple):
    """What is left of the packets read already: those that are wanted, oldest first; how many there are."""

    packets: list[PacketReport]
    total: int = 0
    findings: tuple[Finding, ...] = ()


def inspect_memory(
    memory: RingMem, *, place: RingPlace | None = None, selection: Selection | None = None
) -> RingReport:
    """Look at one ring through its memory, without storing anything.

    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings()
    >>> sender.send(b"waiting")
    True
    >>> ring = inspect_memory(sender.memory)
    >>> ring.verdict.value, ring.packets[0].payload, ring.reader_needs_signal
    ('waiting-for-reader', b'waiting\\x00', True)
    """
    wanted = selection or Selection()
    place = place or RingPlace(0, PAGE_SIZE, memory.size)
    for _ in range(MOST_LOOKS):
        control = load_control(memory.control)
        memory.acquire()  # no packet is read before the indices that say that it is there
        valid = indices_are_valid(control, memory.size)
        waiting = look_at_waiting(memory, control, wanted) if valid else Waiting()
        consumed = look_at_consumed(memory, control, wanted) if valid else Consumed([])
        memory.acquire()  # and no index again before the packets
        moved = (memory.control[OUT_WORD], memory.control[IN_WORD]) != (control.out_offset, control.in_offset)
        if not moved:
            break
    findings = Findings([*place.findings, *check_control(control, memory.size)])
    if moved:
        findings.add([moved_finding()])
    findings.join(waiting.findings, severity=Severity.NOTE if moved else None)
    findings.add(consumed.findings)
    return RingReport(
        place=place,
        memory=memory,
        control=control,
        available=used_bytes(memory.size, control.in_offset, control.out_offset) if valid else None,
        free=free_bytes(memory.size, control.in_offset, control.out_offset) if valid else None,
        reader_needs_signal=reader_level(control) if valid else None,
        writer_needs_signal=writer_level(control, memory.size) if valid else None,
        verdict=verdict_on(memory, control, has_errors=findings.counts[Severity.ERROR] > 0),
        packets=waiting.packets,
        consumed=consumed.packets,
        waiting=waiting.count,
        recovered=consumed.total,
        findings=findings.to_list(),
        is_sound=not findings.counts[Severity.ERROR] and not findings.counts[Severity.WARNING],
    )


def look_at_waiting(memory: RingMem, control: ControlPage, wanted: Selection) -> Waiting:
    """The packets from out to in."""
    waiting = Waiting()
    strangers = 0
    first_stranger = None
    for walked in walk_present(memory, control, waiting.findings):
        packet = examine_present(memory, walked)
        waiting.count += 1
        waiting.findings.add(packet.findings)
        if packet.footer is not None and not packet.footer_agrees:
            strangers += 1
            first_stranger = packet.offset if first_stranger is None else first_stranger
        if wanted.has_room(waiting.packets) and wanted.wants(packet):
            waiting.packets.append(packet)
    if first_stranger is not None:
        waiting.findings.add([footer_finding(strangers, waiting.count, first_stranger)])
    return waiting


def walk_present(memory: RingMem, control: ControlPage, findings: Findings) -> Iterator[WalkedPacket]:
    """The packets from out to in, up to one whose descriptor an image does not have."""
    offset = control.out_offset
    try:
        for walked in walk(memory, control.out_offset, control.in_offset):
            yield walked
            offset = walked.offset
    except MissingMemory as error:
        findings.add([missing_finding(offset, "the packets behind this one are", error)])


def examine_present(memory: RingMem, walked: WalkedPacket, trust: Trust | None = None) -> PacketReport:
    """What can be said of a packet, of which an image may not have all bytes."""
    try:
        return examine_packet(memory, walked, trust)
    except MissingMemory as error:
        finding = missing_finding(walked.offset, "bytes of the packet are", error)
        return PacketReport(
            offset=walked.offset,
            available=walked.available,
            descriptor=walked.descriptor,
            broken=finding.check,
            trust=trust,
            findings=(finding,),
        )


def missing_finding(offset: int, what: str, error: MissingMemory) -> Finding:
    message = f"{what} not to be had: address {error.address:#x} is not in the image"
    return Finding("missing-memory", Severity.WARNING, offset, message)


def look_at_consumed(memory: RingMem, control: ControlPage, wanted: Selection) -> Consumed:
    """The newest packets of those read already that are wanted."""
    if not wanted.history:
        return Consumed([])
    history = look_back(memory, control.in_offset, control.out_offset)
    newest_first: list[PacketReport] = []
    for one in history.newest():
        if not wanted.has_room(newest_first):
            break
        packet = examine_present(memory, *one)
        if wanted.wants(packet):
            newest_first.append(packet)
    return Consumed(newest_first[::-1], history.total, tuple(history_findings(history)))


def history_findings(history: History) -> Iterator[Finding]:
    """What is to be known of packets that no footer leads to."""
    chain = history.chain
    count = len(chain.slots)
    if count:
        guesses = sum(chain.contested)
        others = f"{counted(chain.competing, 'other chain')} of lengths"
        message = (
            f"no footer leads to {count} of the packets read already: {count - guesses} by lengths alone, "
            f"{guesses} no more than guesses; {others if chain.competing else 'no other chain of lengths'} "
            "would fit as well"
        )
        yield Finding("history-guess", Severity.NOTE, chain.first_offset, message)
    if chain.cut:
        message = f"in the oldest {chain.cut} bytes no packet was looked for that no footer leads to"
        yield Finding("history-cut", Severity.NOTE, None, message)


def footer_finding(strangers: int, waiting: int, first: int) -> Finding:
    have = "has no footer of its own" if strangers == 1 else "have no footer of their own"
    message = (
        f"{strangers} of {waiting} waiting packets {have}, the first at {first:#06x}: "
        "QEMU writes none, and no reader needs it"
    )
    return Finding("footer", Severity.NOTE, first, message)


def moved_finding() -> Finding:
    message = (
        f"in or out moved while looking, {MOST_LOOKS} times: packets may have been read and written over "
        "meanwhile, and what is said of them is no error"
    )
    return Finding("ring-moved", Severity.NOTE, None, message)


def verdict_on(memory: RingMem, control: ControlPage, *, has_errors: bool) -> Verdict:
    never_used = not any(CONTROL_PAGE.pack(control))
    try:
        all_zero = never_used and reads_zero(memory.read_at, memory.size)
    except MissingMemory:
        all_zero = False
    return judge(control, memory.size, has_errors=has_errors, all_zero=all_zero)


def reader_level(control: ControlPage) -> bool:
    return reader_is_owed_a_signal(
        interrupt_mask=control.interrupt_mask, in_offset=control.in_offset, out_offset=control.out_offset
    )


def writer_level(control: ControlPage, size: int) -> bool:
    free = free_bytes(size, control.in_offset, control.out_offset)
    return writer_is_owed_a_signal(pending_send_size=control.pending_send_size, free=free)
