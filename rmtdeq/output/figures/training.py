"""Trainings, and what was foretold of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.curves import ClassificationRun, LossCurve, TrainingRun


def training_figure(runs: Sequence[TrainingRun], predictions: Sequence[LossCurve | None] = (), title: str = "") -> Any:
    """Draw the loss and the norm of the recurrent weights during trainings of several widths.

    Parameters
    ----------
    runs : sequence of TrainingRun
    predictions : sequence of LossCurve or None
        One for each run, drawn in broken lines.  A test loss has a panel of its own, a stability that was watched two.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not runs:
        raise InvalidInputError("training_figure needs at least one run.")
    panels = len(_quantities(runs))
    figure = require("matplotlib.figure").Figure(figsize=(3.9 * panels + 0.6, 3.4), layout="constrained")
    draw_training(figure, runs, predictions, title)
    return figure


def draw_training(
    figure: Any, runs: Sequence[TrainingRun], predictions: Sequence[LossCurve | None] = (), title: str = ""
) -> None:
    """Draw what `training_figure` shows on a figure of one's own."""
    quantities = _quantities(runs)
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


def _quantities(runs: Sequence[TrainingRun]) -> list[str]:
    """Return what every run has to show, a panel each."""
    wanted = ("loss", "test_loss", "recurrent_norm", "spectral_radius", "smallest_singular_value")
    return [name for name in wanted if all(getattr(run, name) is not None for run in runs)]


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
