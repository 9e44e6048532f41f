"""Traces of resolvents of covariances that do not commute, on their leading coordinates.

With ``B = I + Σ_a w_a (s_a s_aᵀ) ⊗ C_a`` the traces wanted are the derivatives of ``log det B`` in w.  In the basis of
the mean covariance B is nearly diagonal in the coordinates.  It is treated exactly on the *head*, the leading
coordinates in the leading directions of the s_a; elsewhere entries between different coordinates are dropped, which
leaves a block for each coordinate.  What remains are covariances again (a pinching of them), so that their equations
have one solution in the upper half plane like any others.
"""

from __future__ import annotations

import numpy as np

from rmtdeq._types import ComplexArray, FloatArray

_CHUNK = 4_000_000


def head_traces(
    blocks: FloatArray, factors: FloatArray, w: ComplexArray, jacobian: bool
) -> tuple[ComplexArray, ComplexArray]:
    """Return gradient and Hessian in w of the head's ``log det B``.

    Parameters
    ----------
    blocks : ndarray (K, d, d)
        The covariances on the head.
    factors : ndarray (K, r)
        The vectors s_a.
    w : ndarray (points, K)
    jacobian : bool
        Without it the Hessian is zero: it costs K times as much as the gradient.

    Returns
    -------
    gradient : ndarray (points, K)
    hessian : ndarray (points, K, K)
    """
    points, k = w.shape
    size, r = blocks.shape[1], factors.shape[1]
    gradient = np.zeros((points, k), dtype=complex)
    hessian = np.zeros((points, k, k), dtype=complex)
    flat = blocks.reshape(k, -1).T.astype(complex)
    rows = max(1, _CHUNK // (r * size) ** 2)
    for start in range(0, points, rows):
        part = slice(start, start + rows)
        inverse = inverse_block(blocks, factors, w[part])
        for i in range(r):
            for j in range(r):
                traces = np.ascontiguousarray(inverse[:, i, :, j]).reshape(-1, size**2) @ flat
                gradient[part] += traces * (factors[:, i] * factors[:, j])
        if jacobian:
            for g in range(inverse.shape[0]):
                hessian[start + g] = -_head_hessian(blocks, factors, inverse[g])
    return gradient, hessian


def inverse_block(blocks: FloatArray, factors: FloatArray, w: ComplexArray) -> ComplexArray:
    """``B^{-1}`` on the coordinates of the given blocks (K, d, d), as (points, r, d, r, d)."""
    (k, r), size = factors.shape, blocks.shape[1]
    flat = blocks.reshape(k, -1).astype(complex)
    matrix = np.empty((w.shape[0], r, size, r, size), dtype=complex)
    for i in range(r):
        for j in range(i + 1):
            entries = ((w * (factors[:, i] * factors[:, j])) @ flat).reshape(-1, size, size)
            matrix[:, i, :, j] = matrix[:, j, :, i] = entries
    square = matrix.reshape(-1, r * size, r * size)
    square[:, np.arange(r * size), np.arange(r * size)] += 1
    return np.asarray(np.linalg.inv(square).reshape(-1, r, size, r, size))


def _head_hessian(blocks: FloatArray, factors: FloatArray, inverse: ComplexArray) -> ComplexArray:
    """``tr[(s_a s_aᵀ⊗C_a) B^{-1} (s_b s_bᵀ⊗C_b) B^{-1}] = tr[C_a M_ab C_b M_ba]``, M_ab = s_aᵀ B^{-1} s_b a matrix."""
    left = np.einsum("ai,ikjl->akjl", factors, inverse)
    left = np.matmul(blocks, left.reshape(*left.shape[:2], -1)).reshape(left.shape)
    products = np.einsum("akjl,bj->abkl", left, factors, optimize=True)
    return np.asarray(np.einsum("abkl,balk->ab", products, products))


def head_form(blocks: FloatArray, means: FloatArray, factors: FloatArray, w: ComplexArray) -> ComplexArray:
    """``(s_a ⊗ μ_a)ᵀ B^{-1} (s_b ⊗ μ_b)`` on the head, (points, K, K).

    Parameters
    ----------
    blocks, factors, w
        As for `head_traces`.
    means : ndarray (K, d)
    """
    result = np.empty((w.shape[0], means.shape[0], means.shape[0]), dtype=complex)
    lifted = np.einsum("ai,ak->aik", factors, means)
    rows = max(1, _CHUNK // (factors.shape[1] * blocks.shape[1]) ** 2)
    for start in range(0, w.shape[0], rows):
        part = slice(start, start + rows)
        inverse = inverse_block(blocks, factors, w[part])
        result[part] = np.einsum("aik,gikjl,bjl->gab", lifted, inverse, lifted, optimize=True)
    return result
