"""The look of the figures: axes, and colours that colour-blind readers can tell apart (Okabe and Ito)."""

from __future__ import annotations

from typing import Any

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require

DATA = "#9ecae1"
DATA_EDGE = "#4a7ba6"
THEORY = "#d55e00"
OTHER = "#555555"
CLASSES = ("#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#f0e442", "#000000")
WIDE = 30.0
"""Spectra whose ends lie further apart than by this factor are drawn over a logarithmic axis."""

KERNELS = {"ck": "conjugate kernel", "ntk": "neural tangent kernel", "ntk-full": "neural tangent kernel, all weights"}
"""What kernels are called in titles."""

POINTS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markerfacecolor": DATA,
    "markeredgecolor": DATA_EDGE,
    "markeredgewidth": 0.4,
}
"""Measured values as points."""


def axes(ax: Any = None) -> Any:
    """Return `ax`, or the axes of a new figure.

    Raises
    ------
    InvalidInputError
        `ax` is no matplotlib Axes.
    """
    if ax is not None:
        if not hasattr(ax, "get_xscale"):
            file = repr(ax) if isinstance(ax, str) else "'figure.png'"
            raise InvalidInputError(
                f"plot draws on a matplotlib Axes, a new one if none is given, and returns it; it takes no "
                f"{type(ax).__name__}. To save: result.plot().figure.savefig({file})."
            )
        return ax
    _, new = require("matplotlib.pyplot").subplots(figsize=(5.2, 3.4), layout="constrained")
    open_frame(new)
    return new


def open_frame(ax: Any) -> None:
    """Leave out the frame's upper and right side."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def mark_outliers(ax: Any, positions: Any, *, predicted: bool, colour: str = THEORY, label: str = "predicted") -> None:
    """Mark isolated eigenvalues on the axis: triangles where predicted, crosses where measured."""
    if ax.get_xscale() == "log":
        positions = [at for at in positions if at > 0]
    if not len(positions):
        return
    look = (
        {"marker": "v", "markersize": 8, "color": colour, "markerfacecolor": "none", "label": f"{label} outliers"}
        if predicted
        else {"marker": "x", "markersize": 7, "color": DATA_EDGE, "markeredgewidth": 1.6, "label": "measured outliers"}
    )
    ax.plot(positions, [0.0] * len(positions), linestyle="none", clip_on=False, zorder=5 if predicted else 6, **look)


def mark_clipped(ax: Any) -> None:
    """Mark where a line or a curve of steps leaves the axes above, and say how high it goes there."""
    top, (left, right) = ax.get_ylim()[1], ax.get_xlim()
    curves = [(line.get_xdata(), line.get_ydata(), line.get_color()) for line in ax.get_lines()]
    for patch in ax.patches:
        if hasattr(patch, "get_data"):
            heights, edges, _ = patch.get_data()
            curves.append(((edges[1:] * edges[:-1]) ** 0.5, heights, patch.get_edgecolor()))
    for x, y, colour in curves:
        peaks = [at for at in range(len(x)) if y[at] > top and left <= x[at] <= right]
        if peaks:
            peak = max(peaks, key=lambda at: y[at])
            look = {"color": colour, "fontsize": 7, "annotation_clip": False, "va": "top", "zorder": 7}
            behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            ax.annotate(f"{y[peak]:.2g}", (x[peak], top), (5, -2), textcoords="offset points", bbox=behind, **look)
            ax.plot([x[peak]], [top], "^", color=colour, markersize=5, clip_on=False, zorder=7)


def plain_ticks(ax: Any, positions: Any) -> None:
    """Label a logarithmic axis by the numbers that were tried."""
    ticker = require("matplotlib.ticker")
    ax.set_xticks(list(positions), [str(at) for at in positions])
    ax.xaxis.set_minor_locator(ticker.NullLocator())
