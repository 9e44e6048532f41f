"""Kernel ridge regression on the span of some samples, against linear regression on features and refits."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.learning import nystrom_path, ridge_path, ridge_problem
from rmtdeq.learning.places import Device, Host

RIDGES = [1.0, 0.1, 0.01]
N = 120
X, LABELS = rd.load_dataset("digits", n=N, seed=0)
TARGETS = np.eye(10)[LABELS]
K = rd.kernel(X, rd.DEQ("relu"), "ntk", progress=False)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2.0, N)
PLACES = [Host(), Device("cpu")]


def fits(centres, weights, intercept, place):
    """Regressions on the span of some samples, from kernels where they are to be."""
    setup = ridge_problem(N, TARGETS, weights, intercept)
    own, columns = place.put(K[np.ix_(centres, centres)]), lambda part: place.put(K[part][:, centres])
    return nystrom_path(own, columns, setup, place, progress=False).fits(RIDGES, progress=False)


@pytest.fixture(autouse=True)
def _several_parts(monkeypatch):
    monkeypatch.setattr("rmtdeq.learning.nystrom._ENTRIES", 1000)


@pytest.mark.parametrize("place", PLACES, ids=["host", "device"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
def test_on_the_span_of_all_it_is_the_regression_itself(weights, intercept, place):
    exact = ridge_path(K.copy(), TARGETS, weights=weights, intercept=intercept).fits(RIDGES)
    for found, true in zip(fits(np.arange(N), weights, intercept, place), exact, strict=True):
        np.testing.assert_allclose(K @ found.coefficients, K @ true.coefficients, atol=1e-9)
        np.testing.assert_allclose(found.intercept, true.intercept, atol=1e-9)
        np.testing.assert_allclose(found.residuals, true.residuals, atol=1e-9)
        assert found.loo_error == pytest.approx(true.loo_error, rel=1e-9)
        assert found.gcv_error == pytest.approx(true.gcv_error, rel=1e-9)


def refit(centres, rows, w, ridge, intercept):
    """Coefficients and constant of Σ w |y - b - K a|² + δ aᵀ K_mm a, from its normal equations as they stand."""
    C = np.column_stack([K[np.ix_(rows, centres)], np.ones(len(rows))])[:, : len(centres) + intercept]
    system = C.T @ (w[rows, None] * C)
    system[: len(centres), : len(centres)] += ridge * K[np.ix_(centres, centres)]
    found = np.linalg.solve(system, C.T @ (w[rows, None] * TARGETS[rows]))
    return found[: len(centres)], found[len(centres)] if intercept else np.zeros(10)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
def test_on_the_span_of_some_it_is_that_of_the_normal_equations_and_leaving_out_that_of_refits(weights, intercept):
    centres, w = np.arange(0, N, 6), np.ones(N) if weights is None else weights
    for found in fits(centres, weights, intercept, Host()):
        coefficients, constant = refit(centres, np.arange(N), w, found.ridge, intercept)
        np.testing.assert_allclose(found.coefficients, coefficients, atol=1e-7 * abs(coefficients).max())
        np.testing.assert_allclose(found.intercept, constant, atol=1e-8)
        for i in (0, 6, 17, 100):
            a, b = refit(centres, np.delete(np.arange(N), i), w, found.ridge, intercept)
            np.testing.assert_allclose(found.residuals[i], TARGETS[i] - K[i, centres] @ a - b, atol=1e-7)
