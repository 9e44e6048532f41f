"""What a comparison comes to, in fifteen lines at most: what was compared, the verdict, the largest eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.spectra.empirical import EmpiricalSpectrum
from rmtdeq.spectra.verdict import LARGEST, Verdict, of_data, repeats
from rmtdeq.theory import SpectrumPrediction

LINES = 15
_FAINT = 0.05
_CLASSES = 4


class Compared(Protocol):
    """What a comparison has that is told here; see `SpectrumComparison`."""

    @property
    def empirical(self) -> EmpiricalSpectrum:
        """What was measured."""

    @property
    def prediction(self) -> SpectrumPrediction:
        """What was predicted."""

    @property
    def leading(self) -> FloatArray | None:
        """Alignments of the leading eigenvectors with the classes."""

    @property
    def verdict(self) -> Verdict:
        """How far the prediction is to be relied on."""


def overview(
    comparisons: Sequence[Compared],
    name: str = "",
    class_names: Sequence[str] | None = None,
    lines: int = LINES,
) -> str:
    """Return the text of comparisons of one data set and network: several kernels, each at one or several levels.

    Parameters
    ----------
    comparisons : sequence of SpectrumComparison
        Those of one kernel side by side, the best level first.
    name : str
        Of the data.
    class_names : sequence of str, optional
        "class 0", "class 1", … by default.
    lines : int
        At most; the ten largest eigenvalues are fewer where there is no room.
    """
    kernels = [list(group) for _, group in groupby(comparisons, key=lambda each: each.prediction.kind)]
    names = named(class_names, comparisons[0].prediction.classes)
    head = [_subject(kernels[0], name, names), *(_verdict(levels, levels is kernels[0]) for levels in kernels)]
    return "\n".join([*head, *_largest(kernels, names, lines - len(head) - 1)])


def named(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """Return the names of classes, "class 0", "class 1", … where they have none; raise if they are another number."""
    if class_names is None:
        return [f"class {a}" for a in range(classes)]
    if isinstance(class_names, str) or len(class_names) != classes:
        raise InvalidInputError(f"class_names must name {classes} classes, not {class_names!r}.")
    return [str(each) for each in class_names]


def aligned(shares: FloatArray, names: Sequence[str], n: int) -> str:
    """Return the classes, two at most, that an eigenvector is aligned with beyond chance, and how much of it."""
    least = max(_FAINT, 10 / n)
    found = [f"{names[a]} {shares[a]:.2f}" for a in np.argsort(-shares, kind="stable")[:2] if shares[a] >= least]
    return ", ".join(found) or "none"


def _subject(levels: Sequence[Compared], name: str, names: Sequence[str]) -> str:
    pred = levels[0].prediction
    shown = list(names) if len(names) <= _CLASSES else [*names[:2], "…", names[-1]]
    classes = f", {len(names)} classes ({', '.join(shown)})" if len(names) > 1 else ""
    at = " and ".join(each.prediction.level for each in levels)
    data = f"{name}: " if name else ""
    return f"{data}n = {pred.n}, p = {pred.dimension}{classes}; {pred.deq}, level {at}"


def _verdict(levels: Sequence[Compared], with_data: bool) -> str:
    """What is said of a kernel, and why: of its best level all, of others the numbers."""
    best, *others = levels
    text = f"{best.prediction.kind.upper()}: {best.verdict.text}"
    text += "".join(f"; {each.prediction.level}: {each.verdict.numbers}" for each in others)
    below, expected = best.prediction.below_zero, best.prediction.expected_error
    why = [of_data(best.prediction)] * with_data + [f"{below} predicted below zero"] * bool(below)
    why += ["predicted from the samples measured, which is no test"] * repeats(best.verdict, best.prediction)
    why += [] if expected is None else [f"KS distance expected {expected.ks:.3f}"]
    return f"{text}: {', '.join(why)}" if why else text


def _largest(kernels: Sequence[Sequence[Compared]], names: Sequence[str], lines: int) -> list[str]:
    """The largest eigenvalues in columns, and what their eigenvectors are aligned with."""
    columns: dict[str, list[str]] = {}
    count = LARGEST
    for levels in kernels:
        kind, measured = levels[0].prediction.kind.upper(), levels[0].empirical.known_values
        count = min(count, lines, measured.size)
        for each in levels:
            columns[f"{kind} {each.prediction.level if len(levels) > 1 else 'predicted'}"] = _numbers(
                each.prediction.all_values
            )
        columns[f"{kind} measured"] = _numbers(measured)
    leading = kernels[0][0].leading
    widths = [max(len(title), 9) for title in columns]
    rows = zip(range(1, count + 1), *columns.values(), strict=False)
    text = [["rank", *columns], *([str(rank), *cells] for rank, *cells in rows)]
    shown = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, [4, *widths], strict=True)) for row in text]
    if leading is None:
        return shown
    kind, n = kernels[0][0].prediction.kind.upper(), kernels[0][0].prediction.n
    classes = [f"{kind} eigenvector aligned with", *(aligned(row, names, n) for row in leading)]
    return [f"{row}  {one}" for row, one in zip(shown, [*classes, *[""] * count], strict=False)]


def _numbers(values: FloatArray) -> list[str]:
    return [f"{value:#.4g}".rstrip(".") for value in values[: -LARGEST - 1 : -1]]
