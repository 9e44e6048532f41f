"""Eigenvalues, and products with leading eigenvectors, without the other eigenvectors."""

import numpy as np
import pytest

from rmtdeq._lib.tridiagonal import eigenvalues, projections


def gram(n, width):
    X = np.random.default_rng(0).standard_normal((n, width))
    return X @ X.T


@pytest.mark.parametrize(
    ("n", "top", "k", "rtol"), [(1, 1, 1, 1e-12), (2, 1, 2, 1e-12), (60, 7, 3, 1e-12), (600, 40, 5, 1e-5)]
)
def test_they_are_those_of_the_whole_decomposition(n, top, k, rtol):
    matrix, columns = gram(n, 2 * n), np.random.default_rng(1).standard_normal((n, k))
    values, vectors = np.linalg.eigh(matrix)
    found, products = projections(matrix, columns, top)
    np.testing.assert_allclose(found, values, rtol=rtol)
    np.testing.assert_allclose(products**2, (vectors[:, n - top :].T @ columns) ** 2, atol=100 * rtol)
    np.testing.assert_allclose(eigenvalues(matrix), values, rtol=rtol)


def test_small_eigenvalues_of_a_large_matrix_are_not_lost_in_rounding():
    n = 600
    matrix = gram(n, 3) + 1e-8 * np.eye(n)
    np.testing.assert_allclose(eigenvalues(matrix)[: n - 3], 1e-8, rtol=1e-3)
    assert (eigenvalues(np.zeros((5, 5))) == 0).all()
