"""What a scan found, for reading and for grep: a line a ring, and below it why, where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.ring import free_bytes, is_offset

from .found_ring import FoundRing
from .names import counted
from .scanning import ScanReport

__all__ = ["scan_to_lines"]

#: Stretches of missing memory that are listed.
SHOWN_MISSING = 5

#: Sizes that are listed where the size is not known.
SHOWN_SIZES = 4

TITLE = f"  {'ADDRESS':<14}  {'DATA':>8}  {'ROLE':<8}  {'WAITING':>8}  {'FREE':>8}  {'SCORE':>5}  DEVICE"


def scan_to_lines(report: ScanReport, *, with_reasons: bool = False) -> Iterator[str]:
    """The lines of a report; `with_reasons` says of each ring why it is believed to be one."""
    found = counted(len(report.rings), "ring")
    yield f"{report.path}: {report.format}, {found} in {megabytes(report.looked_at)} of memory that is not just zeros"
    if report.rings:
        yield TITLE
    for ring in report.rings:
        yield ring_line(ring)
        if with_reasons:
            yield from reason_lines(ring)
    yield from notes(report)


def ring_line(ring: FoundRing) -> str:
    waiting, free = fill_of(ring)
    size = "?" if ring.data_size is None else str(ring.data_size)
    device = "" if ring.device is None else str(ring.device)
    where = " (scattered pages)" if ring.pages is not None else ""
    line = (
        f"  {ring.address:<#14x}  {size:>8}  {ring.role or '-':<8}  {waiting:>8}  {free:>8}  {ring.score:>5}"
        f"  {device or '-'}{where}"
    )
    return line if ring.data_size is not None else f"{line}  size unknown: {sizes_of(ring)}"


def sizes_of(ring: FoundRing) -> str:
    sizes = ring.data_size_candidates[:SHOWN_SIZES]
    perhaps = f", perhaps {', '.join(map(str, sizes))}" if sizes else ""
    if len(sizes) > 1:
        perhaps += " (the likeliest first)"
    return f"at least {ring.smallest_data_size}{perhaps}"


def fill_of(ring: FoundRing) -> tuple[str, str]:
    """Bytes waiting and bytes free, as far as the size is known."""
    in_offset, out_offset = ring.control.in_offset, ring.control.out_offset
    size = ring.data_size
    if size is None:
        return (str(in_offset - out_offset) if in_offset >= out_offset else "?"), "?"
    if not is_offset(size, in_offset) or not is_offset(size, out_offset):
        return "?", "?"
    return str((in_offset - out_offset) % size), str(free_bytes(size, in_offset, out_offset))


def reason_lines(ring: FoundRing) -> Iterator[str]:
    for reason in ring.reasons:
        yield f"      {reason.points:+4}  {reason.reason}: {reason.message}"


def notes(report: ScanReport) -> Iterator[str]:
    """What else there is to say of an image."""
    if report.unsure:
        what = "page only looks" if report.unsure == 1 else "pages only look"
        shown = "listed above" if any(not ring.is_ring for ring in report.rings) else "--all lists them"
        yield f"  {report.unsure} {what} like a control page, as that of a ring never used does; {shown}"
    for run in report.missing[:SHOWN_MISSING]:
        why = f": {run.why}" if run.why else ""
        yield f"  missing  {run.start:#x} to {run.end - 1:#x}  {run.state.value}{why}"
    more = report.missing[SHOWN_MISSING:]
    if more or report.unlisted:
        total = sum(run.end - run.start for run in more) + report.unlisted
        yield f"  missing  {total} more bytes"
    for finding in report.findings:
        yield f"  image  {finding.severity.value:<7}  {finding.check}  {finding.message}"


def megabytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
