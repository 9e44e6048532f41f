"""Dividing a number of samples among classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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


def drawn(n: int, members: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> tuple[NDArray[np.intp], list[int]]:
    """Draw n rows without replacement, of each class its share and in its order; return them and the shares."""
    sizes = shares(n, [rows.size for rows in members])
    return np.concatenate([rng.permutation(rows)[:size] for rows, size in zip(members, sizes, strict=True)]), sizes
