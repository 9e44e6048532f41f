"""A report: results, texts and figures, and how they were made, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import file_path, of_kind, require_writable, write_text
from rmtdeq._lib.optional import require
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq.output.files import versions
from rmtdeq.output.report import page

_SUFFIXES = (".html", ".htm")

_REFERENCES = (
    "Who uses these numbers, please cite rmtdeq (see its CITATION.cff) and the first of these papers.",
    "Z. Ling, L. Li, Z. Feng, Y. Zhang, F. Zhou, R. C. Qiu, Z. Liao, Deep Equilibrium Models are Almost Equivalent to "
    "Not-so-deep Explicit Models for High-dimensional Gaussian Mixtures, ICML 2024, arXiv 2402.02697: the equations.",
    "Z. Feng, J. Z. Kolter, On the Neural Tangent Kernel of Equilibrium Models, arXiv 2310.14062: the tangent kernel.",
    "F. Benaych-Georges, R. Couillet, Spectral analysis of the Gram matrix of mixture models, ESAIM: Probability and "
    "Statistics 20, 2016: the spectrum of mixtures.",
)


@dataclass(frozen=True)
class Section:
    """Part of a report.

    Attributes
    ----------
    heading : str
    contents : sequence
        Texts; results that have a table (comparisons, predictions, coefficients, trainings, …); matplotlib figures.
    """

    heading: str
    contents: Sequence[Any]


def report_path(path: str | PathLike[str]) -> Path:
    """Return where a report goes: `path`, with .html if it has no suffix.

    Raises
    ------
    InvalidInputError
        The suffix is that of another kind of file.
    """
    return of_kind(Path(path), _SUFFIXES, "A report is an HTML page")


def write_report(
    path: str | PathLike[str],
    contents: Any,
    *,
    title: str = "Kernels of a deep equilibrium model",
    command: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Path:
    """Write results as one HTML file that needs nothing else: no network, no script, no other file.

    Parameters
    ----------
    path : path
        With the suffix .html or .htm; without a suffix .html is added.
    contents : sequence, or one thing to show
        Of `Section`, or of what a section holds: texts; results that have a table, whose picture is drawn below it;
        matplotlib figures.  One section, result or figure needs no list around it.
    title : str
    command : str, optional
        What made the results.
    parameters : mapping, optional
        Names and values to show.
    seed : int, optional

    Returns
    -------
    Path
        Of the file, which is written whole or not at all.

    Raises
    ------
    InvalidInputError
        The file cannot be written or has another suffix, or something can not be shown.
    MissingDependencyError
        No matplotlib, and there is a picture to draw.

    Examples
    --------
    >>> import rmtdeq as rd, tempfile
    >>> coef = rd.solve(rd.DEQ("tanh", 0.2, 0.8), tau0_squared=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rd.write_report(f"{folder}/tanh", ["The tanh model.", coef]).name
    'tanh.html'
    """
    place = report_path(file_path(path, "The report"))
    require_writable(place, "The report")
    _text(title, "title")
    if command is not None:
        _text(command, "command")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidInputError("parameters must be a dictionary of names and values.")
    if isinstance(contents, (Section, Table, Tabular)) or hasattr(contents, "savefig"):
        contents = [contents]
    if isinstance(contents, str) or not isinstance(contents, Sequence):
        raise InvalidInputError("contents must be a list of sections, texts, results and figures.")
    sections = [_section(each if isinstance(each, Section) else Section("", [each])) for each in contents]
    if parameters:
        sections.append(page.section("Parameters", [page.facts((str(k), v) for k, v in parameters.items())]))
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    origin: dict[str, Any] = {"date": now}
    if seed is not None:
        origin["seed"] = seed
    how = [page.preformatted(command)] if command else []
    sections.append(page.section("How it was made", [*how, page.facts({**origin, **versions()}.items())]))
    sections.append(page.section("References", map(page.paragraph, _REFERENCES)))
    write_text(place, page.page(title, f"rmtdeq {versions()['rmtdeq']}, {now}", sections))
    return place


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"The {name} of a report must be a text, not {type(value).__name__}.")
    return value


def _section(given: Section) -> str:
    if isinstance(given.contents, str) or not isinstance(given.contents, Sequence):
        raise InvalidInputError("The contents of a Section must be a list of texts, results and figures.")
    return page.section(
        _text(given.heading, "heading"), [part for each in given.contents for part in _parts(each, given.heading)]
    )


def _parts(given: Any, heading: str) -> list[str]:
    """The HTML of something that a report can show."""
    if isinstance(given, str):
        return [page.paragraph(given)]
    if isinstance(given, Table):
        return [page.table(given)]
    if isinstance(given, Tabular):
        found = given.table()
        drawn = [page.image(_picture(given), found.title)] if hasattr(given, "plot") else []
        return [page.table(found), *drawn]
    if hasattr(given, "savefig"):
        return [page.image(given, heading or "figure")]
    raise InvalidInputError(
        f"A report shows sections, texts, results that have a table, and figures, not {type(given).__name__}."
    )


def _picture(result: Any) -> Any:
    """A figure of the result's own plot, made without a display."""
    figure = require("matplotlib.figure").Figure(figsize=(6.4, 3.8), layout="constrained")
    result.plot(figure.subplots())
    return figure
