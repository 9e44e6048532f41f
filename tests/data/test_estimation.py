"""Shrinkage of estimated covariances."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.data.estimation import best_shrinkage


def _errors(variances, n, seed):
    """Share found, the best there is, and squared distances from the population's covariance, by share."""
    X = np.random.default_rng(seed).standard_normal((n, len(variances))) * np.sqrt(variances)
    S, C = X.T @ X / n, np.diag(variances)
    mean = np.trace(S) / len(C) * np.eye(len(C))
    best = float(((S - C) * (S - mean)).sum() / ((S - mean) ** 2).sum())
    share = best_shrinkage(X)
    return share, best, [float((((1 - s) * S + s * mean - C) ** 2).sum()) for s in (0.0, share, best)]


@pytest.mark.parametrize(("n", "high"), [(50, 3.0), (200, 3.0), (200, 30.0), (2000, 30.0)])
def test_the_share_is_near_the_best_there_is(n, high):
    variances = np.linspace(0.1, high, 100)
    found = [_errors(variances, n, seed) for seed in range(20)]
    # One share is off by 0.02 (standard deviation), their mean by 0.005, and for n < p by 0.017 (bias): at four
    # standard errors the test fails by chance less than once in ten thousand times.
    assert np.mean([share - best for share, best, _ in found]) == pytest.approx(0, abs=0.04)
    assert np.mean([after / least for *_, (_, after, least) in found]) < 1.02
    assert all(after < none for *_, (none, after, _) in found)


def test_samples_that_show_no_structure_get_one_variance():
    for seed in range(5):
        assert best_shrinkage(np.random.default_rng(seed).standard_normal((60, 200))) > 0.95
    assert best_shrinkage(np.zeros((5, 3))) == 1


@pytest.mark.parametrize("covariance", ["full", "common"])
def test_shrinking_keeps_variances_and_means(covariance):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 90)
    X = rng.standard_normal((90, 40)) * np.linspace(0.5, 2, 40) * (1 + y[:, None]) / 6
    plain, half, whole, auto = (rd.GaussianMixture.from_data(X, y, covariance, s) for s in (0.0, 0.5, 1.0, "auto"))
    for other in (half, whole, auto):
        np.testing.assert_allclose(other.variances, plain.variances, rtol=1e-12)
        np.testing.assert_array_equal(other.means, plain.means)
    for a in range(2):
        np.testing.assert_allclose(whole.covariances[a], plain.variances[a] * np.eye(40), atol=1e-12)
        between = (plain.covariances[a] + whole.covariances[a]) / 2
        np.testing.assert_allclose(half.covariances[a], between, atol=1e-12)
        assert np.linalg.cond(auto.covariances[a]) < 0.5 * np.linalg.cond(plain.covariances[a])


def test_predictions_from_few_samples_are_far_better():
    gmm = rd.GaussianMixture(np.eye(2, 200) * 5, [1.0, 1.3])
    X, y = gmm.sample(160, seed=1)
    deq = rd.DEQ("tanh", 0.2, 0.8)
    emp = rd.empirical_spectrum(X, deq, "ck")
    distances = [
        rd.compare(emp, rd.predict_spectrum(deq, rd.GaussianMixture.from_data(X, y, "common", s), 160, "ck")).ks
        for s in (0.0, "auto")
    ]
    assert distances[1] < 0.03 < 0.1 < distances[0]


@pytest.mark.parametrize(
    ("covariance", "shrinkage", "says"),
    [("full", 1.5, "shrinkage"), ("full", -0.1, "shrinkage"), ("full", "much", "number"), ("scalar", "auto", "full")],
)
def test_other_shrinkages_are_refused(covariance, shrinkage, says):
    X = np.random.default_rng(0).standard_normal((20, 4))
    with pytest.raises(rd.InvalidInputError, match=says):
        rd.GaussianMixture.from_data(X, np.arange(20) % 2, covariance, shrinkage)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, "auto"])
def test_common_covariances_are_predicted_in_the_basis_they_were_estimated_in(shrinkage):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    X = rng.standard_normal((400, 30)) * np.linspace(0.5, 2, 30) * (1 + y[:, None]) / 8
    known = rd.GaussianMixture.from_data(X, y, "common", shrinkage)
    vectors, values = known.principal
    for matrix, row in zip(known.covariances, values, strict=True):
        np.testing.assert_allclose((vectors * row) @ vectors.T, matrix, atol=1e-12)
    unknown = rd.GaussianMixture(known.means, known.covariances, known.weights)
    assert unknown.principal is None
    one, other = (rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), gmm, 60, level="classwise") for gmm in (known, unknown))
    np.testing.assert_allclose(one.edges, other.edges, rtol=1e-6)
    np.testing.assert_allclose(one.outliers, other.outliers, rtol=1e-6)
