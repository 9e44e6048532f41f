"""Kernels of positively homogeneous layers without biases, which are functions of the angle alone.

Of layers φ(u) = linear·u + fold·|u| one on another, without recurrence, bias and shift, an entry is ‖x‖‖y‖ f(θ), θ the
angle of the samples: however many they are, it takes an angle and one sum.  f is analytic on [0, π].
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import KINDS, FloatArray
from rmtdeq.kernels.chebyshev import chebyshev_points, tail, to_chebyshev
from rmtdeq.kernels.plan import Plan, tabulate
from rmtdeq.kernels.samples import Angles
from rmtdeq.network import Network

TERMS = 8
"""Coefficients come in multiples of so many."""

_POINTS = (64, 128, 256)
_COMPLETE, _NOTHING = 1e-14, 4e-15
"""Largest of the last coefficients, and of those that are left out, relative to f: the rounding of its values."""


def angular_coefficients(plan: Plan) -> FloatArray | None:
    """Return Chebyshev coefficients of f on [0, π], (kinds, terms), found from exact entries.

    None where the kernels are no such functions, or a single layer's closed form takes no longer.
    """
    homogeneous = all(
        each.fold is not None and not each.fold[2] and not each.layer.sigma_c2 and each.layer.plain
        for each in plan.layers
    )
    network = plan.network
    return _coefficients(network) if network.depth > 1 and network.sequential and homogeneous else None


@lru_cache(maxsize=16)
def _coefficients(network: Network) -> FloatArray | None:
    """Interpolate f, which the network alone says, whatever the samples are."""
    one = np.ones(1)
    at = tabulate(network, KINDS, one).at(one, one)
    for points in _POINTS:
        theta, pair = chebyshev_points(0.0, np.pi, points), np.zeros(points, dtype=np.int64)
        cosine, versine = np.cos(theta), 2 * np.square(np.sin(np.minimum(theta, np.pi - theta) / 2))
        found = at.pairs(pair, pair, Angles(cosine, versine), dict.fromkeys(KINDS, cosine))
        values = np.stack([found[kind] for kind in KINDS])
        if (tail(values) <= _COMPLETE * abs(values).max(axis=1)).all():
            return _shortened(values @ to_chebyshev(points))
    return None


def _shortened(coefficients: FloatArray) -> FloatArray:
    """Leave out last terms that are rounding."""
    size = abs(coefficients) / abs(coefficients).max(axis=1, keepdims=True)
    last = int(np.flatnonzero((size > _NOTHING).any(axis=0))[-1])
    return np.ascontiguousarray(coefficients[:, : TERMS * (last // TERMS + 1)])
