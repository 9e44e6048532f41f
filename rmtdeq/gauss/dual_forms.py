"""Closed forms of dual activations, in the angle θ between the two Gaussians (see `DualForm`)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, owens_t

from rmtdeq._types import FloatArray
from rmtdeq.gauss.activations import DualForm


def _squared_distance(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> FloatArray:
    """``E (u - v)²``, without cancellation at small angles."""
    return (sigma_u - sigma_v) ** 2 + 4 * sigma_u * sigma_v * np.sin(theta / 2) ** 2


def _sine_minus_arc(theta: FloatArray) -> FloatArray:
    """``sin θ - θ cos θ``, by its series where the difference would cancel."""
    square = theta * theta
    series = theta * square * (1 / 3 - square * (1 / 30 - square * (1 / 840 - square / 45360)))
    return np.where(theta < 0.1, series, np.sin(theta) - theta * np.cos(theta))


def folded_linear(linear: float, absolute: float) -> DualForm:
    """Dual of φ(u) = linear·u + absolute·|u|: ReLU, leaky ReLU and |u| (arc-cosine kernel).

    Source: Cho and Saul 2009, degree 1, written for |u|, whose product with u vanishes in expectation.
    """

    def dual(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        distance = _squared_distance(sigma_u, sigma_v, theta)
        folded = distance - (4 / np.pi) * sigma_u * sigma_v * _sine_minus_arc(theta)
        # |u| and |v| are as close at π - θ as at θ; the expression above is exact on both sides of π/2.
        return (
            linear**2 * distance + absolute**2 * folded,
            linear**2 + absolute**2 * (1 - 2 * theta / np.pi),
        )

    return dual


def error_function(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Dual of erf(u) (arc-sine kernel, Williams 1997)."""
    s, t, rho = sigma_u**2, sigma_v**2, sigma_u * sigma_v * np.cos(theta)
    size = np.sqrt((1 + 2 * s) * (1 + 2 * t))
    squares = np.arcsin(2 * s / (1 + 2 * s)) + np.arcsin(2 * t / (1 + 2 * t))
    distance = (2 / np.pi) * (squares - 2 * np.arcsin(2 * rho / size))
    return distance, (4 / np.pi) / np.sqrt(size**2 - 4 * rho**2)


def sine(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Dual of sin(u), from E exp(i(u ± v))."""
    near = np.exp(-0.5 * _squared_distance(sigma_u, sigma_v, theta))
    far = np.exp(-0.5 * _squared_distance(sigma_u, sigma_v, np.pi - theta))
    squares = 0.5 * (-np.expm1(-2 * sigma_u**2) - np.expm1(-2 * sigma_v**2))
    return squares - (near - far), 0.5 * (near + far)


def _beyond(h: FloatArray, k: FloatArray, theta: FloatArray) -> FloatArray:
    """``k - h cos θ`` for h, k ≥ 0, without cancellation where k is near h and the Gaussians nearly parallel."""
    return (k - h) + 2 * np.sin(theta / 2) ** 2 * h


def _tail(h: FloatArray, k: FloatArray, theta: FloatArray) -> FloatArray:
    """``P(ξ > h, η > k)``, h, k ≥ 0, for standard Gaussians with correlation cos θ, by Owen's T function."""
    sine_ = np.sin(theta)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first = np.where(h == 0, np.sign(k) * np.inf, _beyond(h, k, theta) / (h * sine_))
        second = np.where(k == 0, np.sign(h) * np.inf, _beyond(k, h, theta) / (k * sine_))
        both_zero = (h == 0) & (k == 0)
        first = np.where(np.isnan(first), 0.0, first)
        second = np.where(np.isnan(second), 0.0, second)
    general = 0.5 * (ndtr(-h) + ndtr(-k)) - owens_t(h, first) - owens_t(k, second)
    return np.where(both_zero, 0.5 - theta / (2 * np.pi), general)


def piecewise_linear(slope: float, knots: FloatArray, bends: FloatArray) -> DualForm:
    """Dual of ``φ(u) = slope·u + Σ_a bends_a max(u - knots_a, 0)`` (plus any constant), knots ascending.

    By Owen's T function for the probabilities and the bivariate normal density for the rest; hard tanh and
    every continuous piecewise linear function are of this form.  A ramp that starts below zero is written as a
    line and a ramp to the other side, so that all ramps live in the tails and none cancels against another.
    """
    knots, bends = np.asarray(knots, dtype=float), np.asarray(bends, dtype=float)
    after = slope + np.cumsum(bends)
    sides = np.where(knots >= 0, 1.0, -1.0)
    linear = slope + float(bends[knots < 0].sum())
    ramps = list(zip(abs(knots), bends, sides, strict=True))
    # What φ'² gains at each knot, seen from zero.
    gains = sides * (after**2 - (after - bends) ** 2)
    spacing = float(np.diff(knots).min(initial=np.inf))

    def dual(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        sigma_u, sigma_v, theta = np.broadcast_arrays(*map(np.asarray, (sigma_u, sigma_v, theta)))
        distance = _squared_distance(sigma_u, sigma_v, theta)
        covariance = sigma_u * sigma_v * np.cos(theta)
        difference = linear**2 * distance
        slopes = np.full(theta.shape, linear**2)
        for c, bend, side in ramps:
            above_u, above_v = ndtr(-c / sigma_u), ndtr(-c / sigma_v)
            slopes = slopes + linear * side * bend * (above_u + above_v)
            # E[u (v - c)₊] = Cov(u, v) P(v > c)
            cross = sigma_u**2 * above_u + sigma_v**2 * above_v - covariance * (above_u + above_v)
            difference = difference + 2 * linear * side * bend * cross
            for d, other, other_side in ramps:
                product, tail = _ramp_product(sigma_u, sigma_v, theta if side == other_side else np.pi - theta, c, d)
                slopes = slopes + side * bend * other_side * other * tail
                squares = _ramp_square(sigma_u, c, d) + _ramp_square(sigma_v, c, d) if side == other_side else 0.0
                difference = difference + bend * other * (squares - 2 * product)
        near = np.sqrt(distance) < 1e-3 * np.minimum(np.minimum(sigma_u, sigma_v), spacing)
        difference = np.array(difference)
        difference[near] = _nearly_equal(sigma_u[near], sigma_v[near], theta[near], linear, abs(knots), bends, gains)
        return difference, slopes

    return dual


def _nearly_equal(
    sigma_u: FloatArray,
    sigma_v: FloatArray,
    theta: FloatArray,
    linear: float,
    heights: FloatArray,
    bends: FloatArray,
    gains: FloatArray,
) -> FloatArray:
    """``E (φ(u) - φ(v))²`` of a piecewise linear φ for u near v, where the exact expression cancels.

    In terms of the mean m and the difference d of u and v it is E[d² φ'(m)²], but for pairs with a kink between
    them, which add -Σ_c bend² f(c) E[|d|³ | m = c]/6 and a term in the derivative of f(m) E[d⁴ | m], f the density
    of m.  What is left out is smaller than the whole by (d/σ)³.
    """
    total = sigma_u + sigma_v
    variance = (total**2 - 4 * sigma_u * sigma_v * np.sin(theta / 2) ** 2) / 4
    beta = (sigma_u - sigma_v) * total / 2 / variance
    rest = (sigma_u * sigma_v * np.sin(theta)) ** 2 / variance
    scale, spread = np.sqrt(variance), np.sqrt(rest)
    result = linear**2 * (beta**2 * variance + rest)
    for c, bend, gain in zip(heights, bends, gains, strict=True):
        h = c / scale
        density, above = np.exp(-0.5 * h * h) / np.sqrt(2 * np.pi), ndtr(-h)
        mean = abs(beta) * c
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(spread > 0, mean / spread, np.inf)
        third = (mean**3 + 3 * mean * rest) * (1 - 2 * ndtr(-ratio))
        third = third + 2 * spread * (mean**2 + 2 * rest) * np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi)
        fourth = mean**4 + 6 * mean**2 * rest + 3 * rest**2
        fourth_slope = (4 * mean**3 + 12 * mean * rest) * abs(beta)
        result = result + gain * (beta**2 * variance * (h * density + above) + rest * above)
        result = result - bend**2 * density / scale * third / 6
        result = result - gain * density / scale * (fourth_slope - h / scale * fourth) / 24
    return result


def _ramp_square(sigma: FloatArray, c: float, d: float) -> FloatArray:
    """``E[(u - c)₊ (u - d)₊]`` for u ~ N(0, σ²), c, d ≥ 0."""
    top, low = max(c, d), min(c, d)
    h = top / sigma
    density = np.exp(-0.5 * h * h) / np.sqrt(2 * np.pi)
    return (sigma**2 + c * d) * ndtr(-h) - sigma * low * density


def _ramp_product(
    sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray, c: float, d: float
) -> tuple[FloatArray, FloatArray]:
    """``E[(u - c)₊ (v - d)₊]`` and ``P(u > c, v > d)``, c, d ≥ 0."""
    h, k = c / sigma_u, d / sigma_v
    r, s = np.cos(theta), np.sin(theta)
    tail = _tail(h, k, theta)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        to_h = _beyond(k, h, theta) / s
        to_k = _beyond(h, k, theta) / s
        # exp(-(h² - 2rhk + k²)/(2s²)) = exp(-h²/2) exp(-to_k²/2)
        joint = s * np.exp(-0.5 * (h * h + to_k * to_k)) / (2 * np.pi)
    limit = s == 0
    to_h = np.where(limit & (to_h != to_h), 0.0, to_h)
    to_k = np.where(limit & (to_k != to_k), 0.0, to_k)
    joint = np.where(limit, 0.0, joint)
    density_h = np.exp(-0.5 * h * h) / np.sqrt(2 * np.pi)
    density_k = np.exp(-0.5 * k * k) / np.sqrt(2 * np.pi)
    product = (r + h * k) * tail - k * density_h * ndtr(-to_k) - h * density_k * ndtr(-to_h) + joint
    return sigma_u * sigma_v * product, tail
