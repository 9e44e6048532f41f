"""Samples rounded to what tensor cores multiply, so that every engine has the same kernel of the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._lib.types import FloatArray

PRODUCTS = ("full", "tf32", "bfloat16")
"""Of which precision the factors of inner products are."""

_BITS = {"tf32": 10, "bfloat16": 7}
_SINGLE = 23


def rounded_bits(bits: Any, products: str) -> Any:
    """Return float32 numbers, given and returned as int32 arrays or tensors, rounded to nearest, ties to even."""
    dropped = _SINGLE - _BITS[products]
    half = ((bits >> dropped) & 1) + ((1 << (dropped - 1)) - 1)
    return (bits + half) & -(1 << dropped)


def rounded(X: FloatArray, products: str) -> FloatArray:
    """Return samples, in float32 unless products are in full precision, with entries rounded for them."""
    if products == "full":
        return X
    return rounded_bits(np.ascontiguousarray(X, dtype=np.float32).view(np.int32), products).view(np.float32)
