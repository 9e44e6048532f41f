"""Deterministic equivalents of the kernels, and the spectrum they predict."""

from rmtdeq.equivalents.coefficients import Coefficients, solve

__all__ = ["Coefficients", "solve"]
