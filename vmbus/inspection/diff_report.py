"""Two dumps of the same rings compared: which ring is which, as text, and as the document "vmbus.diff/1".

The document's keys:

    schema        "vmbus.diff/1"
    a, b          the earlier and the later dump: path, format, size
    rings         one object a pair of rings:
        a, b            each snapshot: address, address_hex, role, data_size, control, available, free,
                        reader_needs_signal, writer_needs_signal, verdict, findings: as in "vmbus.inspect/1"
        moved           whether anything happened in between; null where an index is out of range
        bytes_written   how far in went, less than the data size: whole laps cannot be seen
        bytes_read      how far out went
        written, read   packets as in "vmbus.inspect/1", oldest first; null where they cannot be told
        still_waiting   how many packets waited before and wait still, unchanged
        stuck           signals owed where nothing moved: to, owed_by, rule, edge_rule, message
        findings        of the comparison, the stuck ones among them
    only_a, only_b      addresses of rings that only one of the dumps has
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .checks import Verdict
from .examine import PacketReport
from .names import counted
from .report import Report
from .ring_report import RingReport
from .snapshot_diff import RingDiff, diff
from .stuck import OwedSignal
from .to_json import finding_to_json, packet_to_json, some_of_ring
from .to_text import device_of, finding_to_line, packets_to_lines, verdict_text

__all__ = ["DIFF_SCHEMA", "DiffReport", "diff_reports", "match_rings", "owed_to_json"]

DIFF_SCHEMA = "vmbus.diff/1"

#: What the document says of each snapshot of a ring.
SNAPSHOT_KEYS = (
    *("address", "address_hex", "role", "data_size", "control", "available", "free"),
    *("reader_needs_signal", "writer_needs_signal", "verdict", "findings"),
)

#: What can make two rings of two dumps the same one, the surest first.
KEYS: tuple[Callable[[RingReport], object], ...] = (
    lambda ring: (ring.place.address, ring.place.role),
    lambda ring: ring.place.role or id(ring),
    lambda ring: ring.place.address,
)


class DiffReport(NamedTuple):
    """Two dumps compared; `only_a` and `only_b` are rings that only one of them has."""

    before: Report
    after: Report
    rings: list[RingDiff]
    only_a: list[RingReport]
    only_b: list[RingReport]

    @property
    def is_sound(self) -> bool:
        """True when no ring is stuck and nothing is wrong with any, now or between the two."""
        return all(ring.is_sound for ring in self.rings) and all(ring.is_sound for ring in self.only_b)

    def to_json(self) -> dict[str, Any]:
        """The comparison as the document "vmbus.diff/1"."""
        return {
            "schema": DIFF_SCHEMA,
            "a": {"path": self.before.path, "format": self.before.format, "size": self.before.size},
            "b": {"path": self.after.path, "format": self.after.format, "size": self.after.size},
            "rings": [ring_to_json(ring) for ring in self.rings],
            "only_a": [ring.place.address for ring in self.only_a],
            "only_b": [ring.place.address for ring in self.only_b],
        }

    def to_lines(self) -> Iterator[str]:
        """The comparison for reading."""
        for number, ring in enumerate(self.rings):
            if number:
                yield ""
            yield from ring_to_lines(ring)
        for name, rings in (("earlier", self.only_a), ("later", self.only_b)):
            for one in rings:
                yield f"ring at {one.place.address:#x}: only in the {name} dump"


def diff_reports(before: Report, after: Report) -> DiffReport:
    """Compare the rings of two dumps, the earlier one first.

    >>> from .sample import sample_path
    >>> from vmbus.images import open_dump
    >>> from .report import inspect_dump
    >>> same = inspect_dump(open_dump(sample_path()))
    >>> [ring.moved for ring in diff_reports(same, same).rings]
    [False, False]
    """
    pairs = match_rings(before.rings, after.rings)
    return DiffReport(
        before,
        after,
        [diff(*pair) for pair in pairs],
        [ring for ring in before.rings if not any(ring is one for one, _ in pairs)],
        [ring for ring in after.rings if not any(ring is one for _, one in pairs)],
    )


def match_rings(
    before: Sequence[RingReport], after: Sequence[RingReport]
) -> list[tuple[RingReport, RingReport]]:
    """The rings of two dumps that are the same ones: by address and role, else by role, else by address.

    Two that are alone in their dumps are the same wherever they lie.
    """
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    pairs: list[tuple[RingReport, RingReport]] = []
    left, right = [*before], [*after]
    for key in KEYS:
        ones, others = by_key(left, key), by_key(right, key)
        found = [(ones[name], others[name]) for name in ones if name in others]
        pairs += found
        left = [ring for ring in left if not any(ring is one for one, _ in found)]
        right = [ring for ring in right if not any(ring is one for _, one in found)]
    return sorted(pairs, key=lambda pair: pair[0].place.address)


def by_key(rings: Sequence[RingReport], key: Callable[[RingReport], object]) -> dict[object, RingReport]:
    """The rings that have a key of their own, by it."""
    names = [key(ring) for ring in rings]
    return {name: ring for name, ring in zip(names, rings, strict=True) if names.count(name) == 1}


# -- JSON ------------------------------------------------------------------------------------------


def ring_to_json(ring: RingDiff) -> dict[str, Any]:
    return {
        "a": some_of_ring(ring.before, SNAPSHOT_KEYS),
        "b": some_of_ring(ring.after, SNAPSHOT_KEYS),
        "moved": ring.moved,
        "bytes_written": ring.bytes_written,
        "bytes_read": ring.bytes_read,
        "written": packets_to_json(ring.written),
        "read": packets_to_json(ring.read),
        "still_waiting": len(ring.still_waiting),
        "stuck": [owed_to_json(owed) for owed in ring.stuck],
        "findings": [finding_to_json(finding) for finding in ring.findings],
    }


def packets_to_json(packets: list[PacketReport] | None) -> list[dict[str, Any]] | None:
    return None if packets is None else [packet_to_json(packet) for packet in packets]


def owed_to_json(owed: OwedSignal) -> dict[str, Any]:
    """A signal that is owed, as reports have it under "stuck"."""
    return {
        "to": owed.to,
        "owed_by": owed.owed_by,
        "rule": owed.rule,
        "edge_rule": owed.edge,
        "message": owed.message,
    }


# -- text ------------------------------------------------------------------------------------------


def ring_to_lines(ring: RingDiff) -> Iterator[str]:
    place = ring.after.place
    role = f"{place.role} " if place.role else ""
    elsewhere = ring.before.place.address
    where = f" ({elsewhere:#x} in the earlier dump)" if elsewhere != place.address else ""
    yield f"{role}ring at {place.address:#x}{device_of(place)}{where}, {place.data_size} bytes of data"
    yield from words_to_lines(ring)
    yield f"  {progress(ring)}"
    yield f"  {verdict_text(ring.after)}"
    for owed in ring.stuck:
        yield f"  stuck: {owed.message}"
    for title, packets, memory_of in (
        ("read", ring.read, ring.before),
        ("written", ring.written, ring.after),
    ):
        if packets:
            yield ""
            yield f"{title} in between, oldest first"
            yield from packets_to_lines(memory_of, packets, False)
    # A finding that is said above need not be said again.
    findings = [one for one in ring.findings if not one.check.startswith("stuck-")] + ring.after.findings
    if findings:
        yield ""
    for finding in findings:
        yield finding_to_line(ring.after, finding)


def words_to_lines(ring: RingDiff) -> Iterator[str]:
    """The control words, as they were and as they are."""
    before, now = ring.before.control, ring.after.control
    packets = (ring.written, ring.read)
    for name, old, new, moved, done, found in (
        ("in", before.in_offset, now.in_offset, ring.bytes_written, "written", packets[0]),
        ("out", before.out_offset, now.out_offset, ring.bytes_read, "read", packets[1]),
    ):
        how_many = "packets unknown" if found is None else counted(len(found), "packet")
        what = "" if moved is None else f"   {moved} bytes {done}, {how_many}"
        yield f"  {name:<3} {change(f'{old:#06x}', f'{new:#06x}')}{what}"
    mask = change(str(before.interrupt_mask), str(now.interrupt_mask))
    pending = change(str(before.pending_send_size), str(now.pending_send_size))
    yield f"  interrupt mask {mask}   pending send size {pending}"


def change(old: str, new: str) -> str:
    return f"{new} as before" if old == new else f"{old} -> {new}"


def progress(ring: RingDiff) -> str:
    """Whether anything moved, in a sentence."""
    if ring.moved is None:
        return "what moved cannot be told: an index is out of range"
    still = counted(len(ring.still_waiting), "packet")
    if ring.moved:
        laps = f"besides what is counted, any number of laps of {ring.after.place.data_size} bytes"
        waits = f"; {still} that waited before {'waits' if len(ring.still_waiting) == 1 else 'wait'} still"
        return f"moved ({laps}){waits}"
    waiting_masked = ring.after.verdict is Verdict.WAITING_FOR_READER and ring.after.control.interrupt_mask
    why = ": the reader has masked interrupts and looks by itself, and has not" if waiting_masked else ""
    return f"nothing moved, {still} waiting before and now{why}"
