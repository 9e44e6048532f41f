"""Dividing a number of samples among classes."""

from __future__ import annotations

from collections.abc import Sequence


def shares(n: int, weights: Sequence[float]) -> list[int]:
    """Divide n in proportion to the weights by largest remainders, in whole numbers that sum to n.

    With class sizes (integers) as weights, and n at most their sum, no share exceeds its size.  Ties go to the first.
    """
    total = sum(weights)
    parts = [int(n * weight // total) for weight in weights]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] * total - n * weights[i])
    for i in by_remainder[: n - sum(parts)]:
        parts[i] += 1
    return parts
