"""Traces of ``(I + Σ_a D_a s_a s_aᵀ)^{-1}`` over many small blocks (numba).

What is wanted of a block is ``P_ab = s_aᵀ B^{-1} s_b``.  It starts at S_ab = s_a·s_b and takes one rank-one update for
each class; the entries of the class updated are divided, not subtracted, so that a huge D_a (near an atom of its class)
costs no digits.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def block_traces(w, gram, eigenvalues, weights):  # type: ignore[no-untyped-def]
    """Sum ``weight · d_a P_aa`` and ``-weight · d_a d_b P_ab²`` over the blocks, for many points.

    Parameters
    ----------
    w : ndarray (points, K), complex
        D_a = w_a d_a.
    gram : ndarray (K, K)
    eigenvalues : ndarray (blocks, K)
        d_a.
    weights : ndarray (blocks,)

    Returns
    -------
    ndarray (points, K), ndarray (points, K, K)
    """
    points, k = w.shape
    first = np.zeros((points, k), dtype=np.complex128)
    second = np.zeros((points, k, k), dtype=np.complex128)
    for g in numba.prange(points):
        products = np.empty((k, k), dtype=np.complex128)
        sums = np.zeros(k, dtype=np.complex128)
        squares = np.zeros((k, k), dtype=np.complex128)
        for m in range(eigenvalues.shape[0]):
            for a in range(k):
                for b in range(k):
                    products[a, b] = gram[a, b]
            for a in range(k):
                load = w[g, a] * eigenvalues[m, a]
                if load == 0:
                    continue
                scale = 1 / (1 + load * products[a, a])
                for i in range(k):
                    if i != a:
                        factor = load * scale * products[a, i]
                        for j in range(i + 1):
                            if j != a:
                                products[i, j] -= factor * products[a, j]
                                products[j, i] = products[i, j]
                for i in range(k):
                    products[a, i] *= scale
                    products[i, a] = products[a, i]
            for a in range(k):
                part = weights[m] * eigenvalues[m, a]
                sums[a] += part * products[a, a]
                for b in range(a + 1):
                    squares[a, b] -= part * eigenvalues[m, b] * products[a, b] * products[a, b]
        for a in range(k):
            first[g, a] = sums[a]
            for b in range(a + 1):
                second[g, a, b] = squares[a, b]
                second[g, b, a] = squares[a, b]
    return first, second
