"""Sines, cosines and exponentials: their dual activations and Gaussian expectations in closed form.

All come from ``E exp(i(u ± v))`` and ``E exp(u + v)``; means and what varies around them are kept apart, so that
functions centred at small scales keep their digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.activations import Pairs


@dataclass(frozen=True)
class Wave:
    """Closed forms of φ(u) = sine·sin(frequency·u) + cosine·cos(frequency·u).

    The two terms are odd and even: their products vanish in expectation.
    """

    sine: float
    cosine: float
    frequency: float

    def __call__(self, pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        """Evaluate the dual, see `DualForm`."""
        odd, even = self.sine**2, pairs.sign * self.cosine**2
        u, v = abs(self.frequency) * pairs.sigma_u, abs(self.frequency) * pairs.sigma_v
        product, versine, size = u * v, 2 * np.sin(pairs.theta / 2) ** 2, pairs.size_u * pairs.size_v
        equal = 0.5 * np.exp(-0.5 * (u - v) ** 2)
        near, far = equal * np.exp(-product * versine), equal * np.exp(-product * (2 - versine))
        # Twice the shares of E sin sin and of cov(cos, cos) at angle zero that two different scales do not have.
        sines = [-0.5 * np.expm1(-2 * each**2) for each in (u, v)]
        cosines = [0.5 * np.expm1(-(each**2)) ** 2 for each in (u, v)]
        apart = odd * _spread(sines, -equal * np.expm1(-2 * product), 1.0, pairs)
        apart += self.cosine**2 * _spread(cosines, equal * np.expm1(-product) ** 2, pairs.sign, pairs)
        means = [self._mean(each, shift) for each in (u, v)]
        constant = (means[0] / pairs.size_u - pairs.sign * means[1] / pairs.size_v) ** 2
        lost = -np.expm1(-product * versine)
        loss = lost * (odd * (equal + far) - even * equal * np.expm1(-product * (2 - versine)))
        slope = odd * (near + far) - even * near * np.expm1(-2 * product * (1 - versine))
        return constant + apart + 2 * loss / size, self.frequency**2 * slope

    def _mean(self, scale: FloatArray, shift: float) -> FloatArray:
        """E φ less the shift, which may be near φ(0)."""
        return self.cosine * np.expm1(-0.5 * scale**2) + (self.cosine - shift)

    def hermite(self, sigma: float, degree: int, shift: float) -> FloatArray:
        """Return ``E[(φ(σξ) - shift) He_k(ξ)] / √k!`` for k = 0 … degree."""
        k, scale = np.arange(degree + 1), abs(self.frequency) * sigma
        sine = self.sine * np.sign(self.frequency)
        phases = np.array([self.cosine, sine, -self.cosine, -sine])[k % 4]
        found = phases * np.exp(k * np.log(scale) - scale**2 / 2 - gammaln(k + 1) / 2)
        found[0] = self._mean(np.asarray(scale), shift)
        return np.asarray(found)

    def squares(self, sigma: float) -> tuple[float, float, float]:
        """Return ``Var φ``, its derivative in σ², and ``E φ'²``."""
        exponent = (self.frequency * sigma) ** 2
        once, twice = float(np.exp(-exponent)), float(np.exp(-2 * exponent))
        less_once, less_twice = -float(np.expm1(-exponent)), -float(np.expm1(-2 * exponent))
        odd, even, square = self.sine**2, self.cosine**2, self.frequency**2
        return (
            (odd * less_twice + even * less_once**2) / 2,
            square * (odd * twice + even * once * less_once),
            square * (odd * (1 + twice) + even * less_twice) / 2,
        )


@dataclass(frozen=True)
class Exponential:
    """Closed forms of φ(u) = amplitude·exp(rate·u)."""

    amplitude: float
    rate: float

    def __call__(self, pairs: Pairs, shift: float) -> tuple[FloatArray, FloatArray]:
        """Evaluate the dual, see `DualForm`."""
        u, v, sign = abs(self.rate) * pairs.sigma_u, abs(self.rate) * pairs.sigma_v, pairs.sign
        product, versine = sign * u * v, 2 * np.sin(pairs.theta / 2) ** 2
        scales = ((u, pairs.size_u), (v, pairs.size_v))
        mean_u, mean_v = (self.amplitude * np.exp(each**2 / 2) / size for each, size in scales)
        left_u, left_v = (self._mean(each, shift) / size for each, size in scales)
        constant, both = (left_u - sign * left_v) ** 2, mean_u * mean_v
        spread = mean_u**2 * np.expm1(u**2) + mean_v**2 * np.expm1(v**2) - 2 * sign * both * np.expm1(product)
        apart = constant + np.maximum(spread, 0.0)
        loss = -sign * both * np.exp(product) * np.expm1(-product * versine)
        slope = self.rate**2 * both * np.exp(product * (1 - versine)) * (pairs.size_u * pairs.size_v)
        return apart + 2 * loss, slope

    def _mean(self, scale: FloatArray, shift: float) -> FloatArray:
        """E φ less the shift, which may be near φ(0)."""
        return self.amplitude * np.expm1(scale**2 / 2) + (self.amplitude - shift)

    def hermite(self, sigma: float, degree: int, shift: float) -> FloatArray:
        """Return ``E[(φ(σξ) - shift) He_k(ξ)] / √k!`` for k = 0 … degree."""
        k, scale = np.arange(degree + 1), abs(self.rate) * sigma
        signs = np.sign(self.rate) ** k
        with np.errstate(over="ignore"):
            found = self.amplitude * signs * np.exp(k * np.log(scale) + scale**2 / 2 - gammaln(k + 1) / 2)
            found[0] = self._mean(np.asarray(scale), shift)
        return np.asarray(found)

    def squares(self, sigma: float) -> tuple[float, float, float]:
        """Return ``Var φ``, its derivative in σ², and ``E φ'²``."""
        with np.errstate(over="ignore"):
            # Infinite at scales where they are no numbers any more.
            once, less = np.exp((self.rate * sigma) ** 2), np.expm1((self.rate * sigma) ** 2)
            square, slope = self.amplitude**2 * once, (self.amplitude * self.rate) ** 2 * once
            return float(square * less), float(slope * (2 * once - 1)), float(slope * once)


def _spread(own: list[FloatArray], mixed: FloatArray, sign: FloatArray | float, pairs: Pairs) -> FloatArray:
    """Squared distance of two normalised variables without mean, from variances and covariance."""
    found = own[0] / pairs.size_u**2 + own[1] / pairs.size_v**2 - 2 * sign * mixed / (pairs.size_u * pairs.size_v)
    return np.asarray(np.maximum(found, 0.0))
