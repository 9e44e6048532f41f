"""What a kernel is computed from: samples, or the kernels of the layer before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmtdeq._types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Angles:
    """Angles α between some pairs of samples, in digits that nearly parallel and nearly opposite pairs do not lose.

    Attributes
    ----------
    cosine : ndarray (pairs,)
        cos α.
    versine : ndarray (pairs,)
        1 - |cos α|.
    """

    cosine: FloatArray
    versine: FloatArray

    def at(self, index: IntArray) -> Angles:
        """Return the angles of some of the pairs."""
        return Angles(self.cosine[index], self.versine[index])


def angles_between(x: FloatArray, y: FloatArray) -> tuple[Angles, FloatArray]:
    """Return angles and inner products of the rows of two arrays (pairs, p) in double precision.

    What is left of x without its part along y is computed from the exact products of y with a rounded multiplier, so
    that it is exact to rounding of its own size.
    """
    inner, norm_x, norm_y = (np.einsum("ij,ij->i", a, b) for a, b in ((x, y), (x, x), (y, y)))
    inside = (norm_x > 0) & (norm_y > 0)
    ratio = np.divide(inner, norm_y, out=np.zeros_like(inner), where=inside)
    along = ratio[:, None] * y
    rest = (x - along) - _rounding_of(ratio[:, None], y, along)
    again = np.divide(np.einsum("ij,ij->i", rest, y), norm_y, out=np.zeros_like(inner), where=inside)
    rest -= again[:, None] * y
    square = np.divide(np.einsum("ij,ij->i", rest, rest), norm_x, out=np.ones_like(inner), where=inside)
    size = np.sqrt(norm_x) * np.sqrt(norm_y)
    cosine = np.clip(np.divide(inner, size, out=np.zeros_like(inner), where=inside), -1.0, 1.0)
    # 1 - |cos α| = sin² α/(1 + |cos α|).
    return Angles(cosine, square / (1 + abs(cosine))), inner


def _rounding_of(a: FloatArray, b: FloatArray, product: FloatArray) -> FloatArray:
    """a·b less its rounded value (Dekker's product)."""
    high_a, high_b = _leading_half(a), _leading_half(b)
    low_a, low_b = a - high_a, b - high_b
    return low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)


def _leading_half(a: FloatArray) -> FloatArray:
    """The upper 26 bits of the mantissa."""
    wide = 134217729.0 * a
    return wide - (wide - a)


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

    def pairs(self, i: IntArray, j: IntArray) -> tuple[Angles, FloatArray]:
        """Angles of some pairs, and what the tangent carries there."""
        return angles_between(self._rows(self.X, i), self._rows(self._columns, j))

    def _rows(self, X: Any, index: IntArray) -> FloatArray:
        return np.asarray(X[index], dtype=np.float64)

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

    def pairs(self, i: IntArray, j: IntArray) -> tuple[Angles, FloatArray]:
        """Angles of some pairs, and what the tangent carries there."""
        entries = self.gram[i, j].astype(np.float64)
        carried = entries if self.tangent is None else self.tangent[i, j].astype(np.float64)
        size = np.sqrt(self.row_norms[i] * self.column_norms[j])
        cosine = np.clip(np.divide(entries, size, out=np.zeros_like(entries), where=size > 0), -1.0, 1.0)
        # Rounding must not tell equal samples apart.
        versine = 1 - abs(cosine)
        return Angles(cosine, np.where(versine > 16 * np.finfo(self.gram.dtype).eps, versine, 0.0)), carried

    def carried_diagonal(self, part: slice) -> FloatArray:
        """What the tangent carries on the diagonal."""
        index = np.arange(part.start, part.stop)
        return np.asarray((self.gram if self.tangent is None else self.tangent)[index, index], dtype=np.float64)
