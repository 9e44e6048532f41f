"""Kernel entries of nearly parallel samples, where Mehler's series has not converged.

The unknown is t = (1 - r)/2 rather than the correlation r, and the equation is that of the squared distance of the
two pre-activations, so that samples that differ in the last digits keep their accuracy:
``σ_a² E(φ(u) - φ(v))² + σ_b² ‖x - y‖² = (σ_u - σ_v)² + 4 σ_u σ_v t``.
"""

from __future__ import annotations

import numpy as np

from rmtdeq._errors import ConvergenceError
from rmtdeq._types import FloatArray
from rmtdeq.deq import DEQ, named
from rmtdeq.gauss.duals import difference_form

_MAX_STEPS = 100
_PRECISE_STEPS = 8
_ROUNDING = 2e-15


def solve_pairs(
    deq: DEQ,
    sigma_u: FloatArray,
    sigma_v: FloatArray,
    square_u: FloatArray,
    square_v: FloatArray,
    slope_square: FloatArray,
    squared_distance: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return G and E φ'φ' for pairs of samples, each argument and result of shape (pairs,).

    Parameters
    ----------
    deq : DEQ
        Uncentred.
    sigma_u, sigma_v : ndarray
        Pre-activation scales, positive.
    square_u, square_v : ndarray
        E φ² at those scales.
    slope_square : ndarray
        √(E φ'(u)² E φ'(v)²), the largest slope a pair can have.
    squared_distance : ndarray
        ‖x - y‖² of the inputs.

    Raises
    ------
    ConvergenceError
        The bracketed Newton iteration did not settle (the kernel map is no contraction for some pair).
    """
    size = 4 * sigma_u * sigma_v
    offset = deq.sigma_b2 * squared_distance - (sigma_u - sigma_v) ** 2
    low, high = np.zeros_like(size), np.ones_like(size)
    # Without recurrence the slope is not asked for; that of a function that jumps is infinite.
    gain = np.clip(1 - deq.sigma_a2 * slope_square, 0.05, 1.0) if deq.sigma_a2 else np.ones_like(size)
    t = np.clip((deq.sigma_b2 * squared_distance / gain - (sigma_u - sigma_v) ** 2) / size, 0.0, 1.0)
    # Equal samples need no equation: their entry is the one on the diagonal.
    difference, slope = np.zeros_like(t), slope_square.copy()
    active = np.flatnonzero(squared_distance > 0)
    # For parallel samples of unequal norms the terms of the equation cancel down to their rounding, and t = 0 is
    # tried before a t made of rounding is believed: slopes depend on √t where φ has a kink.
    lag = abs(sigma_u - sigma_v)
    rounding = 8 * np.finfo(float).eps * (deq.sigma_b2 * squared_distance + lag * np.maximum(sigma_u, sigma_v))
    try_zero = lag > 1e-12 * sigma_u
    for step in range(_MAX_STEPS):
        if not active.size:
            return (square_u + square_v - difference) / 2, slope
        at = t[active]
        theta = 2 * np.arcsin(np.sqrt(at))
        d, e = difference_form(deq.activation, sigma_u[active], sigma_v[active], theta)
        difference[active], slope[active] = d, e
        gap = size[active] * at - deq.sigma_a2 * d - offset[active]
        low[active] = np.where(gap <= 0, at, low[active])
        high[active] = np.where(gap >= 0, at, high[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = at - gap / (size[active] * (1 - deq.sigma_a2 * e))
        inside = (newton >= low[active]) & (newton <= high[active])
        new = np.where(inside, newton, (low[active] + high[active]) / 2)
        # A root at the end of the range: equal samples up to the rounding of their norms.
        new = np.where((newton < 0) & (low[active] == 0) & (at <= 1e-15), 0.0, new)
        parallel = try_zero[active] & (at <= 1e-12) & (abs(gap) <= rounding[active])
        new = np.where(parallel, 0.0, new)
        # A step of 1e-12 in the angle; after some steps whatever rounding allows.
        tolerance = 1e-12 * np.sqrt(at * (1 - at)) + (_ROUNDING if step >= _PRECISE_STEPS else 0.0)
        moving = (abs(new - at) > tolerance) | (parallel & (at > 0))
        try_zero[active] &= at > 0
        t[active] = new
        active = active[moving]
    raise ConvergenceError(
        f"{active.size} pair(s) of nearly parallel samples did not settle: the kernel map of {named(deq)} is hardly a "
        "contraction there; lower sigma_a2."
    )
