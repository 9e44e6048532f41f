"""Natural cubic splines through equally spaced points: a smooth function from a table, quick to evaluate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from rmtdeq._lib.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NaturalSpline:
    """A cubic between each two knots and a line outside of them, with two continuous derivatives.

    Attributes
    ----------
    low, step : float
        The first knot, and the distance between two.
    pieces : ndarray (knots + 1, 4)
        Coefficients in ascending powers of the distance from a knot, in steps: piece k, of the line on the left and
        then from knot to knot, in that from knot k - 1.
    """

    low: float
    step: float
    pieces: FloatArray

    @classmethod
    def through(cls, low: float, high: float, values: FloatArray) -> NaturalSpline:
        """Return the spline with these values at equally spaced points from `low` to `high`, three at least."""
        inner = CubicSpline(np.arange(values.size), values, bc_type="natural").c[::-1].T
        first, last = inner[0, 1], inner[-1] @ [0, 1, 2, 3]
        left, right = [values[0] - first, first, 0.0, 0.0], [values[-1], last, 0.0, 0.0]
        return cls(low, (high - low) / (values.size - 1), np.vstack([left, inner, right]))

    def value(self, u: FloatArray) -> FloatArray:
        """Return the spline at u."""
        piece, t = self._located(u)
        c = self.pieces[piece]
        return np.asarray(c[..., 0] + t * (c[..., 1] + t * (c[..., 2] + t * c[..., 3])))

    def slope(self, u: FloatArray) -> FloatArray:
        """Return its derivative."""
        piece, t = self._located(u)
        c = self.pieces[piece]
        return np.asarray((c[..., 1] + t * (2 * c[..., 2] + 3 * t * c[..., 3])) / self.step)

    def _located(self, u: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the pieces that hold some points, and where these lie in them."""
        at = (np.asarray(u, dtype=float) - self.low) / self.step
        knot = np.clip(np.floor(np.nan_to_num(at)), -1, len(self.pieces) - 2)
        return knot.astype(np.intp) + 1, at - knot
