"""The law of a bulk: intervals of support and atoms, density, distribution function, quantiles.

On each interval of the support the density vanishes like a square root at both ends.  With x = x(θ), the
interval's image of the upper half circle, ``density · dx/dθ`` is smooth at the ends; it is held as Legendre series on
panels of θ, and the distribution function is those series integrated term by term.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.polynomial import legendre
from scipy.interpolate import PchipInterpolator

from rmtdeq._lib.tables import intervals, numbers
from rmtdeq._lib.types import FloatArray

_DECADE = 10.0
_DRAWN = 400  # points of a curve
_NEWTON_STEPS = 4
_BEYOND_SERIES = 24  # nodes of a moment's rule beyond the terms of the density
_TABLE = 33  # points of a panel where the distribution function is tabulated for its inverse


@dataclass(frozen=True, eq=False)
class Interval:
    """One interval of the support and its density.

    Attributes
    ----------
    low, high : float
    origin : float
        The interval is mapped on a logarithmic scale from here if it spans more than a decade; else not used.
    breaks : ndarray (panels + 1,)
        Ends of the panels in θ, from 0 to π.
    coefficients : ndarray (panels, terms)
        Legendre coefficients of density·dx/dθ on each panel.
    """

    low: float
    high: float
    origin: float
    breaks: FloatArray
    coefficients: FloatArray

    def __repr__(self) -> str:
        return f"Interval([{self.low:.4g}, {self.high:.4g}], mass {self.mass:.4f})"

    @property
    def mass(self) -> float:
        """Fraction of the eigenvalues in the interval."""
        return float(self.coefficients[:, 0] @ np.diff(self.breaks))

    def affine(self, scale: float, shift: float) -> Interval:
        """Return the interval of scale·λ + shift, scale > 0."""
        low, high, origin = (scale * at + shift for at in (self.low, self.high, self.origin))
        return Interval(low, high, origin, self.breaks, self.coefficients)

    @property
    def _logarithmic(self) -> bool:
        return self.high - self.origin > _DECADE * (self.low - self.origin)

    def position(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return x(θ) and dx/dθ, θ from 0 (low end) to π (high end)."""
        if self._logarithmic:
            a, b = np.log(self.low - self.origin), np.log(self.high - self.origin)
            distance = np.exp((a + b) / 2 - (b - a) / 2 * np.cos(theta))
            return self.origin + distance, distance * (b - a) / 2 * np.sin(theta)
        half = (self.high - self.low) / 2
        return (self.low + self.high) / 2 - half * np.cos(theta), half * np.sin(theta)

    def angle(self, x: FloatArray) -> FloatArray:
        """Return θ(x), clipped to the interval."""
        x = np.clip(x, self.low, self.high)
        if self._logarithmic:
            a, b = np.log(self.low - self.origin), np.log(self.high - self.origin)
            cosine = ((a + b) / 2 - np.log(np.maximum(x - self.origin, 1e-300))) / ((b - a) / 2)
        else:
            cosine = (self.low + self.high - 2 * x) / (self.high - self.low)
        return np.arccos(np.clip(cosine, -1.0, 1.0))

    def density(self, x: FloatArray) -> FloatArray:
        """Return the density, zero outside."""
        theta = self.angle(x)
        _, slope = self.position(theta)
        series = self._evaluate(self.coefficients, theta)
        inside = (x > self.low) & (x < self.high) & (slope > 0)
        return np.where(inside, np.maximum(series, 0.0) / np.where(inside, slope, 1.0), 0.0)

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return the mass below x within the interval."""
        return np.clip(self._evaluate(self._integrals, self.angle(x)), 0.0, self.mass)

    def quantiles(self, mass: FloatArray) -> FloatArray:
        """Return the points below which the interval holds the given mass."""
        grid, below = self._table
        theta = np.interp(mass, below, grid)
        cell = np.diff(grid)[np.clip(np.searchsorted(grid, theta) - 1, 0, grid.size - 2)]
        for _ in range(_NEWTON_STEPS):
            # Newton's method, within the table's resolution.
            slope = self._evaluate(self.coefficients, theta)
            gap = self._evaluate(self._integrals, theta) - mass
            step = np.divide(gap, slope, out=np.zeros_like(theta), where=slope > 0)
            theta = np.clip(theta - np.clip(step, -cell, cell), 0.0, np.pi)
        return self.position(theta)[0]

    def moment(self, order: int, about: float = 0.0) -> float:
        """Return the integral of (x - about)^order times the density."""
        nodes, weights = legendre.leggauss(self.coefficients.shape[1] + _BEYOND_SERIES)
        half = np.diff(self.breaks)[:, None] / 2
        x, _ = self.position((self.breaks[:-1, None] + half) + half * nodes)
        density = self.coefficients @ legendre.legvander(nodes, self.coefficients.shape[1] - 1).T
        return float((half * weights * density * (x - about) ** order).sum())

    def _evaluate(self, series: FloatArray, theta: FloatArray) -> FloatArray:
        """Sum Legendre series, one a panel, at points θ."""
        panel = np.clip(np.searchsorted(self.breaks, theta, side="right") - 1, 0, self.breaks.size - 2)
        left, right = self.breaks[panel], self.breaks[panel + 1]
        terms = legendre.legvander((2 * theta - left - right) / (right - left), series.shape[1] - 1)
        return np.asarray(np.einsum("...k,...k->...", terms, series[panel]))

    @cached_property
    def _integrals(self) -> FloatArray:
        """The series integrated term by term from θ = 0, (panels, terms + 1)."""
        widths = np.diff(self.breaks)
        result = legendre.legint(self.coefficients, lbnd=-1, axis=1) * (widths / 2)[:, None]
        result[1:, 0] += np.cumsum(self.coefficients[:, 0] * widths)[:-1]
        return np.asarray(result)

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        """θ and the mass below, on a grid much finer than the panels."""
        fine = np.linspace(0, 1, _TABLE)[1:]
        theta = np.append(0.0, (self.breaks[:-1, None] + np.diff(self.breaks)[:, None] * fine).ravel())
        return theta, np.maximum.accumulate(self._evaluate(self._integrals, theta))


@dataclass(frozen=True, eq=False)
class Bulk:
    """The limiting spectrum without its outliers.

    Attributes
    ----------
    intervals : tuple of Interval
        Ascending.
    atoms : tuple of (float, float)
        Position and mass of eigenvalues of positive multiplicity.
    """

    intervals: tuple[Interval, ...]
    atoms: tuple[tuple[float, float], ...]

    def __repr__(self) -> str:
        return f"Bulk({intervals(self.edges)}; {numbers((at for at, _ in self.atoms), 'atom')})"

    @property
    def mass(self) -> float:
        """Total mass as computed; 1 up to the error of the computation."""
        return sum(part.mass for part in self.intervals) + sum(mass for _, mass in self.atoms)

    @property
    def edges(self) -> tuple[tuple[float, float], ...]:
        """The intervals of the support; an atom apart from them is an interval of no width."""
        points = [(at, at) for at, _ in self.atoms if not any(i.low <= at <= i.high for i in self.intervals)]
        return tuple(sorted([(i.low, i.high) for i in self.intervals] + points))

    def affine(self, scale: float, shift: float) -> Bulk:
        """Return the law of scale·λ + shift, scale > 0."""
        return Bulk(
            tuple(part.affine(scale, shift) for part in self.intervals),
            tuple((scale * at + shift, mass) for at, mass in self.atoms),
        )

    def density(self, x: FloatArray) -> FloatArray:
        """Return the density at x, atoms left out."""
        return np.sum([part.density(x) for part in self.intervals], axis=0) if self.intervals else np.zeros_like(x)

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return the distribution function, atoms counted at their position."""
        total = np.zeros_like(x)
        for part in self.intervals:
            total = total + part.cdf(x)
        for at, mass in self.atoms:
            total = total + mass * (x >= at)
        return np.clip(total / self.mass, 0.0, 1.0)

    def moment(self, order: int, about: float = 0.0) -> float:
        """Return E (λ - about)^order, atoms counted."""
        whole = sum(part.moment(order, about) for part in self.intervals)
        return (whole + sum(mass * (at - about) ** order for at, mass in self.atoms)) / self.mass

    def curves(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield points and the density there, an interval at a time, denser where the density bends."""
        for part in self.intervals:
            x, _ = part.position(np.linspace(0, np.pi, _DRAWN)[1:-1])
            yield x, part.density(x)

    def quantiles(self, q: FloatArray) -> FloatArray:
        """Return the points where the distribution function reaches q."""
        parts: list[tuple[float, float, Interval | None]] = [(i.low, i.mass, i) for i in self.intervals]
        parts += [(at, mass, None) for at, mass in self.atoms]
        parts.sort(key=lambda part: part[0])
        ends = np.cumsum([mass for _, mass, _ in parts])
        wanted = np.asarray(q, dtype=float) * self.mass
        index = np.minimum(np.searchsorted(ends, wanted, side="left"), len(parts) - 1)
        result = np.empty_like(wanted)
        for k, (at, mass, part) in enumerate(parts):
            mine = index == k
            result[mine] = at if part is None else part.quantiles(wanted[mine] - (ends[k] - mass))
        return result


@dataclass(frozen=True, eq=False)
class TabulatedLaw:
    """A law of positive numbers whose logarithm is known at some quantiles, and smooth in between.

    Attributes
    ----------
    levels : ndarray (k,)
        Ascending, from 0 to 1.
    logarithms : ndarray (k,)
        Of the quantiles, strictly ascending.
    """

    levels: FloatArray
    logarithms: FloatArray

    atoms: ClassVar[tuple[tuple[float, float], ...]] = ()

    def __repr__(self) -> str:
        return f"TabulatedLaw({intervals(self.edges)})"

    @property
    def edges(self) -> tuple[tuple[float, float], ...]:
        """The support, one interval."""
        low, high = np.exp(self.logarithms[[0, -1]])
        return ((float(low), float(high)),)

    def density(self, x: FloatArray) -> FloatArray:
        """Return the density at x."""
        inside = (x > self.edges[0][0]) & (x < self.edges[0][1])
        at = np.where(inside, x, self.edges[0][0])
        return np.where(inside, self._curve.derivative()(np.log(at)) / at, 0.0)

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return the distribution function at x."""
        low, high = self.logarithms[[0, -1]]
        at = np.clip(np.log(np.maximum(x, np.exp(low))), low, high)
        return np.clip(self._curve(at), 0.0, 1.0)

    def moment(self, order: int, about: float = 0.0) -> float:
        """Return E (λ - about)^order."""
        nodes, weights = legendre.leggauss(_BEYOND_SERIES)
        half = np.diff(self.logarithms)[:, None] / 2
        at = (self.logarithms[:-1, None] + half) + half * nodes
        return float((half * weights * self._curve.derivative()(at) * (np.exp(at) - about) ** order).sum())

    def curves(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield points and the density there."""
        x = np.exp(np.linspace(self.logarithms[0], self.logarithms[-1], _DRAWN)[1:-1])
        yield x, self.density(x)

    def quantiles(self, q: FloatArray) -> FloatArray:
        """Return the points where the distribution function reaches q."""
        return np.asarray(np.exp(np.interp(q, self.levels, self.logarithms)))

    @cached_property
    def _curve(self) -> PchipInterpolator:
        return PchipInterpolator(self.logarithms, self.levels)
