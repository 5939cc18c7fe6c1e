"""The page as its reader has it: in a browser, under a pointer and under keys, in the light and in the dark.

Skipped where no Chromium is installed.  One browser and one page serve all; each test finds the page as new.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inspection.browser import NAMES, Browser, Page, find_browser
from tests.inspection.html_reports import crowded_ring, mixed_report, report_of
from vmbus.inspection import PacketReport, Report, RingReport, report_to_html

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason=f"no browser: none of {', '.join(NAMES)} is on PATH"
)

TEXT_CONTRAST, PART_CONTRAST = 4.5, 3.0

#: Below this a ring has its packets in blocks of their own.
FEW = 200


class Shown:
    """A report, and the page that shows it."""

    def __init__(self, page: Page, report: Report, html: str, path: Path) -> None:
        path.write_text(html, encoding="utf-8")
        self.page = page
        self.report = report
        self.url = path.as_uri()
        page.open(self.url)

    def find(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def in_focus(self) -> str:
        """The id of what has the focus."""
        return self.find("document.activeElement.id")

    def told(self, ring: int) -> str:
        return self.find(f"document.querySelector('#r{ring} .told').textContent")

    def highlighted(self, ring: int) -> list[str]:
        """The offsets of the rows that are highlighted, as the table has them."""
        return self.find(
            f"[...document.querySelectorAll('#r{ring} tr.pointed')].map((row) => row.cells[0].innerText)"
        )

    def middles(self, ring: int, block: int) -> list[tuple[float, float]]:
        """The middle of each part of a block, which is in the window then."""
        return self.find(
            f"""(() => {{
              const parts = [...document.querySelectorAll("#r{ring}b{block} .part")];
              parts[0].closest("svg.area").scrollIntoView({{ block: "center" }});
              return parts.map((part) => part.getBoundingClientRect()).map(
                (box) => [box.x + box.width / 2, box.y + box.height / 2]);
            }})()"""
        )


@pytest.fixture(scope="module")
def only_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = find_browser()
    assert program is not None
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    try:
        yield browser.open_page()
    finally:
        browser.close()


@pytest.fixture
def page(only_page: Page) -> Iterator[Page]:
    """A page as good as new; whatever was done with it, it asked for nothing but itself and nothing complained."""
    only_page.forget()
    yield only_page
    assert only_page.complaints() == []
    assert {address.partition("#")[0].rpartition("/")[2] for address in only_page.requests()} <= {
        "report.html"
    }
    assert all(address.startswith("file:///") for address in only_page.requests())


@pytest.fixture(scope="module")
def mixed_page() -> tuple[Report, str]:
    report = mixed_report()
    return report, "".join(report_to_html(report))


@pytest.fixture
def mixed(page: Page, mixed_page: tuple[Report, str], tmp_path: Path) -> Shown:
    return Shown(page, *mixed_page, tmp_path / "report.html")


def packets_of(ring: RingReport) -> list[PacketReport]:
    return [*ring.consumed, *ring.packets]


def offset_of(packet: PacketReport) -> str:
    return f"{packet.offset:#06x}"


# -- nothing leaves, nothing fails -----------------------------------------------------------------


def test_opening_a_page_asks_for_the_file_alone_and_nothing_complains(mixed):
    assert mixed.page.requests() == [mixed.url]
    assert mixed.page.complaints() == []
    assert mixed.find("document.title").startswith("Rings in <script>")


def test_what_a_page_may_not_do_is_noticed_here(only_page, mixed_page, tmp_path):
    """The watch of this file sees a picture from elsewhere, a script from elsewhere, and one that fails."""
    page = only_page
    page.forget()
    path = tmp_path / "report.html"
    path.write_text("<img src='http://192.0.2.1/x.png'><script>throw new Error('planted')</script>")
    page.open(path.as_uri())
    assert "http://192.0.2.1/x.png" in page.requests()
    assert any("planted" in complaint for complaint in page.complaints())
    intruder = "<script>document.title = 'gone'</script></body>"
    path.write_text(mixed_page[1].replace("</body>", intruder), encoding="utf-8")
    page.open(path.as_uri())
    assert page.evaluate("document.title") != "gone"
    assert any("Content Security Policy" in complaint for complaint in page.complaints())


# -- the pointer -----------------------------------------------------------------------------------


def test_the_packet_under_the_pointer_is_the_one_that_the_table_shows(mixed):
    over_the_end = 0
    for ring_number, ring in enumerate(mixed.report.rings):
        blocks = mixed.find(
            f"""[...document.querySelectorAll("#r{ring_number} a.block")].map(
              (one) => [one.id, one.querySelectorAll(".part").length])"""
        )
        packets = packets_of(ring)
        assert len(blocks) == len(packets) < FEW
        for number, ((name, parts), packet) in enumerate(zip(blocks, packets, strict=True)):
            if parts == 1 and number % (1 + len(packets) // 12):
                continue  # some of many do
            over_the_end += parts > 1
            for x, y in mixed.middles(ring_number, int(name.partition("b")[2])):
                mixed.page.point(x, y)
                assert mixed.highlighted(ring_number) == [offset_of(packet)]
                told = mixed.told(ring_number)
                assert told.startswith(f"{offset_of(packet)}: ")
                size = packet.packet_size
                assert ("length not known" if size is None else f", {size} bytes") in told
    assert over_the_end >= 2


def test_a_gap_under_the_pointer_is_told_and_no_row_is_highlighted(mixed):
    (x, y) = mixed.find(
        """(() => {
          const gap = document.querySelector("#r0 .free");
          gap.scrollIntoView({ block: "center" });
          const box = gap.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        })()"""
    )
    mixed.page.point(x, y)
    ring = mixed.report.rings[0]
    assert mixed.told(0).startswith(f"{ring.control.in_offset:#06x}: free")
    assert mixed.highlighted(0) == []


def test_a_click_goes_to_the_row_and_the_row_leads_back(mixed):
    ring = mixed.report.rings[0]
    packets = packets_of(ring)
    names = mixed.find("[...document.querySelectorAll('#r0 a.block')].map((one) => one.id)")
    for name, packet in zip(names, packets, strict=True):
        x, y = mixed.middles(0, int(name.partition("b")[2]))[0]
        mixed.page.point(x, y)
        mixed.page.click(x, y)
        row = mixed.in_focus()
        assert mixed.find(f"document.getElementById('{row}').cells[0].innerText") == offset_of(packet)
        box = mixed.find(
            f"(({{ top, bottom }}) => [top, bottom])(document.getElementById('{row}').getBoundingClientRect())"
        )
        assert 0 <= box[0] <= box[1] <= mixed.find("innerHeight")
        mixed.find(f"document.querySelector('#{row} a.to-block').click()")
        mixed.page.settle()
        assert mixed.in_focus() == name


# -- the keys --------------------------------------------------------------------------------------


def test_tab_stops_once_in_a_picture_and_arrows_go_from_packet_to_packet(mixed):
    ring_number = 2  # one with packets over its end
    ring = mixed.report.rings[ring_number]
    packets = packets_of(ring)
    assert len(packets) > 20
    mixed.find("document.querySelector('nav li:last-child a').focus()")
    stops = []
    while len(stops) <= ring_number:
        mixed.page.press("Tab")
        if mixed.find("document.activeElement.matches('a.block')"):
            stops.append(mixed.in_focus())
    assert [name.partition("b")[0] for name in stops] == ["r0", "r1", "r2"]
    assert mixed.told(ring_number).startswith(f"{offset_of(ring.packets[0])}: ")

    def focused() -> str:
        """The offset of the block in focus, as the table, the label and the line of what is told have it."""
        label = mixed.find("document.activeElement.getAttribute('aria-label')")
        assert label == mixed.told(ring_number)
        (highlighted,) = mixed.highlighted(ring_number)
        assert label.startswith(f"{highlighted}: ")
        return highlighted

    at = len(ring.consumed)
    for packet in packets[at:][:8]:
        assert focused() == offset_of(packet)
        mixed.page.press("ArrowRight")
    mixed.page.press("Home")
    assert focused() == offset_of(packets[0])
    mixed.page.press("ArrowLeft")
    assert focused() == offset_of(packets[0])
    mixed.page.press("ArrowDown")
    assert focused() == offset_of(packets[1])
    mixed.page.press("ArrowUp")
    assert focused() == offset_of(packets[0])
    mixed.page.press("End")
    assert focused() == offset_of(packets[-1])
    mixed.page.press("ArrowRight")
    assert focused() == offset_of(packets[-1])

    mixed.page.press("Tab")
    assert not mixed.find("document.activeElement.matches('a.block')")


def test_every_packet_is_reached_by_arrows_alone_in_the_order_of_reading(mixed):
    ring = mixed.report.rings[0]
    mixed.find("document.querySelector('#r0 a.block[tabindex=\"0\"]').focus()")
    mixed.page.press("Home")
    seen = []
    for _ in packets_of(ring):
        seen.append(mixed.told(0).partition(":")[0])
        mixed.page.press("ArrowRight")
    assert seen == [offset_of(packet) for packet in packets_of(ring)]


def test_enter_goes_to_the_row_and_escape_back_to_the_block(mixed):
    for ring_number, ring in enumerate(mixed.report.rings):
        if not ring.packets:
            continue
        mixed.find(f"document.querySelector('#r{ring_number} a.block[tabindex=\"0\"]').focus()")
        block = mixed.in_focus()
        mixed.page.press("Enter")
        assert mixed.find("document.activeElement.cells[0].innerText") == offset_of(ring.packets[0])
        mixed.page.press("Escape")
        assert mixed.in_focus() == block


def test_a_block_of_many_packets_highlights_all_their_rows_and_one_without_a_row_says_so(page, tmp_path):
    ring = crowded_ring()
    html = "".join(report_to_html(report_of(ring), most_rows=500))
    shown = Shown(page, report_of(ring), html, tmp_path / "report.html")
    shown.find("document.querySelector('a.block').focus()")
    several = shown.highlighted(0)
    assert several == [offset_of(packet) for packet in ring.packets[: len(several)]]
    assert len(several) > 1
    assert shown.told(0).startswith(f"{several[0]}: {len(several)} packets")
    page.press("End")
    page.press("Enter")
    assert "500 more packets have no row here" in shown.find("document.activeElement.innerText")


# -- to be seen ------------------------------------------------------------------------------------

#: Every colour of text and its ground, of every part of a picture and its ground, each pair once.
COLOURS = """(() => {
  const clear = "rgba(0, 0, 0, 0)";
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (colour !== clear) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  const add = (what, colour, element) => { found[what + " " + colour + " on " + ground(element)] = 1; };
  for (const details of document.querySelectorAll("details")) details.open = true;
  document.querySelector("tr[data-block]").classList.add("pointed");
  for (const element of document.body.querySelectorAll("*")) {
    if (element.matches("script")) continue;
    const style = getComputedStyle(element);
    const has = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (has && style.display !== "none") add("text", element.closest("svg") ? style.fill : style.color, element);
  }
  const body = document.body;
  for (const part of document.querySelectorAll(".on-unknown, .on-consumed, .on-doubtful, .on-unlisted, .on-broken, .on-missing"))
    add("part", getComputedStyle(part).fill, body);
  for (const part of document.querySelectorAll(".part.waiting, .mark path")) add("part", getComputedStyle(part).fill, body);
  for (const part of document.querySelectorAll(".frame, .wrap")) add("part", getComputedStyle(part).stroke, body);
  document.querySelector("a.block").classList.add("pointed");
  add("part", getComputedStyle(document.querySelector("a.block .part")).stroke, body);
  return Object.keys(found);
})()"""


def luminance(colour: str) -> float:
    numbers = [int(number) / 255 for number in re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour).groups()]  # type: ignore[union-attr]
    red, green, blue = (
        number / 12.92 if number <= 0.04045 else ((number + 0.055) / 1.055) ** 2.4 for number in numbers
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_has_the_largest_contrast_there_is():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("medium", "scheme"), [("screen", "light"), ("screen", "dark"), ("print", "dark")])
def test_text_and_the_parts_of_pictures_stand_out_from_what_is_behind_them(mixed, medium, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    mixed.page.call("Emulation.setEmulatedMedia", media=medium, features=features)
    found = [one.split(" ", 1) for one in mixed.find(COLOURS)]
    assert {what for what, _ in found} == {"text", "part"}
    assert sum(what == "part" for what, _ in found) >= 7
    dark = luminance(mixed.find("getComputedStyle(document.body).backgroundColor")) < 0.1
    assert dark == (medium == "screen" and scheme == "dark")
    for what, colours in found:
        least = TEXT_CONTRAST if what == "text" else PART_CONTRAST
        assert contrast(*colours.split(" on ")) >= least, (what, colours)


def test_a_page_fits_into_the_window_sideways_and_every_block_can_be_pointed_at(mixed):
    mixed.find("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width in (320, 390, 800, 1600):
        mixed.page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        assert mixed.find("document.documentElement.scrollWidth") <= width
        narrowest = mixed.find(
            """Math.min(...[...document.querySelectorAll("a.block .part")].map(
              (one) => one.getBoundingClientRect().width))"""
        )
        assert narrowest >= 3


def test_kinds_of_parts_differ_in_more_than_their_colour(mixed):
    """Each is filled with a pattern of its own, or with none."""
    fills = mixed.find(
        """Object.fromEntries([...document.querySelectorAll(".legend .part")].map(
          (part) => [part.classList[1], getComputedStyle(part).fill]))"""
    )
    kinds = {"waiting", "broken", "unlisted", "consumed", "doubtful", "free", "unknown", "missing"}
    assert fills.keys() == kinds
    patterned = {kind: fill for kind, fill in fills.items() if "url(" in fill}
    assert kinds - patterned.keys() == {"waiting", "free"}
    drawn = {
        mixed.find(f"document.querySelector('#pattern-{kind} path').getAttribute('d')") for kind in patterned
    }
    assert len(drawn) == len(patterned)
    assert mixed.find("[...document.querySelectorAll('.legend li')].every((one) => one.innerText.trim())")
