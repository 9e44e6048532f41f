"""Tables of a dual activation over two scales and an angle, for many nearly parallel pairs at once.

What `rmtdeq.activations.duals.difference_form` computes by a quadrature for each pair is, for φ that is smooth but for
zero, an analytic function of log σ_u, log σ_v and the angle θ: it is interpolated at Chebyshev points of boxes, the
angle's halved towards zero until the last one that holds zero is resolved.  In the table are

    S(θ) = σ_u σ_v E φ'(u)φ'(v) / (ψ_u ψ_v)    and    (1/θ²) ∫₀^θ sin τ S(τ) dτ,

and at angle zero the squared distance of the normalised features over (log σ_u/σ_v)²: no digits are lost where pairs
come near to parallel (Price's theorem, see `dual_forms`).  Of opposite pairs the same without the division.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

from rmtdeq._lib.types import BoolArray, FloatArray, IntArray
from rmtdeq.activations import jumps
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.duals import difference_form
from rmtdeq.activations.polar import PolarRule, polar_rule
from rmtdeq.activations.quadrature import legendre
from rmtdeq.kernels.chebyshev import chebyshev_points, chebyshev_polynomials, tail, to_chebyshev

_SCALES, _ANGLES = 20, 20
"""Points of a box."""
_RESOLVED = 2e-13
_NARROWEST, _MOST_CELLS, _MOST_HALVINGS = 0.25, 64, 24
_SAFE_DIFFERENCE = 0.02
"""Angle from which on a loss may be taken as a difference of expectations."""


class DualTable:
    """The dual of an activation for scales within a range, computed box by box when some pair is there.

    Threads share it.

    Parameters
    ----------
    activation : Activation
    rule : PolarRule
        For these scales.
    low, high : float
        The range, as log σ.
    """

    def __init__(self, activation: Activation, rule: PolarRule, low: float, high: float) -> None:
        self.activation, self.rule = activation, rule
        wider = max(_NARROWEST - (high - low), 1e-9) / 2
        self.low, self.high = low - wider, high + wider
        self.halvings = self._halvings()
        self.cells = self._cells()
        self._boxes: dict[tuple[int, int, int], tuple[FloatArray, FloatArray]] = {}
        self._parallel: dict[tuple[int, int], tuple[FloatArray, FloatArray]] = {}
        self._lock = Lock()

    def _halvings(self) -> int:
        """How often π/2 is halved until functions of the angle are resolved down to zero."""
        sigma = np.exp([self.low, (self.low + self.high) / 2, self.high])
        for halvings in range(_MOST_HALVINGS):
            angles = chebyshev_points(0.0, np.pi / 2 ** (halvings + 1), _ANGLES)
            found = np.stack([self._slopes(sigma, sigma, theta) for theta in angles], axis=-1)
            if (tail(found) <= _RESOLVED * abs(found).max(axis=(1, 2, 3), keepdims=True)[..., 0]).all():
                return halvings
        return _MOST_HALVINGS

    def _cells(self) -> int:
        """Into how many parts the scales are cut."""
        cells = 1
        while cells < _MOST_CELLS:
            width = (self.high - self.low) / cells
            inner = [np.exp(chebyshev_points(at, at + width, _SCALES)) for at in (self.low, self.high - width)]
            angle = np.pi / 2 ** (self.halvings + 2)
            found = [self._slopes(each, each, angle) for each in inner]
            parallel = [self._apart(each, each) for each in inner]
            if all(
                (tail(each) <= 4 * _RESOLVED * abs(each).max()).all() for table in (*found, *parallel) for each in table
            ):
                return cells
            cells += max(1, cells // 2)
        return cells

    def _edges(self, cell: int) -> tuple[float, float]:
        width = (self.high - self.low) / self.cells
        return self.low + cell * width, self.low + (cell + 1) * width

    def _sigma(self, cell: int) -> FloatArray:
        return np.exp(chebyshev_points(*self._edges(cell), _SCALES))

    def _units(self, sigma: FloatArray) -> FloatArray:
        """Scales in units of the size of φ."""
        rule = self.activation.rule(float(sigma.max()))
        values = np.asarray(self.activation(np.outer(sigma, rule.nodes).ravel())).reshape(len(sigma), -1)
        return np.asarray(sigma / np.sqrt((values * values) @ rule.weights))

    def _slopes(self, sigma_u: FloatArray, sigma_v: FloatArray, theta: float) -> FloatArray:
        """S at an angle, of nearly parallel and of nearly opposite pairs: (2, scales of u, scales of v)."""
        found = np.stack(self.rule.products(self.activation.slope, sigma_u, sigma_v, theta))
        return found * np.outer(self._units(sigma_u), self._units(sigma_v))

    def _apart(self, sigma_u: FloatArray, sigma_v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """At angle zero: the squared distance over (log σ_u/σ_v)², and that of opposite pairs."""
        phi, highest = self.activation, max(float(sigma_u.max()), float(sigma_v.max()))
        rule = phi.rule(highest)

        def features(sigma: FloatArray, sign: float) -> FloatArray:
            u = np.outer(sigma, rule.nodes)
            values = sign * np.asarray(phi(sign * u.ravel())).reshape(u.shape)
            return np.asarray(values * (self._units(sigma) / sigma)[:, None])

        u, v, turned = features(sigma_u, 1.0), features(sigma_v, 1.0), features(sigma_v, -1.0)
        lag = np.log(sigma_u)[:, None] - np.log(sigma_v)
        near = np.array([((each - v) ** 2) @ rule.weights for each in u])
        # Of equal scales the squared derivative.
        steep = np.outer(sigma_u, rule.nodes)
        steep = steep * phi.slope(steep) * (self._units(sigma_u) / sigma_u)[:, None]
        steep -= u * ((steep * u) @ rule.weights)[:, None]
        equal = lag == 0
        near = np.divide(near, lag**2, out=np.zeros_like(near), where=~equal)
        near = np.where(equal, ((steep * steep) @ rule.weights)[:, None], near)
        return near, np.array([((each - turned) ** 2) @ rule.weights for each in u])

    def parallel(self, u: int, v: int) -> tuple[FloatArray, FloatArray]:
        """Coefficients of the distances at angle zero in a pair of cells."""
        with self._lock:
            if (u, v) not in self._parallel:
                change = to_chebyshev(_SCALES)
                near, far = self._apart(self._sigma(u), self._sigma(v))
                self._parallel[u, v] = change.T @ near @ change, change.T @ far @ change
            return self._parallel[u, v]

    def interval(self, part: int) -> tuple[float, float]:
        """The angles of a part, 0 the largest ones."""
        return 0.0 if part == self.halvings else np.pi / 2 ** (part + 2), np.pi / 2 ** (part + 1)

    def part(self, theta: FloatArray) -> IntArray:
        """The parts that hold some angles."""
        with np.errstate(divide="ignore"):
            return np.clip(np.floor(np.log2(np.pi / 2 / theta)), 0, self.halvings).astype(int)

    def box(self, u: int, v: int, part: int) -> tuple[FloatArray, FloatArray]:
        """Coefficients (scales of u, scales of v · 2 angles) of a box, of nearly parallel and of opposite pairs."""
        with self._lock:
            return self._box(u, v, part)

    def _box(self, u: int, v: int, part: int) -> tuple[FloatArray, FloatArray]:
        key = (u, v, part)
        if key not in self._boxes:
            low, high = self.interval(part)
            angles = chebyshev_points(low, high, _ANGLES)
            sigma_u = self._sigma(u)
            sigma_v = sigma_u if u == v else self._sigma(v)
            slopes = np.stack([self._slopes(sigma_u, sigma_v, theta) for theta in angles], axis=-1)
            start = self._loss_at(low, u, v, part, sigma_u, sigma_v)[..., None]
            means = (start + slopes @ _integrals(low, high).T) / angles**2
            both = np.concatenate([each @ to_chebyshev(_ANGLES) for each in (slopes, means)], axis=-1)
            change = to_chebyshev(_SCALES)
            both = np.einsum("ia,jb,sijk->sabk", change, change, both, optimize=True)
            self._boxes[key] = tuple(each.reshape(_SCALES, -1) for each in both)
        return self._boxes[key]

    def _loss_at(
        self, theta: float, u: int, v: int, part: int, sigma_u: FloatArray, sigma_v: FloatArray
    ) -> FloatArray:
        """∫₀^θ sin τ S(τ) dτ at the lower end of a part."""
        if theta == 0:
            return np.zeros((2, _SCALES, _SCALES))
        if theta > _SAFE_DIFFERENCE:
            zero, there = (
                np.stack(self.rule.products(self.activation, sigma_u, sigma_v, each)) for each in (0.0, theta)
            )
            signs = np.array([1.0, -1.0])[:, None, None]
            units = np.outer(self._units(sigma_u) / sigma_u, self._units(sigma_v) / sigma_v)
            return np.asarray(signs * (zero - there) * units)
        below = np.stack(self._box(u, v, part + 1)).reshape(2, _SCALES, _SCALES, 2 * _ANGLES)[..., _ANGLES:]
        points = [chebyshev_polynomials(np.cos((np.arange(_SCALES) + 0.5) * np.pi / _SCALES), _SCALES)] * 2
        # At its upper end all polynomials are one.
        return np.einsum("ai,bj,sab->sij", *points, below.sum(axis=-1), optimize=True) * theta**2

    def pairs(self, pairs: Pairs) -> PairCurves:
        """Return what finds distance and slope of some pairs at any angles."""
        return PairCurves(self, pairs)


def _integrals(low: float, high: float) -> FloatArray:
    """Matrix from values at the points of the angles to the integrals of sin τ times them from `low` on."""
    x, w = legendre()
    ends = chebyshev_points(low, high, _ANGLES)
    half = (ends - low)[:, None] / 2
    tau = low + half * (1 + x)
    local = (2 * tau - low - high) / (high - low)
    values = chebyshev_polynomials(local.ravel(), _ANGLES).T @ to_chebyshev(_ANGLES).T
    weights = (half * w * np.sin(tau)).ravel()
    return np.asarray((values * weights[:, None]).reshape(*tau.shape, _ANGLES).sum(axis=1))


class PairCurves:
    """Distance and slope of pairs as functions of their angles: what depends on the scales is contracted once.

    Parameters
    ----------
    table : DualTable
    pairs : Pairs
    """

    def __init__(self, table: DualTable, pairs: Pairs) -> None:
        self._table, self._pairs = table, pairs
        x = np.log(np.stack([pairs.sigma_u, pairs.sigma_v]))
        x.sort(axis=0)
        position = (x - table.low) / (table.high - table.low) * table.cells
        self._cell = np.clip(position.astype(int), 0, table.cells - 1)
        local = 2 * (position - self._cell) - 1
        self._of_u, self._of_v = (chebyshev_polynomials(each, _SCALES).T for each in local)
        self._group = (self._cell[0] * table.cells + self._cell[1]) * 2 + (pairs.sign < 0)
        self._units = pairs.unit_u * pairs.unit_v
        self._curves: dict[int, tuple[BoolArray, FloatArray]] = {}
        self._apart = np.empty(x.shape[1])
        for at, u, v, opposite in self._groups(np.arange(x.shape[1])):
            coefficients = table.parallel(u, v)[opposite]
            self._apart[at] = np.einsum("pa,pa->p", self._of_u[at] @ coefficients, self._of_v[at])
        lag = np.log1p((pairs.sigma_u - pairs.sigma_v) / pairs.sigma_v)
        self._apart *= np.where(pairs.sign > 0, lag**2, 1.0)

    def _groups(self, index: IntArray):
        groups = self._group[index]
        for group in np.unique(groups):
            cells, opposite = divmod(int(group), 2)
            yield index[groups == group], *divmod(cells, self._table.cells), opposite

    def _curve(self, part: int, index: IntArray) -> FloatArray:
        """Coefficients in the angle of some pairs, (pairs, 2 angles)."""
        if part not in self._curves:
            count = len(self._group)
            self._curves[part] = np.zeros(count, dtype=bool), np.empty((count, 2 * _ANGLES))
        known, curves = self._curves[part]
        missing = index[~known[index]]
        for at, u, v, opposite in self._groups(missing):
            first = self._of_u[at] @ self._table.box(u, v, part)[opposite]
            curves[at] = np.einsum("pbk,pb->pk", first.reshape(len(at), _SCALES, -1), self._of_v[at])
        known[missing] = True
        return curves[index]

    def __call__(self, index: IntArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what `difference_form` does, of some pairs at these angles."""
        loss, slope = np.empty((2, len(index)))
        parts = self._table.part(theta)
        for part in np.unique(parts):
            at = np.flatnonzero(parts == part)
            low, high = self._table.interval(int(part))
            curve = self._curve(int(part), index[at])
            basis = chebyshev_polynomials((2 * theta[at] - low - high) / (high - low), _ANGLES).T
            slope[at] = np.einsum("pk,pk->p", curve[:, :_ANGLES], basis)
            loss[at] = np.einsum("pk,pk->p", curve[:, _ANGLES:], basis) * theta[at] ** 2
        return self._apart[index] + 2 * loss, slope / self._units[index]
