"""The smoothest spectra that have given degrees of freedom: of a kernel's operator, and of a kernel matrix.

To find eigenvalues from degrees of freedom is to invert an integral transform, which amplifies every error.  What is
found is therefore a logarithm, so that it is positive, and as smooth as the errors of what is given allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import expit, logit

from rmtdeq._lib.types import FloatArray

_ROUGH_LAW, _ROUGH_SPECTRUM = 1.0, 0.067
"""Weights of the integrals of squared derivatives, next to the mean squares of residuals over their errors."""
_EXACT = 1e-3
_STEP = 0.15
_BELOW, _ABOVE = 8.0, 3.0
"""By how much eigenvalues of the operator go beyond the effective ridges known, in logarithms,"""
_STEEP = 3.0
"""and by how much further for every e-fold of degrees of freedom that is asked for."""
_POINTS = 800
_CUBIC, _INTERVALS, _CELLS = 3, 57, 400
_STEPS = 60
_LONGEST, _SHORTEST = 2.0, 1e-4
_LITTLE, _MUCH, _FACTOR = 1e-9, 1e8, 4.0

_Residuals = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, eq=False)
class OperatorLaw:
    """Eigenvalues of an operator, in each cell of a grid of their logarithms as many as a smooth density has there.

    Attributes
    ----------
    logarithms : ndarray (g,)
        The grid, ascending.
    counts : ndarray (g,)
        Of eigenvalues.
    """

    logarithms: FloatArray
    counts: FloatArray

    @classmethod
    def fitted(cls, kappa: FloatArray, degrees: FloatArray, most: float) -> OperatorLaw:
        """Find the law of which Σ λ/(λ + κ) are given degrees of freedom; beyond what they tell it is a power law.

        Parameters
        ----------
        kappa : ndarray (r,)
            Logarithms of effective ridges.
        degrees : ndarray (r,)
        most : float
            Degrees of freedom that the law is to tell.
        """
        further = _BELOW + _STEEP * max(0.0, float(np.log(most / degrees.max())))
        grid = np.arange(kappa.min() - further, kappa.max() + _ABOVE, _STEP)
        kernel, wanted = expit(grid - kappa[:, None]), np.log(degrees)
        scale = _EXACT * np.sqrt(degrees.size)

        def residuals(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
            each = kernel * np.exp(counts)
            total = each.sum(axis=1)
            return (np.log(total) - wanted) / scale, each / total[:, None] / scale

        start = np.polyval(np.polyfit(kappa, wanted, 1), grid) + np.log(_STEP)
        return cls(grid, np.exp(_smoothest(residuals, start, _derivative(grid.size, 2, _STEP, _ROUGH_LAW))))

    def effective(self, degrees: FloatArray) -> FloatArray:
        """Return the logarithms of the κ at which Σ λ/(λ + κ) are these degrees of freedom."""
        kappa = np.linspace(self.logarithms[-1], self.logarithms[0], _POINTS)
        known = expit(self.logarithms - kappa[:, None]) @ self.counts
        return np.interp(np.log(degrees), np.log(known), kappa)


def smoothest_spectrum(
    shares: FloatArray, ridges: FloatArray, errors: FloatArray, n: int, ranks: FloatArray
) -> FloatArray:
    """Return the logarithms of n eigenvalues that have given degrees of freedom Σ λ/(λ + δ), at some ranks.

    Parameters
    ----------
    shares : ndarray (r,)
        Degrees of freedom next to n, ascending.
    ridges : ndarray (r,)
        Logarithms of the ridges δ there, descending.
    errors : ndarray (r,)
        Of these.
    n : int
    ranks : ndarray (s,)
        From 0.5 to n - 0.5.

    Returns
    -------
    ndarray (s,)
    """
    wanted = logit(shares)
    # A spline in the odds of the rank's share, and cells of them for sums over eigenvalues.
    knots = np.linspace(-np.log(2 * n), np.log(2 * n), _INTERVALS + 1)
    step = knots[1] - knots[0]
    knots = knots[0] + step * np.arange(-_CUBIC, _INTERVALS + _CUBIC + 1)
    edges = np.linspace(knots[_CUBIC], knots[-1 - _CUBIC], _CELLS + 1)
    basis = _splines((edges[1:] + edges[:-1]) / 2, knots)
    counts = n * np.diff(expit(np.concatenate([[-np.inf], edges[1:-1], [np.inf]])))
    # Of the odds of a share next to the ridge there.
    scale = errors * abs(np.gradient(wanted, ridges)) * np.sqrt(shares.size)

    def residuals(coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
        each = expit(basis @ coefficients - ridges[:, None])
        total = each @ counts
        slopes = (each * (1 - each) * counts) @ basis * (1 / total + 1 / (n - total))[:, None]
        return (np.log(total / (n - total)) - wanted) / scale, slopes / scale[:, None]

    # Ridges spread as eigenvalues do, and as the odds do where these are equal.
    spread, middle = np.polyfit(wanted, ridges, 1)
    start = middle - np.sqrt(max(spread**2 - 1, 0.0)) * knots[2:-2]
    found = _smoothest(residuals, start, _derivative(start.size, 3, step, _ROUGH_SPECTRUM))
    return np.asarray(_splines(logit(ranks / n), knots) @ found)


def _splines(at: FloatArray, knots: FloatArray) -> FloatArray:
    """Cubic splines, (points, knots - 4)."""
    inside = np.clip(at, knots[_CUBIC], knots[-1 - _CUBIC])
    return np.asarray(BSpline.design_matrix(inside, knots, _CUBIC).toarray())


def _derivative(size: int, order: int, step: float, weight: float) -> FloatArray:
    """What has for its square the weighted integral of that of a derivative, by differences on a grid."""
    differences = np.diff(np.eye(size), order, axis=0) / step**order
    return np.asarray(weight * np.sqrt(step) * differences)


def _smoothest(residuals: _Residuals, start: FloatArray, rough: FloatArray) -> FloatArray:
    """Return where squares of residuals, and of what is linear, are least together (Levenberg and Marquardt)."""
    at, damping = start, _LITTLE
    off, slopes = residuals(at)
    cost = off @ off + np.square(rough @ at).sum()
    for _ in range(_STEPS):
        curvature, gradient = slopes.T @ slopes + rough.T @ rough, slopes.T @ off + rough.T @ (rough @ at)
        while True:
            step = np.linalg.solve(curvature + damping * np.eye(at.size), -gradient)
            trial = at + np.clip(step, -_LONGEST, _LONGEST)
            off, slopes = residuals(trial)
            lower = off @ off + np.square(rough @ trial).sum()
            if lower <= cost or damping > _MUCH:
                break
            damping = max(_FACTOR * damping, 1e-3)
        if not lower <= cost:
            break
        done = abs(trial - at).max() < _SHORTEST
        at, cost, damping = trial, lower, damping / _FACTOR
        if done:
            break
    return at
