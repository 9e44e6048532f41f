"""Several covariance matrices in one basis: diagonal where they commute, dense where they must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmtdeq._lib.types import FloatArray

_GROUPING = 1e-12
_COMMUTING = 1e-14


@dataclass(frozen=True, eq=False)
class CovarianceFamily:
    """K covariances C_a and means μ_a of R^p in a common orthonormal basis.

    Attributes
    ----------
    dimension : int
        p.
    eigenvalues : ndarray (groups, K)
        Diagonal entries of the C_a in the coordinates of a group: coordinates where all K agree are one group if
        the covariances commute, and every coordinate is its own otherwise.
    multiplicities : ndarray (groups,)
        How many coordinates a group has.
    mean_products : ndarray (groups, K, K)
        Inner products of the means, restricted to the coordinates of a group.
    head : ndarray (K, d, d) or None
        The covariances on the leading d coordinates, off-diagonal entries included; None where they commute.
    head_means : ndarray (K, d) or None
        The means there; None likewise.
    truncation : float
        The fraction of the squared entries that was left outside the head.
    """

    dimension: int
    eigenvalues: FloatArray
    multiplicities: FloatArray
    mean_products: FloatArray
    head: FloatArray | None = None
    head_means: FloatArray | None = None
    truncation: float = 0.0

    def commuting_part(self) -> CovarianceFamily:
        """Return the family without off-diagonal entries: a first guess for solvers."""
        return replace(self, head=None, head_means=None)


def covariance_family(
    covariances: Sequence[FloatArray], means: FloatArray, weights: FloatArray, truncation: float
) -> CovarianceFamily:
    """Bring covariances into a common basis.

    Parameters
    ----------
    covariances : sequence of ndarray
        Each a scalar (), a diagonal (p,) or a matrix (p, p).
    means : ndarray (K, p)
    weights : ndarray (K,)
        Class probabilities.
    truncation : float
        The head is made just large enough that the squares of the off-diagonal entries outside it add up to no
        more than this fraction of the squared Frobenius norm, for every class.
    """
    p = means.shape[1]
    if all(c.ndim < 2 for c in covariances):
        return _grouped(np.stack([np.broadcast_to(c, (p,)) for c in covariances], axis=1), means)
    full = [c if c.ndim == 2 else np.diag(np.broadcast_to(c, (p,))) for c in covariances]
    # Weights that no symmetry produces, so that commuting covariances are all diagonal in the basis of the sum.
    generic = np.asarray(weights) * (1 + 0.1 * np.sin(1.0 + 2.0 * np.arange(len(full))))
    _, basis = np.linalg.eigh(np.einsum("a,aij->ij", generic, np.stack(full)))
    basis = basis[:, ::-1]
    rotated = np.stack([basis.T @ c @ basis for c in full])
    means = means @ basis
    diagonals = np.einsum("akk->ka", rotated)
    missing = _missing(rotated)
    if missing[0] <= _COMMUTING:
        return _grouped(diagonals, means)
    # At least one coordinate: what commutes nowhere is no family of commuting covariances.
    d = max(1, int(np.argmax(missing <= truncation)))
    return CovarianceFamily(
        dimension=p,
        eigenvalues=np.maximum(diagonals, 0.0),
        multiplicities=np.ones(p),
        mean_products=np.einsum("ak,bk->kab", means, means),
        head=rotated[:, :d, :d].copy(),
        head_means=means[:, :d].copy(),
        truncation=truncation,
    )


def _missing(matrices: FloatArray) -> FloatArray:
    """Fraction of the squares that are off the diagonal and outside the leading d × d block, d = 0 … p; the worst."""
    count = matrices.shape[0]
    squares = np.cumsum(np.cumsum(matrices**2, axis=1), axis=2)
    inside = np.concatenate([np.zeros((count, 1)), np.einsum("akk->ak", squares)], axis=1)
    diagonal = np.einsum("akk->ak", matrices) ** 2
    beyond = np.concatenate([np.cumsum(diagonal[:, ::-1], axis=1)[:, ::-1], np.zeros((count, 1))], axis=1)
    total = np.maximum(squares[:, -1, -1:], 1e-300)
    missing = np.max((total - inside - beyond) / total, axis=0)
    missing[-1] = 0.0
    return np.asarray(missing)


def _grouped(diagonals: FloatArray, means: FloatArray) -> CovarianceFamily:
    """Merge the coordinates of commuting covariances that have equal eigenvalues."""
    diagonals = np.maximum(diagonals, 0.0)
    scale = _GROUPING * max(float(diagonals.max(initial=0.0)), 1e-300)
    _, first, group = np.unique(np.round(diagonals / scale), axis=0, return_index=True, return_inverse=True)
    group = np.ravel(group)
    products = np.zeros((first.size, means.shape[0], means.shape[0]))
    np.add.at(products, group, np.einsum("ak,bk->kab", means, means))
    counts = np.bincount(group, minlength=first.size).astype(float)
    return CovarianceFamily(means.shape[1], diagonals[first], counts, products)
