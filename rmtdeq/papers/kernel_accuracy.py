"""Test accuracy of kernel ridge regression on whole data sets: kernels of DEQs beside others in use."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.data import Scaling
from rmtdeq.kernels import kernel_diagonal
from rmtdeq.learning import RidgeFit, Solver
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Parts, Setting

_PAIRS = 2000
_DEPTH = 20
_HE = 2.0
"""σ_b² with which a ReLU layer keeps the squared norm of what it is given."""


@dataclass(frozen=True)
class KernelAccuracy:
    """Parameters: images (n, test = 0 stands for all), DEQs, and ridges in units of the kernel's mean diagonal.

    With ``finished`` nothing is computed, and what a checkpoint has is shown.
    """

    datasets: tuple[str, ...] = ("mnist", "fashion-mnist", "cifar10")
    n: int = 0
    test: int = 0
    activations: tuple[str, ...] = ("relu", "tanh")
    kinds: tuple[str, ...] = ("ck", "ntk")
    sigma_a2: float = 0.2
    largest: float = 10.0
    smallest: float = 1e-3
    ridges: int = 9
    finished: bool = False


@dataclass(frozen=True, eq=False)
class _Images:
    """Images to learn from and to test on, in one scaling, with their labels."""

    X: FloatArray
    y: IntArray
    Z: FloatArray
    z: IntArray

    @property
    def indicators(self) -> FloatArray:
        return np.eye(int(self.y.max()) + 1)[self.y]


def of_whole_sets(parameters: KernelAccuracy, setting: Setting) -> Outcome:
    """Learn with every kernel, its ridge found by leaving out, and test; a checkpoint keeps what is done."""
    record = {**asdict(parameters), "seed": setting.seed}
    for name in ("datasets", "activations", "kinds", "finished"):
        del record[name]
    parts = Parts(setting.folder("accuracy"), record)
    found: dict[str, dict[str, Mapping[str, FloatArray]]] = {}
    for dataset in parameters.datasets:
        images = _images(dataset, parameters, setting)
        networks = _networks(images.X, parameters, setting.seed)
        found[dataset] = {}
        for name in setting.each(list(networks), f"{dataset}, kernels"):
            place = f"{dataset}-{name}".replace(", ", "-").replace(" ", "-")
            learn = partial(_learnt, images, *networks[name], parameters, setting, place)
            part = parts.find(place) if parameters.finished else parts.once(place, learn)
            if part is not None:
                found[dataset][name] = part
    if not any(found.values()):
        raise rd.InvalidInputError("No kernel is finished; name the checkpoint that has some, or leave out finished.")
    rows = [row for dataset, by_kernel in found.items() for row in _rows(dataset, by_kernel)]
    curves = [
        Curve(f"{dataset}, {name}, left out", part["ridges"], part["error rates left out"])
        for dataset, by_kernel in found.items()
        for name, part in by_kernel.items()
    ]
    seconds = {
        f"{dataset}, {name}": float(part["seconds"])
        for dataset, by_kernel in found.items()
        for name, part in by_kernel.items()
    }
    return Outcome(
        tuple(rows),
        tuple(curves),
        lambda figure: _draw(figure, found, parameters),
        (4.2 * len(found), 3.4),
        {"seconds": seconds},
    )


def _images(dataset: str, parameters: KernelAccuracy, setting: Setting) -> _Images:
    common: dict[str, Any] = {"raw": True, "shuffle": True, "seed": setting.seed, "data_dir": setting.data_dir}
    X, y = rd.load_dataset(dataset, n=parameters.n or None, **common)
    Z, z = rd.load_dataset(dataset, n=parameters.test or None, split="test", **common)
    X, Z = (each.reshape(len(each), -1).astype(np.float32) for each in (X, Z))
    scaling = Scaling.of(X)
    return _Images(scaling.apply(X).astype(np.float32), y, scaling.apply(Z).astype(np.float32), z)


def _networks(X: FloatArray, parameters: KernelAccuracy, seed: int) -> dict[str, tuple[rd.Network, str]]:
    """Return networks and kinds of kernel by name."""
    found: dict[str, tuple[rd.Network, str]] = {
        f"{kind.upper()} of the {activation} DEQ": (
            rd.DEQ(activation, parameters.sigma_a2, 1 - parameters.sigma_a2).pinned(1.0),
            kind,
        )
        for activation in parameters.activations
        for kind in parameters.kinds
    }
    for depth in (1, _DEPTH):
        layers = [rd.Layer("relu", sigma_b2=_HE)] * depth
        found[f"NTK, {depth} ReLU layer{'s' if depth > 1 else ''}"] = (rd.Network(layers), "ntk-full")
    # The dual of this activation is exp(-γ |x - y|²).
    gaussian = rd.activation("rbf", 0.5 / _median_square(X, seed))
    found["Gaussian, median width"] = (rd.Network([gaussian]), "ck")
    return found


def _median_square(X: FloatArray, seed: int) -> float:
    """Return the median squared distance of random pairs of samples."""
    rng = np.random.default_rng(seed)
    one, other = (X[rng.integers(len(X), size=_PAIRS)].astype(float) for _ in range(2))
    squares = np.square(one - other).sum(axis=1)
    return float(np.median(squares[squares > 0]))


def _learnt(
    images: _Images, network: rd.Network, kind: str, parameters: KernelAccuracy, setting: Setting, place: str
) -> dict[str, Any]:
    start = time.perf_counter()
    unit = float(kernel_diagonal(images.X, network, kind).mean())
    ridges = unit * np.geomspace(parameters.largest, parameters.smallest, parameters.ridges)
    solver, folder = Solver(device=setting.engine), None
    if solver.choice(len(images.X), len(ridges) == 1, images.X.dtype) == "iterative":
        folder = setting.folder("unfinished", place)
        solver = replace(solver, folder=folder)
    _, fits = solver.learn(images.X, images.indicators, network, kind, ridges.tolist())
    best = min(fits, key=lambda fit: fit.loo_error)
    values = solver.values(images.Z, images.X, network, kind, best.coefficients, best.intercept)
    if folder is not None:
        # Half the kernel is in there; what it was for is done.
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "ridges": ridges / unit,
        "errors left out": [fit.loo_error for fit in fits],
        "error rates left out": [_left_out(images, fit) for fit in fits],
        "ridge": best.ridge / unit,
        "error rate left out": _left_out(images, best),
        "error rate": float(np.mean(values.argmax(axis=1) != images.z)),
        "error": float(np.square(values - np.eye(values.shape[1])[images.z]).mean()),
        "seconds": time.perf_counter() - start,
    }


def _left_out(images: _Images, fit: RidgeFit) -> float:
    return float(np.mean((images.indicators - fit.residuals).argmax(axis=1) != images.y))


def _rows(dataset: str, by_kernel: Mapping[str, Mapping[str, FloatArray]]) -> list[Row]:
    rows = []
    for name, part in by_kernel.items():
        told, foretold = 100 * (1 - float(part["error rate"])), 100 * (1 - float(part["error rate left out"]))
        rows.append(Row(f"{dataset}, {name}: test accuracy, %", told, foretold, "left out of the training"))
        rows.append(Row(f"{dataset}, {name}: ridge / mean diagonal", float(part["ridge"])))
    return rows


def _draw(figure: Any, found: Mapping[str, Mapping[str, Mapping[str, FloatArray]]], parameters: KernelAccuracy) -> None:
    """Draw the test accuracy of every kernel, and what leaving out had said."""
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(name for by_kernel in found.values() for name in by_kernel))[::-1]
    for ax, (dataset, by_kernel) in zip(panels, found.items(), strict=True):
        places = [names.index(name) for name in by_kernel]
        told, foretold = (
            [100 * (1 - float(part[key])) for part in by_kernel.values()]
            for key in ("error rate", "error rate left out")
        )
        for place, value in zip(places, told, strict=True):
            ax.annotate(f"{value:.2f}", (value, place), (0, 6), textcoords="offset points", ha="center", fontsize=7.5)
        for place in set(range(len(names))).difference(places):
            middle = ("axes fraction", "data")
            ax.annotate("not finished", (0.5, place), xycoords=middle, ha="center", va="center", fontsize=7.5)
        ax.plot(told, places, "o", color=style.THEORY, markersize=5, label="test")
        ax.plot(foretold, places, "|", color=style.DATA_EDGE, markersize=11, label="left out")
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.6, len(names) - 0.3)
        ax.margins(x=0.12)
        ax.set_xlabel("accuracy, %")
        ax.set_title(dataset, loc="left", fontsize=10)
        ax.grid(axis="y", color="0.93", lw=0.8)
        style.open_frame(ax)
    panels[0].legend(frameon=False, fontsize=7.5, loc="lower left")
    samples = f"n = {parameters.n:,}" if parameters.n else "all training images"
    figure.suptitle(f"Kernel ridge regression, {samples}", fontsize=11)
