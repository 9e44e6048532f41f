"""Eigenvalues and singular values of the Jacobian at the equilibrium of an infinitely wide recurrent layer.

At an equilibrium J = σ_a diag(φ'(u)) A/√m.  But for one direction, A is as good as independent of u: it is known to
map z to y/σ_a, y = u - σ_b B x - σ_c c.  So J is a Gaussian matrix whose rows have the variances d/m, d = σ_a² φ'(u)²,
and a perturbation of rank one, ``diag(φ'(u)) y zᵀ/(√m ‖z‖²)``, that adds at most an isolated eigenvalue or singular
value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations import moments
from rmtdeq.network import Layer

_REACH = 5.0
"""Pre-activations further out, in standard deviations, are one in a million: no network has them."""

_TRACY_WIDOM = 1.2065
"""Mean distance of the smallest eigenvalue of a real matrix from the edge, in units of its spread (Tracy and Widom)."""

_NOTHING = 1e-30
"""Variances of J below which 1 - J is 1 to rounding."""

_GRID = 50
_FINE = {"xatol": 1e-9}
_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class JacobianLaw:
    """The law of the Jacobian J at one squared norm.

    Attributes
    ----------
    bulk : float
        σ_a √E φ'²: the radius of the disk that the eigenvalues fill.
    isolated : float
        (σ_a²/2) E (φ²)'': an eigenvalue of its own where it lies outside the disk, the slope of the squared norms'
        own iteration.
    share : float
        (E φ'²)²/E φ'⁴: the share of the width that takes part in J, a half for ReLU.
    smallest, largest : float
        Singular values of 1 - J.
    spread : float
        Of the square of the smallest at width m, in units of m^{-2/3}: that has the law of Tracy and Widom.  Zero
        for an isolated one.
    """

    bulk: float
    isolated: float
    share: float
    smallest: float
    largest: float
    spread: float

    @property
    def radius(self) -> float:
        """The spectral radius."""
        return max(self.bulk, abs(self.isolated))

    def radius_at(self, width: int) -> float:
        """Return the typical spectral radius at a finite width.

        The outermost eigenvalue of a real Gaussian matrix of width m lies near ``1 + √(γ/4m)``, ``γ = log(m/2π) - 2 log
        log m`` (Rider and Sinclair, Ann. Appl. Probab. 24, 2014); m is here the share of the width that takes part.
        """
        m = self.share * width
        gamma = math.log(m / (2 * math.pi)) - 2 * math.log(math.log(m)) if m > math.e else 0.0
        return max(self.bulk * (1 + math.sqrt(max(gamma, 0.0) / (4 * m))), abs(self.isolated))

    def smallest_at(self, width: int) -> float:
        """Return the mean of the smallest singular value of 1 - J at a finite width: the Tracy-Widom law's."""
        return math.sqrt(self.smallest**2 + _TRACY_WIDOM * self.spread * width ** (-2 / 3))


def spectral_radii(layer: Layer, scale: float) -> tuple[float, float]:
    """Return the radius of the disk of eigenvalues of J, and the one that may be isolated.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    scale : float
        Standard deviation of u at the equilibrium.
    """
    known = moments(layer.activation, scale)
    return math.sqrt(layer.sigma_a2 * known.first_square), layer.sigma_a2 * known.square_second / 2


def jacobian_law(layer: Layer, source: float, scale: float) -> JacobianLaw:
    """Return the law of J at an equilibrium.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    source : float
        σ_b²‖x‖² + σ_c².
    scale : float
        Standard deviation of u.
    """
    bulk, isolated = spectral_radii(layer, scale)
    edges = _Edges(layer, source, scale)
    if edges.top < _NOTHING:
        return JacobianLaw(bulk, isolated, 1.0, 1.0, 1.0, 0.0)
    # From a radius of one on the spectrum of J covers 1.
    lowest, spread = edges.lowest() if bulk < 1 else (0.0, 0.0)
    ends = math.sqrt(lowest), math.sqrt(edges.highest())
    return JacobianLaw(bulk, isolated, _share(layer, scale), *ends, spread)


def _share(layer: Layer, scale: float) -> float:
    rule = layer.activation.rule(scale)
    square = layer.activation.slope(scale * rule.nodes) ** 2
    return float((rule.weights @ square) ** 2 / (rule.weights @ square**2))


class _Edges:
    """The ends of the spectrum of ``(1 - J)(1 - J)ᵀ``.

    Let Y = 1 - Jᵀ, with the variances d in the columns, α(w) = tr (YYᵀ - w)^{-1}/m, β(w) = tr D (YᵀY - w)^{-1}/m,
    h = w (1 + β) and g = hα.  The deterministic equivalent of this information-plus-noise matrix (Dozier and
    Silverstein, J. Multivariate Anal. 98, 2007; with a variance profile Hachem, Loubaton and Najim, Ann. Appl. Probab.
    17, 2007) comes down to

        E 1/N = 1 + g,   N = 1 - h - g d,   w = h² (1 + g)/g,

    a curve w(g) outside the spectrum that turns at its edges: at a maximum on g > 0 and a minimum on g < -1.  The
    rank-one part p rᵀ of Jᵀ, p = φ/√E φ² and r = φ' y/√E φ², has isolated values where

        (1 - E rp/N)² = E[p² (1 + d g/h)/N] (h E r²/N - h + w).
    """

    def __init__(self, layer: Layer, source: float, scale: float) -> None:
        phi = layer.activation
        rule = phi.rule(scale)
        kept = abs(rule.nodes) <= _REACH
        xi, self._weights = rule.nodes[kept], rule.weights[kept] / rule.weights[kept].sum()
        u, s = scale * xi, scale**2
        value, slope = np.asarray(phi(u), dtype=float), phi.slope(u)
        self.d = layer.sigma_a2 * slope**2
        self.top = float(self.d.max())
        square, known = float(self._weights @ value**2), source / s
        y, y_square = (1 - known) * u, ((1 - known) * u) ** 2 + s * known * (1 - known)
        self._p_square, self._pr = value**2 / square, value * y * slope / square
        self._r_square = y_square * slope**2 / square

    def mean(self, values: FloatArray) -> float:
        """Return an expectation over u."""
        return float(self._weights @ values)

    def lowest(self) -> tuple[float, float]:
        """Return the lower end, the bulk's or an isolated one, and its spread at finite width."""

        def g(distance: float) -> float:
            return distance / self.top

        turn = self._turn(g, 1e-9, 1.0, 1.0)
        edge, first = self.w(g(turn)), self._first(g, 1e-9, turn)
        return first, self._spread(g, turn) if first == edge else 0.0

    def highest(self) -> float:
        """Return the upper end, the bulk's or an isolated one."""

        def g(distance: float) -> float:
            return -1 - distance

        return self._first(g, 1e-6, self._turn(g, 1e-6, 1e6, -1.0))

    def _turn(self, g: Callable[[float], float], near: float, far: float, sign: float) -> float:
        """Return the distance at which sign·w(g) is largest."""
        found = minimize_scalar(
            lambda logarithm: -sign * self.w(g(math.exp(logarithm))),
            bounds=(math.log(near), math.log(far)),
            method="bounded",
            options=_FINE,
        )
        return math.exp(found.x)

    def _first(self, g: Callable[[float], float], near: float, turn: float) -> float:
        """Return the first w that is in the spectrum on the way from outside: isolated, or at the turn."""
        way = np.geomspace(near, turn, _GRID)
        inside = np.flatnonzero([self.apart(g(at)) < 0 for at in way])
        if inside.size and inside[0]:
            low, high = way[inside[0] - 1], way[inside[0]]
            turn = float(brentq(lambda at: self.apart(g(at)), low, high))
        return self.w(g(turn))

    def _spread(self, g: Callable[[float], float], turn: float) -> float:
        """Return ``(|w''(α)|/2)^{1/3}`` at the edge, where the density is ``√(2 (w - edge)/|w''|)/π``."""
        sides = turn * np.exp([-_DIFFERENCE, 0.0, _DIFFERENCE])
        w = np.array([self.w(g(at)) for at in sides])
        alpha = np.array([g(at) / self.h(g(at)) for at in sides])
        bend = (2 * w[1] - w[0] - w[2]) / (0.5 * (alpha[2] - alpha[0])) ** 2
        return float(max(bend, 0.0) / 2) ** (1 / 3)

    def h(self, g: float) -> float:
        """Solve E 1/N = 1 + g for g > 0 or g < -1, where N has one sign."""
        room = abs(g) * (self.top - self.d)

        def excess(rest: float) -> float:
            return self.mean(1 / (room + rest)) - abs(1 + g)

        most = 1 / abs(1 + g)
        least = 1e-14 * most
        if excess(least) <= 0:
            rest = least
        elif excess(most) >= 0:  # but for rounding it is zero, where all variances are the same
            rest = most
        else:
            rest = float(brentq(excess, least, most, xtol=1e-15 * most))
        return 1 - g * self.top - math.copysign(rest, 1 + g)

    def w(self, g: float) -> float:
        """Return w(g), negative where h is."""
        h = self.h(g)
        return math.copysign(h * h * (1 + g) / g, h)

    def apart(self, g: float) -> float:
        """Return what is positive before the first isolated value, zero there."""
        h, w = self.h(g), self.w(g)
        N = 1 - h - g * self.d
        along = self.mean(self._pr / N)
        right = self.mean(self._p_square * (1 + self.d * g / h) / N)
        return (1 - along) ** 2 - right * (h * self.mean(self._r_square / N) - h + w)
