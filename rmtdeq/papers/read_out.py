"""A linear read-out on the features of random networks: images, networks, features, training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq.papers import published
from rmtdeq.papers.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = {
    "DEQ": ("o-", style.CLASSES[0]),
    "designed": ("s-", style.THEORY),
    "plain, one layer": ("^--", style.OTHER),
    "plain, two layers": ("v:", style.CLASSES[2]),
}
"""Marker with line, and colour, of each network."""

TIMED = 1000
_BATCH, _STEP = 2000, 128

Samples: TypeAlias = "tuple[Tensor, Tensor]"


@dataclass(frozen=True)
class Task:
    """Images, and how often the read-out sees them; `convnet_epochs` asks for a convolutional network's features."""

    dataset: str
    train: int
    test: int
    epochs: int
    convnet_epochs: int = 0

    @property
    def caveat(self) -> str:
        """What is less than in the paper."""
        sizes = ((self.train, PAPER.train, "images"), (self.epochs, PAPER.epochs, "epochs"))
        return ", ".join(f"{mine:,} {what} of {theirs:,}" for mine, theirs, what in sizes if mine < theirs)


PAPER = Task("mnist", train=50_000, test=8_000, epochs=100)


def published_for(dataset: str, activation: str, name: str, width: int) -> float | None:
    """Return the published accuracy of one of `NETWORKS`, if there is one; both plain ones have the same."""
    return published.accuracy(dataset, activation, name.partition(",")[0], width)


def finish(figure: Any, grid: Any, xlabel: str, task: Task) -> None:
    """Label a grid of panels of accuracies."""
    for line in grid:
        line[0].set_ylabel("test accuracy")
        for ax in line:
            style.open_frame(ax)
    for ax in grid[-1]:
        ax.set_xlabel(xlabel)
    grid[0][-1].legend(frameon=False, fontsize=7.5, loc="lower right")
    trained = f"{task.train:,} images, {task.epochs} epochs"
    figure.suptitle(f"{task.dataset}, {trained}: linear read-out on random features", fontsize=10)


def images(task: Task, setting: Setting) -> tuple[Samples, Samples]:
    """Return samples to train and to test on, centred and scaled by those of the training, and labels."""
    torch = require("torch")
    if task.convnet_epochs:
        from rmtdeq.papers.convnet import image_features

        found = image_features(task.dataset, task.train, task.test, task.convnet_epochs, setting)
        (X, y), (Z, z) = (found.X, found.y), found.test
    else:
        common: dict[str, Any] = {"raw": True, "seed": setting.seed, "data_dir": setting.data_dir}
        X, y = rd.load_dataset(task.dataset, n=task.train, split="train", **common)
        Z, z = rd.load_dataset(task.dataset, n=task.test, split="test", **common)
    X, Z = (each.reshape(len(each), -1) for each in (X, Z))

    def placed(samples: Any, labels: Any) -> Samples:
        scaled = torch.from_numpy(rd.center_and_scale(samples, reference=X)).float()
        return scaled.to(setting.device), torch.from_numpy(labels).to(setting.device)

    return placed(X, y), placed(Z, z)


def class_norms(X: Tensor, y: Tensor) -> list[float]:
    """Return the mean squared norm of each class."""
    squares = (X * X).sum(dim=1)
    return [float(squares[y == a].mean()) for a in range(int(y.max()) + 1)]


def makers(deq: rd.DEQ, net: rd.ExplicitNetwork, p: int, width: int) -> dict[str, Callable[[int], nn.Module]]:
    """Return for each network what makes it from a seed."""
    from rmtdeq.models import ExplicitModule

    return {
        "DEQ": lambda seed: deq.to_torch(p, width, seed),
        "designed": lambda seed: net.to_torch(p, width, seed),
        "plain, one layer": lambda seed: ExplicitModule(p, [width], plain_layers(deq, 1), seed),
        "plain, two layers": lambda seed: ExplicitModule(p, [width] * 2, plain_layers(deq, 2), seed),
    }


def plain_layers(deq: rd.DEQ, depth: int) -> list[rd.Activation]:
    """Return the DEQ's own activation, centred at the scale of each layer."""
    from rmtdeq.activations import moments

    layers, square = [], 1.0
    for _ in range(depth):
        layers.append(rd.DEQ(deq.activation, 0.0, 1.0).pinned(square).activation)
        square = moments(layers[-1], square**0.5).square
    return layers


def features(module: nn.Module, X: Tensor) -> Tensor:
    """Return what a network makes of samples, without gradients."""
    torch = require("torch")
    with torch.no_grad():
        return torch.cat([module(batch) for batch in torch.split(X, _BATCH)])


def seconds_for(module: nn.Module, X: Tensor) -> float:
    """Time a network's forward pass."""
    start = time.perf_counter()
    features(module, X)
    return time.perf_counter() - start


def accuracy_of(train: Samples, test: Samples, seed: int, epochs: int, rate: float) -> float:
    """Train a linear read-out on the cross-entropy by stochastic gradient descent; return its test accuracy."""
    torch = require("torch")
    (Z, y), (Z_test, y_test) = train, test
    generator = torch.Generator().manual_seed(seed)
    classes = int(y.max()) + 1
    wanted = torch.nn.functional.one_hot(y, classes).to(Z)
    weight, bias = Z.new_zeros(Z.shape[1], classes), Z.new_zeros(classes)
    for _ in range(epochs):
        for rows in torch.randperm(len(Z), generator=generator).to(Z.device).split(_STEP):
            inputs = Z[rows]
            # The gradient written out, for these are tens of thousands of tiny steps.
            off = torch.softmax(torch.addmm(bias, inputs, weight), dim=1).sub_(wanted[rows])
            weight.addmm_(inputs.T, off, alpha=-rate / len(rows))
            bias.sub_(off.sum(dim=0), alpha=rate / len(rows))
    return float(((Z_test @ weight + bias).argmax(dim=1) == y_test).double().mean())
