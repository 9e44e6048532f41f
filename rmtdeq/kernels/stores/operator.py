"""A symmetric kernel matrix that is kept somewhere, or computed for every product, as a scipy operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rmtdeq._lib.linear import SymmetricOperator
from rmtdeq._lib.types import FloatArray


class Store(Protocol):
    """A matrix and its products: `host_matrix.HostMatrix`, or one of `device.matrix` or `cluster.matrix`."""

    def compute(self, progress: bool) -> None:
        """Compute what is kept and is not there yet."""

    def product(self, V: FloatArray, progress: bool) -> FloatArray:
        """Return the product with vectors (n, b) in double precision."""

    def close(self) -> None:
        """Let go of what is kept."""


class KernelOperator(SymmetricOperator):
    """A symmetric kernel matrix, to be multiplied with vectors; made by `kernel_operator`.

    A scipy LinearOperator of shape (n, n).  Products are taken in double precision whatever the entries' is; they are
    returned in the precision asked for, or the vectors' where it is higher.

    Attributes
    ----------
    method : str
        How it is stored: ``"device"``, ``"dense"``, ``"float32"``, ``"memory-mapped"``, ``"cluster"`` or
        ``"matrix-free"``.
    entries_dtype : dtype
        Precision of the entries.
    """

    def __init__(
        self,
        n: int,
        store: Callable[[str], Store],
        identity: Callable[[], dict[str, Any]],
        method: str,
        dtype: np.dtype[Any],
        entries_dtype: np.dtype[Any],
        progress: bool = False,
    ) -> None:
        self.method, self.entries_dtype, self._progress = method, entries_dtype, progress
        self._store_by, self._identity = store, identity
        self._store = store(method)
        super().__init__(dtype=dtype, shape=(n, n))

    def close(self) -> None:
        """Forget what is stored, and remove temporary files; products compute the entries afresh from then on.

        The files are removed with the operator at the latest.
        """
        stored = self._store
        self.method, self._store = "matrix-free", self._store_by("matrix-free")
        stored.close()

    def identity(self) -> dict[str, Any]:
        """Return what the matrix depends on, with checksums of samples and activation."""
        return self._identity()

    def compute(self) -> KernelOperator:
        """Compute and store now what the first product would; return the operator itself."""
        self._store.compute(self._progress)
        return self

    def _matmat(self, V: FloatArray) -> FloatArray:
        if np.iscomplexobj(V):
            return np.asarray(self._matmat(V.real) + 1j * self._matmat(V.imag))
        result_dtype = np.result_type(self.dtype, V.dtype)
        found = self.compute()._store.product(np.ascontiguousarray(V, dtype=np.float64), self._progress)
        return found.astype(result_dtype, copy=False)
