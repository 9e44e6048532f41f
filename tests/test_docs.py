"""What the documentation says of the code is true of it: names, error messages, examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import rmtdeq

ROOT = Path(rmtdeq.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
PUBLIC = ("rmtdeq", *(f"rmtdeq.{room}" for room in ("data", "equivalents", "kernels", "designs", "spectra", "curves")))
NEED_TORCH = ("rmtdeq.training", "rmtdeq.models", "rmtdeq.models.pcdeq")
GAP = "…"


def modules_with_examples() -> list[str]:
    """Return the dotted names of the modules whose docstrings hold examples."""
    files = (path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8"))
    return [".".join(("rmtdeq", *path.relative_to(ROOT).with_suffix("").parts)) for path in files]


def listed() -> list[str]:
    """Return the names of the reference, in full."""
    module, names, inside = "", [], False
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif line.startswith(".. py:data:: "):
            names.append(f"{module}.{line.split()[-1]}")
            inside = False
        elif line and not line.startswith(" "):
            inside = line.startswith(".. autosummary::")
        elif inside and line.strip() and not line.strip().startswith(":"):
            names.append(f"{module}.{line.strip()}")
    return names


def resolved(name: str) -> object:
    """Return the object of a name of the reference."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise LookupError(name)


@cache
def messages() -> list[tuple[str, str]]:
    """Return all that the package raises or warns of: the exception's name, and the text with a gap for what varies."""
    found = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = ast.unparse(node.func).split(".")[-1]
            if called.endswith("Error"):
                found.append((called, _text(node.args[0])))
            elif ast.unparse(node.func) == "logger.warning":
                found.append(("warning", re.sub(r"%[sd]", GAP, _text(node.args[0]))))
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else GAP


def quoted() -> list[tuple[str, str]]:
    """Return the messages that the page on errors quotes, and as what it says that they are raised."""
    rows = re.findall(r"^\| `([^`]+)` \| `?(\w+)`? \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    return [(message, error) for message, error in rows]


def is_within(quote: str, message: str) -> bool:
    """Whether the pieces of a quotation, between its gaps, are in a message in this order."""
    pieces = [re.escape(piece.strip()) for piece in quote.split(GAP) if piece.strip()]
    return re.search(".*".join(pieces), message, re.S) is not None


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_of_docstrings_give_what_they_show(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("module", PUBLIC + NEED_TORCH)
def test_every_public_name_is_in_the_reference(module):
    names = [name for name in importlib.import_module(module).__all__ if not name.startswith("_")]
    known = {id(resolved(name)) for name in listed()}
    assert [name for name in names if id(getattr(importlib.import_module(module), name)) not in known] == []


def test_the_reference_names_each_thing_once():
    times = Counter(id(resolved(name)) for name in listed())
    assert [name for name in listed() if times[id(resolved(name))] > 1] == []


@pytest.mark.parametrize(("message", "error"), quoted())
def test_quoted_messages_are_raised_as_quoted(message, error):
    assert any(is_within(message, text) for name, text in messages() if name == error)


def test_quotations_are_told_from_other_texts():
    assert len(quoted()) > 30
    assert is_within("holds … values; … first", "x holds 3 values; remove first")
    assert not is_within("holds … values", "values it holds")


def test_tutorials_are_in_order_and_complete():
    order = (DOCS / "_extensions" / "order.py").read_text(encoding="utf-8")
    named = ast.literal_eval(order.partition("ORDER = ")[2].partition("\n")[0])
    assert sorted(named) == sorted(path.stem for path in (DOCS / "tutorials").glob("*.py"))


def test_a_broken_site_is_found_broken(tmp_path):
    spec = importlib.util.spec_from_file_location("whole_site", DOCS / "_extensions" / "whole_site.py")
    whole_site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(whole_site)
    page = '<p id="here"><a href="b.html#there">b</a><a href="#here">up</a><a href="https://example.org">out</a></p>'
    (tmp_path / "a.html").write_text(page + '<img src="p.png"><script src="data:,"></script>')
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "s.css").write_text('@import "other.css"; a { background: url("data:,") }')
    assert whole_site.faults(tmp_path) == []
    (tmp_path / "p.png").unlink()
    (tmp_path / "b.html").write_text('<h1>b</h1><script src="https://example.org/x.js"></script><a href="c.html">c</a>')
    (tmp_path / "s.css").write_text('@font-face { src: url("//example.org/f.woff2") }')
    found = " ".join(whole_site.faults(tmp_path))
    assert len(whole_site.faults(tmp_path)) == 5
    assert all(part in found for part in ("p.png", "no such anchor", "x.js from elsewhere", "c.html", "f.woff2"))
