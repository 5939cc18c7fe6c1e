"""The page around an HTML report: its head, its style, its script, and how text gets into it.

The page needs nothing but itself: no network, no font, no picture.  Its content security policy allows
its one style sheet and its one script, by their hashes, and nothing else at all, so that no byte of a
dump can become either.  Colours follow the reader's choice of light or dark; what a colour says is also
said by a pattern or a word.

Keys, in a picture (one Tab stop each): arrows go from packet to packet as a reader would, Home and End to
the first and the last, Enter to the packet's row; Escape goes back from there.

Sources: W3C Content Security Policy 3; WAI-ARIA Authoring Practices, roving tabindex; WCAG 2.1, 1.4.3
and 1.4.11 (contrast 4.5 for text, 3 for parts of a picture).
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

__all__ = ["PATTERNS", "SCRIPT", "STYLE", "html_text", "page_end", "page_start"]

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f3f5f7; --text: #1c2126; --quiet: #57616c; --line: #7b8590; --rule: #d5dae0;
  --link: #0757b0; --mark: #fff1c2; --error: #b3261e; --warning: #8a5200;
  --waiting: #0b6bcb; --broken: #c22f14; --consumed: #6c7784; --doubtful: #7d6a4a; --unlisted: #3d86c6;
  --unknown: #7a7f86; --missing: #8f6b00; --ink: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181c; --raised: #1f2429; --text: #e5e8ec; --quiet: #a3adb8; --line: #77818c; --rule: #343b43;
    --link: #79b8ff; --mark: #4a3f14; --error: #ff8a80; --warning: #f0b35a;
    --waiting: #4fa3f7; --broken: #ff7a5c; --consumed: #8d98a5; --doubtful: #b39b6d; --unlisted: #4d87b8;
    --unknown: #868c94; --missing: #c9a227; --ink: #15181c;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
a { color: var(--link); }
.verdict { font-weight: 600; margin: .25rem 0; }
.quiet, .facts dt { color: var(--quiet); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
.facts dd { margin: 0; min-width: 0; }
code, pre, .number, .told, svg text { font-family: ui-monospace, Menlo, Consolas, monospace; }
code, .number { font-size: .875rem; }
.number { text-align: right; }
.number, .word { white-space: nowrap; }
table { border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th { text-align: left; font-weight: 600; color: var(--quiet); overflow-wrap: normal; }
th.number { font-family: inherit; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--rule); vertical-align: top; }
.packets { width: 100%; margin-top: 1rem; }
.packets td:last-child { width: 100%; max-width: 0; }
.packets td[colspan] { max-width: none; }
tr, li, .block, .ring { scroll-margin: 2rem; }
tr.pointed td, tr:focus td, tr:target td, li:target { background: var(--mark); }
tr:focus { outline: 2px solid var(--link); outline-offset: -2px; }
summary { cursor: pointer; }
pre { font-size: .8125rem; line-height: 1.4; margin: .25rem 0 .75rem; padding: .5rem; overflow-x: auto;
  background: var(--raised); }
.findings { margin: .25rem 0; padding-left: 1.25rem; }
.error b { color: var(--error); }
.warning b { color: var(--warning); }
.patterns { position: absolute; }
.band { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; padding-right: .75rem;
  forced-color-adjust: none; background: var(--ground); color: var(--text); }
.band svg { display: block; overflow: visible; }
.band .area { width: 100%; min-width: 0; }
svg text { font-size: 12px; fill: var(--text); }
.offsets text { fill: var(--quiet); }
.part { stroke: var(--ground); stroke-width: 1; }
.free { fill: var(--ground); }
.unknown { fill: url(#pattern-unknown); }
.consumed { fill: url(#pattern-consumed); }
.doubtful { fill: url(#pattern-doubtful); }
.unlisted { fill: url(#pattern-unlisted); }
.waiting { fill: var(--waiting); }
.missing { fill: url(#pattern-missing); }
.broken { fill: url(#pattern-broken); }
.on-unknown { fill: var(--unknown); }
.on-consumed { fill: var(--consumed); }
.on-doubtful { fill: var(--doubtful); }
.on-unlisted { fill: var(--unlisted); }
.on-missing { fill: var(--missing); }
.on-broken { fill: var(--broken); }
.ink { stroke: var(--ink); stroke-width: 1.5; fill: none; }
.frame, .wrap { fill: none; stroke: var(--line); stroke-width: 1; pointer-events: none; }
.wrap { stroke-width: 2; }
.mark path { fill: var(--text); }
.block { cursor: pointer; outline: none; }
.block:focus .part, .block.pointed .part, .block:target .part { stroke: var(--text); stroke-width: 4; }
.told { min-height: 1.5em; margin: .5rem 0; font-size: .875rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .5rem 0; padding: 0;
  font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.legend svg { flex: none; }
@media (max-width: 44rem) {
  .packets thead { position: absolute; clip-path: inset(50%); }
  .band { gap: 0 .6rem; }
  .packets, .packets tbody, .packets caption { display: block; }
  .packets tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--rule); padding: .3rem 0; }
  .packets td { border: 0; padding: 0 .5rem; }
  .packets td:last-child { flex-basis: 100%; min-width: 0; max-width: 100%; }
  .packets td[data-name]::before { content: attr(data-name) " "; color: var(--quiet); }
  .control thead { position: absolute; clip-path: inset(50%); }
  .control th, .control td { padding: .2rem .3rem; }
  .control td { overflow-wrap: anywhere; }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; --raised: #f3f5f7; --text: #000000; --quiet: #444444;
    --line: #666666; --rule: #bbbbbb; --link: #000000; --mark: #ffffff; --error: #000000; --warning: #000000;
    --waiting: #0b6bcb; --broken: #c22f14; --consumed: #6c7784; --doubtful: #7d6a4a; --unlisted: #3d86c6;
    --unknown: #7a7f86; --missing: #8f6b00; --ink: #ffffff; }
  body { max-width: none; font-size: 11pt; }
  .band, .legend { print-color-adjust: exact; -webkit-print-color-adjust: exact; break-inside: avoid; }
  tr, li { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  .told, .keys { display: none; }
}
"""

#: Fillings that can be told apart without colour; the style sheet names them.
PATTERNS = """\
<svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false"><defs>
<pattern id="pattern-consumed" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-consumed" width="8" height="8"/><path class="ink" d="M-2 2l4 -4M0 8l8 -8M6 10l4 -4"/></pattern>
<pattern id="pattern-doubtful" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-doubtful" width="8" height="8"/><path class="ink" d="M0 2h4M4 6h4"/></pattern>
<pattern id="pattern-unlisted" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-unlisted" width="8" height="8"/><path class="ink" d="M3 4h2M7 0h2M-1 0h2M7 8h2M-1 8h2"/></pattern>
<pattern id="pattern-broken" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-broken" width="8" height="8"/><path class="ink" d="M0 0l8 8M0 8l8 -8"/></pattern>
<pattern id="pattern-missing" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-missing" width="8" height="8"/><path class="ink" d="M2 2h4v4h-4z"/></pattern>
<pattern id="pattern-unknown" width="8" height="8" patternUnits="userSpaceOnUse">\
<rect class="on-unknown" width="8" height="8"/><path class="ink" d="M2 0v8"/></pattern>
</defs></svg>
"""

SCRIPT = """
"use strict";
for (const ring of document.querySelectorAll(".ring")) watch(ring);

function watch(ring) {
  const picture = ring.querySelector(".picture");
  const told = ring.querySelector(".told");
  const blocks = [...picture.querySelectorAll("a.block")];
  const rows = new Map(blocks.map((block) => [block.id, []]));
  for (const row of ring.querySelectorAll("tr[data-block]")) rows.get(row.dataset.block).push(row);
  let pointed = [];

  function point(block, only) {
    for (const one of pointed) one.classList.remove("pointed");
    pointed = block ? [block, ...(only ? [only] : rows.get(block.id))] : [];
    for (const one of pointed) one.classList.add("pointed");
  }
  function tell(what) {
    const text = what ? what.getAttribute("aria-label") || what.dataset.told : "";
    if (told.textContent !== text) told.textContent = text;
  }
  function back() {
    const block = picture.contains(document.activeElement) ? document.activeElement.closest("a.block") : null;
    point(block);
    tell(block);
  }
  function enter(block) {
    for (const one of blocks) one.setAttribute("tabindex", one === block ? "0" : "-1");
    point(block);
    tell(block);
  }
  function blockOf(element) {
    const row = element.closest("tr[data-block]");
    return row && document.getElementById(row.dataset.block);
  }

  picture.addEventListener("pointerover", (event) => {
    const block = event.target.closest("a.block");
    if (block) point(block); else back();
    const what = block || event.target.closest("[data-told]");
    if (what) tell(what);
  });
  picture.addEventListener("pointerleave", back);
  picture.addEventListener("focusin", (event) => {
    const block = event.target.closest("a.block");
    if (block) enter(block);
  });
  picture.addEventListener("focusout", back);
  picture.addEventListener("click", (event) => {
    const block = event.target.closest("a.block");
    if (!block) return;
    const row = document.getElementById(block.getAttribute("href").slice(1));
    enter(block);
    setTimeout(() => row.focus(), 0);
  });
  picture.addEventListener("keydown", (event) => {
    const at = blocks.indexOf(event.target.closest("a.block"));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const last = blocks.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last };
    if (!Object.hasOwn(to, event.key)) return;
    event.preventDefault();
    blocks[Math.min(Math.max(to[event.key], 0), last)].focus();
  });
  ring.addEventListener("keydown", (event) => {
    const block = event.key === "Escape" && blockOf(event.target);
    if (block) block.focus();
  });
  ring.addEventListener("click", (event) => {
    const link = event.target.closest("tr[data-block] a.to-block");
    const block = link && blockOf(link);
    if (block) setTimeout(() => block.focus(), 0);
  });
  for (const table of ring.querySelectorAll(".packets")) {
    table.addEventListener("pointerover", (event) => point(blockOf(event.target), event.target.closest("tr")));
    table.addEventListener("pointerleave", back);
  }
}
"""


def html_text(text: str) -> str:
    r"""`text` as it can stand in HTML, in an element or in a quoted attribute.

    What is not printable is escaped as in Python: file names may hold anything.

    >>> print(html_text("<script>'\x1b"))
    &lt;script&gt;&#x27;\x1b
    """
    printable = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return escape(printable)


def content_hash(text: str) -> str:
    """How a content security policy names the one text that it allows."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def page_start(title: str) -> str:
    """Everything before the report."""
    policy = (
        f"default-src 'none'; style-src {content_hash(STYLE)}; script-src {content_hash(SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{PATTERNS}"
    )


def page_end() -> str:
    """Everything after it."""
    return f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
