"""Kernels of positively homogeneous layers without biases, which are functions of the angle alone.

Of layers φ(u) = linear·u + fold·|u| one on another, without recurrence, bias and shift, an entry is ‖x‖‖y‖ f(cos θ), θ
the angle of the samples: however many they are, it takes an angle and one sum.  f(cos θ) is analytic in θ on [0, π];
and in cos θ itself where samples are far from parallel, which takes no angle and few terms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from rmtdeq._lib.types import KINDS, FloatArray
from rmtdeq.kernels.chebyshev import chebyshev_points, tail, to_chebyshev
from rmtdeq.kernels.plan import NetworkPlan, Plan, tabulate
from rmtdeq.kernels.samples import Angles
from rmtdeq.network import Network

TERMS = 8
"""Coefficients in the angle come in multiples of so many."""

POWERS = 16
"""Coefficients in the cosine."""

FAR = 0.25
"""Largest |cos θ| of samples that are far from parallel: those of hundreds of independent features are."""

_POINTS = (64, 128, 256)
_COMPLETE, _NOTHING = 1e-14, 4e-15
"""Largest of the last coefficients, and of those that are left out, relative to f: the rounding of its values."""


class Angular(NamedTuple):
    """The function f of every kind.

    Attributes
    ----------
    whole : ndarray (kinds, terms)
        Chebyshev coefficients in the angle, on [0, π].
    far : ndarray (kinds, POWERS)
        Of powers of cos θ/FAR, for samples far from parallel.
    """

    whole: FloatArray
    far: FloatArray


def angular_function(plan: Plan) -> Angular | None:
    """Return f, found from exact entries.

    None where the kernels are no such functions, or a single layer's closed form takes no longer.
    """
    homogeneous = all(
        each.fold is not None and not each.fold[2] and not each.layer.sigma_c2 and each.layer.plain
        for each in plan.layers
    )
    network = plan.network
    return _function(network) if network.depth > 1 and network.sequential and homogeneous else None


@lru_cache(maxsize=16)
def _function(network: Network) -> Angular | None:
    """Interpolate f, which the network alone says, whatever the samples are."""
    one = np.ones(1)
    at = tabulate(network, KINDS, one).at(one, one)
    for points in _POINTS:
        theta = chebyshev_points(0.0, np.pi, points)
        values = _values(at, np.cos(theta), 2 * np.square(np.sin(np.minimum(theta, np.pi - theta) / 2)))
        if (tail(values) <= _COMPLETE * abs(values).max(axis=1)).all():
            return Angular(_shortened(values @ to_chebyshev(points)), _powers(at))
    return None


def _values(at: NetworkPlan, cosine: FloatArray, versine: FloatArray) -> FloatArray:
    """F of every kind at some angles, (kinds, angles); `versine` is 1 - |cos θ|."""
    pair = np.zeros(cosine.size, dtype=np.int64)
    found = at.pairs(pair, pair, Angles(cosine, versine), dict.fromkeys(KINDS, cosine))
    return np.stack([found[kind] for kind in KINDS])


def _powers(at: NetworkPlan) -> FloatArray:
    """Interpolate in the cosine: f is a power series with positive coefficients, bounded by f(1) on the unit disc."""
    cosine = chebyshev_points(-FAR, FAR, POWERS)
    coefficients = _values(at, cosine, 1 - abs(cosine)) @ to_chebyshev(POWERS)
    return np.array([chebyshev.cheb2poly(each) for each in coefficients])


def _shortened(coefficients: FloatArray) -> FloatArray:
    """Leave out last terms that are rounding."""
    size = abs(coefficients) / abs(coefficients).max(axis=1, keepdims=True)
    last = int(np.flatnonzero((size > _NOTHING).any(axis=0))[-1])
    return np.ascontiguousarray(coefficients[:, : TERMS * (last // TERMS + 1)])
