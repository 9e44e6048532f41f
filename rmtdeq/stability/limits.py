"""The largest σ_a² with which a recurrent layer comes to rest, and with which it has a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from scipy.optimize import brentq

from rmtdeq._lib.errors import IllPosedError
from rmtdeq._lib.types import FloatArray, Recurrent
from rmtdeq.activations import moments
from rmtdeq.network import Layer, preactivation_scale
from rmtdeq.stability.singular_values import radius_law

_FIRST, _GROWTH, _LARGEST = 1e-2, 2.0, 1e4
_DIGITS = 1e-10
_SCATTERS = 2


@dataclass(frozen=True, eq=False)
class Case:
    """What σ_a² has limits for; see `limits`."""

    layer: Layer
    tau0_squared: float
    squared_norms: FloatArray
    recurrent: Recurrent


@dataclass(frozen=True)
class Limits:
    """Where σ_a² ends.

    Attributes
    ----------
    iteration : float
        Up to there the plain iteration comes to rest: σ_a² E φ'² and the size of (σ_a²/2) E (φ²)'' are below 1.
    kernel : float
        Up to there the kernel's map contracts on its diagonal, (σ_a²/2) E (φ²)'' < 1, and off it for samples at right
        angles, σ_a² E[φ']² < 1.
    """

    iteration: float
    kernel: float
    case: Case = field(repr=False, compare=False)

    def at(self, width: int) -> float:
        """Return the σ_a² up to which nearly all networks of a finite width come to rest.

        There the typical spectral radius and twice its scatter come to 1 together.
        """

        @cache
        def slope(sigma_a2: float) -> float:
            return _widest(self.case, sigma_a2, width)

        return _first_at_one(slope)


def limits(layer: Layer, tau0_squared: float, squared_norms: FloatArray, recurrent: Recurrent = "gaussian") -> Limits:
    """Return the limits of σ_a², all else of the layer being the same.

    Parameters
    ----------
    layer : Layer
        As its user gave it; where it is centred it is so anew for every σ_a².
    tau0_squared : float
        Mean squared norm of its inputs, where it is centred.
    squared_norms : ndarray (n,)
        Of its inputs, positive.
    recurrent : {"gaussian", "orthogonal"}
        What A is, which makes a difference at finite width.
    """

    @cache
    def slopes(sigma_a2: float) -> tuple[float, float]:
        return _slopes(replace(layer, sigma_a2=sigma_a2), tau0_squared, squared_norms)

    case = Case(layer, tau0_squared, squared_norms, recurrent)
    return Limits(_first_at_one(lambda at: slopes(at)[0]), _first_at_one(lambda at: slopes(at)[1]), case)


def _slopes(layer: Layer, tau0_squared: float, squared_norms: FloatArray) -> tuple[float, float]:
    """The largest factors of the iteration and of the kernel's map; 2 where there is no equilibrium."""
    iteration = kernel = 0.0
    try:
        pinned = layer.pinned(tau0_squared)
        for norm in squared_norms:
            known = moments(pinned.activation, preactivation_scale(pinned, float(norm)).value)
            diagonal = known.square_second / 2
            iteration = max(iteration, pinned.sigma_a2 * max(known.first_square, abs(diagonal)))
            kernel = max(kernel, pinned.sigma_a2 * max(known.first**2, diagonal))
    except IllPosedError:
        return 2.0, 2.0
    return _bounded(iteration), _bounded(kernel)


def _widest(case: Case, sigma_a2: float, width: int) -> float:
    """The largest spectral radius with twice its scatter; 2 where there is no equilibrium."""
    found = 0.0
    try:
        pinned = replace(case.layer, sigma_a2=sigma_a2).pinned(case.tau0_squared)
        for norm in case.squared_norms:
            scale = preactivation_scale(pinned, float(norm)).value
            law = radius_law(pinned, pinned.sigma_b2 * float(norm), scale, case.recurrent)
            found = max(found, law.radius_at(width) * (1 + _SCATTERS * law.scatter_at(width)))
    except IllPosedError:
        return 2.0
    return _bounded(found)


def _bounded(slope: float) -> float:
    return min(slope, 2.0) if math.isfinite(slope) else 2.0


def _first_at_one(slope: Callable[[float], float]) -> float:
    """Return the first σ_a² at which a slope is one, infinite if it never is."""
    low, high = 0.0, _FIRST
    while slope(high) < 1:
        low, high = high, high * _GROWTH
        if high > _LARGEST:
            return math.inf
    return float(brentq(lambda at: (slope(at) if at else 0.0) - 1, low, high, xtol=_DIGITS * high, rtol=_DIGITS))
