"""Tables of a dual activation over two scales and an angle, for many nearly parallel pairs at once.

What `rmtdeq.activations.duals.difference_form` computes by a quadrature for each pair is, for φ that is smooth but for
zero, an analytic function of log σ_u, log σ_v and the angle θ: it is interpolated at Chebyshev points of boxes, the
angle's halved towards zero until the last one that holds zero is resolved.  In the table are

    S(θ) = σ_u σ_v E φ'(u)φ'(v) / (ψ_u ψ_v),    ψ² = E φ²,

and at angle zero the squared distance of the normalised features, its parts over (log σ_u/σ_v)² where they vanish with
it; the rest of the distance is 2 ∫₀^θ sin τ S(τ) dτ (Price's theorem, see `dual_forms`): no digits are lost where pairs
come near to parallel or opposite.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

import numpy as np

from rmtdeq._lib.types import BoolArray, FloatArray, IntArray
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.quadrature import legendre
from rmtdeq.activations.smoothing import Smoothing, smoothing
from rmtdeq.kernels.chebyshev import chebyshev_points, chebyshev_polynomials, tail, to_chebyshev

_POINTS = 20
"""Of a box, in each direction."""
_RESOLVED, _SLOPES_RESOLVED = 2e-13, 2e-12
"""The second where slopes come from an interpolant."""
_NARROWEST, _WIDEST, _MOST_CELLS, _MOST_HALVINGS = 0.25, 2.0, 16, 40


class DualTable:
    """The dual of an activation for scales within a range; threads share it.

    Parameters
    ----------
    activation : Activation
    panels : Smoothing
        For these scales.
    low, high : float
        The range, as log σ.

    Attributes
    ----------
    resolved : bool
        Whether all digits are there; the range may be too wide for that.
    """

    def __init__(self, activation: Activation, panels: Smoothing, low: float, high: float) -> None:
        self._panels = panels
        self._tolerance = _RESOLVED if activation.derivative is not None else _SLOPES_RESOLVED
        wider = max(_NARROWEST - (high - low), 1e-9) / 2
        self.low, self.high = low - wider, high + wider
        fewest = max(1, int((self.high - self.low) / _WIDEST))
        for cells in range(fewest, _MOST_CELLS + 1):
            self.cells = cells
            width = (self.high - self.low) / self.cells
            starts = self.low + width * np.arange(self.cells)
            self._sigma = np.exp([chebyshev_points(at, at + width, _POINTS) for at in starts]).ravel()
            values = panels.halves(activation, self._sigma)
            size = np.sqrt(panels.weights @ (values * values).sum(axis=0))
            self._values = values / size
            self._slopes = panels.halves(activation.slope, self._sigma) * (self._sigma / size)
            self.resolved = self._resolved()
            if self.resolved:
                break
        self.parallel = self._over_cells(self._apart())
        self.halvings, self._last = self._halved()
        self._lock, self._boxes = Lock(), list[FloatArray]()
        self._losses = np.zeros((2, self._sigma.size, self._sigma.size))

    def _resolved(self) -> bool:
        """Whether functions of two scales are resolved within every cell."""
        angles = (np.pi / 2, 0.5, 0.5 / (1 + self._sigma.max()))
        tables = [self._apart(), *(self._panels.products(self._slopes, angle)[..., None] for angle in angles)]
        for table in tables:
            cells = table.reshape(2, self.cells, _POINTS, self.cells, _POINTS, -1)
            for cell in range(self.cells):
                block = np.moveaxis(cells[:, cell, :, cell], 2, -1)
                size = abs(block).max(axis=(1, 3))[:, None]
                # What is left of a difference of features has the digits of its root.
                if (tail(block) > 4 * self._tolerance * np.maximum(size, np.sqrt(size))).any():
                    return False
        return True

    def _apart(self) -> FloatArray:
        """The squared distances at angle zero, (2, scales, scales, 2): what (log σ_u/σ_v)² multiplies, and the rest.

        The first of parallel pairs, the second of opposite ones.
        """
        weights, nodes = self._panels.weights[:, None], self._panels.nodes[:, None]
        # The derivative in log σ of an even half is even, of the odd half of the slope times x.
        steep = self._slopes[::-1] * nodes
        steep -= self._values * (weights * steep * self._values).sum(axis=(0, 1))
        lag = np.subtract.outer(*[np.log(self._sigma)] * 2)
        near = np.stack([self._distances(each, each) for each in self._values])
        near = np.divide(near, lag**2, out=np.zeros_like(near), where=lag != 0)
        near += (weights * steep**2).sum(axis=1)[:, None] * np.eye(len(lag))
        even, odd = near
        far = self._distances(self._values[0], -self._values[0])
        return np.stack([np.stack([even + odd, np.zeros_like(far)], axis=-1), np.stack([odd, far], axis=-1)])

    def _distances(self, left: FloatArray, right: FloatArray) -> FloatArray:
        return np.array([self._panels.weights @ (each[:, None] - right) ** 2 for each in left.T])

    def _halved(self) -> tuple[int, FloatArray]:
        """How often π/2 is halved until functions of the angle are resolved down to zero, and S in that last part."""
        # Not before the angle is that over which the steepest function changes.
        first = max(0, int(np.log2(self._sigma.max())) - 1)
        for halvings in range(first, _MOST_HALVINGS):
            slopes = self._slopes_between(0.0, np.pi / 2 ** (halvings + 1))
            if (tail(slopes) <= self._tolerance * abs(slopes).max(axis=(0, 3))).all():
                return halvings, slopes
        self.resolved = False
        return halvings, slopes

    def _slopes_between(self, low: float, high: float) -> FloatArray:
        """S of nearly parallel and of nearly opposite pairs at points of some angles, (2, scales, scales, angles)."""
        angles = chebyshev_points(low, high, _POINTS)
        return np.stack([self._panels.products(self._slopes, theta) for theta in angles], axis=-1)

    def _over_cells(self, values: FloatArray) -> FloatArray:
        """Coefficients in both scales, (2, cells, cells, points, points, ·), of values at their points."""
        change, shape = to_chebyshev(_POINTS), (-1, self.cells, _POINTS, self.cells, _POINTS, values.shape[-1])
        return np.einsum("ia,jb,scidjk->scdabk", change, change, values.reshape(shape), optimize=True)

    def interval(self, part: int) -> tuple[float, float]:
        """The angles of a part, 0 the largest ones."""
        return 0.0 if part == self.halvings else np.pi / 2 ** (part + 2), np.pi / 2 ** (part + 1)

    def part(self, theta: FloatArray) -> IntArray:
        """The parts that hold some angles."""
        with np.errstate(divide="ignore"):
            return np.clip(np.floor(np.log2(np.pi / 2 / theta)), 0, self.halvings).astype(int)

    def boxes(self, part: int) -> FloatArray:
        """Coefficients of S in a part, and of ∫ sin τ S(τ) dτ up to it: (2, cells, cells, ·, ·, angles + 1).

        The first of nearly parallel pairs, the second of nearly opposite ones.
        """
        with self._lock:
            # Those of smaller angles come first.
            for each in range(self.halvings - len(self._boxes), part - 1, -1):
                low, high = self.interval(each)
                slopes = self._slopes_between(low, high) if each < self.halvings else self._last
                slopes = slopes @ to_chebyshev(_POINTS)
                self._boxes.append(self._over_cells(np.concatenate([slopes, self._losses[..., None]], axis=-1)))
                # At the upper end all polynomials are one.
                self._losses = self._losses + high**2 * (slopes @ mean_losses(low, high)).sum(axis=-1)
            return self._boxes[self.halvings - part]

    def pairs(self, pairs: Pairs) -> PairCurves:
        """Return what finds distance and slope of some pairs at any angles."""
        return PairCurves(self, pairs)


def dual_table(activation: Activation, low: float, high: float) -> DualTable | None:
    """Return the table for scales from `low` to `high`; None where it would not have all digits."""
    # The table is a little wider than its range.
    panels = smoothing(activation, low / (1 + _NARROWEST), high * (1 + _NARROWEST))
    if panels is None:
        return None
    table = DualTable(activation, panels, float(np.log(low)), float(np.log(high)))
    return table if table.resolved else None


@lru_cache(maxsize=64)
def mean_losses(low: float, high: float) -> FloatArray:
    """Matrix from Chebyshev coefficients of S(θ) to those of 1/θ² ∫ sin τ S(τ) dτ, from `low` to θ."""
    x, w = legendre()
    ends = chebyshev_points(low, high, _POINTS)
    half = (ends - low)[:, None] / 2
    tau = low + half * (1 + x)
    polynomials = chebyshev_polynomials(((2 * tau - low - high) / (high - low)).ravel(), _POINTS)
    weights = half * w * np.sin(tau) / ends[:, None] ** 2
    return np.asarray((polynomials.reshape(-1, *tau.shape) * weights).sum(axis=2) @ to_chebyshev(_POINTS))


class PairCurves:
    """Distance and slope of pairs as functions of their angles: what depends on the scales is contracted once.

    Parameters
    ----------
    table : DualTable
    pairs : Pairs
    """

    def __init__(self, table: DualTable, pairs: Pairs) -> None:
        self._table = table
        position = (np.log(np.stack([pairs.sigma_u, pairs.sigma_v])) - table.low) / (table.high - table.low)
        position *= table.cells
        cell = np.clip(position.astype(int), 0, table.cells - 1)
        self._of_u, self._of_v = (chebyshev_polynomials(each, _POINTS).T for each in 2 * (position - cell) - 1)
        self._opposite = pairs.sign < 0
        self._group = (self._opposite * table.cells + cell[0]) * table.cells + cell[1]
        self._units = pairs.unit_u * pairs.unit_v
        self._curves: dict[int, tuple[BoolArray, FloatArray]] = {}
        square = np.log1p((pairs.sigma_u - pairs.sigma_v) / pairs.sigma_v) ** 2
        near, far = self._contracted(np.arange(square.size), table.parallel).T
        self._apart = square * near + far

    def _contracted(self, index: IntArray, boxes: FloatArray) -> FloatArray:
        """What boxes hold at the scales of some pairs, (pairs, ·)."""
        groups, boxes = self._group[index], boxes.reshape(-1, *boxes.shape[3:])
        result = np.empty((index.size, boxes.shape[-1]))
        for group in np.unique(groups):
            chosen = np.flatnonzero(groups == group)
            at, box = index[chosen], boxes[group]
            first = (self._of_u[at] @ box.reshape(_POINTS, -1)).reshape(at.size, _POINTS, -1)
            result[chosen] = np.einsum("pbk,pb->pk", first, self._of_v[at])
        return result

    def _curve(self, part: int, index: IntArray) -> FloatArray:
        """Coefficients of S in the angle, those of what is lost within the part over θ², and what is lost before."""
        if part not in self._curves:
            count = self._units.size
            self._curves[part] = np.zeros(count, dtype=bool), np.empty((count, 2 * _POINTS + 1))
        known, curves = self._curves[part]
        missing = index[~known[index]]
        if missing.size:
            found = self._contracted(missing, self._table.boxes(part))
            lost = found[:, :_POINTS] @ mean_losses(*self._table.interval(part))
            curves[missing] = np.concatenate([found[:, :_POINTS], lost, found[:, _POINTS:]], axis=1)
            known[missing] = True
        return curves[index]

    def __call__(self, index: IntArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what `difference_form` does, of some pairs at these angles."""
        loss, slope = np.empty((2, len(index)))
        parts = self._table.part(theta)
        for part in map(int, np.unique(parts)):
            at = np.flatnonzero(parts == part)
            low, high = self._table.interval(part)
            curve = self._curve(part, index[at])
            basis = chebyshev_polynomials((2 * theta[at] - low - high) / (high - low), _POINTS).T
            slope[at] = np.einsum("pk,pk->p", curve[:, :_POINTS], basis)
            loss[at] = np.einsum("pk,pk->p", curve[:, _POINTS:-1], basis) * theta[at] ** 2 + curve[:, -1]
        return self._apart[index] + 2 * loss, slope / self._units[index]
