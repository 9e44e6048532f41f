"""Figures of several panels; each result object draws its own panel with `plot(ax)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rmtdeq import _style
from rmtdeq._errors import InvalidInputError
from rmtdeq._optional import require
from rmtdeq.equivalents import SpectrumPrediction
from rmtdeq.spectra import SpectrumComparison

T = TypeVar("T")

NAMES = {"ck": "conjugate kernel", "ntk": "neural tangent kernel", "ntk-full": "neural tangent kernel, all weights"}


def comparison_figure(
    comparisons: Sequence[SpectrumComparison], title: str = "", class_names: Sequence[str] | None = None
) -> Any:
    """Draw one row for each kernel: the spectrum, eigenvalues by rank, and the outliers' alignments.

    Parameters
    ----------
    comparisons : sequence of SpectrumComparison
        Several of one kernel share a row: the first is drawn in full, of the others the predictions, in broken lines.
    title : str
    class_names : sequence of str, optional
        For the legend; "class 0", "class 1", … by default.

    Returns
    -------
    matplotlib.figure.Figure
        Made without a display; save it with its `savefig`.
    """
    if not comparisons:
        raise InvalidInputError("comparison_figure needs at least one comparison.")
    rows = _rows(comparisons, [c.prediction.kind for c in comparisons])
    figure = require("matplotlib.figure").Figure(figsize=(10.5, 3.1 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 3, squeeze=False, width_ratios=[1.5, 1.1, 1.0])
    for (left, middle, right), (comparison, *rest) in zip(grid, rows, strict=True):
        others = [other.prediction for other in rest]
        comparison.plot(left, others=others)
        left.set_title(NAMES[comparison.prediction.kind], loc="left", fontsize=10)
        draw_ranks(comparison, middle, others)
        draw_alignments(comparison, right, class_names)
        for ax in (left, middle, right):
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def prediction_figure(predictions: Sequence[SpectrumPrediction], title: str = "") -> Any:
    """Draw one panel for each kernel; further predictions of a kernel are added in broken lines.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not predictions:
        raise InvalidInputError("prediction_figure needs at least one prediction.")
    panels = _rows(predictions, [p.kind for p in predictions])
    figure = require("matplotlib.figure").Figure(figsize=(4.8 * len(panels), 3.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (prediction, *others) in zip(grid, panels, strict=True):
        prediction.plot(ax)
        for other in others:
            logarithmic = ax.get_xscale() == "log"
            other.plot(ax, logarithmic, label=f"{other.level} level's", colour=_style.OTHER, linestyle="--")
        ax.set_title(NAMES[prediction.kind], loc="left", fontsize=10)
        ax.legend(frameon=False, fontsize=8)
        ax.set_ylim(bottom=0)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _rows(items: Sequence[T], kinds: Sequence[str]) -> list[list[T]]:
    """Group items of the same kind, in the order of their first appearance."""
    return [[item for item, own in zip(items, kinds, strict=True) if own == kind] for kind in dict.fromkeys(kinds)]


def draw_ranks(comparison: SpectrumComparison, ax: Any, others: Sequence[SpectrumPrediction] = ()) -> None:
    """Draw the eigenvalues in descending order over the predicted ones, both axes logarithmic."""
    measured = comparison.empirical.eigenvalues[::-1]
    ax.loglog(
        np.arange(1, measured.size + 1),
        np.maximum(measured, 1e-16),
        linestyle="none",
        marker="o",
        markersize=3.5,
        markerfacecolor=_style.DATA,
        markeredgecolor=_style.DATA_EDGE,
        markeredgewidth=0.4,
        label="measured",
    )
    for prediction in others:
        _draw_predicted_ranks(prediction, ax, color=_style.OTHER, ls="--", label=f"{prediction.level} level's")
    _draw_predicted_ranks(comparison.prediction, ax, color=_style.THEORY, label="predicted")
    ax.set_xlabel("rank")
    ax.set_ylabel("eigenvalue")
    ax.legend(frameon=False, fontsize=8)


def _draw_predicted_ranks(prediction: SpectrumPrediction, ax: Any, **line: Any) -> None:
    n, r = prediction.n, prediction.outliers.size
    levels = (np.arange(n - r) + 0.5) / (n - r)
    predicted = np.sort(np.concatenate([prediction.quantiles(levels), prediction.outliers]))[::-1]
    shown = predicted > 0
    ax.loglog(np.arange(1, n + 1)[shown], predicted[shown], lw=1.5, **line)


def draw_alignments(comparison: SpectrumComparison, ax: Any, class_names: Sequence[str] | None = None) -> None:
    """Draw the outliers' squared alignments with the classes: bars measured, markers predicted.

    More classes than colours are drawn as one, their sum.  Outliers below zero, which no kernel has, are left out.
    """
    outliers = comparison.prediction.outliers
    predicted, measured = comparison.prediction.alignments[outliers > 0], comparison.alignments
    measured = None if measured is None else measured[outliers > 0]
    outliers = outliers[outliers > 0]
    r, classes = predicted.shape
    names = class_names or [f"class {a}" for a in range(classes)]
    if classes > len(_style.CLASSES):
        predicted = predicted.sum(axis=1, keepdims=True)
        measured = None if measured is None else measured.sum(axis=1, keepdims=True)
        classes, names = 1, [f"all {classes} classes"]
    if not r:
        ax.text(0.5, 0.5, "no outliers predicted", ha="center", va="center", transform=ax.transAxes, fontsize=9)
        ax.set_axis_off()
        return
    shown = min(r, 4)
    at = np.arange(shown)
    width = 0.8 / classes
    for a in range(classes):
        x = at - 0.4 + (a + 0.5) * width
        colour = _style.CLASSES[a % len(_style.CLASSES)]
        if measured is not None:
            ax.bar(x, measured[-shown:, a], 0.92 * width, color=colour, alpha=0.55, label=names[a])
        ax.plot(
            x,
            predicted[-shown:, a],
            linestyle="none",
            marker="D",
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=_style.THEORY if measured is not None else colour,
            label="predicted" if a == classes - 1 else None,
        )
    ax.set_xticks(at, [f"{value:.3g}" for value in outliers[-shown:]])
    ax.set_xlabel("predicted outlier" if r <= shown else f"predicted outlier (top {shown} of {r})")
    ax.set_ylabel("squared alignment")
    ax.set_ylim(0, 1.0)
    ax.legend(
        frameon=False, fontsize=8, ncols=classes + 1, loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=0.9
    )
