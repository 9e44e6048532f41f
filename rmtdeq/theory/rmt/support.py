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

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import BoolArray, ComplexArray, FloatArray
from rmtdeq.theory.rmt.density import Bulk, Interval
from rmtdeq.theory.rmt.model import GramModel
from rmtdeq.theory.rmt.resolvent import LineResolvent, distribution

_HEIGHT = 1e-10  # of the imaginary part at which densities are read, relative to the distance from the shifts
_FLOOR = 1e-11  # of the range: closer to a shift than this is an atom
_APART = 1e3  # floors: shifts closer than this are one, lest the foot of one's atom be counted at the other
_BEYOND = 1.001  # of the range: a point above the support
_INSIDE = 1e-6  # Im m, relative to |q|, that counts as inside the support
_HIDDEN = 1e-6  # mass that is looked for
_TRAPEZIUM = 0.03  # of a trapezium's mass,
_ROUGHLY = 1e-5  # and mass, that a scan may be off
_VALLEY = 1.25
_NEAR = 0.2  # of the distance from a shift, that the last point inside may be from an end
_CLOSE = 1e-9  # points this close, relative to their distance from the nearest shift, are not told apart
_SEARCHES = 20
_HALVINGS = 60
_SHRINK = 0.15  # of the distance from an end, at every step towards it
_END = 1e-7
_BESIDE = 1e-3
_WRONG = 1e-2
_NEGLIGIBLE = 1e-8
_LEAST = 1e-5  # of an atom
_NODES = 12
_TAIL = 3  # last terms of a series that must be small
_PANEL_ERROR = 1e-5
_NARROWEST = 1e-12
_EVEN = 1.5  # the largest density about a shift over the smallest where it does not peak

_Pair = tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Line:
    """What the searches below share: solutions near the real axis, and the range they scan."""

    resolvent: LineResolvent
    shifts: FloatArray
    reach: float

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
    """Points of the line, ascending.

    Attributes
    ----------
    x : ndarray (points,)
    below : ndarray (points,)
        The fraction of the spectrum below.
    density : ndarray (points,)
        0 outside the support.
    """

    x: FloatArray
    below: FloatArray
    density: FloatArray

    @classmethod
    def of(cls, line: _Line, x: FloatArray) -> _Scan:
        """Scan points (points,)."""
        x = np.unique(x)
        q = line.solve(x)
        density = np.where(line.inside(q), line.imaginary(q) / np.pi, 0.0)
        return cls(x, distribution(line.resolvent.model, line.above(x), q), density)

    @property
    def inside(self) -> BoolArray:
        return self.density > 0

    def joined(self, other: _Scan) -> _Scan:
        """Return the scan of the points of both."""
        x, order = np.unique(np.concatenate([self.x, other.x]), return_index=True)
        below, density = np.concatenate([self.below, other.below]), np.concatenate([self.density, other.density])
        return _Scan(x, below[order], density[order])

    def extended(self, line: _Line, x: FloatArray) -> _Scan:
        """Return the scan of these points as well.

        A solution that is real but for rounding may be a wrong one; where the distribution function does not ascend
        at a new point, all points that contradict one another are solved once more.
        """
        both = self.joined(_Scan.of(line, x))
        before = np.maximum.accumulate(np.append(0.0, both.below))[:-1]
        after = np.minimum.accumulate(np.append(1.0, both.below[::-1]))[:-1][::-1]
        wrong = both.x[(both.below < before - _HIDDEN) | (both.below > after + _HIDDEN)]
        if np.isin(wrong, x).any():
            line.resolvent.afresh(line.above(wrong))
            kept = self.taken(~np.isin(self.x, wrong))
            both = kept.joined(_Scan.of(line, np.concatenate([x, wrong])))
        return both

    def taken(self, keep: BoolArray) -> _Scan:
        """Return the scan of some of the points."""
        return _Scan(self.x[keep], self.below[keep], self.density[keep])

    def runs(self, line: _Line) -> list[tuple[_Pair, _Pair]]:
        """Return the runs of points inside, as pairs of neighbours at both ends: one outside, one inside."""
        change = np.flatnonzero(np.diff(np.concatenate([[False], self.inside, [False]]).astype(int)))
        x = np.concatenate([line.shifts[:1], self.x]).tolist()
        return [((x[i], x[i + 1]), (x[j + 1], x[j])) for i, j in zip(change[::2], change[1::2], strict=True)]

    def unexplained(self, line: _Line) -> FloatArray:
        """Return points between neighbours whose densities do not tell how much of the spectrum lies there."""
        a, b = self.x[:-1], self.x[1:]
        mass, middle = np.diff(self.below), line.middle(a, b)
        left, right = self.density[:-1], self.density[1:]
        # Between points inside, the trapezium on a logarithmic scale; next to a point outside, a root that ends there
        # or before; between points outside, nothing.
        shift = line.nearest(middle)
        near, far = (np.maximum(abs(x - shift), line.floor) for x in (a, b))
        per_log = (left * near + right * far) / 2
        trapezium = per_log * abs(np.log(far / near))
        within, without = (left > 0) & (right > 0), (left <= 0) & (right <= 0)
        told = np.where(
            within,
            abs(mass - trapezium) <= _TRAPEZIUM * mass + _ROUGHLY,
            np.where(
                without, mass <= _HIDDEN, mass <= np.minimum(2 * _NEAR * per_log, (left + right) * abs(b - a) / 3)
            ),
        )
        # A valley that steepens towards its bottom may have a gap there.
        height = self.density * abs(self.x - line.nearest(self.x))
        valley = np.zeros(self.x.size, dtype=bool)
        valley[1:-1] = self.inside[1:-1] & (height[1:-1] < np.minimum(height[:-2], height[2:]))
        valley[1:-1] &= (height[:-2] + height[2:]) / 2 > _VALLEY * height[1:-1]
        told &= ~(within & (valley[:-1] | valley[1:]))
        seek = ~told & (mass > _HIDDEN) & line.apart(a, b)
        return middle[seek]


_NOTHING = _Scan(np.empty(0), np.empty(0), np.empty(0))


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
    # An atom holds whatever is closer to it than can be told apart: intervals end there.
    at = np.array([position for position, _ in atoms])
    scan = scan.joined(_Scan(at, scan.below[np.searchsorted(scan.x, at + line.floor)], np.zeros(at.size)))
    ends: dict[_Pair, float] = {}
    parts: dict[_Pair, Interval] = {}
    for _ in range(_SEARCHES):
        for _ in range(_HALVINGS):
            middle = scan.unexplained(line)
            if not middle.size:
                break
            scan = scan.extended(line, middle)
        runs = scan.runs(line)
        found = _ends(line, scan, [pair for run in runs for pair in run if pair not in ends])
        ends |= found
        missed = _beside(line, scan, found)
        support = {(ends[first], ends[last]) for first, last in runs}
        if not missed.x.size:
            done, missed = _intervals(line, scan, sorted(support - parts.keys()), atoms)
            parts |= done
        if not missed.x.size:
            break
        scan = scan.joined(missed)
    law = Bulk(tuple(parts[pair] for pair in sorted(support & parts.keys()) if parts[pair].mass > _NEGLIGIBLE), atoms)
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


def _ends(line: _Line, scan: _Scan, pairs: list[_Pair]) -> dict[_Pair, float]:
    """Locate ends of the support in between points outside and inside: secants of Im², linear there, from within."""
    if not pairs:
        return {}
    outer, inner = np.array(pairs).T
    # An end before the first point is that point, not apart from it.
    start, beyond = np.searchsorted(scan.x, inner), np.searchsorted(scan.x, outer)
    apart = line.apart(outer, inner)
    # Next to its end a density is a root, of mass two thirds of height times width.
    width = 1.5 * abs(scan.below[start] - scan.below[beyond]) / scan.density[start]
    root = inner + np.sign(outer - inner) * width
    end = np.where(apart, root, inner)
    q = line.solve(inner)
    square = line.imaginary(q) ** 2
    active = np.flatnonzero(apart)
    for _ in range(_HALVINGS):
        if not active.size:
            break
        o, i, r = outer[active], inner[active], root[active]
        sound = (abs(r - i) < abs(o - i)) & ((r - i) * (o - i) > 0)
        trial = np.where(sound, r + _SHRINK * (i - r), line.middle(o, i))
        # Solutions, too, are linear in the square root of the distance from the end.
        q_i = q[active]
        new = line.solve(trial, q_i.real + 1j * q_i.imag * np.where(sound, _SHRINK, 0.25)[:, None] ** 0.5)
        within = line.inside(new)
        outer[active[~within]] = trial[~within]
        moved = active[within]
        value = line.imaginary(new[within]) ** 2
        falls = value < square[moved]
        # A density that grows towards its end (a hard edge) has no square root there.
        rate = np.where(falls, (square[moved] - value) / (trial[within] - inner[moved]), 1.0)
        root[moved] = np.where(falls, trial[within] + value / rate, np.nan)
        inner[moved], q[moved], square[moved] = trial[within], new[within], value
        found = abs(root[active] - end[active]) <= _END * abs(root[active] - line.nearest(inner[active]))
        narrow = ~line.apart(outer[active], inner[active])
        end[active] = np.where(narrow & ~found, inner[active], root[active])
        active = active[~(found & within) & ~narrow]
    # A secant through points next to a shift may lead past the points that the end is known to lie between.
    end = np.clip(end, np.minimum(outer, inner), np.maximum(outer, inner))
    return dict(zip(pairs, end.tolist(), strict=True))


def _beside(line: _Line, scan: _Scan, ends: dict[_Pair, float]) -> _Scan:
    """Return points beside ends where it shows that part of the spectrum is hidden before the next point outside."""
    if not ends:
        return _NOTHING
    outer = np.array(list(ends))[:, 0]
    end = np.array(list(ends.values()))
    away = end + (outer - end) * _BESIDE
    far = line.apart(away, end)
    found = _Scan.of(line, away[far])
    padded = np.append(scan.below, 0.0)
    at = np.where(outer < scan.x[0], -1, np.searchsorted(scan.x, outer))
    before = padded[at[far][np.argsort(away[far])]]
    return found.taken(abs(found.below - before) > _HIDDEN)


def _gaps(line: _Line, x: FloatArray, scan: _Scan, ends: list[_Pair]) -> _Scan:
    """Return those points of intervals that lie in gaps: outside the support, and mass on both sides of them."""
    found = _Scan.of(line, x)
    keep = np.zeros(found.x.size, dtype=bool)
    padded = np.concatenate([[0.0], scan.below])
    for low, high in ends:
        before, after = padded[np.searchsorted(scan.x, low)], padded[np.searchsorted(scan.x, high) + 1]
        within = (found.x > low) & (found.x < high) & ~found.inside
        keep |= within & (found.below > before + _HIDDEN) & (found.below < after - _HIDDEN)
    return found.taken(keep)


def _intervals(
    line: _Line, scan: _Scan, ends: list[_Pair], atoms: tuple[tuple[float, float], ...]
) -> tuple[dict[_Pair, Interval], _Scan]:
    """Expand the density on intervals, all panels of one size in one go.

    Returns
    -------
    dict of Interval
        Those in which no gap was met.
    _Scan
        Nodes that turned out to lie in gaps.
    """
    if not ends:
        return {}, _NOTHING
    nodes, weights = legendre.leggauss(_NODES)
    to_coefficients = (np.arange(_NODES) + 0.5)[:, None] * legendre.legvander(nodes, _NODES - 1).T * weights
    frames = [_frame(line, low, high) for low, high in ends]
    starts = [_first_breaks(scan, line, frame) for frame in frames]
    owner = np.repeat(np.arange(len(frames)), [b.size - 1 for b in starts])
    left, right = np.concatenate([b[:-1] for b in starts]), np.concatenate([b[1:] for b in starts])
    done: list[tuple[np.ndarray, FloatArray, FloatArray]] = []
    gaps, whole = _NOTHING, np.ones(len(ends), dtype=bool)
    while owner.size:
        theta = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * nodes
        x, slope = np.empty_like(theta), np.empty_like(theta)
        for k in np.unique(owner):
            mine = owner == k
            x[mine], slope[mine] = frames[k].position(theta[mine])
        q = line.solve(x.ravel())
        values = line.imaginary(q).reshape(x.shape) / np.pi * slope
        coefficients = values @ to_coefficients.T
        width = right - left
        error = width * abs(coefficients[:, -_TAIL:]).max(axis=1)
        good = (error <= _PANEL_ERROR) | (width < _NARROWEST)
        stray = ~line.inside(q)
        if stray.any():
            met = _gaps(line, x.ravel()[stray], scan, ends)
            gaps = gaps.joined(met)
            whole &= [not ((low < met.x) & (met.x < high)).any() for low, high in ends]
        done.append((owner[good], left[good], coefficients[good]))
        rest = ~good & whole[owner]
        middle = (left + right)[rest] / 2
        left, right = np.concatenate([left[rest], middle]), np.concatenate([middle, right[rest]])
        owner = np.tile(owner[rest], 2)
    owners, lefts, series = (np.concatenate(parts) for parts in zip(*done, strict=True))
    result = {}
    for k in np.flatnonzero(whole):
        frame, mine = frames[k], np.flatnonzero(owners == k)
        mine = mine[np.argsort(lefts[mine])]
        part = Interval(frame.low, frame.high, frame.origin, np.append(lefts[mine], np.pi), series[mine])
        if part.origin not in dict(atoms):
            _add_foot(line, part)
        result[ends[k]] = part
    return result, gaps


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


def _first_breaks(scan: _Scan, line: _Line, frame: Interval) -> FloatArray:
    """Panels to begin with: they end at those shifts inside the interval where the density may peak."""
    shifts = line.shifts[(line.shifts > frame.low) & (line.shifts < frame.high)]
    at = np.searchsorted(scan.x, shifts)
    # Points stand close to both sides of every shift, and beyond them others.
    around = scan.density[at[:, None] + np.arange(-2, 2)] if shifts.size else np.empty((0, 4))
    even = around.max(axis=1) <= _EVEN * around.min(axis=1)
    return np.unique(np.concatenate([[0.0, np.pi], frame.angle(shifts[~even])]))
