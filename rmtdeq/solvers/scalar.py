"""Smallest fixed point of a scalar map, found by bracketing: it cannot run for ever."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

from rmtdeq.solvers.solution import Solution, Status

_GROWTH = 1.25
_LARGEST = 1e8


def smallest_fixed_point(
    function: Callable[[float], float], start: float, *, tolerance: float = 4e-16
) -> Solution[float]:
    """Solve ``x = function(x)`` for the smallest x ≥ start, given ``function(x) ≥ start`` for all x.

    The gap ``function(x) - x`` is non-negative at `start`; points growing geometrically are tried until it
    changes sign, and the sign change is refined by Brent's method.  The map x ← function(x), started at
    `start`, converges to this point whenever it is increasing.

    Parameters
    ----------
    function : callable
        Continuous.
    start : float
        Positive lower bound of the values of `function`.
    tolerance : float
        Relative.

    Returns
    -------
    Solution
        Status `NO_FIXED_POINT` if the gap stays positive up to 1e8 times `start` (and at least 1e8).
    """
    gap_low = function(start) - start
    low, evaluations = start, 1
    if gap_low <= 0:
        return Solution(start, Status.CONVERGED, abs(gap_low) / start, evaluations)
    limit = _LARGEST * max(1.0, start)
    while low < limit:
        high = low * _GROWTH
        gap_high = function(high) - high
        evaluations += 1
        if gap_high <= 0:
            value, report = brentq(
                lambda x: function(x) - x, low, high, xtol=tolerance * high, rtol=tolerance * 4, full_output=True
            )
            residual = abs(function(value) - value) / value
            return Solution(float(value), Status.CONVERGED, residual, evaluations + report.function_calls)
        low, gap_low = high, gap_high
    return Solution(low, Status.NO_FIXED_POINT, gap_low / low, evaluations)
