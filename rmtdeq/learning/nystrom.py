"""Kernel ridge regression on the span of some samples: one pass over all samples, and another for leaving out.

The function is f = Σ_j a_j K(·, c_j), of m centres c_j; minimised is Σ_i w_i |y_i - b - f(x_i)|² + δ aᵀ K_mm a
(Williams and Seeger 2001; Rudi, Camoriano, Rosasco, NeurIPS 2015).  With K_mm = L Lᵀ that is a linear ridge regression
on the m features φ(x) = L⁻¹ k_m(x): the first pass adds up their moments, whose decomposition serves all ridges; the
second takes the diagonal of the hat matrix, with which leaving out is exact for these centres.  Nothing has n m
entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray
from rmtdeq.learning.places import Place
from rmtdeq.learning.ridge import RidgeFit, RidgeProblem, raise_singular, ridge_grid, smallest_resolved

_JITTER = 10.0
"""Units of rounding, of the trace, that are added to the centres' own kernel."""

_ENTRIES = 1 << 24
"""Of the kernel of samples with centres that is there at a time."""


@dataclass(frozen=True, eq=False)
class NystromPath:
    """Kernel ridge regression with any ridge on the span of some centres.

    Attributes
    ----------
    values : ndarray (m,)
        Eigenvalues of the features' weighted second moments, about their mean where there is a constant.
    turned : ndarray (m, m), or tensor
        Turns the kernel with the centres into features of which these moments are diagonal.
    mean : ndarray (m,)
        Of these features; zero without a constant.
    moments : ndarray (m, k)
        Of these features with the targets.
    trace : float
        Of the second moments about zero.
    columns : callable
        The kernel of samples from one number to another with the centres.
    problem : RidgeProblem
    place : Place
    """

    values: FloatArray
    turned: Any
    mean: FloatArray
    moments: FloatArray
    trace: float
    columns: Callable[[slice], Any]
    problem: RidgeProblem
    place: Place

    @property
    def smallest_ridge(self) -> float:
        """The least ridge with which the smallest moment is told from rounding; zero where it is by itself."""
        return max(0.0, smallest_resolved(float(self.values[-1]), self.values.dtype) - float(self.values[0]))

    def grid(self) -> FloatArray:
        """Return ridges to choose from where nothing is known of them; see `RidgePath.grid`."""
        return ridge_grid(self.trace, len(self.problem.roots), self.smallest_ridge)

    def fits(self, ridges: Sequence[float] | FloatArray, progress: bool = True) -> list[RidgeFit]:
        """Return the regressions with several ridges; coefficients are those of the centres, (m, k).

        Raises
        ------
        IllPosedError
            Moments that are singular but for rounding, and a ridge too small to change that.
        """
        for ridge in ridges:
            if ridge < self.smallest_ridge:
                raise_singular(float(ridge), self.smallest_ridge)
        problem, place, n = self.problem, self.place, len(self.problem.roots)
        weights = problem.roots**2
        inverses = 1 / (self.values + np.asarray(ridges, dtype=float)[:, None])
        slopes = [inverse[:, None] * self.moments for inverse in inverses]
        k = self.moments.shape[1]
        residuals, left = np.empty((len(slopes), n, k)), np.empty((len(slopes), n))
        stacked, squares = place.put(np.concatenate(slopes, axis=1)), place.put(inverses.T.copy())
        mean = place.put(self.mean)
        for part in _passes(n, len(self.mean), "leaving out", progress):
            features = self.columns(part) @ self.turned - mean
            predicted = place.take(features @ stacked).reshape(-1, len(slopes), k)
            residuals[:, part] = (problem.targets[part, None] - predicted).transpose(1, 0, 2)
            left[:, part] = 1 - weights[part] * (
                place.take((features * features) @ squares).T + (1 / weights.sum() if problem.constant else 0.0)
            )
        return [self._fit(float(ridge), *each) for ridge, *each in zip(ridges, slopes, residuals, left, strict=True)]

    def _fit(self, ridge: float, slope: FloatArray, residuals: FloatArray, left: FloatArray) -> RidgeFit:
        """Return a regression from its slope on the features, its residuals, and 1 less the hat matrix's diagonal."""
        weights = self.problem.roots[:, None] ** 2
        scale = float(weights.sum()) * slope.shape[1]
        gcv = len(left) ** 2 * float((weights * residuals**2).sum()) / (scale * float(left.sum()) ** 2)
        residuals /= left[:, None]
        return RidgeFit(
            ridge,
            self.place.take(self.turned @ self.place.put(slope)),
            self.problem.mean - self.mean @ slope,
            residuals,
            float((weights * residuals**2).sum()) / scale,
            gcv,
        )


def nystrom_path(
    own: Any,
    columns: Callable[[slice], Any],
    problem: RidgeProblem,
    place: Place,
    *,
    progress: bool = True,
) -> NystromPath:
    """Prepare kernel ridge regression on the span of some centres, by one pass over the samples.

    Parameters
    ----------
    own : ndarray (m, m), or tensor
        The kernel of the centres in double precision, **overwritten**.
    columns : callable
        The kernel of samples from one number to another with the centres, (b, m).
    problem : RidgeProblem
        Of n samples.
    place : Place
        Where these kernels are.
    progress : bool
        Tell how far it is if standard error is a terminal.
    """
    n, m = len(problem.roots), len(own)
    place.add_to_diagonal(own, _JITTER * float(np.finfo(float).eps) * float(own.diagonal().sum()))
    root = place.cholesky(own)
    second = 0 * own
    first, moments = place.put(np.zeros(m)), place.put(np.zeros((m, problem.targets.shape[1])))
    for part in _passes(n, m, "moments of the centres", progress):
        s, y = place.put(problem.roots[part]), place.put(problem.targets[part])
        features = place.solve_lower(root, columns(part).T).T * s[:, None]
        second += features.T @ features
        first += s @ features
        moments += features.T @ (s[:, None] * y)
    trace, total = float(second.diagonal().sum()), float(np.square(problem.roots).sum())
    mean = first / total if problem.constant else 0 * first
    second -= total * mean[:, None] * mean
    values, vectors = place.eigh(second)
    return NystromPath(
        np.maximum(place.take(values), 0.0),
        place.solve_transposed(root, vectors),
        place.take(mean @ vectors),
        # The targets' weighted mean is zero where the features' is taken off.
        place.take(vectors.T @ moments),
        trace,
        columns,
        problem,
        place,
    )


def _passes(n: int, m: int, what: str, progress: bool) -> Iterator[slice]:
    """Yield the samples, some at a time, and tell how far it is."""
    rows = max(1, _ENTRIES // m)
    with Stage(what, n, show=progress) as stage:
        for start in range(0, n, rows):
            part = slice(start, min(start + rows, n))
            yield part
            stage.update(part.stop - part.start)
