"""Forward solves, foretold and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.stability import Diagnosis

_CURVES = 3
"""Tolerances for which numbers of steps are drawn."""


def diagnosis_figure(diagnoses: Sequence[Diagnosis], title: str = "") -> Any:
    """Draw the iteration step by step, and by squared norm the steps to some tolerances and the Jacobian's numbers.

    Parameters
    ----------
    diagnoses : sequence of Diagnosis
        Of one model: the first in lines, others in points.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not diagnoses:
        raise InvalidInputError("diagnosis_figure needs at least one diagnosis.")
    figure = require("matplotlib.figure").Figure(figsize=(11.5, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1.0, 1.0])
    first, *others = diagnoses
    first.plot(left)
    for other in others:
        steps = np.arange(1, len(other.residuals) + 1)
        seen = other.residuals > 1e-12
        for i, kept in enumerate(seen.T):
            name = None if i else "change, measured"
            left.semilogy(steps[kept], other.residuals[kept, i], **style.POINTS, markersize=2.5, zorder=1, label=name)
        left.legend(frameon=False, fontsize=8)
    for each in diagnoses:
        _draw_steps(each, middle, each is first)
        _draw_jacobian(each, right, each is first)
    for ax in (middle, right):
        ax.set_xlabel("squared norm" if not others else "squared norm (points: measured)")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=8)
    for ax in (left, middle, right):
        style.open_frame(ax)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _draw_steps(diagnosis: Diagnosis, ax: Any, in_lines: bool) -> None:
    """Draw the numbers of steps to some relative changes."""
    ax.set_ylabel("steps to a relative change")
    if not diagnosis.converges.all():
        ax.text(0.5, 0.5, "the iteration does not come to rest", ha="center", transform=ax.transAxes, fontsize=9)
        return
    for tolerance, colour in zip(diagnosis.tolerances[:_CURVES], style.CLASSES, strict=False):
        steps = diagnosis.iterations(tolerance)
        if in_lines:
            look = {"lw": 1.5, "drawstyle": "steps-mid", "label": f"{tolerance:.0e}"}
            ax.plot(diagnosis.squared_norms, steps, _line(steps), color=colour, **look)
        else:
            ax.plot(diagnosis.squared_norms, steps, "o", color=colour, markersize=3.5)
        ax.set_ylim(0, max(ax.get_ylim()[1], 1.08 * steps.max()))


def _draw_jacobian(diagnosis: Diagnosis, ax: Any, in_lines: bool) -> None:
    """Draw the spectral radius of J and the smallest singular value of 1 - J."""
    for values, colour, label in (
        (diagnosis.spectral_radius, style.THEORY, "spectral radius of J"),
        (diagnosis.smallest_singular_value, style.CLASSES[0], "smallest singular value of 1 - J"),
    ):
        if in_lines:
            ax.plot(diagnosis.jacobian_norms, values, _line(values), color=colour, lw=1.5, label=label)
        else:
            ax.plot(diagnosis.jacobian_norms, values, "o", color=colour, markersize=3.5)
    ax.set_ylim(0, max(1.0, 1.1 * float(diagnosis.spectral_radius.max()), ax.get_ylim()[1]))


def _line(values: FloatArray | IntArray) -> str:
    """A line, or a point where there is but one value."""
    return "-" if len(values) > 1 else "D"
