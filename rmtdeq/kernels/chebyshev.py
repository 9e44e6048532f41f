"""Chebyshev interpolation at points of the first kind, cos((k + 1/2) π/N)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import FloatArray


@lru_cache(maxsize=8)
def to_chebyshev(points: int) -> FloatArray:
    """Matrix from values at Chebyshev points of the first kind (rows) to the coefficients of the interpolant."""
    angles = (np.arange(points) + 0.5) * np.pi / points
    basis = np.cos(np.outer(angles, np.arange(points))) * (2 / points)
    basis[:, 0] /= 2
    return basis


def chebyshev_polynomials(x: FloatArray, count: int) -> FloatArray:
    """The first polynomials at x, (count, x)."""
    result = np.empty((count, x.size))
    result[0], result[1] = 1.0, x
    doubled = 2 * x
    for k in range(2, count):
        np.multiply(doubled, result[k - 1], out=result[k])
        result[k] -= result[k - 2]
    return result


def chebyshev_points(low: float, high: float, points: int) -> FloatArray:
    """The points of an interval, descending."""
    angles = (np.arange(points) + 0.5) * np.pi / points
    return np.asarray((low + high) / 2 + (high - low) / 2 * np.cos(angles))


def tail(values: FloatArray) -> FloatArray:
    """Largest of the last quarter of the Chebyshev coefficients of values at the points (last axis)."""
    coefficients = values @ to_chebyshev(values.shape[-1])
    return np.asarray(abs(coefficients[..., -(values.shape[-1] // 4) :]).max(axis=-1))
