"""Traces of resolvents of covariances that do not commute.

With ``B = I + Σ_a w_a (s_a s_aᵀ) ⊗ C_a`` the traces wanted are the derivatives of ``log det B`` in w.  In the basis of
the mean covariance B is nearly diagonal.  Its leading block is treated exactly; the entries E outside enter to
second order, ``log det(D + E) ≈ log det D - ½ tr(D^{-1} E D^{-1} E)``, where the term of first order vanishes.  As both
traces and Jacobian are derivatives of that one function, they are consistent with each other.
"""

from __future__ import annotations

import numpy as np

from rmtdeq._types import ComplexArray, FloatArray
from rmtdeq.rmt.covariances import CovarianceFamily


def log_det_derivatives(
    family: CovarianceFamily, factors: FloatArray, w: ComplexArray, products: ComplexArray
) -> tuple[ComplexArray, ComplexArray]:
    """Return gradient and Hessian in w of ``log det B`` at many points.

    Parameters
    ----------
    family : CovarianceFamily
        With `matrices`.
    factors : ndarray (K, r)
        The vectors s_a.
    w : ndarray (points, K)
    products : ndarray (points, p, K, K)
        P_ab = s_aᵀ B_i^{-1} s_b for the diagonal block B_i of every coordinate.

    Returns
    -------
    gradient : ndarray (points, K)
    hessian : ndarray (points, K, K)
    """
    d, head = family.eigenvalues, family.head
    tail = products[:, head:]
    gradient = np.einsum("ma,gmaa->ga", d[head:], tail)
    hessian = -np.einsum("ma,mb,gmab->gab", d[head:], d[head:], tail**2, optimize=True)
    if head:
        _add_head(family, factors, w, gradient, hessian)
    _add_second_order(family, w, products, gradient, hessian)
    return gradient, hessian


def _add_head(
    family: CovarianceFamily, factors: FloatArray, w: ComplexArray, gradient: ComplexArray, hessian: ComplexArray
) -> None:
    """The exact contribution of the leading block."""
    assert family.matrices is not None
    blocks = family.matrices[:, : family.head, : family.head]
    k, r = factors.shape
    for g in range(w.shape[0]):
        inverse = inverse_block(blocks, factors, w[g])
        # M_ab = s_aᵀ B^{-1} s_b, a matrix; tr[(s_a s_aᵀ⊗C_a) B^{-1} (s_b s_bᵀ⊗C_b) B^{-1}] = tr[C_a M_ab C_b M_ba].
        if r == 1:
            between = [[factors[a, 0] * factors[b, 0] * inverse[0, :, 0] for b in range(k)] for a in range(k)]
        else:
            lifted = np.einsum("ai,ikjl,bj->abkl", factors, inverse, factors, optimize=True)
            between = [[lifted[a, b] for b in range(k)] for a in range(k)]
        product = [[blocks[a] @ between[a][b] for b in range(k)] for a in range(k)]
        for a in range(k):
            gradient[g, a] += np.trace(product[a][a])
            for b in range(k):
                hessian[g, a, b] -= (product[a][b] * product[b][a].T).sum()


def inverse_block(blocks: FloatArray, factors: FloatArray, w: ComplexArray) -> ComplexArray:
    """``B^{-1}`` on the coordinates of the given blocks (K, d, d), as (r, d, r, d)."""
    (_, r), size = factors.shape, blocks.shape[1]
    outer = w[:, None, None] * factors[:, :, None] * factors[:, None, :]
    matrix = np.einsum("aij,akl->ikjl", outer, blocks).reshape(r * size, r * size)
    matrix[np.diag_indices(r * size)] += 1
    return np.asarray(np.linalg.inv(matrix).reshape(r, size, r, size))


def _add_second_order(
    family: CovarianceFamily, w: ComplexArray, products: ComplexArray, gradient: ComplexArray, hessian: ComplexArray
) -> None:
    """Derivatives of ``-½ Σ_ab w_a w_b P_abᵀ O_ab P_ab``, O_ab the products of entries, P_ab as a vector over i."""
    d, k = family.eigenvalues, w.shape[1]
    P = np.moveaxis(products, 1, -1)  # (points, K, K, p)

    def apply(a: int, b: int, v: ComplexArray) -> ComplexArray:
        matrix = family.entry_products[a, b]
        return np.asarray(v.real @ matrix + 1j * (v.imag @ matrix))

    # ∂P_ab/∂w_c = -d_c P_ac P_cb
    slope = {(a, b, c): d[:, c] * P[:, a, c] * P[:, c, b] for a in range(k) for b in range(k) for c in range(k)}
    for a in range(k):
        for b in range(a + 1):
            twice = 1.0 if a == b else 2.0
            image = apply(a, b, P[:, a, b])
            form = (P[:, a, b] * image).sum(axis=1)
            weight = twice * w[:, a] * w[:, b]
            along = [(slope[a, b, c] * image).sum(axis=1) for c in range(k)]
            for c in range(k):
                gradient[:, c] += weight * along[c]
                bent = apply(a, b, slope[a, b, c])
                for e in range(c + 1):
                    curved = d[:, c] * d[:, e] * P[:, c, e] * (P[:, a, e] * P[:, c, b] + P[:, a, c] * P[:, e, b])
                    term = -weight * ((curved * image).sum(axis=1) + (slope[a, b, e] * bent).sum(axis=1))
                    hessian[:, c, e] += term
                    if c != e:
                        hessian[:, e, c] += term
            # The factors w_a w_b: their own derivatives, and those mixed with the form's.
            for own, other in ((a, b), (b, a)):
                gradient[:, own] -= 0.5 * twice * w[:, other] * form
                for c in range(k):
                    mixed = twice * w[:, other] * along[c]
                    hessian[:, own, c] += mixed
                    hessian[:, c, own] += mixed
            hessian[:, a, b] -= 0.5 * twice * form
            hessian[:, b, a] -= 0.5 * twice * form


def mean_form(family: CovarianceFamily, factors: FloatArray, w: ComplexArray) -> ComplexArray:
    """``(s_a ⊗ μ_a)ᵀ (I - B^{-1}) (s_b ⊗ μ_b)`` for points w (points, K), by solving with the whole of B."""
    assert family.matrices is not None
    assert family.means is not None
    (k, r), p = factors.shape, family.dimension
    lifted = (factors[:, :, None] * family.means[:, None, :]).reshape(k, r * p)
    result = np.empty((w.shape[0], k, k), dtype=complex)
    for g in range(w.shape[0]):
        outer = w[g][:, None, None] * factors[:, :, None] * factors[:, None, :]
        matrix = np.einsum("aij,akl->ikjl", outer, family.matrices).reshape(r * p, r * p)
        matrix[np.diag_indices(r * p)] += 1
        result[g] = lifted @ lifted.T - lifted @ np.linalg.solve(matrix, lifted.T.astype(complex))
    return result
