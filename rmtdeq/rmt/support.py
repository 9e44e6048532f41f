"""Finding the bulk of a Gram model: where its support is, and the density there.

Points on a grid tell inside from outside, fans of points close in on every end, and an extrapolation of Im² to zero
locates it.  On each interval the density is expanded on panels that are halved until every series has converged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre

from rmtdeq._errors import ConvergenceError
from rmtdeq._types import ComplexArray, FloatArray
from rmtdeq.rmt.density import Bulk, Interval
from rmtdeq.rmt.model import GramModel
from rmtdeq.rmt.resolvent import LineResolvent

_HEIGHT = 1e-10  # of the imaginary part at which densities are read, relative to the distance from the shifts
_FLOOR = 1e-11  # of the range: closer to a shift than this is an atom
_APART = 1e3  # floors: shifts closer than this are one, lest the foot of one's atom be counted at the other
_INSIDE = 3e-5  # density times distance that counts as inside the support
_GRID = 500
_GRID_DEAR = 240
_FAN = 18
_FAN_ROUNDS = 2
_ROUNDS = 4
_MASS = 1e-5
_WRONG = 1e-2
_AWAY = 0.02
_NEGLIGIBLE = 1e-8
_LEAST = 1e-5  # of an atom
_NODES = 12
_PANEL_ERROR = 1e-7
_PANEL_ERROR_DEAR = 1e-5
_NARROWEST = 1e-12


@dataclass(frozen=True, eq=False)
class _Line:
    """What the searches below share: solutions near the real axis, the range they scan, the atoms in it."""

    resolvent: LineResolvent
    reach: float
    atoms: tuple[tuple[float, float], ...] = ()

    @property
    def shifts(self) -> FloatArray:
        return self.resolvent.model.shifts

    @property
    def dear(self) -> bool:
        return self.resolvent.model.dear

    def transform(self, z: ComplexArray) -> ComplexArray:
        """m(z), atoms included."""
        return np.asarray(self.resolvent(z) @ self.resolvent.model.probabilities)

    def imaginary(self, x: FloatArray) -> FloatArray:
        """Im m(x + i0), atoms left out."""
        distance = np.min(abs(x[:, None] - self.shifts), axis=1) + _FLOOR * self.reach
        z = x + 1j * _HEIGHT * distance
        feet = sum((mass / (at - z) for at, mass in self.atoms), np.zeros(z.shape, dtype=complex))
        return np.asarray((self.transform(z) - feet).imag)

    def inside(self, x: FloatArray) -> np.ndarray:
        """Whether points are inside the support: by the density times the distance from the lowest shift."""
        return np.asarray(self.imaginary(x) / np.pi * (x - self.shifts.min()) > _INSIDE)


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
    shifts = merged
    line = _Line(LineResolvent(model), reach)
    line = replace(line, atoms=_atoms(line))
    count = _GRID_DEAR if model.dear else _GRID
    grid = _grid(line, count)
    parts: list[Interval] = []
    for _ in range(_ROUNDS):
        new = _intervals(line, _edges(line, grid, line.inside(grid)))
        # What is left of an atom's foot above the lowest shift looks like an interval, one without mass.
        parts = _joined(line, parts + [part for part in new if part.mass > _NEGLIGIBLE])
        found = Bulk(tuple(parts), line.atoms)
        if abs(found.mass - 1) <= _MASS:
            break
        # Something narrow was stepped over: look closer between what was found.
        count *= 3
        grid = _between(found, _grid(line, count))
    if abs(found.mass - 1) > _WRONG:
        raise ConvergenceError(
            f"The predicted density has mass {found.mass:.4f} instead of 1: its support could not be resolved."
        )
    return found


def point_masses(positions: FloatArray, masses: FloatArray) -> tuple[tuple[float, float], ...]:
    """Return the distinct positions, ascending, each with its mass."""
    return tuple((float(at), float(masses[positions == at].sum())) for at in np.unique(positions))


def _joined(line: _Line, parts: list[Interval]) -> list[Interval]:
    """Sort intervals; those that overlap are one, of which a gap or a dip was taken for the end before."""
    apart: list[Interval] = []
    groups: list[list[float]] = []
    for part in sorted(parts, key=lambda part: part.low):
        if groups and part.low < groups[-1][1]:
            groups[-1][1] = max(groups[-1][1], part.high)
            groups[-1][2] += 1
        else:
            groups.append([part.low, part.high, 1])
            apart.append(part)
    hulls = iter(_intervals(line, [(low, high) for low, high, count in groups if count > 1]))
    return [part if count == 1 else next(hulls) for part, (_, _, count) in zip(apart, groups, strict=True)]


def _between(law: Bulk, grid: FloatArray) -> FloatArray:
    """Return the points of a grid that lie in the gaps of a law, a little away from the ends."""
    keep = np.ones(grid.size, dtype=bool)
    ends = [-np.inf, *np.ravel([(part.low, part.high) for part in law.intervals]), np.inf]
    for i, part in enumerate(law.intervals):
        before, after = part.low - ends[2 * i], ends[2 * i + 3] - part.high
        width = part.high - part.low
        low, high = part.low - _AWAY * min(before, width), part.high + _AWAY * min(after, width)
        keep &= (grid < low) | (grid > high)
    return grid[keep]


def _atoms(line: _Line) -> tuple[tuple[float, float], ...]:
    shifts = np.unique(line.shifts)
    heights = np.array([[1.0], [9.0]]) * _FLOOR * line.reach
    near, far = heights * line.transform((shifts + 1j * heights).ravel()).imag.reshape(2, -1)
    # A density that is infinite at the shift, like |x - λ|^{-1/2}, adds what grows like the root of the height.
    masses = near - (far - near) / 2
    return tuple((float(s), float(m)) for s, m in zip(shifts, masses, strict=True) if m > _LEAST)


def _grid(line: _Line, count: int) -> FloatArray:
    shifts, reach = np.unique(line.shifts), line.reach
    # Shifts are many only where classes are, and they are close together then.
    steps = np.geomspace(_FLOOR * reach, reach, int(count / 2 / np.sqrt(shifts.size)))
    points = [shifts[0] + np.linspace(0, 1, count // 2 + 1)[1:] * reach]
    points += [s + steps for s in shifts]
    points += [s - steps for s in shifts[1:]]
    grid = np.unique(np.concatenate(points))
    return grid[(grid > shifts[0]) & (grid <= shifts[0] + reach)]


def _edges(line: _Line, grid: FloatArray, inside: np.ndarray) -> list[tuple[float, float]]:
    """Locate the ends of every run of inside points: fans of points, then Im² extrapolated linearly to zero."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    starts, stops = change[::2], change[1::2] - 1
    low = float(line.shifts.min())
    high = low + line.reach * 1.001
    padded = np.concatenate([[low], grid, [high]])
    outer = np.concatenate([padded[starts], padded[stops + 2]])
    inner = np.concatenate([grid[starts], grid[stops]])
    other = np.concatenate([grid[stops], grid[starts]])
    if not outer.size:
        return []
    steps = np.linspace(0, 1, _FAN)[:, None]
    for _ in range(_FAN_ROUNDS):
        fan = outer + (inner - outer) * steps
        within = line.inside(fan[1:-1].ravel()).reshape(_FAN - 2, -1)
        # The first point inside, counted from the outer end.
        first = np.argmax(np.vstack([within, np.ones((1, within.shape[1]), dtype=bool)]), axis=0) + 1
        column = np.arange(first.size)
        outer, inner = fan[first - 1, column], fan[first, column]
    width = abs(outer - inner)
    # A run of a single point has met nothing but itself: its width is what the fan found.
    span = np.maximum(abs(other - inner), width)
    edge = (outer + inner) / 2
    for scale in (1e-1, 1e-2, 1e-3):
        step = np.sign(inner - outer) * np.maximum(scale * np.minimum(span, 8 * width), 1e-12 * line.reach)
        near, far = line.imaginary(np.concatenate([edge + step, edge + 2 * step])).reshape(2, -1) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            root = edge + step - near * step / (far - near)
        sound = (far > near) & (abs(root - edge) <= 4 * width) & np.isfinite(root)
        # A density that grows towards its end (a hard edge) has no square root there.
        edge = np.where(sound, root, edge)
    k = starts.size
    return [(float(a), float(b)) for a, b in zip(edge[:k], edge[k:], strict=True) if b > a]


def _intervals(line: _Line, ends: list[tuple[float, float]]) -> list[Interval]:
    """Expand the density on every interval, all panels of one size in one go."""
    if not ends:
        return []
    nodes, weights = legendre.leggauss(_NODES)
    to_coefficients = (np.arange(_NODES) + 0.5)[:, None] * legendre.legvander(nodes, _NODES - 1).T * weights
    frames = [_frame(line, low, high) for low, high in ends]
    starts = [_first_breaks(line, frame) for frame in frames]
    owner = np.repeat(np.arange(len(frames)), [b.size - 1 for b in starts])
    left, right = np.concatenate([b[:-1] for b in starts]), np.concatenate([b[1:] for b in starts])
    most = _PANEL_ERROR_DEAR if line.dear else _PANEL_ERROR
    done: list[tuple[np.ndarray, FloatArray, FloatArray]] = []
    while owner.size:
        theta = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * nodes
        x, slope = np.empty_like(theta), np.empty_like(theta)
        for k, frame in enumerate(frames):
            mine = owner == k
            x[mine], slope[mine] = frame.position(theta[mine])
        values = line.imaginary(x.ravel()).reshape(x.shape) / np.pi * slope
        coefficients = values @ to_coefficients.T
        width = right - left
        error = width * abs(coefficients[:, 2 * _NODES // 3 :]).max(axis=1)
        good = (error <= most) | (width < _NARROWEST)
        done.append((owner[good], left[good], coefficients[good]))
        middle = (left + right)[~good] / 2
        left, right = np.concatenate([left[~good], middle]), np.concatenate([middle, right[~good]])
        owner = np.tile(owner[~good], 2)
    owners, lefts, series = (np.concatenate(parts) for parts in zip(*done, strict=True))
    result = []
    for k, frame in enumerate(frames):
        mine = np.flatnonzero(owners == k)
        mine = mine[np.argsort(lefts[mine])]
        result.append(Interval(frame.low, frame.high, frame.origin, np.append(lefts[mine], np.pi), series[mine]))
        _add_foot(line, result[-1])
    return result


def _add_foot(line: _Line, part: Interval) -> None:
    """Give the first panel the mass between a shift and an interval that begins there, of density |x - λ|^{-1/2}."""
    distance = part.low - part.origin
    if distance <= 1.5 * _FLOOR * line.reach:
        density = float(line.imaginary(np.array([part.low]))[0]) / np.pi
        part.coefficients[0, 0] += 2 * density * distance / (part.breaks[1] - part.breaks[0])


def _frame(line: _Line, low: float, high: float) -> Interval:
    """Return an interval that knows its map from θ, and no density yet."""
    below = line.shifts[line.shifts <= low]
    origin = float(below.max()) if below.size else low - (high - low)
    return Interval(max(low, origin + _FLOOR * line.reach), high, origin, np.array([0.0, np.pi]), np.zeros((1, 1)))


def _first_breaks(line: _Line, frame: Interval) -> FloatArray:
    """Panels to begin with: they end at the shifts inside the interval, where the density may peak."""
    shifts = line.shifts
    inside = shifts[(shifts > frame.low) & (shifts < frame.high)]
    return np.unique(np.concatenate([[0.0, np.pi / 2, np.pi], frame.angle(inside)]))
