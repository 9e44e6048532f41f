"""By how much changes in networks of finite width fall more slowly than the law says.

Powers of a random matrix of finite width m grow beyond its radius.  Of complex Gaussian matrices A, E|a_ij|² = 1/m,

    E ‖A^k v‖² = 2 sinh(y)/((k + 1)(k + 2)/m) ≈ sinh(y)/y,   y = k²/2m,

(numbers of permutations that are products of two long cycles: Zagier, Nieuw Arch. Wisk. 13, 1995), so that
log ‖A^k v‖ begins with x⁴/48, x = k/√m.  In the end the outermost eigenvalue decides, and it is the line μx,
μ = √m log(1 + outermost).  Between the two the slope is taken to be μx³/(x³ + 12μ), and every step costs 1/2m, since
E log is less than log E.  Means of real Gaussian matrices of width 250 and 500 are within 0.1 of that up to x = 6.
"""

from __future__ import annotations

import math

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.stability.scatter import outermost

_LATE = 0.8
"""Place x about which the outermost eigenvalue's scatter becomes that of the powers; from the same simulations."""


def growth(steps: FloatArray, m: float) -> FloatArray:
    """Return E log ‖A^k v‖ of real Gaussian matrices of width m and radius 1.

    Parameters
    ----------
    steps : ndarray
        Numbers k.
    m : float
        For J, the share of the width that takes part in it.
    """
    x, line = steps / math.sqrt(m), math.sqrt(m) * math.log1p(outermost(m)[0])
    a = (12 * line) ** (1 / 3)
    # ∫ a³/(t³ + a³) dt from 0 to x.
    logarithm = np.log((x + a) ** 2 / (x**2 - a * x + a**2)) / 6
    missing = a * (logarithm + (np.arctan((2 * x - a) / (math.sqrt(3) * a)) + math.pi / 6) / math.sqrt(3))
    return line * (x - missing) - steps / (2 * m)


def growth_scatter(steps: FloatArray, m: float) -> FloatArray:
    """Return the standard deviation of log ‖A^k v‖."""
    x = steps / math.sqrt(m)
    return steps * outermost(m)[1] * x / (x + _LATE)
