"""The assembled equivalents: both levels' formulas written out, and their distance from the exact kernels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

import rmtdeq as rd
from rmtdeq.theory.jets import diagonal_jet, entry_jet

KINDS = ("ck", "ntk", "ntk-full")
ACTIVATIONS = ("tanh", "relu", "swish")

# The network's activation and whether it is centred; the paper's level covers the centred ones.
NETWORKS = (("tanh", True), ("relu", True), ("swish", True), ("relu", False), ("swish", False))
LEVELS = (("paper", "class"), ("classwise", "class"), ("classwise", "sample"), ("polynomial", "sample"))

# Relative errors of the paper's level in operator norm, CK and NTK, on the mixture of `two_classes` with n = 0.8 p.
TABLE = {
    500: {"tanh": (0.142, 0.150), "relu": (0.084, 0.087), "swish": (0.073, 0.075)},
    2000: {"tanh": (0.062, 0.066), "relu": (0.036, 0.037), "swish": (0.030, 0.031)},
}

# The same of the class-wise level, CK.
CLASSWISE = {
    500: {("tanh", True): 0.0068, ("relu", True): 0.0128, ("relu", False): 0.0015, ("swish", False): 0.0038},
    2000: {("tanh", True): 0.0030, ("relu", True): 0.0061, ("relu", False): 0.00021, ("swish", False): 0.00065},
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


def full_covariances(p):
    """Return unbalanced classes with random covariances that are far from isotropic and do not commute."""
    rng = np.random.default_rng(7)
    covariances = []
    for scale in (1.0, 0.7, 1.4):
        root = rng.standard_normal((p, 2 * p)) / np.sqrt(2 * p)
        covariances.append(scale * (root * np.linspace(0.3, 1.7, 2 * p)) @ root.T)
    means = rng.standard_normal((3, p)) * np.array([[3.0], [6.0], [4.5]]) / np.sqrt(p)
    return rd.GaussianMixture(means, covariances, [5, 2, 3])


def matrices_of(gmm):
    """Return the covariances as matrices."""
    return [c if c.ndim == 2 else np.diag(np.broadcast_to(c, (gmm.dimension,))) for c in gmm.covariances]


def fluctuations(X, y, gmm):
    """Return ψ = ‖x‖² - E‖x‖² and E‖x_a‖², from the definitions."""
    expected = np.array([np.trace(c) + mu @ mu for c, mu in zip(matrices_of(gmm), gmm.means, strict=True)])
    expected /= gmm.dimension
    return np.array([x @ x for x in X]) - expected[y], expected


def written_out(X, y, deq, gmm, kind):
    """Return α1 XXᵀ + V C Vᵀ + (γ² - τ0² α1) I, term by term from the definitions."""
    n, p = X.shape
    matrices = matrices_of(gmm)
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
    psi, _ = fluctuations(X, y, gmm)
    V = np.column_stack([J / np.sqrt(p), psi])
    C = np.block([[two * np.outer(t, t) + three * T, two * t[:, None]], [two * t[None, :], np.array([[two]])]])
    return one * X @ X.T + V @ C @ V.T + (diagonal - tau0_squared * one) * np.eye(n)


def written_out_by_classes(X, y, deq, gmm, kind, tau0_squared):
    """Return the second-order expansion around each pair of classes, entry by entry."""
    n, p = X.shape
    matrices, (psi, norms) = matrices_of(gmm), fluctuations(X, y, gmm)
    pinned = deq.pinned(tau0_squared)
    centres = gmm.means @ gmm.means.T / p
    expansions = {
        (a, b): entry_jet(pinned, norms[a], norms[b], centres[a, b], kind)
        for a, b in np.ndindex(len(norms), len(norms))
    }
    result = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        a, b = y[i], y[j]
        if i == j:
            result[i, i] = diagonal_jet(pinned, norms[[a]], kind).value[0]
            continue
        centre, at = centres[a, b], expansions[a, b]
        g_u, g_v, g_x = at.gradient
        (g_uu, g_uv, _), (_, g_vv, _), (_, _, g_xx) = at.hessian
        result[i, j] = (
            at.value
            + g_x * (X[i] @ X[j] - centre)
            + g_xx / 2 * np.trace(matrices[a] @ matrices[b]) / p**2
            + g_u * psi[i]
            + g_v * psi[j]
            + g_uu / 2 * psi[i] ** 2
            + g_vv / 2 * psi[j] ** 2
            + g_uv * psi[i] * psi[j]
        )
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_papers_equivalent_is_its_formula_written_out(activation, kind):
    gmm, deq = three_classes(), rd.DEQ(activation, 0.2, 0.8)
    X, y = gmm.sample(30, seed=1)
    given = rd.equivalent(X, y, deq, gmm, kind, level="paper")
    np.testing.assert_allclose(given, written_out(X, y, deq, gmm, kind), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("activation", "centered"), NETWORKS)
def test_the_class_wise_equivalent_is_its_formula_written_out(activation, centered, kind):
    gmm, deq = three_classes(), rd.DEQ(activation, 0.2, 0.8, centered=centered)
    X, y = gmm.sample(12, seed=1)
    expected = written_out_by_classes(X, y, deq, gmm, kind, gmm.mean_squared_norm)
    np.testing.assert_allclose(rd.equivalent(X, y, deq, gmm, kind, diagonal="class"), expected, atol=1e-12)
    expected = written_out_by_classes(X, y, deq, gmm, kind, gmm.tau0_squared)
    given = rd.equivalent(X, y, deq, gmm, kind, tau0_squared=gmm.tau0_squared, diagonal="class")
    np.testing.assert_allclose(given, expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("activation", "centered"), NETWORKS)
def test_a_diagonal_by_samples_is_expanded_to_second_order_in_their_norms(activation, centered, kind):
    gmm, deq = three_classes(), rd.DEQ(activation, 0.2, 0.8, centered=centered)
    X, y = gmm.sample(30, seed=1)
    psi, norms = fluctuations(X, y, gmm)
    at = diagonal_jet(deq.pinned(gmm.mean_squared_norm), norms[y], kind)
    expected = rd.equivalent(X, y, deq, gmm, kind)
    np.fill_diagonal(expected, at.value + at.gradient[:, 0] * psi + at.hessian[:, 0, 0] / 2 * psi**2)
    np.testing.assert_allclose(rd.equivalent(X, y, deq, gmm, kind), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("level", "diagonal"), LEVELS)
def test_the_operator_is_the_matrix(level, diagonal, kind):
    gmm, deq = three_classes(), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(30, seed=2)
    dense = rd.equivalent(X, y, deq, gmm, kind, level, diagonal=diagonal)
    operator = rd.equivalent_operator(X, y, deq, gmm, kind, level, diagonal=diagonal)
    V = np.random.default_rng(3).standard_normal((30, 4))
    for given in (operator, operator.T, operator.H):
        np.testing.assert_allclose(given @ V, dense @ V, atol=1e-12)
        np.testing.assert_allclose(given @ V[:, 0], dense @ V[:, 0], atol=1e-12)
    assert operator.shape == dense.shape
    top = eigsh(operator, k=3, which="LA", return_eigenvectors=False, v0=np.ones(30))
    np.testing.assert_allclose(np.sort(top), np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)


@pytest.mark.parametrize(("level", "diagonal"), LEVELS)
def test_the_equivalent_is_symmetric(level, diagonal):
    gmm = three_classes()
    dense = rd.equivalent(*gmm.sample(30, seed=2), rd.DEQ("relu", 0.3, 0.7), gmm, level=level, diagonal=diagonal)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("level", "diagonal"), LEVELS)
def test_the_order_of_samples_is_free(level, diagonal):
    gmm, deq = three_classes(), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(30, seed=2)
    order = np.random.default_rng(4).permutation(30)
    moved = rd.equivalent(X[order], y[order], deq, gmm, level=level, diagonal=diagonal)
    expected = rd.equivalent(X, y, deq, gmm, level=level, diagonal=diagonal)[np.ix_(order, order)]
    np.testing.assert_allclose(moved, expected, atol=1e-13)


def test_an_odd_activation_leaves_a_gram_matrix_and_a_diagonal_at_the_papers_level():
    gmm, deq = three_classes(), rd.DEQ("tanh", 0.3, 0.7)
    X, y = gmm.sample(20, seed=2)
    coefficients = rd.solve(deq, gmm.tau0_squared)
    rest = rd.equivalent(X, y, deq, gmm, level="paper") - coefficients.alpha[0] * X @ X.T
    expected = coefficients.gamma2 - gmm.tau0_squared * coefficients.alpha[0]
    np.testing.assert_allclose(rest, expected * np.eye(20), atol=1e-12)


def test_around_a_common_centre_both_levels_have_the_same_slopes():
    # One class without mean: the paper's coefficients are derivatives at the point that class-wise expands around,
    # α1 = G_x, α2 = G_uv, α3 = ½ G_xx.
    gmm, deq = rd.GaussianMixture(np.zeros((1, 30)), [1.3]), rd.DEQ("swish", 0.3, 0.7)
    X, y = gmm.sample(20, seed=2)
    u = gmm.squared_norms[0]
    at = entry_jet(deq.pinned(u), u, u, 0.0)
    psi, _ = fluctuations(X, y, gmm)
    bent = at.gradient[0] * psi + at.hessian[0, 0] / 2 * psi**2
    rest = rd.equivalent(X, y, deq, gmm) - rd.equivalent(X, y, deq, gmm, level="paper")
    off = ~np.eye(20, dtype=bool)
    # The entry is zero at the centre; its own slope and curvature in each norm are what the paper's level leaves out.
    np.testing.assert_allclose(rest[off], (bent[:, None] + bent[None, :])[off], atol=1e-12)


def test_at_another_reference_norm_the_papers_diagonal_follows():
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
    given = rd.equivalent(X, y, deq, gmm, level="paper", tau0_squared=reference)
    np.testing.assert_allclose(given, expected, atol=1e-12)


def relative_error(gmm, n, deq, kind, seeds, level, diagonal="class"):
    """Return the distance of equivalent and exact kernel, averaged over seeds, in operator norms."""
    errors, reference = [], gmm.tau0_squared
    # The paper's level has its own terms for this reference, which differ from those for the same number given.
    options = {} if level == "paper" else {"tau0_squared": reference, "diagonal": diagonal}
    for seed in range(seeds):
        X, y = gmm.sample(n, seed)
        exact = rd.kernel(X, deq, kind=kind, tau0_squared=reference)
        gap = exact - rd.equivalent(X, y, deq, gmm, kind, level, **options)
        errors.append(spectral_norm(gap) / spectral_norm(exact))
    return np.mean(errors)


def error_on_two_classes(p, activation, kind, seeds, level, centered=True):
    """Return the relative error that is tabled."""
    deq = rd.DEQ(activation, 0.2, 0.8, centered=centered)
    return relative_error(two_classes(p), 4 * p // 5, deq, kind, seeds, level)


def spectral_norm(matrix):
    if matrix.shape[0] <= 400:
        return abs(np.linalg.eigvalsh(matrix)).max()
    start = np.random.default_rng(0).standard_normal(matrix.shape[0])
    return abs(eigsh(matrix, k=1, return_eigenvectors=False, tol=1e-6, v0=start)[0])


# One draw's error has a deviation of 3 % or less (seen over seeds), an average of three 2 %: 15 % is out of chance's
# reach once the average is within 5 % of the table, as it is.
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_papers_error_is_the_tabled_one(activation, kind):
    expected = TABLE[500][activation][kind == "ntk"]
    assert error_on_two_classes(500, activation, kind, 3, "paper") == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_all_weights_has_a_papers_equivalent_as_near(activation):
    # "ntk-full" has a larger linear part, which is exact: its error is at most the NTK's.
    full, plain = (error_on_two_classes(500, activation, kind, 2, "paper") for kind in ("ntk-full", "ntk"))
    assert 0.5 * plain < full < plain


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_papers_error_falls_at_least_like_the_root_of_the_dimension(activation, kind):
    dimensions = (500, 1000, 2000)
    errors = [
        error_on_two_classes(p, activation, kind, seeds, "paper")
        for p, seeds in zip(dimensions, (5, 3, 2), strict=True)
    ]
    for p, error in zip(dimensions, errors, strict=True):
        if p in TABLE:
            assert error == pytest.approx(TABLE[p][activation][kind == "ntk"], rel=0.15)
    slope = np.polyfit(np.log(dimensions), np.log(errors), 1)[0]
    print(f"{activation} {kind}: {np.round(errors, 4)}, slope {slope:.3f}")
    # The means' energy, 64/p, adds a part of order 1/p: the table itself falls like p^-0.60 (tanh) to p^-0.64 (swish).
    assert -0.7 < slope < -0.45


# One draw's class-wise error is that of its largest norm fluctuation where φ is not odd, and scatters: by 11 % (tanh)
# to 14 % (the others) over ten draws at p = 500, single ones from -25 % to +26 %, and by 16 % at p = 2000; an average
# of three by 6 % to 9 %.
@pytest.mark.parametrize("network", CLASSWISE[500])
def test_the_class_wise_error_is_the_tabled_one(network):
    activation, centered = network
    error = error_on_two_classes(500, activation, "ck", 3, "classwise", centered)
    assert error == pytest.approx(CLASSWISE[500][network], rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("network", CLASSWISE[2000])
def test_the_class_wise_error_is_the_tabled_one_in_high_dimension(network):
    activation, centered = network
    error = error_on_two_classes(2000, activation, "ck", 3, "classwise", centered)
    print(f"{activation} centered={centered}: {error:.5f}")
    assert error == pytest.approx(CLASSWISE[2000][network], rel=0.25)


@pytest.mark.parametrize(("activation", "centered"), NETWORKS)
def test_the_ntk_is_as_near_class_wise_as_the_ck(activation, centered):
    # On the same draws, whose scatter both share.
    ck, ntk = (error_on_two_classes(500, activation, kind, 3, "classwise", centered) for kind in ("ck", "ntk"))
    assert ntk == pytest.approx(ck, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_class_wise_is_at_least_three_times_as_near_as_the_papers_level(activation, kind):
    paper, classwise = (error_on_two_classes(500, activation, kind, 3, level) for level in ("paper", "classwise"))
    assert classwise < paper / 3


# One diagonal for each class leaves the fluctuation of the diagonal with the norms, at p = 120 as large as the paper's
# whole error for ReLU and swish; a diagonal by samples leaves none.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_with_random_covariances_class_wise_is_three_times_as_near_sample_by_sample(activation, kind):
    gmm, deq = full_covariances(120), rd.DEQ(activation, 0.2, 0.8)
    paper = relative_error(gmm, 96, deq, kind, 4, "paper")
    assert relative_error(gmm, 96, deq, kind, 4, "classwise", "sample") < paper / 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_with_random_covariances_class_wise_is_nearer_in_high_dimension(activation, kind):
    gmm, deq = full_covariances(1000), rd.DEQ(activation, 0.2, 0.8)
    paper, by_class, by_sample = (
        relative_error(gmm, 800, deq, kind, 3, level, diagonal)
        for level, diagonal in (("paper", "class"), ("classwise", "class"), ("classwise", "sample"))
    )
    print(f"{activation} {kind}: paper {paper:.4f}, class {by_class:.4f}, sample {by_sample:.4f}")
    assert by_class < paper
    assert by_sample < paper / 6


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_with_random_covariances_activations_with_a_mean_have_a_near_equivalent(activation):
    gmm, deq = full_covariances(1000), rd.DEQ(activation, 0.2, 0.8, centered=False)
    by_class, by_sample = (relative_error(gmm, 800, deq, "ck", 3, "classwise", d) for d in ("class", "sample"))
    assert by_class < 0.004
    assert by_sample < by_class / 5


GMM = rd.GaussianMixture(np.zeros((2, 6)), [1.0, 2.0])
RIGID = rd.GaussianMixture(np.ones((2, 6)), [1.0, 0.0])
TANH, FREE = rd.DEQ("tanh", 0.2, 0.8), rd.DEQ("relu", 0.2, 0.8, centered=False)
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
    "unknown diagonal": ((X0, Y0, TANH, GMM), {"diagonal": "exact"}, "diagonal must be one of"),
    "negative reference": ((X0, Y0, TANH, GMM), {"tau0_squared": -1.0}, "tau0_squared"),
    "negative point": ((X0, Y0, TANH, GMM), {"tau0_squared": -1.0, "level": "paper"}, "variance|tau0_squared"),
    "a class without variance": ((X0, Y0, TANH, RIGID), {}, "Class 1 of the mixture has no variance"),
    "NaN": ((X0 * np.nan, Y0, TANH, GMM), {}, "remove or impute"),
    "a single sample": ((X0[0], Y0, TANH, GMM), {}, r"x\[None, :\]"),
    "activation with a mean": ((X0, Y0, FREE, GMM), {"level": "paper"}, "centered=True"),
}


@pytest.mark.parametrize(("given", "options", "remedy"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("function", [rd.equivalent, rd.equivalent_operator], ids=["matrix", "operator"])
def test_bad_input_is_refused_with_a_remedy_at_once(seconds, function, given, options, remedy):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=remedy):
        function(*given, **options)


@pytest.mark.parametrize("level", ["paper", "classwise"])
def test_an_odd_activation_needs_no_centring(level):
    free = rd.DEQ("tanh", 0.2, 0.8, centered=False)
    expected = rd.equivalent(X0, Y0, TANH, GMM, level=level)
    np.testing.assert_allclose(rd.equivalent(X0, Y0, free, GMM, level=level), expected, atol=1e-12)


@pytest.mark.parametrize("level", ["paper", "classwise"])
def test_no_contraction_is_no_equivalent(level):
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        rd.equivalent(X0, Y0, rd.DEQ("relu", 3.0, 0.8), GMM, level=level)


def test_a_matrix_beyond_the_memory_limit_is_refused_for_the_operator():
    with pytest.raises(rd.MemoryLimitError, match="equivalent_operator"):
        rd.equivalent(X0, Y0, TANH, GMM, memory_limit=100)
