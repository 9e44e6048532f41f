"""Expectations of products of derivatives of an activation over many pairs of correlated Gaussians.

``E[φ⁽ⁱ⁾(ξ) φ⁽ʲ⁾(ζ)] = s^{-i/2} t^{-j/2} Σ_k √((k+i)!(k+j)!)/k! h_{k+i}(s) h_{k+j}(t) r^k``, h the Hermite coefficients
of φ at variances s and t, r the correlation: all partial derivatives of ``F = E φ(ξ)φ(ζ)`` come from one table.  Folded
lines, as ReLU, whose series ends nowhere near r = ±1, have them in closed form.
"""

from __future__ import annotations

import numpy as np
from scipy.special import binom

from rmtdeq._lib.errors import ConvergenceError, IllPosedError
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.activations import hermite_coefficients
from rmtdeq.activations.dual_forms import FoldedLinear
from rmtdeq.network import Layer

_DEGREES = (32, 64, 128, 256, 512)
_TAIL = 1e-13
_COMPLETE = 1e-16
_NEWTON_STEPS = 100


class PairExpectations:
    """Expectations of φ and its derivatives at the scales of many pairs.

    Parameters
    ----------
    layer : Layer
        Uncentred.
    sigma : ndarray (scales,)
        Standard deviations of pre-activations.
    left, right : ndarray of int (pairs,)
        Which of them are those of the first and the second sample of each pair.

    Attributes
    ----------
    scale : ndarray (pairs,)
        Products of the standard deviations.
    sigma_u, sigma_v : ndarray (pairs,)
        Standard deviations of what φ is given: those of the pre-activations, but for steps before it.
    gain : ndarray (pairs,)
        What steps after φ multiply products by.
    """

    def __init__(self, layer: Layer, sigma: FloatArray, left: IntArray, right: IntArray) -> None:
        self.layer, self.scale = layer, sigma[left] * sigma[right]
        responses = [layer.response(float(s)) for s in sigma]
        sigma = np.array([each.argument for each in responses])
        gains = np.array([each.gain for each in responses])
        self.gain = gains[left] * gains[right]
        self.sigma_u, self.sigma_v = sigma[left], sigma[right]
        self._sigma, self._left, self._right = sigma, left, right
        phi = layer.activation
        self._folded = phi.dual_form if isinstance(phi.dual_form, FoldedLinear) else None
        self._degree = 0
        if self._folded is None:
            norm = np.sqrt([each.square for each in responses]) / gains
            self._rounding = _COMPLETE * norm[left] * norm[right]
            self._grow()

    def _grow(self) -> None:
        larger = [d for d in _DEGREES if d > self._degree]
        if not larger:
            raise IllPosedError(
                "Two points are so nearly parallel that the expansion of the kernel around them cannot be computed; "
                "where they are classes, take rmtdeq.center_and_scale(X) before from_data, or join the two classes."
            )
        self._degree = larger[0]
        found = [hermite_coefficients(self.layer.activation, s, self._degree) for s in self._sigma]
        self._hermite = np.stack(found, axis=1)

    def expectation(self, i: int, j: int, r: FloatArray) -> FloatArray:
        """``E[φ⁽ⁱ⁾(ξ) φ⁽ʲ⁾(ζ)]`` at correlations r, i + j even."""
        if self._folded is not None:
            shift = self.layer.activation.shift
            return self._folded.expectation(i, j, self.sigma_u, self.sigma_v, r, shift)
        while True:
            found, complete = self._series(i, j, r)
            if complete:
                return found / (self.sigma_u**i * self.sigma_v**j)
            self._grow()

    def _series(self, i: int, j: int, r: FloatArray) -> tuple[FloatArray, bool]:
        """The sum of the terms there are, and whether they are all that count: one term of all pairs at a time."""
        terms = np.arange(self._degree + 1 - max(i, j))
        factors = np.sqrt(_rising(terms, i) * _rising(terms, j))
        total, power, largest = np.zeros_like(r), np.ones_like(r), np.zeros_like(r)
        size = coefficient = np.zeros_like(r)
        with np.errstate(under="ignore"):
            for k, factor in zip(terms, factors, strict=True):
                last, before = coefficient, size
                coefficient = self._hermite[k + i, self._left] * self._hermite[k + j, self._right]
                summand = factor * coefficient * power
                total += summand
                size = abs(summand)
                largest = np.maximum(largest, size)
                power = power * r
        # Two neighbours, as every other coefficient of an odd or even function is zero.
        ended = np.maximum(size, before) <= _TAIL * largest
        # Coefficients that are zero up to rounding end a series, too.
        ended |= np.maximum(abs(coefficient), abs(last)) <= self._rounding
        return total, bool(ended.all())

    def taylor(self, r: float, degree: int) -> FloatArray:
        """Taylor coefficients of ``F = E φ(ξ)φ(ζ)`` in the correlation, around r, of the first pair: (degree + 1,)."""
        if self._folded is not None:
            shift = self.layer.activation.shift
            return self._folded.taylor(degree, float(self.sigma_u[0]), float(self.sigma_v[0]), r, shift)
        while True:
            products = self._hermite[:, self._left[0]] * self._hermite[:, self._right[0]]
            k, j = np.arange(degree + 1)[:, None], np.arange(products.size)
            # Terms of a power below the derivative's are lost to it.
            summands = products * binom(j, k) * np.where(j >= k, r, 0.0) ** np.maximum(j - k, 0)
            size = abs(summands)
            last = size[:, -2:].max(axis=1)
            ended = (last <= _TAIL * size.max(axis=1)) | (last <= self._rounding[0])
            if products.size > degree + 2 and ended.all():
                return np.asarray(summands.sum(axis=1))
            self._grow()

    def covariance(self, offset: FloatArray) -> FloatArray:
        """Solve ``ρ = σ_a² gain F(ρ) + offset`` by Newton's method from the offset, kept within a bracket."""
        a2, scale = self.layer.sigma_a2 * self.gain, self.scale
        steep = self.sigma_u * self.sigma_v / scale
        high = scale.copy()
        low = -high
        rho = np.clip(offset, low, high)
        for _ in range(_NEWTON_STEPS):
            r = rho / scale
            gap = rho - a2 * self.expectation(0, 0, r) - offset
            rate = 1 - a2 * self.expectation(1, 1, r) * steep
            low, high = np.where(gap <= 0, rho, low), np.where(gap >= 0, rho, high)
            new = rho - gap / np.where(rate > 0, rate, np.inf)
            new = np.where((new >= low) & (new <= high) & (rate > 0), new, (low + high) / 2)
            settled = abs(new - rho) <= 1e-15 * scale
            rho = new
            if settled.all():
                if not (rate > 0).all():
                    break
                return rho
        raise ConvergenceError(
            f"The off-diagonal entries of the kernel of {self.layer.title} did not settle; lower sigma_a2."
        )


def _rising(k: IntArray, i: int) -> FloatArray:
    """(k + i)! / k!."""
    return np.asarray(np.prod([k + m for m in range(1, i + 1)], axis=0, dtype=float) if i else np.ones(k.size))
