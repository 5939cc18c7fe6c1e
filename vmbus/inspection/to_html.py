"""A report as one page for a browser, that needs nothing but itself.

For each ring: where it lies, its verdict, its control words, a picture of its data area, its findings and
its packets.  html_page has the page around it, html_picture and html_packets the larger parts.

Whatever comes from the dump is shown in hex or escaped.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmbus.images import Severity
from vmbus.layout import FeatureBits

from .checks import Verdict
from .html_packets import Listing, PageShare, finding_id, finding_words, packets_to_html, page_list
from .html_page import html_text, page_end, page_start
from .html_picture import HOW_TO_READ, picture_to_html
from .names import bit_names
from .report import Report
from .ring_picture import draw_ring
from .ring_place import RingDevice
from .ring_report import RingReport
from .stuck import asks_for_good
from .to_text import offset_width, summary, verdict_text

__all__ = ["report_to_html"]


def report_to_html(
    report: Report, *, title: str | None = None, most_rows: int | None = None
) -> Iterator[str]:
    """The page, piece by piece.

    title       of the page; None: it names the file
    most_rows   so many packets of each list get a row, and how many more there are is said; None: 5000,
                or fewer where many rings share the page

    >>> from .sample import sample_path
    >>> from vmbus.images import open_dump
    >>> from .report import inspect_dump
    >>> page = "".join(report_to_html(inspect_dump(open_dump(sample_path())), title="A sample"))
    >>> page[:15], page.count('<section class="ring"'), "<title>A sample</title>" in page
    ('<!DOCTYPE html>', 2, True)
    """
    title = f"Rings in {report.path}" if title is None else title
    yield page_start(title)
    yield f"<header>\n<h1>{html_text(title)}</h1>\n"
    yield from facts_to_html(
        [("file", html_text(report.path)), ("format", f"{html_text(report.format)}, {report.size} bytes")]
    )
    yield from contents_to_html(report)
    yield f"{HOW_TO_READ}</header>\n<main>\n"
    share = PageShare.of(len(report.rings), most_rows)
    for number, ring in enumerate(report.rings):
        yield from ring_to_html(report, number, ring, share)
    yield "</main>\n"
    yield page_end()


def facts_to_html(facts: list[tuple[str, str]]) -> Iterator[str]:
    """Names and what is known, which is HTML already."""
    yield '<dl class="facts">\n'
    for name, words in facts:
        yield f"<dt>{name}</dt><dd>{words}</dd>\n"
    yield "</dl>\n"


def contents_to_html(report: Report) -> Iterator[str]:
    """The rings with their verdicts, to be followed."""
    if len(report.rings) == 1:
        return
    yield '<nav aria-label="rings"><ul>\n' if report.rings else "<p>No ring.</p>\n"
    for number, ring in enumerate(report.rings):
        link = f'<a href="#r{number}">{name_of(ring)}</a>'
        yield f"<li{trouble_of(ring)}{link}: {verdict_text(ring)}, {summary(ring)}</li>\n"
    yield "</ul></nav>\n" if report.rings else ""


def trouble_of(ring: RingReport) -> str:
    """The rest of a tag, and the word that says that something is wrong with a ring."""
    if ring.verdict is Verdict.CORRUPT:
        return ' class="error"><b>corrupt</b> '
    if any(finding.severity is Severity.ERROR for finding in ring.findings):
        return ' class="error"><b>errors</b> '
    return ">"


def name_of(ring: RingReport) -> str:
    """What to call a ring, as HTML."""
    place = ring.place
    words = [place.role, "ring"] if place.role else ["ring"]
    device = f" of {html_text(str(place.device))}" if place.device else ""
    return f"{' '.join(words)} at {place.address:#x}{device}"


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def ring_to_html(report: Report, number: int, ring: RingReport, share: PageShare) -> Iterator[str]:
    picture = draw_ring(ring)
    listing = Listing.of(ring, number, picture, share)
    yield f'<section class="ring" id="r{number}" aria-labelledby="r{number}name">\n'
    yield f'<h2 id="r{number}name">{capital(name_of(ring))}</h2>\n'
    yield f'<p class="verdict">{capital(verdict_text(ring))}</p>\n'
    yield from facts_to_html(facts_of(report, number, ring))
    yield from control_to_html(ring)
    yield "<h3>Data area</h3>\n"
    yield from picture_to_html(ring, number, picture, listing.target)
    yield from findings_to_html(listing)
    yield f"<h3>Packets</h3>\n<p>{summary(ring)}</p>\n"
    yield from packets_to_html(listing)
    yield "</section>\n"


def facts_of(report: Report, number: int, ring: RingReport) -> list[tuple[str, str]]:
    """Where a ring lies and who waits for whom, as HTML."""
    place = ring.place
    known = "" if place.data_size_known else " (what would fit; the size itself is not known)"
    data = f"{place.address + place.header_size:#x}" if place.pages is None else page_list(place.pages[1:])
    facts = [
        ("signals", signal_words(ring)),
        ("control page", f"<code>{place.address:#x}</code>, {place.header_size} bytes"),
        ("data area", f"<code>{data}</code>, {place.data_size} bytes{known}"),
    ]
    if place.device is not None:
        facts.append(("device", device_words(place.device)))
    if ring.available is not None:
        facts.append(("room", f"{ring.available} bytes waiting, {ring.free} bytes free (8 always stay so)"))
    other = other_of_pair(report, number)
    if other is not None:
        facts.append(("pair", f'with the <a href="#r{other}">{name_of(report.rings[other])}</a>'))
    return facts


def device_words(device: RingDevice) -> str:
    """Everything that is known of a device, as HTML."""
    words = [device.class_name or "of no known class"]
    words += [f"class {device.class_id}"] if device.class_id else []
    words += [f"instance {device.instance_id}"] if device.instance_id else []
    return html_text(", ".join([*words, f"channel {device.channel_id}"]))


def other_of_pair(report: Report, number: int) -> int | None:
    """The number of the ring that is the other direction of this one, where the report has it."""
    pair = report.rings[number].place.pair
    return next(
        (at for at, ring in enumerate(report.rings) if pair is not None and ring.place.address == pair), None
    )


def signal_words(ring: RingReport) -> str:
    """Who may be owed a signal, and why."""
    if ring.reader_needs_signal is None or ring.writer_needs_signal is None:
        return "there is no telling: an index is out of range"
    words = []
    if ring.reader_needs_signal:
        words.append("the reader may be owed a signal: packets wait, and its interrupts are not masked")
    if ring.writer_needs_signal and asks_for_good(ring):
        words.append("none is owed to the writer: it asks for room for good, and has it")
    elif ring.writer_needs_signal:
        words.append("the writer may be owed a signal: it asked for room, and there is that much")
    return "; ".join(words) or "nobody is owed a signal"


def control_to_html(ring: RingReport) -> Iterator[str]:
    """The control words, each with what it means."""
    yield (
        '<table class="control"><caption>Control page</caption>\n<thead><tr><th scope="col">Word</th>'
        '<th scope="col" class="number">Value</th><th scope="col">Meaning</th></tr></thead>\n<tbody>\n'
    )
    for name, value, meaning in control_words(ring):
        yield f'<tr><th scope="row">{name}</th><td class="number">{value}</td><td>{meaning}</td></tr>\n'
    yield "</tbody></table>\n"


def control_words(ring: RingReport) -> Iterator[tuple[str, str, str]]:
    control = ring.control
    width = offset_width(ring)
    yield "in", f"{control.in_offset:#0{width}x}", "where the sender puts the next packet"
    yield "out", f"{control.out_offset:#0{width}x}", "where the receiver takes the next packet"
    masked = "the receiver wants no signal now" if control.interrupt_mask else "the receiver wants signals"
    yield "interrupt mask", f"{control.interrupt_mask:#x}", masked
    pending = control.pending_send_size
    asked = (
        "the sender asks to be told when so many bytes are free" if pending else "the sender asks for no room"
    )
    yield "pending send size", str(pending), asked
    features = ", ".join(bit_names(FeatureBits, control.feature_bits)) or "none"
    yield "feature bits", f"{control.feature_bits:#x}", features
    for word, value in control.other_words.items():
        yield f"word {word}", f"{value:#x}", "no implementation is known to use it"


def findings_to_html(listing: Listing) -> Iterator[str]:
    """Every finding of the ring, with a link to the packet that it is about."""
    ring = listing.ring
    yield "<h3>Findings</h3>\n"
    if not ring.findings:
        yield "<p>Nothing is wrong with what was looked at.</p>\n"
        return
    rows = listing.rows_by_offset()
    yield '<ul class="findings">\n'
    for number, finding in enumerate(ring.findings):
        where = "control page"
        if finding.offset is not None:
            where = f"{finding.offset:#0{offset_width(ring)}x}"
            if finding.offset in rows:
                where = f'<a href="#{rows[finding.offset]}">{where}</a>'
        yield f'<li id="{finding_id(listing.number, number)}"{finding_words(finding)} ({where})</li>\n'
    yield "</ul>\n"
