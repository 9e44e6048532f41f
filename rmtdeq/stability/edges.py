"""The ends of the spectrum of 1 - J: a curve that turns at them, and that of Gaussian weights.

Smallest singular values of networks of finite width differ from the law's in three ways.

- The bulk's end has the fluctuations of Tracy and Widom, and the less room for them, the nearer the rank-one part of J
  is to a singular value of its own (Bloemendal and Virág, Probab. Theory Relat. Fields 156, 2013).
- Near zero it cannot move down as it moves up.
- Given its equilibrium, A is not quite Gaussian: equilibria are as many as |det(1 - J)| says (the formula of Kac and
  Rice), and rare where 1 - J is nearly singular.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from rmtdeq.stability.equilibrium import Equilibrium

_GRID = 50
_FINE = {"xatol": 1e-9}
_DIFFERENCE = 1e-3

_MEAN, _DEVIATION = 1.2065, 1.268
"""Of the law of Tracy and Widom for real matrices: mean distance from the edge, standard deviation."""
_LOOSE = 1.25
"""By how much a direction about to come loose takes the mean nearer to the edge; simulated."""


@dataclass(frozen=True)
class LowerEnd:
    """The lower end of the spectrum of ``(1 - J)(1 - J)ᵀ``.

    Attributes
    ----------
    lowest : float
        The first value, the bulk's end or an isolated one.
    edge : float
        The bulk's end.
    spread : float
        Of the first value of the bulk at width m, in units of m^{-2/3}.
    distance : float
        Of J's rank-one part from having a value of its own, in units of m^{-1/3}; infinite if it never has, negative if
        it has.
    """

    lowest: float
    edge: float
    spread: float
    distance: float

    @classmethod
    def still(cls, square: float) -> LowerEnd:
        """Return an end that does not move."""
        return cls(square, square, 0.0, math.inf)

    @property
    def isolated(self) -> bool:
        """Whether the first value is an isolated one."""
        return self.distance < 0

    def mean_at(self, width: int) -> float:
        """Return the mean of the smallest singular value at a finite width.

        Both numbers that are not of the law of Tracy and Widom were fitted to simulations: the distance's to Wigner
        matrices, within 0.03; the fourth root's to square real Gaussian matrices less a multiple of 1, weighted by
        their determinant, within 1.5 % of the mean up to ``shift = 2 edge``.
        """
        if self.isolated or not self.edge:
            return math.sqrt(self.lowest)
        unit = self._unit(width)
        loose = _LOOSE * (1 + self.distance * width ** (1 / 3) / 2) ** -1.5
        relative = _MEAN * unit / self.edge
        return math.sqrt(self.edge + unit * max(_MEAN - loose, 0.0)) * (1 + relative / 2 + relative**2) ** 0.25

    def scatter_at(self, width: int) -> float:
        """Return the standard deviation of the smallest singular value of the bulk, relative to it."""
        unit = self._unit(width)
        return _DEVIATION * unit / (2 * (self.edge + _MEAN * unit)) if unit else 0.0

    def _unit(self, width: int) -> float:
        return self.spread * width ** (-2 / 3)


class Edges(ABC):
    """The ends of the spectrum of ``(1 - J)(1 - J)ᵀ``, from a curve w(g) outside of it that turns at them.

    Attributes
    ----------
    lower_range, upper_range : (float, float)
        Distances along the curve, from far off the spectrum to where it may turn.
    """

    lower_range: tuple[float, float]
    upper_range: tuple[float, float]

    @abstractmethod
    def lower_way(self, distance: float) -> float:
        """Return the place g on the way from zero to the lower end."""

    @abstractmethod
    def upper_way(self, distance: float) -> float:
        """Return the place g on the way from infinity to the upper end."""

    @abstractmethod
    def w(self, g: float) -> float:
        """Return the squared singular value of a place."""

    @abstractmethod
    def alpha(self, g: float) -> float:
        """Return tr ((1 - J)(1 - J)ᵀ - w)^{-1}/m there."""

    @abstractmethod
    def apart(self, g: float) -> float:
        """Return what is positive before the first isolated value, zero there."""

    def lowest(self) -> LowerEnd:
        """Return the lower end."""
        turn = self._turn(self.lower_way, *self.lower_range, 1.0)
        edge, first = self.w(self.lower_way(turn)), self._first(self.lower_way, self.lower_range[0], turn)
        bend, spread = self._bend(self.lower_way, turn)
        if first < edge:
            return LowerEnd(first, edge, spread, -math.sqrt((edge - first) / spread) if spread else -math.inf)
        # Beyond the turn `apart` goes on in a straight line, and w falls by half the bend times the square of the way.
        low, at, high = (self.apart(self.lower_way(each)) for each in _sides(turn))
        fall = (low - high) / (2 * _DIFFERENCE)
        way = at / fall if fall > 0 else math.inf
        return LowerEnd(edge, edge, spread, way * math.sqrt(bend / (2 * spread)) if spread else math.inf)

    def highest(self) -> float:
        """Return the upper end, the bulk's or an isolated one."""
        turn = self._turn(self.upper_way, *self.upper_range, -1.0)
        return self._first(self.upper_way, self.upper_range[0], turn)

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

    def _bend(self, g: Callable[[float], float], turn: float) -> tuple[float, float]:
        """Return by how much w bends at the edge: -w'' in the logarithm of the distance, ``(|w''(α)|/2)^{1/3}``.

        The density there is ``√(2 (w - edge)/|w''(α)|)/π``.
        """
        sides = _sides(turn)
        w = [self.w(g(at)) for at in sides]
        alpha = [self.alpha(g(at)) for at in sides]
        change = max(2 * w[1] - w[0] - w[2], 0.0)
        return change / _DIFFERENCE**2, (change / (0.5 * (alpha[2] - alpha[0])) ** 2 / 2) ** (1 / 3)


def _sides(turn: float) -> list[float]:
    """Return distances a little before a turn, at it and a little beyond."""
    return [turn * math.exp(side * _DIFFERENCE) for side in (-1, 0, 1)]


class GaussianEdges(Edges):
    """The ends where A is Gaussian.

    Let Y = 1 - Jᵀ, with the variances d in the columns, α(w) = tr (YYᵀ - w)^{-1}/m, β(w) = tr D (YᵀY - w)^{-1}/m,
    h = w (1 + β) and g = hα.  The deterministic equivalent of this information-plus-noise matrix (Dozier and
    Silverstein, J. Multivariate Anal. 98, 2007; with a variance profile Hachem, Loubaton and Najim, Ann. Appl. Probab.
    17, 2007) comes down to

        E 1/N = 1 + g,   N = 1 - h - g d,   w = h² (1 + g)/g,

    a curve w(g) outside the spectrum that turns at its edges: at a maximum on g > 0 and a minimum on g < -1.  The
    rank-one part p rᵀ of Jᵀ, p = φ/√E φ² and r = φ' y/√E φ², has isolated values where

        (1 - E rp/N)² = E[p² (1 + d g/h)/N] (h E r²/N - h + w).
    """

    lower_range, upper_range = (1e-9, 1.0), (1e-6, 1e6)

    def __init__(self, at: Equilibrium) -> None:
        self.d = at.slope**2
        self.mean = at.mean
        self.top = float(self.d.max())
        self._p_square, self._pr = at.z**2, at.z * at.y * at.slope
        self._r_square = at.y_square * at.slope**2

    def lower_way(self, distance: float) -> float:
        """Return g > 0."""
        return distance / self.top

    def upper_way(self, distance: float) -> float:
        """Return g < -1."""
        return -1 - distance

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

    def alpha(self, g: float) -> float:
        """Return α, which is g/h."""
        return g / self.h(g)
