"""Piecewise linear functions of Gaussian variables: sums of hinges, whose expectations have closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations import Activation, activation
from rmtdeq.activations.quadrature import normal_density
from rmtdeq.designs.recursion import LayerMoments

_DEGREE = 8


@dataclass(frozen=True, eq=False)
class HingeExpectations:
    """Expectations of the functions e_i of `Hinges` at scales √S, S (N,).

    Attributes
    ----------
    hermite : ndarray (degree + 1, N, k + 2)
        Hermite coefficients.
    products, slopes : ndarray (N, k + 2, k + 2)
        E e_i e_j and E e_i'e_j'.
    bends : ndarray (N, k + 2, k + 2)
        ½E (e_i e_j)'', the derivative of the products in S.
    squares : ndarray (N,)
        S.
    """

    hermite: FloatArray
    products: FloatArray
    slopes: FloatArray
    bends: FloatArray
    squares: FloatArray

    def moments(self, c: FloatArray) -> LayerMoments:
        """Return the moments of Σ c_i e_i at the first scale."""
        square = float(self.squares[0])
        return LayerMoments(
            first=float(self.hermite[1, 0] @ c) / np.sqrt(square),
            second=np.sqrt(2) * float(self.hermite[2, 0] @ c) / square,
            half_square_second=float(c @ self.bends[0] @ c),
            square=float(c @ self.products[0] @ c),
            first_square=float(c @ self.slopes[0] @ c),
        )


@dataclass(frozen=True, eq=False)
class Hinges:
    """The functions 1, x and |x - k| for each knot k.

    Attributes
    ----------
    knots : ndarray (k,)
        Ascending.
    """

    knots: FloatArray

    def expectations(self, squares: FloatArray) -> HingeExpectations:
        """Return expectations at scales √S."""
        scale = np.sqrt(squares)[:, None]
        a = self.knots / scale
        density, below = normal_density(a), ndtr(a)
        size = self.knots.size + 2
        hermite = np.zeros((_DEGREE + 1, squares.size, size))
        hermite[0, :, 0] = 1.0
        hermite[1, :, 1] = scale[:, 0]
        hermite[0, :, 2:] = scale * (2 * density + a * (2 * below - 1))
        hermite[1, :, 2:] = scale * (1 - 2 * below)
        previous, polynomial = np.zeros_like(a), np.ones_like(a)
        for k in range(2, _DEGREE + 1):
            hermite[k, :, 2:] = scale * 2 * density * polynomial / np.sqrt(k * (k - 1))
            previous, polynomial = polynomial, (a * polynomial - np.sqrt(k - 2) * previous) / np.sqrt(k - 1)
        products, slopes, kinks = np.zeros((3, squares.size, size, size))
        products[:, 0], products[:, 1] = hermite[0], scale * hermite[1]
        slopes[:, 1, 1] = 1.0
        slopes[:, 1, 2:] = 1 - 2 * below
        # At its knot a hinge's second derivative is 2δ.
        at_knot = density / scale
        kinks[:, 0, 2:], kinks[:, 1, 2:] = at_knot, self.knots * at_knot
        # Between two knots i < j the product of |x - i| and |x - j| is minus that of x - i and x - j.
        low, high = np.minimum(a[:, :, None], a[:, None, :]), np.maximum(a[:, :, None], a[:, None, :])
        m0 = ndtr(high) - ndtr(low)
        m1 = normal_density(low) - normal_density(high)
        m2 = m0 + low * normal_density(low) - high * normal_density(high)
        whole = 1 + low * high
        products[:, 2:, 2:] = squares[:, None, None] * (whole - 2 * (m2 - (low + high) * m1 + low * high * m0))
        slopes[:, 2:, 2:] = 1 - 2 * m0
        apart = abs(self.knots[:, None] - self.knots)
        kinks[:, 2:, 2:] = apart * (at_knot[:, :, None] + at_knot[:, None, :])
        for matrix in (products, slopes, kinks):
            matrix[:, 2:, :2] = np.swapaxes(matrix[:, :2, 2:], 1, 2)
        return HingeExpectations(hermite, products, slopes, slopes + kinks, squares)

    def member(self, c: FloatArray) -> Activation:
        """Return x ↦ Σ c_i e_i(x)."""
        x = np.concatenate([[2 * self.knots[0] - self.knots[1]], self.knots, [2 * self.knots[-1] - self.knots[-2]]])
        return activation("piecewise_linear", x, c[0] + c[1] * x + abs(x[:, None] - self.knots) @ c[2:])
