"""Samples in the scaling that the theory takes: centred, of mean squared norm 1; features as they are or all alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray

_NEGLIGIBLE = 1e-14

_ENTRIES = 1 << 26
"""Of samples that are looked at at a time, where they are many."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """What some samples say of how they, and others of their kind, are to be centred and scaled.

    Attributes
    ----------
    exponent : ndarray
        The power of two that the other two are in units of, so that no square is beyond the range of the numbers: one,
        or one for each feature.
    centre : ndarray (p,)
    spread : float or ndarray (p,)
    """

    exponent: IntArray
    centre: FloatArray
    spread: FloatArray | float

    @classmethod
    def of(cls, X: FloatArray, weights: FloatArray | None = None, *, name: str = "X") -> Scaling:
        """Return the scaling of `center_and_scale` for samples, some of which may weigh more than others.

        Parameters
        ----------
        X : ndarray (n, p)
        weights : ndarray (n,), optional
        name : str
            Of the samples, for messages.

        Raises
        ------
        InvalidInputError
            Samples that are all the same.
        """
        exponent = np.max([check.exponents(X[part]) for part in _parts(X)], axis=0)
        centre = _mean(X, exponent, weights, lambda scaled: scaled)
        spread = math.sqrt(_mean(X, exponent, weights, lambda scaled: np.square(scaled - centre).sum(axis=1)))
        if spread <= _NEGLIGIBLE:
            _raise_all_the_same(name)
        return cls(exponent, centre, spread)

    @classmethod
    def of_each(cls, X: FloatArray, *, name: str = "X") -> Scaling:
        """Return the scaling of `standardize` for samples; parameters as for `of`."""
        exponents = check.exponents(X, axis=0)
        scaled = np.ldexp(X, -exponents)
        centre, spread = scaled.mean(axis=0), scaled.std(axis=0)
        varied = spread > _NEGLIGIBLE
        if not varied.any():
            _raise_all_the_same(name)
        # What is constant becomes zero.
        return cls(exponents, centre, np.where(varied, spread * math.sqrt(varied.sum()), np.inf))

    def after(self, first: Scaling) -> Scaling:
        """Return the scaling by another one and then by this."""
        unit = np.ldexp(1.0, self.exponent)
        return Scaling(
            first.exponent, first.centre + first.spread * unit * self.centre, first.spread * unit * self.spread
        )

    def apply(self, X: FloatArray) -> FloatArray:
        """Return samples (m, p) centred and scaled.

        Raises
        ------
        InvalidInputError
            Values too large for that.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            result = (np.ldexp(X, -self.exponent) - self.centre) / self.spread
        if not np.isfinite(result).all():
            raise InvalidInputError(
                "X holds values so much larger than those it is scaled by that no number holds their ratio."
            )
        return np.asarray(result)


@dataclass(frozen=True, eq=False)
class ScaledRows:
    """Samples that are scaled where they are looked at: nothing of the size of all of them is made.

    Attributes
    ----------
    X : ndarray (n, p)
        As they are given, a memory map for instance.
    scaling : Scaling or None
        None: they are taken as they are.
    dtype : dtype
        Of what is looked at.
    """

    X: FloatArray
    scaling: Scaling | None
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | IntArray) -> FloatArray:
        """Return some of them, C-contiguous, in a copy."""
        part = self.X[rows]
        if self.scaling is not None:
            part = self.scaling.apply(part.astype(float, copy=False))
        return np.array(part, self.dtype, order="C")

    def mean_squared_norm(self, weights: FloatArray | None = None) -> float:
        """Return the weighted mean of their squared norms."""
        shares = np.ones(len(self)) if weights is None else weights
        roots = np.sqrt(shares / shares.mean())
        double, total = replace(self, dtype=np.dtype(float)), 0.0
        for part in _parts(self.X):
            rows = double[part]
            total += check.mean_squared_norm(rows * roots[part, None]) * (len(rows) / len(self))
        return total


def center_and_scale(X: ArrayLike, *, reference: ArrayLike | None = None) -> FloatArray:
    """Return samples centred and divided by one number, so that their mean squared norm is 1.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row.
    reference : array_like (m, p), optional
        The samples whose mean is taken off and whose mean squared norm becomes 1, as those of the training where X are
        those of the test; X itself by default.

    Returns
    -------
    ndarray (n, p), float64
        ``(X - mean) / scale``, in which distances have kept their ratios.  `load_dataset` returns samples in this
        scaling.

    Raises
    ------
    InvalidInputError
        NaN, other shapes, or samples of `reference` that are all the same.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> pixels = np.random.default_rng(0).integers(0, 256, (50, 8))
    >>> X = rd.center_and_scale(pixels)
    >>> round(float((X**2).sum(axis=1).mean()), 12)
    1.0
    """
    X, known = _given(X, reference)
    return Scaling.of(known, name="X" if reference is None else "reference").apply(X)


def standardize(X: ArrayLike, *, reference: ArrayLike | None = None) -> FloatArray:
    """Return samples with every feature centred and of variance 1/p, so that their mean squared norm is 1.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row.
    reference : array_like (m, p), optional
        The samples whose means and variances are taken, as those of the training where X are those of the test; X
        itself by default.

    Returns
    -------
    ndarray (n, p), float64
        Features that are constant in `reference` become zero, and the others of variance one over their number.  For
        tables whose columns have units of their own: `center_and_scale` leaves the largest one to rule all distances.

    Raises
    ------
    InvalidInputError
        NaN, other shapes, or samples of `reference` that are all the same.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((50, 8)) * 10.0 ** np.arange(8)
    >>> Z = rd.standardize(X)
    >>> bool(np.allclose(Z.var(axis=0), 1 / 8))
    True
    """
    X, known = _given(X, reference)
    return Scaling.of_each(known, name="X" if reference is None else "reference").apply(X)


def _parts(X: FloatArray) -> list[slice]:
    """Cut samples into parts of so many that there is room for some copies of them."""
    rows = max(1, _ENTRIES // X.shape[1])
    return [slice(start, start + rows) for start in range(0, len(X), rows)]


def _mean(X: FloatArray, exponent: IntArray, weights: FloatArray | None, of: Callable[[FloatArray], FloatArray]) -> Any:
    """Return the weighted mean over samples of something of them, in units of a power of two."""
    means, shares = [], []
    for part in _parts(X):
        w = None if weights is None else weights[part]
        means.append(np.average(of(np.ldexp(X[part], -exponent)), axis=0, weights=w))
        shares.append(float(len(X[part]) if w is None else w.sum()))
    return means[0] if len(means) == 1 else np.average(means, axis=0, weights=shares)


def _raise_all_the_same(name: str) -> NoReturn:
    raise InvalidInputError(f"The samples of {name} are all the same, so they cannot be scaled.")


def _given(X: ArrayLike, reference: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Return samples and those that tell the scaling, checked."""
    samples = check.samples(X).astype(float)
    known = samples if reference is None else check.samples(reference, "reference").astype(float)
    if known.shape[1] != samples.shape[1]:
        raise InvalidInputError(f"X has {samples.shape[1]} features and reference {known.shape[1]}; they must agree.")
    return samples, known
