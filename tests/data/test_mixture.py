"""Gaussian mixtures: what they draw, what they know of themselves, and what they refuse."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

import rmtdeq as rd

P = 5
MEANS = np.array([[2.0, 0, 0, 1, 0], [0, -1.0, 0, 0, 3], [0, 0, 0, 0, 0]])
ROOT = np.random.default_rng(1).standard_normal((P, P))
FULL = ROOT @ ROOT.T / P + 0.2 * np.eye(P)
COVARIANCES = [0.7, np.linspace(0.2, 2.0, P), FULL]


def dense(c):
    c = np.asarray(c, dtype=float)
    return c if c.ndim == 2 else np.diag(np.broadcast_to(c, (P,)))


@pytest.fixture
def gmm():
    """Return three unequal classes: scalar, diagonal and full."""
    return rd.GaussianMixture(MEANS, COVARIANCES, weights=[2, 1, 1])


def test_samples_have_the_means_and_covariances_of_their_classes(gmm):
    X, y = gmm.sample(80_000, seed=0)
    for a in range(3):
        part = np.sqrt(P) * X[y == a]
        covariance = dense(COVARIANCES[a])
        # Entries of means and covariances err by at most √(2/n_a)·(largest variance); five deviations for 60 numbers
        # are exceeded with probability below 1e-4.
        bound = 5 * np.sqrt(2 / len(part)) * max(1.0, np.linalg.eigvalsh(covariance)[-1])
        np.testing.assert_allclose(part.mean(axis=0), MEANS[a], atol=bound)
        np.testing.assert_allclose(np.cov(part.T), covariance, atol=bound)


def test_samples_come_in_class_order_and_in_the_sizes_of_the_classes(gmm):
    X, y = gmm.sample(101, seed=3)
    assert X.shape == (101, P)
    assert (np.diff(y) >= 0).all()
    np.testing.assert_array_equal(np.bincount(y), gmm.class_sizes(101))


@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, 0.25, 0.25], [97, 2, 1], [0.1, 0.2, 0.3]])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 1001])
def test_class_sizes_sum_to_n_and_miss_their_shares_by_less_than_one(weights, n):
    gmm = rd.GaussianMixture(MEANS, COVARIANCES, weights)
    sizes = gmm.class_sizes(n)
    assert sizes.sum() == n
    assert (sizes >= 0).all()
    assert (abs(sizes - n * np.array(weights) / np.sum(weights)) < 1).all()


def test_one_seed_draws_one_sample(gmm):
    first, second = gmm.sample(20, seed=7)[0], gmm.sample(20, seed=7)[0]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(gmm.sample(20, seed=np.random.default_rng(7))[0], first)
    assert (gmm.sample(20, seed=8)[0] != first).all()


def test_a_generator_moves_on(gmm):
    rng = np.random.default_rng(7)
    assert (gmm.sample(20, seed=rng)[0] != gmm.sample(20, seed=rng)[0]).all()


def test_without_a_seed_two_samples_differ(gmm):
    assert (gmm.sample(20)[0] != gmm.sample(20)[0]).all()


def test_equal_weights_are_the_default():
    np.testing.assert_allclose(rd.GaussianMixture(MEANS, COVARIANCES).weights, 1 / 3)


def test_a_scalar_a_diagonal_and_a_matrix_say_the_same():
    shared = np.full(P, 0.8)
    forms = [rd.GaussianMixture(MEANS[:1], [c]) for c in (0.8, shared, np.diag(shared))]
    for other in forms[1:]:
        np.testing.assert_allclose(other.squared_norms, forms[0].squared_norms)
        np.testing.assert_allclose(other.norm_variances, forms[0].norm_variances)
        np.testing.assert_allclose(other.covariance_products, forms[0].covariance_products)
    np.testing.assert_allclose(forms[1].sample(5, 0)[0], forms[0].sample(5, 0)[0])


def test_one_array_may_hold_all_covariances():
    stacked = rd.GaussianMixture(MEANS[:2], np.stack([FULL, 2 * FULL]))
    assert stacked.covariance_products[0, 1] == pytest.approx(2 * np.sum(FULL**2) / P)
    np.testing.assert_allclose(rd.GaussianMixture(MEANS[:2], np.array([1.0, 3.0])).variances, [1, 3])


def test_traces_are_those_of_the_matrices(gmm):
    matrices = [dense(c) for c in COVARIANCES]
    traces = [np.trace(c) / P for c in matrices]
    np.testing.assert_allclose(gmm.variances, traces)
    assert gmm.tau0_squared == pytest.approx(np.dot([0.5, 0.25, 0.25], traces))
    norms = traces + (MEANS**2).sum(axis=1) / P
    np.testing.assert_allclose(gmm.squared_norms, norms)
    assert gmm.mean_squared_norm == pytest.approx(np.dot([0.5, 0.25, 0.25], norms))
    products = [[np.trace(a @ b) / P for b in matrices] for a in matrices]
    np.testing.assert_allclose(gmm.covariance_products, products)
    assert (gmm.classes, gmm.dimension) == (3, P)


def test_norms_of_samples_have_the_mean_and_variance_that_the_mixture_says(gmm):
    n = 200_000
    X, y = gmm.sample(n, seed=11)
    for a in range(3):
        squares = (X[y == a] ** 2).sum(axis=1)
        # Means err by √(Var/n_a); variances of these sums of squares by at most √(14 Var²/n_a), as their kurtosis is
        # at most that of χ² with one degree of freedom, 15.  Five deviations, six figures: probability below 1e-5.
        deviation = np.sqrt(gmm.norm_variances[a] / P / squares.size)
        assert squares.mean() == pytest.approx(gmm.squared_norms[a], abs=5 * deviation)
        assert P * squares.var() == pytest.approx(gmm.norm_variances[a], rel=5 * np.sqrt(14 / squares.size))


@pytest.mark.parametrize("covariance", ["full", "common", "diagonal", "scalar"])
def test_a_mixture_estimated_from_its_samples_is_the_mixture(covariance):
    # All kinds can describe these: variances times the identity.
    gmm = rd.GaussianMixture(MEANS, [0.5, 1.0, 2.0], [0.5, 0.25, 0.25])
    X, y = gmm.sample(40_000, seed=5)
    again = rd.GaussianMixture.from_data(X, y, covariance)
    # Entries err by √(2/10⁴)·2 at most: 0.03; five deviations.
    np.testing.assert_allclose(again.means, gmm.means, atol=0.15)
    for a, c in enumerate(again.covariances):
        np.testing.assert_allclose(dense(c), gmm.covariances[a] * np.eye(P), atol=0.15)
    np.testing.assert_allclose(again.weights, gmm.weights)
    assert {c.ndim for c in again.covariances} == {{"diagonal": 1, "scalar": 0}.get(covariance, 2)}


def test_estimates_are_the_unbiased_moments_of_each_class(gmm):
    X, y = gmm.sample(60, seed=2)
    full = rd.GaussianMixture.from_data(X, y)
    diagonal = rd.GaussianMixture.from_data(X, y, "diagonal")
    scalar = rd.GaussianMixture.from_data(X, y, "scalar")
    for a in range(3):
        expected = np.cov(np.sqrt(P) * X[y == a].T)
        np.testing.assert_allclose(full.means[a], np.sqrt(P) * X[y == a].mean(axis=0))
        np.testing.assert_allclose(full.covariances[a], expected, atol=1e-12)
        np.testing.assert_allclose(diagonal.covariances[a], np.diag(expected))
        np.testing.assert_allclose(scalar.covariances[a], np.trace(expected) / P)


def test_common_principal_components_commute_and_keep_the_traces(gmm):
    X, y = gmm.sample(60, seed=2)
    full, common = (rd.GaussianMixture.from_data(X, y, c) for c in ("full", "common"))
    np.testing.assert_allclose(common.variances, full.variances)
    a, b, c = common.covariances
    np.testing.assert_allclose(a @ b, b @ a, atol=1e-12)
    np.testing.assert_allclose(a @ c, c @ a, atol=1e-12)
    # Their mean is the mean of the full ones: its own eigenvectors leave nothing off the diagonal.
    mean = [np.einsum("a,aij->ij", g.weights, np.stack(g.covariances)) for g in (full, common)]
    np.testing.assert_allclose(mean[1], mean[0], atol=1e-12)


def test_single_precision_data_are_estimated_in_double(gmm):
    X, y = gmm.sample(60, seed=2)
    single = rd.GaussianMixture.from_data(X.astype(np.float32), y)
    assert all(c.dtype == np.float64 for c in single.covariances)
    np.testing.assert_allclose(single.means, rd.GaussianMixture.from_data(X, y).means, rtol=1e-5, atol=1e-5)


def test_samples_far_from_order_one_are_warned_of_where_they_are_passed():
    X, y = np.random.default_rng(0).standard_normal((20, 5)), [0, 1] * 10
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rd.GaussianMixture.from_data(30 * X, y)
        rd.GaussianMixture.from_data(X / np.sqrt(5), y)
    (warning,) = caught
    assert "center_and_scale(X)" in str(warning.message)
    assert warning.filename == __file__


def test_labels_for_columns_ask_whether_the_samples_are_transposed():
    X = np.random.default_rng(0).standard_normal((20, 5))
    with pytest.raises(rd.InvalidInputError, match="is X transposed"):
        rd.GaussianMixture.from_data(X.T, [0, 1] * 10)
    with pytest.raises(rd.InvalidInputError, match=r"not shape \(19,\)\.$"):
        rd.GaussianMixture.from_data(X.T, [0] * 19)


def test_singular_covariances_are_sampled_on_their_subspace():
    direction = np.ones(P) / np.sqrt(P)
    gmm = rd.GaussianMixture(np.zeros((2, P)), [3 * np.outer(direction, direction), 0.0])
    X, y = gmm.sample(40, seed=0)
    off = X[y == 0] - np.outer(X[y == 0] @ direction, direction)
    np.testing.assert_allclose(off, 0, atol=1e-7)
    np.testing.assert_array_equal(X[y == 1], 0)


def test_a_mixture_cannot_be_changed(gmm):
    with pytest.raises(dataclasses.FrozenInstanceError):
        gmm.means = MEANS
    for array in (gmm.means, gmm.weights, *gmm.covariances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0


def test_a_mixture_does_not_follow_the_arrays_it_was_made_of():
    means, matrix, weights = MEANS.copy(), FULL.copy(), np.array([1.0, 1.0, 2.0])
    gmm = rd.GaussianMixture(means, [1.0, matrix, matrix], weights)
    before = gmm.sample(4, 0)[0]
    means += 5
    matrix *= 3
    weights[0] = 9
    np.testing.assert_array_equal(gmm.sample(4, 0)[0], before)
    np.testing.assert_allclose(gmm.weights, [0.25, 0.25, 0.5])


def test_its_text_says_what_it_is(gmm):
    assert repr(gmm) == "GaussianMixture(classes=3, p=5, diagonal/full/scalar covariances)"


INDEFINITE = np.diag([1.0, 1, 1, 1, -0.5])
LOPSIDED = np.eye(P) + np.eye(P, k=1)
BAD = {
    "a vector for means": (MEANS[0], [1.0], None, "2 dimension"),
    "no class": (np.zeros((0, P)), [], None, "one row a class"),
    "NaN in the means": (MEANS * np.nan, COVARIANCES, None, "remove or impute"),
    "text": ([["a", "b"]], [1.0], None, "real numbers"),
    "another p": (MEANS, [1.0, np.ones(P + 1), 1.0], None, r"scalar, \(5,\) or \(5, 5\)"),
    "a matrix of another p": (MEANS, [1.0, np.eye(P + 1), 1.0], None, r"scalar, \(5,\) or \(5, 5\)"),
    "three axes": (MEANS, [1.0, np.ones((P, P, P)), 1.0], None, r"scalar, \(5,\) or \(5, 5\)"),
    "negative eigenvalue": (MEANS, [1.0, 1.0, INDEFINITE], None, "clip the negative eigenvalues"),
    "not symmetric": (MEANS, [1.0, 1.0, LOPSIDED], None, r"use \(C \+ C.T\) / 2"),
    "negative variance": (MEANS, [1.0, -1.0, 1.0], None, "at least 0"),
    "a negative variance": (MEANS, [1.0, np.array([1, 1, 1, 1, -1e-3]), 1.0], None, "at least 0"),
    "NaN variance": (MEANS, [1.0, np.nan, 1.0], None, "remove or impute"),
    "infinite covariance": (MEANS, [1.0, np.full((P, P), np.inf), 1.0], None, "remove or impute"),
    "too few covariances": (MEANS, [1.0, 1.0], None, "one covariance for each"),
    "one covariance": (MEANS, 1.0, None, "one covariance for each"),
    "zero weight": (MEANS, COVARIANCES, [1, 0, 1], "3 positive numbers"),
    "negative weight": (MEANS, COVARIANCES, [1, -1, 1], "3 positive numbers"),
    "two weights": (MEANS, COVARIANCES, [1, 1], "3 positive numbers"),
    "NaN weight": (MEANS, COVARIANCES, [1, np.nan, 1], "remove or impute"),
}


@pytest.mark.parametrize(("means", "covariances", "weights", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_remedy_at_once(seconds, means, covariances, weights, remedy):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=remedy):
        rd.GaussianMixture(means, covariances, weights)


BAD_DATA = {
    "labels of another length": (np.ones((4, 2)), [0, 1, 0], "full", "one label for each of the 4"),
    "negative label": (np.ones((4, 2)), [0, -1, 0, 1], "full", "relabel with numpy.unique"),
    "label of no number": (np.ones((4, 2)), list("abab"), "full", "integer class labels"),
    "class with one sample": (np.ones((3, 2)), [0, 0, 1], "full", "at least two"),
    "skipped class": (np.ones((4, 2)), [0, 0, 2, 2], "full", "none is 1; labels are 0 ... K-1"),
    "unknown covariance": (np.ones((4, 2)), [0, 0, 1, 1], "round", "'full', 'common', 'diagonal', 'scalar'"),
    "one sample as a vector": (np.ones(4), [0], "full", r"x\[None, :\]"),
    "NaN": (np.full((4, 2), np.nan), [0, 0, 1, 1], "full", "remove or impute"),
}


@pytest.mark.parametrize(("X", "y", "covariance", "remedy"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_data_that_make_no_mixture_are_refused_with_a_remedy_at_once(seconds, X, y, covariance, remedy):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=remedy):
        rd.GaussianMixture.from_data(X, y, covariance)


@pytest.mark.parametrize("n", [0, -3, 2.5, "ten"])
def test_a_number_of_samples_that_is_none_is_refused(gmm, n):
    with pytest.raises(rd.InvalidInputError, match="n must be"):
        gmm.sample(n)


@pytest.mark.parametrize("seed", [-1, 1.5, "seed"])
def test_a_seed_that_is_none_is_refused(gmm, seed):
    with pytest.raises(rd.InvalidInputError, match="seed must be"):
        gmm.sample(3, seed=seed)


def test_rounding_in_a_covariance_is_no_reason_to_refuse_it():
    noisy = FULL + 1e-13 * ROOT
    assert rd.GaussianMixture(MEANS[:1], [noisy]).covariances[0] == pytest.approx(FULL, abs=1e-12)
    rank_one = np.outer(ROOT[0], ROOT[0])
    rd.GaussianMixture(MEANS[:1], [rank_one]).sample(3, 0)


@pytest.mark.parametrize("size", [1e200, 1e-200, 5e-324])
def test_norms_that_nothing_can_be_computed_with_are_refused(size):
    X = size * np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    with pytest.raises(rd.InvalidInputError, match="root mean squared norm"):
        rd.GaussianMixture.from_data(X, [0, 0, 1, 1])
    if size > 1:
        with pytest.raises(rd.InvalidInputError, match="order one"):
            rd.GaussianMixture(X[:2], [1.0, 1.0])
        with pytest.raises(rd.InvalidInputError, match="order one"):
            rd.GaussianMixture(X[:2] / size, [1.0, size])
