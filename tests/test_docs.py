"""What the documentation says of the code is true of it: names, error messages, examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import shlex
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import rmtdeq
from rmtdeq.cli import main
from rmtdeq.papers import find

ROOT = Path(rmtdeq.__file__).parent
REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("*.rst")])
PUBLIC = (
    "rmtdeq",
    *(
        f"rmtdeq.{room}"
        for room in ("data", "theory", "kernels", "designs", "spectra", "stability", "curves", "learning")
    ),
)
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
    """Return the object, or the module, of a name in full."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
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


def blocks(path: Path, language: str) -> list[str]:
    """Return the programs of a language that a page shows."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


def commands(path: Path) -> list[list[str]]:
    """Return the arguments of each call of the command line that a page shows."""
    lines = "".join(blocks(path, "bash")).replace("\\\n", " ").splitlines()
    calls = [shlex.split(line, comments=True) for line in lines]
    return [call[1:] for call in calls if call and Path(call[0]).name == "rmtdeq"]


def names(path: Path) -> list[str]:
    """Return the names of the package that a page mentions, in full."""
    found = re.findall(r"(?<![\w.-])(?:rd|rmtdeq)\.(\w+(?:\.\w+)*)", path.read_text(encoding="utf-8"))
    return sorted({f"rmtdeq.{name}" for name in found})


def entries(page: Path) -> list[Path]:
    """Return the pages that the tables of contents of a page list; those made from tutorials are left out."""
    text = page.read_text(encoding="utf-8")
    listed = "".join(re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S)).splitlines()
    targets = [line.rpartition("<")[2].strip("> ") for line in listed if line and not line.startswith(":")]
    return [path for path in PAGES if path.stem in targets]


def run_all(pages: list[Path]) -> None:
    """Run the programs of pages, each with the variables of those before it."""
    variables: dict[str, object] = {}
    for page in pages:
        for block in blocks(page, "python"):
            exec(compile(block, page.name, "exec"), variables)


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


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_blocks_that_ci_runs_have_their_names():
    assert re.findall(r"^<!-- ci: (\w+) -->\n```bash\n", README.read_text(encoding="utf-8"), re.M) == ["main", "test"]


def test_the_readme_s_program_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_all([README])
    assert "KS distance" in capsys.readouterr().out
    assert (tmp_path / "spectrum.png").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    ["convergence", "data", "design", "learning", "neural-tangents", "pcdeq", "reports", "scikit-learn", "training"],
)
@pytest.mark.filterwarnings("ignore")
def test_programs_of_pages_run(monkeypatch, tmp_path, page):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("X.npy", rng.standard_normal((60, 30)))
    np.save("new.npy", rng.standard_normal((5, 30)))
    np.save("y.npy", np.repeat(["red", "green"], 30))
    rows = [f"{at},{'MB'[at % 2]},{','.join(map(str, row))}" for at, row in enumerate(np.load("X.npy"))]
    header = f"id,diagnosis,{','.join(f'feature {at}' for at in range(30))}"
    Path("wdbc.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    Path("data").mkdir()
    images, labels = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8), np.repeat(np.arange(10), 20)
    np.savez("data/mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    if page == "reports":
        assert main(["compare", "--dataset", "mixture", "--p", "60", "--n", "48", "--save", "spectrum.npz"]) == 0
    run_all([DOCS / "start.md", DOCS / f"{page}.md"])


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_commands_are_understood(page):
    parser = importlib.import_module("rmtdeq.cli.main")._parser()
    for arguments in commands(page):
        options = parser.parse_args(arguments)
        if arguments[0] == "reproduce":
            assert all(name in ("list", "all") or find(name) for name in options.names)


def test_every_command_is_described_with_an_example():
    page = DOCS / "command-line.md"
    shown = re.findall(r"^## ([\w -]+)$", page.read_text(encoding="utf-8"), re.M)
    known = {name.partition(" ")[0] for name in shown}
    parser = importlib.import_module("rmtdeq.cli.main")._parser()
    assert known == set(next(action.choices for action in parser._actions if isinstance(action.choices, dict)))
    assert {call[0] for call in commands(page)} == known
    assert blocks(page, r"\{options\} [a-z ]+") == [""] * len(shown)
    assert {"train regression", "train classifier"} <= set(shown)


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_names_on_pages_exist(page):
    for name in names(page):
        assert resolved(name) is not None


def test_every_row_of_the_readme_s_table_has_a_function_and_a_page():
    table = README.read_text(encoding="utf-8").partition("| I want … |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    assert len(rows) > 10
    for _, _, functions, page, _ in rows:
        called = re.findall(r"`([^`]+)`", functions)
        assert called
        assert all(name.startswith("rmtdeq ") or resolved(name.replace("rd.", "rmtdeq.")) for name in called)
        assert "](docs/" in page


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)[^):\s]*\)", page.read_text(encoding="utf-8")):
        # Pages of the gallery are made from the tutorials.
        made = re.sub(r"^gallery/(?:index)?", "tutorials/", target)
        assert any((page.parent / f"{made}{suffix}").exists() for suffix in ("", ".md", ".rst", ".py")), target


def test_every_page_is_reached_from_the_index():
    reached, new = set(), [DOCS / "index.md"]
    while new:
        reached.update(new)
        new = [path for page in new for path in entries(page) if path not in reached]
    assert [path.name for path in PAGES if path not in reached] == []


def test_scripts_are_those_that_pages_name():
    texts = "".join(path.read_text(encoding="utf-8") for path in (README, *PAGES))
    folder = REPOSITORY / "scripts"
    assert [path.name for path in folder.glob("*.py") if path.name not in texts] == []
    assert [name for name in re.findall(r"scripts/(\w+\.py)", texts) if not (folder / name).exists()] == []
