"""Fixed points of scalars and small systems."""

from rmtdeq.solvers.scalar import smallest_fixed_point
from rmtdeq.solvers.solution import Solution, Status

__all__ = ["Solution", "Status", "smallest_fixed_point"]
