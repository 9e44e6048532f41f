"""Functions with first and second derivatives, carried along by every operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib.types import FloatArray

Curve = tuple[Any, Any, Any]
"""A function of one variable at some points, its slope and its second derivative."""


@dataclass(frozen=True, eq=False)
class Jet:
    """A function of d variables at many points, with first and second derivatives, in the arithmetic of numbers.

    Attributes
    ----------
    value : ndarray (...)
    gradient : ndarray (..., d)
    hessian : ndarray (..., d, d)
    """

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray

    def __add__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.gradient, self.hessian)
        return Jet(self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian)

    __radd__ = __add__

    def __sub__(self, other: Jet | float) -> Jet:
        return self + -1.0 * other

    def __rsub__(self, other: float) -> Jet:
        return -1.0 * self + other

    def __mul__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return self.scaled(other)
        cross = self.gradient[..., :, None] * other.gradient[..., None, :]
        return Jet(
            self.value * other.value,
            self.value[..., None] * other.gradient + other.value[..., None] * self.gradient,
            self.value[..., None, None] * other.hessian
            + other.value[..., None, None] * self.hessian
            + cross
            + np.swapaxes(cross, -1, -2),
        )

    def scaled(self, factor: float) -> Jet:
        """Return a multiple."""
        return Jet(factor * self.value, factor * self.gradient, factor * self.hessian)

    __rmul__ = scaled

    def __truediv__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return self.scaled(1 / other)
        # Of equal ones no rounding is left.
        value, below = self.value / other.value, other.value
        slope = (self.gradient - value[..., None] * other.gradient) / below[..., None]
        cross = slope[..., :, None] * other.gradient[..., None, :]
        bend = self.hessian - value[..., None, None] * other.hessian - cross - np.swapaxes(cross, -1, -2)
        return Jet(value, slope, bend / below[..., None, None])

    def __rtruediv__(self, other: float) -> Jet:
        return other * self**-1.0

    def of(self, f: Curve) -> Jet:
        """Return a function of this one, given with two derivatives, all of them at each point."""
        value, slope, bend = (np.asarray(each) for each in f)
        outer = self.gradient[..., :, None] * self.gradient[..., None, :]
        return Jet(
            value,
            slope[..., None] * self.gradient,
            slope[..., None, None] * self.hessian + bend[..., None, None] * outer,
        )

    def times(self, factors: FloatArray) -> Jet:
        """Return the function times a number at each point."""
        f = np.asarray(factors)
        return Jet(f * self.value, f[..., None] * self.gradient, f[..., None, None] * self.hessian)

    def __pow__(self, exponent: float) -> Jet:
        value = self.value**exponent
        slope = exponent * value / self.value
        return self.of((value, slope, (exponent - 1) * slope / self.value))


def variable(at: FloatArray | float, axis: int = 0, count: int = 1) -> Jet:
    """Return one of several variables as a function of them."""
    points = np.asarray(at, dtype=float)
    gradient = np.zeros((*points.shape, count))
    gradient[..., axis] = 1.0
    return Jet(points, gradient, np.zeros((*points.shape, count, count)))
