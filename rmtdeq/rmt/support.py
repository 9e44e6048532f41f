"""Finding the bulk of a Gram model: where its support is, and the density there.

The distribution function is known at single points, from the argument of a determinant.  So what lies between two
points outside the support is known to be nothing, or halved until a point of the support is met; the ends of the
support are found from within, as roots of Im² which is linear there.  Intervals are halved by the logarithm of the
distance from the nearest shift: how many decades the spectrum spans costs next to nothing.  On each interval of the
support the density is expanded on panels that are halved until every series has converged; nodes that turn out to lie
in a gap go back to the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre

from rmtdeq._errors import ConvergenceError
from rmtdeq._types import BoolArray, ComplexArray, FloatArray
from rmtdeq.rmt.density import Bulk, Interval
from rmtdeq.rmt.model import GramModel
from rmtdeq.rmt.resolvent import LineResolvent, distribution

_HEIGHT = 1e-10  # of the imaginary part at which densities are read, relative to the distance from the shifts
_FLOOR = 1e-11  # of the range: closer to a shift than this is an atom
_APART = 1e3  # floors: shifts closer than this are one, lest the foot of one's atom be counted at the other
_BEYOND = 1.001  # of the range: a point above the support
_INSIDE = 1e-6  # Im m, relative to |q|, that counts as inside the support
_HIDDEN = 1e-6  # mass that is looked for
_CLOSE = 1e-9  # points this close, relative to their distance from the nearest shift, are not told apart
_SEARCHES = 20
_HALVINGS = 60
_SHRINK = 0.05  # of the distance from an end, at every step towards it
_END = 1e-8
_BESIDE = 1e-3
_WRONG = 1e-2
_NEGLIGIBLE = 1e-8
_LEAST = 1e-5  # of an atom
_NODES = 12
_PANEL_ERROR = 1e-6
_PANEL_ERROR_DEAR = 1e-5
_NARROWEST = 1e-12


@dataclass(frozen=True, eq=False)
class _Line:
    """What the searches below share: solutions near the real axis, and the range they scan."""

    resolvent: LineResolvent
    shifts: FloatArray
    reach: float

    @property
    def dear(self) -> bool:
        return self.resolvent.model.dear

    @property
    def floor(self) -> float:
        return _FLOOR * self.reach

    def nearest(self, x: FloatArray) -> FloatArray:
        """The shift nearest to each point."""
        return self.shifts[np.argmin(abs(x[:, None] - self.shifts), axis=1)]

    def above(self, x: FloatArray) -> ComplexArray:
        """The points just above x at which equations are solved."""
        return x + 1j * _HEIGHT * (abs(x - self.nearest(x)) + self.floor)

    def solve(self, x: FloatArray, guess: ComplexArray | None = None) -> ComplexArray:
        """q_a(x + i0)."""
        return self.resolvent(self.above(x), guess)

    def imaginary(self, q: ComplexArray) -> FloatArray:
        """Im m."""
        return np.asarray((q @ self.resolvent.model.probabilities).imag)

    def inside(self, q: ComplexArray) -> BoolArray:
        """Whether points are inside the support."""
        return np.asarray(self.imaginary(q) > _INSIDE * (abs(q) @ self.resolvent.model.probabilities))

    def middle(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Points in between, halfway by the logarithm of the distance from the nearest shift."""
        centre = (a + b) / 2
        shift = self.nearest(centre)
        left, right = a - shift, b - shift
        same = left * right > 0
        return np.where(same, shift + np.sign(right) * np.sqrt(np.where(same, left * right, 0.0)), centre)

    def apart(self, a: FloatArray, b: FloatArray) -> BoolArray:
        """Whether points are told apart."""
        centre = (a + b) / 2
        return np.asarray(abs(b - a) > 3 * self.floor + _CLOSE * abs(centre - self.nearest(centre)))


@dataclass(frozen=True, eq=False)
class _Scan:
    """Points of the line, ascending."""

    x: FloatArray
    below: FloatArray
    inside: BoolArray

    @classmethod
    def of(cls, line: _Line, x: FloatArray) -> _Scan:
        """Scan points (points,)."""
        x = np.unique(x)
        q = line.solve(x)
        return cls(x, distribution(line.resolvent.model, line.above(x), q), line.inside(q))

    def joined(self, other: _Scan) -> _Scan:
        """Return the scan of the points of both."""
        x, order = np.unique(np.concatenate([self.x, other.x]), return_index=True)
        return _Scan(
            x, np.concatenate([self.below, other.below])[order], np.concatenate([self.inside, other.inside])[order]
        )

    def hidden(self, line: _Line) -> FloatArray:
        """Return points in between neighbours outside the support that have some of the spectrum between them."""
        a, b = self.x[:-1], self.x[1:]
        outside = ~self.inside[:-1] & ~self.inside[1:]
        held = outside & (np.diff(self.below) > _HIDDEN) & line.apart(a, b)
        return line.middle(a[held], b[held])


def bulk(model: GramModel) -> Bulk:
    """Compute the bulk of a model's spectrum.

    Raises
    ------
    ConvergenceError
        The mixture equations could not be solved, or the density found does not have mass one.
    """
    shifts = np.unique(model.shifts)
    lowest = float(shifts[0])
    reach = model.upper_bound - lowest
    if reach <= 1e-14 * max(1.0, abs(lowest)):
        return Bulk((), point_masses(model.shifts, model.probabilities))
    groups = np.concatenate([[0], np.cumsum(np.diff(shifts) > _APART * _FLOOR * reach)])
    merged = np.array([shifts[groups == g].mean() for g in range(groups[-1] + 1)])
    model = replace(model, shifts=merged[groups[np.searchsorted(shifts, model.shifts)]])
    line = _Line(LineResolvent(model), merged, reach)
    top = merged[0] + _BEYOND * reach
    between = (merged[:-1] + merged[1:]) / 2
    scan = _Scan.of(line, np.concatenate([merged[1:] - line.floor, merged + line.floor, between, [top]]))
    atoms = _atoms(line, scan)
    parts: list[Interval] = []
    for _ in range(_SEARCHES):
        for _ in range(_HALVINGS):
            middle = scan.hidden(line)
            if not middle.size:
                break
            scan = scan.joined(_Scan.of(line, middle))
        ends, beside = _ends(line, scan)
        scan = scan.joined(_Scan.of(line, beside))
        # What lay between an end and the point outside that it was sought from shows now.
        if scan.hidden(line).size:
            continue
        parts, stray = _intervals(line, ends)
        found = _Scan.of(line, stray)
        gaps = _gaps(found, scan, ends)
        if not gaps.x.size:
            break
        scan = scan.joined(gaps)
    law = Bulk(tuple(part for part in parts if part.mass > _NEGLIGIBLE), atoms)
    if abs(law.mass - 1) > _WRONG:
        raise ConvergenceError(
            f"The predicted density has mass {law.mass:.4f} instead of 1: its support could not be resolved."
        )
    return law


def point_masses(positions: FloatArray, masses: FloatArray) -> tuple[tuple[float, float], ...]:
    """Return the distinct positions, ascending, each with its mass."""
    return tuple((float(at), float(masses[positions == at].sum())) for at in np.unique(positions))


def _atoms(line: _Line, scan: _Scan) -> tuple[tuple[float, float], ...]:
    """Return the jumps of the distribution function at the shifts."""
    before = np.concatenate([[0.0], scan.below[np.searchsorted(scan.x, line.shifts[1:] - line.floor)]])
    masses = scan.below[np.searchsorted(scan.x, line.shifts + line.floor)] - before
    return tuple((float(s), float(m)) for s, m in zip(line.shifts, masses, strict=True) if m > _LEAST)


def _gaps(found: _Scan, scan: _Scan, ends: list[tuple[float, float]]) -> _Scan:
    """Return those points of intervals that lie in gaps: outside the support, and mass on both sides of them."""
    keep = np.zeros(found.x.size, dtype=bool)
    for low, high in ends:
        before, after = scan.below[[np.searchsorted(scan.x, low) - 1, np.searchsorted(scan.x, high)]]
        within = (found.x > low) & (found.x < high) & ~found.inside
        keep |= within & (found.below > before + _HIDDEN) & (found.below < after - _HIDDEN)
    return _Scan(found.x[keep], found.below[keep], found.inside[keep])


def _ends(line: _Line, scan: _Scan) -> tuple[list[tuple[float, float]], FloatArray]:
    """Locate both ends of every run of inside points: secants of Im², which is linear there, from within.

    Returns
    -------
    list of (float, float)
    ndarray
        Points beside the ends: a little outside, and as far inside as the search has come.
    """
    change = np.flatnonzero(np.diff(np.concatenate([[False], scan.inside, [False]]).astype(int)))
    starts, stops = change[::2], change[1::2] - 1
    padded = np.concatenate([line.shifts[:1], scan.x, scan.x[-1:]])
    outer = np.concatenate([padded[starts], padded[stops + 2]])
    inner = np.concatenate([scan.x[starts], scan.x[stops]])
    end, further = inner.copy(), inner.copy()
    square = np.full(inner.shape, np.nan)
    further_square = square.copy()
    square[:] = line.imaginary(line.solve(inner)) ** 2
    active = np.flatnonzero(line.apart(outer, inner))
    for _ in range(_HALVINGS):
        if not active.size:
            break
        o, i = outer[active], inner[active]
        falls = square[active] < further_square[active]
        rate = np.where(falls, (further_square[active] - square[active]), 1.0)
        root = i - np.where(falls, square[active] * (further[active] - i) / rate, np.inf)
        # A density that grows towards its end (a hard edge) has no square root there.
        sound = falls & (abs(root - i) < abs(o - i))
        trial = np.where(sound, root + _SHRINK * (i - root), line.middle(o, i))
        done = (sound & (abs(root - end[active]) <= _END * abs(root - line.nearest(root)))) | ~line.apart(o, i)
        end[active] = np.where(sound, root, np.where(done, i, end[active]))
        active, trial = active[~done], trial[~done]
        q = line.solve(trial)
        within = line.inside(q)
        outer[active[~within]] = trial[~within]
        moved = active[within]
        further[moved], further_square[moved] = inner[moved], square[moved]
        inner[moved], square[moved] = trial[within], line.imaginary(q[within]) ** 2
    k = starts.size
    low, high = end[:k], end[k:]
    beside = end + np.sign(outer - end) * np.minimum(_BESIDE * np.tile(high - low, 2), abs(outer - end) / 2)
    return list(zip(low.tolist(), high.tolist(), strict=True)), np.concatenate([beside, inner])


def _intervals(line: _Line, ends: list[tuple[float, float]]) -> tuple[list[Interval], FloatArray]:
    """Expand the density on every interval, all panels of one size in one go.

    Returns
    -------
    list of Interval
    ndarray
        Nodes that seem to lie outside the support.
    """
    if not ends:
        return [], np.empty(0)
    nodes, weights = legendre.leggauss(_NODES)
    to_coefficients = (np.arange(_NODES) + 0.5)[:, None] * legendre.legvander(nodes, _NODES - 1).T * weights
    # Values of a series at the nodes of both halves of its panel: there the next solutions start.
    halves = [legendre.legvander((nodes + side) / 2, _NODES - 1) @ to_coefficients for side in (-1, 1)]
    frames = [_frame(line, low, high) for low, high in ends]
    starts = [_first_breaks(line, frame) for frame in frames]
    owner = np.repeat(np.arange(len(frames)), [b.size - 1 for b in starts])
    left, right = np.concatenate([b[:-1] for b in starts]), np.concatenate([b[1:] for b in starts])
    guess = None
    most = _PANEL_ERROR_DEAR if line.dear else _PANEL_ERROR
    done: list[tuple[np.ndarray, FloatArray, FloatArray]] = []
    stray: list[FloatArray] = []
    while owner.size:
        theta = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * nodes
        x, slope = np.empty_like(theta), np.empty_like(theta)
        for k, frame in enumerate(frames):
            mine = owner == k
            x[mine], slope[mine] = frame.position(theta[mine])
        q = line.solve(x.ravel(), guess)
        stray.append(x.ravel()[~line.inside(q)])
        values = line.imaginary(q).reshape(x.shape) / np.pi * slope
        coefficients = values @ to_coefficients.T
        width = right - left
        error = width * abs(coefficients[:, 2 * _NODES // 3 :]).max(axis=1)
        good = (error <= most) | (width < _NARROWEST)
        done.append((owner[good], left[good], coefficients[good]))
        middle = (left + right)[~good] / 2
        left, right = np.concatenate([left[~good], middle]), np.concatenate([middle, right[~good]])
        owner = np.tile(owner[~good], 2)
        rest = q.reshape(*x.shape, -1)[~good]
        guess = np.concatenate([np.einsum("ij,pja->pia", half, rest) for half in halves]).reshape(-1, q.shape[1])
    owners, lefts, series = (np.concatenate(parts) for parts in zip(*done, strict=True))
    result = []
    for k, frame in enumerate(frames):
        mine = np.flatnonzero(owners == k)
        mine = mine[np.argsort(lefts[mine])]
        result.append(Interval(frame.low, frame.high, frame.origin, np.append(lefts[mine], np.pi), series[mine]))
        _add_foot(line, result[-1])
    return result, np.concatenate(stray)


def _add_foot(line: _Line, part: Interval) -> None:
    """Give the first panel the mass between a shift and an interval that begins there, of density |x - λ|^{-1/2}."""
    distance = part.low - part.origin
    if distance <= 1.5 * line.floor:
        density = float(line.imaginary(line.solve(np.array([part.low])))[0]) / np.pi
        part.coefficients[0, 0] += 2 * density * distance / (part.breaks[1] - part.breaks[0])


def _frame(line: _Line, low: float, high: float) -> Interval:
    """Return an interval that knows its map from θ, and no density yet."""
    below = line.shifts[line.shifts <= low]
    origin = float(below.max()) if below.size else low - (high - low)
    return Interval(max(low, origin + line.floor), high, origin, np.array([0.0, np.pi]), np.zeros((1, 1)))


def _first_breaks(line: _Line, frame: Interval) -> FloatArray:
    """Panels to begin with: they end at the shifts inside the interval, where the density may peak."""
    shifts = line.shifts
    inside = shifts[(shifts > frame.low) & (shifts < frame.high)]
    return np.unique(np.concatenate([[0.0, np.pi / 2, np.pi], frame.angle(inside)]))
