"""Gaussian mixtures in the high-dimensional scaling: C_a is of order one and sampling divides by √p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, IntArray, Seed
from rmtdeq.data.estimation import covariances_of
from rmtdeq.data.shares import shares

_SYMMETRY = 1e-10
_NEGATIVE = 1e-10
_LARGEST = 1e60


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """K Gaussian classes: x = μ_a/√p + w with w ~ N(0, C_a/p).

    Parameters
    ----------
    means : array_like (K, p)
        μ_a, of norm of order one.
    covariances : sequence of array_like
        For each class a variance (scalar), p variances, or a (p, p) matrix; entries of order one.
    weights : array_like (K,), optional
        Class probabilities, scaled to sum to one; equal by default.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, negative variances, a covariance that is not symmetric or not positive semidefinite,
        weights that are not positive.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> means = np.zeros((2, 400)); means[0, 0] = means[1, 1] = 8
    >>> gmm = rd.GaussianMixture(means, [1.0, 1.4])
    >>> gmm.tau0_squared
    1.2
    """

    means: FloatArray
    covariances: tuple[FloatArray, ...]
    weights: FloatArray
    principal: tuple[FloatArray, FloatArray] | None = field(init=False, repr=False)
    """Eigenvectors (p, p) and eigenvalues (K, p) of covariances that were estimated with one basis; else None."""

    def __init__(
        self, means: ArrayLike, covariances: Sequence[ArrayLike] | FloatArray, weights: ArrayLike | None = None
    ) -> None:
        mu = np.array(check.real_array(means, "means", ndim=2), dtype=float)
        if 0 in mu.shape:
            raise InvalidInputError(f"means must have one row a class and one column a feature, not shape {mu.shape}.")
        classes, p = mu.shape
        given = len(covariances) if np.iterable(covariances) and hasattr(covariances, "__len__") else "a single value"
        if given != classes:
            raise InvalidInputError(f"means has {classes} classes (rows); pass one covariance for each, not {given}.")
        parts = tuple(_covariance(c, a, p) for a, c in enumerate(covariances))
        share = np.full(classes, 1.0) if weights is None else check.real_array(weights, "weights", ndim=1)
        if share.shape != (classes,) or not (share > 0).all():
            raise InvalidInputError(f"weights must be {classes} positive numbers, one a class, not {weights!r}.")
        share = share / share.max()
        share /= share.sum()
        if max(float(abs(each).max()) for each in (mu, *parts)) > _LARGEST:
            raise InvalidInputError(
                f"means or covariances hold entries beyond {_LARGEST:g}, whose products no number holds; both are "
                "meant to be of order one."
            )
        for array in (mu, share, *parts):
            array.flags.writeable = False
        object.__setattr__(self, "means", mu)
        object.__setattr__(self, "covariances", parts)
        object.__setattr__(self, "weights", share)
        object.__setattr__(self, "principal", None)

    @classmethod
    def from_data(
        cls, X: ArrayLike, y: ArrayLike, covariance: str = "full", shrinkage: float | str = 0.0
    ) -> GaussianMixture:
        """Estimate a mixture from labelled samples.

        Parameters
        ----------
        X : array_like (n, p)
            Samples with squared norms of order one, as `center_and_scale` makes them; others are warned of.
        y : array_like (n,)
            Labels 0 … K-1; every class needs two samples.
        covariance : str
            ``"full"``; ``"common"``, full with the eigenvectors of the mean covariance for every class (common
            principal components); ``"diagonal"``; or ``"scalar"``.  Spectra of ten classes with 784 features take
            about 40 s to predict from full covariances; common ones are much faster.
        shrinkage : float or "auto"
            Share of the mean variance in covariances that are full or common: (1 - s) C + s (tr C/p) I.  ``"auto"``
            finds it from the samples as Ledoit and Wolf do, and is for fewer than some ten p samples a class, whose
            covariance is far from that of the population.

        Raises
        ------
        InvalidInputError
            Labels that do not fit, a class of one sample, or a shrinkage that is no share.

        Notes
        -----
        Means and unbiased covariances of each class, scaled back by √p and p.
        """
        X = check.samples(X)
        y = check.labels(y, X.shape[0], p=X.shape[1])
        sizes = np.bincount(y)
        if not sizes.all():
            raise InvalidInputError(
                f"y holds labels up to {len(sizes) - 1} and none is {int(sizes.argmin())}; labels are 0 ... K-1: "
                f"relabel with {check.RELABEL}."
            )
        if sizes.min() < 2:
            raise InvalidInputError(
                f"Class {int(sizes.argmin())} has {int(sizes.min())} sample(s); every class needs at least two."
            )
        p = X.shape[1]
        check.warn_of_scale(check.mean_squared_norm(X))
        parts = [X[y == a].astype(float) for a in range(sizes.size)]
        means = [part.mean(axis=0) for part in parts]
        centred = [part - mean for part, mean in zip(parts, means, strict=True)]
        covariances, common = covariances_of(centred, covariance, shrinkage)
        mixture = cls(np.array(means) * np.sqrt(p), [p * c for c in covariances], sizes / sizes.sum())
        if common is not None:
            object.__setattr__(mixture, "principal", (common[0], p * common[1]))
        return mixture

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return int(self.means.shape[0])

    @property
    def dimension(self) -> int:
        """Number of features, p."""
        return int(self.means.shape[1])

    @cached_property
    def variances(self) -> FloatArray:
        """``tr C_a / p`` of every class, (K,)."""
        p = self.dimension
        return np.array(
            [
                float(c) if c.ndim == 0 else float((np.trace(c) if c.ndim == 2 else c.sum()) / p)
                for c in self.covariances
            ]
        )

    @property
    def tau0_squared(self) -> float:
        """``tr C° / p``, C° the mean covariance: the first-order theory's τ0²."""
        return float(self.weights @ self.variances)

    @cached_property
    def squared_norms(self) -> FloatArray:
        """``E‖x‖² = (tr C_a + ‖μ_a‖²)/p`` of every class, (K,)."""
        return np.asarray(self.variances + (self.means**2).sum(axis=1) / self.dimension)

    @property
    def mean_squared_norm(self) -> float:
        """``E‖x‖²`` over the mixture: `tau0_squared` and the energy of the means."""
        return float(self.weights @ self.squared_norms)

    @cached_property
    def covariance_products(self) -> FloatArray:
        """``T_ab = tr(C_a C_b) / p``, (K, K)."""
        k, p = self.classes, self.dimension
        result = np.empty((k, k))
        for a in range(k):
            for b in range(a + 1):
                result[a, b] = result[b, a] = _trace_product(self.covariances[a], self.covariances[b], p) / p
        return result

    @cached_property
    def norm_variances(self) -> FloatArray:
        """``p Var ‖x‖² = 2 tr C_a²/p + 4 μ_aᵀ C_a μ_a/p``, (K,)."""
        forms = [
            float(mu @ (c @ mu)) if c.ndim == 2 else float((c * mu) @ mu)
            for mu, c in zip(self.means, self.covariances, strict=True)
        ]
        return 2 * np.diag(self.covariance_products) + 4 * np.array(forms) / self.dimension

    def class_sizes(self, n: int) -> IntArray:
        """Return how many of n samples each class gets: weights·n, rounded to sum to n."""
        return np.array(shares(check.integer(n, "n"), self.weights.tolist()), dtype=np.int64)

    @Stage("drawing samples")
    def sample(self, n: int, seed: Seed = None) -> tuple[FloatArray, IntArray]:
        """Draw n samples in class order.

        Returns
        -------
        X : ndarray (n, p)
            Of squared norm about `squared_norms`.
        y : ndarray (n,)
            Labels 0 … K-1, ascending.
        """
        sizes = self.class_sizes(n)
        rng = check.generator(seed)
        p = self.dimension
        check.memory(16 * (int(sizes.sum()) + 1) * (p + 1), None, f"{n} samples", "draw fewer at a time")
        blocks = [
            (mu + _colour(c, rng.standard_normal((size, p)))) / np.sqrt(p)
            for mu, c, size in zip(self.means, self.covariances, sizes, strict=True)
        ]
        return np.concatenate(blocks), np.repeat(np.arange(self.classes), sizes)

    def __repr__(self) -> str:
        shapes = {0: "scalar", 1: "diagonal", 2: "full"}
        kinds = "/".join(sorted({shapes[c.ndim] for c in self.covariances}))
        return f"GaussianMixture(classes={self.classes}, p={self.dimension}, {kinds} covariances)"


def require_mixture(gmm: object) -> None:
    """Raise unless `gmm` is a mixture."""
    if not isinstance(gmm, GaussianMixture):
        raise InvalidInputError(f"gmm must be a GaussianMixture, not {type(gmm).__name__}.")


def _covariance(value: ArrayLike, a: int, p: int) -> FloatArray:
    name = f"covariance of class {a}"
    c = np.array(check.real_array(value, name), dtype=float)
    if c.ndim > 2 or c.shape not in ((), (p,), (p, p)):
        raise InvalidInputError(
            f"The {name} has shape {c.shape}; the means have p = {p} features, so it must be a scalar, ({p},) "
            f"or ({p}, {p})."
        )
    if c.ndim < 2:
        if (c < 0).any():
            raise InvalidInputError(f"The {name} holds a negative variance, {c.min():g}; variances are at least 0.")
        return c
    size = float(abs(c).max())
    if (abs(c - c.T) > _SYMMETRY * size).any():
        raise InvalidInputError(f"The {name} is not symmetric; use (C + C.T) / 2.")
    c = (c + c.T) / 2
    try:
        np.linalg.cholesky(c + _NEGATIVE * max(size, 1e-300) * np.eye(p))
    except np.linalg.LinAlgError:
        lowest = float(np.linalg.eigvalsh(c)[0])
        raise InvalidInputError(
            f"The {name} is not positive semidefinite: its lowest eigenvalue is {lowest:.3g}; clip the negative "
            "eigenvalues at 0."
        ) from None
    return c


def _trace_product(a: FloatArray, b: FloatArray, p: int) -> float:
    if a.ndim == 2 and b.ndim == 2:
        return float((a * b).sum())
    diagonals = [np.broadcast_to(np.diag(c) if c.ndim == 2 else c, (p,)) for c in (a, b)]
    return float(diagonals[0] @ diagonals[1])


def _colour(c: FloatArray, white: FloatArray) -> FloatArray:
    """Give independent standard Gaussians (one sample a row) the covariance c."""
    if c.ndim < 2:
        return np.sqrt(c) * white
    values, vectors = np.linalg.eigh(c)
    return (white @ (vectors * np.sqrt(np.maximum(values, 0.0)))) @ vectors.T
