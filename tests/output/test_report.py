"""Reports: one file that says what the results say, and asks nothing of anybody."""

import base64
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

import rmtdeq as rd
from rmtdeq.cli import example_mixture, main

VOID = {"meta", "img", "br", "hr"}
HOSTILE = "<script>alert('&\"')</script></style>$title"


class Page(HTMLParser):
    """Reads a page, and fails where it is not well-formed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.images, self.tables, self.texts = [], [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *each) for each in attrs]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def read(path):
    """Read a report, and check what holds for every one."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert re.findall(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[^\"]*", "", text)) == []
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "data", "action"):
            assert (tag, name) == ("img", "src")
            assert value.startswith("data:image/png;base64,")
    for image in page.images:
        data = base64.b64decode(image["src"].partition(",")[2], validate=True)
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", data[16:24])
        assert width > 300
        assert height > 200
        assert b"http" not in data[:400]
        assert image["alt"]
    return page


def numbers(page, head):
    """Return the numbers of the tables whose head begins with these names, row after row."""
    found = [table[1:] for table in page.tables if table[0][: len(head)] == head]
    return [[[float(cell.replace("–", "nan")) for cell in row[1:]] for row in table] for table in found]


def test_compare_reports_what_it_has_compared(capsys, tmp_path):
    path = tmp_path / "new" / "report"
    command = ["compare", "--dataset", "mixture", "--p", "120", "--n", "96", "--activation", "relu", "--seed", "5"]
    assert main([*command, "--level", "classwise", "--report", str(path)]) == 0
    assert f"wrote {path}.html" in capsys.readouterr().out
    page = read(path.with_suffix(".html"))
    assert len(page.images) == 1
    deq, gmm = rd.DEQ("relu", 0.2, 0.8), example_mixture(120, 2)
    X, y = gmm.sample(96, 5)
    centre = gmm.mean_squared_norm
    shown = numbers(page, ["outlier", "predicted", "measured", "relative error"])
    assert len(shown) == 2
    for kind, rows in zip(("ck", "ntk"), shown, strict=True):
        pred = rd.predict_spectrum(deq, gmm, 96, kind, tau0_squared=centre)
        comparison = rd.compare(rd.empirical_spectrum(X, deq, kind, tau0_squared=centre), pred, y)
        np.testing.assert_allclose(rows, comparison.to_frame().to_numpy(), rtol=1e-5, atol=1e-12)
        assert f"KS distance {comparison.ks:.4f}" in page.texts["p"]
    coefficients = numbers(page, ["kind", "linear"])[0]
    np.testing.assert_allclose(coefficients, rd.solve(deq, centre).to_frame().to_numpy(), rtol=1e-5)
    assert page.texts["pre"] == f"rmtdeq {' '.join(command)} --level classwise --report {path}"
    facts = {row[0]: row[1] for table in page.tables for row in table if len(row) == 2}
    assert facts["seed"] == "5"
    assert facts["activation"] == "relu"
    assert facts["numpy"] == np.__version__
    assert facts["rmtdeq"] == rd.__version__
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d", facts["date"])
    assert "2402.02697" in page.texts["p"]


def test_predict_and_design_report_too(capsys, tmp_path):
    small = ["--dataset", "mixture", "--p", "120", "--n", "96"]
    for i, command in enumerate((["predict", *small], ["design", *small, "--kind", "both"], ["design"])):
        assert main([*command, "--report", str(tmp_path / f"{i}.html")]) == 0
        page = read(tmp_path / f"{i}.html")
        assert len(page.images) == (1 if small[0] in command else 0)
    net = rd.design(rd.DEQ("tanh", 0.2, 0.8), 1.0)
    shown = np.array(numbers(page, ["coefficient", "DEQ"])[0])[:, :2]
    np.testing.assert_allclose(shown, net.to_frame().to_numpy()[:, :2], rtol=1e-5, atol=1e-14)
    # tanh is odd: its α2 and α3 are rounding, and there is nothing to read in their digits.
    assert (shown[1:3] == 0).all()


def test_results_texts_and_figures_are_shown(tmp_path):
    deq = rd.DEQ("tanh", 0.2, 0.8)
    gmm = example_mixture(120, 2)
    X, y = gmm.sample(96, 0)
    emp, pred = rd.empirical_spectrum(X, deq), rd.predict_spectrum(deq, gmm, 96)
    figure = Figure()
    figure.subplots().plot([0, 1])
    contents = ["A text.", pred, rd.compare(emp, pred, y), rd.Section("Mine", ["Another.", figure, rd.solve(deq, 1.0)])]
    path = rd.write_report(tmp_path / "r.htm", [*contents, emp], title="A title", parameters={"a": [1, 2.5]}, seed=3)
    assert path == tmp_path / "r.htm"
    page = read(path)
    # A prediction, a comparison and a spectrum draw themselves; coefficients have no picture.
    assert len(page.images) == 4
    assert page.texts["h1"] == "A title"
    assert "Mine" in page.texts["h2"]
    assert "A text." in page.texts["p"]
    assert ["a", "1, 2.5"] in [row for table in page.tables for row in table]
    # A long table is shown by its ends.
    ranks = next(table for table in page.tables if table[0] == ["rank", "eigenvalue"])
    assert len(ranks) == 62
    assert [ranks[1][0], ranks[-1][0]] == ["1", "96"]


def test_one_thing_to_show_needs_no_list(tmp_path):
    coef = rd.solve(rd.DEQ("tanh", 0.2, 0.8), 1.0)
    figure = Figure()
    figure.subplots().plot([0, 1])
    for contents in (coef, coef.table(), rd.Section("", [coef]), figure):
        page = read(rd.write_report(tmp_path / "sigma-0.2", contents))
        assert (len(page.images) == 1) == (contents is figure)
        assert (numbers(page, ["kind", "linear"]) == []) == (contents is figure)
    assert [path.name for path in tmp_path.iterdir()] == ["sigma-0.2.html"]


def test_a_folder_and_another_suffix_are_refused_with_the_name_to_take(tmp_path):
    with pytest.raises(rd.InvalidInputError, match=r"name it .*x\.html, not x\.pdf"):
        rd.write_report(tmp_path / "x.pdf", ["a"])
    with pytest.raises(rd.InvalidInputError, match="is a folder; name a file in it"):
        rd.write_report(tmp_path, ["a"])
    assert list(tmp_path.iterdir()) == []


def test_hostile_texts_stay_texts(tmp_path):
    path = rd.write_report(
        tmp_path / "<b>&.html",
        [HOSTILE, rd.Section(HOSTILE, [HOSTILE])],
        title=HOSTILE,
        command=HOSTILE,
        parameters={HOSTILE: HOSTILE},
    )
    page = read(path)
    assert page.texts["h1"] == page.texts["pre"] == page.texts["title"] == HOSTILE
    assert page.texts["p"].count(HOSTILE) == 2
    assert [HOSTILE, HOSTILE] in [row for table in page.tables for row in table]


def test_colours_can_be_told_from_the_page():
    from rmtdeq.output.report import page

    def luminance(colour):
        digits = colour if len(colour) == 6 else "".join(2 * each for each in colour)
        channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    style = page.page("", "", [])
    schemes = re.findall(r":root \{([^}]*)\}", style)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = {name: luminance(value) for name, value in re.findall(r"--(\w+): #(\w+)", scheme)}
        for text in ("text", "soft"):
            for ground in ("page", "shade"):
                low, high = sorted((colours[text], colours[ground]))
                assert (high + 0.05) / (low + 0.05) > 4.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"contents": [3]},
        {"contents": "text"},
        {"contents": [rd.Section("a", "b")]},
        {"contents": None},
        {"contents": [rd.Section(3, ["b"])]},
        {"title": None},
        {"command": ["rmtdeq"]},
        {"parameters": [1]},
        {"path": ""},
        {"path": "/proc/x.html"},
        {"path": "."},
        {"path": "report.pdf"},
        {"path": "report.json"},
        {"path": None},
    ],
)
def test_what_no_report_can_show_is_refused(tmp_path, arguments):
    with pytest.raises(rd.InvalidInputError):
        rd.write_report(**{"path": tmp_path / "x", "contents": ["a"], **arguments})
    assert list(tmp_path.iterdir()) == []
