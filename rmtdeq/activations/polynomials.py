"""Polynomials: dual activations and Gaussian expectations from their finitely many Hermite coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.activations import Pairs


@dataclass(frozen=True, eq=False)
class FiniteSeries:
    """Closed forms of a polynomial φ.

    Attributes
    ----------
    constant : float
        φ(0).
    coefficients : callable
        From scales σ (n,) to ``h_k = E[(φ(σξ) - φ(0)) He_k(ξ)] / √k!``, (n, degree + 1).
    """

    constant: float
    coefficients: Callable[[FloatArray], FloatArray]

    def __call__(self, pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        """Evaluate the dual, see `DualForm`: Mehler's series, which is a sum."""
        h_u, h_v = self.coefficients(pairs.sigma_u), self.coefficients(pairs.sigma_v)
        k = np.arange(h_u.shape[1])
        slopes = h_u * h_v * k * np.where(k % 2, 1.0, pairs.sign[:, None])
        cosine = np.cos(pairs.theta)[:, None]
        slope = (slopes[:, 1:] * cosine ** k[:-1]).sum(axis=1) / (pairs.sigma_u * pairs.sigma_v)
        h_u[:, 0] += self.constant - shift
        h_v[:, 0] += self.constant - shift
        h_u /= pairs.size_u[:, None]
        # The even ones of sign·φ(sign·v) have its sign.
        h_v *= np.where(k % 2, 1.0, pairs.sign[:, None]) / pairs.size_v[:, None]
        lost = -np.expm1(k * np.log1p(-2 * np.sin(pairs.theta / 2)[:, None] ** 2))
        return ((h_u - h_v) ** 2 + 2 * h_u * h_v * lost).sum(axis=1), slope

    def hermite(self, sigma: float, degree: int, shift: float) -> FloatArray:
        """Return ``E[(φ(σξ) - shift) He_k(ξ)] / √k!`` for k = 0 … degree."""
        found = self._at(sigma)
        found[0] += self.constant - shift
        return np.pad(found, (0, max(0, degree + 1 - found.size)))[: degree + 1]

    def squares(self, sigma: float) -> tuple[float, float, float]:
        """Return ``Var φ``, its derivative in σ², and ``E φ'²``."""
        h = self._at(sigma)
        k = np.arange(h.size)
        with np.errstate(over="ignore", invalid="ignore"):
            # By the heat equation σ² dh_k/dσ² = k h_k/2 + √((k + 1)(k + 2)) h_{k+2}/2.
            above = np.sqrt((k + 1.0) * (k + 2.0)) * np.append(h, [0.0, 0.0])[2:]
            s = sigma**2
            return float(h[1:] @ h[1:]), float(h[1:] @ (k * h + above)[1:]) / s, float(k @ h**2) / s

    def _at(self, sigma: float) -> FloatArray:
        """Coefficients at one scale, infinite or NaN where they are beyond the range of doubles."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.coefficients(np.array([sigma]))[0]


def powers(coefficients: FloatArray) -> FiniteSeries:
    """Return the forms of Σ_m coefficients[m]·u^m."""
    m = np.arange(coefficients.size)
    # E ξ^m He_k(ξ) = m!/(2^j j!), j = (m - k)/2.
    j = (m[:, None] - m) / 2
    inside = (j >= 0) & (j % 1 == 0)
    half = np.where(inside, j, 0.0)
    logarithms = gammaln(m[:, None] + 1) - half * np.log(2) - gammaln(half + 1) - gammaln(m + 1) / 2
    matrix = coefficients[:, None] * np.where(inside, np.exp(logarithms), 0.0)
    matrix[0] = 0.0
    return FiniteSeries(float(coefficients[0]), lambda sigma: sigma[:, None] ** m @ matrix)


def hermite_polynomial(degree: int) -> FiniteSeries:
    """Return the forms of He_k(u)/√k!, k the degree.

    He_n(σx) = Σ_i n!/(2^i i! (n - 2i)!) σ^(n-2i) (σ² - 1)^i He_(n-2i)(x): at scale one nothing but He_n, exactly.
    """
    i = np.arange(degree // 2 + 1)
    k = degree - 2 * i
    weights = np.exp((gammaln(degree + 1) - gammaln(k + 1)) / 2 - i * np.log(2) - gammaln(i + 1))
    half = degree // 2
    constant = 0.0 if degree % 2 else float((-1) ** half * weights[-1])

    def coefficients(sigma: FloatArray) -> FloatArray:
        found = np.zeros((sigma.size, degree + 1))
        scale = sigma[:, None]
        found[:, k] = weights * scale**k * ((scale - 1) * (scale + 1)) ** i
        if degree % 2 == 0:
            # The mean less its value at scale zero.
            small = np.minimum(sigma**2, 0.5)
            less = np.where(sigma**2 < 0.5, np.expm1(half * np.log1p(-small)), (1 - sigma**2) ** half - 1)
            found[:, 0] = constant * less
        return found

    return FiniteSeries(constant, coefficients)


def hermite_polynomials(u: FloatArray, degree: int) -> Iterator[FloatArray]:
    """Yield He_k(u)/√k! for k = 0 … degree."""
    previous, current = np.zeros_like(u, dtype=float), np.ones_like(u, dtype=float)
    for k in range(degree + 1):
        yield current
        previous, current = current, (u * current - np.sqrt(k) * previous) / np.sqrt(k + 1)
