"""Why published accuracies of explicit networks differ: the read-out's rate (arXiv 2402.02697)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq.papers import published
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.read_out import (
    NETWORKS,
    PAPER,
    Samples,
    Task,
    accuracy_of,
    features,
    finish,
    images,
    makers,
    published_for,
)
from rmtdeq.papers.setting import Parts, Setting

if TYPE_CHECKING:
    from torch import nn

_NAMES = tuple(name for name in NETWORKS if name != "DEQ")

Means: TypeAlias = dict[tuple[str, int, str], list[float]]
"""Accuracy at each rate, by activation, width and network."""


@dataclass(frozen=True)
class Rates:
    """Parameters: images, networks, and rates of the read-out's training; σ_b² = 1 - σ_a²."""

    dataset: str = "mnist"
    activations: tuple[str, ...] = ("tanh", "relu")
    sigma_a2: float = 0.2
    widths: tuple[int, ...] = (256,)
    rates: tuple[float, ...] = (0.25, 0.5, 1.0)
    train: int = PAPER.train
    test: int = PAPER.test
    epochs: int = PAPER.epochs
    draws: int = 1


def of_read_out(parameters: Rates, setting: Setting) -> Outcome:
    """Train read-outs of the same features at several rates: features √c times as large learn like a rate of c."""
    require("torch")
    task = Task(parameters.dataset, parameters.train, parameters.test, parameters.epochs)
    train, test = images(task, setting)
    record = {**asdict(task), "sigma_a2": parameters.sigma_a2, "rates": parameters.rates, "seed": setting.seed}
    parts = Parts(setting.folder("rates"), record)
    means: Means = {}
    for activation in parameters.activations:
        deq = rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2)
        net = rd.design(deq, 1.0)
        for width in setting.each(parameters.widths, f"{activation}, widths"):
            made = makers(deq, net, train[0].shape[1], width)
            for name in _NAMES:
                own = f"{name}-{activation}-{width}".replace(", ", "-").replace(" ", "-")
                found = [
                    parts.once(
                        f"{own}-{draw}", partial(_tried, made[name], setting.seed + draw, train, test, parameters)
                    )["accuracies"]
                    for draw in range(parameters.draws)
                ]
                means[activation, width, name] = np.mean(found, axis=0).tolist()
    curves = [
        Curve(f"{parameters.dataset}, {activation}, width {width}, {name}", parameters.rates, values)
        for (activation, width, name), values in means.items()
    ]
    return Outcome(
        tuple(_rows(means, parameters, task.caveat)),
        tuple(curves),
        lambda figure: _draw(figure, means, parameters, task),
        (4.4 * len(parameters.activations), 3.3 * len(parameters.widths)),
    )


def _tried(
    make: Callable[[int], nn.Module], seed: int, train: Samples, test: Samples, parameters: Rates
) -> dict[str, list[float]]:
    module = make(seed).to(train[0].device)
    known, asked = ((features(module, each[0]), each[1]) for each in (train, test))
    return {"accuracies": [accuracy_of(known, asked, seed, parameters.epochs, rate) for rate in parameters.rates]}


def _rows(means: Means, parameters: Rates, smaller: str) -> list[Row]:
    rows = []
    for (activation, width, name), values in means.items():
        known = published_for(parameters.dataset, activation, name, width)
        source = "" if known is None else published.READ_OFF
        # Which rate it was is the question: only the nearest counts.
        nearest = None if known is None else int(np.argmin([abs(value - known) for value in values]))
        for i, (rate, value) in enumerate(zip(parameters.rates, values, strict=True)):
            caveat = smaller or ("" if i == nearest else "another rate comes nearer")
            rows.append(Row(f"{activation}, {name}, width {width}: rate {rate:g}", value, known, source, "=", caveat))
    return rows


def _draw(figure: Any, means: Means, parameters: Rates, task: Task) -> None:
    grid = figure.subplots(len(parameters.widths), len(parameters.activations), squeeze=False, sharex=True)
    for line, width in zip(grid, parameters.widths, strict=True):
        for ax, activation in zip(line, parameters.activations, strict=True):
            for name in _NAMES:
                look, colour = NETWORKS[name]
                values = means[activation, width, name]
                ax.plot(parameters.rates, values, look, color=colour, markersize=4.5, label=name)
                known = published_for(parameters.dataset, activation, name, width)
                # One plain network is published, which may have one layer or two.
                if known is not None and name != "plain, two layers":
                    ax.axhline(known, color=colour, linestyle=(0, (1, 2)), linewidth=1.2)
            ax.plot([], [], linestyle=(0, (1, 2)), color="black", label="the paper's, by colour")
            ax.set_xscale("log", base=2)
            style.plain_ticks(ax, parameters.rates)
            ax.set_title(f"{activation}, width {width}", loc="left", fontsize=10)
    finish(figure, grid, "rate of the read-out", task)
