"""A built site is whole: every link, anchor and picture is there, and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

FOREIGN = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?(//[^"')\s]+)""")
"""What a style sheet loads by an address with a host."""


class Page(HTMLParser):
    """The anchors of a page, the addresses it links to, and the files it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            self.loads.append(given["href"])
        self.loads += [given[name] for name in ("src", "data", "poster") if tag != "a" and given.get(name)]


def faults(site: Path) -> list[str]:
    """Return what is broken in the pages below a folder, one sentence each."""
    written = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts)
    pages = {path.resolve(): Page(path) for path in written}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for address in page.loads + page.links:
            url = urlsplit(address)
            if url.scheme == "data" or (url.scheme and address not in page.loads):
                continue
            if url.scheme or url.netloc:
                found.append(f"{name} loads {address} from elsewhere")
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name} refers to {address}, which is not there")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
                found.append(f"{name} refers to {address}, and there is no such anchor")
    for style in site.rglob("*.css"):
        addresses = FOREIGN.findall(style.read_text(encoding="utf-8"))
        found += [f"{style.name} loads {address} from elsewhere" for address in addresses]
    return found


def _check(app: Any, exception: Exception | None) -> None:
    from sphinx.errors import SphinxError

    if exception is None and app.builder.name == "html" and (broken := faults(Path(app.outdir))):
        raise SphinxError("the site is not whole:\n" + "\n".join(broken))


def setup(app: Any) -> dict[str, Any]:
    """Look at the pages when all are written."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
