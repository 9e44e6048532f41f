"""Errors by degrees of freedom: what samples at hand, with a smaller ridge, have in common with more of them.

With the effective ridge κ and the degrees of freedom D of a kernel K on n samples,

    1/κ = tr (K + δ)⁻¹,    D = tr K (K + δ)⁻¹ = n - δ/κ,

samples that are all alike leave the error F(κ) n/(n - Σ L_k²), L_k = λ_k/(λ_k + κ), where Σ L_k = D: the share of the
target that D directions do not tell, and what their noise adds (Simon, Dickens, Karkada, DeWeese, arXiv 2110.03922;
Wei, Hu, Steinhardt, arXiv 2203.06176).  κ is a function of D, and Σ L_k² next to a multiple of it.  So

    log E = f(log D) + g(D/n),    log κ = h(log D) - k(D/n),    g(0) = k(0) = 0,

where f and h fall and g rises.  Images are not alike, some being harder to tell from others: k, which were zero, is
not, and g is another than the theory's, which with a small ridge is off by half the error of MNIST.  But each is next
to one function of the share D/n, whatever n is.  All are therefore fitted to what subsets of the samples come to with
many ridges.  Rates of error, which do not change with the scale of what is learnt, feel its noise also where D/n is
small; a term c n^-a stands for that, which squared errors hardly need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, nnls
from scipy.special import expit, log_expit

from rmtdeq._lib.types import FloatArray, IntArray

_KNOTS = 9
_FIRST = 1.0
"""Degrees of freedom up to which a law is a straight line; a constant that is learnt takes none."""
_ORDER = 3
_ODDS = 40.0
"""Logarithm of the odds of a share of the samples, beyond which nothing is told from all or none of them."""


@dataclass(frozen=True, eq=False)
class FreedomLaw:
    """Logarithms of quantities as f(log D) ± (g(D/n) + c n^-a).

    f is a natural cubic spline whose values at its knots fall, a straight line beyond its ends, where the quantity is a
    power of D; g a cubic without a constant, none of its coefficients negative, nor c.

    Attributes
    ----------
    knots : ndarray (m,)
        Of f, logarithms of degrees of freedom.
    coefficients : ndarray (m + 4, q)
        The value of f at its first knot and by how much it falls to each other one, the coefficients of g, and c.
    sign : int
        1 where noise adds to a quantity, -1 where it takes away from it.
    fading : float
        a.
    """

    knots: FloatArray
    coefficients: FloatArray
    sign: int
    fading: float

    @classmethod
    def through(
        cls,
        degrees: FloatArray,
        sizes: FloatArray,
        values: FloatArray,
        last: float,
        *,
        sign: int = 1,
        fading: float = 1.0,
    ) -> FreedomLaw:
        """Return the laws that are nearest, in the sum of squared deviations of logarithms, weighted with the size.

        Parameters
        ----------
        degrees, sizes : ndarray (l,)
            D and n.
        values : ndarray (l, q)
            Positive.  What does not fall, or adds nothing, is told by the first column.
        last : float
            Degrees of freedom from which on a law is a power of them.
        sign : int
        fading : float
        """
        knots = np.linspace(np.log(_FIRST), np.log(last), _KNOTS)
        seen = degrees > _FIRST / 2
        weights = (sizes / sizes.max())[seen, None]
        columns = weights * _columns(knots, degrees[seen], sizes[seen], sign, fading)
        logarithms = weights * np.log(values[seen])
        # The level may have either sign.
        found, _ = nnls(np.hstack([columns, -columns[:, :1]]), logarithms[:, 0])
        kept = found[:-1] > 0
        kept[0] = True
        coefficients = np.zeros((columns.shape[1], values.shape[1]))
        coefficients[kept] = np.linalg.lstsq(columns[:, kept], logarithms)[0]
        return cls(knots, coefficients, sign, fading)

    def at(self, degrees: FloatArray, sizes: FloatArray | IntArray) -> FloatArray:
        """Return the quantities (l, q) with degrees of freedom (l,) of as many samples (l,)."""
        return np.asarray(np.exp(_columns(self.knots, degrees, sizes, self.sign, self.fading) @ self.coefficients))


def _columns(
    knots: FloatArray, degrees: FloatArray, sizes: FloatArray | IntArray, sign: int, fading: float
) -> FloatArray:
    """Return what the coefficients are multiplied by, (l, m + 4)."""
    x = np.log(degrees)
    inside = np.clip(x, knots[0], knots[-1])
    spline = CubicSpline(knots, np.eye(len(knots)), bc_type="natural")
    f = spline(inside) + spline(inside, 1) * (x - inside)[:, None]
    # To fall on the way to a knot is to fall at all knots from there on.
    falls = -np.cumsum(f[:, :0:-1], axis=1)[:, ::-1]
    share, counts = (degrees / sizes)[:, None], np.asarray(sizes, dtype=float)[:, None]
    return np.hstack([np.ones_like(share), falls, sign * share ** np.arange(1, _ORDER + 1), sign * counts**-fading])


def degrees_of_freedom(kappa: FreedomLaw, size: float, ridge: float) -> float:
    """Return the degrees of freedom that a ridge leaves to as many samples, by the law of the effective ridge."""
    if not ridge:
        return size

    def excess(odds: float) -> float:
        """Logarithm of κ (n - D) over the ridge."""
        (found,) = kappa.at(np.array([size * expit(odds)]), np.array([size]))[0]
        return float(np.log(found) + np.log(size) + log_expit(-odds) - np.log(ridge))

    return float(size * expit(brentq(excess, -_ODDS, _ODDS)))
