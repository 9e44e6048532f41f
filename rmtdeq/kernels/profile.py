"""What a kernel needs of each sample: the scale of its pre-activation and the expectations at that scale.

All of it depends on the sample's norm alone, so it is computed at a few Chebyshev points of the scales that occur
and interpolated to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from rmtdeq._errors import ConvergenceError, IllPosedError
from rmtdeq._types import FloatArray, IntArray
from rmtdeq.deq import DEQ, named
from rmtdeq.gauss import Moments, hermite_coefficients, mean_and_variance, moments
from rmtdeq.solvers import smallest_fixed_point

_FIRST_NODES, _MOST_NODES = 16, 2048
_INTERPOLATED = 1e-13
_SLOPES_INTERPOLATED = 1e-12
_SLOPES_AT_ZERO = 1e-5

SERIES_TOLERANCE = 1e-12
"""Bound on what Mehler's series leaves out of G_ij and E φ'φ', relative to the diagonal."""

SHORT = 24
"""Degree of the shortest series."""

DEGREES = (12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 448, 512)


@dataclass(frozen=True)
class Profile:
    """Per-sample quantities.

    Attributes
    ----------
    squared_norms : ndarray (n,)
    sigma : ndarray (n,)
        Standard deviation √K_ii of the pre-activation.
    square : ndarray (n,)
        E φ(σ_i ξ)², the diagonal of the CK.
    slope_square : ndarray (n,)
        E φ'(σ_i ξ)².
    """

    squared_norms: FloatArray
    sigma: FloatArray
    square: FloatArray
    slope_square: FloatArray


@dataclass(frozen=True)
class ScaleTable:
    """Expectations of an uncentred DEQ's φ as functions of the scale σ, on [low, high].

    Attributes
    ----------
    deq : DEQ
        Uncentred (see `DEQ.pinned`).
    low, high : float
        The range of scales.
    sigma : ndarray (nodes,)
        Chebyshev points of the range.
    moments : tuple of Moments
        At the points.
    """

    deq: DEQ
    low: float
    high: float
    sigma: FloatArray
    moments: tuple[Moments, ...]

    @cached_property
    def square(self) -> FloatArray:
        """E φ(σξ)² at the points."""
        return np.array([at.square for at in self.moments])

    @cached_property
    def slope_square(self) -> FloatArray:
        """E φ'(σξ)² at the points."""
        return np.array([at.first_square for at in self.moments])

    def hermite(self, degree: int) -> FloatArray:
        """Hermite coefficients at the points, (degree + 1, nodes)."""
        most = max(degree, SHORT)
        if most not in self._expansions:
            found = [hermite_coefficients(self.deq.activation, s, most) for s in self.sigma]
            self._expansions[most] = np.stack(found, axis=1)
        return self._expansions[most][: degree + 1]

    @cached_property
    def _expansions(self) -> dict[int, FloatArray]:
        """What `hermite` has computed, by degree."""
        return {}

    def interpolate(self, values: FloatArray, sigma: FloatArray) -> FloatArray:
        """Carry values at the points (last axis) over to other scales of the range."""
        if self.sigma.size == 1:
            return np.repeat(values, sigma.size, axis=-1)
        coefficients = _chebyshev_coefficients(values)
        span = self.high - self.low
        basis = chebyshev.chebvander((2 * sigma - self.low - self.high) / span, coefficients.shape[-1] - 1)
        return coefficients @ basis.T

    @cached_property
    def starts_at_zero(self) -> bool:
        """Whether φ(0) = 0.

        Then φ(σξ) is of the order of σ, and it is φ(σξ)/σ that is interpolated: samples of small norm among
        large ones keep their relative accuracy.
        """
        return value_at_zero(self.deq) == 0

    def _at(self, values: FloatArray, sigma: FloatArray, power: int) -> FloatArray:
        """Carry over values at the points that are of the order of σ^power where φ(0) = 0."""
        if not self.starts_at_zero:
            return self.interpolate(values, sigma)
        return self.interpolate(values / self.sigma**power, sigma) * sigma**power

    def profile(self, squared_norms: FloatArray) -> Profile:
        """Solve ``σ² = σ_a² E φ(σξ)² + σ_b² ‖x‖²`` for every sample by Newton's method on the interpolant."""
        base = self.deq.sigma_b2 * squared_norms
        a2 = self.deq.sigma_a2
        low, high = self.low**2, self.high**2
        lowest, highest = float(base.min()), float(base.max())
        weight = (base - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(base)
        s = low + weight * (high - low)
        if self.sigma.size > 1:
            unit = self.sigma**2 if self.starts_at_zero else 1.0
            both = np.stack([self.square / unit, self._square_slope])
            for _ in range(60):
                square, slope = self.interpolate(both, np.sqrt(s))
                square = square * s if self.starts_at_zero else square
                step = (s - a2 * square - base) / (1 - a2 * slope)
                s = np.clip(s - step, low, high)
                if (abs(step) <= 4e-16 * (s if self.starts_at_zero else high)).all():
                    break
        # Samples without a pre-activation hold φ(0) exactly, not what the interpolant makes of it.
        silent = (base == 0) & (self.low == 0)
        sigma = np.where(silent, 0.0, np.sqrt(s))
        if np.isfinite(self.slope_square).all():
            slope_square = self.interpolate(self.slope_square, sigma)
        else:
            slope_square = np.full(sigma.shape, np.inf)
        square = np.where(silent, value_at_zero(self.deq) ** 2, self._at(self.square, sigma, 2))
        return Profile(squared_norms, sigma, square, slope_square)

    def coefficients(self, at_nodes: FloatArray, sigma: FloatArray) -> FloatArray:
        """Carry Hermite coefficients at the points over to the scales of samples."""
        result = np.ascontiguousarray(self._at(at_nodes, sigma, 1))
        result[:, sigma == 0] = 0.0
        result[0, sigma == 0] = value_at_zero(self.deq)
        return result

    @cached_property
    def _square_slope(self) -> FloatArray:
        """Derivative of E φ² in σ² at the points."""
        return np.array([0.5 * at.square_second for at in self.moments])

    def cutoffs(self, hermite: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the degrees at which the series may stop, and the largest |correlation| for each.

        By Cauchy-Schwarz the terms beyond degree L add up to at most r^(L+1) times what Parseval's identity
        says is missing from E φ² (and r^L times what is missing from E φ'², for the derivative).
        """
        degrees = np.array([d for d in DEGREES if d < hermite.shape[0]])
        k = np.arange(hermite.shape[0])[:, None]
        power = np.cumsum(hermite**2, axis=0)[degrees]
        slope_power = np.cumsum(k * hermite**2, axis=0)[degrees] / self.sigma**2
        missing = 1 - power / np.maximum(self.square, np.finfo(float).tiny)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope_missing = np.where(np.isfinite(self.slope_square), 1 - slope_power / self.slope_square, 1.0)
        # Of a function without slope, or of nothing at all, nothing is missing.
        slope_missing[:, self.slope_square == 0] = 0
        missing[:, self.square == 0] = 0
        # A node at scale 0 has no terms beyond the constant and none missing.
        dead = self.sigma == 0
        missing[:, dead] = slope_missing[:, dead] = 0
        return degrees, np.minimum(
            _radius(missing.max(axis=1), degrees + 1), _radius(slope_missing.max(axis=1), degrees)
        )

    def check_tangent(self) -> None:
        """Raise if the NTK is infinite for some sample."""
        worst = self.deq.sigma_a2 * float(self.slope_square.max())
        if not worst < 1:
            raise IllPosedError(
                f"The NTK of {named(self.deq)} is infinite: σ_a² E φ'² reaches {worst:.4g} on these data, and it must "
                "stay below 1; lower sigma_a2."
            )


def _radius(missing: FloatArray, power: FloatArray) -> FloatArray:
    # Below 2e-15 the difference of two sums is rounding: the series is complete.
    with np.errstate(divide="ignore"):
        radius = (SERIES_TOLERANCE / np.maximum(missing, 1e-300)) ** (1 / power)
    return np.where(missing <= 2e-15, 1.0, np.minimum(radius, 1.0))


def _chebyshev_coefficients(values: FloatArray) -> FloatArray:
    """Coefficients of the interpolant through values at Chebyshev points of the first kind (last axis)."""
    nodes = values.shape[-1]
    angles = (np.arange(nodes) + 0.5) * np.pi / nodes
    basis = np.cos(np.outer(angles, np.arange(nodes))) * (2 / nodes)
    basis[:, 0] /= 2
    return values @ basis


def _diagonal_scale(deq: DEQ, squared_norm: float) -> float:
    """σ of one sample, or an error if the diagonal of the kernel has no fixed point."""
    base = deq.sigma_b2 * squared_norm

    def image(s: float) -> float:
        mean, variance = mean_and_variance(deq.activation, math.sqrt(s))
        return deq.sigma_a2 * (variance + mean * mean) + base

    start = base
    if base == 0:
        # The zero sample: its pre-activation is zero for good unless φ(0) ≠ 0.
        start = 1e-3 * deq.sigma_a2 * value_at_zero(deq) ** 2
        if start == 0:
            return 0.0
    found = smallest_fixed_point(image, start)
    if not found.converged:
        raise IllPosedError(
            f"{named(deq)} has no equilibrium for a sample of squared norm {squared_norm:g}: its pre-activation grows "
            "without bound; lower sigma_a2."
        )
    return math.sqrt(found.value)


def scale_table(deq: DEQ, lowest: float, highest: float) -> ScaleTable:
    """Tabulate the expectations for all samples with squared norms in [lowest, highest].

    Raises
    ------
    IllPosedError
        No equilibrium for some norm, or the diagonal map is no contraction there.
    """
    low, high = _diagonal_scale(deq, lowest), _diagonal_scale(deq, highest)
    if high - low <= 1e-14 * high:
        sigma = np.array([high])
        table = ScaleTable(deq, high, high, sigma, (_moments_at(deq, high),))
        _check_diagonal(table)
        return table
    nodes = _FIRST_NODES
    while nodes <= _MOST_NODES:
        angles = (np.arange(nodes) + 0.5) * np.pi / nodes
        sigma = (low + high) / 2 + (high - low) / 2 * np.cos(angles)
        table = ScaleTable(deq, low, high, sigma, tuple(_moments_at(deq, s) for s in sigma))
        if _interpolates(table):
            _check_diagonal(table)
            return table
        nodes *= 2
    raise ConvergenceError(
        f"The expectations of {deq.activation!r} are not smooth in the scale of the pre-activation over "
        f"[{low:.3g}, {high:.3g}]; drop samples of extreme norm."
    )


def _moments_at(deq: DEQ, sigma: float) -> Moments:
    if sigma > 0:
        return moments(deq.activation, sigma)
    # At scale 0 the function is constant, and the slopes are limits, taken a little above it.
    return replace(moments(deq.activation, _SLOPES_AT_ZERO), mean=value_at_zero(deq), variance=0.0)


def value_at_zero(deq: DEQ) -> float:
    """Return φ(0)."""
    return float(np.asarray(deq.activation(np.zeros(1)))[0])


def _interpolates(table: ScaleTable) -> bool:
    unit = table.sigma if table.starts_at_zero else np.ones_like(table.sigma)
    square = table.square / unit**2
    if not _has_converged(square, float(abs(square).max())):
        return False
    # Slopes that are not given come from an interpolant, which costs a digit.
    exact = table.deq.activation.derivative is not None
    slopes, tolerance = table.slope_square, _INTERPOLATED if exact else _SLOPES_INTERPOLATED
    if np.isfinite(slopes).all() and not _has_converged(slopes, float(slopes.max()), tolerance):
        return False
    # The coefficients of one expansion share the scale of the function, √E φ².
    return _has_converged(table.hermite(8) / unit, math.sqrt(float(square.max())))


def _has_converged(values: FloatArray, size: float, tolerance: float = _INTERPOLATED) -> bool:
    """Say whether the last quarter of the Chebyshev coefficients of values at the points (last axis) is rounding."""
    coefficients = _chebyshev_coefficients(values)
    return bool((abs(coefficients[..., -max(2, values.shape[-1] // 4) :]) <= tolerance * size).all())


def _check_diagonal(table: ScaleTable) -> None:
    slope = table.deq.sigma_a2 * max(0.5 * at.square_second for at in table.moments)
    if not slope < 1:
        raise IllPosedError(
            f"{named(table.deq)} is no contraction on these data: the diagonal of the kernel map has slope "
            f"{slope:.4g}, and it must stay below 1; lower sigma_a2."
        )
