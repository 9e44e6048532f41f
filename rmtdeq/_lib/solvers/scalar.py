"""Smallest fixed point of a scalar map, found by bracketing: it cannot run for ever."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq, minimize_scalar

from rmtdeq._lib.solvers.solution import Solution, Status

_GROWTH = 1.25
_LARGEST = 1e8
_NEAR_CONTACT = 0.1


def smallest_fixed_point(
    function: Callable[[float], float], start: float, *, tolerance: float = 4e-16
) -> Solution[float]:
    """Solve ``x = function(x)`` for the smallest x ≥ start, given ``function(x) ≥ start`` for all x.

    The gap ``function(x) - x`` is non-negative at `start`; points growing geometrically are tried until it
    changes sign, and the sign change is refined by Brent's method.  Where the gap only dips towards zero between
    three points, its minimum is sought, so that two fixed points close to each other are not stepped over.  The
    map x ← function(x), started at `start`, converges to the point found whenever it is increasing.

    Parameters
    ----------
    function : callable
        Smooth.
    start : float
        Positive lower bound of the values of `function`.
    tolerance : float
        Relative.

    Returns
    -------
    Solution
        Status `NO_FIXED_POINT` if the gap stays positive up to 1e8 times `start` (and at least 1e8), or the
        function is not finite any more.
    """
    evaluations = 0

    def gap(ratio: float) -> float:
        # In units of `start`, so that no size of it underflows in Brent's method.
        nonlocal evaluations
        evaluations += 1
        return function(start * ratio) / start - ratio

    def solution(low: float, high: float) -> Solution[float]:
        ratio = float(brentq(gap, low, high, xtol=tolerance * high, rtol=tolerance * 4))
        return Solution(start * ratio, Status.CONVERGED, abs(gap(ratio)) / ratio, evaluations)

    before = low = 1.0
    gap_before = gap_low = gap(low)
    if gap_low <= 0:
        return Solution(start, Status.CONVERGED, abs(gap_low), evaluations)
    limit = _LARGEST * max(1.0, 1.0 / start)
    while low < limit:
        high = low * _GROWTH
        gap_high = gap(high)
        if not math.isfinite(gap_high):
            break
        if gap_high <= 0:
            return solution(low, high)
        if gap_low < _NEAR_CONTACT * low and gap_low < min(gap_before, gap_high):
            lowest = minimize_scalar(gap, bounds=(before, high), method="bounded", options={"xatol": 1e-9 * high})
            if lowest.fun <= 0:
                return solution(before, float(lowest.x))
        before, gap_before, low, gap_low = low, gap_low, high, gap_high
    return Solution(start * low, Status.NO_FIXED_POINT, gap_low / low, evaluations)
