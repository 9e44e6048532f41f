"""Data with the mixture that they come from, or are taken to come from; and data with targets, on a sphere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rmtdeq import _check
from rmtdeq._errors import InvalidInputError
from rmtdeq._types import FloatArray, IntArray, Seed
from rmtdeq.data.catalog import DATASETS
from rmtdeq.data.datasets import load_dataset
from rmtdeq.data.mixture import GaussianMixture
from rmtdeq.data.sphere import on_sphere

_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class Problem:
    """Data, the mixture they come from, and the squared norm at which the activation is centred."""

    name: str
    X: FloatArray
    y: IntArray
    mixture: GaussianMixture
    n: int
    tau0_squared: float
    class_names: tuple[str, ...]


def example_mixture(p: int, classes: int) -> GaussianMixture:
    """Return the papers' synthetic mixture: μ_a = 8 e_{8a}, C_a = (1 + 8a/√p) I, a = 0 … K-1."""
    if classes < 1 or p <= 8 * (classes - 1):
        raise InvalidInputError(f"A mixture of {classes} classes needs p > {8 * max(classes - 1, 0)}, not {p}.")
    means = np.zeros((classes, p))
    means[np.arange(classes), 8 * np.arange(classes)] = 8.0
    return GaussianMixture(means, list(1 + 8 * np.arange(classes) / np.sqrt(p)))


def mixture_problem(p: int, classes: int = 2, n: int | None = None, seed: Seed = 0) -> Problem:
    """Return samples of `example_mixture`, 0.8 p of them by default."""
    mixture = example_mixture(p, classes)
    count = int(_SHARE * p) if n is None else n
    X, y = mixture.sample(count, seed)
    name = f"Gaussian mixture, K = {mixture.classes}, p = {p}"
    names = tuple(f"class {a}" for a in range(mixture.classes))
    return Problem(name, X, y, mixture, count, mixture.mean_squared_norm, names)


def image_problem(
    dataset: str,
    classes: Sequence[int] | None = None,
    n: int | None = None,
    *,
    covariance: str = "common",
    seed: Seed = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> Problem:
    """Return some images of a data set, and the mixture estimated from all of its training images of these classes."""
    wanted = None if classes is None else tuple(classes)
    everything, labels = load_dataset(dataset, classes=wanted, data_dir=data_dir)
    mixture = GaussianMixture.from_data(everything, labels, covariance=covariance)
    count = min(int(_SHARE * mixture.dimension), len(labels)) if n is None else n
    X, y = load_dataset(dataset, classes=wanted, n=count, seed=seed, data_dir=data_dir)
    meanings = DATASETS[dataset].classes
    names = tuple(meanings[label] for label in (sorted(meanings) if wanted is None else wanted))
    return Problem(_shown(dataset, wanted), X, y, mixture, count, mixture.mean_squared_norm, names)


@dataclass(frozen=True, eq=False)
class Targets:
    """Samples of one norm with targets, and those of the test if there is one."""

    name: str
    X: FloatArray
    y: FloatArray
    test: tuple[FloatArray, FloatArray] | None


def random_targets(n: int, p: int, norm: float, test: int = 0, seed: Seed = 0) -> Targets:
    """Return samples uniform on a sphere, with independent targets N(0, 1)."""
    rng = _check.generator(seed)
    # The training samples come first: they do not depend on how many are tested.
    drawn = [(on_sphere(rng.standard_normal((size, p)), norm), rng.standard_normal(size)) for size in (n, test) if size]
    return Targets(f"uniform on the sphere, p = {p}", *drawn[0], drawn[1] if test else None)


def signed_classes(
    dataset: str,
    classes: Sequence[int],
    n: int,
    norm: float | None = None,
    *,
    test: int = 0,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> Targets:
    """Return images of two classes, scaled to one norm (√p by default), with the targets -1 and 1."""
    parts = []
    splits: tuple[tuple[Literal["train", "test"], int], ...] = (("train", n), ("test", test))
    for split, size in splits:
        if size:
            pixels, labels = load_dataset(
                dataset, classes=tuple(classes), n=size, split=split, seed=seed, data_dir=data_dir, raw=True
            )
            radius = float(np.sqrt(pixels.shape[1])) if norm is None else norm
            parts.append((on_sphere(pixels.astype(float), radius, seed), 2.0 * labels - 1.0))
    return Targets(_shown(dataset, classes), *parts[0], parts[1] if test else None)


def _shown(dataset: str, classes: Sequence[int] | None) -> str:
    return dataset if classes is None else f"{dataset} {' vs '.join(map(str, classes))}"
