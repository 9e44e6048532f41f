"""All eigenvalues of a dense symmetric matrix, by LAPACK or by what torch has on a device."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

import numpy as np
from scipy.linalg import eigh, eigvalsh

from rmtdeq._lib.types import FloatArray

logger = logging.getLogger(__name__)


_PART = 800
"""From here on the time grows as the cube of the size."""


def expected_seconds(G: Any) -> float | None:
    """Return what `eigenpairs` of a large matrix will take, about, from a part of it; None where that is not known."""
    if not isinstance(G, np.ndarray) or len(G) < 2 * _PART:
        return None
    start = perf_counter()
    eigh(G[:_PART, :_PART], check_finite=False)
    return (perf_counter() - start) * (len(G) / _PART) ** 3


def eigenpairs(G: Any, top: int | None) -> tuple[FloatArray, FloatArray]:
    """Return all eigenvalues, ascending, and the vectors of the `top` last, or of all.

    Parameters
    ----------
    G : ndarray (n, n), which is overwritten, or Tensor
        Where a tensor is, its eigenvalues are computed; on the host if they do not fit there.
    top : int or None
    """
    if not isinstance(G, np.ndarray):
        found = _by_torch(G, top)
        if found is not None:
            return found
        G = G.cpu().numpy()
    if top is None:
        values, vectors = eigh(G, overwrite_a=True, check_finite=False)
        return values, vectors
    n = len(G)
    values = eigvalsh(G, check_finite=False)
    _, vectors = eigh(G, subset_by_index=[n - top, n - 1], overwrite_a=True, check_finite=False)
    return values, vectors


def _by_torch(G: Any, top: int | None) -> tuple[FloatArray, FloatArray] | None:
    """Return them from the device of G; None if there is no room."""
    import torch

    try:
        values, vectors = torch.linalg.eigh(G)
    except torch.OutOfMemoryError:
        logger.warning("%s has no room for the eigenvectors of %d samples: computing on the host.", G.device, len(G))
        return None
    kept = vectors if top is None else vectors[:, len(G) - top :]
    return values.cpu().numpy(), kept.cpu().numpy()
