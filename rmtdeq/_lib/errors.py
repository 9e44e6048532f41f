"""The exceptions of the package: each message says what is wrong and what to do about it."""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "ConvergenceError",
    "DataNotFoundError",
    "IllPosedError",
    "InvalidInputError",
    "LongComputationError",
    "MemoryLimitError",
    "MissingDependencyError",
    "RmtdeqError",
]


class RmtdeqError(Exception):
    """Base class of every exception that the package raises on purpose."""


class InvalidInputError(RmtdeqError, ValueError):
    """An argument that no computation could make sense of."""


class DataNotFoundError(RmtdeqError, FileNotFoundError):
    """A data set that is neither on this machine nor to be downloaded; the message says which file to put where."""


class IllPosedError(RmtdeqError, ArithmeticError):
    """A well-formed question without an answer: no contraction, no equilibrium, an infinite kernel."""


class ConvergenceError(RmtdeqError, ArithmeticError):
    """An iteration that should have converged and did not."""


class MemoryLimitError(RmtdeqError, MemoryError):
    """A result that would not fit into the memory it may use."""


class LongComputationError(RmtdeqError, RuntimeError):
    """A computation that would take longer than a program begins without being told to."""


class MissingDependencyError(RmtdeqError, ImportError):
    """An optional library that is not installed; the message names the extra that brings it."""


class ClusterError(RmtdeqError, RuntimeError):
    """Workers of a cluster are lost, and what they held with them."""
