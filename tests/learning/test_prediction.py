"""Errors foretold from a mixture, against regressions on its samples."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy.special import ndtr
from scipy.stats import multivariate_normal

import rmtdeq as rd
from rmtdeq.data.norms import by_norm
from rmtdeq.learning import ridge_fit
from rmtdeq.learning.orthants import all_positive

P = 240


def mixture(classes=2, p=P, weights=None):
    means = np.zeros((classes, p))
    means[np.arange(classes), np.arange(classes)] = 3.0
    profile = np.r_[np.ones(p // 2), np.zeros(p - p // 2)]
    covariances = [1 + 4 * a * profile / np.sqrt(p) for a in range(classes)]
    return rd.GaussianMixture(means, covariances, 1 + np.arange(classes) if weights is None else weights)


def measured(gmm, deq, kind, n, ridges, draws, new=3000):
    """Return mean squared errors and error rates of regressions on so many new samples, (2, r)."""
    pinned, E = deq.pinned(gmm.mean_squared_norm), np.eye(gmm.classes)
    found = []
    for seed in range(draws):
        X, y = gmm.sample(n, seed)
        Z, labels = gmm.sample(new, 100 + seed)
        K, across = rd.kernel(X, pinned, kind), rd.kernel(Z, pinned, kind, Y=X)
        fits = [ridge_fit(np.array(K), E[y], ridge) for ridge in ridges]
        values = [across @ fit.coefficients + fit.intercept for fit in fits]
        found.append(
            [
                [np.square(each - E[labels]).mean() for each in values],
                [np.mean(each.argmax(axis=1) != labels) for each in values],
            ]
        )
    return np.mean(found, axis=0)


@pytest.mark.parametrize(
    ("activation", "kind", "classes", "n"),
    [("relu", "ck", 2, 120), ("tanh", "ntk", 2, 240), ("swish", "ntk-full", 2, 480), ("relu", "ntk", 3, 480)],
)
def test_it_is_the_mean_of_draws(activation, kind, classes, n):
    gmm, ridges = mixture(classes), (0.01, 0.3, 10.0)
    deq = rd.DEQ(activation, sigma_c2=0.1)
    found = rd.predict_learning(deq, gmm, sizes=[n], ridge=ridges, kind=kind)
    errors, rates = measured(gmm, deq, kind, n, ridges, draws=8, new=1500)
    np.testing.assert_allclose(found.mse[0], errors, rtol=0.05)
    np.testing.assert_allclose(found.error_rate[0], rates, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu", "swish"])
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("n", [200, 1000])
def test_in_a_thousand_dimensions_it_is_the_mean_of_draws_closely(activation, kind, n):
    gmm, ridges = mixture(p=1000, weights=[1, 1]), np.geomspace(1e-3, 10, 5)
    found = rd.predict_learning(rd.DEQ(activation), gmm, sizes=[n], ridge=ridges, kind=kind)
    errors, rates = measured(gmm, rd.DEQ(activation), kind, n, ridges, draws=20)
    np.testing.assert_allclose(found.mse[0], errors, rtol=0.03)
    np.testing.assert_allclose(found.error_rate[0], rates, atol=0.005)


def test_interpolation_has_its_peak_where_samples_meet_the_dimension():
    gmm = mixture()
    found = rd.predict_learning(rd.DEQ("tanh"), gmm, sizes=(P // 4, P, 8 * P), ridge=1e-6, kind="ck", level="classwise")
    assert found.mse[1, 0] > found.mse[0, 0]
    assert found.mse[1, 0] > 2 * found.mse[2, 0]


@pytest.mark.parametrize("kind", ["ck", "ntk"])
def test_signs_of_two_classes_tell_what_indicators_do(kind):
    gmm = mixture()
    options = {"sizes": (100, 400), "ridge": (0.01, 1.0), "kind": kind, "level": "classwise"}
    indicators = rd.predict_learning(rd.DEQ("relu"), gmm, **options)
    signs = rd.predict_learning(rd.DEQ("relu"), gmm, [1.0, -1.0], **options)
    np.testing.assert_allclose(signs.error_rate, indicators.error_rate, rtol=1e-6)
    np.testing.assert_allclose(signs.mse, 4 * indicators.mse, rtol=1e-6)


def test_without_a_mean_nothing_is_learnt_but_the_constant():
    gmm = rd.GaussianMixture(np.zeros((2, P)), [1.0, 1.0])
    found = rd.predict_learning(rd.DEQ("relu"), gmm, sizes=(100,), ridge=1e6)
    assert found.mse[0, 0] == pytest.approx(0.25, rel=1e-3)
    assert found.error_rate[0, 0] == pytest.approx(0.5, abs=1e-3)
    noise = rd.predict_learning(rd.DEQ("relu"), gmm, sizes=(100,), ridge=1e-3)
    assert noise.mse[0, 0] > 0.25


def test_classes_of_one_target_have_no_rate():
    found = rd.predict_learning(rd.DEQ("relu"), mixture(3), [0.0, 1.0, 1.0], sizes=(100,))
    assert found.error_rate is None
    with pytest.raises(rd.InvalidInputError, match="same target"):
        found.plot(quantity="error_rate")


def test_moments_go_by_their_samples():
    X, y = rd.load_dataset("digits", n=200, seed=0)
    moments = rd.DataMoments.from_data(X, y)
    found = rd.predict_learning(rd.DEQ("relu"), moments, sizes=(100, 400), ridge=(0.01, 1.0), kind="ck")
    for column, ridge in enumerate(found.ridges):
        curve = rd.learning_curve(
            moments.samples.astype(float),
            moments.labels,
            rd.DEQ("relu"),
            "ck",
            sizes=(100, 400),
            ridge=ridge,
            tau0_squared=moments.mean_squared_norm,
        )
        np.testing.assert_allclose(found.mse[:, column], curve.mse)
        np.testing.assert_allclose(found.error_rate[:, column], curve.error_rate)
    numbers = rd.predict_learning(rd.DEQ("relu"), moments, moments.samples[:, 10].astype(float), sizes=(100,))
    assert numbers.error_rate is None


def test_norms_enter_by_a_quadrature_of_their_moments():
    gmm = mixture()
    split = by_norm(gmm, 3)
    factors = split.variances.reshape(2, 3) / gmm.variances[:, None]
    shares = split.weights.reshape(2, 3) / gmm.weights[:, None]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose((shares * factors).sum(axis=1), 1.0)
    spread = gmm.norm_variances / gmm.dimension / gmm.variances**2
    np.testing.assert_allclose((shares * (factors - 1) ** 2).sum(axis=1), spread, rtol=1e-9)
    # The third moment of a gamma distribution.
    np.testing.assert_allclose((shares * (factors - 1) ** 3).sum(axis=1), 2 * spread**2, rtol=1e-6)
    assert (factors > 0).all()
    np.testing.assert_allclose(split.mean_squared_norm, gmm.mean_squared_norm)
    assert not split.norm_variances.any()


def test_common_principal_components_are_split_as_well():
    X, y = rd.load_dataset("digits", classes=(0, 1), n=200, seed=0)
    gmm = rd.GaussianMixture.from_data(X, y, covariance="common")
    full = rd.GaussianMixture(gmm.means, gmm.covariances, gmm.weights)
    np.testing.assert_allclose(by_norm(gmm).squared_norms, by_norm(full).squared_norms, rtol=1e-9)
    of = {"sizes": (100,), "ridge": 0.1}
    one, other = (rd.predict_learning(rd.DEQ("relu"), each, level="classwise", **of) for each in (gmm, full))
    assert one.mse[0, 0] == pytest.approx(other.mse[0, 0], rel=1e-6)


def test_beyond_what_the_theory_knows_samples_are_drawn():
    gmm = rd.GaussianMixture(3 * np.eye(2, 60), [1.0, 1.2])
    options = {"ridge": (0.01, 1.0), "kind": "ck"}
    found = rd.predict_learning(rd.DEQ("relu"), gmm, sizes=(300, 60, 400, 90), **options)
    np.testing.assert_array_equal(found.sampled, [True, False, True, False])
    np.testing.assert_array_equal(found.sizes, [300, 60, 400, 90])
    theory = rd.predict_learning(rd.DEQ("relu"), gmm, sizes=(60, 90), level="classwise", **options)
    np.testing.assert_allclose(found.mse[[1, 3]], theory.mse)
    assert (np.diff(found.mse[[1, 3, 0, 2], 1]) < 0).all()
    errors, rates = measured(gmm, rd.DEQ("relu"), "ck", 300, (0.01, 1.0), draws=4)
    np.testing.assert_allclose(found.mse[0], errors, rtol=0.1)
    np.testing.assert_allclose(found.error_rate[0], rates, atol=0.01)


@pytest.mark.parametrize("d", [1, 2, 4, 9])
def test_orthants(d):
    rng = np.random.default_rng(d)
    A = rng.standard_normal((3, d, d + 2))
    covariances, means = A @ A.transpose(0, 2, 1) / d, rng.standard_normal((3, d)) + 0.7
    found = all_positive(means, covariances)
    for value, mean, covariance in zip(found, means, covariances, strict=True):
        true = multivariate_normal(-mean, covariance, seed=0).cdf(np.zeros(d))
        assert value == pytest.approx(true, abs=1e-9 if d == 1 else 1e-3)
    apart = all_positive(means, np.broadcast_to(np.eye(d), (3, d, d)))
    np.testing.assert_allclose(apart, ndtr(means).prod(axis=1), rtol=1e-9)


def test_it_is_shown():
    found = rd.predict_learning(rd.DEQ("relu"), mixture(), sizes=(100, 200), ridge=(0.1, 1.0))
    assert isinstance(found.plot(), Axes)
    assert isinstance(found.plot(quantity="error_rate"), Axes)
    assert [row[:2] for row in found.table().rows()] == [(100, 0.1), (100, 1.0), (200, 0.1), (200, 1.0)]
    assert "2 sizes, 2 ridges" in repr(found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": []}, "ridge"),
        ({"sizes": [1]}, "size"),
        ({"targets": [1.0, 2.0, 3.0]}, "targets"),
        ({"kind": "nngp"}, "kind"),
        ({"data": np.zeros((3, 3))}, "GaussianMixture"),
        ({"data": rd.GaussianMixture(np.zeros((1, 40)), [1.0])}, "one class"),
        ({"data": rd.DataMoments.from_data(np.random.default_rng(0).standard_normal((90, 9)) / 3)}, "one class"),
        ({"intercept": "no"}, "intercept"),
        ({"level": "paper"}, "level"),
        ({"data": rd.DataMoments.from_mixture(mixture(), kept=40), "level": "classwise"}, "of a mixture"),
    ],
)
def test_what_does_not_fit_is_refused(changed, said):
    given = {"deq": rd.DEQ("relu"), "data": mixture()} | changed
    with pytest.raises(rd.InvalidInputError, match=said):
        rd.predict_learning(**given)
