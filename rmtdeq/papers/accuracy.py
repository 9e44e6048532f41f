"""Test accuracy of a linear read-out on random features, against their number (arXiv 2402.02697)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.papers import published
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.read_out import (
    NETWORKS,
    PAPER,
    TIMED,
    Samples,
    Task,
    accuracy_of,
    class_norms,
    features,
    finish,
    images,
    makers,
    published_for,
    seconds_for,
)
from rmtdeq.papers.setting import Parts, Setting

if TYPE_CHECKING:
    from torch import nn

_LINE = 3
"""So many widths make a line."""

Means: TypeAlias = dict[tuple[float, str, int, str], float]
"""Accuracy by σ_a², activation, width and network."""


@dataclass(frozen=True)
class Accuracy:
    """Parameters: images, networks, and the read-out's training; σ_b² = 1 - σ_a²; draws for all widths or for each."""

    dataset: str = "mnist"
    activations: tuple[str, ...] = ("tanh", "relu")
    sigma_a2: tuple[float, ...] = (0.2,)
    widths: tuple[int, ...] = published.ACCURACY_WIDTHS
    train: int = PAPER.train
    test: int = PAPER.test
    epochs: int = PAPER.epochs
    rate: float = 1.0
    draws: tuple[int, ...] = (1,)
    class_wise: bool = False
    convnet_epochs: int = 0


def of_random_features(parameters: Accuracy, setting: Setting) -> Outcome:
    """Train read-outs; with `convnet_epochs`, on a convolutional network's features instead of pixels."""
    require("torch")
    draws = dict(zip(parameters.widths, _draws(parameters), strict=True))
    task = Task(parameters.dataset, parameters.train, parameters.test, parameters.epochs, parameters.convnet_epochs)
    train, test = images(task, setting)
    # More widths, variances or draws go on from what is there.
    record = {**asdict(task), "rate": parameters.rate, "class_wise": parameters.class_wise, "seed": setting.seed}
    parts = Parts(setting.folder("accuracy"), record)
    settings = [(sigma, activation) for sigma in parameters.sigma_a2 for activation in parameters.activations]
    means: Means = {}
    errors: dict[str, float] = {}
    seconds, designed = {}, {}
    for sigma, activation in settings:
        deq = rd.DEQ(activation, sigma, 1 - sigma)
        net = rd.design(deq, 1.0, norms=class_norms(*train) if parameters.class_wise else None)
        designed[f"{activation}, σ_a² = {sigma:g}"] = repr(net)
        for width in setting.each(parameters.widths, f"{activation}, {sigma:g}, widths"):
            for name, make in makers(deq, net, train[0].shape[1], width).items():
                # The plain networks are the same for all variances.
                own = f"{name}-{activation}-{width}" + ("" if name.startswith("plain") else f"-{sigma:g}")
                found = [
                    parts.once(
                        f"{own}-{draw}".replace(", ", "-").replace(" ", "-"),
                        partial(_tried, make, setting.seed + draw, train, test, parameters),
                    )
                    for draw in range(draws[width])
                ]
                accuracies = [float(each["accuracy"]) for each in found]
                means[sigma, activation, width, name] = float(np.mean(accuracies))
                if len(found) > 1:
                    errors[own] = float(np.std(accuracies, ddof=1) / len(found) ** 0.5)
                seconds[own] = float(found[0]["seconds"])
    curves = [
        Curve(f"{parameters.dataset}, {activation}, σ_a² = {sigma:g}, {name}", parameters.widths, values)
        for sigma, activation in settings
        for name, values in _by_network(means, sigma, activation, parameters).items()
    ]
    few = len(parameters.widths) < _LINE
    return Outcome(
        tuple(_rows(means, parameters, task.caveat)),
        tuple(curves),
        lambda figure: (_draw_few if few else _draw)(figure, means, parameters, task),
        (4.4 * len(parameters.activations), 3.8 if few else 3.3 * len(parameters.sigma_a2)),
        {"networks": designed, f"seconds for {TIMED} images": seconds, "standard errors": errors},
    )


def _by_network(means: Means, sigma: float, activation: str, parameters: Accuracy) -> dict[str, list[float]]:
    return {name: [means[sigma, activation, width, name] for width in parameters.widths] for name in NETWORKS}


def _tried(
    make: Callable[[int], nn.Module], seed: int, train: Samples, test: Samples, parameters: Accuracy
) -> dict[str, float]:
    module = make(seed).to(train[0].device)
    seconds = min(seconds_for(module, train[0][:TIMED]) for _ in range(3))
    Z, Z_test = ((features(module, each[0]), each[1]) for each in (train, test))
    return {"accuracy": accuracy_of(Z, Z_test, seed, parameters.epochs, parameters.rate), "seconds": seconds}


def _draws(parameters: Accuracy) -> tuple[int, ...]:
    """Return how many networks of each width there are."""
    draws, widths = parameters.draws, parameters.widths
    if len(draws) not in (1, len(widths)) or min(draws) < 1:
        raise InvalidInputError(f"draws must be one number, or one for each of {len(widths)} widths, not {draws}.")
    return draws * len(widths) if len(draws) == 1 else draws


def _rows(means: Means, parameters: Accuracy, smaller: str) -> list[Row]:
    rows: list[Row] = []
    off: dict[str, list[float]] = {}
    for (sigma, activation, width, name), value in means.items():
        known = published_for(parameters.dataset, activation, name, width)
        setting = f"{activation}, σ_a² = {sigma:g}, {name}"
        rows.append(
            Row(f"{setting}: width {width}", value, known, "" if known is None else published.READ_OFF, "=", smaller)
        )
        if known is not None:
            off.setdefault(setting, []).append(abs(value - known))
    rows += [
        Row(f"{setting}: mean distance over widths", float(np.mean(values)), 0.0, "the paper's", "=", smaller)
        for setting, values in off.items()
    ]
    widest = max(parameters.widths)
    theirs = published.ACCURACY_WIDTHS[-1]
    claim = "" if widest >= theirs else f"width {widest} of {theirs}"
    for sigma in parameters.sigma_a2:
        for activation in parameters.activations:
            gap = abs(means[sigma, activation, widest, "DEQ"] - means[sigma, activation, widest, "designed"])
            setting = f"{activation}, σ_a² = {sigma:g}, width {widest}"
            rows.append(Row(f"{setting}: DEQ from designed", gap, 0.0, "claim: the same", "=", claim))
    return rows


def _draw_few(figure: Any, means: Means, parameters: Accuracy, task: Task) -> None:
    """Draw the accuracies at one or two widths: points side by side, no lines through what was not tried."""
    panels = figure.subplots(1, len(parameters.activations), squeeze=False, sharey=True)
    places = [(width, sigma) for width in parameters.widths for sigma in parameters.sigma_a2]
    for ax, activation in zip(panels[0], parameters.activations, strict=True):
        for i, (name, (look, colour)) in enumerate(NETWORKS.items()):
            x = np.arange(len(places)) + 0.18 * (i - (len(NETWORKS) - 1) / 2)
            values = [means[sigma, activation, width, name] for width, sigma in places]
            ax.plot(x, values, look[0], color=colour, markersize=5, label=name)
            if name != "plain, two layers":
                known = [published_for(parameters.dataset, activation, name, width) or np.nan for width, _ in places]
                ax.plot(x, known, "*", color=colour, markersize=9, mfc="none")
        ax.plot([], [], "*", color="black", mfc="none", markersize=9, label="the paper's, by colour")
        for edge in range(1, len(places)):
            between_widths = edge % len(parameters.sigma_a2) == 0
            ax.axvline(edge - 0.5, color="0.6" if between_widths else "0.9", lw=0.8, zorder=0)
        ax.set_xticks(range(len(places)), [f"{width}\n{sigma:g}" for width, sigma in places])
        ax.set_title(activation, loc="left", fontsize=10)
    finish(figure, panels, "width and $\\sigma_a^2$", task)


def _draw(figure: Any, means: Means, parameters: Accuracy, task: Task) -> None:
    grid = figure.subplots(len(parameters.sigma_a2), len(parameters.activations), squeeze=False, sharey=True)
    for line, sigma in zip(grid, parameters.sigma_a2, strict=True):
        for ax, activation in zip(line, parameters.activations, strict=True):
            stars: list[float] = []
            for name, values in _by_network(means, sigma, activation, parameters).items():
                look, colour = NETWORKS[name]
                ax.plot(parameters.widths, values, look, color=colour, markersize=4.5, label=name)
                if name != "plain, two layers":
                    known = [
                        published_for(parameters.dataset, activation, name, width) or np.nan
                        for width in parameters.widths
                    ]
                    stars += known
                    ax.plot(parameters.widths, known, "*", color=colour, markersize=9, mfc="none")
            if not np.isnan(stars).all():
                ax.plot([], [], "*", color="black", mfc="none", markersize=9, label="the paper's, by colour")
            ax.set_xscale("log", base=2)
            style.plain_ticks(ax, parameters.widths)
            ax.set_title(f"{activation}, $\\sigma_a^2$ = {sigma:g}", loc="left", fontsize=10)
    finish(figure, grid, "width", task)
