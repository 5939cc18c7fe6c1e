"""A ring looked at whole: control words, packets, findings, verdict.

The result is data; to_json and to_text turn it into what programs and people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.layout import CONTROL_PAGE, ControlPage
from vmbus.memory import RingMem
from vmbus.ring import free_bytes, reader_is_owed_a_signal, used_bytes, writer_is_owed_a_signal
from vmbus.sizes import PAGE_SIZE

from .check import Verdict, check_control, indices_are_valid, judge
from .examine import PacketReport, examine_packet, type_label
from .findings import Finding
from .locate import ZERO_CHUNK, RingPlace, is_zero
from .recover import recover
from .walk import walk

__all__ = ["RingReport", "Selection", "inspect_memory"]


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

    def wants(self, packet: PacketReport) -> bool:
        if packet.descriptor is None:
            return self.packet_type is None and self.transaction_id is None
        return (self.packet_type is None or type_label(packet.descriptor.type) == self.packet_type) and (
            self.transaction_id is None or packet.descriptor.transaction_id == self.transaction_id
        )


class RingReport(NamedTuple):
    """One ring.  What cannot be known because an index is out of range is None.

    place       where it lies
    memory      its bytes, read-only
    control     the control words at the moment of looking
    available   bytes from out to in
    free        bytes that could be written
    reader_needs_signal, writer_needs_signal   whether a level rule says so
    verdict     its state
    packets     those waiting, in order
    consumed    those read already and still there, oldest first
    waiting     how many wait in all, selected or not
    findings    of the ring and of its waiting packets
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
    findings: list[Finding]


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
    control = control_of(memory)
    size = memory.size
    findings = [*place.findings, *check_control(control, size)]
    packets: list[PacketReport] = []
    consumed: list[PacketReport] = []
    waiting = 0
    valid = indices_are_valid(control, size)
    if valid:
        in_offset, out_offset = control.in_offset, control.out_offset
        for packet in (examine_packet(memory, walked) for walked in walk(memory, out_offset, in_offset)):
            waiting += 1
            findings += packet.findings
            if wanted.wants(packet) and (wanted.limit is None or len(packets) < wanted.limit):
                packets.append(packet)
        if wanted.history:
            consumed = select(
                (
                    examine_packet(memory, old.packet, old.trust)
                    for old in recover(memory, in_offset, out_offset)
                ),
                wanted,
            )
    never_used = not any(CONTROL_PAGE.pack(control))
    all_zero = never_used and data_is_zero(memory)
    return RingReport(
        place=place,
        memory=memory,
        control=control,
        available=used_bytes(size, control.in_offset, control.out_offset) if valid else None,
        free=free_bytes(size, control.in_offset, control.out_offset) if valid else None,
        reader_needs_signal=reader_level(control) if valid else None,
        writer_needs_signal=writer_level(control, size) if valid else None,
        verdict=judge(control, size, findings, all_zero=all_zero),
        packets=packets,
        consumed=consumed,
        waiting=waiting,
        findings=findings,
    )


def select(packets: Iterator[PacketReport], wanted: Selection) -> list[PacketReport]:
    """The wanted ones, of which the limit keeps the newest."""
    kept = [packet for packet in packets if wanted.wants(packet)]
    return kept if wanted.limit is None else kept[max(len(kept) - wanted.limit, 0) :]


def data_is_zero(memory: RingMem) -> bool:
    """True when the data area holds nothing but zeros."""
    return all(
        is_zero(memory.read_at(at, min(ZERO_CHUNK, memory.size - at)))
        for at in range(0, memory.size, ZERO_CHUNK)
    )


def control_of(memory: RingMem) -> ControlPage:
    """The control words, each loaded once: out before in, which only runs away from it meanwhile."""
    backwards = [memory.control[word] for word in reversed(range(CONTROL_PAGE.size // 4))]
    return CONTROL_PAGE.unpack(b"".join(word.to_bytes(4, "little") for word in reversed(backwards)))


def reader_level(control: ControlPage) -> bool:
    return reader_is_owed_a_signal(
        interrupt_mask=control.interrupt_mask, in_offset=control.in_offset, out_offset=control.out_offset
    )


def writer_level(control: ControlPage, size: int) -> bool:
    free = free_bytes(size, control.in_offset, control.out_offset)
    return writer_is_owed_a_signal(pending_send_size=control.pending_send_size, free=free)
