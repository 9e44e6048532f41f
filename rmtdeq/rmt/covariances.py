"""Several covariance matrices in one basis: diagonal where they commute, dense where they must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmtdeq._types import FloatArray

_GROUPING = 1e-12


@dataclass(frozen=True, eq=False)
class CovarianceFamily:
    """K covariances C_a and means μ_a of R^p in a common orthonormal basis.

    In the basis the first `head` coordinates are kept as dense blocks; on the others the covariances are
    diagonal, and coordinates with the same K eigenvalues are one group.

    Attributes
    ----------
    dimension : int
        p.
    eigenvalues : ndarray (groups, K)
        Variances of the K classes in the coordinates of a group.
    multiplicities : ndarray (groups,)
        How many coordinates a group has.
    mean_products : ndarray (groups, K, K)
        Inner products of the means, restricted to the coordinates of a group.
    head : ndarray (K, d, d)
        Dense blocks; d = 0 where the covariances commute.
    head_means : ndarray (K, d)
    neglected : float
        Squared Frobenius norm of the entries that were left out, relative to the whole, the worst class.
    """

    dimension: int
    eigenvalues: FloatArray
    multiplicities: FloatArray
    mean_products: FloatArray
    head: FloatArray
    head_means: FloatArray
    neglected: float

    @property
    def classes(self) -> int:
        """K."""
        return int(self.eigenvalues.shape[1])

    @property
    def largest(self) -> float:
        """An upper bound of all eigenvalues."""
        bounds = [float(self.eigenvalues.max(initial=0.0))]
        if self.head.size:
            bounds.extend(float(np.linalg.norm(block, 2)) for block in self.head)
        return max(bounds)

    def diagonal_part(self) -> CovarianceFamily:
        """Return the family with the off-diagonal entries of the head dropped: a first guess for solvers."""
        d = self.head.shape[1]
        diagonal = np.einsum("akk->ka", self.head)
        products = np.einsum("ak,bk->kab", self.head_means, self.head_means)
        return CovarianceFamily(
            self.dimension,
            np.concatenate([diagonal, self.eigenvalues]),
            np.concatenate([np.ones(d), self.multiplicities]),
            np.concatenate([products, self.mean_products]),
            self.head[:, :0, :0],
            self.head_means[:, :0],
            1.0,
        )


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
        Off-diagonal entries may be dropped in the directions of least variance as long as their squares add up
        to no more than this fraction of the squared Frobenius norm.  Traces of resolvents depend on dropped
        entries to second order only.
    """
    p = means.shape[1]
    if all(c.ndim < 2 for c in covariances):
        diagonals = np.stack([np.broadcast_to(c, (p,)) for c in covariances], axis=1)
        return _grouped(diagonals, means, np.zeros((len(covariances), 0, 0)), 0, 0.0)
    full = [c if c.ndim == 2 else np.diag(np.broadcast_to(c, (p,))) for c in covariances]
    # Weights that no symmetry produces, so that commuting covariances are all diagonal in the basis of the sum.
    generic = np.asarray(weights) * (1 + 0.1 * np.sin(1.0 + 2.0 * np.arange(len(full))))
    _, basis = np.linalg.eigh(sum(g * c for g, c in zip(generic, full, strict=True)))
    basis = basis[:, ::-1]
    rotated = np.stack([basis.T @ c @ basis for c in full])
    # missing[d]: squares of the off-diagonal entries outside the leading d × d block.
    diagonals = np.einsum("akk->ak", rotated)
    squares = np.cumsum(np.cumsum(rotated**2, axis=1), axis=2)
    total = squares[:, -1, -1]
    inside = np.concatenate([np.zeros((len(full), 1)), np.einsum("akk->ak", squares)], axis=1)
    beyond = np.concatenate([np.cumsum((diagonals**2)[:, ::-1], axis=1)[:, ::-1], np.zeros((len(full), 1))], axis=1)
    missing = np.max((total[:, None] - inside - beyond) / np.maximum(total, 1e-300)[:, None], axis=0)
    head = int(np.argmax(missing <= max(truncation, 1e-14)))
    return _grouped(
        diagonals.T[head:], means @ basis, rotated[:, :head, :head], head, max(0.0, float(missing[head]))
    )


def _grouped(
    diagonals: FloatArray, means: FloatArray, dense: FloatArray, head: int, neglected: float
) -> CovarianceFamily:
    """Merge coordinates with equal eigenvalues; `means` (K, p) is in the same basis, the head first."""
    tail = means[:, head:]
    diagonals = np.maximum(diagonals, 0.0)
    scale = _GROUPING * max(float(diagonals.max(initial=0.0)), 1e-300)
    _, first, group = np.unique(np.round(diagonals / scale), axis=0, return_index=True, return_inverse=True)
    group = np.ravel(group)
    products = np.zeros((first.size, means.shape[0], means.shape[0]))
    np.add.at(products, group, np.einsum("ak,bk->kab", tail, tail))
    return CovarianceFamily(
        means.shape[1],
        diagonals[first],
        np.bincount(group, minlength=first.size).astype(float),
        products,
        dense,
        means[:, :head],
        neglected,
    )
