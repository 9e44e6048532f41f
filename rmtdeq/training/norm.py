"""Eigenvalues of kernels, and the norm of the recurrent weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import FloatArray

_SMALL = 256
_NORM_TOLERANCE = 1e-6


def eigenvalues(kernel: Tensor) -> Tensor:
    """Return the eigenvalues of a symmetric matrix, ascending, in double precision and on the CPU."""
    return torch.linalg.eigvalsh(kernel.double().cpu())


def spectral_norm(matrix: Tensor, start: FloatArray | None = None) -> tuple[float, FloatArray]:
    """Return the largest singular value of a square matrix and its right vector, near `start` if given.

    Raises
    ------
    ConvergenceError
        The iterations do not converge.
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, svds

    m = matrix.shape[0]
    if m <= _SMALL:
        _, values, right = torch.linalg.svd(matrix.double().cpu())
        return float(values[0]), right[0].numpy()

    def product(of: Tensor) -> Any:
        return lambda v: (of @ torch.from_numpy(np.ravel(v)).to(of)).double().cpu().numpy()

    operator = LinearOperator((m, m), matvec=product(matrix), rmatvec=product(matrix.T), dtype=np.float64)
    begin = np.random.default_rng(0).standard_normal(m) if start is None else start
    try:
        _, values, right = svds(operator, k=1, v0=begin, tol=_NORM_TOLERANCE, return_singular_vectors="vh")
    except ArpackError as error:
        raise ConvergenceError(f"The norm of the recurrent weights could not be computed: {error}") from error
    return float(values[0]), right[0]
