"""Linear operators that are their own transpose."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator

from rmtdeq._lib.types import FloatArray


class SymmetricOperator(LinearOperator):
    """A real symmetric LinearOperator: what is left to write is the product with several vectors, `_matmat`."""

    def _matvec(self, v: FloatArray) -> FloatArray:
        return np.asarray(self._matmat(np.reshape(v, (-1, 1))))

    def _adjoint(self) -> SymmetricOperator:
        return self

    def _transpose(self) -> SymmetricOperator:
        return self
