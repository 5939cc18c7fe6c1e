"""Two snapshots of one ring: what moved between them, and whether the ring is stuck.

The earlier one is A, the later one B.  What can be told from them:

    written       the packets from A's in to B's in, read from B
    read          of those that waited in A, and of those written since, the ones that B's out is behind
    still waiting those of A that B's out is not behind; their bytes must not have changed
    stuck         where nothing moved at all and a level rule says that a signal is owed (stuck.py)

Only two snapshots together say "stuck".  Edge rules are about the moment of a commit, which no snapshot
shows; where two of them prove that an edge rule was true in between, the finding signal-was-due says so.

What cannot be told: how often the ring was filled in between.  A lap brings an index back to where it was,
so all counts of bytes are less than the data size, and any number of laps may come on top.  Where the indices
contradict each other unless one of them went a lap further, and the bytes show that nobody wrote, an index
went backwards.

Two things look like damage and are none: the reader of a byte pipe notes in the header of the packet
at out how much of it is taken (partly-read), and Linux opens a channel anew with both indices at 0.

Sources: Linux drivers/hv/ring_buffer.c; OpenVMM vmbus_async/src/pipe.rs for packets partly read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.images import Finding, Findings, MissingMemory, Severity
from vmbus.layout import FeatureBits, PacketType, PartialPipeHeader
from vmbus.memory import RingMem
from vmbus.pipe import pipe_header_of
from vmbus.ring import advance, used_bytes

from .checks import indices_are_valid
from .examine import PacketReport, examine_packet
from .movement import Movement, same_bytes
from .names import counted
from .ring_report import RingReport, Selection, inspect_memory
from .stuck import OwedSignal, owed_signals, stuck_findings
from .walk import WalkedPacket, walk

__all__ = ["RingDiff", "diff"]


class RingDiff(NamedTuple):
    """What two snapshots of one ring tell together.  What cannot be known is None.

    before, after      the two
    moved              whether anything happened in between
    bytes_written      how far in went, less than the data size: laps cannot be seen
    bytes_read         how far out went
    written            the packets written in between, oldest first, as they lie in the later snapshot
    read               the packets read in between, oldest first
    still_waiting      the packets that waited before and wait still, unchanged
    stuck              the signals that are owed where nothing moved
    findings           of the comparison; each snapshot has its own besides
    is_sound           False when it is stuck, or something is wrong with the later one or between the two

    The two look at their memory still, which cannot be pickled: what goes to another process is its JSON.
    """

    before: RingReport
    after: RingReport
    moved: bool | None
    bytes_written: int | None
    bytes_read: int | None
    written: list[PacketReport] | None
    read: list[PacketReport] | None
    still_waiting: list[PacketReport]
    stuck: list[OwedSignal]
    findings: list[Finding]
    is_sound: bool


def diff(before: RingReport | RingMem, after: RingReport | RingMem) -> RingDiff:
    """Compare two snapshots of one ring, the earlier one first.

    Raises CallerError when their data sizes differ: then they are of two rings.

    >>> from vmbus.memory import FlatRingMem
    >>> from vmbus.ring import connected_rings
    >>> sender, receiver = connected_rings(4096)
    >>> earlier = FlatRingMem.over(bytes(8192))
    >>> sender.send(b"since then")
    True
    >>> [packet.payload for packet in diff(earlier, sender.memory).written]
    [b'since then\\x00\\x00\\x00\\x00\\x00\\x00']
    """
    a, b = report_on(before), report_on(after)
    if a.memory.size != b.memory.size:
        raise CallerError(
            f"the earlier ring has {a.memory.size} bytes of data and the later {b.memory.size}: they are not one ring",
            argument="after",
            value=b.memory.size,
            limit=a.memory.size,
        )
    if not all(indices_are_valid(one.control, one.memory.size) for one in (a, b)):
        return made(a, b, findings=changed_words(a, b))
    try:
        return Comparison(a, b).result()
    except MissingMemory as error:
        moved = a.control[:4] != b.control[:4] or None
        message = f"the two cannot be compared: address {error.address:#x} is not in an image"
        return made(a, b, moved=moved, findings=[Finding("missing-memory", Severity.WARNING, None, message)])


def report_on(ring: RingReport | RingMem) -> RingReport:
    if isinstance(ring, RingReport):
        return ring
    return inspect_memory(ring, selection=Selection(limit=0))


def made(
    a: RingReport,
    b: RingReport,
    *,
    moved: bool | None = None,
    bytes_written: int | None = None,
    bytes_read: int | None = None,
    written: list[PacketReport] | None = None,
    read: list[PacketReport] | None = None,
    still_waiting: Iterable[PacketReport] = (),
    findings: Iterable[Finding] = (),
) -> RingDiff:
    """The result, with what follows from the rest: whether it is stuck, and sound."""
    is_still = moved is False
    found = Findings([*findings, *(stuck_findings(b) if is_still else ())])
    wrong = found.counts[Severity.ERROR] + found.counts[Severity.WARNING]
    return RingDiff(
        before=a,
        after=b,
        moved=moved,
        bytes_written=bytes_written,
        bytes_read=bytes_read,
        written=written,
        read=read,
        still_waiting=[*still_waiting],
        stuck=owed_signals(b) if is_still else [],
        findings=found.to_list(),
        is_sound=b.is_sound and not wrong,
    )


def changed_words(a: RingReport, b: RingReport) -> Iterator[Finding]:
    """Words that nobody changes while a ring is open."""
    before, after = a.control.feature_bits, b.control.feature_bits
    if before != after:
        message = f"the feature bits were {FeatureBits(before):#x} and are {FeatureBits(after):#x}"
        yield Finding("control-changed", Severity.NOTE, None, message)
    if a.control.other_words != b.control.other_words:
        yield Finding("control-changed", Severity.NOTE, None, "words without a use are not as they were")


class Comparison(Movement):
    """Two snapshots whose indices are valid, compared.

    waited     the packets that waited in the earlier one
    findings   what is odd, as far as it is known
    """

    def __init__(self, a: RingReport, b: RingReport) -> None:
        super().__init__(a, b)
        self.waited = [*walk(a.memory, a.control.out_offset, a.control.in_offset)]
        self.findings: list[Finding] = []

    def result(self) -> RingDiff:
        self.findings += changed_words(self.a, self.b)
        if self.lap or self.in_moved > self.size // 2:
            self.findings += self.lap_findings()
        still = self.compare_waiting()
        since = self.walk_written()
        quiet = not (self.in_moved or self.out_moved or self.findings)
        quiet = quiet and self.a.control[:4] == self.b.control[:4]
        quiet = quiet and not any(one.check == "ring-moved" for one in self.b.findings)
        if quiet and not same_bytes(self.a.memory, self.b.memory, 0, self.size):
            quiet = False
            message = "in and out are as they were, and the data is not: the ring went round, or somebody is writing"
            self.findings.append(Finding("data-changed", Severity.NOTE, None, message))
        self.findings += self.signals_due()
        return made(
            self.a,
            self.b,
            moved=not quiet,
            bytes_written=self.in_moved,
            bytes_read=self.out_moved,
            written=None if since is None else [examine_packet(self.b.memory, one) for one in since],
            read=self.packets_read(since),
            still_waiting=[examine_packet(self.b.memory, one) for one in still],
            findings=self.findings,
        )

    # -- what waited -------------------------------------------------------------------------------

    def compare_waiting(self) -> list[WalkedPacket]:
        """The packets that waited before and wait still, unchanged; findings about the others."""
        if self.read >= self.waiting_before or self.went_round or self.went_backwards:
            return []
        self.check_boundary()
        behind = [one for one in self.waited if one.whole and self.distance(one) >= self.read]
        same: list[WalkedPacket] = []
        changed: list[WalkedPacket] = []
        for one in behind:
            (same if self.is_same(one) else changed).append(one)
        if changed and not same and self.out_moved:
            self.went_round = True
            message = "nothing that waited is as it was: the ring was filled anew in between, once at least"
            self.findings.append(Finding("went-round", Severity.NOTE, None, message))
            return []
        self.findings += [self.change_finding(one) for one in changed]
        return same

    def check_boundary(self) -> None:
        """That out is not inside a packet which waited before and has not been written over since."""
        for one in self.waited:
            start = self.distance(one)
            if one.whole and start < self.read < start + taken(one) and self.is_same(one):
                out = self.b.control.out_offset
                message = f"out moved to {out:#06x}, into the packet that waited at {one.offset:#06x}"
                self.findings.append(Finding("out-inside-a-packet", Severity.WARNING, out, message))

    def distance(self, packet: WalkedPacket) -> int:
        """Bytes from the earlier out to a packet that waited then."""
        return used_bytes(self.size, packet.offset, self.a.control.out_offset)

    def is_same(self, packet: WalkedPacket) -> bool:
        return same_bytes(self.a.memory, self.b.memory, packet.offset, taken(packet))

    def change_finding(self, packet: WalkedPacket) -> Finding:
        """That a packet which still waits has other bytes than before."""
        before = examine_packet(self.a.memory, packet)
        now = self.b.memory.read_at(packet.offset, taken(packet))
        old = self.a.memory.read_at(packet.offset, taken(packet))
        if packet.offset == self.b.control.out_offset and (more := taken_since(before, old, now)) is not None:
            message = f"the reader of the packet's bytes has taken {more} of them"
            return Finding("partly-read", Severity.NOTE, packet.offset, message)
        places = [number for number in range(len(old)) if old[number] != now[number]]
        first = advance(self.size, packet.offset, places[0])
        count = f"{counted(len(places), 'byte')}"
        message = (
            f"{count} of the packet changed while it waited, the first at {first:#06x}: from "
            f"{old[places[0]]:#04x} to {now[places[0]]:#04x}"
        )
        return Finding("committed-bytes-changed", Severity.ERROR, packet.offset, message)

    # -- what was written and read -----------------------------------------------------------------

    def walk_written(self) -> list[WalkedPacket] | None:
        """The packets written in between; None where they cannot be told."""
        if self.went_round or self.went_backwards:
            return None
        before, now = self.a.control.in_offset, self.b.control.in_offset
        packets = [*walk(self.b.memory, before, now)]
        if all(one.whole for one in packets):
            return packets
        message = (
            f"from in as it was, {before:#06x}, to in as it is, {now:#06x}, there is no row of packets: the one "
            f"at {packets[-1].offset:#06x} has no end. The ring went round, or was opened anew"
        )
        self.findings.append(Finding("between-unreadable", Severity.NOTE, packets[-1].offset, message))
        return None

    def packets_read(self, since: list[WalkedPacket] | None) -> list[PacketReport] | None:
        """The packets read in between; None where they cannot be told."""
        read = [one for one in self.waited if self.distance(one) < self.read]
        if self.went_backwards or (self.went_round and not self.lap) or not all(one.whole for one in read):
            return None
        reports = [
            examine_packet(self.a.memory, one) for one in read if self.distance(one) + taken(one) <= self.read
        ]
        if self.read <= self.waiting_before:
            return reports
        if since is None:
            return None
        further = self.read - self.waiting_before
        start = self.a.control.in_offset
        newer = [one for one in since if used_bytes(self.size, one.offset, start) + taken(one) <= further]
        return reports + [examine_packet(self.b.memory, one) for one in newer]


def taken(packet: WalkedPacket) -> int:
    """Bytes of a whole packet with its footer."""
    assert packet.descriptor is not None
    return packet.descriptor.packet_size


def taken_since(before: PacketReport, old: bytes, now: bytes) -> int | None:
    """How many bytes of a pipe packet its reader has taken since; None where something else changed."""
    start = before.data_offset or 0
    if before.descriptor is None or before.descriptor.type != PacketType.IN_BAND:
        return None
    if old[:start] != now[:start] or old[start + 8 :] != now[start + 8 :]:
        return None
    first, second = pipe_header_of(old[start:-8]), pipe_header_of(now[start:-8])
    if first is None or not isinstance(second, PartialPipeHeader) or first.length != second.length:
        return None
    already = first.consumed if isinstance(first, PartialPipeHeader) else 0
    return second.consumed - already if second.consumed > already else None
