"""Data with the mixture that they come from, or are taken to come from; and data with targets, on a sphere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray, Seed
from rmtdeq.data.catalog import DATASETS
from rmtdeq.data.datasets import class_labels, load_dataset
from rmtdeq.data.estimation import MATRICES
from rmtdeq.data.formats import read_npy
from rmtdeq.data.mixture import GaussianMixture
from rmtdeq.data.scaling import center_and_scale
from rmtdeq.data.shares import drawn
from rmtdeq.data.sphere import on_sphere

_SHARE = 0.8
_MOST = 4000


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

    @property
    def legend(self) -> str:
        """Which class has which number, a line where there are several with names of their own; else nothing."""
        names = self.class_names
        numbers = tuple(map(str, range(len(names))))
        if len(names) == 1 or names in (numbers, _numbers(len(names))):
            return ""
        return f"classes: {', '.join(f'{a} {name}' for a, name in enumerate(names))}\n"


def _numbers(classes: int) -> tuple[str, ...]:
    return tuple(f"class {a}" for a in range(classes))


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
    return Problem(name, X, y, mixture, count, mixture.mean_squared_norm, _numbers(mixture.classes))


def image_problem(
    dataset: str,
    classes: Sequence[int | str] | None = None,
    n: int | None = None,
    *,
    covariance: str = "common",
    seed: Seed = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> Problem:
    """Return some images of a data set, and the mixture estimated from all of its training images of these classes."""
    wanted = None if classes is None else class_labels(dataset, classes)
    everything, labels = load_dataset(dataset, classes=wanted, data_dir=data_dir)
    mixture = GaussianMixture.from_data(everything, labels, covariance=covariance)
    count = min(int(_SHARE * mixture.dimension), len(labels)) if n is None else n
    X, y = load_dataset(dataset, classes=wanted, n=count, seed=seed, data_dir=data_dir)
    meanings = DATASETS[dataset].classes
    names = tuple(meanings[label] for label in (sorted(meanings) if wanted is None else wanted))
    title = _shown(dataset, None if wanted is None else names)
    return Problem(title, X, y, mixture, count, mixture.mean_squared_norm, names)


def own_problem(
    data: str,
    labels: str | None = None,
    classes: Sequence[int | str] | None = None,
    n: int | None = None,
    *,
    as_is: bool = False,
    covariance: str = "common",
    seed: Seed = 0,
) -> Problem:
    """Return samples of an npy file, and the mixture estimated from all that it holds of these classes.

    Labels are those of another npy file, numbers or texts, or else all samples are of one class.  Samples are centred
    and scaled unless they are to be taken `as_is`; arrays of more than two dimensions are flattened sample by sample.
    Full covariances are shrunk as far as so few samples ask for it.
    """
    everything = read_npy(data)
    if labels is not None and (everything.ndim < 2 or everything.dtype.kind not in "fiub"):
        raise InvalidInputError(
            f"{data} must hold real numbers, one sample a row, not {everything.dtype} of shape {everything.shape} "
            "(are --data and --labels swapped?)."
        )
    if everything.ndim > 2:
        everything = everything.reshape(len(everything), -1)
    X = check.samples(everything, data)
    names, y = _named_labels(labels, X)
    if classes is not None:
        X, y, names = _chosen(X, y, names, classes)
    few = [
        f"{name} ({size})" for name, size in zip(names, np.bincount(y, minlength=len(names)), strict=True) if size < 2
    ]
    if few:
        raise InvalidInputError(
            f"Every class needs at least two samples, and these have fewer: {', '.join(few)}; leave them out with "
            "--classes."
        )
    if not as_is:
        X = center_and_scale(X)
    # Whoever brings samples seldom brings many times more than features.
    shrinkage = "auto" if covariance in MATRICES else 0.0
    mixture = GaussianMixture.from_data(X, y, covariance, shrinkage)
    count = min(len(X), _MOST) if n is None else check.integer(n, "n")
    if count > len(X):
        raise InvalidInputError(f"n={count} samples are more than the {len(X)} that there are.")
    rng = check.generator(seed)
    members = [np.flatnonzero(y == a) for a in range(len(names))]
    rows, _ = drawn(count, members, rng)
    return Problem(Path(data).name, X[rows], y[rows], mixture, count, mixture.mean_squared_norm, names)


def _named_labels(path: str | None, X: FloatArray) -> tuple[tuple[str, ...], IntArray]:
    """Return what the labels of a file say, sorted, and the number of each sample's; of no file one for all."""
    n, p = X.shape
    if path is None:
        return ("all",), np.zeros(n, np.int64)
    given = read_npy(path)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (n,):
        raise InvalidInputError(
            f"{path} must hold one label for each of the {n} samples, not shape {given.shape}"
            f"{check.one_hot(given) or check.transposed(given.shape, p)}."
        )
    whole = given.dtype.kind in "biuSU" or (given.dtype.kind == "f" and np.equal(np.mod(given, 1), 0).all())
    if not whole:
        raise InvalidInputError(f"{path} must hold labels, whole numbers or texts, not {given.dtype}.")
    values, y = np.unique(given.astype(np.int64) if given.dtype.kind == "f" else given, return_inverse=True)
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values), y


def _chosen(
    X: FloatArray, y: IntArray, names: tuple[str, ...], classes: Sequence[int | str]
) -> tuple[FloatArray, IntArray, tuple[str, ...]]:
    """Keep the samples whose labels are among these, in their order."""
    wanted = tuple(str(label) for label in classes)
    unknown = [label for label in wanted if label not in names]
    if unknown or len(set(wanted)) != len(wanted):
        which = f"there is no {', '.join(unknown)}" if unknown else "one is named twice"
        raise InvalidInputError(f"--classes must be labels among {', '.join(names)}: {which}.")
    number = np.full(len(names), -1)
    number[[names.index(label) for label in wanted]] = np.arange(len(wanted))
    kept = number[y] >= 0
    return X[kept], number[y][kept], wanted


@dataclass(frozen=True, eq=False)
class Targets:
    """Samples of one norm with targets, and those of the test if there is one."""

    name: str
    X: FloatArray
    y: FloatArray
    test: tuple[FloatArray, FloatArray] | None


def random_targets(n: int, p: int, norm: float, test: int = 0, seed: Seed = 0) -> Targets:
    """Return samples uniform on a sphere, with independent targets N(0, 1)."""
    rng = check.generator(seed)
    # The training samples come first: they do not depend on how many are tested.
    found = [(on_sphere(rng.standard_normal((size, p)), norm), rng.standard_normal(size)) for size in (n, test) if size]
    return Targets(f"uniform on the sphere, p = {p}", *found[0], found[1] if test else None)


def signed_classes(
    dataset: str,
    classes: Sequence[int | str],
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
    names = [DATASETS[dataset].classes[label] for label in class_labels(dataset, classes)]
    return Targets(_shown(dataset, names), *parts[0], parts[1] if test else None)


def _shown(dataset: str, names: Sequence[str] | None) -> str:
    return dataset if names is None else f"{dataset} {' vs '.join(names)}"
