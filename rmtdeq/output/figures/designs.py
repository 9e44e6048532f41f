"""Designed networks beside the models that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.activations import moments
from rmtdeq.designs import ExplicitNetwork, KernelComparison
from rmtdeq.network import DEQ, preactivation_scale


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
        left.set_title(style.KERNELS[comparison.kind], loc="left", fontsize=10)
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
