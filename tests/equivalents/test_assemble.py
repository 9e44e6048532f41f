"""The assembled equivalents: the formula of arXiv 2402.02697 written out, and their distance from the exact kernels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

import rmtdeq as rd

KINDS = ("ck", "ntk", "ntk-full")
ACTIVATIONS = ("tanh", "relu", "swish")

# Relative errors in operator norm, CK and NTK, on the mixture of `two_classes` with n = 0.8 p.
TABLE = {
    500: {"tanh": (0.142, 0.150), "relu": (0.084, 0.087), "swish": (0.073, 0.075)},
    2000: {"tanh": (0.062, 0.066), "relu": (0.036, 0.037), "swish": (0.030, 0.031)},
}


def two_classes(p):
    """Return the mixture that the errors are tabled for: means 8e_0 and 8e_8, variances 1 and 1 + 8/√p."""
    means = np.zeros((2, p))
    means[0, 0] = means[1, 8] = 8
    return rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(p)])


def three_classes(p=40):
    """Return unequal classes with one covariance of each shape."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((p, p)) / np.sqrt(p)
    covariances = [0.8, np.linspace(0.5, 2, p), root @ root.T + 0.3 * np.eye(p)]
    return rd.GaussianMixture(rng.standard_normal((3, p)), covariances, [3, 1, 2])


def written_out(X, y, deq, gmm, kind):
    """Return α1 XXᵀ + V C Vᵀ + (γ² - τ0² α1) I, term by term from the definitions."""
    n, p = X.shape
    matrices = [c if c.ndim == 2 else np.diag(np.broadcast_to(c, (p,))) for c in gmm.covariances]
    mean_covariance = sum(w * c for w, c in zip(gmm.weights, matrices, strict=True))
    tau0_squared = np.trace(mean_covariance) / p
    coefficients = rd.solve(deq, tau0_squared, kind=("ck", "ntk", "ntk-full"))
    (one, two, three), diagonal = {
        "ck": (coefficients.alpha[:3], coefficients.gamma2),
        "ntk": (coefficients.beta, coefficients.kappa2),
        "ntk-full": (coefficients.beta_full, coefficients.kappa2_full),
    }[kind]
    t = np.array([np.trace(c - mean_covariance) / np.sqrt(p) for c in matrices])
    T = np.array([[np.trace(a @ b) / p for b in matrices] for a in matrices])
    J = np.array([[1.0 if label == a else 0.0 for a in range(len(matrices))] for label in y])
    expected = np.array([np.trace(c) / p + mu @ mu / p for c, mu in zip(matrices, gmm.means, strict=True)])
    psi = np.array([x @ x for x in X]) - expected[y]
    V = np.column_stack([J / np.sqrt(p), psi])
    C = np.block([[two * np.outer(t, t) + three * T, two * t[:, None]], [two * t[None, :], np.array([[two]])]])
    return one * X @ X.T + V @ C @ V.T + (diagonal - tau0_squared * one) * np.eye(n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_equivalent_is_the_formula_written_out(activation, kind):
    gmm, deq = three_classes(), rd.DEQ(activation, 0.2, 0.8)
    X, y = gmm.sample(30, seed=1)
    np.testing.assert_allclose(rd.equivalent(X, y, deq, gmm, kind), written_out(X, y, deq, gmm, kind), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_is_the_matrix(kind):
    gmm, deq = three_classes(), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(30, seed=2)
    dense = rd.equivalent(X, y, deq, gmm, kind)
    operator = rd.equivalent_operator(X, y, deq, gmm, kind)
    V = np.random.default_rng(3).standard_normal((30, 4))
    for given in (operator, operator.T, operator.H):
        np.testing.assert_allclose(given @ V, dense @ V, atol=1e-12)
        np.testing.assert_allclose(given @ V[:, 0], dense @ V[:, 0], atol=1e-12)
    assert operator.shape == dense.shape
    top = eigsh(operator, k=3, which="LA", return_eigenvectors=False, v0=np.ones(30))
    np.testing.assert_allclose(np.sort(top), np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)


def test_the_equivalent_is_symmetric():
    gmm = three_classes()
    dense = rd.equivalent(*gmm.sample(30, seed=2), rd.DEQ("relu", 0.3, 0.7), gmm)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-14)


def test_the_order_of_samples_is_free():
    gmm, deq = three_classes(), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(30, seed=2)
    order = np.random.default_rng(4).permutation(30)
    moved = rd.equivalent(X[order], y[order], deq, gmm)
    np.testing.assert_allclose(moved, rd.equivalent(X, y, deq, gmm)[np.ix_(order, order)], atol=1e-13)


def test_an_odd_activation_leaves_a_gram_matrix_and_a_diagonal():
    gmm, deq = three_classes(), rd.DEQ("tanh", 0.3, 0.7)
    X, y = gmm.sample(20, seed=2)
    coefficients = rd.solve(deq, gmm.tau0_squared)
    rest = rd.equivalent(X, y, deq, gmm) - coefficients.alpha[0] * X @ X.T
    expected = coefficients.gamma2 - gmm.tau0_squared * coefficients.alpha[0]
    np.testing.assert_allclose(rest, expected * np.eye(20), atol=1e-12)


def test_at_another_reference_norm_the_diagonal_follows():
    gmm, deq = three_classes(), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(20, seed=2)
    reference = gmm.mean_squared_norm
    at = rd.solve(deq, reference)
    a1, a2, a3, _ = at.alpha
    # A sample's distance from the reference is that of its class and its own: √p(E‖x_a‖² - τ0²)/√p + ψ_i.
    distance = (X**2).sum(axis=1) - reference
    pairs = gmm.covariance_products[np.ix_(y, y)] / gmm.dimension
    expected = a1 * X @ X.T + a2 * np.outer(distance, distance) + a3 * pairs
    expected += (at.gamma2 - reference * a1) * np.eye(20)
    np.testing.assert_allclose(rd.equivalent(X, y, deq, gmm, tau0_squared=reference), expected, atol=1e-12)


def relative_error(p, activation, kind, seeds):
    """Return the distance of equivalent and exact kernel, averaged over seeds, in operator norms."""
    gmm, deq = two_classes(p), rd.DEQ(activation, 0.2, 0.8)
    errors = []
    for seed in range(seeds):
        X, y = gmm.sample(4 * p // 5, seed)
        exact = rd.kernel(X, deq, kind=kind, tau0_squared=gmm.tau0_squared)
        gap = exact - rd.equivalent(X, y, deq, gmm, kind)
        errors.append(spectral_norm(gap) / spectral_norm(exact))
    return np.mean(errors)


def spectral_norm(matrix):
    start = np.random.default_rng(0).standard_normal(matrix.shape[0])
    return abs(eigsh(matrix, k=1, return_eigenvectors=False, tol=1e-6, v0=start)[0])


# One draw's error has a deviation of 3 % or less (seen over seeds), an average of three 2 %: 15 % is out of chance's
# reach once the average is within 5 % of the table, as it is.
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_error_is_the_tabled_one(activation, kind):
    expected = TABLE[500][activation][kind == "ntk"]
    assert relative_error(500, activation, kind, seeds=3) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_all_weights_has_an_equivalent_as_near(activation):
    # "ntk-full" has a larger linear part, which is exact: its error is at most the NTK's.
    full, plain = (relative_error(500, activation, kind, seeds=2) for kind in ("ntk-full", "ntk"))
    assert 0.5 * plain < full < plain


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_error_falls_at_least_like_the_root_of_the_dimension(activation, kind):
    dimensions = (500, 1000, 2000)
    errors = [relative_error(p, activation, kind, seeds) for p, seeds in zip(dimensions, (5, 3, 2), strict=True)]
    for p, error in zip(dimensions, errors, strict=True):
        if p in TABLE:
            assert error == pytest.approx(TABLE[p][activation][kind == "ntk"], rel=0.15)
    slope = np.polyfit(np.log(dimensions), np.log(errors), 1)[0]
    print(f"{activation} {kind}: {np.round(errors, 4)}, slope {slope:.3f}")
    # The means' energy, 64/p, adds a part of order 1/p: the table itself falls like p^-0.60 (tanh) to p^-0.64 (swish).
    assert -0.7 < slope < -0.45


GMM = rd.GaussianMixture(np.zeros((2, 6)), [1.0, 2.0])
TANH = rd.DEQ("tanh", 0.2, 0.8)
X0, Y0 = GMM.sample(8, seed=0)
BAD = {
    "another p": ((X0[:, :5], Y0, TANH, GMM), {}, "5 features, the mixture has 6"),
    "labels of another length": ((X0, Y0[:7], TANH, GMM), {}, "one label for each of the 8"),
    "label beyond the classes": ((X0, Y0 + 1, TANH, GMM), {}, "relabel with numpy.unique"),
    "negative label": ((X0, Y0 - 1, TANH, GMM), {}, "relabel with numpy.unique"),
    "no mixture": ((X0, Y0, TANH, [1.0, 2.0]), {}, "must be a GaussianMixture"),
    "no network": ((X0, Y0, "tanh", GMM), {}, "must be a DEQ"),
    "unknown kernel": ((X0, Y0, TANH, GMM), {"kind": "gram"}, "'ck', 'ntk', 'ntk-full'"),
    "unknown level": ((X0, Y0, TANH, GMM), {"level": "exact"}, "level must be one of"),
    "negative reference": ((X0, Y0, TANH, GMM), {"tau0_squared": -1.0}, "variance|tau0_squared"),
    "NaN": ((X0 * np.nan, Y0, TANH, GMM), {}, "remove or impute"),
    "a single sample": ((X0[0], Y0, TANH, GMM), {}, r"x\[None, :\]"),
    "activation with a mean": ((X0, Y0, rd.DEQ("relu", 0.2, 0.8, centered=False), GMM), {}, "centered=True"),
}


@pytest.mark.parametrize(("given", "options", "remedy"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("function", [rd.equivalent, rd.equivalent_operator], ids=["matrix", "operator"])
def test_bad_input_is_refused_with_a_remedy_at_once(seconds, function, given, options, remedy):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=remedy):
        function(*given, **options)


def test_an_odd_activation_needs_no_centring():
    free = rd.DEQ("tanh", 0.2, 0.8, centered=False)
    np.testing.assert_allclose(rd.equivalent(X0, Y0, free, GMM), rd.equivalent(X0, Y0, TANH, GMM), atol=1e-12)


def test_no_contraction_is_no_equivalent():
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        rd.equivalent(X0, Y0, rd.DEQ("relu", 3.0, 0.8), GMM)


def test_a_matrix_beyond_the_memory_limit_is_refused_for_the_operator():
    with pytest.raises(rd.MemoryLimitError, match="equivalent_operator"):
        rd.equivalent(X0, Y0, TANH, GMM, memory_limit=100)
