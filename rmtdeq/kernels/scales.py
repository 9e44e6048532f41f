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
from rmtdeq.activations import hermite_coefficients, jumps, moments
from rmtdeq.activations.dual_forms import FoldedLinear
from rmtdeq.kernels.chebyshev import chebyshev_points, chebyshev_polynomials, tail, to_chebyshev
from rmtdeq.network import Layer, Response
from rmtdeq.network.wellposed import infinite_tangent_of_jump, require_diagonal_contraction, require_finite_tangent

_POINTS_OF_POWERS, _FEW_POINTS, _MANY_POINTS = 4, 16, 32
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
_NO_PART = 1e-9
"""Of coefficients in units of the size of φ, whose squares are rounding."""
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
        E z, and E z², the diagonal of the CK before dropout; z is φ(u), or what steps before and after it make of u.
    slope_square : ndarray (n,)
        E (∂z/∂u)².
    scale, gain : ndarray (n,)
        The standard deviation of what φ is given, and the factor of what it makes: σ and one but for steps.
    """

    squared_norms: FloatArray
    sigma: FloatArray
    mean: FloatArray
    square: FloatArray
    slope_square: FloatArray
    scale: FloatArray
    gain: FloatArray

    def at(self, index: IntArray) -> Profile:
        """Return the quantities of some samples."""
        return Profile(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Segment:
    """Expectations of an uncentred layer at points of a range of scales.

    Attributes
    ----------
    layer : Layer
        Uncentred (see `Network.pinned`).
    low, high : float
        The range, as log σ.
    sigma : ndarray (points,)
        Chebyshev points of the range, descending; one where the range is one scale.
    responses : tuple of Response
        At the points.
    """

    layer: Layer
    low: float
    high: float
    sigma: FloatArray
    responses: tuple[Response, ...]

    @cached_property
    def mean(self) -> FloatArray:
        """E z at the points."""
        return np.array([at.mean for at in self.responses])

    @cached_property
    def square(self) -> FloatArray:
        """E z² at the points."""
        return np.array([at.square for at in self.responses])

    @cached_property
    def slope_square(self) -> FloatArray:
        """E (∂z/∂u)² at the points."""
        return np.array([at.slope_square for at in self.responses])

    @cached_property
    def growth(self) -> FloatArray:
        """Derivative of log E z² in log σ² at the points."""
        slopes = np.array([at.square_slope for at in self.responses])
        return np.divide(slopes * self.sigma**2, self.square, out=np.zeros_like(slopes), where=self.square > 0)

    @cached_property
    def size(self) -> FloatArray:
        """√E z² at the points, one where it is zero."""
        return np.where(self.square > 0, np.sqrt(self.square), 1.0)

    @cached_property
    def logarithms(self) -> FloatArray:
        """Of E z², and of E (∂z/∂u)² + E z²/σ²: the slope alone may be nothing, or nothing beside the rest."""
        steep = np.where(np.isfinite(self.slope_square), self.slope_square, 0.0) + self.square / self.sigma**2
        return np.log(np.maximum(np.stack([self.square, steep]), _TINY))

    @cached_property
    def expectations(self) -> FloatArray:
        """The `logarithms`, the `growth`, E z in units of the size, log of the gain, at the points: (5, points)."""
        gain = [math.log(at.gain) for at in self.responses]
        return np.vstack([self.logarithms, self.growth, self.mean / self.size, gain])

    def hermite(self, degree: int) -> FloatArray:
        """Hermite coefficients at the points in units of the size, (degree + 1, points)."""
        most = max(degree, SHORT)
        if most not in self._expansions:
            # Once for all points, where what φ is given has been normalised.
            scales, place = np.unique([at.argument for at in self.responses], return_inverse=True)
            found = np.stack([hermite_coefficients(self.layer.activation, s, most) for s in scales], axis=1)
            self._expansions[most] = found[:, place] * [at.gain for at in self.responses] / self.size
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
    """Expectations of an uncentred layer as functions of the scale σ.

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

    @property
    def arguments(self) -> FloatArray:
        """Scales of what φ is given, at all points, each once."""
        return np.unique([at.argument for segment in self.segments for at in segment.responses])

    @cached_property
    def square(self) -> FloatArray:
        """E z² at all points."""
        return np.concatenate([segment.square for segment in self.segments])

    @cached_property
    def slope_square(self) -> FloatArray:
        """E (∂z/∂u)² at all points."""
        return np.concatenate([segment.slope_square for segment in self.segments])

    @cached_property
    def growth(self) -> FloatArray:
        """Derivative of log E z² in log σ² at all points."""
        return np.concatenate([segment.growth for segment in self.segments])

    @cached_property
    def value_at_zero(self) -> float:
        """What the layer makes of no pre-activation: φ(0), but for steps after it."""
        return self.gain_at_zero * float(np.asarray(self.layer.activation(np.zeros(1)))[0])

    @cached_property
    def gain_at_zero(self) -> float:
        """What steps multiply φ(0) by."""
        square = float(np.asarray(self.layer.activation(np.zeros(1)))[0]) ** 2
        return math.sqrt(self.layer.passed(square) / square) if square and self.layer.after else 1.0

    def used(self, *profiles: Profile) -> ScaleTable:
        """Return the table without the segments that no sample needs."""
        positive = np.concatenate([each.sigma[each.sigma > 0] for each in profiles])
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

    def _expectations(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """E z², E (∂z/∂u)² + E z²/σ², the growth, E z in units of the size, and the gain, at scales x = log σ."""
        square, steep, growth, mean, gain = self.interpolate(lambda segment: segment.expectations, x)
        first = self.segments[0]
        below = np.minimum(x - first.low, 0.0)
        power = 2 * float(first.growth[-1])
        square, steep = square + power * below, steep + (power - 2) * below
        return _exponential(square), _exponential(steep), growth, mean, np.exp(gain)

    def profile(self, squared_norms: FloatArray) -> Profile:
        """Solve ``σ² = σ_a² E z² + σ_b² ‖x‖² + σ_c²`` for every sample by Newton's method on the interpolant."""
        layer = self.layer
        base = layer.sigma_b2 * squared_norms + layer.sigma_c2
        # Samples without a pre-activation hold φ(0) exactly, not what the interpolant makes of it.
        silent = base == 0 if layer.sigma_a2 * layer.square_at_zero == 0 else np.zeros(base.shape, dtype=bool)
        nothing = base < math.exp(2 * self.segments[0].low) if self.vanishes else np.zeros(base.shape, dtype=bool)
        silent |= nothing
        x = self._log_scales(np.where(silent, base.max() or 1.0, base))
        square, steep, _, mean, gain = self._expectations(x)
        variance = layer.sigma_a2 * square + base
        slope_square = np.maximum(steep - square / np.where(silent, 1.0, variance), 0.0)
        slope_square[nothing] = 0.0
        for i in np.flatnonzero(x < self.segments[0].low) if layer.after else ():
            gain[i] = layer.response(math.exp(x[i])).gain
        if jumps(layer.activation):
            slope_square = np.full(base.shape, np.inf)
        at_zero, sigma = self.value_at_zero, np.sqrt(np.where(silent, base, variance))
        return Profile(
            squared_norms,
            sigma,
            np.where(silent, at_zero, mean * np.sqrt(square)),
            np.where(silent, at_zero**2, square),
            slope_square,
            np.where(silent, sigma, np.sqrt(layer.given(np.where(silent, 1.0, variance)))),
            np.where(silent, self.gain_at_zero, gain),
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
            square, _, growth, *_ = self._expectations(x)
            recurrent = a2 * square
            total = recurrent + base
            step = (np.log(total) - 2 * x) / (1 - growth * recurrent / total)
            x = x + 0.5 * step
            if (abs(step) <= _SETTLED).all():
                break
        return x

    def coefficients(self, degree: int, profile: Profile) -> FloatArray:
        """Hermite coefficients of samples, (degree + 1, n)."""
        positive = profile.sigma > 0
        x = np.log(np.where(positive, profile.sigma, 1.0))
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

    @property
    def odd(self) -> bool:
        """Whether the even coefficients are rounding, the products of two of them nothing."""
        even = [abs(segment.hermite(SHORT)[::2]).max() for segment in self.segments]
        return max(even) <= _NO_PART

    def check_tangent(self, kinds: Sequence[Kind], first: bool = True) -> None:
        """Raise if one of the kernels is infinite for some sample, the layer being the `first` or not."""
        fixed = first and "ntk-full" not in kinds and not self.layer.recurrent
        if jumps(self.layer.activation) and not fixed and set(kinds) != {"ck"}:
            raise infinite_tangent_of_jump(self.layer.title)
        if set(kinds) != {"ck"} and self.layer.recurrent:
            steepest = float(self.slope_square.max())
            require_finite_tangent(self.layer.title, self.layer.sigma_a2 * steepest, _HERE)


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

    start = base
    if base == 0:
        # The zero sample: its pre-activation is zero for good unless φ(0) ≠ 0, or unless it is normalised.
        start = 1e-3 * layer.sigma_a2 * layer.square_at_zero
        if start == 0:
            return 0.0
    if layer.sigma_a2 == 0:
        return math.sqrt(base)
    found = smallest_fixed_point(lambda s: layer.variance(s, base), start)
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
    if not moments(layer.activation, layer.argument(scale)).square < _HUGE:
        raise InvalidInputError(
            f"The features of {layer.title} are no numbers in double precision for a sample of squared norm "
            f"{squared_norm:.3g}, whose pre-activation has standard deviation {scale:.3g}: scale the samples, or lower "
            "the variances."
        )


def _segments(layer: Layer, low: float, high: float) -> list[Segment]:
    """Cut a range of log σ until the expectations are interpolated to rounding on every part."""
    if high - low <= 1e-14:
        sigma = math.exp(high)
        return [Segment(layer, low, high, np.array([sigma]), (layer.response(sigma),))]
    top = math.sqrt(max(layer.response(math.exp(high)).square, _TINY))
    phi = layer.activation
    # Of what is linear but for a fold at zero all expectations are powers of σ.
    powers = isinstance(phi.dual_form, FoldedLinear) and not phi.shift and layer.plain
    found, todo = [], [(low, high)]
    while todo:
        left, right = todo.pop()
        segment = _segment(layer, left, right, _POINTS_OF_POWERS if powers else _FEW_POINTS)
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
    return Segment(layer, low, high, sigma, tuple(map(layer.response, sigma.tolist())))


def _vanishes(layer: Layer, x: float) -> bool:
    """Say whether almost all of E φ(σξ)², x = log σ, is where ξ never comes, or all of it is nothing."""
    if layer.activation.expectations is not None:
        return False
    sigma = layer.argument(math.exp(x))
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
    if not table.layer.recurrent:
        return
    slope = table.layer.sigma_a2 * float((table.growth * table.square / table.sigma**2).max())
    require_diagonal_contraction(table.layer.title, slope, _HERE)
