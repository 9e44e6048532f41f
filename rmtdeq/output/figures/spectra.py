"""Predicted and measured spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.spectra import SpectrumComparison
from rmtdeq.spectra.overview import named
from rmtdeq.theory import SpectrumPrediction

T = TypeVar("T")

_BARS, _COLUMNS = 6, 10
"""Eigenvectors whose alignments are drawn as bars, and in a map."""

_FAINT = 0.1
"""Of the largest alignment in a map: less is not drawn."""

_SEVERAL_DECADES = 30.0

_WORST = 100.0
"""Errors in per cent beyond which it does not matter by how much."""


def comparison_figure(
    comparisons: SpectrumComparison | Sequence[SpectrumComparison],
    title: str = "",
    class_names: Sequence[str] | None = None,
) -> Any:
    """Draw one row for each kernel: eigenvalues by rank and their errors, the spectrum, and the leading eigenvectors.

    Each row begins with the verdict.

    Parameters
    ----------
    comparisons : SpectrumComparison, or a sequence of them
        Several of one kernel share a row: the first is drawn in full, of the others the predictions, in broken lines.
    title : str
    class_names : sequence of str, optional
        For the legend; "class 0", "class 1", … by default.

    Returns
    -------
    matplotlib.figure.Figure
        Made without a display; save it with its `savefig`.
    """
    if isinstance(comparisons, SpectrumComparison):
        comparisons = [comparisons]
    if not comparisons:
        raise InvalidInputError("comparison_figure needs at least one comparison.")
    rows = _rows(comparisons, [c.prediction.kind for c in comparisons])
    figure = require("matplotlib.figure").Figure(figsize=(10.5, 3.3 * len(rows) + 0.3), layout="constrained")
    for part, levels in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        comparison, *rest = levels
        others = [other.prediction for other in rest]
        panels = part.subplot_mosaic(
            [["ranks", "spectrum", "alignments"], ["errors", "spectrum", "alignments"]],
            width_ratios=[1.1, 1.4, 1.1],
            height_ratios=[3.2, 1.0],
        )
        left, below, middle, right = (panels[name] for name in ("ranks", "errors", "spectrum", "alignments"))
        draw_ranks(comparison, left, others)
        draw_rank_errors(comparison, below)
        below.sharex(left)
        comparison.plot(middle, others=others)
        draw_alignments(comparison, right, class_names)
        for ax in (left, below, middle, right):
            style.open_frame(ax)
        said = "\n".join(f"{each.prediction.level}: {each.verdict.text}" for each in levels)
        part.suptitle(f"{style.KERNELS[comparison.prediction.kind]}, {said}", x=0.01, ha="left", fontsize=9)
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
        # The levels below may have spikes that would leave nothing else to be seen.
        top = 1.15 * ax.get_ylim()[1]
        for other in others:
            logarithmic = ax.get_xscale() == "log"
            other.plot(ax, logarithmic, label=f"{other.level} level's", colour=style.OTHER, linestyle="--")
        ax.set_title(style.KERNELS[prediction.kind], loc="left", fontsize=10)
        ax.legend(frameon=False, fontsize=8)
        ax.set_ylim(0, top)
        style.mark_clipped(ax)
        style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _rows(items: Sequence[T], kinds: Sequence[str]) -> list[list[T]]:
    """Group items of the same kind, in the order of their first appearance."""
    return [[item for item, own in zip(items, kinds, strict=True) if own == kind] for kind in dict.fromkeys(kinds)]


def draw_ranks(comparison: SpectrumComparison, ax: Any, others: Sequence[SpectrumPrediction] = ()) -> None:
    """Draw the eigenvalues in descending order over the predicted ones, both axes logarithmic."""
    measured = comparison.empirical.known_values[::-1]
    ax.loglog(
        np.arange(1, measured.size + 1),
        np.maximum(measured, 1e-16),
        **style.POINTS,
        markersize=3.5,
        label="measured",
    )
    for prediction in others:
        _draw_predicted_ranks(prediction, ax, color=style.OTHER, ls="--", label=f"{prediction.level} level")
    own = comparison.prediction
    missing = _draw_predicted_ranks(own, ax, color=style.THEORY, label=f"predicted ({own.level})")
    low, high = ax.get_ylim()
    if high > _SEVERAL_DECADES * low:
        # Where powers of ten are labelled, labels in between would run into them.
        ax.yaxis.set_minor_formatter(require("matplotlib.ticker").NullFormatter())
    if missing:
        ax.set_xlabel(f"not drawn: {missing} predicted not above zero", fontsize=7.5)
    ax.tick_params(labelbottom=False)
    ax.set_ylabel("eigenvalue")
    # Eigenvalues descend: below them, on the left, there is room.
    ax.legend(frameon=False, fontsize=7.5, loc="lower left")


def _draw_predicted_ranks(prediction: SpectrumPrediction, ax: Any, **line: Any) -> int:
    """Draw the positive ones, and return how many others there are."""
    predicted = prediction.all_values[::-1]
    shown = predicted > 0
    ax.loglog(np.arange(1, predicted.size + 1)[shown], predicted[shown], lw=1.5, **line)
    return int(predicted.size - shown.sum())


def draw_rank_errors(comparison: SpectrumComparison, ax: Any) -> None:
    """Draw the relative error of the predicted eigenvalue of each rank, and the median that was expected."""
    measured = comparison.empirical.known_values[::-1]
    predicted = comparison.prediction.all_values[::-1][: measured.size]
    seen = measured > 0
    errors = 100 * (predicted[seen] / measured[seen] - 1)
    expected = comparison.prediction.expected_error
    if expected is not None:
        ax.axhspan(-100 * expected.whole, 100 * expected.whole, color=style.THEORY, alpha=0.2, lw=0)
    ax.axhline(0, color=style.OTHER, lw=0.6)
    ranks = np.arange(1, measured.size + 1)[seen]
    ax.semilogx(ranks, np.clip(errors, -_WORST, _WORST), color=style.DATA_EDGE, lw=1.0)
    reach = float(np.clip(abs(errors).max(initial=1.0) * 1.1, 5.0, _WORST))
    ax.set_ylim(-reach, reach)
    ax.set_xlabel("rank (shaded: median error expected)" if expected is not None else "rank")
    ax.set_ylabel("error (%)")


def _brief(value: float) -> str:
    """Two digits, one of small numbers, and no exponent where a whole number is as short."""
    if 99.5 <= abs(value) < 1e4:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.1g}"


def draw_alignments(comparison: SpectrumComparison, ax: Any, class_names: Sequence[str] | None = None) -> None:
    """Draw how much of the leading eigenvectors lies in each class, as measured, and as predicted for the outliers.

    Bars and diamonds, or for more classes than can be told apart so a map of classes and eigenvectors with circles.
    Without labels, which the measured alignments need, outliers stand for eigenvectors.
    """
    prediction, leading = comparison.prediction, comparison.leading
    positive = prediction.outliers > 0
    wanted = prediction.alignments[positive][::-1]
    names = named(class_names, wanted.shape[1])
    few = len(names) <= len(style.CLASSES)
    most = _BARS if few else _COLUMNS
    if leading is None:
        values, places = prediction.outliers[positive][::-1], np.arange(len(wanted))
    else:
        values = comparison.empirical.known_values[::-1]
        assert comparison.places is not None
        places = np.where(comparison.places < 0, most, values.size - 1 - comparison.places)[positive][::-1]
        leading = leading[:most]
    shown = min(most, values.size)
    inside = places < shown
    if not shown:
        ax.text(0.5, 0.5, "no outliers predicted", ha="center", va="center", transform=ax.transAxes, fontsize=9)
        ax.set_axis_off()
        return
    draw = _draw_bars if few else _draw_map
    draw(ax, names, leading, places[inside], wanted[inside])
    ticks = [f"{i + 1}\n{_brief(value)}" for i, value in enumerate(values[:shown])]
    # Four digits beside four digits take all the room there is.
    ax.set_xticks(np.arange(shown), ticks, fontsize=6 if values[0] >= 1000 else 7)
    ax.set_xlabel("predicted outlier: number, eigenvalue" if leading is None else "eigenvector: rank, eigenvalue")


def _draw_bars(
    ax: Any, names: Sequence[str], measured: FloatArray | None, places: IntArray, predicted: FloatArray
) -> None:
    width = 0.8 / len(names)
    for a, name in enumerate(names):
        offset = -0.4 + (a + 0.5) * width
        if measured is not None:
            x = np.arange(len(measured)) + offset
            ax.bar(x, measured[:, a], 0.92 * width, color=style.CLASSES[a], alpha=0.6, label=name)
        if not places.size:  # lines without points would count at the figure's corner when it is laid out
            continue
        look = {"marker": "D", "markersize": 4.5, "markerfacecolor": "white", "clip_on": False}
        edge = style.THEORY if measured is not None else style.CLASSES[a]
        label = name if measured is None else "predicted" if a == len(names) - 1 else None
        ax.plot(places + offset, predicted[:, a], linestyle="none", markeredgecolor=edge, label=label, **look)
    highest = max(float(each.max(initial=0.0)) for each in (predicted, np.zeros(1) if measured is None else measured))
    ax.set_ylim(0, min(1.0, max(1.15 * highest, 0.1)))
    ax.set_ylabel("squared alignment")
    ax.legend(
        frameon=False,
        fontsize=7.5,
        ncols=min(4, len(names) + 1),
        loc="lower center",
        bbox_to_anchor=(0.45, 1.0),
        columnspacing=0.9,
    )


def _draw_map(
    ax: Any, names: Sequence[str], measured: FloatArray | None, places: IntArray, predicted: FloatArray
) -> None:
    shown = np.zeros((_COLUMNS, len(names))) if measured is None else measured
    top = max(float(shown.max()), float(predicted.max(initial=0.0)))
    scale = {"cmap": "Blues", "vmin": 0.0, "vmax": top}
    image = ax.imshow(shown.T, aspect="auto", **scale)
    x, y = np.repeat(places, len(names)), np.tile(np.arange(len(names)), len(places))
    seen = predicted.ravel() > _FAINT * top
    look = {"edgecolors": style.THEORY, "linewidths": 0.9, "s": 75}
    ax.scatter(x[seen], y[seen], c=predicted.ravel()[seen], **scale, **look, label="in circles: predicted")
    ax.set_yticks(np.arange(len(names)), names, fontsize=7)
    ax.figure.colorbar(image, ax=ax, label="squared alignment")
    ax.legend(frameon=False, fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
