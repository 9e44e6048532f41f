"""Data with the mixture that they come from, or are taken to come from; and data with targets, on a sphere."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import SAMPLED, BoolArray, FloatArray, IntArray, Seed
from rmtdeq.data.catalog import DATASETS
from rmtdeq.data.datasets import class_labels, load_dataset
from rmtdeq.data.estimation import MATRICES
from rmtdeq.data.mixture import GaussianMixture
from rmtdeq.data.moments import KEPT, DataMoments
from rmtdeq.data.openml import from_openml, is_openml
from rmtdeq.data.own import load_table
from rmtdeq.data.scaling import Scaling
from rmtdeq.data.shares import drawn
from rmtdeq.data.sphere import on_sphere

_SHARE = 0.8
_MOST = 4000
_FAR = 4
"""Times as many samples measured as are kept, from which on more are kept."""

_LEAST = 16
"""Samples that moments are taken from."""

_SPARED, _PLENTY = 0.25, 8192
"""So many for each sample measured, and enough for any number of them."""

_NAMED = 3
"""Classes that go by name in a title."""

_DOMINANT, _FEW = 0.7, 4
"""The share of the variance that a tenth of the features may hold without a word, of more features than so few."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Data, the mixture they come from, and the squared norm at which the activation is centred.

    The population is all data at hand, X mostly among them; None where samples are drawn from the mixture.  The mixture
    is estimated where one asks for it.  The scaling is what a table's features have gone through.
    """

    name: str
    X: FloatArray
    y: IntArray
    estimate: Callable[[], GaussianMixture]
    n: int
    tau0_squared: float
    class_names: tuple[str, ...]
    population: tuple[FloatArray, IntArray] | None = None
    scaling: Scaling | None = None
    feature_names: tuple[str, ...] = ()

    @cached_property
    def mixture(self) -> GaussianMixture:
        """What the data come from."""
        return self.estimate()

    @cached_property
    def _unmeasured(self) -> BoolArray:
        """Which of the population are not among X, also by their values."""
        assert self.population is not None
        everything, _ = self.population
        known = {hash(x.tobytes()) for x in self.X}
        return np.array([hash(x.tobytes()) not in known for x in everything])

    @property
    def spares(self) -> bool:
        """Whether enough of the population is left to predict from."""
        wanted = max(_LEAST, min(_SPARED * self.n, _PLENTY))
        return self.population is not None and self._unmeasured.sum() >= wanted

    def moments(self, seed: Seed = 0, *, whole: bool = False) -> DataMoments:
        """Return what samples other than X tell of the data, or the whole population.

        Raises
        ------
        InvalidInputError
            Too few are left.
        """
        if self.population is None:
            return DataMoments.from_mixture(self.mixture, seed=check.generator(seed).spawn(1)[0])
        everything, labels = self.population
        if whole:
            return DataMoments.from_data(everything, labels, seed=seed)
        others = self._unmeasured
        if others.sum() < _LEAST:
            raise InvalidInputError(
                f"Level {SAMPLED!r} predicts from samples that are not measured, and of {len(everything)} only "
                f"{others.sum()} are left: measure fewer, as with --n {len(everything) // 2}."
            )
        # Of twice as many samples eigenvalues take six times as long, where so many are measured still a small part.
        kept = 2 * KEPT if self.n > _FAR * KEPT else KEPT
        return DataMoments.from_data(everything[others], labels[others], kept=kept, seed=seed)

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
    return Problem(name, X, y, lambda: mixture, count, mixture.mean_squared_norm, _numbers(mixture.classes))


def image_problem(
    dataset: str,
    classes: Sequence[int | str] | None = None,
    n: int | None = None,
    *,
    covariance: str = "common",
    seed: Seed = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> Problem:
    """Return some images of a data set, and the mixture estimated from all of its training images of these classes.

    The population are these, or those of the test where most are among the images returned.
    """
    wanted = None if classes is None else class_labels(dataset, classes)
    everything, labels = load_dataset(dataset, classes=wanted, data_dir=data_dir)
    estimate = partial(GaussianMixture.from_data, everything, labels, covariance=covariance)
    count = min(int(_SHARE * everything.shape[1]), len(labels)) if n is None else n
    X, y = load_dataset(dataset, classes=wanted, n=count, seed=seed, data_dir=data_dir)
    meanings = DATASETS[dataset].classes
    names = tuple(meanings[label] for label in (sorted(meanings) if wanted is None else wanted))
    title = _shown(dataset, None if wanted is None else names)
    population, norm = (everything, labels), check.mean_squared_norm(everything)
    if count > len(labels) // 2 and "test" in DATASETS[dataset].sizes:
        population = load_dataset(dataset, classes=wanted, split="test", data_dir=data_dir)
    return Problem(title, X, y, estimate, count, norm, names, population)


def own_problem(
    data: Any,
    labels: str | None = None,
    classes: Sequence[int | str] | None = None,
    n: int | None = None,
    *,
    label_column: str | int | None = None,
    drop: Sequence[str | int] = (),
    drop_missing: bool = False,
    scaling: Literal["common", "each", "none"] = "common",
    spared: float = 0.0,
    covariance: str = "common",
    seed: Seed = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> Problem:
    """Return samples of a user's own table, and the mixture estimated from all that it holds of these classes.

    A name ``"openml:NAME"`` stands for a table of OpenML.  Samples are centred and scaled by a common number, or each
    feature by its own, or not at all.  Full covariances are shrunk as far as so few samples ask for it.  Unless n is
    given, a share of the samples is spared, if that is enough to predict from.
    """
    if is_openml(data):
        table = from_openml(data, data_dir)
    else:
        table = load_table(data, labels, label_column=label_column, drop=drop, drop_missing=drop_missing)
    if classes is not None:
        table = table.of_classes(classes)
    X, y, names = table.X, table.y, table.class_names
    few = [
        f"{name} ({size})" for name, size in zip(names, np.bincount(y, minlength=len(names)), strict=True) if size < 2
    ]
    if few:
        raise InvalidInputError(
            f"Every class needs at least two samples, and these have fewer: {check.listed(few)}; leave them out with "
            "--classes."
        )
    found = scaling_of(X, scaling)
    X = X if found is None else found.apply(X)
    if scaling != "each":
        _tell_of_dominance(table.feature_names, X)
    # Whoever brings samples seldom brings many times more than features.
    shrinkage = "auto" if covariance in MATRICES else 0.0
    estimate = partial(GaussianMixture.from_data, X, y, covariance, shrinkage)
    left = len(X) - int(spared * len(X)) if spared * len(X) >= _LEAST else len(X)
    count = min(left, _MOST) if n is None else check.integer(n, "n")
    if count > len(X):
        raise InvalidInputError(f"n={count} samples are more than the {len(X)} that there are.")
    rng = check.generator(seed)
    members = [np.flatnonzero(y == a) for a in range(len(names))]
    rows, _ = drawn(count, members, rng)
    return Problem(
        table.name,
        X[rows],
        y[rows],
        estimate,
        count,
        check.mean_squared_norm(X),
        names,
        (X, y),
        found,
        tuple(table.feature_names),
    )


def scaling_of(X: FloatArray, how: str) -> Scaling | None:
    """Return the scaling of samples by a ``"common"`` number, of ``"each"`` feature by its own, or ``"none"``."""
    return None if how == "none" else Scaling.of_each(X) if how == "each" else Scaling.of(X)


def _tell_of_dominance(names: Sequence[str], X: FloatArray) -> None:
    """Warn where a tenth of the features hold most of the variance."""
    if len(names) <= _FEW:
        return
    variances = X.var(axis=0)
    most = np.argsort(-variances, kind="stable")[: max(1, len(names) // 10)]
    share = variances[most].sum() / variances.sum()
    if share < _DOMINANT:
        return
    warnings.warn(
        f"{check.listed([repr(names[j]) for j in most])} hold{'s' * (len(most) == 1)} {share:.0%} of the "
        f"variance of the {len(names)} features, so that the kernels see little else; with --standardize all weigh "
        "the same.",
        stacklevel=3,
    )


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
    """Name a data set and some of its classes, as far as they fit into a title."""
    if names is None:
        return dataset
    return f"{dataset} {' against '.join(names)}" if len(names) <= _NAMED else f"{dataset}, {len(names)} classes"
