"""What a kernel is computed from: samples, their inner products and angles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray

PRODUCTS = ("full", "tf32", "bfloat16")
"""Of which precision the factors of inner products are."""

_BITS = {"tf32": 10, "bfloat16": 7}
_SINGLE = 23

Pair = tuple[Any, Any]
"""Something of the first and of the second samples of pairs, or of rows and columns."""


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

    def with_bias(self, norms_x: FloatArray, norms_y: FloatArray, bias: float) -> Angles:
        """Return the angles of the same pairs with one more feature, √bias; squared norms without it are given."""
        features = np.sqrt(norms_x), np.sqrt(norms_y)
        constant = np.full_like(norms_x, np.sqrt(bias))
        return self.beside(features, Angles(np.ones_like(norms_x), np.zeros_like(norms_x)), (constant, constant))

    def beside(self, sizes: Pair, other: Angles, others: Pair) -> Angles:
        """Return the angles of these features and others side by side; norms of both are given."""
        near = beside(sizes, self.near, others, other.near)
        far = beside(sizes, self.far, others, other.far)
        return Angles(np.where(near < 1, 1 - near, far - 1), np.minimum(near, far))

    def dropped(self, kept: float) -> Angles:
        """Return the angles of features of which dropout keeps a share, another one of every sample."""
        return self if kept == 1 else Angles(kept * self.cosine, kept * self.versine + (1 - kept))

    @property
    def near(self) -> FloatArray:
        """1 - cos α."""
        return np.where(self.cosine > 0, self.versine, 2 - self.versine)

    @property
    def far(self) -> FloatArray:
        """1 + cos α."""
        return np.where(self.cosine < 0, self.versine, 2 - self.versine)


def beside(sizes: Pair, near: Any, others: Pair, other_near: Any) -> Any:
    """Return 1 - cos α of pairs of vectors made of two parts each, given norms and 1 - cos of the parts.

    Cauchy-Schwarz's difference of the norms is (a_x b_y - a_y b_x)² over a sum, so that no digit is lost.  Arrays or
    tensors that go together.
    """
    (a_x, a_y), (b_x, b_y) = sizes, others
    both = a_x * a_y + b_x * b_y
    size = ((a_x * a_x + b_x * b_x) * (a_y * a_y + b_y * b_y)) ** 0.5
    nothing = size == 0
    apart = (a_x * b_y - a_y * b_x) ** 2 / (size + both + nothing)
    return (a_x * a_y * near + b_x * b_y * other_near + apart + nothing) / (size + nothing)


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
    X, Y : ndarray; or tensors, see `rmtdeq.kernels.tensors`
    products : str
        What X and Y have been rounded to, one of `PRODUCTS`.

    Raises
    ------
    InvalidInputError
        Y has other features than X.
    """

    X: Any
    Y: Any
    products: str = "full"

    def __post_init__(self) -> None:
        if self.Y is not None and self.Y.shape[1] != self.X.shape[1]:
            raise InvalidInputError(f"X has {self.X.shape[1]} features and Y has {self.Y.shape[1]}; they must agree.")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.X.shape[0], self._columns.shape[0]

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.Y is None

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return np.dtype(str(self.X.dtype).removeprefix("torch."))

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

    def fill(self, rows: slice, columns: slice, out: FloatArray) -> None:
        """Write the inner products of some rows and columns."""
        np.matmul(self.X[rows], self._columns[columns].T, out=out)

    def pairs(self, i: IntArray, j: IntArray) -> tuple[Angles, FloatArray]:
        """Angles and inner products of some pairs."""
        return angles_between(self._rows(self.X, i), self._rows(self._columns, j))

    def _rows(self, X: Any, index: IntArray) -> FloatArray:
        return np.asarray(X[index], dtype=np.float64)


def samples_of(X: ArrayLike, Y: ArrayLike | None, dtype: np.dtype[Any] | None, products: str) -> Samples:
    """Check samples, and return them in the precision asked for, or in that of X, rounded for products.

    Raises
    ------
    InvalidInputError
        As for `check.samples`; X and Y do not agree.
    """
    rows = _checked(X, "X", dtype, products)
    return Samples(rows, None if Y is None else _checked(Y, "Y", rows.dtype, products), products)


def _checked(X: ArrayLike, name: str, dtype: np.dtype[Any] | None, products: str) -> FloatArray:
    array = check.samples(X, name)
    array = np.ascontiguousarray(array, dtype=array.dtype if dtype is None else dtype)
    return array if products == "full" else rounded_bits(array.view(np.int32), products).view(np.float32)


def rounded_bits(bits: Any, products: str) -> Any:
    """Return float32 numbers, given and returned as int32 arrays or tensors, rounded to nearest, ties to even.

    That is what tensor cores multiply; every engine has the same kernel of the same samples.
    """
    dropped = _SINGLE - _BITS[products]
    half = ((bits >> dropped) & 1) + ((1 << (dropped - 1)) - 1)
    return (bits + half) & -(1 << dropped)
