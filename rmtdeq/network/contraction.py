"""The variances of recurrent weights with which a model is a contraction whatever it is given."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import Function
from rmtdeq.activations import Activation
from rmtdeq.activations import activation as as_activation

_NEAR, _FAR, _SMALLEST_SLOPE = 12.0, 1e3, 1e-3
_LOWEST, _MARGIN = 1e-3, 0.95


def contraction_range(activation: str | Activation | Function) -> tuple[float, float] | None:
    """Return the range of σ_a² in which a model is a contraction on all samples for every σ_b².

    From 0.001 to 0.95/L², L the largest slope of the activation for arguments up to 1000; None where that leaves no
    range, as for polynomials.
    """
    slope = _largest_slope if isinstance(activation, Hashable) else _largest_slope.__wrapped__
    # A map of slope L at most brings no two random variables further apart than L times.
    highest = _MARGIN / max(slope(activation), _SMALLEST_SLOPE) ** 2
    return (_LOWEST, highest) if highest > _LOWEST else None


@lru_cache(maxsize=32)
def _largest_slope(spec: str | Activation | Function) -> float:
    """Return the largest slope of an activation, infinite where it has no finite values."""
    phi = as_activation(spec)
    near = np.linspace(-_NEAR, _NEAR, 48001)
    far = np.geomspace(_NEAR, _FAR, 2001)[1:]
    u = np.concatenate([-far[::-1], near, far])
    with np.errstate(all="ignore"):  # beyond the range of the numbers, which is told by what comes out
        slopes = np.abs(np.diff(np.asarray(phi.fn(u), dtype=float)) / np.diff(u))
    return float(slopes.max()) if np.isfinite(slopes).all() else math.inf
