"""What a solver returns: the value, whether it can be trusted, and how it was reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """Outcome of a solver; the value is the message."""

    CONVERGED = "converged"
    NO_FIXED_POINT = "no fixed point: the equation has no solution"
    NO_CONTRACTION = "no contraction: the slope at the solution is 1 or more"
    MAX_ITERATIONS = "the iteration limit was reached before the residual was small"


@dataclass(frozen=True)
class Solution(Generic[T]):
    """Result of a solver.

    Attributes
    ----------
    value
        The solution found, or the best point reached.
    status : Status
    residual : float
        How far the equation is from holding at `value`, relative to the size of its terms.
    iterations : int
    """

    value: T
    status: Status
    residual: float
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether the equation holds at `value`."""
        return self.status is Status.CONVERGED
