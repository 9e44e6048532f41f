"""Errors of learning with a kernel: by ridge, by number of samples, by network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq.learning import LearningCurve, LearningPrediction, Suggestion

_NAMES = {"mse": "mean squared error", "error rate": "error rate"}


def ridge_figure(model: Any, test: Mapping[str, float] | None = None, title: str = "") -> Any:
    """Draw the errors of a fitted estimator against the ridge.

    Parameters
    ----------
    model : DEQClassifier or DEQRegressor
        Fitted.
    test : mapping, optional
        What a test gave with the ridge that was chosen: "mse" and, of a classifier, "error rate".
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    rates = getattr(model, "loo_error_rate_", None)
    panels = [("mse", {"left out": model.loo_error_, "cross-validation, generalised": model.gcv_error_})]
    if rates is not None:
        panels.append(("error rate", {"left out": rates}))
    figure, axes = _panels(len(panels), title)
    order = np.argsort(model.ridges_)
    for ax, (quantity, curves) in zip(axes, panels, strict=True):
        for (name, values), colour in zip(curves.items(), (style.THEORY, style.CLASSES[0]), strict=False):
            ax.loglog(model.ridges_[order], values[order], color=colour, marker=".", lw=1.5, label=name)
        ax.axvline(model.ridge_, color=style.OTHER, lw=0.8, linestyle=":")
        if test and quantity in test:
            ax.plot([model.ridge_], [test[quantity]], **style.POINTS, label="test")
        ax.set_xlabel("ridge")
        ax.set_ylabel(_NAMES[quantity])
        ax.legend(frameon=False, fontsize=8)
    return figure


def learning_figure(
    curve: LearningCurve,
    measured: Mapping[int, Mapping[str, float]] = {},
    title: str = "",
    prediction: LearningPrediction | None = None,
) -> Any:
    """Draw a learning curve with its bands, and what was measured at some sizes.

    Parameters
    ----------
    curve : LearningCurve
    measured : mapping of mappings
        By size: "mse" and, of classes, "error rate".
    title : str
    prediction : LearningPrediction, optional
        From the mixture that the samples are of.

    Returns
    -------
    matplotlib.figure.Figure
    """
    quantities = ["mse"] if curve.wrong is None else ["mse", "error rate"]
    figure, axes = _panels(len(quantities), title)
    for ax, quantity in zip(axes, quantities, strict=True):
        curve.plot(ax, quantity.replace(" ", "_"), label=f"{curve.kind}, foretold from {curve.n}")
        if prediction is not None:
            look = {"color": style.CLASSES[0], "linestyle": "--", "label": "from the mixture"}
            prediction.plot(ax, quantity.replace(" ", "_"), **look)
        sizes = [size for size in sorted(measured) if quantity in measured[size]]
        if sizes:
            ax.plot(sizes, [measured[size][quantity] for size in sizes], **style.POINTS, label="measured", zorder=3)
        ax.legend(frameon=False, fontsize=8)
    return figure


def suggestion_figure(found: Suggestion, title: str = "") -> Any:
    """Draw the foretold errors of networks in their order.

    Parameters
    ----------
    found : Suggestion
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (ax,) = _panels(1, title)
    found.plot(ax)
    return figure


def _panels(count: int, title: str) -> tuple[Any, Any]:
    figure = require("matplotlib.figure").Figure(figsize=(1.0 + 4.4 * count, 3.6), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for ax in axes:
        style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, axes
