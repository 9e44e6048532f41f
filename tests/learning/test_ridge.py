"""Kernel ridge regression from one decomposition, held against refits and linear regression."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import Ridge, RidgeCV

import rmtdeq as rd
from rmtdeq.learning import inverse_temperature, ridge_fit, ridge_path

N = 40
RIDGES = (1e-6, 1e-3, 0.1, 10.0)
RNG = np.random.default_rng(0)
X = rd.on_sphere(RNG.standard_normal((N, 6)))
Y = np.column_stack([X[:, 0] * X[:, 1] + 5, np.sign(X[:, 2])]) + 0.1 * RNG.standard_normal((N, 2))
WEIGHTS = RNG.uniform(0.2, 3.0, N)


@pytest.fixture(scope="module", name="K", params=["ck", "ntk"])
def kernel_matrix(request):
    return rd.kernel(X, rd.DEQ("relu"), request.param)


def refit(K, y, w, ridge, intercept):
    """Return coefficients and constant of Σ w |y - b - K a|² + δ aᵀK a, from its normal equations as they stand."""
    n, k = y.shape
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = K + np.diag(ridge / w)
    system[:n, n] = system[n, :n] = 1.0
    if not intercept:
        return np.linalg.solve(system[:n, :n], y), np.zeros(k)
    found = np.linalg.solve(system, np.vstack([y, np.zeros(k)]))
    return found[:n], found[n]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("ridge", RIDGES)
def test_a_regression_is_that_of_the_normal_equations_and_leaving_out_that_of_refits(K, ridge, weights, intercept):
    w = np.ones(N) if weights is None else weights
    options = {"weights": weights, "intercept": intercept}
    coefficients, constant = refit(K, Y, w, ridge, intercept)
    residuals = np.empty_like(Y)
    for i in range(N):
        others = np.arange(N) != i
        a, b = refit(K[np.ix_(others, others)], Y[others], w[others], ridge, intercept)
        residuals[i] = Y[i] - K[i, others] @ a - b
    for place in (np.copy, torch.tensor):
        for fit in (ridge_path(place(K), Y, **options).fit(ridge), ridge_fit(place(K), Y, ridge, **options)):
            assert fit.ridge == ridge
            _same(fit, coefficients, constant, residuals, w)


def _same(fit, coefficients, constant, residuals, w):
    np.testing.assert_allclose(fit.coefficients, coefficients, atol=1e-9 * abs(coefficients).max())
    np.testing.assert_allclose(fit.intercept, constant, atol=1e-9)
    np.testing.assert_allclose(fit.residuals, residuals, atol=1e-9)
    assert fit.loo_error == pytest.approx(np.average(residuals**2, axis=0, weights=w).mean(), rel=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_generalised_cross_validation_is_its_formula(K, intercept):
    fit = ridge_fit(K.copy(), Y, 0.1, intercept=intercept)
    A = np.linalg.inv(K + 0.1 * np.eye(N))
    if intercept:
        A -= np.outer(A.sum(axis=1), A.sum(axis=0)) / A.sum()
    errors = [np.mean((A @ y) ** 2) / (np.trace(A) / N) ** 2 for y in Y.T]
    assert fit.gcv_error == pytest.approx(np.mean(errors), rel=1e-9)
    # The mean of P_ii in the place of each.
    left_out = fit.residuals * np.diag(A)[:, None] / np.diag(A).mean()
    assert fit.gcv_error == pytest.approx(np.mean(left_out**2), rel=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
def test_linear_features_give_ridge_regression_and_its_choice(intercept):
    y = X @ np.arange(6) + 2 + RNG.standard_normal(N)
    grid = np.geomspace(1e-2, 1e2, 25)
    fits = [ridge_path(X @ X.T, y, intercept=intercept).fit(ridge) for ridge in grid]
    theirs = RidgeCV(grid, fit_intercept=intercept, store_cv_results=True).fit(X, y)
    np.testing.assert_allclose([fit.loo_error for fit in fits], theirs.cv_results_.mean(axis=0), rtol=1e-9)
    assert min(fits, key=lambda fit: fit.loo_error).ridge == theirs.alpha_
    # Golub, Heath and Wahba's function of the hat matrix, whose trace counts the constant.
    svd = np.linalg.svd(X - X.mean(axis=0) if intercept else X, compute_uv=False) ** 2
    for fit, ridge in zip(fits, grid, strict=True):
        residual = y - Ridge(ridge, fit_intercept=intercept).fit(X, y).predict(X)
        freedom = (svd / (svd + ridge)).sum() + intercept
        assert fit.gcv_error == pytest.approx(np.mean(residual**2) / (1 - freedom / N) ** 2, rel=1e-9)


def test_weights_count_samples():
    """A sample of weight two is two samples, but for the leaving out of one."""
    counts = RNG.integers(1, 4, N)
    K = rd.kernel(X, rd.DEQ("tanh"), "ntk")
    once = ridge_fit(K.copy(), Y, 0.3, weights=counts)
    every = np.repeat(np.arange(N), counts)
    often = ridge_fit(np.ascontiguousarray(K[np.ix_(every, every)]), Y[every], 0.3)
    np.testing.assert_allclose(once.intercept, often.intercept, atol=1e-10)
    values = K @ once.coefficients
    np.testing.assert_allclose(values, K[:, every] @ often.coefficients, atol=1e-10)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_errors_scale_with_the_targets_and_do_not_see_their_mean(K, factor):
    path = ridge_path(K.copy(), Y, weights=WEIGHTS)
    other = ridge_path(K.copy(), factor * (Y + 1e3), weights=7 * WEIGHTS)
    for ridge in RIDGES:
        fit, scaled = path.fit(ridge), other.fit(7 * ridge)
        assert scaled.loo_error == pytest.approx(factor**2 * fit.loo_error, rel=1e-8)
        assert scaled.gcv_error == pytest.approx(factor**2 * fit.gcv_error, rel=1e-8)
        np.testing.assert_allclose(scaled.intercept, factor * (fit.intercept + 1e3), rtol=1e-9)


def test_the_grid_goes_from_the_mean_to_interpolation(K):
    path = ridge_path(K.copy(), Y)
    grid = path.grid()
    assert (np.diff(grid) < 0).all()
    np.testing.assert_allclose(np.log10(grid[:-1] / grid[1:]), 0.5, atol=0.03)
    largest, smallest = path.fit(grid[0]), path.fit(grid[-1])
    spread = Y - Y.mean(axis=0)
    assert np.mean((K @ largest.coefficients) ** 2) < 0.1 * np.mean(spread**2)
    assert np.mean((spread - (K @ smallest.coefficients + smallest.intercept - Y.mean(axis=0))) ** 2) < 1e-6


def test_single_precision_keeps_to_what_it_can_tell(K):
    exact, single = ridge_path(K.copy(), Y), ridge_path(K.astype(np.float32), Y)
    twice = np.tile(np.arange(N), 2)
    copies = ridge_path(K[np.ix_(twice, twice)].astype(np.float32), Y[twice])
    assert single.vectors.dtype == np.float32
    assert exact.smallest_ridge == 0
    assert copies.grid()[-1] > copies.smallest_ridge > 0
    for ridge in (0.1, 10.0):
        for fit in (single.fit(ridge), ridge_fit(K.astype(np.float32), Y, ridge)):
            assert fit.loo_error == pytest.approx(exact.fit(ridge).loo_error, rel=1e-4)
    assert np.isfinite([copies.fit(ridge).loo_error for ridge in copies.grid()]).all()


def test_a_regular_kernel_is_interpolated_without_a_ridge(K):
    fit = ridge_fit(K.copy(), Y, 0.0)
    np.testing.assert_allclose(K @ fit.coefficients + fit.intercept, Y, atol=1e-9)


@pytest.mark.parametrize(
    ("solve", "most"), [(ridge_path, 1.0), (lambda K, y: ridge_fit(K, y, 0.1), 0.0)], ids=["path", "one ridge"]
)
def test_there_are_no_more_matrices_than_promised(solve, most):
    n = 700
    matrix = X[:1] @ X[:1].T + np.eye(n)
    tracemalloc.start()
    solve(matrix, np.ones(n))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Work space is of some n times the blocks of LAPACK.
    assert peak / (8 * n * n) < most + 0.2


@pytest.mark.parametrize("ridge", [0.0, 1e-15])
def test_a_singular_kernel_names_the_ridge_that_it_needs(K, ridge):
    twice = np.tile(np.arange(N), 2)
    singular, y = K[np.ix_(twice, twice)], Y[twice]
    path = ridge_path(singular.copy(), y)
    for fit in (path.fit, lambda ridge: ridge_fit(singular.copy(), y, ridge)):
        with pytest.raises(rd.IllPosedError, match="take a ridge of") as caught:
            fit(ridge)
        needed = float(re.search(r"ridge of (\S+) at least", str(caught.value))[1])
        assert 0 < needed < 1e-10
        assert np.isfinite(fit(needed).loo_error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"K": np.eye(3)[:2]}, "square"),
        ({"K": np.eye(N, dtype=int)}, "float64 or float32"),
        ({"K": np.asfortranarray(RNG.standard_normal((N, N)))}, r"K\.copy"),
        ({"K": np.full((N, N), np.nan)}, "K holds"),
        ({"y": Y[:3]}, "y must be of shape"),
        ({"y": np.where(Y > 5, np.nan, Y)}, "y holds"),
        ({"y": np.zeros((N, 0))}, "y must be of shape"),
        ({"weights": np.zeros(N)}, "positive"),
        ({"weights": np.ones(3)}, "one for each"),
        ({"ridge": -1.0}, "ridge must be >= 0"),
        ({"ridge": np.nan}, "ridge must be finite"),
        ({"K": np.eye(1), "y": [1.0]}, "intercept=False"),
    ],
)
def test_what_makes_no_sense_is_refused(change, says):
    given = {"K": np.eye(N), "y": Y, "ridge": 1.0} | change
    with pytest.raises(rd.InvalidInputError, match=says):
        ridge_fit(**given)


def test_a_temperature_has_the_least_log_loss():
    values = RNG.standard_normal((200, 3))
    classes = np.array([RNG.choice(3, p=each) for each in np.exp(log_softmax(2.5 * values, axis=1))])
    weights = RNG.uniform(0.5, 2.0, 200)
    found = inverse_temperature(values, classes, weights)
    assert found == pytest.approx(2.5, rel=0.3)
    assert inverse_temperature(10 * values, classes, weights) == pytest.approx(found / 10, rel=1e-6)
    expected = (200 * np.eye(3)[classes] + 1) / 203

    def loss(beta):
        return -np.average((expected * log_softmax(beta * values, axis=1)).sum(axis=1), weights=weights)

    assert loss(found) < min(loss(0.99 * found), loss(1.01 * found))


def test_a_temperature_is_finite_for_values_that_tell_all_or_nothing():
    classes = np.arange(30) % 3
    for values in (np.eye(3)[classes], 1 - np.eye(3)[classes], np.ones((30, 3))):
        assert 0 < inverse_temperature(values, classes) < np.inf


def test_without_a_prior_as_many_errors_are_expected_as_there_are():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((20_000, 4))
    chances = softmax(2 * values, axis=1)
    classes = (rng.random((20_000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    found = inverse_temperature(values, classes, prior=0)
    assert found == pytest.approx(2, rel=0.02)
    expected = 1 - softmax(found * values, axis=1).max(axis=1)
    assert expected.mean() == pytest.approx(np.mean(values.argmax(axis=1) != classes), abs=0.005)
    told_apart = inverse_temperature(values, values.argmax(axis=1), prior=0)
    assert softmax(told_apart * values, axis=1).max(axis=1).min() > 0.999
