"""Moments and Hermite coefficients of φ(σξ), ξ ~ N(0, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import FloatArray, Function
from rmtdeq.activations.activations import Activation, Expectations
from rmtdeq.activations.polynomials import hermite_polynomials
from rmtdeq.activations.quadrature import Rule, regular_rule, regular_slopes

_COARSE = 0.1
"""Scale from which on differences of φ within a panel are large enough to take slopes from."""


@dataclass(frozen=True)
class Moments:
    """Expectations of an activation at standard deviation σ, u = σξ.

    Attributes
    ----------
    mean, variance : float
        ``E φ(u)`` and ``Var φ(u)``.
    first, second : float
        ``E φ'(u)`` and ``E φ''(u)``, by Stein's lemma: φ itself is all they need.
    square_second : float
        ``E (φ²)''(u)``; half of it is the slope of ``E φ(u)²`` in σ².
    first_square : float
        ``E φ'(u)²``; infinite where φ jumps.
    """

    mean: float
    variance: float
    first: float
    second: float
    square_second: float
    first_square: float

    @property
    def square(self) -> float:
        """``E φ(u)²``."""
        return self.variance + self.mean * self.mean

    @property
    def variance_slope(self) -> float:
        """Derivative of ``Var φ(u)`` in σ²: the mean moves with σ²."""
        return 0.5 * self.square_second - self.mean * self.second


def mean_and_variance(activation: Activation, sigma: float) -> tuple[float, float]:
    """Return ``E φ(σξ)`` and ``Var φ(σξ)`` alone, at a fraction of the cost of `moments`."""
    if activation.expectations is not None and sigma > 0:
        known = moments(activation, sigma)
        return known.mean, known.variance
    return _mean_and_variance(activation, sigma, activation.rule(sigma))[:2]


def _mean_and_variance(activation: Activation, sigma: float, rule: Rule) -> tuple[float, float, FloatArray]:
    """And the deviations from the mean at the rule's nodes."""
    values = np.asarray(activation(sigma * rule.nodes), dtype=float)
    # An activation that grows exponentially overflows at large scales; the moments are then infinite or NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(rule.weights @ values)
        deviation = values - mean
        return mean, float(rule.weights @ (deviation * deviation)), deviation


def moments(activation: Activation, sigma: float) -> Moments:
    """Return the moments of φ(σξ), to about thirteen digits."""
    if activation.expectations is not None and sigma > 0:
        return _moments_known(activation.shift, activation.expectations, sigma)
    rule = activation.rule(sigma)
    xi, w = rule.nodes, rule.weights
    mean, variance, deviation = _mean_and_variance(activation, sigma, rule)
    if activation.derivative is None and rule is regular_rule(1.0) and sigma >= _COARSE:
        # Of the interpolant on the rule's own panels, so that its square is integrated exactly.
        slopes = regular_slopes(deviation, 1.0) / sigma
    else:
        slopes = activation.slope(sigma * xi)
    with np.errstate(over="ignore", invalid="ignore"):
        # (ξ² - 1) is orthogonal to constants: taking the mean off first spares digits where the mean dominates.
        second = float(w @ ((xi * xi - 1) * deviation)) / sigma**2
        curvature = float(w @ ((xi * xi - 1) * deviation * deviation)) / sigma**2
        return Moments(
            mean=mean,
            variance=variance,
            first=float(w @ (xi * deviation)) / sigma,
            second=second,
            square_second=curvature + 2 * mean * second,
            first_square=np.inf if jumps(activation) else float(w @ (slopes * slopes)),
        )


def _moments_known(shift: float, expectations: Expectations, sigma: float) -> Moments:
    scaled = expectations.hermite(sigma, 2, shift) * np.sqrt([1, 1, 2]) / sigma ** np.arange(3)
    mean, first, second = map(float, scaled)
    variance, variance_slope, first_square = expectations.squares(sigma)
    return Moments(mean, variance, first, second, 2 * (variance_slope + mean * second), first_square)


def jumps(activation: Activation) -> bool:
    """Say whether φ itself jumps at one of its kinks (then E φ'² is infinite)."""
    return bool(activation.kinks) and _jumps(activation.fn, activation.kinks)


@lru_cache(maxsize=256)
def _jumps(fn: Function, at: tuple[float, ...]) -> bool:
    kinks = np.array(at)
    step = 1e-9 * np.maximum(1.0, abs(kinks))
    rise = abs(np.asarray(fn(kinks + step)) - np.asarray(fn(kinks - step)))
    size = max(1.0, float(abs(np.asarray(fn(kinks + np.array([[-1.0], [1.0]])))).max()))
    return bool((rise > 1e-6 * size).any())


def hermite_coefficients(activation: Activation, sigma: float, degree: int) -> FloatArray:
    """Return ``h_k = E[φ(σξ) He_k(ξ)] / √k!`` for k = 0 … degree, shape (degree + 1,).

    With them ``E[φ(u) φ(v)] = Σ_k h_k(σ_u) h_k(σ_v) r^k`` for (u, v) Gaussian with correlation r (Mehler).
    """
    if activation.expectations is not None and sigma > 0:
        return activation.expectations.hermite(sigma, degree, activation.shift)
    width = 1.0 if degree <= 96 else 0.5
    rule = activation.rule(sigma, width)
    weighted = rule.weights * np.asarray(activation(sigma * rule.nodes), dtype=float)
    if rule is regular_rule(width):
        return _regular_polynomials(width, degree) @ weighted
    return np.array([polynomial @ weighted for polynomial in hermite_polynomials(rule.nodes, degree)])


@lru_cache(maxsize=4)
def _regular_polynomials(width: float, degree: int) -> FloatArray:
    return np.stack(list(hermite_polynomials(regular_rule(width).nodes, degree)))
