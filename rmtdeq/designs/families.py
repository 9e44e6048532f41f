"""Families of activations that a design chooses from.

A member of a family at scale τ is ``σ(u) = Σ_i c_i e_i(u/τ)`` in at most three orthonormal functions of a standard
Gaussian, none with a mean: e_1 odd, e_2 even, e_3 odd and orthogonal to ξ.  What a layer does to a kernel depends on

    E σ' = κ_1 c_1/τ,  E σ'' = √2 κ_2 c_2/τ²,  ½E(σ²)'' = cᵀQc/τ²,  E σ² = |c|²,  E σ'² = cᵀMc/τ²

with the family's constants κ_1 = E ξe_1, κ_2 = E (ξ²-1)e_2/√2, Q_ij = ½E (ξ²-1)e_ie_j and M_ij = E e_i'e_j'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations import Activation, activation
from rmtdeq.activations.quadrature import gaussian_rule

_KNOT = 1.0
_LEVELS = (0.4, 1.2)
_MEAN_SIZE = np.sqrt(2 / np.pi)
_ROUNDING = 1e-14

Part = Callable[[FloatArray], FloatArray]
Builder = Callable[[FloatArray, float], Activation]


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthonormal functions and their constants; functions that a family lacks have zeros.

    Attributes
    ----------
    linear, curved : float
        κ_1 and κ_2.
    square, slopes : ndarray (3, 3)
        Q and M; M is infinite where functions jump.
    even, free : bool
        Whether there are an e_2 and an e_3.
    raw : ndarray (3, functions)
        The e_i in the functions that `build` knows.
    build : callable
        From coefficients of those functions and τ to the activation, its mean taken off.
    """

    linear: float
    curved: float
    square: FloatArray
    slopes: FloatArray
    even: bool
    free: bool
    raw: FloatArray
    build: Builder

    def member(self, c: FloatArray, tau: float) -> Activation:
        """Return the activation with coefficients c (3,) at scale τ."""
        return self.build(np.asarray(c) @ self.raw, tau)


@dataclass(frozen=True)
class Family:
    """A named family.

    Attributes
    ----------
    name : str
    feasible : str
        What it reaches, in words.
    basis : callable
        From a threshold, in units of the scale τ, to the functions; families without one ignore it.
    thresholds : (float, float) or None
        The range of the threshold.
    differentiable : bool
        Whether its members have a tangent kernel.
    fitted : bool
        Whether its exact roots come from a fit to the kernel (`kernel_fit`) and not one by one (`matching`).
    """

    name: str
    feasible: str
    basis: Callable[[float], Basis]
    thresholds: tuple[float, float] | None = None
    differentiable: bool = True
    fitted: bool = False


def _orthonormal(
    odd: Sequence[Part], even: Part | None, slopes: Sequence[Part] | None, kinks: Sequence[float], build: Builder
) -> Basis:
    """Make a basis of one or two odd functions and an even one; `slopes` are their derivatives in that order."""
    rule = gaussian_rule(np.array(sorted(kinks) or [0.0]))
    xi, w = rule.nodes, rule.weights
    functions = [f(xi) for f in odd] + ([even(xi)] if even else [])
    values = np.array([f - w @ f for f in functions])
    overlap = (values * w) @ values.T
    k = len(odd)
    raw = np.zeros((3, len(functions)))
    # The part of ξ that the odd functions span, and what is orthogonal to it.
    along = np.linalg.solve(overlap[:k, :k], (values[:k] * w) @ xi)
    raw[0, :k] = along / np.sqrt(along @ overlap[:k, :k] @ along)
    if k == 2:
        second = np.array([0.0, 1.0]) - raw[0, :2] * (raw[0, :2] @ overlap[:2, :2])[1]
        raw[2, :2] = second / np.sqrt(second @ overlap[:2, :2] @ second)
    if even:
        raw[1, -1] = 1 / np.sqrt(overlap[-1, -1])
    e = raw @ values
    second_hermite = xi * xi - 1
    tangent = np.full((3, 3), np.inf)
    if slopes is not None:
        derivatives = raw @ np.array([f(xi) for f in slopes])
        tangent = (derivatives * w) @ derivatives.T
    return Basis(
        linear=float(w @ (xi * e[0])),
        curved=float(w @ (second_hermite * e[1])) / np.sqrt(2),
        square=0.5 * (e * (w * second_hermite)) @ e.T,
        slopes=tangent,
        even=even is not None,
        free=k == 2,
        raw=raw,
        build=build,
    )


def _one(xi: FloatArray) -> FloatArray:
    return np.ones_like(xi)


@lru_cache(maxsize=1)
def _polynomial(_: float) -> Basis:
    def build(r: FloatArray, tau: float) -> Activation:
        return activation("polynomial", [-r[2], r[0] / tau, r[2] / tau**2, r[1] / tau**3])

    return _orthonormal(
        (lambda x: x, lambda x: x**3), np.square, (_one, lambda x: 3 * x * x, lambda x: 2 * x), (), build
    )


@lru_cache(maxsize=1)
def _piecewise_linear(_: float) -> Basis:
    def build(r: FloatArray, tau: float) -> Activation:
        t = _KNOT * tau
        at_knots = np.array([-r[0] - r[1] + r[2], 0.0, r[0] + r[1] + r[2]]) * _KNOT
        outer = np.array([2 * (-r[0] + r[2]) - r[1], 2 * (r[0] + r[2]) + r[1]]) * _KNOT
        values = np.array([outer[0], *at_knots, outer[1]]) - r[2] * _MEAN_SIZE
        return activation("piecewise_linear", [-2 * t, -t, 0.0, t, 2 * t], values)

    return _orthonormal(
        (lambda x: x, lambda x: np.clip(x, -_KNOT, _KNOT)),
        np.abs,
        (_one, lambda x: 1.0 * (abs(x) < _KNOT), np.sign),
        (-_KNOT, 0.0, _KNOT),
        build,
    )


@lru_cache(maxsize=1)
def _leaky_relu(_: float) -> Basis:
    def build(r: FloatArray, tau: float) -> Activation:
        return activation("two_slopes", (r[0] + r[1]) / tau, (r[0] - r[1]) / tau).minus(r[1] * _MEAN_SIZE)

    return _orthonormal((lambda x: x,), np.abs, (_one, np.sign), (0.0,), build)


@lru_cache(maxsize=512)
def _hard_tanh(t: float) -> Basis:
    def build(r: FloatArray, tau: float) -> Activation:
        return activation("hard_tanh", r[0] / tau, t * tau)

    return _orthonormal((lambda x: np.clip(x, -t, t),), None, (lambda x: 1.0 * (abs(x) < t),), (-t, t), build)


@lru_cache(maxsize=512)
def _ternary(t: float) -> Basis:
    def build(r: FloatArray, tau: float) -> Activation:
        return _steps([-t * tau, t * tau], [-r[0] + r[1], 0.0, r[0] + r[1]], tau)

    return _orthonormal((lambda x: np.sign(x) * (abs(x) > t),), lambda x: 1.0 * (abs(x) > t), None, (-t, t), build)


@lru_cache(maxsize=1)
def _quantised(_: float) -> Basis:
    low, high = _LEVELS

    def build(r: FloatArray, tau: float) -> Activation:
        inner, outer = r[0], r[0] + r[1]
        levels = [-outer + r[2], -inner + r[2], 0.0, inner + r[2], outer + r[2]]
        return _steps(np.array([-high, -low, low, high]) * tau, levels, tau)

    return _orthonormal(
        (lambda x: np.sign(x) * (abs(x) > low), lambda x: np.sign(x) * (abs(x) > high)),
        lambda x: 1.0 * (abs(x) > low),
        None,
        (-high, -low, low, high),
        build,
    )


def _steps(thresholds: Sequence[float] | FloatArray, levels: Sequence[float], tau: float) -> Activation:
    """A piecewise constant activation without its mean at scale τ."""
    edges = np.asarray(thresholds) / tau
    below = gaussian_rule(edges)
    piece = np.searchsorted(edges, below.nodes)
    mean = float(below.weights @ np.asarray(levels)[piece])
    if abs(mean) < _ROUNDING * max(map(abs, levels)):
        mean = 0.0
    return activation("steps", list(thresholds), [level - mean for level in levels])


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "hard_tanh",
            "a·clip(u, -c, c), one layer: odd targets whose linear part holds more than 2/π of the diagonal",
            _hard_tanh,
            (1e-3, 8.0),
        ),
        Family("leaky_relu", "a·u above zero and b·u below: targets made by activations of that form", _leaky_relu),
        Family(
            "piecewise_linear",
            "bends at 0, ± ½, ± 1 and ± 2 standard deviations, fitted to the kernel and moved to the nearest root; for "
            "compromises, at 0 and ± 1",
            _piecewise_linear,
            fitted=True,
        ),
        Family(
            "polynomial",
            "degree at most 3: an exact root wherever a split of the linear part between the layers leaves every "
            "square positive; the widest range",
            _polynomial,
        ),
        Family(
            "ternary",
            "three levels, thresholds at ± t: CK only; odd targets whose linear part holds at most .81 of the diagonal",
            _ternary,
            (1e-2, 4.0),
            differentiable=False,
        ),
        Family(
            "quantised",
            "five levels, thresholds at ± 0.4 and ± 1.2 standard deviations: CK only",
            _quantised,
            differentiable=False,
        ),
    )
}
AUTO = ("hard_tanh", "leaky_relu", "piecewise_linear", "polynomial")
"""What ``family="auto"`` tries, the cheapest to run first."""
