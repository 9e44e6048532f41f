"""Test accuracy of a linear read-out on random features, against their number (arXiv 2402.02697)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq._optional import require
from rmtdeq.reproduce import published
from rmtdeq.reproduce.outcome import Curve, Outcome, Row
from rmtdeq.reproduce.place import Parts, Place

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = {
    "DEQ": ("o-", _style.CLASSES[0]),
    "designed": ("s-", _style.THEORY),
    "plain, one layer": ("^--", _style.OTHER),
    "plain, two layers": ("v:", _style.CLASSES[2]),
}
_BATCH, _TIMED, _STEP = 2000, 1000, 128

Means: TypeAlias = dict[tuple[float, str, int, str], float]
"""Accuracy by σ_a², activation, width and network."""

Samples: TypeAlias = "tuple[Tensor, Tensor]"


@dataclass(frozen=True)
class Accuracy:
    """Parameters: images, networks, and the read-out's training; σ_b² = 1 - σ_a²."""

    dataset: str = "mnist"
    activations: tuple[str, ...] = ("tanh", "relu")
    sigma_a2: tuple[float, ...] = (0.2,)
    widths: tuple[int, ...] = published.ACCURACY_WIDTHS
    train: int = 50_000
    test: int = 8_000
    epochs: int = 100
    rate: float = 1.0
    draws: int = 1
    class_wise: bool = False
    convnet_epochs: int = 0


def of_random_features(parameters: Accuracy, place: Place) -> Outcome:
    """Train read-outs; with `convnet_epochs`, on a convolutional network's features instead of pixels."""
    require("torch")
    train, test = _data(parameters, place)
    parts = Parts(place.folder("accuracy"), {**asdict(parameters), "seed": place.seed})
    settings = [(sigma, activation) for sigma in parameters.sigma_a2 for activation in parameters.activations]
    means: Means = {}
    seconds, designed = {}, {}
    for sigma, activation in settings:
        deq = rd.DEQ(activation, sigma, 1 - sigma)
        net = rd.design(deq, 1.0, norms=_class_norms(*train) if parameters.class_wise else None)
        designed[f"{activation}, σ_a² = {sigma:g}"] = repr(net)
        for width in place.each(parameters.widths, f"{activation}, {sigma:g}, widths"):
            for name, make in _makers(deq, net, train[0].shape[1], width).items():
                # The plain networks are the same for all variances.
                own = f"{name}-{activation}-{width}" + ("" if name.startswith("plain") else f"-{sigma:g}")
                found = [
                    parts.once(
                        f"{own}-{draw}".replace(", ", "-").replace(" ", "-"),
                        partial(_tried, make, place.seed + draw, train, test, parameters),
                    )
                    for draw in range(parameters.draws)
                ]
                means[sigma, activation, width, name] = float(np.mean([each["accuracy"] for each in found]))
                seconds[f"{own}"] = float(found[0]["seconds"])
    curves = [
        Curve(f"{parameters.dataset}, {activation}, σ_a² = {sigma:g}, {name}", parameters.widths, values)
        for sigma, activation in settings
        for name, values in _by_network(means, sigma, activation, parameters).items()
    ]
    return Outcome(
        tuple(_rows(means, parameters)),
        tuple(curves),
        lambda figure: _draw(figure, means, parameters),
        (4.4 * len(parameters.activations), 3.3 * len(parameters.sigma_a2)),
        {"networks": designed, f"seconds for {_TIMED} images": seconds},
    )


def _by_network(means: Means, sigma: float, activation: str, parameters: Accuracy) -> dict[str, list[float]]:
    return {name: [means[sigma, activation, width, name] for width in parameters.widths] for name in NETWORKS}


def _data(parameters: Accuracy, place: Place) -> tuple[Samples, Samples]:
    """Samples centred by the mean of those trained on and scaled to their mean squared norm, and labels."""
    torch = require("torch")
    if parameters.convnet_epochs:
        from rmtdeq.reproduce.convnet import image_features

        found = image_features(parameters.dataset, parameters.train, parameters.test, parameters.convnet_epochs, place)
        (X, y), (Z, z) = (found.X, found.y), found.test
    else:
        common: dict[str, Any] = {"raw": True, "seed": place.seed, "data_dir": place.data_dir}
        X, y = rd.load_dataset(parameters.dataset, n=parameters.train, split="train", **common)
        Z, z = rd.load_dataset(parameters.dataset, n=parameters.test, split="test", **common)
    X, Z = (each.reshape(len(each), -1).astype(np.float64) for each in (X, Z))
    centre = X.mean(axis=0)
    scale = np.sqrt(((X - centre) ** 2).sum(axis=1).mean())
    (train, test) = (
        (torch.from_numpy((each - centre) / scale).float().to(place.device), torch.from_numpy(of).to(place.device))
        for each, of in ((X, y), (Z, z))
    )
    return train, test


def _class_norms(X: Tensor, y: Tensor) -> list[float]:
    squares = (X * X).sum(dim=1)
    return [float(squares[y == a].mean()) for a in range(int(y.max()) + 1)]


def _makers(deq: rd.DEQ, net: rd.ExplicitNetwork, p: int, width: int) -> dict[str, Callable[[int], nn.Module]]:
    """Return for each network what makes it from a seed."""
    from rmtdeq.models import ExplicitModule

    return {
        "DEQ": lambda seed: deq.to_torch(p, width, seed),
        "designed": lambda seed: net.to_torch(p, width, seed),
        "plain, one layer": lambda seed: ExplicitModule(p, [width], plain_layers(deq, 1), seed),
        "plain, two layers": lambda seed: ExplicitModule(p, [width] * 2, plain_layers(deq, 2), seed),
    }


def _tried(
    make: Callable[[int], nn.Module], seed: int, train: Samples, test: Samples, parameters: Accuracy
) -> dict[str, float]:
    module = make(seed).to(train[0].device)
    seconds = min(_timed(module, train[0][:_TIMED]) for _ in range(3))
    Z, Z_test = (_features(module, each[0]) for each in (train, test))
    return {"accuracy": _read_out(Z, train[1], Z_test, test[1], seed, parameters), "seconds": seconds}


def plain_layers(deq: rd.DEQ, depth: int) -> list[rd.Activation]:
    """Return the DEQ's own activation, centred at the scale of each layer."""
    from rmtdeq.gauss import moments

    layers, square = [], 1.0
    for _ in range(depth):
        layers.append(rd.DEQ(deq.activation, 0.0, 1.0).pinned(square).activation)
        square = moments(layers[-1], square**0.5).square
    return layers


def _timed(module: nn.Module, X: Tensor) -> float:
    start = time.perf_counter()
    _features(module, X)
    return time.perf_counter() - start


def _features(module: nn.Module, X: Tensor) -> Tensor:
    torch = require("torch")
    with torch.no_grad():
        return torch.cat([module(batch) for batch in X.split(_BATCH)])


def _read_out(Z: Tensor, y: Tensor, Z_test: Tensor, y_test: Tensor, seed: int, parameters: Accuracy) -> float:
    """Train a linear read-out on the cross-entropy by stochastic gradient descent; return its test accuracy."""
    torch = require("torch")
    generator = torch.Generator().manual_seed(seed)
    classes = int(y.max()) + 1
    wanted = torch.nn.functional.one_hot(y, classes).to(Z)
    weight, bias = Z.new_zeros(Z.shape[1], classes), Z.new_zeros(classes)
    for _ in range(parameters.epochs):
        for rows in torch.randperm(len(Z), generator=generator).to(Z.device).split(_STEP):
            inputs = Z[rows]
            # The gradient written out, for these are tens of thousands of tiny steps.
            off = torch.softmax(torch.addmm(bias, inputs, weight), dim=1).sub_(wanted[rows])
            weight.addmm_(inputs.T, off, alpha=-parameters.rate / len(rows))
            bias.sub_(off.sum(dim=0), alpha=parameters.rate / len(rows))
    return float(((Z_test @ weight + bias).argmax(dim=1) == y_test).double().mean())


def _rows(means: Means, parameters: Accuracy) -> list[Row]:
    full = Accuracy()
    smaller = ", ".join(
        f"{mine:,} {what} of {theirs:,}"
        for mine, theirs, what in (
            (parameters.train, full.train, "images"),
            (parameters.epochs, full.epochs, "epochs"),
        )
        if mine < theirs
    )
    rows: list[Row] = []
    off: dict[str, list[float]] = {}
    for (sigma, activation, width, name), value in means.items():
        known = published.accuracy(parameters.dataset, activation, name.partition(",")[0], width)
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
    claim = "" if widest >= full.widths[-1] else f"width {widest} of {full.widths[-1]}"
    for sigma in parameters.sigma_a2:
        for activation in parameters.activations:
            gap = abs(means[sigma, activation, widest, "DEQ"] - means[sigma, activation, widest, "designed"])
            setting = f"{activation}, σ_a² = {sigma:g}, width {widest}"
            rows.append(Row(f"{setting}: DEQ from designed", gap, 0.0, "claim: the same", "=", claim))
    return rows


def _draw(figure: Any, means: Means, parameters: Accuracy) -> None:
    grid = figure.subplots(len(parameters.sigma_a2), len(parameters.activations), squeeze=False, sharey=True)
    for line, sigma in zip(grid, parameters.sigma_a2, strict=True):
        for ax, activation in zip(line, parameters.activations, strict=True):
            stars: list[float] = []
            for name, values in _by_network(means, sigma, activation, parameters).items():
                style, colour = NETWORKS[name]
                ax.plot(parameters.widths, values, style, color=colour, markersize=4.5, label=name)
                if name != "plain, two layers":
                    known = [
                        published.accuracy(parameters.dataset, activation, name.partition(",")[0], width) or np.nan
                        for width in parameters.widths
                    ]
                    stars += known
                    ax.plot(parameters.widths, known, "*", color=colour, markersize=9, mfc="none")
            if not np.isnan(stars).all():
                ax.plot([], [], "*", color="black", mfc="none", markersize=9, label="the paper's, by colour")
            ax.set_xscale("log", base=2)
            _style.plain_ticks(ax, parameters.widths)
            ax.set_title(f"{activation}, $\\sigma_a^2$ = {sigma:g}", loc="left", fontsize=10)
            _style.open_frame(ax)
        line[0].set_ylabel("test accuracy")
    for ax in grid[-1]:
        ax.set_xlabel("width")
    grid[0][-1].legend(frameon=False, fontsize=7.5, loc="lower right")
    trained = f"{parameters.train:,} images, {parameters.epochs} epochs"
    figure.suptitle(f"{parameters.dataset}, {trained}: linear read-out on random features", fontsize=10)
