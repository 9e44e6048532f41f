"""Where the linear algebra of a regression is done: on arrays of numpy, or on tensors of a device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.linalg.lapack import get_lapack_funcs

from rmtdeq._lib.optional import require
from rmtdeq._lib.threads import alone
from rmtdeq._lib.types import FloatArray, IntArray

_SEVERAL_THREADS = 9000
"""Columns up to which Cholesky's decomposition is done by several threads."""


class Place(Protocol):
    """Arrays or tensors: what they share, such as ``@`` and ``.sum(0)``, is used as it is; the rest is here."""

    def put(self, values: FloatArray) -> Any:
        """Return an array as this place has them."""

    def take(self, values: Any) -> FloatArray:
        """Return what is there as an array."""

    def rows(self, index: IntArray) -> Any:
        """Return numbers of rows by which arrays there can be indexed."""

    def cast(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """Return values in a precision."""

    def cholesky(self, A: Any) -> Any:
        """Return the lower factor of a positive matrix."""

    def solve_lower(self, factor: Any, B: Any) -> Any:
        """Return L⁻¹ B, L lower triangular."""

    def solve_transposed(self, factor: Any, B: Any) -> Any:
        """Return L⁻ᵀ B, L lower triangular."""

    def eigh(self, A: Any) -> tuple[Any, Any]:
        """Return eigenvalues, ascending, and vectors of a symmetric matrix, which may be overwritten."""

    def add_to_diagonal(self, A: Any, value: float) -> None:
        """Add a number to the diagonal, in place."""

    def solved(self, A: Any, B: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Factorise A, which may be overwritten, as L Lᵀ.

        Returns
        -------
        least : float
            The square of the smallest entry of L's diagonal; zero if A is not positive.
        solved : ndarray (n, k)
            A⁻¹ B.
        diagonal : ndarray (n,)
            Of A⁻¹.
        """


class Host:
    """Arrays of numpy."""

    def put(self, values: FloatArray) -> FloatArray:
        """Return them as they are."""
        return values

    def take(self, values: FloatArray) -> FloatArray:
        """Return them as they are."""
        return values

    def rows(self, index: IntArray) -> IntArray:
        """Return them as they are."""
        return index

    def cast(self, values: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """See `Place`."""
        return values.astype(dtype, copy=False)

    def cholesky(self, A: FloatArray) -> FloatArray:
        """See `Place`."""
        return np.asarray(cholesky(A, lower=True, check_finite=False))

    def solve_lower(self, factor: FloatArray, B: FloatArray) -> FloatArray:
        """See `Place`."""
        return np.asarray(solve_triangular(factor, B, lower=True, check_finite=False))

    def solve_transposed(self, factor: FloatArray, B: FloatArray) -> FloatArray:
        """See `Place`."""
        return np.asarray(solve_triangular(factor, B, lower=True, trans="T", check_finite=False))

    def eigh(self, A: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Place`; the vectors take the place of a matrix that is C-contiguous."""
        # The transpose is in the order of LAPACK, which can then write where the matrix is.
        values, vectors = eigh(A.T, overwrite_a=True, check_finite=False, driver="evr")
        return values, vectors

    def add_to_diagonal(self, A: FloatArray, value: float) -> None:
        """See `Place`."""
        A[np.diag_indices_from(A)] += A.dtype.type(value)

    def solved(self, A: FloatArray, B: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """See `Place`; all in the place of a matrix that is C-contiguous."""
        factorise, solve, invert = get_lapack_funcs(("potrf", "potrs", "potri"), (A,))
        # Several threads of OpenBLAS end the process in Cholesky's decomposition of 16,000 columns.
        with alone() if len(A) > _SEVERAL_THREADS else nullcontext():
            factor, failed = factorise(A.T, lower=True, overwrite_a=True, clean=False)
        if failed:
            return 0.0, B, B[:, 0]
        least = float(factor.diagonal().min()) ** 2
        found, _ = solve(factor, B.astype(A.dtype), lower=True)
        inverse, _ = invert(factor, lower=True, overwrite_c=True)
        return least, found, inverse.diagonal()


class Device:
    """Tensors on a device of torch.

    Parameters
    ----------
    device : torch.device or str
    """

    def __init__(self, device: Any) -> None:
        self._torch = require("torch")
        self.device = self._torch.device(device)

    def put(self, values: FloatArray) -> Any:
        """See `Place`."""
        return self._torch.tensor(values, device=self.device)

    def take(self, values: Any) -> FloatArray:
        """See `Place`."""
        return np.asarray(values.cpu().numpy())

    def rows(self, index: IntArray) -> Any:
        """See `Place`."""
        return self._torch.tensor(index, device=self.device)

    def cast(self, values: Any, dtype: np.dtype[Any]) -> Any:
        """See `Place`."""
        return values.to(getattr(self._torch, str(np.dtype(dtype))))

    def cholesky(self, A: Any) -> Any:
        """See `Place`."""
        return self._torch.linalg.cholesky(A)

    def solve_lower(self, factor: Any, B: Any) -> Any:
        """See `Place`."""
        return self._torch.linalg.solve_triangular(factor, B, upper=False)

    def solve_transposed(self, factor: Any, B: Any) -> Any:
        """See `Place`."""
        return self._torch.linalg.solve_triangular(factor.T, B, upper=True)

    def eigh(self, A: Any) -> tuple[Any, Any]:
        """See `Place`."""
        values, vectors = self._torch.linalg.eigh(A)
        return values, vectors

    def add_to_diagonal(self, A: Any, value: float) -> None:
        """See `Place`."""
        A.diagonal().add_(value)

    def solved(self, A: Any, B: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """See `Place`."""
        factor, failed = self._torch.linalg.cholesky_ex(A)
        if int(failed):
            return 0.0, B, B[:, 0]
        least = float(factor.diagonal().min()) ** 2
        found = self._torch.cholesky_solve(self.put(B).to(A.dtype), factor)
        inverse = self._torch.cholesky_inverse(factor)
        return least, self.take(found), self.take(inverse.diagonal())


def place_of(values: Any) -> Place:
    """Return where some values are."""
    return Host() if isinstance(values, np.ndarray) else Device(values.device)
