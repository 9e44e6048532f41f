"""What a kernel needs of each sample: the scale of its pre-activation and the expectations at that scale.

All of it depends on the sample's norm alone, so it is computed at a few points of the scales that occur and
interpolated to rounding.  Expectations over φ(σξ) are analytic in log σ, in the strip |Im log σ| < π/4, whatever kinks
or jumps φ has: Chebyshev points of log σ serve every activation, on as many segments of the scales as it takes.  Powers
of σ are straight lines there, sizes being interpolated by their logarithms, and coefficients in units of the size of φ:
every scale has its digits, however far from the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rmtdeq._lib.errors import ConvergenceError, IllPosedError, InvalidInputError
from rmtdeq._lib.solvers import smallest_fixed_point
from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations import Moments, hermite_coefficients, jumps, mean_and_variance, moments
from rmtdeq.kernels.chebyshev import chebyshev_points, chebyshev_polynomials, tail, to_chebyshev
from rmtdeq.network import Layer
from rmtdeq.network.wellposed import infinite_tangent_of_jump, require_diagonal_contraction, require_finite_tangent

_FEW_POINTS, _MANY_POINTS = 16, 32
_INTERPOLATED = 5e-14
_SLOPES_INTERPOLATED = 1e-12
_HOPELESS = 1e-5
"""Of coefficients that are still so large twice the points make no rounding."""
_NARROW, _NARROWEST, _MOST_SEGMENTS = 1.5, 0.1, 256
_OWN_ROUNDING = 0.1
"""What an activation may have lost itself, relative to its largest size and in units of `_INTERPOLATED`."""
_LOWEST = 1e-30
"""Scale from which on powers are continued to smaller ones."""
_NEVER = 10.0
"""Standard deviations beyond which nothing counts."""
_TINY = 1e-290
_LOG_TINY = math.log(_TINY)
_HUGE = 1e150
"""Of E φ², whose products are still numbers."""
_STARTS, _MOST_STEPS, _SETTLED = 1024, 60, 1e-8
_HERE = " on these data"

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
        Of the layer's inputs.
    sigma : ndarray (n,)
        Standard deviation √K_ii of the pre-activation.
    mean, square : ndarray (n,)
        E φ(s_i ξ), and E φ(s_i ξ)², the diagonal of the CK before dropout; s is σ, or one in a normalised layer.
    slope_square : ndarray (n,)
        E φ'(s_i ξ)², of the derivative in the pre-activation.
    scale : ndarray (n,)
        s, the standard deviation of what φ is given.
    """

    squared_norms: FloatArray
    sigma: FloatArray
    mean: FloatArray
    square: FloatArray
    slope_square: FloatArray
    scale: FloatArray

    def at(self, index: IntArray) -> Profile:
        """Return the quantities of some samples."""
        return Profile(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Segment:
    """Expectations of an uncentred layer's φ at points of a range of scales.

    Attributes
    ----------
    layer : Layer
        Uncentred (see `Network.pinned`).
    low, high : float
        The range, as log σ.
    sigma : ndarray (points,)
        Chebyshev points of the range, descending; one where the range is one scale.
    moments : tuple of Moments
        At the points.
    """

    layer: Layer
    low: float
    high: float
    sigma: FloatArray
    moments: tuple[Moments, ...]

    @cached_property
    def mean(self) -> FloatArray:
        """E φ(σξ) at the points."""
        return np.array([at.mean for at in self.moments])

    @cached_property
    def square(self) -> FloatArray:
        """E φ(σξ)² at the points."""
        return np.array([at.square for at in self.moments])

    @cached_property
    def slope_square(self) -> FloatArray:
        """E φ'(σξ)² at the points."""
        return np.array([at.first_square for at in self.moments])

    @cached_property
    def growth(self) -> FloatArray:
        """Derivative of log E φ(σξ)² in log σ² at the points."""
        slopes = np.array([0.5 * at.square_second for at in self.moments])
        return np.divide(slopes * self.sigma**2, self.square, out=np.zeros_like(slopes), where=self.square > 0)

    @cached_property
    def size(self) -> FloatArray:
        """√E φ(σξ)² at the points, one where it is zero."""
        return np.where(self.square > 0, np.sqrt(self.square), 1.0)

    @cached_property
    def logarithms(self) -> FloatArray:
        """Of E φ², and of E φ'² + E φ²/σ²: the slope alone may be nothing, or nothing beside the rest."""
        steep = np.where(np.isfinite(self.slope_square), self.slope_square, 0.0) + self.square / self.sigma**2
        return np.log(np.maximum(np.stack([self.square, steep]), _TINY))

    @cached_property
    def expectations(self) -> FloatArray:
        """The `logarithms`, the `growth`, and E φ in units of the size, at the points: (4, points)."""
        return np.vstack([self.logarithms, self.growth, self.mean / self.size])

    def hermite(self, degree: int) -> FloatArray:
        """Hermite coefficients at the points in units of the size, (degree + 1, points)."""
        most = max(degree, SHORT)
        if most not in self._expansions:
            found = [hermite_coefficients(self.layer.activation, s, most) for s in self.sigma]
            self._expansions[most] = np.stack(found, axis=1) / self.size
        return self._expansions[most][: degree + 1]

    @cached_property
    def _expansions(self) -> dict[int, FloatArray]:
        """What `hermite` has computed, by degree."""
        return {}

    def interpolate(self, values: FloatArray, log_sigma: FloatArray) -> FloatArray:
        """Carry values at the points (last axis) over to other scales of the range."""
        if self.sigma.size == 1:
            return np.repeat(values, log_sigma.size, axis=-1)
        # Constants are kept as they are.
        first = values[..., :1]
        coefficients = (values - first) @ to_chebyshev(self.sigma.size)
        x = (2 * log_sigma - self.low - self.high) / (self.high - self.low)
        return np.asarray(coefficients @ chebyshev_polynomials(x, self.sigma.size) + first)

    @cached_property
    def error(self) -> float:
        """Largest of the last Chebyshev coefficients, over what is allowed."""
        logarithms, tolerance = self.logarithms, _INTERPOLATED
        # Slopes that are not given come from an interpolant, which costs a digit.
        slopes = _INTERPOLATED if self.layer.activation.derivative is not None else _SLOPES_INTERPOLATED
        allowed = np.array([tolerance, slopes]) + 4e-15 * abs(logarithms).max(axis=1)
        sizes = tail(logarithms) / allowed
        return max(float(sizes.max()), float(tail(self.hermite(8)).max()) / tolerance)


@dataclass(frozen=True, eq=False)
class ScaleTable:
    """Expectations of an uncentred layer's φ as functions of the scale σ.

    Attributes
    ----------
    layer : Layer
        Uncentred (see `Network.pinned`).
    segments : tuple of Segment
        Ranges of scales that adjoin, ascending.
    vanishes : bool
        Whether φ(σξ) is zero, to rounding, for scales below those; else it goes on there as a power of σ.
    """

    layer: Layer
    segments: tuple[Segment, ...]
    vanishes: bool = False

    @cached_property
    def sigma(self) -> FloatArray:
        """All points."""
        return np.concatenate([segment.sigma for segment in self.segments])

    @cached_property
    def square(self) -> FloatArray:
        """E φ(σξ)² at all points."""
        return np.concatenate([segment.square for segment in self.segments])

    @cached_property
    def slope_square(self) -> FloatArray:
        """E φ'(σξ)² at all points."""
        return np.concatenate([segment.slope_square for segment in self.segments])

    @cached_property
    def growth(self) -> FloatArray:
        """Derivative of log E φ(σξ)² in log σ² at all points."""
        return np.concatenate([segment.growth for segment in self.segments])

    @cached_property
    def value_at_zero(self) -> float:
        """φ(0)."""
        return float(np.asarray(self.layer.activation(np.zeros(1)))[0])

    def used(self, *profiles: Profile) -> ScaleTable:
        """Return the table without the segments that no sample needs."""
        positive = np.concatenate([each.scale[each.scale > 0] for each in profiles])
        if len(self.segments) == 1 or not positive.size:
            return self
        return replace(self, segments=tuple(segment for segment, _ in self._parts(np.log(positive))))

    def interpolate(self, values: Callable[[Segment], FloatArray], x: FloatArray) -> FloatArray:
        """Carry what segments have at their points (last axis) over to other scales, x = log σ."""
        first = self.segments[0]
        x = np.maximum(x, first.low)
        if len(self.segments) == 1:
            return first.interpolate(values(first), x)
        parts = [(index, segment.interpolate(values(segment), x[index])) for segment, index in self._parts(x)]
        result = np.empty((*parts[0][1].shape[:-1], x.size))
        for index, part in parts:
            result[..., index] = part
        return result

    def _parts(self, x: FloatArray) -> Iterator[tuple[Segment, IntArray]]:
        """The segments that have some of the scales, and the numbers of those."""
        number = np.searchsorted([segment.high for segment in self.segments[:-1]], x)
        ends = np.cumsum(np.bincount(number, minlength=len(self.segments)))[:-1]
        for segment, index in zip(self.segments, np.split(np.argsort(number, kind="stable"), ends), strict=True):
            if index.size:
                yield segment, index

    def _expectations(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """E φ², E φ'² + E φ²/σ², the growth, and E φ in units of the size, at scales x = log σ."""
        square, steep, growth, mean = self.interpolate(lambda segment: segment.expectations, x)
        first = self.segments[0]
        below = np.minimum(x - first.low, 0.0)
        power = 2 * float(first.growth[-1])
        square, steep = square + power * below, steep + (power - 2) * below
        return _exponential(square), _exponential(steep), growth, mean

    def profile(self, squared_norms: FloatArray) -> Profile:
        """Solve ``σ² = σ_a² E φ(σξ)² + σ_b² ‖x‖² + σ_c²`` for every sample by Newton's method on the interpolant."""
        base = self.layer.sigma_b2 * squared_norms + self.layer.sigma_c2
        # Samples without a pre-activation hold φ(0) exactly, not what the interpolant makes of it.
        silent = base == 0 if self.layer.sigma_a2 * self.value_at_zero**2 == 0 else np.zeros(base.shape, dtype=bool)
        nothing = base < math.exp(2 * self.segments[0].low) if self.vanishes else np.zeros(base.shape, dtype=bool)
        silent |= nothing
        x = self._log_scales(np.where(silent, base.max() or 1.0, base))
        square, steep, _, mean = self._expectations(x)
        variance = self.layer.sigma_a2 * square + base
        slope_square = np.maximum(steep - square / np.where(silent, 1.0, variance), 0.0)
        slope_square[nothing] = 0.0
        if jumps(self.layer.activation):
            slope_square = np.full(base.shape, np.inf)
        at_zero, sigma = self.value_at_zero, np.sqrt(np.where(silent, base, variance))
        return Profile(
            squared_norms,
            sigma,
            np.where(silent, at_zero, mean * np.sqrt(square)),
            np.where(silent, at_zero**2, square),
            slope_square,
            sigma,
        )

    def _log_scales(self, base: FloatArray) -> FloatArray:
        """Log σ of samples with positive pre-activations, σ_b² ‖x‖² + σ_c² given."""
        a2 = self.layer.sigma_a2
        if a2 == 0:
            return 0.5 * np.log(base)
        points = np.union1d(np.log(self.sigma), np.linspace(self.segments[0].low, self.segments[-1].high, _STARTS))
        known = np.maximum(np.exp(2 * points) - a2 * self._expectations(points)[0], _TINY)
        x = np.interp(np.log(np.maximum(base, _TINY)), np.log(known), points)
        for _ in range(_MOST_STEPS):
            # In log σ², so that every sample has its digits.
            square, _, growth, _ = self._expectations(x)
            recurrent = a2 * square
            total = recurrent + base
            step = (np.log(total) - 2 * x) / (1 - growth * recurrent / total)
            x = x + 0.5 * step
            if (abs(step) <= _SETTLED).all():
                break
        return x

    def coefficients(self, degree: int, profile: Profile) -> FloatArray:
        """Hermite coefficients of samples, (degree + 1, n)."""
        positive = profile.scale > 0
        x = np.log(np.where(positive, profile.scale, 1.0))
        result = self.interpolate(lambda segment: segment.hermite(degree), x)
        result *= np.where(positive, np.sqrt(profile.square), 0.0)
        result[0, ~positive] = self.value_at_zero
        return result

    def cutoffs(self, degree: int) -> tuple[IntArray, FloatArray]:
        """Return the degrees at which a series up to `degree` may stop, and the largest |correlation| for each.

        By Cauchy-Schwarz the terms beyond degree L add up to at most r^(L+1) times what Parseval's identity
        says is missing from E φ² (and r^L times what is missing from E φ'², for the derivative).
        """
        hermite = np.concatenate([segment.hermite(degree) for segment in self.segments], axis=1)
        degrees = degrees_up_to(degree)
        k = np.arange(degree + 1)[:, None]
        missing = 1 - np.cumsum(hermite**2, axis=0)[degrees]
        slopes = np.cumsum(k * hermite**2, axis=0)[degrees] * self.square / self.sigma**2
        known = np.isfinite(self.slope_square) & (self.slope_square > 0)
        slope_missing = 1 - np.divide(slopes, self.slope_square, out=np.zeros_like(slopes), where=known)
        # Of a function without slope, or of nothing at all, nothing is missing.
        slope_missing[:, self.slope_square == 0] = 0
        missing[:, self.square == 0] = 0
        return degrees, np.minimum(
            _radius(missing.max(axis=1), degrees + 1.0), _radius(slope_missing.max(axis=1), degrees + 0.0)
        )

    def check_tangent(self, kinds: Sequence[Kind], first: bool = True) -> None:
        """Raise if one of the kernels is infinite for some sample, the layer being the `first` or not."""
        fixed = first and "ntk-full" not in kinds and not self.layer.recurrent
        if jumps(self.layer.activation) and not fixed and set(kinds) != {"ck"}:
            raise infinite_tangent_of_jump(self.layer.title)
        if set(kinds) != {"ck"} and self.layer.recurrent:
            require_finite_tangent(self.layer.title, self.layer.sigma_a2 * self.steepest, _HERE)

    @property
    def steepest(self) -> float:
        """Largest E φ'²."""
        return float(self.slope_square.max())


@dataclass(frozen=True, eq=False)
class NormalizedTable(ScaleTable):
    """Expectations of a layer whose pre-activations are normalised, which are those at scale one for all samples.

    Attributes
    ----------
    lowest : float
        Smallest variance σ_b² ‖x‖² + σ_c² of what the samples give.
    """

    lowest: float = 0.0

    @classmethod
    def of(cls, layer: Layer, lowest: float) -> NormalizedTable:
        """Tabulate for samples of squared norms from `lowest` on."""
        return cls(layer, tuple(_segments(layer, 0.0, 0.0)), lowest=layer.sigma_b2 * lowest + layer.sigma_c2)

    def profile(self, squared_norms: FloatArray) -> Profile:
        """Return what the layer needs of every sample; pre-activations that are zero stay zero."""
        at = self.segments[0].moments[0]
        sigma2 = self.layer.sigma_a2 * at.square + self.layer.sigma_b2 * squared_norms + self.layer.sigma_c2
        silent = sigma2 == 0
        slopes = np.inf if jumps(self.layer.activation) else at.first_square
        return Profile(
            squared_norms,
            np.sqrt(sigma2),
            np.where(silent, self.value_at_zero, at.mean),
            np.where(silent, self.value_at_zero**2, at.square),
            np.divide(slopes, sigma2, out=np.zeros_like(sigma2), where=~silent),
            np.where(silent, 0.0, 1.0),
        )

    @property
    def steepest(self) -> float:
        """Largest E φ'² in the pre-activation."""
        at = self.segments[0].moments[0]
        least = self.layer.sigma_a2 * at.square + self.lowest
        return at.first_square / least if least > 0 else math.inf


def degrees_up_to(degree: int) -> IntArray:
    """Return the degrees at which a series up to `degree` may stop."""
    return np.array([d for d in DEGREES if d <= degree])


def _exponential(logarithms: FloatArray) -> FloatArray:
    """The numbers whose logarithms are given, zero for what stands for it."""
    return np.where(logarithms > _LOG_TINY + 1, np.exp(logarithms), 0.0)


def _radius(missing: FloatArray, power: FloatArray) -> FloatArray:
    # Below 2e-15 the difference of two sums is rounding: the series is complete.
    radius = (SERIES_TOLERANCE / np.maximum(missing, 2e-15)) ** (1 / power)
    return np.where(missing <= 2e-15, 1.0, np.minimum(radius, 1.0))


def _diagonal_scale(layer: Layer, squared_norm: float) -> float:
    """σ of one sample, or an error if the diagonal of the kernel has no fixed point."""
    base = layer.sigma_b2 * squared_norm + layer.sigma_c2

    def image(s: float) -> float:
        mean, variance = mean_and_variance(layer.activation, math.sqrt(s))
        return layer.sigma_a2 * (variance + mean * mean) + base

    start = base
    if base == 0:
        # The zero sample: its pre-activation is zero for good unless φ(0) ≠ 0.
        start = 1e-3 * layer.sigma_a2 * float(np.asarray(layer.activation(np.zeros(1)))[0]) ** 2
        if start == 0:
            return 0.0
    if layer.sigma_a2 == 0:
        return math.sqrt(base)
    found = smallest_fixed_point(image, start)
    if not found.converged:
        raise IllPosedError(
            f"{layer.title} has no equilibrium for a sample of squared norm {squared_norm:g}: its pre-activation grows "
            "without bound; lower sigma_a2."
        )
    return math.sqrt(found.value)


def scale_table(layer: Layer, lowest: float, highest: float) -> ScaleTable:
    """Tabulate the expectations for all samples with squared norms in [lowest, highest].

    Raises
    ------
    IllPosedError
        No equilibrium for some norm, or the diagonal map is no contraction there.
    InvalidInputError
        Features beyond the range of doubles, or nothing at all.
    """
    if layer.normalized:
        _require_finite(layer, 1.0, highest)
        return NormalizedTable.of(layer, lowest)
    scale = _diagonal_scale(layer, lowest)
    largest = _diagonal_scale(layer, highest)
    if largest == 0:
        raise InvalidInputError(
            f"The pre-activations of {layer.title} are zero for every sample, as the features below are: scale the "
            "samples up, or give the layer a bias, sigma_c2."
        )
    _require_finite(layer, largest, highest)
    high = math.log(largest)
    low = math.log(scale) if scale > 0 else min(high, 0.0) + math.log(_LOWEST)
    vanishes = _vanishes(layer, low)
    if vanishes:
        low = _where_it_vanishes(layer, low, high)
    table = ScaleTable(layer, tuple(_segments(layer, low, high)), vanishes)
    _check_diagonal(table)
    return table


def _require_finite(layer: Layer, scale: float, squared_norm: float) -> None:
    if not moments(layer.activation, scale).square < _HUGE:
        raise InvalidInputError(
            f"The features of {layer.title} are no numbers in double precision for a sample of squared norm "
            f"{squared_norm:.3g}, whose pre-activation has standard deviation {scale:.3g}: scale the samples, or lower "
            "the variances."
        )


def _segments(layer: Layer, low: float, high: float) -> list[Segment]:
    """Cut a range of log σ until the expectations are interpolated to rounding on every part."""
    if high - low <= 1e-14:
        sigma = np.array([math.exp(high)])
        return [Segment(layer, low, high, sigma, (moments(layer.activation, float(sigma[0])),))]
    top = math.sqrt(max(moments(layer.activation, math.exp(high)).square, _TINY))
    found, todo = [], [(low, high)]
    while todo:
        left, right = todo.pop()
        segment = _segment(layer, left, right, _FEW_POINTS)
        if 1 < segment.error < _HOPELESS / _INTERPOLATED:
            segment = _segment(layer, left, right, _MANY_POINTS)
        # Where φ is small it may have no more digits than where it is large.
        noise = _OWN_ROUNDING * top / float(segment.size.min()) if right - left < _NARROW else 0.0
        if segment.error <= max(1.0, noise):
            found.append(segment)
        elif right - left > _NARROWEST and len(todo) + len(found) < _MOST_SEGMENTS:
            middle = (left + right) / 2
            todo += [(middle, right), (left, middle)]
        else:
            raise ConvergenceError(
                f"The expectations of {layer.activation!r} are not smooth in the scale of the pre-activation near "
                f"{math.exp(left):.3g}: give its derivative, or compute it more precisely there; or drop samples of "
                "extreme norm."
            )
    return found


def _segment(layer: Layer, low: float, high: float, points: int) -> Segment:
    sigma = np.exp(chebyshev_points(low, high, points))
    return Segment(layer, low, high, sigma, tuple(moments(layer.activation, s) for s in map(float, sigma)))


def _vanishes(layer: Layer, x: float) -> bool:
    """Say whether almost all of E φ(σξ)², x = log σ, is where ξ never comes, or all of it is nothing."""
    if layer.activation.expectations is not None:
        return False
    sigma = math.exp(x)
    rule = layer.activation.rule(sigma)
    squares = rule.weights * np.asarray(layer.activation(sigma * rule.nodes), dtype=float) ** 2
    return bool(squares[abs(rule.nodes) <= _NEVER].sum() <= 0.9 * squares.sum())


def _where_it_vanishes(layer: Layer, low: float, high: float) -> float:
    """Log σ below which φ(σξ) vanishes, at most `high`; it does at `low`."""
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _vanishes(layer, middle) else (low, middle)
    return high


def _check_diagonal(table: ScaleTable) -> None:
    slope = table.layer.sigma_a2 * float((table.growth * table.square / table.sigma**2).max())
    require_diagonal_contraction(table.layer.title, slope, _HERE)
