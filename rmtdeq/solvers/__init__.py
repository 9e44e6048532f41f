"""Fixed points of scalars and small systems, and Krylov subspaces."""

from rmtdeq.solvers.lanczos import KrylovSubspace, RitzPairs, Step
from rmtdeq.solvers.scalar import smallest_fixed_point
from rmtdeq.solvers.solution import Solution, Status

__all__ = ["KrylovSubspace", "RitzPairs", "Solution", "Status", "Step", "smallest_fixed_point"]
