"""Probabilities that all of some Gaussian numbers are positive."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from rmtdeq._lib.types import FloatArray

_POINTS = 2048
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
_ROUNDING = 1e-12
_BLOCK = 1 << 22


def all_positive(means: FloatArray, covariances: FloatArray) -> FloatArray:
    """Return P(all entries > 0) of Gaussian vectors.

    Parameters
    ----------
    means : ndarray (b, d)
    covariances : ndarray (b, d, d)

    Returns
    -------
    ndarray (b,)
        Exact for d = 1, else to some 1e-4.

    Notes
    -----
    One variable after another, given those before (Genz, *Numerical computation of multivariate normal probabilities*,
    1992), averaged over a lattice.
    """
    count, d = means.shape
    sizes = np.maximum(np.einsum("bii->b", covariances), 1e-300)
    factors = np.linalg.cholesky(covariances + _ROUNDING * sizes[:, None, None] * np.eye(d))
    lattice = np.outer(np.arange(1, _POINTS + 1), np.sqrt(_primes(max(d - 1, 0)))) % 1
    # The tent turns the lattice into one for functions that are not periodic.
    uniform = np.clip(abs(2 * lattice - 1), 1e-12, 1 - 1e-12)
    rows = max(1, _BLOCK // (_POINTS * d))
    parts = [
        _conditioned(means[start : start + rows], factors[start : start + rows], uniform)
        for start in range(0, count, rows)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _conditioned(means: FloatArray, factors: FloatArray, uniform: FloatArray) -> FloatArray:
    d = means.shape[1]
    known = np.empty((len(means), len(uniform), 0))
    probability = np.ones((len(means), len(uniform)))
    for i in range(d):
        shift = means[:, None, i] + np.einsum("bpj,bj->bp", known, factors[:, i, :i])
        positive = ndtr(shift / factors[:, None, i, i])
        probability = probability * positive
        if i < d - 1:
            # The standard normal that is above -shift/L_ii, at this quantile.
            value = -ndtri(np.maximum(uniform[:, i] * positive, 1e-300))
            known = np.concatenate([known, value[..., None]], axis=2)
    return np.asarray(probability.mean(axis=1))


def _primes(count: int) -> FloatArray:
    found = list(_PRIMES[:count])
    candidate = _PRIMES[-1]
    while len(found) < count:
        candidate += 2
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return np.array(found, dtype=float)
