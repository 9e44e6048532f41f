"""Fixed points of scalars and small systems, and Krylov subspaces."""

from rmtdeq._lib.solvers.lanczos import KrylovSubspace, RitzPairs, Step
from rmtdeq._lib.solvers.scalar import smallest_fixed_point
from rmtdeq._lib.solvers.solution import Solution, Status

__all__ = ["KrylovSubspace", "RitzPairs", "Solution", "Status", "Step", "smallest_fixed_point"]
