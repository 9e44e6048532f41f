"""What a kernel is computed from: samples, or the kernels of the layer before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmtdeq._types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Samples:
    """Inner products of the rows of X (n, p) and Y (m, p); Y is X where it is None.

    Attributes
    ----------
    X, Y : ndarray; or tensors, see `rmtdeq.kernels.device.inputs`
    products : str
        What X and Y have been rounded to, a name of `rmtdeq.kernels.rounding`.
    """

    X: Any
    Y: Any
    products: str = "full"

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.X.shape[0], self._columns.shape[0]

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.Y is None

    @property
    def array(self) -> FloatArray:
        """X as an array."""
        return np.asarray(self.X)

    def astype(self, dtype: np.dtype[Any]) -> Samples:
        """Return the samples in another precision."""
        Y = None if self.Y is None else np.ascontiguousarray(self.Y, dtype=dtype)
        return replace(self, X=np.ascontiguousarray(self.X, dtype=dtype), Y=Y)

    def copy(self) -> Samples:
        """Return samples that nobody else can change."""
        return replace(self, X=self.X.copy(), Y=None if self.Y is None else self.Y.copy())

    @property
    def _columns(self) -> Any:
        return self.X if self.Y is None else self.Y

    def squared_norms(self) -> tuple[FloatArray, FloatArray]:
        """Of rows and columns."""
        rows = np.einsum("ij,ij->i", self.X, self.X, dtype=np.float64)
        return rows, rows if self.Y is None else np.einsum("ij,ij->i", self.Y, self.Y, dtype=np.float64)

    def fill(self, rows: slice, columns: slice, out: FloatArray) -> FloatArray:
        """Write the inner products of some rows and columns; return what the tangent carries."""
        np.matmul(self.X[rows], self._columns[columns].T, out=out)
        return out

    def pairs(self, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
        """Squared distances of some pairs, and what the tangent carries there."""
        x, y = self.X[i].astype(np.float64), self._columns[j].astype(np.float64)
        return np.einsum("ij,ij->i", x - y, x - y), np.einsum("ij,ij->i", x, y)

    def carried_diagonal(self, part: slice) -> FloatArray:
        """What the tangent carries on the diagonal."""
        return np.einsum("ij,ij->i", self.X[part], self.X[part], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class LayerBefore:
    """The kernels of a layer of infinite width, which the next layer sees as inner products.

    Attributes
    ----------
    gram : ndarray (n, m)
        The conjugate kernel.
    row_norms, column_norms : ndarray (n,), (m,)
        Its value at each sample with itself.
    tangent : ndarray (n, m) or None
        The tangent kernel, where the next one is wanted.
    same : bool
    products : str
        Nothing is rounded.
    """

    gram: FloatArray
    row_norms: FloatArray
    column_norms: FloatArray
    tangent: FloatArray | None
    same: bool
    products: str = "full"

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.gram.shape[0], self.gram.shape[1]

    def squared_norms(self) -> tuple[FloatArray, FloatArray]:
        """Of rows and columns."""
        return self.row_norms, self.column_norms

    def fill(self, rows: slice, columns: slice, out: FloatArray) -> FloatArray:
        """Write the conjugate kernel's entries; return the tangent kernel's."""
        np.copyto(out, self.gram[rows, columns])
        return out if self.tangent is None else np.ascontiguousarray(self.tangent[rows, columns])

    def pairs(self, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
        """Squared distances of some pairs, and what the tangent carries there."""
        entries = self.gram[i, j].astype(np.float64)
        distances = self.row_norms[i] + self.column_norms[j] - 2 * entries
        carried = entries if self.tangent is None else self.tangent[i, j].astype(np.float64)
        # Rounding must not tell equal samples apart, nor make a distance negative.
        rounding = 8 * np.finfo(self.gram.dtype).eps * (self.row_norms[i] + self.column_norms[j])
        return np.where(distances > rounding, distances, 0.0), carried

    def carried_diagonal(self, part: slice) -> FloatArray:
        """What the tangent carries on the diagonal."""
        index = np.arange(part.start, part.stop)
        return np.asarray((self.gram if self.tangent is None else self.tangent)[index, index], dtype=np.float64)
