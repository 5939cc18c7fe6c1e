"""A page is well formed, leads nowhere outside itself, and shows what the dump holds as text.

What a browser makes of it is tried in test_html_in_browser.py.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import binary, booleans, builds, integers, text

from tests.helpers import SAMPLE_NAMES
from tests.inspection.dumps import (
    COMPLETION,
    GPA_DIRECT,
    HISTORY,
    control_page,
    gpa_header,
    gpa_range,
    look,
    packet,
    ring_image,
    sample_dump,
)
from tests.inspection.html_reports import (
    EVIL_PATH,
    broken_ring,
    crowded_ring,
    doubtful_ring,
    filtered_ring,
    mixed_report,
    report_of,
    ring_with_a_hole,
)
from vmbus.inspection import (
    Finding,
    RingReport,
    Severity,
    inspect_dump,
    open_dump,
    report_to_html,
    sample_path,
)
from vmbus.inspection.html_page import STYLE

VOID = {"meta", "link", "br", "hr", "img", "input"}


class PageReader(HTMLParser):
    """What a page is made of; AssertionError for one that is not well nested.

    ids        of all elements
    links      where its links lead
    elements   all of them: name and attributes
    rows       the text of each row of a table, cell by cell
    words      all its text, without style and script
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "elements that are never closed"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"an attribute twice: {tag} {attributes}"
        known = {name: value or "" for name, value in attributes}
        self.elements.append((tag, known))
        self.ids += [known["id"]] if "id" in known else []
        self.links += [known["href"]] if "href" in known else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        assert self._open.pop() == tag

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open}"
        self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] in ("style", "script"):
            return
        self.words += data
        if "tr" in self._open and self.rows[-1]:
            self.rows[-1][-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def page_of(*rings: RingReport, **options: object) -> str:
    return "".join(report_to_html(report_of(*rings), **options))


def assert_is_a_page_of_its_own(page: str) -> PageReader:
    read = PageReader(page)
    assert page.startswith("<!DOCTYPE html>")
    assert len(set(read.ids)) == len(read.ids)
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert all(link.startswith("#") for link in read.links)
    assert "://" not in page and "//" not in "".join(read.links)
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "image", "base", "form", "use"), tag
        assert not {"src", "srcset", "style", "xlink:href", "action"} & attributes.keys(), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"@import|@font-face|url\((?!#pattern-)", page)
    return read


# -- any bytes -----------------------------------------------------------------------------------


def ring_of(data: bytes, pages: int, in_offset: int, out_offset: int, valid: bool) -> RingReport:
    """A ring whose data area is `data` over and over; the first packet's place is kept."""
    size = 4096 * pages
    if valid:
        in_offset, out_offset = in_offset % (size // 8) * 8, out_offset % (size // 8) * 8
    area = (data * (size // max(1, len(data)) + 1) or bytes(size))[:size]
    return look(control_page(in_offset, out_offset) + area, HISTORY)


ANY_RING = builds(
    ring_of,
    data=binary(max_size=200),
    pages=integers(1, 2),
    in_offset=integers(0, 2**32 - 1),
    out_offset=integers(0, 2**32 - 1),
    valid=booleans().map(lambda wrong: not wrong),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ring=ANY_RING, path=text(max_size=20), most_rows=integers(0, 20))
@example(ring=broken_ring(), path=EVIL_PATH, most_rows=5000)
@example(ring=crowded_ring(), path="\x00\n\u202e", most_rows=7)
@example(ring=doubtful_ring(), path="</title>", most_rows=1)
@example(ring=ring_with_a_hole(), path="ring.bin", most_rows=1)
@example(ring=filtered_ring(), path='"><img src=x onerror=alert(1)>', most_rows=2)
def test_any_ring_under_any_name_gives_a_page_of_its_own(ring, path, most_rows):
    page = "".join(report_to_html(report_of(ring, path=path), most_rows=most_rows))
    assert_is_a_page_of_its_own(page)
    page.encode("utf-8")


def test_many_rings_share_a_page_and_no_id():
    read = assert_is_a_page_of_its_own("".join(report_to_html(mixed_report())))
    sections = [known["id"] for tag, known in read.elements if tag == "section"]
    assert sections == [f"r{number}" for number in range(len(mixed_report().rings))]


# -- nothing gets out, nothing gets in -----------------------------------------------------------


def test_a_name_is_shown_as_text_and_what_a_terminal_would_obey_escaped():
    report = report_of(look(bytes(8192)), path=EVIL_PATH)
    page = "".join(report_to_html(report))
    assert page.count("<script>") == 1
    assert "<script>document.title='gone'</script>\\x1b[31m&\"'\\udcff.bin" in PageReader(page).words


def test_a_payload_is_shown_in_hex_and_as_text_that_is_nothing_else():
    page = page_of(broken_ring())
    assert page.count("<script>") == 1
    assert "|</pre><script>al|" in PageReader(page).words


def test_the_policy_allows_this_style_and_this_script_and_nothing_else():
    page = page_of(look(bytes(8192)))
    (policy,) = [
        known["content"]
        for tag, known in PageReader(page).elements
        if tag == "meta" and known.get("http-equiv") == "Content-Security-Policy"
    ]
    hashes = {}
    for name in ("style", "script"):
        (content,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        hashes[name] = b64encode(sha256(content.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{hashes['style']}'",
        f"script-src 'sha256-{hashes['script']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


# -- what a page says ----------------------------------------------------------------------------


def test_the_title_names_the_file_or_is_what_the_caller_says():
    assert "<title>Rings in ring.bin</title>" in page_of(look(bytes(8192)))
    page = page_of(look(bytes(8192)), title="Channel <5>")
    assert "<title>Channel &lt;5&gt;</title>" in page
    assert "<h1>Channel &lt;5&gt;</h1>" in page


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_every_packet_has_a_row_and_a_block_that_lead_to_each_other(name):
    (ring,) = inspect_dump(sample_dump(name), selection=HISTORY).rings
    read = assert_is_a_page_of_its_own(page_of(ring))
    packets = [*ring.consumed, *ring.packets]
    blocks = [known for tag, known in read.elements if tag == "a" and known.get("class") == "block"]
    rows = {known["id"]: known for tag, known in read.elements if tag == "tr" and "id" in known}
    assert len(blocks) == len(rows) == len(packets)
    for block, one in zip(blocks, packets, strict=True):
        assert rows[block["href"][1:]]["data-block"] == block["id"]
        assert block["aria-label"].startswith(f"{one.offset:#06x}: ")
        assert f"{one.packet_size} bytes" in block["aria-label"]
    cells = [row for row in read.rows if re.match("0x", row[0])]
    assert [row[0] for row in cells] == [f"{one.offset:#06x}" for one in packets]
    assert [row[1] for row in cells] == [str(one.packet_size) for one in packets]


def test_each_ring_is_one_tab_stop_at_the_first_packet_that_waits():
    report = mixed_report()
    read = PageReader("".join(report_to_html(report)))
    stops = {
        known["id"]: known for tag, known in read.elements if tag == "a" and known.get("tabindex") == "0"
    }
    for number, ring in enumerate(report.rings):
        mine = [known for name, known in stops.items() if name.startswith(f"r{number}b")]
        first = next(iter([*ring.packets, *ring.consumed]), None)
        assert [one["aria-label"].split(":")[0] for one in mine] == [f"{first.offset:#06x}" for _ in mine[:1]]
        assert len(mine) == (first is not None)


def test_a_row_opens_to_header_payload_ranges_and_footer():
    header = gpa_header(gpa_range(5000, 0x123, 0x77, 2**52 - 1))
    image = ring_image(
        [packet(0, b"payload!", kind=GPA_DIRECT, header=header, flags=1, transaction_id=0xABCD)], pending=64
    )
    words = PageReader(page_of(look(image))).words
    assert "5000 bytes from 0x123 on in the guest's pages 0x77, 0xfffffffffffff" in words
    assert "completion-requested" in words
    assert "0xabcd" in words
    assert "footernames 0x0: this packet" in words
    assert " 00000010  00 00 00 00 01 00 00 00" in words  # the header, behind the descriptor
    assert " 00000030  70 61 79 6c 6f 61 64 21                           |payload!|" in words


def test_findings_stand_in_the_list_and_at_their_packet_and_lead_to_each_other():
    ring = broken_ring()
    read = assert_is_a_page_of_its_own(page_of(ring))
    assert [finding.check for finding in ring.findings] == ["descriptor-length"] * 2
    for number, finding in enumerate(ring.findings):
        assert f"r0f{number}" in read.ids
        assert read.links.count(f"#r0f{number}") == 1
        assert read.words.count(finding.message) == 2
    broken = [row for row in read.rows if "broken: descriptor-length" in row[-1]]
    assert [row[0] for row in broken] == ["0x0fd8", "0x0ff8"]
    for row, finding in zip(broken, ring.findings, strict=True):
        assert f"error descriptor-length {finding.message} in the list" in row[-1]


def test_findings_of_the_control_page_are_listed_with_its_words():
    words = PageReader(page_of(look(control_page(5, 0, mask=7, others={9: 3}) + bytes(4096)))).words
    assert "in is 0x0005" in words
    assert "(control page)" in words
    assert "word 90x3no implementation is known to use it" in words
    assert "there is no telling: an index is out of range" in words


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (ring_image([packet(0)]), "the reader may be owed a signal"),
        (ring_image([packet(0)], mask=1), "nobody is owed a signal"),
        (control_page(8, 8, pending=64) + bytes(4096), "the writer may be owed a signal"),
        (bytes(8192), "nobody is owed a signal"),
    ],
)
def test_the_page_says_who_may_be_owed_a_signal(image, said):
    words = PageReader(page_of(look(image))).words
    for one in (
        "the reader may be owed a signal",
        "the writer may be owed a signal",
        "nobody is owed a signal",
    ):
        assert (one in words) == (one == said)


def test_a_standing_request_for_room_is_no_signal_that_is_owed():
    """Linux's hvsock asks for 4120 bytes once and for all."""
    words = PageReader(page_of(look(control_page(8, 8, pending=4120) + bytes(16384)))).words
    assert "may be owed a signal" not in words
    assert "none is owed to the writer: it asks for room for good, and has it" in words


def test_the_page_says_whose_ring_it_is_where_its_pages_lie_and_which_bytes_are_not_there():
    read = assert_is_a_page_of_its_own(page_of(ring_with_a_hole()))
    assert "Ring at 0x5000 of network <nic>" in read.words
    assert "network <nic>, class f8615163-df3e-46c5-913f-f2d2f965ed0e, channel 14" in read.words
    assert "0x9000, 0x17000, 8192 bytes" in read.words
    assert "0x1088: not in the image, 3960 bytes" in [known.get("data-told") for _, known in read.elements]
    (row,) = [row for row in read.rows if row[0] == "0x0fe0"]
    assert "broken: missing-memory" in row[-1]
    assert "address 0x17000 is not in the image" in row[-1]


def test_in_the_list_of_rings_a_word_comes_before_those_that_something_is_wrong_with():
    sound, corrupt = look(ring_image([packet(0, b"payload!")])), look(ring_image([packet(0, kind=99)]))
    error = Finding("index-range", Severity.ERROR, None, "by hand")
    doubted = sound._replace(findings=[error])
    noted = sound._replace(findings=[error._replace(severity=Severity.NOTE)])
    page = "".join(report_to_html(report_of(sound, corrupt, doubted, noted)))
    listed = re.findall(r"<li([^>]*)>(<b>[a-z]+</b> )?<a href=\"#r\d\">", page)
    assert listed == [
        ("", ""),
        (' class="error"', "<b>corrupt</b> "),
        (' class="error"', "<b>errors</b> "),
        ("", ""),
    ]


def test_words_in_the_head_of_a_row_are_never_broken():
    assert re.findall(r"^ *([^{}\n]*?) *{[^}]*overflow-wrap: anywhere", STYLE, re.MULTILINE) == [
        ".control td"
    ]
    assert re.search(r"^th {[^}]*overflow-wrap: normal", STYLE, re.MULTILINE)


def test_the_two_rings_of_a_pair_name_each_other():
    read = PageReader("".join(report_to_html(inspect_dump(open_dump(sample_path())))))
    assert "with the inbound ring at 0x2000" in read.words
    assert "with the outbound ring at 0x0" in read.words
    assert read.links.count("#r0") == read.links.count("#r1") == 2


# -- large reports -------------------------------------------------------------------------------


def test_rows_beyond_the_cap_are_counted_with_the_options_that_show_them():
    ring = look(ring_image([packet(24 * number) for number in range(30)], size=4096))
    read = assert_is_a_page_of_its_own(page_of(ring, most_rows=12))
    rows = [row for row in read.rows if row[0].startswith("0x")]
    assert [row[0] for row in rows] == [f"{24 * number:#06x}" for number in range(12)]
    assert "18 more packets have no row here: --type, --transaction and --limit choose others" in read.words
    assert read.links.count("#r0waiting-left-out") == 18


def test_of_what_was_read_already_the_newest_have_rows():
    (ring,) = inspect_dump(sample_dump("ring-5-pages"), selection=HISTORY).rings
    read = assert_is_a_page_of_its_own(page_of(ring, most_rows=10))
    rows = [row[0] for row in read.rows if row[0].startswith("0x")]
    wanted = [*ring.consumed[-10:], *ring.packets]
    assert rows == [f"{one.offset:#06x}" for one in wanted]
    assert f"{len(ring.consumed) - 10} older packets have no row here" in read.words
    blocks = [known["href"] for tag, known in read.elements if known.get("class") == "block"]
    assert len(blocks) == len(ring.consumed) + len(ring.packets)


def test_a_block_of_several_packets_leads_to_the_first_and_each_row_back_to_it():
    read = assert_is_a_page_of_its_own(page_of(crowded_ring()))
    blocks = {known["id"]: known for _, known in read.elements if known.get("class") == "block"}
    rows = [known for tag, known in read.elements if tag == "tr" and "data-block" in known]
    assert len(rows) == 1000
    assert {row["data-block"] for row in rows} == set(blocks)
    first = {}
    for row in rows:
        first.setdefault(row["data-block"], row["id"])
    assert {name: known["href"][1:] for name, known in blocks.items()} == first
    assert "There are too many packets to draw each" in read.words


def test_bytes_beyond_the_cap_of_a_packet_or_a_ring_are_counted():
    large = [packet(0, bytes(range(256)) * 32)]
    words = PageReader(page_of(look(ring_image(large, size=16384)))).words
    assert "8192 bytes, 4096 of them shown" in words
    shown = 16 * words.count("|................|")
    assert 0 < shown < 4096
    many = [packet(at, bytes(range(256)) * 16) for at in range(0, 4120 * 300, 4120)]
    page = page_of(look(ring_image(many, size=2 << 20)))
    assert "4096 bytes, 0 of them shown" in page
    assert len(page) < 8 << 20


def test_many_rings_share_what_a_page_can_hold():
    busy = crowded_ring()
    alone = PageReader(page_of(busy))
    assert sum(row[0].startswith("0x") for row in alone.rows) == 1000
    report = report_of(*[look(bytes(8192))] * 149, busy)
    read = assert_is_a_page_of_its_own("".join(report_to_html(report)))
    assert sum(row[0].startswith("0x") for row in read.rows) == 200
    assert "800 more packets have no row here" in read.words


def test_pieces_come_one_by_one():
    rings = [look(ring_image([packet(24 * number, kind=COMPLETION) for number in range(100)]))]
    pieces = [*report_to_html(report_of(*rings))]
    page = "".join(pieces)
    assert len(pieces) > 200
    assert max(map(len, pieces)) < len(page) / 3
