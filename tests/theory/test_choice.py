"""Which level serves a mixture."""

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.data.problems import example_mixture
from rmtdeq.theory.choice import expansion_errors
from rmtdeq.theory.rmt import between_spectra


def few_directions(p=100):
    """Two classes of effective dimension 6."""
    variances = np.exp(-np.arange(p) / 6)
    variances *= p / variances.sum()
    means = 3 * np.sqrt(variances) * np.array([[1.0], [-1.0]]) / np.sqrt(p) * 4
    return rd.GaussianMixture(means, [variances, 0.8 * variances])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("kind", ["ck", "ntk"])
def test_many_directions_are_expanded_around_classes_and_few_are_sampled(activation, kind):
    deq = rd.DEQ(activation, 0.2, 0.8)
    many = rd.predict_spectrum(deq, example_mixture(800, 2), 640, kind)
    few = rd.predict_spectrum(deq, few_directions(), 300, kind)
    assert (many.level, few.level) == ("classwise", "polynomial")
    same = rd.predict_spectrum(deq, example_mixture(800, 2), 640, kind, "classwise")
    np.testing.assert_array_equal(many.outliers, same.outliers)
    assert same.expected_error is None


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_what_a_class_wise_prediction_expects_of_itself_is_measured(activation):
    deq, gmm, n = rd.DEQ(activation, 0.2, 0.8), example_mixture(600, 2), 480
    pred = rd.predict_spectrum(deq, gmm, n)
    assert pred.level == "classwise"
    found = []
    for seed in (1, 2, 3):
        X, y = gmm.sample(n, seed)
        emp = rd.empirical_spectrum(X, deq, tau0_squared=gmm.mean_squared_norm)
        found.append((rd.compare(emp, pred, y).ks, rd.compare(emp, pred, y).rank_errors.upper))
    ks, upper = np.mean(found, axis=0)
    # Within the factor that noise of one measurement leaves.
    assert pred.expected_error.ks / 2 < ks < 2 * pred.expected_error.ks
    assert pred.expected_error.upper / 2 < upper < 2 * pred.expected_error.upper


def test_one_bad_kernel_of_several_is_enough():
    deq, gmm = rd.DEQ("relu", 0.2, 0.8), few_directions()
    errors = expansion_errors(deq, gmm, 300, ("ck", "ntk"))
    predictions = rd.predict_spectrum(deq, gmm, 300, ("ck", "ntk"))
    assert len(errors) == 2
    assert not all(each.bearable for each in errors)
    assert {each.level for each in predictions} == {"polynomial"}


def test_spectra_are_as_far_apart_as_their_definitions_say():
    rng = np.random.default_rng(0)
    one, other = (np.sort(rng.exponential(size=40))[::-1] for _ in range(2))
    ks, upper, whole = between_spectra(one, other)
    grid = np.linspace(0, 10, 100_001)
    below = [(each[:, None] <= grid).mean(axis=0) for each in (one, other)]
    assert ks == pytest.approx(abs(below[0] - below[1]).max())
    assert whole == pytest.approx(np.median(abs(np.log(one / other))))
    assert upper == pytest.approx(np.median(abs(np.log(one / other))[:20]))
    assert between_spectra(one, one) == (0.0, 0.0, 0.0)


def test_covariances_that_would_take_minutes_are_sampled():
    rng = np.random.default_rng(0)
    p = 200
    root = rng.standard_normal((p, 2 * p)) / np.sqrt(2 * p)
    gmm = rd.GaussianMixture(rng.standard_normal((3, p)), [rng.uniform(0.5, 1.5, p), root @ root.T, 1.0])
    pred = rd.predict_spectrum(rd.DEQ("relu"), gmm, 160)
    assert pred.level == "polynomial"
    X, y = gmm.sample(160, 3)
    assert rd.compare(rd.empirical_spectrum(X, rd.DEQ("relu")), pred, y).ks < 0.05
