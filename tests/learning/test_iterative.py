"""Kernel ridge regression by conjugate gradients, against the eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq.learning import iterative_path, ridge_path, ridge_problem

RIDGES = np.geomspace(1.0, 1e-3, 4)


def problem(n=400, dtype=np.float64, weighted=False):
    """A kernel, targets, and weights if any."""
    X, y = rd.load_dataset("digits", n=n, seed=0)
    K = rd.kernel(X.astype(dtype), rd.DEQ("relu", 0.2, 0.8), kind="ntk", progress=False)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, n) if weighted else None
    return K, np.eye(10)[y], weights


def paths(K, targets, weights, intercept=True, **options):
    """The path by conjugate gradients and that by eigenvalues."""
    setup = ridge_problem(len(K), targets, weights, intercept)
    trace = float(np.square(setup.roots) @ np.diag(K))
    found = iterative_path(lambda V: K @ V, lambda chosen: K[:, chosen], trace, setup, K.dtype, **options)
    return found, ridge_path(K.copy(), targets, weights=weights, intercept=intercept)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("weighted", "intercept"), [(False, True), (True, True), (True, False)])
def test_it_ends_where_the_decomposition_does(weighted, intercept, dtype):
    K, targets, weights = problem(dtype=dtype, weighted=weighted)
    iterative, exact = paths(K, targets, weights, intercept, rank=100)
    np.testing.assert_allclose(iterative.grid()[0], exact.grid()[0], rtol=1e-5)
    for found, true in zip(iterative.fits(RIDGES, progress=False), exact.fits(RIDGES), strict=True):
        scale = np.linalg.norm(K @ true.coefficients)
        assert np.linalg.norm(K @ (found.coefficients - true.coefficients)) < 1e-4 * scale
        np.testing.assert_allclose(found.intercept, true.intercept, atol=1e-4)
        # Estimated: the diagonal of the inverse comes from 32 random signs.
        assert abs(found.loo_error / true.loo_error - 1) < 0.1
        assert abs(found.gcv_error / true.gcv_error - 1) < 0.03


def test_a_preconditioner_of_full_rank_leaves_nothing_to_estimate():
    K, targets, weights = problem(150)
    iterative, exact = paths(K, targets, weights, rank=150)
    for found, true in zip(iterative.fits(RIDGES, progress=False), exact.fits(RIDGES), strict=True):
        np.testing.assert_allclose(found.residuals, true.residuals, atol=1e-3 * abs(true.residuals).max())


def test_an_interrupted_path_goes_on(tmp_path):
    K, targets, _ = problem(150)
    setup = ridge_problem(len(K), targets, None, True)
    products, last = [], [25]

    def product(V):
        products.append(V.shape)
        if len(products) == last[0]:
            raise KeyboardInterrupt
        return K @ V

    def path(kept):
        columns, trace = (lambda chosen: K[:, chosen]), float(np.trace(K))
        return iterative_path(product, columns, trace, setup, K.dtype, rank=10, kept=kept)

    kept = Checkpoint(tmp_path / "fit", {"problem": 1}, "regression")
    with pytest.raises(KeyboardInterrupt):
        path(kept).fits(RIDGES, progress=False)
    assert 0 < kept.parts("ridge-*") < len(RIDGES)
    found = path(kept).fits(RIDGES, progress=False)
    again, last[0] = len(products) - last[0], 0
    products.clear()
    expected = path(None).fits(RIDGES, progress=False)
    assert again < len(products)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.coefficients, other.coefficients)


def test_a_ridge_that_rounding_hides_is_told():
    K = np.diag(np.geomspace(1.0, 1e-14, 60)) + 1e-3
    with pytest.raises(rd.ConvergenceError, match="take a larger ridge"):
        paths(K, np.sin(np.arange(60.0)), None, rank=2)[0].fits(np.array([1e-16]), progress=False)
