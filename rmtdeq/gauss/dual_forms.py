"""Closed forms of dual activations, in the angle θ between the two Gaussians (see `DualForm`)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, owens_t

from rmtdeq._types import FloatArray
from rmtdeq.gauss.activation import DualForm


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


def _tail(h: FloatArray, k: FloatArray, theta: FloatArray) -> FloatArray:
    """``P(ξ > h, η > k)`` for standard Gaussians with correlation cos θ, by Owen's T function."""
    sine_, gap = np.sin(theta), 2 * np.sin(theta / 2) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # k - r h written as (k - h) + (1 - r) h: exact for equal thresholds at small angles.
        first = np.where(h == 0, np.sign(k) * np.inf, ((k - h) + gap * h) / (h * sine_))
        second = np.where(k == 0, np.sign(h) * np.inf, ((h - k) + gap * k) / (k * sine_))
        both_zero = (h == 0) & (k == 0)
        first = np.where(np.isnan(first), 0.0, first)
        second = np.where(np.isnan(second), 0.0, second)
    product = h * k
    opposite = (product < 0) | ((product == 0) & (h + k < 0))
    general = 0.5 * (ndtr(-h) + ndtr(-k)) - owens_t(h, first) - owens_t(k, second) - 0.5 * opposite
    return np.where(both_zero, 0.5 - theta / (2 * np.pi), general)


def piecewise_linear(slope: float, knots: FloatArray, bends: FloatArray) -> DualForm:
    """Dual of ``φ(u) = slope·u + Σ_a bends_a max(u - knots_a, 0)`` (plus any constant).

    By Owen's T function for the probabilities and the bivariate normal density for the rest; hard tanh and
    every continuous piecewise linear function are of this form.
    """

    def dual(sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        sigma_u, sigma_v, theta = np.broadcast_arrays(*map(np.asarray, (sigma_u, sigma_v, theta)))
        r = np.cos(theta)
        value = slope**2 * sigma_u * sigma_v * r
        gradient = np.full(r.shape, slope**2)
        square = slope**2 * (sigma_u**2 + sigma_v**2)
        for c, bend in zip(knots, bends, strict=True):
            h, k = c / sigma_u, c / sigma_v
            upper = ndtr(-h) + ndtr(-k)
            gradient = gradient + slope * bend * upper
            # E[u (v - c)₊] = Cov(u, v) P(v > c)
            value = value + slope * bend * sigma_u * sigma_v * r * upper
            square = square + 2 * slope * bend * (sigma_u**2 * ndtr(-h) + sigma_v**2 * ndtr(-k))
            for d, other in zip(knots, bends, strict=True):
                product, tail = _ramp_product(sigma_u, sigma_v, theta, c, d)
                value = value + bend * other * product
                gradient = gradient + bend * other * tail
                for sigma in (sigma_u, sigma_v):
                    square = square + bend * other * _ramp_square(sigma, c, d)
        return square - 2 * value, gradient

    return dual


def _ramp_square(sigma: FloatArray, c: float, d: float) -> FloatArray:
    """``E[(u - c)₊ (u - d)₊]`` for u ~ N(0, σ²)."""
    top, low = max(c, d), min(c, d)
    h = top / sigma
    density = np.exp(-0.5 * h * h) / np.sqrt(2 * np.pi)
    return (sigma**2 + c * d) * ndtr(-h) - sigma * low * density


def _ramp_product(
    sigma_u: FloatArray, sigma_v: FloatArray, theta: FloatArray, c: float, d: float
) -> tuple[FloatArray, FloatArray]:
    """``E[(u - c)₊ (v - d)₊]`` and ``P(u > c, v > d)``."""
    h, k = c / sigma_u, d / sigma_v
    r, s = np.cos(theta), np.sin(theta)
    gap = 2 * np.sin(theta / 2) ** 2
    tail = _tail(h, k, theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_h = ((h - k) + gap * k) / s
        to_k = ((k - h) + gap * h) / s
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
