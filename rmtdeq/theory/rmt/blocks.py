"""Traces of ``(I + Σ_a D_a s_a s_aᵀ)^{-1}`` over many small blocks (numba).

What is wanted of a block is ``P_ab = s_aᵀ B^{-1} s_b``.  It starts at S_ab = s_a·s_b and takes one rank-one update for
each class; the entries of the class updated are divided, not subtracted, so that a huge D_a (near an atom of its class)
costs no digits.  Real and imaginary parts are kept apart and the innermost loops run over blocks, which compilers turn
into vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.threads import share_out, threads
from rmtdeq._lib.types import ComplexArray, FloatArray, IntArray

STRIP = 32
_FEW = 25_000
"""Strips, times the square of the number of classes, that one thread has done in some 5 ms: others would not gain."""
_PARTS = 4
"""Stretches of points for each thread."""
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@compiled(**_OPTIONS)
def _update(re, im, a, load_re, load_im, work):  # type: ignore[no-untyped-def]
    """Add ``load s_a s_aᵀ`` to B, for a strip of blocks; leave what det B grows by in the last rows of `work`."""
    k = re.shape[0]
    scale_re, scale_im, size_re, size_im = work[0], work[1], work[2], work[3]
    factor_re, factor_im, growth_re, growth_im = work[4], work[5], work[6], work[7]
    for m in range(STRIP):
        x, y = re[a, a, m], im[a, a, m]
        u, v = 1 + load_re[m] * x - load_im[m] * y, load_re[m] * y + load_im[m] * x
        growth_re[m], growth_im[m] = u, v
        length = u * u + v * v
        scale_re[m], scale_im[m] = u / length, -v / length
        size_re[m] = load_re[m] * scale_re[m] - load_im[m] * scale_im[m]
        size_im[m] = load_re[m] * scale_im[m] + load_im[m] * scale_re[m]
    for i in range(k):
        if i == a:
            continue
        row_re, row_im = re[max(a, i), min(a, i)], im[max(a, i), min(a, i)]
        for m in range(STRIP):
            factor_re[m] = size_re[m] * row_re[m] - size_im[m] * row_im[m]
            factor_im[m] = size_re[m] * row_im[m] + size_im[m] * row_re[m]
        for j in range(i + 1):
            if j == a:
                continue
            other_re, other_im = re[max(a, j), min(a, j)], im[max(a, j), min(a, j)]
            target_re, target_im = re[i, j], im[i, j]
            for m in range(STRIP):
                target_re[m] -= factor_re[m] * other_re[m] - factor_im[m] * other_im[m]
                target_im[m] -= factor_re[m] * other_im[m] + factor_im[m] * other_re[m]
    for i in range(k):
        row_re, row_im = re[max(a, i), min(a, i)], im[max(a, i), min(a, i)]
        for m in range(STRIP):
            x, y = row_re[m], row_im[m]
            row_re[m] = x * scale_re[m] - y * scale_im[m]
            row_im[m] = x * scale_im[m] + y * scale_re[m]


@compiled(**_OPTIONS)
def _solve_strip(w, gram, values, start, re, im, work, angles):  # type: ignore[no-untyped-def]
    """Compute P of one point and one strip of blocks, lower triangle; add the arguments of det B to `angles` if any."""
    k = gram.shape[0]
    for a in range(k):
        for b in range(a + 1):
            re[a, b, :] = gram[a, b]
            im[a, b, :] = 0.0
    for a in range(k):
        for m in range(STRIP):
            work[0, m] = w[a].real * values[a, start + m]
            work[1, m] = w[a].imag * values[a, start + m]
        _update(re, im, a, work[0], work[1], work[2:])
        for m in range(angles.size):
            # Loads in the upper half plane turn det B by less than π each.
            angles[m] += np.arctan2(work[9, m], work[8, m])


def _padded(array: np.ndarray) -> np.ndarray:
    """Fill up the last axis with zeros to whole strips: blocks without load or weight."""
    missing = -array.shape[-1] % STRIP
    return array if not missing else np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def _stripped(
    w: ComplexArray, eigenvalues: FloatArray, weights: FloatArray, strips: IntArray | None
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return eigenvalues (K, blocks) and weights in whole strips, and how many of these there are for each point."""
    values = _padded(eigenvalues.T)
    return values, _padded(weights), np.full(w.shape[0], values.shape[1] // STRIP) if strips is None else strips


def block_traces(
    w: ComplexArray,
    gram: FloatArray,
    eigenvalues: FloatArray,
    weights: FloatArray,
    strips: IntArray | None = None,
) -> tuple[ComplexArray, ComplexArray]:
    """Sum ``weight · d_a P_aa`` and ``-weight · d_a d_b P_ab²`` over the blocks, for many points.

    Parameters
    ----------
    w : ndarray (points, K), complex
        D_a = w_a d_a.
    gram : ndarray (K, K)
    eigenvalues : ndarray (blocks, K)
        d_a.
    weights : ndarray (blocks,)
    strips : ndarray (points,), optional
        How many strips of `STRIP` blocks to sum over at each point; by default all.

    Returns
    -------
    ndarray (points, K), ndarray (points, K, K)
    """
    values, weights, strips = _stripped(w, eigenvalues, weights, strips)
    points, k = w.shape
    first, second = np.zeros((points, k), complex), np.zeros((points, k, k), complex)
    _over_points(lambda at: _traces(w[at], gram, values, weights, strips[at], first[at], second[at]), strips, k)
    return first, second


def block_arguments(
    w: ComplexArray,
    gram: FloatArray,
    eigenvalues: FloatArray,
    weights: FloatArray,
    strips: IntArray | None = None,
) -> FloatArray:
    """Sum ``weight · arg det B`` over the blocks, for many points; each continuous from 0 at w = 0.

    Parameters
    ----------
    w, gram, eigenvalues, weights
        As for `block_traces`, w in the upper half plane.
    strips
        Likewise.

    Returns
    -------
    ndarray (points,)
    """
    values, weights, strips = _stripped(w, eigenvalues, weights, strips)
    result = np.zeros(w.shape[0])
    _over_points(lambda at: _arguments(w[at], gram, values, weights, strips[at], result[at]), strips, w.shape[1])
    return result


def block_form(w: ComplexArray, gram: FloatArray, eigenvalues: FloatArray, products: FloatArray) -> ComplexArray:
    """Sum ``P_ab · products_ab`` over the blocks, for many points.

    Parameters
    ----------
    w, gram, eigenvalues
        As for `block_traces`.
    products : ndarray (blocks, K, K)
        Symmetric.

    Returns
    -------
    ndarray (points, K, K)
    """
    points, k = w.shape
    values, products = _padded(eigenvalues.T), _padded(np.moveaxis(products, 0, -1))
    result = np.zeros((points, k, k), complex)
    strips = np.full(points, values.shape[1] // STRIP)
    _over_points(lambda at: _form(w[at], gram, values, products, result[at]), strips, k)
    return result


@compiled(**_OPTIONS)
def _traces(w, gram, values, weights, strips, first, second):  # type: ignore[no-untyped-def]
    """Fill the points' two sums, which are zero."""
    points, k = w.shape
    re, im, work, none = np.empty((k, k, STRIP)), np.empty((k, k, STRIP)), np.empty((10, STRIP)), np.empty(0)
    for g in range(points):
        for start in range(0, strips[g] * STRIP, STRIP):
            _solve_strip(w[g], gram, values, start, re, im, work, none)
            for a in range(k):
                sum_re = sum_im = 0.0
                for m in range(STRIP):
                    part = weights[start + m] * values[a, start + m]
                    sum_re += part * re[a, a, m]
                    sum_im += part * im[a, a, m]
                first[g, a] += complex(sum_re, sum_im)
                for b in range(a + 1):
                    sum_re = sum_im = 0.0
                    for m in range(STRIP):
                        part = weights[start + m] * values[a, start + m] * values[b, start + m]
                        x, y = re[a, b, m], im[a, b, m]
                        sum_re += part * (x * x - y * y)
                        sum_im += part * 2 * x * y
                    second[g, a, b] -= complex(sum_re, sum_im)
        for a in range(k):
            for b in range(a):
                second[g, b, a] = second[g, a, b]


@compiled(**_OPTIONS)
def _form(w, gram, values, products, result):  # type: ignore[no-untyped-def]
    """Fill the points' sums, which are zero."""
    points, k = w.shape
    re, im, work, none = np.empty((k, k, STRIP)), np.empty((k, k, STRIP)), np.empty((10, STRIP)), np.empty(0)
    for g in range(points):
        for start in range(0, values.shape[1], STRIP):
            _solve_strip(w[g], gram, values, start, re, im, work, none)
            for a in range(k):
                for b in range(a + 1):
                    sum_re = sum_im = 0.0
                    for m in range(STRIP):
                        sum_re += products[a, b, start + m] * re[a, b, m]
                        sum_im += products[a, b, start + m] * im[a, b, m]
                    result[g, a, b] += complex(sum_re, sum_im)
        for a in range(k):
            for b in range(a):
                result[g, b, a] = result[g, a, b]


@compiled(**_OPTIONS)
def _arguments(w, gram, values, weights, strips, result):  # type: ignore[no-untyped-def]
    """Fill the points' sums, which are zero."""
    points, k = w.shape
    angles = np.empty(STRIP)
    re, im, work = np.empty((k, k, STRIP)), np.empty((k, k, STRIP)), np.empty((10, STRIP))
    for g in range(points):
        for start in range(0, strips[g] * STRIP, STRIP):
            angles[:] = 0.0
            _solve_strip(w[g], gram, values, start, re, im, work, angles)
            for m in range(STRIP):
                result[g] += weights[start + m] * angles[m]


def _over_points(work: Callable[[slice], None], strips: IntArray, k: int) -> None:
    """Share points out among threads; those of numba's own would spin for one another on a busy machine."""
    points = len(strips)
    workers = threads(points) if int(strips.sum()) * k**2 > _FEW else 1
    # Points of one stretch may have more strips than those of another.
    ends = np.linspace(0, points, min(points, _PARTS * workers if workers > 1 else 1) + 1).astype(int)
    share_out([slice(*each) for each in pairwise(ends)], lambda _: work, workers)
