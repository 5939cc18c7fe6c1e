"""Faults to plant in the picture of a ring and in its page: each a line of the shipped source, a wrong one,
and who must notice.

As tests/planted_faults.py, whose list this one goes on with.  Those that only a browser shows are planted
where there is one.
"""

from __future__ import annotations

from tests.inspection.browser import find_browser
from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_HTML_FAULTS"]

PICTURE = "inspection/test_ring_picture.py::test_"
EVERY_BYTE = PICTURE + "every_byte_stands_once_in_the_band_and_is_what_in_out_and_the_packets_say"
SIDE_BY_SIDE = PICTURE + "the_pieces_of_a_row_stand_side_by_side_and_none_is_too_narrow_to_point_at"
PAGE = "inspection/test_to_html.py::test_"
ANY_RING = PAGE + "any_ring_under_any_name_gives_a_page_of_its_own"
BROWSER = "inspection/test_html_in_browser.py::test_"
TAB = BROWSER + "tab_stops_once_in_a_picture_and_arrows_go_from_packet_to_packet"
CONTRAST = BROWSER + "text_and_the_parts_of_pictures_stand_out_from_what_is_behind_them"

IN_PICTURES = [
    PlantedFault(
        "band that loses what goes over the ring's end",
        "inspection/picture_rows.py",
        "            found.append(Cut(0, end - size, number))",
        "            pass",
        EVERY_BYTE,
    ),
    PlantedFault(
        "torn packet as long as it says",
        "inspection/ring_picture.py",
        "    return said if said is not None and SMALLEST_PACKET <= said <= packet.available else packet.available",
        "    return said or packet.available",
        EVERY_BYTE,
    ),
    PlantedFault(
        "gap between packets not drawn",
        "inspection/ring_picture.py",
        "        yield from gap_stretches(size, advance(size, start, at), place - at, gap, edges)",
        "        pass",
        EVERY_BYTE,
    ),
    PlantedFault(
        "rest behind the last packet not drawn",
        "inspection/ring_picture.py",
        "    yield from gap_stretches(size, advance(size, start, at), length - at, gap, edges)",
        "    return",
        EVERY_BYTE,
    ),
    PlantedFault(
        "hole of an image shown as free",
        "inspection/ring_picture.py",
        "        is_missing = bisect_right(edges, offset) % 2  # behind an odd number of edges",
        "        is_missing = False",
        EVERY_BYTE,
    ),
    PlantedFault(
        "hole behind the ring's end not seen",
        "inspection/ring_picture.py",
        "    behind_end = edges[: max(0, bisect_left(edges, end - size))]",
        "    behind_end: list[int] = []",
        EVERY_BYTE,
    ),
    PlantedFault(
        "waiting packets counted from zero",
        "inspection/ring_picture.py",
        "    numbered = enumerate(ring.packets, len(ring.consumed))",
        "    numbered = enumerate(ring.packets)",
        EVERY_BYTE,
    ),
    PlantedFault(
        "broken packet hidden among its neighbours",
        "inspection/ring_picture.py",
        "        kind=max((one.kind for one in neighbours), key=SEVERITY.__getitem__),",
        "        kind=min((one.kind for one in neighbours), key=SEVERITY.__getitem__),",
        PICTURE + "too_many_packets_share_blocks_and_a_broken_one_is_never_hidden",
    ),
    PlantedFault(
        "row with any number of pieces",
        "inspection/picture_rows.py",
        "            if row and (len(row) == MOST_PIECES or rest.start - row[0].start >= row_bytes):",
        "            if row and rest.start - row[0].start >= row_bytes:",
        SIDE_BY_SIDE,
    ),
    PlantedFault(
        "width by bytes alone",
        "inspection/picture_rows.py",
        "    return [NARROWEST if n in narrow else length * per_byte for n, length in enumerate(lengths)]",
        "    return [length * total / sum(lengths) for length in lengths]",
        SIDE_BY_SIDE,
    ),
]

IN_PAGES = [
    PlantedFault(
        "text that is HTML",
        "inspection/html_page.py",
        "    return escape(printable)",
        "    return printable",
        ANY_RING,
    ),
    PlantedFault(
        "text that holds what cannot be printed",
        "inspection/html_page.py",
        "    return escape(printable)",
        "    return escape(text)",
        ANY_RING,
    ),
    PlantedFault(
        "policy that allows what is loaded from elsewhere",
        "inspection/html_page.py",
        """        f"default-src 'none'; style-src {content_hash(STYLE)}; script-src {content_hash(SCRIPT)}; \"""",
        """        f"default-src *; style-src {content_hash(STYLE)}; script-src {content_hash(SCRIPT)}; \"""",
        PAGE + "the_policy_allows_this_style_and_this_script_and_nothing_else",
    ),
    PlantedFault(
        "hexdump of a payload with the header's offsets",
        "inspection/html_packets.py",
        "    payload_at = advance(size, header_at, len(packet.header))",
        "    payload_at = header_at",
        PAGE + "a_row_opens_to_header_payload_ranges_and_footer",
    ),
    PlantedFault(
        "oldest packets in place of the newest",
        "inspection/html_packets.py",
        "        consumed = range(max(0, old - share.rows), old)",
        "        consumed = range(min(old, share.rows))",
        PAGE + "of_what_was_read_already_the_newest_have_rows",
    ),
    PlantedFault(
        "packets left out and not counted",
        "inspection/html_packets.py",
        "        left_out = (consumed.start, all_of_them - waiting.stop)",
        "        left_out = (0, 0)",
        PAGE + "rows_beyond_the_cap_are_counted_with_the_options_that_show_them",
    ),
    PlantedFault(
        "block that leads to the wrong row",
        "inspection/html_packets.py",
        "        return self.row_id(next(listed, block.first))",
        "        return self.row_id(block.first + block.packets - 1)",
        PAGE + "a_block_of_several_packets_leads_to_the_first_and_each_row_back_to_it",
    ),
    PlantedFault(
        "hexdumps of any length",
        "inspection/html_packets.py",
        "        taken = min(wanted, MOST_OF_PACKET, self.left)",
        "        taken = wanted",
        PAGE + "bytes_beyond_the_cap_of_a_packet_or_a_ring_are_counted",
    ),
    PlantedFault(
        "page that grows with every ring",
        "inspection/html_packets.py",
        "        rows = min(MOST_ROWS, max(FEWEST_ROWS, ROWS_OF_PAGE // max(1, rings)))",
        "        rows = MOST_ROWS",
        PAGE + "many_rings_share_what_a_page_can_hold",
    ),
    PlantedFault(
        "Tab stop at the oldest packet",
        "inspection/html_picture.py",
        "    return next(iter([*waiting, *with_packets]), None)",
        "    return next(iter(with_packets), None)",
        PAGE + "each_ring_is_one_tab_stop_at_the_first_packet_that_waits",
    ),
    PlantedFault(
        "signal owed to the other side",
        "inspection/to_html.py",
        "    if ring.reader_needs_signal:",
        "    if ring.writer_needs_signal:",
        PAGE + "the_page_says_who_may_be_owed_a_signal",
    ),
]

IN_BROWSERS = [
    PlantedFault(
        "row of the packet before highlighted",
        "inspection/html_page.py",
        "    pointed = block ? [block, ...(only ? [only] : rows.get(block.id))] : [];",
        "    pointed = block ? [block, ...rows.get(block.id).map((row) => row.previousElementSibling || row)] : [];",
        BROWSER + "the_packet_under_the_pointer_is_the_one_that_the_table_shows",
    ),
    PlantedFault(
        "every block a Tab stop",
        "inspection/html_page.py",
        '    for (const one of blocks) one.setAttribute("tabindex", one === block ? "0" : "-1");',
        '    for (const one of blocks) one.setAttribute("tabindex", "0");',
        TAB,
    ),
    PlantedFault(
        "arrow that goes over one packet",
        "inspection/html_page.py",
        "    blocks[Math.min(Math.max(to[event.key], 0), last)].focus();",
        "    blocks[Math.min(Math.max(2 * to[event.key] - at, 0), last)].focus();",
        TAB,
    ),
    PlantedFault(
        "Enter that leaves the focus in the picture",
        "inspection/html_page.py",
        "    setTimeout(() => row.focus(), 0);",
        "    setTimeout(() => block.focus(), 0);",
        BROWSER + "enter_goes_to_the_row_and_escape_back_to_the_block",
    ),
    PlantedFault(
        "script that fails",
        "inspection/html_page.py",
        '  const told = ring.querySelector(".told");',
        '  const told = ring.querySelector(".told").missing.missing;',
        BROWSER + "opening_a_page_asks_for_the_file_alone_and_nothing_complains",
    ),
    PlantedFault(
        "words too pale to be read in the dark",
        "inspection/html_page.py",
        "    --ground: #15181c; --raised: #1f2429; --text: #e5e8ec; --quiet: #a3adb8; --line: #77818c; --rule: #343b43;",
        "    --ground: #15181c; --raised: #1f2429; --text: #e5e8ec; --quiet: #656d75; --line: #77818c; --rule: #343b43;",
        CONTRAST,
    ),
    PlantedFault(
        "hexdump that makes the page wider than the window",
        "inspection/html_page.py",
        ".packets td:last-child { width: 100%; max-width: 0; }",
        ".packets td:last-child { width: 100%; }",
        BROWSER + "a_page_fits_into_the_window_sideways_and_every_block_can_be_pointed_at",
    ),
]

PLANTED_HTML_FAULTS = [*IN_PICTURES, *IN_PAGES, *(IN_BROWSERS if find_browser() else [])]
