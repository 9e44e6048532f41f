"""Test accuracy of a linear read-out on random features: a DEQ, its designed network, and plain networks.

The plain networks have the DEQ's activation, centred, in one or two layers. Only the read-out is trained, by stochastic
gradient descent on the cross-entropy; all networks have random weights. Their forward passes are timed on one batch.
Accuracies are averaged over seeds, of weights and of batches.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import rmtdeq as rd
from rmtdeq import _style
from rmtdeq.gauss import moments
from rmtdeq.io import manifest, save_figure
from rmtdeq.models import ExplicitModule

BATCH = 2000
TIMED = 1000
NETWORKS = {
    "DEQ": ("o-", _style.CLASSES[0]),
    "designed": ("s-", _style.THEORY),
    "plain, one layer": ("^--", _style.OTHER),
    "plain, two layers": ("v:", _style.CLASSES[2]),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", help="folder with the data set's files")
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu"])
    parser.add_argument("--sigma-a2", type=float, default=0.2)
    parser.add_argument("--sigma-b2", type=float, default=0.8)
    parser.add_argument("--widths", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--train", type=int, default=50_000, help="images to train on (default 50000)")
    parser.add_argument("--test", type=int, default=8_000, help="images to test on (default 8000)")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1.0, help="learning rate (default 1)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--class-wise", action="store_true", help="design at the norms of the classes")
    parser.add_argument("--out", default="figures/random-features", help="figure to write")
    options = parser.parse_args(arguments)

    train, test = data(options)
    results: dict[str, Any] = {}
    for activation in options.activations:
        deq = rd.DEQ(activation, options.sigma_a2, options.sigma_b2)
        norms = class_norms(*train) if options.class_wise else None
        net = rd.design(deq, 1.0, norms=norms)
        print(f"{deq}: {net}")
        for width in options.widths:
            runs = [run(deq, net, width, seed, train, test, options) for seed in options.seeds]
            found = {name: np.mean([r["accuracy"][name] for r in runs]) for name in NETWORKS}
            seconds = runs[0]["seconds"]
            results[f"{activation}, {width}"] = {"accuracy": found, "runs": runs}
            shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            print(f"width {width}: accuracy {shown}; forward pass of {TIMED}: " + times(seconds), flush=True)
    for path in save_figure(figure(results, options), options.out, manifest("random_features", vars(options), results)):
        print(f"wrote {path}")
    return 0


def data(options: argparse.Namespace) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images centred by the mean of the training images and scaled to their mean squared norm, and labels."""
    parts = []
    for split, n in (("train", options.train), ("test", options.test)):
        X, y = rd.load_dataset(options.dataset, n=n, split=split, raw=True, seed=0, data_dir=options.data_dir)
        parts.append((X.reshape(len(X), -1).astype(np.float64), y))
    centre = parts[0][0].mean(axis=0)
    scale = np.sqrt(((parts[0][0] - centre) ** 2).sum(axis=1).mean())
    (train, test) = ((torch.from_numpy((X - centre) / scale).float(), torch.from_numpy(y)) for X, y in parts)
    return train, test


def class_norms(X: Tensor, y: Tensor) -> np.ndarray[Any, Any]:
    """Mean squared norm of each class."""
    squares = (X * X).sum(dim=1)
    return np.array([float(squares[y == a].mean()) for a in range(int(y.max()) + 1)])


def run(
    deq: rd.DEQ,
    net: rd.ExplicitNetwork,
    width: int,
    seed: int,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    options: argparse.Namespace,
) -> dict[str, Any]:
    p = train[0].shape[1]
    modules = {
        "DEQ": deq.to_torch(p, width, seed),
        "designed": net.to_torch(p, width, seed),
        "plain, one layer": ExplicitModule(p, [width], plain_layers(deq, 1), seed),
        "plain, two layers": ExplicitModule(p, [width] * 2, plain_layers(deq, 2), seed),
    }
    accuracy, seconds = {}, {}
    for name, module in modules.items():
        seconds[name] = min(timed(module, train[0][:TIMED]) for _ in range(3))
        inputs, targets = features(module, train[0], name), features(module, test[0], name)
        accuracy[name] = read_out(inputs, train[1], targets, test[1], seed, options)
    return {"accuracy": accuracy, "seconds": seconds}


def plain_layers(deq: rd.DEQ, depth: int) -> list[rd.Activation]:
    """The DEQ's own activation, centred at the scale of each layer."""
    layers, square = [], 1.0
    for _ in range(depth):
        layers.append(rd.DEQ(deq.activation, 0.0, 1.0).pinned(square).activation)
        square = moments(layers[-1], square**0.5).square
    return layers


@torch.no_grad()
def timed(module: torch.nn.Module, X: Tensor) -> float:
    start = time.perf_counter()
    module(X)
    return time.perf_counter() - start


@torch.no_grad()
def features(module: torch.nn.Module, X: Tensor, name: str) -> Tensor:
    batches = tqdm(X.split(BATCH), desc=f"features, {name}", disable=not sys.stderr.isatty(), leave=False)
    return torch.cat([module(batch) for batch in batches])


def read_out(Z: Tensor, y: Tensor, Z_test: Tensor, y_test: Tensor, seed: int, options: argparse.Namespace) -> float:
    """Train a linear read-out and return its test accuracy."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(Z.shape[1], int(y.max()) + 1)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=options.rate)
    for _ in tqdm(range(options.epochs), desc="read-out", disable=not sys.stderr.isatty(), leave=False):
        for rows in torch.randperm(len(Z), generator=generator).split(128):
            optimizer.zero_grad()
            F.cross_entropy(layer(Z[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((layer(Z_test).argmax(dim=1) == y_test).double().mean())


def times(seconds: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in seconds.items())
    return f"{shown} (DEQ / designed: {seconds['DEQ'] / seconds['designed']:.1f})"


def figure(results: dict[str, Any], options: argparse.Namespace) -> Figure:
    drawn = Figure(figsize=(4.6 * len(options.activations), 3.4), layout="constrained")
    grid = drawn.subplots(1, len(options.activations), squeeze=False, sharey=True)[0]
    for ax, activation in zip(grid, options.activations, strict=True):
        for name, (style, colour) in NETWORKS.items():
            accuracy = [results[f"{activation}, {width}"]["accuracy"][name] for width in options.widths]
            ax.plot(options.widths, accuracy, style, color=colour, markersize=5, label=name)
        ax.set_xscale("log", base=2)
        ax.set_xlabel("width")
        ax.set_title(activation, loc="left", fontsize=10)
        _style.open_frame(ax)
    grid[0].set_ylabel("test accuracy")
    grid[0].legend(frameon=False, fontsize=8)
    drawn.suptitle(
        f"{options.dataset}: linear read-out on random features, $\\sigma_a^2$ = {options.sigma_a2:g}", fontsize=11
    )
    return drawn


if __name__ == "__main__":
    sys.exit(main())
