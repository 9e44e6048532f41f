"""The bulk of a spectrum: support, density, distribution function, quantiles.

On each interval of the support the density vanishes like a square root at both ends.  With x = x(θ), the
interval's image of the upper half circle, ``density · dx/dθ`` is a smooth even function of θ and its cosine
series converges fast; the distribution function is that series integrated term by term.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import dct, dst

from rmtdeq._errors import ConvergenceError
from rmtdeq._types import FloatArray
from rmtdeq.rmt.model import GramModel
from rmtdeq.rmt.resolvent import LineResolvent

_HEIGHT = 1e-10  # of the imaginary part at which densities are read, relative to the distance from the shifts
_FLOOR = 1e-9  # of the range: closer to a shift than this is an atom
_INSIDE = 3e-5  # density times distance that counts as inside the support
_GRID = 500
_GRID_DENSE = 240
_FAN = 18
_FAN_ROUNDS = 2
_REFINEMENTS = 3
_REFINEMENTS_DENSE = 1
_MASS = 1e-3
_NEGLIGIBLE = 1e-8
_SERIES_TAIL = 3e-6
_MOST_TERMS = 1024
_MOST_TERMS_DENSE = 256
_DECADE = 10.0


@dataclass(frozen=True, eq=False)
class Interval:
    """One interval of the support and its density.

    Attributes
    ----------
    low, high : float
    origin : float
        The interval is mapped on a logarithmic scale from here if it spans more than a decade; else not used.
    cosines : ndarray
        Coefficients of density·dx/dθ in cos kθ.
    """

    low: float
    high: float
    origin: float
    cosines: FloatArray

    @property
    def mass(self) -> float:
        """Fraction of the eigenvalues in the interval."""
        return float(np.pi * self.cosines[0])

    def affine(self, scale: float, shift: float) -> Interval:
        """Return the interval of scale·λ + shift, scale > 0."""
        low, high, origin = (scale * at + shift for at in (self.low, self.high, self.origin))
        return Interval(low, high, origin, self.cosines)

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
        k = np.arange(self.cosines.size)
        _, slope = self.position(theta)
        series = np.cos(np.multiply.outer(theta, k)) @ self.cosines
        inside = (x > self.low) & (x < self.high) & (slope > 0)
        return np.where(inside, np.maximum(series, 0.0) / np.where(inside, slope, 1.0), 0.0)

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return the mass below x within the interval."""
        return np.interp(self.angle(x), *self._table)

    def quantiles(self, mass: FloatArray) -> FloatArray:
        """Return the points below which the interval holds the given mass."""
        theta, below = self._table
        return self.position(np.interp(mass, below, theta))[0]

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        """The series integrated term by term, on a grid of θ that is much finer than its last term."""
        size = 1 << int(np.ceil(np.log2(32 * self.cosines.size)))
        theta = np.linspace(0, np.pi, size + 1)
        sines = np.zeros(size - 1)
        sines[: self.cosines.size - 1] = self.cosines[1:] / np.arange(1, self.cosines.size)
        below = self.cosines[0] * theta
        below[1:-1] += dst(sines, type=1) / 2
        return theta, np.maximum.accumulate(below)


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


def bulk(model: GramModel) -> Bulk:
    """Compute the bulk of a model's spectrum.

    Raises
    ------
    ConvergenceError
        The mixture equations could not be solved, or the density found does not have mass one.
    """
    shifts = np.unique(model.shifts)
    lowest = float(shifts[0])
    reach = model.upper_bound() - lowest
    if reach <= 1e-14 * max(1.0, abs(lowest)):
        masses = [(float(s), float(model.probabilities[model.shifts == s].sum())) for s in shifts]
        return Bulk((), tuple(masses))
    line = LineResolvent(model)
    atoms = _atoms(line, shifts, reach)
    simple = model.covariances.matrices is None
    count = _GRID if simple else _GRID_DENSE
    for _ in range(_REFINEMENTS if simple else _REFINEMENTS_DENSE):
        grid = _grid(shifts, reach, count)
        inside = _log_density(line, grid, reach) > _INSIDE
        parts = [_interval(line, *ends, reach) for ends in _edges(line, grid, inside, reach)]
        # The foot of an atom above the lowest shift looks like an interval, one without mass.
        intervals = tuple(part for part in parts if part.mass > _NEGLIGIBLE)
        found = Bulk(intervals, atoms)
        if abs(found.mass - 1) <= _MASS:
            return found
        count *= 3
    if abs(found.mass - 1) > 0.01:
        raise ConvergenceError(
            f"The predicted density has mass {found.mass:.4f} instead of 1: its support could not be resolved."
        )
    return found


def _imaginary(line: LineResolvent, x: FloatArray, reach: float) -> FloatArray:
    """Im m(x + i0)."""
    distance = np.min(abs(x[:, None] - line.model.shifts), axis=1) + _FLOOR * reach
    return np.asarray((line(x + 1j * _HEIGHT * distance) @ line.model.probabilities).imag)


def _log_density(line: LineResolvent, x: FloatArray, reach: float) -> FloatArray:
    """Density times the distance from the lowest shift."""
    return np.asarray(_imaginary(line, x, reach) / np.pi * (x - line.model.shifts.min()))


def _atoms(line: LineResolvent, shifts: FloatArray, reach: float) -> tuple[tuple[float, float], ...]:
    height = _FLOOR * reach
    masses = height * (line(shifts + 1j * height) @ line.model.probabilities).imag
    # Less than this is the foot of a density that is large near the shift, not an atom.
    return tuple((float(s), float(m)) for s, m in zip(shifts, masses, strict=True) if m > 1e-3)


def _grid(shifts: FloatArray, reach: float, count: int) -> FloatArray:
    steps = np.geomspace(_FLOOR * reach, reach, count // 2)
    points = [shifts[0] + np.linspace(0, 1, count // 2 + 1)[1:] * reach]
    points += [s + steps for s in shifts]
    points += [s - steps for s in shifts[1:]]
    grid = np.unique(np.concatenate(points))
    return grid[(grid > shifts[0]) & (grid <= shifts[0] + reach)]


def _edges(line: LineResolvent, grid: FloatArray, inside: np.ndarray, reach: float) -> list[tuple[float, float]]:
    """Locate the ends of every run of inside points: fans of points, then Im² extrapolated linearly to zero."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    starts, stops = change[::2], change[1::2] - 1
    low = float(line.model.shifts.min())
    high = low + reach * 1.001
    padded = np.concatenate([[low], grid, [high]])
    outer = np.concatenate([padded[starts], padded[stops + 2]])
    inner = np.concatenate([grid[starts], grid[stops]])
    other = np.concatenate([grid[stops], grid[starts]])
    if not outer.size:
        return []
    steps = np.linspace(0, 1, _FAN)[:, None]
    for _ in range(_FAN_ROUNDS):
        fan = outer + (inner - outer) * steps
        within = (_log_density(line, fan[1:-1].ravel(), reach) > _INSIDE).reshape(_FAN - 2, -1)
        # The first point inside, counted from the outer end.
        first = np.argmax(np.vstack([within, np.ones((1, within.shape[1]), dtype=bool)]), axis=0) + 1
        column = np.arange(first.size)
        outer, inner = fan[first - 1, column], fan[first, column]
    width = abs(outer - inner)
    # A run of a single point has met nothing but itself: its width is what the fan found.
    span = np.maximum(abs(other - inner), width)
    edge = (outer + inner) / 2
    for scale in (1e-1, 1e-2, 1e-3):
        step = np.sign(inner - outer) * np.maximum(scale * np.minimum(span, 8 * width), 1e-12 * reach)
        near, far = _imaginary(line, np.concatenate([edge + step, edge + 2 * step]), reach).reshape(2, -1) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            root = edge + step - near * step / (far - near)
        sound = (far > near) & (abs(root - edge) <= 4 * width) & np.isfinite(root)
        # A density that grows towards its end (a hard edge) has no square root there.
        edge = np.where(sound, root, edge)
    k = starts.size
    return [(float(a), float(b)) for a, b in zip(edge[:k], edge[k:], strict=True) if b > a]


def _interval(line: LineResolvent, low: float, high: float, reach: float) -> Interval:
    below = line.model.shifts[line.model.shifts <= low]
    origin = float(below.max()) if below.size else low - (high - low)
    low = max(low, origin + _FLOOR * reach)
    terms = 24
    most = _MOST_TERMS if line.model.covariances.matrices is None else _MOST_TERMS_DENSE
    while True:
        theta = (np.arange(terms) + 0.5) * np.pi / terms
        frame = Interval(low, high, origin, np.zeros(1))
        x, slope = frame.position(theta)
        values = _imaginary(line, x, reach) / np.pi * slope
        cosines = dct(values, type=2) / terms
        cosines[0] /= 2
        # What the last terms add to the distribution function.
        tail = abs(cosines[-(terms // 4) :]).sum() / terms
        if tail <= _SERIES_TAIL or terms >= most:
            return Interval(low, high, origin, cosines)
        terms *= 2
