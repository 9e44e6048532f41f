"""The page: its look, and the HTML of texts, tables and figures."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from html import escape
from io import BytesIO
from string import Template
from typing import Any

import numpy as np

from rmtdeq._lib.tables import Table

_MOST_ROWS = 60
_DPI = 150

# The policy keeps even a damaged file from asking the network for anything.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="rmtdeq">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0; --page: #fff;
  --shade: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --soft: #9aa4ae; --line: #3a424b; --page: #14181d; --shade: #1d232a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.2rem 1.5rem 3rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p { margin: .5rem 0; overflow-wrap: anywhere; }
.made, .notes { color: var(--soft); font-size: .9rem; }
pre { margin: .5rem 0; padding: .7rem .9rem; background: var(--shade); border: 1px solid var(--line);
  border-radius: 6px; font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.wide td { white-space: nowrap; }
table { border-collapse: collapse; margin: .7rem 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; font-weight: 600; overflow-wrap: anywhere; }
th, td { padding: .28rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { font-weight: 600; }
thead th { vertical-align: bottom; border-bottom-width: 2px; }
th:first-child, td:first-child, .facts td { text-align: left; }
.facts td { overflow-wrap: anywhere; }
.facts th { font-weight: 400; color: var(--soft); }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; padding: .4rem; }
@media print {
  :root { color-scheme: light; --text: #000; --soft: #444; --line: #bbb; --page: #fff; --shade: #f4f4f4; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .wide { overflow: visible; }
  table, .made, .notes { font-size: 8.5pt; }
  th, td { padding: .15rem .45rem; }
  figure, .wide, tr, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
}
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="made">$made</p>
</header>
<main>
$body
</main>
</body>
</html>
""")


def page(title: str, made: str, sections: Iterable[str]) -> str:
    """Return the page of a title, a line below it and HTML sections."""
    return _PAGE.substitute(title=escape(title), made=escape(made), body="\n".join(sections))


def section(heading: str, parts: Iterable[str]) -> str:
    """Return a section of HTML parts, under a heading if it is not empty."""
    top = [f"<h2>{escape(heading)}</h2>"] if heading else []
    return "\n".join(["<section>", *top, *parts, "</section>"])


def paragraph(text: str, name: str = "") -> str:
    """Return a paragraph, of a class of the style sheet."""
    return f'<p class="{name}">{escape(text)}</p>' if name else f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Return a text whose line breaks stay."""
    return f"<pre>{escape(text)}</pre>"


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
    """Return names and values, a row for each."""
    rows = (f'<tr><th scope="row">{escape(name)}</th><td>{_cell(value)}</td></tr>' for name, value in pairs)
    return "\n".join(['<table class="facts"><tbody>', *rows, "</tbody></table>"])


def table(found: Table) -> str:
    """Return a table; of a long one the first and the last rows."""
    rows = [
        f'<tr><th scope="row">{_cell(name)}</th>{"".join(f"<td>{_cell(value)}</td>" for value in values)}</tr>'
        for name, *values in found.shown().rows()
    ]
    notes = list(found.notes)
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        notes.append(f"The first and the last {half} of {len(rows)} rows.")
        gap = f'<tr><th scope="row">…</th>{"<td>…</td>" * len(found.columns)}</tr>'
        rows = [*rows[:half], gap, *rows[-half:]]
    if not rows:
        notes.append(f"No {found.name}.")
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in (found.name, *found.columns))
    caption = f"<caption>{escape(found.title)}</caption>" if found.title else ""
    whole = [
        f'<div class="wide"><table>{caption}<thead><tr>{heads}</tr></thead><tbody>',
        *rows,
        "</tbody></table></div>",
    ]
    return "\n".join([*whole, *(paragraph(note, "notes") for note in notes)])


def image(figure: Any, what: str) -> str:
    """Return a figure of matplotlib as an image within the page."""
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI, metadata={"Software": None})
    data = base64.b64encode(picture.getvalue()).decode("ascii")
    return f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{data}"></figure>'


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(each) for each in value)
    return escape(str(value))
