"""The solver of a network of finite width: as many steps as its rate asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rmtdeq._lib.optional import require

if TYPE_CHECKING:
    from rmtdeq.models import Solver

_LEAST, _MOST = 500, 5000
_DIGITS = 1e-11
_SCATTER = 3.0
"""Roots of the width by which rates of single networks may be above the law."""
_ROOM = 1.5


def patient_solver(rate: float, width: int | Sequence[int]) -> Solver:
    """Return the plain iteration with a limit on steps that suits: 500, and up to 5000 where changes shrink slowly.

    Parameters
    ----------
    rate : float
        Factor by which changes shrink in a step in the slowest layer of infinite width.
    width : int or sequence of int
    """
    require("torch")
    from rmtdeq.models import Solver

    narrowest = width if isinstance(width, int) else min(width)
    own = rate * (1 + _SCATTER / math.sqrt(max(narrowest, 1)))
    steps = _ROOM * math.log(_DIGITS) / math.log(own) if 0 < own < 1 else _MOST * bool(own)
    return Solver(max_iterations=min(max(math.ceil(steps), _LEAST), _MOST))
