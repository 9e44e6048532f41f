"""Closed forms of dual activations (see `DualForm`), written so that nothing cancels at any angle or ratio of scales.

With V = sign·φ(sign·v) the squared distance of the normalised features is what it is at angle zero, plus twice the loss
``E[φ(u) V]₀ - E[φ(u) V]_θ = σ_u σ_v ∫₀^θ sin τ E[φ'(u)φ'(v)]_τ dτ`` over their sizes (Price's theorem).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.activations import DualForm, Pairs
from rmtdeq.activations.quadrature import legendre, normal_density

_NARROW = 0.1
_NARROW_NODES, _PANEL_NODES = 8, 12
_FEWEST_PANELS = 4
_NEGLIGIBLE = 80.0
"""Twice the exponent below which an integrand is left out."""
_BEYOND = 40.0
"""Standard deviations beyond which the normal density is zero."""
_FAR = 1e6
"""The same, for knots, whose squares must not overflow."""
_NO_ANGLE = 1e-150
"""Angles whose squares are no numbers any more, and over which no integral is."""


def _versine(theta: FloatArray) -> FloatArray:
    return 2 * np.sin(theta / 2) ** 2


def _sine_minus_arc(theta: FloatArray) -> FloatArray:
    """``sin θ - θ cos θ``, by its series where the difference would cancel."""
    square = theta * theta
    series = theta * square * (1 / 3 - square * (1 / 30 - square * (1 / 840 - square / 45360)))
    return np.where(theta < 0.1, series, np.sin(theta) - theta * np.cos(theta))


@lru_cache(maxsize=8)
def _hermite_of_fold(degree: int) -> FloatArray:
    """``E[|ξ| He_k(ξ)] / √k!`` for k = 0 … degree, from one even k to the next."""
    found = np.zeros(degree + 1)
    k = np.arange(0, degree - 1, 2)
    found[::2] = np.sqrt(2 / np.pi) * np.cumprod(np.append(1.0, (1 - k) / (k + 1) * np.sqrt((k + 1) / (k + 2))))
    return found


@dataclass(frozen=True)
class FoldedLinear:
    """Dual and expectations of φ(u) = linear·u + absolute·|u|: ReLU, leaky ReLU and |u| (arc-cosine kernel).

    Source: Cho and Saul 2009, degree 1, written for |u|, whose product with u vanishes in expectation.
    """

    linear: float
    absolute: float

    def __call__(self, pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        """Evaluate the form."""
        linear, absolute, mean = self.linear, self.absolute, np.sqrt(2 / np.pi)
        u, v, sign, theta = pairs.unit_u, pairs.unit_v, pairs.sign, pairs.theta
        # Along u, along |u| less its mean, and along the constant.
        even = absolute**2 * (1 - mean**2) * (u - sign * v) ** 2
        constant = absolute * mean * (u - sign * v) - shift * (1 / pairs.size_u - sign / pairs.size_v)
        apart = linear**2 * (u - v) ** 2 + even + constant**2
        both = sign * absolute**2
        loss = (linear**2 + both) * _versine(theta) - both * (2 / np.pi) * _sine_minus_arc(theta)
        return apart + 2 * u * v * loss, linear**2 + both * (1 - 2 * theta / np.pi)

    def hermite(self, sigma: float, degree: int, shift: float) -> FloatArray:
        """Return ``E[(φ(σξ) - shift) He_k(ξ)] / √k!`` for k = 0 … degree."""
        found = self.absolute * sigma * _hermite_of_fold(degree)
        found[1:2] = self.linear * sigma
        found[0] -= shift
        return found

    def squares(self, sigma: float) -> tuple[float, float, float]:
        """Return ``Var φ``, its derivative in σ², and ``E φ'²``."""
        slope_square = self.linear**2 + self.absolute**2
        rate = self.linear**2 + self.absolute**2 * (1 - 2 / np.pi)
        return rate * sigma**2, rate, slope_square

    def expectation(
        self, i: int, j: int, sigma_u: FloatArray, sigma_v: FloatArray, r: FloatArray, shift: float
    ) -> FloatArray:
        """Return ``E[φ⁽ⁱ⁾(u) φ⁽ʲ⁾(v)]`` at correlations r in (-1, 1), φ less `shift`; i + j is 0, 2, 4 or 6.

        For |u| all follow from ``E|u||v| = (2/π)(√Δ + ρ arcsin r)``, Δ = σ_u² σ_v² - ρ²: a derivative in the covariance
        ρ is one more of each factor, one in the variance of u is half of two more of φ(u).
        """
        if i < j:
            return self.expectation(j, i, sigma_v, sigma_u, r, shift)
        s, t, size = sigma_u**2, sigma_v**2, sigma_u * sigma_v
        rho, root = size * r, size * np.sqrt((1 - r) * (1 + r))
        match i, j:
            case 0, 0:
                fold = root + rho * np.arcsin(r)
            case 1, 1:
                fold = np.arcsin(r)
            case 2, 0:
                fold = root / s
            case 2, 2:
                fold = 1 / root
            case 3, 1:
                fold = -rho / (s * root)
            case 4, 0:
                fold = t / (s * root) - 2 * root / s**2
            case 3, 3:
                fold = rho / root**3
            case 4, 2:
                fold = -t / root**3
            case 5, 1:
                fold = t * rho / (s * root**3) + 2 * rho / (s**2 * root)
        value = self.absolute**2 * (2 / np.pi) * fold
        if i == j:
            value = value + self.linear**2 * (rho, 1.0, 0.0, 0.0)[i]
        if j == 0 and shift:
            mean = self.absolute * np.sqrt(2 / np.pi)
            of_v = {0: mean * (sigma_u + sigma_v) - shift, 2: mean / sigma_u, 4: -mean / sigma_u**3}[i]
            value = value - shift * of_v
        return np.asarray(value)

    def taylor(self, degree: int, sigma_u: float, sigma_v: float, r: float, shift: float) -> FloatArray:
        """Return Taylor coefficients of ``E φ(u)φ(v)`` in the correlation, around r in (-1, 1): (degree + 1,)."""
        # (1 - r²) y' = r y for y = (1 - r²)^(-1/2), whose second integral is that of |u||v|.
        rest = (1 - r) * (1 + r)
        y = np.zeros(degree + 1)
        y[0] = rest**-0.5
        for k in range(degree):
            y[k + 1] = (r * (2 * k + 1) * y[k] + k * (y[k - 1] if k else 0.0)) / (rest * (k + 1))
        arcs = np.append(np.arcsin(r), y / np.arange(1, degree + 2))
        folds = np.append(np.sqrt(rest) + r * np.arcsin(r), arcs / np.arange(1, degree + 3))[: degree + 1]
        found = sigma_u * sigma_v * self.absolute**2 * (2 / np.pi) * folds
        found[:2] += sigma_u * sigma_v * self.linear**2 * np.array([r, 1.0])[: degree + 1]
        found[0] -= shift * (self.absolute * np.sqrt(2 / np.pi) * (sigma_u + sigma_v) - shift)
        return found


def error_function(pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
    """Dual of erf(u) (arc-sine kernel, Williams 1997)."""
    s, t, product = pairs.sigma_u**2, pairs.sigma_v**2, pairs.sigma_u * pairs.sigma_v
    outside = 1 + 2 * s + 2 * t
    size = outside + 4 * s * t
    spread = outside + 4 * s * t * np.sin(pairs.theta) ** 2
    parallel = (2 / np.pi) * np.arctan2(2 * product, np.sqrt(outside))
    loss = (2 / np.pi) * _arc_lost(2 * product, outside, spread, size, pairs.theta)
    return _odd_distance(pairs, shift, parallel, loss), (4 / np.pi) / np.sqrt(spread)


def gated(pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
    """Dual of u·Φ(u), Φ the normal distribution function (GELU).

    An odd part u/2 and an even one, e(u) = u erf(u/√2)/2.  By Stein's lemma from the dual of erf, with P = (1 + s)(1 +
    t) and Q = P - ρ²: ``2π E e(u)e(v) = ρ arcsin(ρ/√P) + 1/√Q - (1 - st) √Q/P`` (Tsuchida et al. 2021 in another form).
    """
    u, v, sign = pairs.sigma_u, pairs.sigma_v, pairs.sign
    s, t, product, size = u**2, v**2, u * v, pairs.size_u * pairs.size_v
    versine, sine = _versine(pairs.theta), np.sin(pairs.theta)
    cosine, whole, parallel = 1 - versine, (1 + s) * (1 + t), 1 + s + t
    spread = parallel + (product * sine) ** 2
    rest = (2 + s + t) / whole

    def varying(variance: FloatArray) -> FloatArray:
        # 2π Var e, without its mean.
        single = 1 + 2 * variance
        return _even_part(variance, (1 + variance) ** 2, single, (1 - variance) * (1 + variance))

    mixed = _even_part(product, whole, parallel, 1 - s * t)
    even = varying(s) / pairs.size_u**2 + varying(t) / pairs.size_v**2 - 2 * sign * mixed / size
    means = [variance / np.sqrt(2 * np.pi * (1 + variance)) - shift for variance in (s, t)]
    constant = means[0] / pairs.size_u - sign * means[1] / pairs.size_v
    apart = 0.25 * (pairs.unit_u - pairs.unit_v) ** 2 + np.maximum(even, 0.0) / (2 * np.pi) + constant**2
    arc = np.arctan2(product * cosine, np.sqrt(spread))
    arcs = _arc_lost(product, parallel, spread, whole, pairs.theta)
    roots = (product * sine) ** 2 / (np.sqrt(spread) + np.sqrt(parallel))
    algebraic = roots * (1 / np.sqrt(parallel * spread) + (1 - s * t) / whole)
    loss = 0.25 * product * versine + sign / (2 * np.pi) * (product * (versine * arc + arcs) + algebraic)
    steep = arc + product * cosine / np.sqrt(spread) * (rest + 1 / spread)
    return apart + 2 * loss / size, 0.25 + sign / (2 * np.pi) * steep


def _even_part(rho: FloatArray, whole: FloatArray, inside: FloatArray, rest: FloatArray) -> FloatArray:
    """``2π (E e(u)e(v) - E e(u) E e(v))`` of `gated` for P = `whole`, Q = `inside` and 1 - st = `rest`."""
    roots = rho**2 / (np.sqrt(whole) + np.sqrt(inside))
    return rho * np.arctan2(rho, np.sqrt(inside)) + roots * (1 / np.sqrt(whole * inside) + rest / whole)


def _arc_lost(
    product: FloatArray, parallel: FloatArray, spread: FloatArray, whole: FloatArray, theta: FloatArray
) -> FloatArray:
    """``arctan(p/√parallel) - arctan(p cos θ/√spread)``, from the sine and the cosine of the difference."""
    cosine, root = np.cos(theta), np.sqrt(parallel * spread)
    sine = product * np.sin(theta) ** 2 * whole / (np.sqrt(spread) + cosine * np.sqrt(parallel))
    return np.asarray(np.arctan2(sine, root + product**2 * cosine))


def _odd_distance(pairs: Pairs, shift: float, parallel: FloatArray, loss: FloatArray) -> FloatArray:
    """Squared distance for an odd function minus `shift`, from E φφ at angle zero and what is lost of it."""
    size = pairs.size_u * pairs.size_v
    same = (pairs.sigma_u == pairs.sigma_v) & ((pairs.sign > 0) | (shift == 0))
    apart = np.where(same, 0.0, np.maximum(2 - 2 * (parallel + pairs.sign * shift**2) / size, 0.0))
    return np.asarray(apart + 2 * loss / size)


def piecewise_linear(knots: FloatArray, intercepts: FloatArray, slopes: FloatArray) -> DualForm:
    """Dual of a continuous φ(u) = intercepts_i + slopes_i·u on the i-th piece, knots ascending.

    By Price's theorem twice: what E φ'φ' loses with the angle are integrals of the normal density at pairs of knots.
    """
    knots, intercepts, slopes = (np.asarray(each, dtype=float) for each in (knots, intercepts, slopes))
    bends, total = np.diff(slopes), float(slopes[-1] - slopes[0])

    def dual(pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        apart, parallel = _collinear(pairs, knots, intercepts - shift, slopes)
        first, second = pairs.sign * _density_integrals(pairs, knots, bends, total)
        loss = parallel * _versine(pairs.theta) - second
        return apart + 2 * pairs.unit_u * pairs.unit_v * loss, parallel - first

    return dual


def piecewise_constant(knots: FloatArray, levels: FloatArray) -> DualForm:
    """Dual of a φ with one level more than it has knots, ascending; the slope is infinite where two jumps meet."""
    knots, levels = np.asarray(knots, dtype=float), np.asarray(levels, dtype=float)
    jumps, total = np.diff(levels), float(levels[-1] - levels[0])

    def dual(pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        apart, _ = _collinear(pairs, knots, levels - shift, np.zeros_like(levels))
        loss, _ = _density_integrals(pairs, knots, jumps, total)
        lag, product = _at_knots(pairs, knots)
        sine = np.sin(pairs.theta)[:, None, None]
        meet = abs(lag) <= _BEYOND * sine
        exponent = np.divide(lag, sine, out=np.zeros_like(lag), where=meet & (sine > 0)) ** 2
        between = np.where(meet, product, 0.0) / np.cos(pairs.theta / 2)[:, None, None] ** 2
        density = meet * np.exp(-0.5 * (exponent + between))
        mass = np.einsum("a,iab,b->i", jumps, density, jumps) / (2 * np.pi)
        size = pairs.sigma_u * pairs.sigma_v * sine[:, 0, 0]
        slope = np.divide(mass, size, out=np.where(mass > 0, np.inf, 0.0), where=size > 0)
        return apart + 2 * loss / (pairs.size_u * pairs.size_v), slope

    return dual


def _knots_of(pairs: Pairs, knots: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The knots of φ(u) and of sign·φ(sign·v), in units of the scales: (pairs, ·)."""
    h = np.clip(knots / pairs.sigma_u[:, None], -_FAR, _FAR)
    return h, pairs.sign[:, None] * np.clip(knots / pairs.sigma_v[:, None], -_FAR, _FAR)


def _at_knots(pairs: Pairs, knots: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Differences and products of those knots: (pairs, ·, ·)."""
    h, k = _knots_of(pairs, knots)
    return h[:, :, None] - k[:, None, :], h[:, :, None] * k[:, None, :]


def _collinear(
    pairs: Pairs, knots: FloatArray, intercepts: FloatArray, slopes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """At angle zero: the squared distance of the normalised features, and E φ'(u)φ'(v) of the pieces."""
    h, k = _knots_of(pairs, knots)
    edges = np.sort(np.concatenate([h, k], axis=1), axis=1)
    end = np.full((len(h), 1), np.inf)
    left, right = np.concatenate([-end, edges], axis=1), np.concatenate([edges, end], axis=1)
    inside = np.concatenate([edges[:, :1] - 1, (edges[:, :-1] + edges[:, 1:]) / 2, edges[:, -1:] + 1], axis=1)
    inside = inside if knots.size else np.zeros_like(left)
    i = (h[:, None, :] < inside[..., None]).sum(axis=2)
    above = np.where(
        pairs.sign[:, None, None] > 0, k[:, None, :] < inside[..., None], k[:, None, :] > inside[..., None]
    )
    j = above.sum(axis=2)
    sign = pairs.sign[:, None]
    constant = intercepts[i] / pairs.size_u[:, None] - sign * intercepts[j] / pairs.size_v[:, None]
    linear = slopes[i] * pairs.unit_u[:, None] - slopes[j] * pairs.unit_v[:, None]
    mass, square = _moments_between(left, right, constant, linear)
    return square.sum(axis=1), (mass * slopes[i] * slopes[j]).sum(axis=1)


def _moments_between(
    left: FloatArray, right: FloatArray, constant: FloatArray, linear: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """P(left < ξ < right) and E (constant + linear ξ)² there, ξ standard normal."""
    mass = np.where(left > 0, ndtr(-left) - ndtr(-right), ndtr(right) - ndtr(left))
    below, above = normal_density(left), normal_density(right)
    finite_left, finite_right = (np.where(np.isfinite(each), each, 0.0) for each in (left, right))
    second = mass + finite_left * below - finite_right * above
    square = constant**2 * mass + 2 * constant * linear * (below - above) + linear**2 * second
    # Differences over a short interval would cancel.
    narrow = right - left < _NARROW
    x, w = legendre(_NARROW_NODES)
    half = (right[narrow] - left[narrow])[:, None] / 2
    xi = (left[narrow] + right[narrow])[:, None] / 2 + half * x
    density = half * w * normal_density(xi)
    mass[narrow] = density.sum(axis=1)
    square[narrow] = (density * (constant[narrow][:, None] + linear[narrow][:, None] * xi) ** 2).sum(axis=1)
    return mass, np.maximum(square, 0.0)


def _density_integrals(pairs: Pairs, knots: FloatArray, weights: FloatArray, total: float) -> FloatArray:
    """``Σ_ab w_a w_b ∫₀^θ f_ab(τ) dτ`` and ``Σ_ab w_a w_b ∫₀^θ (cos τ - cos θ) f_ab(τ) dτ``, (2, pairs).

    2π f_ab(τ) = exp(-q/2), q = (h_a - k_b)²/sin² τ + h_a k_b/cos²(τ/2): the normal density at the knots h_a of u and
    k_b of sign·v, at angle τ, times sin τ.  Where the knots of one side are all within a standard deviation, f_ab is
    little else than its value at zero, which is taken off and counted once, times `total`, the sum of the weights:
    those that add up to nothing leave what is small as such.
    """
    # Compiled code is loaded by those who need it.
    from rmtdeq.activations.panel_sums import panel_sums

    h, k = _knots_of(pairs, knots)
    near_u, near_v = (abs(each).max(axis=1, initial=0.0) < 1 for each in (h, k))
    # A last knot at zero carries the sum.
    none = np.zeros((len(h), 1))
    h, k = np.concatenate([h, none], axis=1)[:, :, None], np.concatenate([k, none], axis=1)[:, None, :]
    own = np.broadcast_to(weights, (len(h), weights.size))
    w_u, w_v = (np.concatenate([own, total * near[:, None]], axis=1) for near in (near_u, near_v))
    weight = w_u[:, :, None] * w_v[:, None, :]
    known = np.arange(weights.size + 1) < weights.size
    shape = weight.shape
    theta, h, k, less_u, less_v = (
        np.broadcast_to(each, shape)
        for each in (
            pairs.theta[:, None, None],
            h,
            k,
            near_u[:, None, None] & known[:, None],
            near_v[:, None, None] & known,
        )
    )
    # Below `start` times √80 no exponential is more than nothing but those that are constant there.
    lags = np.stack([abs(h - k), np.where(less_v, abs(h), 0.0), np.where(less_u, abs(k), 0.0)])
    start = np.where(lags > 1e-30 * theta, lags, np.inf).min(axis=0)
    ratio = np.divide(theta, start, out=np.zeros(shape), where=np.isfinite(start))
    span = np.where(ratio < 1e8, 0.5 * np.log1p(_NEGLIGIBLE * np.minimum(ratio, 1e8) ** 2), 0.0)
    far = ratio >= 1e8
    span[far] = 0.5 * np.log(_NEGLIGIBLE) + np.log(ratio[far])
    panels = 2.0 ** np.ceil(np.log2(np.maximum(_FEWEST_PANELS, span / np.log(2.0))))
    found = np.zeros((2, weight.size))
    asked = (weight != 0) & (theta > _NO_ANGLE)
    chosen = np.flatnonzero(asked)
    found[:, chosen] = panel_sums(
        *(each.flat[chosen] for each in (theta, h, k, less_u, less_v, span, panels)), *legendre(_PANEL_NODES)
    )
    return np.asarray((weight * found.reshape(2, *shape)).sum(axis=(2, 3)))
