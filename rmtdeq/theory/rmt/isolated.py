"""Isolated eigenvalues of a Gram model, and what their eigenvectors know of the classes.

Outside the bulk the projected resolvent A(z) = Uᵀ(H₀ - z)^{-1}U is real, symmetric and increasing in z.  With
L = F Λ Fᵀ, z is an eigenvalue of H = H₀ + U L Uᵀ exactly where the matrix Λ^{-1} + Fᵀ A(z) F is singular; its
eigenvalues increase with z, so that counting the negative ones at both ends of a gap tells how many outliers lie
in it, and each is one sign change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rmtdeq._lib.tables import numbers
from rmtdeq._lib.types import ComplexArray, FloatArray, IntArray
from rmtdeq.theory.rmt.density import Bulk
from rmtdeq.theory.rmt.model import GramModel
from rmtdeq.theory.rmt.projection import coupling_basis, projected_blocks, projected_resolvent
from rmtdeq.theory.rmt.resolvent import LineResolvent, resolvent_derivative

_HEIGHT = 1e-9
_CLOSEST = 1e-7
_FAN = 9
_STEPS = 60
_SAME = 1e-10
_DOUBLINGS = 60


@dataclass(frozen=True, eq=False)
class Outliers:
    """Isolated eigenvalues, ascending.

    Attributes
    ----------
    positions : ndarray (r,)
    alignments : ndarray (r, K)
        Squared inner products of the unit eigenvector with the unit indicator vectors of the classes.
    """

    positions: FloatArray
    alignments: FloatArray

    def __repr__(self) -> str:
        return f"Outliers({numbers(self.positions, 'outlier')})"


def outliers(model: GramModel, bulk: Bulk) -> Outliers:
    """Find the eigenvalues of H outside the bulk.

    Raises
    ------
    ConvergenceError
        The mixture equations could not be solved at some point outside the bulk.
    """
    basis, inverse = coupling_basis(model)
    if not inverse.size:
        return Outliers(np.empty(0), np.empty((0, model.shifts.size)))
    projected = _Projected(model, basis, inverse)
    scale = max(model.upper_bound - float(model.shifts.min()), float(abs(model.shifts).max()))
    ends = bulk.edges
    low, high = ends[0][0], ends[-1][1]
    gaps = []
    for start, stop in _gaps(bulk, scale):
        left = low - scale if start is None else start
        right = high + scale if stop is None else stop
        if start is None or stop is None:
            # At infinity A = 0: go far enough out to see the signs of Λ.
            far = int((projected.inverse_coupling < 0).sum())
            for _ in range(_DOUBLINGS):
                if projected.negative(np.array([left if start is None else right]))[0] == far:
                    break
                left, right = (2 * left - low, right) if start is None else (left, 2 * right - high)
        gaps.append((left, right))
    positions = np.sort(_roots(projected, np.array(gaps)))
    return Outliers(positions, projected.alignments(positions))


def _gaps(bulk: Bulk, scale: float) -> list[tuple[float | None, float | None]]:
    """Open intervals free of bulk, a hair away from it; None stands for infinity."""
    ends = bulk.edges
    gaps: list[tuple[float | None, float | None]] = [(None, ends[0][0])]
    gaps += [(a[1], b[0]) for a, b in pairwise(ends)]
    gaps += [(ends[-1][1], None)]
    result: list[tuple[float | None, float | None]] = []
    for start, stop in gaps:
        width = scale if start is None or stop is None else stop - start
        if width <= 4 * _CLOSEST * scale:
            continue
        margin = _CLOSEST * scale
        result.append((None if start is None else start + margin, None if stop is None else stop - margin))
    return result


class _Projected:
    """The matrix Λ^{-1} + Fᵀ A(z) F on real points outside the bulk."""

    def __init__(self, model: GramModel, basis: FloatArray, inverse_coupling: FloatArray) -> None:
        self.model = model
        self.basis = basis
        self.inverse_coupling = inverse_coupling
        self._line = LineResolvent(model)
        self._scale = max(model.upper_bound - float(model.shifts.min()), 1e-300)

    def _diagonal(self, z: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        # Far from the bulk the spectrum looks small: the height must shrink no faster than the distance grows.
        points = z + 1j * _HEIGHT * np.maximum(abs(z), self._scale)
        return points, self._line(points)

    def resolvent(self, z: FloatArray) -> FloatArray:
        """A(z), (points, 3K, 3K)."""
        _, q = self._diagonal(z)
        return projected_resolvent(self.model, q).real

    def eigenvalues(self, z: FloatArray) -> FloatArray:
        """Eigenvalues of Λ^{-1} + Fᵀ A F, ascending, each increasing in z."""
        projected = self.basis.T @ self.resolvent(z) @ self.basis
        index = np.arange(self.inverse_coupling.size)
        projected[:, index, index] += self.inverse_coupling
        return np.linalg.eigvalsh(projected)

    def negative(self, z: FloatArray) -> np.ndarray:
        """Number of negative eigenvalues."""
        return (self.eigenvalues(z) < 0).sum(axis=1)

    def alignments(self, positions: FloatArray) -> FloatArray:
        """Squared projections of the eigenvectors on the class indicators, from the residue of the resolvent."""
        k = self.model.shifts.size
        if not positions.size:
            return np.empty((0, k))
        points, q = self._diagonal(positions)
        dq = resolvent_derivative(self.model, points, q)
        step = 1e-6
        # d mean_form/dz along dq, by a central difference in a scale-free variable.
        size = step * np.max(abs(q), axis=1, keepdims=True) / np.maximum(abs(dq).max(axis=1, keepdims=True), 1e-300)
        slope = (self.model.mean_form(q + size * dq) - self.model.mean_form(q - size * dq)) / (2 * size[:, :, None])
        a = projected_resolvent(self.model, q).real
        derivative = projected_blocks(self.model, dq, slope).real
        result = np.empty((positions.size, k))
        for i in range(positions.size):
            matrix = self.basis.T @ a[i] @ self.basis + np.diag(self.inverse_coupling)
            values, vectors = np.linalg.eigh(matrix)
            null = vectors[:, np.argmin(abs(values))]
            direction = self.basis @ null
            rate = direction @ derivative[i] @ direction
            result[i] = (a[i] @ direction)[:k] ** 2 / rate / self.model.ratios
        return result


def _roots(projected: _Projected, gaps: FloatArray) -> FloatArray:
    """All sign changes of eigenvalues within gaps (gaps, 2): by a fan of points in each, then all at once."""
    counts = projected.negative(gaps.ravel()).reshape(gaps.shape)
    crossed = counts[:, 0] > counts[:, 1]
    gaps, counts = gaps[crossed], counts[crossed]
    if not gaps.size:
        return np.empty(0)
    fan = gaps[:, :1] + np.diff(gaps) * np.linspace(0, 1, _FAN)
    values = projected.eigenvalues(fan.ravel()).reshape(*fan.shape, -1)
    owner = np.repeat(np.arange(gaps.shape[0]), counts[:, 0] - counts[:, 1])
    index = np.concatenate([np.arange(last, first) for first, last in counts])
    fan, values = fan[owner], values[owner, :, index]
    each = np.arange(index.size)
    j = np.clip((values < 0).sum(axis=1), 1, _FAN - 1)
    return _between(projected, index, *((at[each, j - 1], at[each, j]) for at in (fan, values)))


def _between(
    projected: _Projected, index: IntArray, ends: tuple[FloatArray, FloatArray], values: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Where eigenvalues of given index vanish between two places each, by Chandrupatla's method.

    Inverse quadratic interpolation of the last three points wherever those lie so that it can be trusted, halving
    elsewhere (Adv. Eng. Software 28, 1997).
    """
    new, old = (np.array(part) for part in ends)
    at_new, at_old = (np.array(part) for part in values)
    share = np.clip(np.divide(at_new, at_new - at_old, out=np.full(new.shape, 0.5), where=at_new != at_old), 0.0, 1.0)
    active = np.arange(index.size)
    for _ in range(_STEPS):
        width = old[active] - new[active]
        least = np.minimum(_SAME * abs(new[active]) / np.maximum(abs(width), 1e-300), 0.5)
        apart = least < 0.5
        active, width, least = active[apart], width[apart], least[apart]
        if not active.size:
            break
        x1, x2, f1, f2 = new[active], old[active], at_new[active], at_old[active]
        x = x1 + np.clip(share[active], least, 1 - least) * width
        f = projected.eigenvalues(x)[np.arange(x.size), index[active]]
        stays = (f < 0) == (f1 < 0)
        x3, f3 = np.where(stays, x1, x2), np.where(stays, f1, f2)
        x2, f2 = np.where(stays, x2, x1), np.where(stays, f2, f1)
        new[active], old[active], at_new[active], at_old[active] = x, x2, f, f2
        share[active] = _quadratic_share((x, x2, x3), (f, f2, f3))
    return np.where(abs(at_new) < abs(at_old), new, old)


def _quadratic_share(x: tuple[FloatArray, ...], f: tuple[FloatArray, ...]) -> FloatArray:
    """Where the inverse quadratic through three points vanishes, as a share of the way from the first to the second."""
    (x1, x2, x3), (f1, f2, f3) = x, f
    with np.errstate(divide="ignore", invalid="ignore"):
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        share = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
        sound = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(share)
    return np.where(sound, share, 0.5)
