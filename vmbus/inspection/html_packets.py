"""The packets of a ring as tables: a line each, with all its bytes behind it.

A page that nobody can open helps nobody: of each list so many packets get a row, of a ring so many bytes
are shown, and many rings share what a page can hold.  What is left out is said, with the option that shows
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from vmbus.images import Finding
from vmbus.layout import DESCRIPTOR_SIZE, PacketFlags
from vmbus.ring import PagedRange, TransferPageRange, advance

from .examine import PacketReport
from .hexdump import hexdump
from .html_page import html_text
from .html_picture import block_id
from .names import bit_names, counted
from .ring_picture import Picture, Stretch
from .ring_report import RingReport
from .to_text import content_of, offset_width, transaction_of, type_of

__all__ = ["Listing", "PageShare", "finding_id", "finding_words", "packets_to_html", "page_list"]

#: So many packets of each list get a row.
MOST_ROWS = 5000

#: So many bytes are shown of one packet, and of all packets of a ring.
MOST_OF_PACKET = 4096
MOST_OF_RING = 1 << 20

#: What all rings of a page have together: rows of each kind, and bytes; and the rows that each has at least.
ROWS_OF_PAGE = 30_000
BYTES_OF_PAGE = 4 << 20
FEWEST_ROWS = 100

#: So many ranges of a packet are listed, and pages of a range or of a ring.
MOST_RANGES = 64
MOST_LISTED_PAGES = 16


class PageShare(NamedTuple):
    """What one ring has of a page.

    rows    so many packets of each list get a row
    bytes   so many bytes of its packets are shown
    """

    rows: int
    bytes: int

    @classmethod
    def of(cls, rings: int, most_rows: int | None) -> PageShare:
        """Of a page with so many rings; most_rows   what the caller asks for, or None.

        >>> PageShare.of(2, None), PageShare.of(60, None)
        (PageShare(rows=5000, bytes=1048576), PageShare(rows=500, bytes=69905))
        """
        rows = min(MOST_ROWS, max(FEWEST_ROWS, ROWS_OF_PAGE // max(1, rings)))
        return cls(
            rows if most_rows is None else most_rows, min(MOST_OF_RING, BYTES_OF_PAGE // max(1, rings))
        )


class Listing(NamedTuple):
    """The rows that the packets of a ring get.

    number     of the ring in the report
    blocks     the block of the picture that each packet is in, by the packet's number
    consumed   the numbers of the packets read already that get a row: the newest
    waiting    the numbers of those waiting that get one: the first
    left_out   how many get none, of those read already and of those waiting
    bytes      so many bytes of the packets are shown
    """

    number: int
    ring: RingReport
    blocks: Mapping[int, int]
    consumed: range
    waiting: range
    left_out: tuple[int, int]
    bytes: int

    @classmethod
    def of(cls, ring: RingReport, number: int, picture: Picture, share: PageShare) -> Listing:
        old, all_of_them = len(ring.consumed), len(ring.consumed) + len(ring.packets)
        consumed = range(max(0, old - share.rows), old)
        waiting = range(old, min(all_of_them, old + share.rows))
        left_out = (consumed.start, all_of_them - waiting.stop)
        return cls(number, ring, picture.block_of(), consumed, waiting, left_out, share.bytes)

    def row_id(self, packet: int) -> str:
        """Of the row of the packet with this number, or of the line that says that it is left out."""
        if packet in self.consumed or packet in self.waiting:
            return f"r{self.number}p{packet}"
        return f"r{self.number}{'consumed' if packet < self.consumed.start else 'waiting'}-left-out"

    def target(self, block: Stretch) -> str:
        """The row to which a block leads: of the first of its packets that has one."""
        assert block.first is not None
        numbers = range(block.first, block.first + block.packets)
        listed = (one for one in numbers if one in self.consumed or one in self.waiting)
        return self.row_id(next(listed, block.first))

    def packet(self, number: int) -> PacketReport:
        old = len(self.ring.consumed)
        return self.ring.consumed[number] if number < old else self.ring.packets[number - old]

    def rows_by_offset(self) -> dict[int, str]:
        """The row of each packet that has one, by the packet's offset."""
        return {self.packet(number).offset: self.row_id(number) for number in (*self.consumed, *self.waiting)}

    def findings_by_offset(self) -> dict[int, list[tuple[int, Finding]]]:
        """The findings of the ring that have a place, with their numbers."""
        found: dict[int, list[tuple[int, Finding]]] = {}
        for number, finding in enumerate(self.ring.findings):
            if finding.offset is not None:
                found.setdefault(finding.offset, []).append((number, finding))
        return found


class Budget:
    """Bytes that may still be shown of a ring."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, wanted: int) -> int:
        """How many of the wanted bytes may be shown."""
        taken = min(wanted, MOST_OF_PACKET, self.left)
        self.left -= taken
        return taken


def finding_id(ring_number: int, number: int) -> str:
    return f"r{ring_number}f{number}"


def packets_to_html(listing: Listing) -> Iterator[str]:
    """The table of what was read already and the table of what waits, where there are any."""
    budget = Budget(listing.bytes)
    in_place = listing.findings_by_offset()
    if listing.ring.consumed:
        yield from table_start("Read already, oldest first", with_trust=True)
        yield from left_out_to_html(listing, "consumed", listing.left_out[0], columns=6)
        for number in listing.consumed:
            yield from row_to_html(listing, number, in_place, budget)
        yield "</tbody></table>\n"
    if listing.ring.packets:
        yield from table_start("Waiting to be read", with_trust=False)
        for number in listing.waiting:
            yield from row_to_html(listing, number, in_place, budget)
        yield from left_out_to_html(listing, "waiting", listing.left_out[1], columns=5)
        yield "</tbody></table>\n"


def findings_of(
    listing: Listing, packet: PacketReport, in_place: Mapping[int, list[tuple[int, Finding]]]
) -> str:
    """What is wrong with a packet, as HTML: first what the ring's list has, then what it has not."""
    listed = in_place.get(packet.offset, [])
    links = [link_to_finding(listing.number, *one) for one in listed]
    messages = {finding.message for _, finding in listed}
    own = [f"<li{finding_words(one)}</li>" for one in packet.findings if one.message not in messages]
    return f'<ul class="findings">{"".join(links + own)}</ul>' if links or own else ""


def finding_words(finding: Finding) -> str:
    """A finding behind the start of a tag that takes its severity as class."""
    return (
        f' class="{finding.severity.value}"><b>{finding.severity.value}</b> '
        f"<code>{html_text(finding.check)}</code> {html_text(finding.message)}"
    )


def link_to_finding(ring_number: int, number: int, finding: Finding) -> str:
    words = finding_words(finding)
    return f'<li{words} <a href="#{finding_id(ring_number, number)}">in the list</a></li>'


def table_start(caption: str, *, with_trust: bool) -> Iterator[str]:
    trust = '<th scope="col">Trust</th>' if with_trust else ""
    yield (
        f'<table class="packets"><caption>{caption}</caption>\n<thead><tr><th scope="col">Offset</th>'
        '<th scope="col" class="number">Bytes</th><th scope="col">Type</th>'
        f'<th scope="col" class="number">Transaction</th>{trust}<th scope="col">Payload</th></tr></thead>\n<tbody>\n'
    )


def left_out_to_html(listing: Listing, name: str, count: int, *, columns: int) -> Iterator[str]:
    if count:
        which = "older" if name == "consumed" else "more"
        yield (
            f'<tr id="r{listing.number}{name}-left-out" tabindex="-1"><td colspan="{columns}">'
            f"{counted(count, 'packet').replace(' ', f' {which} ', 1)} {'has' if count == 1 else 'have'} no row "
            "here: --type, --transaction and --limit choose others, and the report as text (without --html) or "
            "--json has all.</td></tr>\n"
        )


def row_to_html(
    listing: Listing, number: int, in_place: Mapping[int, list[tuple[int, Finding]]], budget: Budget
) -> Iterator[str]:
    """The row of a packet: its line, what is wrong with it, and all its bytes to be opened."""
    ring, packet = listing.ring, listing.packet(number)
    offset = f"{packet.offset:#0{offset_width(ring)}x}"
    size = "-" if packet.packet_size is None else packet.packet_size
    block = listing.blocks.get(number)
    data = ""
    if block is not None:
        block_name = block_id(listing.number, block)
        data = f' data-block="{block_name}"'
        offset = f'<a class="to-block" href="#{block_name}">{offset}</a>'
    yield f'<tr id="{listing.row_id(number)}" tabindex="-1"{data}><td class="number">{offset}</td>'
    yield f'<td class="number" data-name="bytes">{size}</td><td class="word">{type_of(packet)}</td>'
    yield f'<td class="number" data-name="transaction">{transaction_of(packet)}</td>'
    if packet.trust is not None:
        yield f'<td class="word" data-name="trust">{packet.trust.value}</td>'
    yield f"<td><details><summary>{html_text(content_of(packet)) or 'details'}</summary>\n"
    yield from details_to_html(ring, packet, budget)
    yield f"</details>{findings_of(listing, packet, in_place)}</td></tr>\n"


def details_to_html(ring: RingReport, packet: PacketReport, budget: Budget) -> Iterator[str]:
    """The fields of a packet, and its bytes by their parts."""
    yield '<dl class="facts">'
    for name, words in fields_of(packet):
        yield f"<dt>{name}</dt><dd>{html_text(words)}</dd>"
    yield "</dl>\n"
    size = ring.memory.size
    if packet.payload is None or packet.header is None:
        if packet.raw is not None:
            yield from bytes_to_html("bytes that are there", packet.raw, packet.offset, size, budget)
        return
    header_at = advance(size, packet.offset, DESCRIPTOR_SIZE)
    payload_at = advance(size, header_at, len(packet.header))
    yield from bytes_to_html("header", packet.header, header_at, size, budget)
    yield from bytes_to_html("payload, padding included", packet.payload, payload_at, size, budget)


def bytes_to_html(name: str, data: bytes, offset: int, size: int, budget: Budget) -> Iterator[str]:
    if not data:
        return
    shown = budget.take(len(data))
    rest = "" if shown == len(data) else f", {shown} of them shown (--hexdump without --html shows all)"
    yield f"<p>{name}, {counted(len(data), 'byte')}{rest}</p>\n"
    if shown:
        lines = "\n".join(html_text(line) for line in hexdump(data[:shown], offset, size))
        yield f'<pre tabindex="0">{lines}</pre>\n'


def fields_of(packet: PacketReport) -> Iterator[tuple[str, str]]:
    """What a packet's descriptor, ranges and footer say."""
    descriptor = packet.descriptor
    if descriptor is None:
        yield "descriptor", f"not all of it is there: {packet.available} bytes up to in"
        return
    yield (
        "descriptor",
        f"type {descriptor.type}, length {packet.length}, payload from {packet.data_offset} on",
    )
    yield "flags", "|".join(bit_names(PacketFlags, descriptor.flags)) or "none"
    yield "transaction id", f"{descriptor.transaction_id:#x}"
    if packet.transfer_page_set_id is not None:
        yield "transfer page set", f"{packet.transfer_page_set_id:#x}"
    ranges: Sequence[PagedRange | TransferPageRange] = packet.ranges or ()
    for number, one in enumerate(ranges[:MOST_RANGES]):
        yield f"range {number}", range_words(one)
    if len(ranges) > MOST_RANGES:
        yield "ranges", f"{len(ranges)} in all; --json lists them"
    if packet.footer is not None:
        yield "footer", footer_words(packet)
    if packet.trust is not None:
        yield "trust", packet.trust.value


def range_words(one: PagedRange | TransferPageRange) -> str:
    if isinstance(one, TransferPageRange):
        return f"{one.byte_count} bytes from {one.byte_offset:#x} on"
    pages: Sequence[int] = one.gpns
    return f"{len(one)} bytes from {one.offset:#x} on in the guest's pages {page_list(pages)}"


def page_list(pages: Sequence[int]) -> str:
    """The first of some pages, by their numbers or their addresses, and how many more there are."""
    more = f" and {len(pages) - MOST_LISTED_PAGES} more pages" if len(pages) > MOST_LISTED_PAGES else ""
    return ", ".join(f"{page:#x}" for page in pages[:MOST_LISTED_PAGES]) + more


def footer_words(packet: PacketReport) -> str:
    assert packet.footer is not None
    words = f"names {packet.footer.packet_offset:#x}"
    if packet.footer.reserved:
        words += f", reserved word {packet.footer.reserved:#x}"
    if packet.footer_agrees:
        return f"{words}: this packet"
    return f"{words}: not this packet; QEMU writes none, and no reader needs it"
