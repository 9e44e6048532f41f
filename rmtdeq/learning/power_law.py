"""A quantity that falls with size as a power of it, down to a floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.types import FloatArray

_EXPONENTS = np.linspace(0.05, 1.0, 39)

_FEWEST = 5
"""Sizes through which a parabola is more than noise."""


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """The law floor + factor · size^-exponent, of several quantities.

    Attributes
    ----------
    floor, factor, exponent : ndarray (d,)
        None of them negative.
    """

    floor: FloatArray
    factor: FloatArray
    exponent: FloatArray

    @classmethod
    def through(cls, sizes: ArrayLike, values: FloatArray, ahead: float = 0.0) -> PowerLaw:
        """Return the laws that are nearest, in the sum of squared relative deviations.

        Parameters
        ----------
        sizes : array_like (l,)
        values : ndarray (l, d)
            Positive.
        ahead : float
            Octaves beyond the largest size at which a tangent is taken.

        Notes
        -----
        Floor and factor by least squares for each exponent, from 0.05, which is next to none, to 1, that of noise
        averaged out; the best of these.  Errors of kernels of small ridges fall ever faster before they settle to a
        power, which no floor makes for: where the parabola through the logarithms steepens, a tangent of it, by default
        that at the largest size, is followed instead.
        """
        values = np.asarray(values, dtype=float)
        largest = np.max(sizes)
        best = np.full((4, values.shape[1]), np.inf)
        weight = 1 / values
        for exponent in _EXPONENTS:
            power = ((np.asarray(sizes) / largest) ** -exponent)[:, None]
            # Normal equations of 1 = weight · floor + weight · power · factor.
            ones, mixed, powers = (np.sum(weight**2 * each, axis=0) for each in (1.0, power, power**2))
            first, second = weight.sum(axis=0), np.sum(weight * power, axis=0)
            determinant = ones * powers - mixed**2
            floor = (powers * first - mixed * second) / determinant
            factor = (ones * second - mixed * first) / determinant
            factor = np.where(floor < 0, second / powers, np.maximum(factor, 0.0))
            floor = np.where(factor > 0, np.maximum(floor, 0.0), first / ones)
            left = np.square(weight * (floor + power * factor) - 1).sum(axis=0)
            found = np.stack([left, floor, factor * largest**exponent, np.full_like(left, exponent)])
            best = np.where(left < best[0], found, best)
        slope, level, bend = _parabola(np.log(np.asarray(sizes) / largest), np.log(values))
        at = ahead * np.log(2)
        slope, level = slope + 2 * bend * at, level - bend * at**2
        exponent = np.minimum(-slope, _EXPONENTS[-1])
        tangent = np.stack([np.zeros_like(level), np.exp(level) * largest**exponent, exponent])
        return cls(*np.where((bend < 0) & (exponent > 0), tangent, best[1:]))

    def at(self, sizes: ArrayLike) -> FloatArray:
        """Return the values (s, d) at sizes (s,)."""
        return np.asarray(self.floor + self.factor * np.asarray(sizes, dtype=float)[:, None] ** -self.exponent)


def _parabola(t: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return slope and level at zero, and bend, of the parabolas nearest to values (l, d) at t (l,)."""
    if len(t) < _FEWEST:
        flat = np.zeros(values.shape[1])
        return flat, flat, flat
    bend, slope, level = np.polyfit(t, values, 2)
    return slope, level, bend
