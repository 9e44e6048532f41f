"""Block Lanczos: a Krylov subspace of a symmetric operator, grown block by block.

The basis is kept orthogonal by projecting every new block on all of it, twice; what the projections say is the operator
in this basis, so that nothing depends on a three-term recurrence that rounding would spoil.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, qr

from rmtdeq._lib.types import FloatArray, IntArray

_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class Step:
    """What one product adds to a subspace: enough to take the step again without it.

    Attributes
    ----------
    column : ndarray (d + k, b)
        The operator's last b columns in the old basis, and in the new block.
    block : ndarray (n, k)
        The new basis vectors; fewer than b where the subspace has become invariant in some direction.
    """

    column: FloatArray
    block: FloatArray


@dataclass(frozen=True, eq=False)
class RitzPairs:
    """Approximate eigenpairs in a subspace.

    Attributes
    ----------
    values : ndarray (d,)
        Ascending.
    coordinates : ndarray (d, d)
        Vectors in the subspace's basis, one a column.
    residuals : ndarray (d,)
        ``‖A v - θ v‖``, a bound on the distance to the nearest eigenvalue.
    """

    values: FloatArray
    coordinates: FloatArray
    residuals: FloatArray

    def copies(self, pairs: slice, apart: FloatArray) -> IntArray:
        """Return how many values, its own counted, may be the same eigenvalue's as each of some.

        From a start of b random vectors comes a copy of every eigenvalue for each of them, as far as there are so many:
        fewer than b copies are all there are.

        Parameters
        ----------
        pairs : slice
            The ones that are asked about.
        apart : ndarray (d,)
            How far each of all values may be from its eigenvalue.
        """
        asked = self.values[pairs, None]
        return np.asarray((abs(asked - self.values) <= np.maximum(apart[pairs, None], apart)).sum(axis=1))


class KrylovSubspace:
    """The span of S, A S, A² S, … for a symmetric A and a block S of vectors.

    Parameters
    ----------
    start : ndarray (n, b)
        S.
    most : int
        Largest dimension; see `shrink`.
    """

    def __init__(self, start: FloatArray, most: int) -> None:
        n, b = start.shape
        self.most = min(n, max(most, 2 * b))
        block, self.start = _orthonormal(start, 0.0)
        """Coordinates of the vectors of S in the first basis vectors."""
        # Columns one after the other in memory, with room for more.
        self._basis = np.empty((n, 0), order="F")
        self._projected = np.empty((0, 0))
        self._known = self._size = 0
        self._append(block)

    def _append(self, block: FloatArray) -> None:
        """Add basis vectors."""
        old, new = self._size, self._size + block.shape[1]
        room = self._basis.shape[1]
        if new > room:
            room = max(new, 2 * room)
            basis, projected = np.empty((block.shape[0], room), order="F"), np.zeros((room, room))
            basis[:, :old], projected[:old, :old] = self._basis[:, :old], self._projected[:old, :old]
            self._basis, self._projected = basis, projected
        self._basis[:, old:new] = block
        self._size = new

    @property
    def dimension(self) -> int:
        """Number of basis vectors whose images under the operator are known."""
        return self._known

    @property
    def size(self) -> int:
        """Number of basis vectors."""
        return self._size

    @property
    def invariant(self) -> bool:
        """Whether the images add nothing new: all Ritz pairs are exact."""
        return self._known == self._size

    @property
    def full(self) -> bool:
        """Whether there is no room for another step."""
        return self._size > self.most

    def next_step(self, apply: Callable[[FloatArray], FloatArray]) -> Step:
        """Multiply the newest block with the operator, and say what is new in the result."""
        basis = self._basis[:, : self._size]
        image = np.array(apply(np.ascontiguousarray(basis[:, self._known :])), dtype=float)
        column = np.zeros((self._size, image.shape[1]))
        for _ in range(2):
            part = basis.T @ image
            image -= basis @ part
            column += part
        scale = max(float(abs(column).max(initial=0.0)), float(abs(self._projected).max(initial=0.0)))
        block, below = _orthonormal(image, _NEGLIGIBLE * scale)
        if block.shape[1]:
            # Where little was left of the image, its direction is not orthogonal to the basis any more.
            block -= basis @ (basis.T @ block)
            block, again = qr(block, mode="economic", check_finite=False)
            below = again @ below
        return Step(np.concatenate([column, below]), block)

    def fits(self, step: Step) -> bool:
        """Say whether a step that was kept has the sizes of the next one."""
        old, newest = self._size, self._size - self._known
        return (
            step.block.ndim == step.column.ndim == 2
            and step.block.shape[0] == self._basis.shape[0]
            and step.block.shape[1] <= newest
            and step.column.shape == (old + step.block.shape[1], newest)
            and bool(np.isfinite(step.block).all() and np.isfinite(step.column).all())
        )

    def take(self, step: Step) -> None:
        """Add a step."""
        old = self._size
        self._append(step.block)
        self._projected[: self._size, self._known : old] = step.column
        self._projected[self._known : old, : self._size] = step.column.T
        self._known = old

    def extend(self, vectors: FloatArray) -> None:
        """Add vectors to the newest block: more copies of repeated eigenvalues, or directions not yet seen."""
        basis = self._basis[:, : self._size]
        for _ in range(2):
            vectors = vectors - basis @ (basis.T @ vectors)
            vectors = _orthonormal(vectors, 0.0)[0]
        self._append(vectors)

    def ritz(self, dimension: int | None = None) -> RitzPairs:
        """Return the Ritz pairs of the subspace, or of an earlier one of the given dimension."""
        d = self._known if dimension is None else dimension
        values, coordinates = eigh(self._projected[:d, :d], check_finite=False)
        beyond = self._projected[d : self._size, :d] @ coordinates
        return RitzPairs(values, coordinates, np.linalg.norm(beyond, axis=0))

    def vectors(self, coordinates: FloatArray) -> FloatArray:
        """Return the vectors (n, k) of given coordinates (d, k)."""
        return self._basis[:, : coordinates.shape[0]] @ coordinates

    def shrink(self, keep: int) -> None:
        """Keep the Ritz vectors of the largest values, and the newest block (a thick restart)."""
        pairs, d = self.ritz(), self._known
        coordinates = pairs.coordinates[:, -keep:]
        newest = self._basis[:, d : self._size].copy()
        coupling = self._projected[d : self._size, :d] @ coordinates
        self._basis[:, :keep] = self.vectors(coordinates)
        self._known, self._size = keep, keep + newest.shape[1]
        self._basis[:, keep : self._size] = newest
        self._projected[:] = 0.0
        np.fill_diagonal(self._projected[:keep, :keep], pairs.values[-keep:])
        self._projected[keep : self._size, :keep] = coupling
        self._projected[:keep, keep : self._size] = coupling.T


def _orthonormal(vectors: FloatArray, negligible: float) -> tuple[FloatArray, FloatArray]:
    """Return an orthonormal basis of the span, and the coordinates of the vectors in it."""
    basis, triangle, order = qr(vectors, mode="economic", pivoting=True, check_finite=False)
    size = abs(np.diag(triangle))
    rank = int((size > max(negligible, _NEGLIGIBLE * size.max(initial=0.0))).sum())
    coordinates = np.empty((rank, vectors.shape[1]))
    coordinates[:, order] = triangle[:rank]
    return np.ascontiguousarray(basis[:, :rank]), coordinates
