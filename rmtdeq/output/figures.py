"""Figures of several panels; each result object draws its own panel with `plot(ax)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.activations import moments
from rmtdeq.curves import ClassificationRun, LossCurve, TrainingRun
from rmtdeq.designs import ExplicitNetwork, KernelComparison
from rmtdeq.network import DEQ, preactivation_scale
from rmtdeq.spectra import SpectrumComparison
from rmtdeq.theory import SpectrumPrediction

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
            style.open_frame(ax)
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
        ax.set_title(NAMES[prediction.kind], loc="left", fontsize=10)
        ax.legend(frameon=False, fontsize=8)
        ax.set_ylim(0, top)
        style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def design_figure(comparisons: Sequence[KernelComparison], deq: DEQ, network: ExplicitNetwork, title: str = "") -> Any:
    """Draw one row for each kernel: its spectrum, the eigenvalues by rank; and once the activations.

    Parameters
    ----------
    comparisons : sequence of KernelComparison
    deq : DEQ
    network : ExplicitNetwork
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not comparisons:
        raise InvalidInputError("design_figure needs at least one comparison.")
    rows = len(comparisons)
    figure = require("matplotlib.figure").Figure(figsize=(10.5, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False, width_ratios=[1.2, 1.2, 1.0])
    for (left, middle, right), comparison in zip(grid, comparisons, strict=True):
        draw_spectra(comparison, left)
        left.set_title(NAMES[comparison.kind], loc="left", fontsize=10)
        comparison.plot(middle)
        middle.set_title(
            f"distance {comparison.distance:.2g}, plain {comparison.distance_plain:.2g}", loc="left", fontsize=10
        )
        if comparison is comparisons[0]:
            draw_activations(deq, network, right)
        else:
            right.set_axis_off()
        for ax in (left, middle, right):
            style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def draw_spectra(comparison: KernelComparison, ax: Any) -> None:
    """Draw histograms of the logarithms of the eigenvalues: the DEQ's filled, the networks' as outlines.

    Colours are those of `KernelComparison.plot`, which has the legend.
    """
    top = comparison.deq[-1]
    shown = [np.maximum(values, 1e-8 * top) for values in (comparison.deq, comparison.network, comparison.plain)]
    low = min(np.quantile(values, 0.005) for values in shown)
    edges = np.geomspace(low, 1.1 * max(values[-1] for values in shown), 50)
    look: list[dict[str, Any]] = [
        {"color": style.DATA, "edgecolor": style.DATA_EDGE, "linewidth": 0.3},
        {"histtype": "step", "color": style.THEORY, "linewidth": 1.4},
        {"histtype": "step", "color": style.OTHER, "linewidth": 1.0, "ls": "--"},
    ]
    for values, options in zip(shown, look, strict=True):
        ax.hist(np.clip(values, edges[0], None), bins=edges, **options)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("eigenvalues in a bin")


def draw_activations(deq: DEQ, network: ExplicitNetwork, ax: Any) -> None:
    """Draw the activations over three standard deviations of their inputs, in units of their outputs'."""
    own = deq.pinned(network.tau0_squared).activation
    xi = np.linspace(-3, 3, 601)
    curves = [("DEQ", own, preactivation_scale(deq.layer, network.tau0_squared).value, style.DATA_EDGE)]
    scale = float(np.sqrt(network.tau0_squared))
    for depth, layer in enumerate(network.activations):
        colour = (style.THEORY, style.CLASSES[1])[depth % 2]
        curves.append((f"layer {depth + 1}: {layer.name}", layer, scale, colour))
        scale = float(np.sqrt(moments(layer, scale).square))
    for i, (label, activation, tau, colour) in enumerate(curves):
        size = np.sqrt(moments(activation, tau).square)
        ax.plot(
            xi,
            activation(tau * xi) / size,
            color=colour,
            lw=3 if i == 0 else 1.5,
            alpha=0.5 if i == 0 else 1,
            label=label,
        )
    ax.set_xlabel("input / its standard deviation")
    ax.set_ylabel("output / its standard deviation")
    ax.legend(frameon=False, fontsize=8)


def _rows(items: Sequence[T], kinds: Sequence[str]) -> list[list[T]]:
    """Group items of the same kind, in the order of their first appearance."""
    return [[item for item, own in zip(items, kinds, strict=True) if own == kind] for kind in dict.fromkeys(kinds)]


def draw_ranks(comparison: SpectrumComparison, ax: Any, others: Sequence[SpectrumPrediction] = ()) -> None:
    """Draw the eigenvalues in descending order over the predicted ones, both axes logarithmic."""
    emp = comparison.empirical
    measured = (emp.all_values if emp.has_density else emp.eigenvalues)[::-1]
    ax.loglog(
        np.arange(1, measured.size + 1),
        np.maximum(measured, 1e-16),
        **style.POINTS,
        markersize=3.5,
        label="measured",
    )
    for prediction in others:
        _draw_predicted_ranks(prediction, ax, color=style.OTHER, ls="--", label=f"{prediction.level} level")
    _draw_predicted_ranks(comparison.prediction, ax, color=style.THEORY, label="predicted")
    ax.set_xlabel("rank")
    ax.set_ylabel("eigenvalue")
    ax.legend(frameon=False, fontsize=8)


def _draw_predicted_ranks(prediction: SpectrumPrediction, ax: Any, **line: Any) -> None:
    predicted = prediction.all_values[::-1]
    shown = predicted > 0
    ax.loglog(np.arange(1, predicted.size + 1)[shown], predicted[shown], lw=1.5, **line)


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
    if classes > len(style.CLASSES):
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
        colour = style.CLASSES[a % len(style.CLASSES)]
        if measured is not None:
            ax.bar(x, measured[-shown:, a], 0.92 * width, color=colour, alpha=0.55, label=names[a])
        ax.plot(
            x,
            predicted[-shown:, a],
            linestyle="none",
            marker="D",
            clip_on=False,
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=style.THEORY if measured is not None else colour,
            label="predicted" if a == classes - 1 else None,
        )
    ax.set_xticks(at, [f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in outliers[-shown:]])
    ax.set_xlabel("predicted outlier" if r <= shown else f"predicted outlier (top {shown} of {r})")
    ax.set_ylabel("squared alignment")
    ax.set_ylim(0, 1.0)
    ax.legend(
        frameon=False, fontsize=8, ncols=classes + 1, loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=0.9
    )


def training_figure(runs: Sequence[TrainingRun], predictions: Sequence[LossCurve | None] = (), title: str = "") -> Any:
    """Draw the loss and the norm of the recurrent weights during trainings of several widths.

    Parameters
    ----------
    runs : sequence of TrainingRun
    predictions : sequence of LossCurve or None
        One for each run, drawn in broken lines; a test loss has a panel of its own.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not runs:
        raise InvalidInputError("training_figure needs at least one run.")
    panels = 2 + all(run.test_loss is not None for run in runs)
    figure = require("matplotlib.figure").Figure(figsize=(3.9 * panels + 0.6, 3.4), layout="constrained")
    draw_training(figure, runs, predictions, title)
    return figure


def draw_training(
    figure: Any, runs: Sequence[TrainingRun], predictions: Sequence[LossCurve | None] = (), title: str = ""
) -> None:
    """Draw what `training_figure` shows on a figure of one's own."""
    tested = all(run.test_loss is not None for run in runs)
    quantities = ["loss", *(["test_loss"] if tested else []), "recurrent_norm"]
    for ax, quantity in zip(figure.subplots(1, len(quantities)), quantities, strict=True):
        for i, run in enumerate(runs):
            run.plot(ax, quantity, color=style.CLASSES[i % len(style.CLASSES)], lw=1.5)
        if quantity == "loss":
            for i, (run, curve) in enumerate(zip(runs, predictions, strict=False)):
                if curve is not None:
                    label = "predicted from the kernel at the start" if i == 0 else None
                    curve.plot(ax, run.at, color="black", ls="--", lw=0.9, label=label)
            lowest = min(float(run.loss[run.loss > 0].min()) for run in runs)
            ax.set_ylim(bottom=lowest / 3)
            ax.legend(frameon=False, fontsize=8)
        if quantity == "recurrent_norm":
            # Changes of a few per cent are small, and shall look so.
            norms = np.concatenate([run.recurrent_norm for run in runs])
            ax.set_ylim(0.985 * norms.min(), 1.015 * norms.max())
        style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)


def classification_figure(runs: Sequence[ClassificationRun], title: str = "", labels: Sequence[str] = ()) -> Any:
    """Draw the accuracies and the numbers of iterations during the training of classifiers.

    Parameters
    ----------
    runs : sequence of ClassificationRun
    title : str
    labels : sequence of str
        Names of the runs, by default their models.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not runs or not all(run.epochs for run in runs):
        raise InvalidInputError("classification_figure needs at least one run of at least one epoch.")
    figure = require("matplotlib.figure").Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, run in enumerate(runs):
        colour = style.CLASSES[i % len(style.CLASSES)]
        name = labels[i] if i < len(labels) else run.model
        if run.test_accuracy is not None:
            run.plot(left, "test_accuracy", color=colour, lw=1.6, label=f"{name}, test")
        run.plot(left, "accuracy", color=colour, lw=1, ls=":", label=f"{name}, training")
        run.plot(right, "iterations", color=colour, lw=1.6, label=f"{name}, equilibrium")
        run.plot(right, "adjoint_iterations", color=colour, lw=1, ls=":", label=f"{name}, gradient")
    left.set_ylabel(
        "accuracy (%): test, and training (broken)" if runs[0].test_accuracy is not None else "accuracy (%)"
    )
    right.set_ylabel("mean number of iterations")
    right.set_ylim(bottom=0)
    for ax in (left, right):
        style.open_frame(ax)
        ax.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
