"""All eigenvalues of a symmetric matrix, and what its leading eigenvectors have in common with other vectors."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal, eigvalsh_tridiagonal
from scipy.linalg.lapack import get_lapack_funcs

from rmtdeq._lib.types import FloatArray

_SMALL = 512


def eigenvalues(matrix: FloatArray) -> FloatArray:
    """Return the eigenvalues of a symmetric matrix, (n,) ascending, as exact as its smallest one needs.

    Notes
    -----
    Householder's reduction in single precision moves eigenvalues by a hundredth of its unit of rounding times the
    largest one (measured on kernels of images); where the smallest is no greater than that, or where it costs nothing,
    it is done in double.
    """
    return projections(matrix, np.empty((len(matrix), 0)), 0)[0]


def projections(matrix: FloatArray, columns: FloatArray, top: int) -> tuple[FloatArray, FloatArray]:
    """Return the eigenvalues, and the inner products of the leading eigenvectors with some vectors.

    Parameters
    ----------
    matrix : ndarray (n, n)
    columns : ndarray (n, k)
    top : int
        Number of eigenvectors.

    Returns
    -------
    values : ndarray (n,)
        As `eigenvalues` has them.
    products : ndarray (top, k)
        Of the `top` largest, ascending.
    """
    size = float(abs(matrix).max(initial=0.0))
    if len(matrix) < 2 or size == 0:
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors[:, len(matrix) - top :].T @ columns
    for dtype in (np.float32, np.float64)[len(matrix) <= _SMALL :]:
        values, products = _reduced((matrix / size).astype(dtype), columns.astype(dtype), top)
        if values[0] > np.finfo(dtype).eps * values[-1]:
            break
    return size * values, products.astype(float)


def _reduced(matrix: FloatArray, columns: FloatArray, top: int) -> tuple[FloatArray, FloatArray]:
    """The same by way of a tridiagonal matrix; `matrix` is overwritten."""
    n = len(matrix)
    # The transpose is in the order of LAPACK, and the same.
    reduce, workspace, apply = get_lapack_funcs(("sytrd", "sytrd_lwork", "ormqr"), (matrix,))
    room, _ = workspace(n, lower=1)
    reflectors, diagonal, beside, factors, _ = reduce(matrix.T, lower=1, lwork=int(room), overwrite_a=True)
    diagonal, beside = diagonal.astype(float), beside.astype(float)
    values = np.asarray(eigvalsh_tridiagonal(diagonal, beside, lapack_driver="sterf", check_finite=False))
    if not top or not columns.shape[1]:
        return values, np.zeros((top, columns.shape[1]))
    _, vectors = eigh_tridiagonal(diagonal, beside, select="i", select_range=(n - top, n - 1), check_finite=False)
    # The first coordinate stays where it is, and the reflectors are those of a QR decomposition of the others.
    turned = columns.copy()
    below = np.asfortranarray(reflectors[1:, :-1])
    turned[1:], _, _ = apply("L", "T", below, factors, np.asfortranarray(columns[1:]), 64 * max(64, columns.shape[1]))
    return values, np.asarray(vectors.T @ turned)
