"""Errors of kernel ridge regression on subsets of the samples, with many ridges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.learning.calibration import inverse_temperature
from rmtdeq.learning.ridge import RidgeFit, ridge_path

_MOST = 16


@dataclass(frozen=True, eq=False)
class SubsetErrors:
    """What subsets of one size come to in the mean, with each of several ridges.

    Attributes
    ----------
    degrees : ndarray (r,)
        Degrees of freedom, tr K (K + δ)⁻¹.
    kappa : ndarray (r,)
        Effective ridges, 1 / tr (K + δ)⁻¹.
    errors : ndarray (r, 1 or 2, n)
        Of each of all samples, its squared error, and how often it is told wrong, where there are classes: the mean of
        a count and of what calibrated probabilities say.
    """

    degrees: FloatArray
    kappa: FloatArray
    errors: FloatArray


def subset_count(n: int, size: int) -> int:
    """Return how many random subsets are looked at, four times as many of half the size."""
    return min(_MOST, math.ceil((n / size) ** 2))


def subset_errors(
    K: FloatArray,
    targets: FloatArray,
    classes: IntArray | None,
    subsets: Sequence[IntArray],
    ridges: FloatArray,
    stage: Stage,
) -> SubsetErrors:
    """Learn from each subset, one decomposition for all ridges, and take errors on all samples, its own left out.

    Parameters
    ----------
    K : ndarray (n, n)
    targets : ndarray (n, k)
    classes : ndarray (n,) of int, or None
    subsets : sequence of ndarray (size,) of int
    ridges : ndarray (r,)
    stage : Stage
        Told of size³ operations for each subset.

    Raises
    ------
    IllPosedError
        A ridge too small for samples that are there twice.
    """
    inverses, errors = [], []
    for subset in subsets:
        rows = K if len(subset) == len(K) else K[subset]
        path = ridge_path(np.ascontiguousarray(rows[:, subset]), targets[subset])
        errors.append([_errors(rows, targets, classes, subset, fit) for fit in path.fits(ridges)])
        inverses.append((1 / (path.eigenvalues.astype(float) + ridges[:, None])).sum(axis=1))
        stage.update(len(subset) ** 3)
    traces = np.mean(inverses, axis=0)
    return SubsetErrors(len(subsets[0]) - ridges * traces, 1 / traces, np.mean(errors, axis=0))


def _errors(
    rows: FloatArray, targets: FloatArray, classes: IntArray | None, subset: IntArray, fit: RidgeFit
) -> FloatArray:
    """Return squared errors on all samples of what is learnt from some of them, and how often they are told wrong."""
    values = rows.T @ fit.coefficients.astype(rows.dtype) + fit.intercept
    values[subset] = targets[subset] - fit.residuals
    squares = np.square(values - targets).mean(axis=1)
    if classes is None:
        return squares[None]
    # A prior would expect more errors by one in n for each class.
    expected = 1 - softmax(inverse_temperature(values, classes, prior=0) * values, axis=1).max(axis=1)
    return np.stack([squares, (expected + (values.argmax(axis=1) != classes)) / 2])
