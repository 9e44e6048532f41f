"""Covariances that do not commute: traces on their head by brute force, and a head as a pinching of covariances."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from rmtdeq.theory.rmt import CovarianceFamily, GramModel, bulk, resolvent_diagonal
from rmtdeq.theory.rmt.noncommuting import Head
from rmtdeq.theory.rmt.resolvent import _damped, _newton

K, P = 3, 7
W = np.array([[0.4, 0.9, 0.2], [0.3 + 0.5j, -0.2 + 0.8j, 0.6 + 0.1j]])
MEANS = np.random.default_rng(9).standard_normal((K, P))


def covariances(seed=0):
    """Return K positive definite matrices that are far from diagonal."""
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((K, P, 2 * P)) * np.linspace(1.5, 0.5, P)[:, None]
    return np.array([(a + 1) * part @ part.T / (2 * P) for a, part in enumerate(parts)])


def model_of(matrices, factors, d, truncation=0.0):
    """Return a model in the basis that the matrices are given in, with a head of d coordinates."""
    family = CovarianceFamily(
        dimension=P,
        eigenvalues=np.einsum("akk->ka", matrices),
        multiplicities=np.ones(P),
        mean_products=np.einsum("ak,bk->kab", MEANS, MEANS),
        head=matrices[:, :d, :d],
        head_means=MEANS[:, :d],
        truncation=truncation,
    )
    ratios, shifts = np.array([0.5, 0.3, 0.9]), np.array([0.1, -0.4, 0.3])
    return GramModel(factors @ factors.T, shifts, ratios, family, np.ones(K), np.zeros((3 * K, 3 * K)))


def summands(factors, matrices):
    """Return the matrices (s_a s_aᵀ) ⊗ C_a."""
    return np.array([np.kron(np.outer(s, s), c) for s, c in zip(factors, matrices, strict=True)])


def brute(terms, w):
    """Return gradient and Hessian of log det B, B = I + Σ w_a terms_a, as traces of products of whole matrices."""
    B = np.eye(terms.shape[1]) + np.tensordot(w, terms, 1)
    along = np.array([np.linalg.solve(B, term) for term in terms])
    return np.einsum("aii->a", along), -np.einsum("aij,bji->ab", along, along)


def pinched(terms, r, directions, d):
    """Zero the entries between the head and the blocks, one for each coordinate, of what the head leaves out."""
    direction, coordinate = (at.ravel() for at in np.meshgrid(np.arange(r), np.arange(P), indexing="ij"))
    label = np.where((direction < directions) & (coordinate < d), -1, coordinate)
    return terms * (label[:, None] == label)


@pytest.fixture(params=[1, 2])
def factors(request):
    """Return the vectors s_a, of rank one or two."""
    return np.random.default_rng(request.param).standard_normal((K, request.param))


def test_the_traces_by_brute_force_are_derivatives_of_the_log_determinant(factors):
    terms, step = summands(factors, covariances()), 1e-5
    w = W[0].real

    def log_det(at):
        return np.linalg.slogdet(np.eye(terms.shape[1]) + np.tensordot(at, terms, 1))[1]

    gradient, hessian = brute(terms, w)
    for a, e in enumerate(np.eye(K) * step):
        assert (log_det(w + e) - log_det(w - e)) / (2 * step) == pytest.approx(gradient[a], rel=1e-7)
        change = (brute(terms, w + e)[0] - brute(terms, w - e)[0]) / (2 * step)
        np.testing.assert_allclose(hessian[a], change, rtol=1e-6)


def test_the_traces_of_a_head_are_exact(factors):
    matrices = covariances()
    gradient, hessian = Head(matrices, factors).traces(W, True)
    for g in range(W.shape[0]):
        expected = brute(summands(factors, matrices), W[g])
        np.testing.assert_allclose(gradient[g], expected[0], rtol=1e-10)
        np.testing.assert_allclose(hessian[g], expected[1], rtol=1e-10)


@pytest.mark.parametrize(
    "w", [(0.4 + 0.3j, 0.9 + 0.1j), (-0.3 + 1e-9j, 2.0 + 1e-9j), (1e7 + 1e-3j, -0.4 + 0.2j)], ids=str
)
@pytest.mark.parametrize("order", [28, 61])
def test_the_traces_of_a_head_that_is_inverted_by_halves_are_exact(order, w):
    rng = np.random.default_rng(order)
    matrices = np.array([part @ part.T / order for part in rng.standard_normal((2, order, order))])
    points = np.tile(w, (300, 1)) * rng.uniform(0.5, 1.5, (300, 1))
    gradient, hessian = Head(matrices, np.ones((2, 1))).traces(points, True)
    for g in (0, 299):
        first, second = brute(matrices, points[g])
        np.testing.assert_allclose(gradient[g], first, rtol=1e-8)
        np.testing.assert_allclose(hessian[g], second, rtol=1e-8, atol=1e-8 * abs(second).max())


def test_without_a_hessian_the_gradient_is_the_same(factors):
    gradient, hessian = Head(covariances(), factors).traces(W, False)
    np.testing.assert_array_equal(gradient, Head(covariances(), factors).traces(W, True)[0])
    assert not hessian.any()


def test_the_hessian_of_a_head_is_the_derivative_of_its_gradient(factors):
    matrices, step = covariances(), 1e-6
    _, hessian = Head(matrices, factors).traces(W, True)
    for a, e in enumerate(np.eye(K) * step):
        ends = [Head(matrices, factors).traces(at, False)[0] for at in (W + e, W - e)]
        np.testing.assert_allclose(hessian[:, :, a], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-7)


def test_the_form_of_the_means_on_a_head_is_exact(factors):
    matrices = covariances()
    lifted = np.array([np.kron(s, mu) for s, mu in zip(factors, MEANS, strict=True)])
    B = np.eye(lifted.shape[1]) + np.tensordot(W, summands(factors, matrices), 1)
    found = Head(matrices, factors).form(MEANS, W)
    np.testing.assert_allclose(found, lifted @ np.linalg.inv(B) @ lifted.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("d", [1, 3, P])
@pytest.mark.parametrize("truncation", [0.0, 0.04])
def test_a_model_with_a_head_is_the_model_of_pinched_covariances(factors, d, truncation):
    r = factors.shape[1]
    # The second direction is much smaller than the first: only a truncation leaves it out of the head.
    model = model_of(covariances(), factors * np.array([1.0, 0.3])[:r], d, truncation)
    directions = 1 if truncation else r
    terms = pinched(summands(model.factors, covariances()), r, directions, d)
    lifted = np.array([np.kron(s, mu) for s, mu in zip(model.factors, MEANS, strict=True)])
    e, jacobian = model.traces(W / model.ratios)
    form = model.mean_form(W / model.ratios)
    for g in range(W.shape[0]):
        gradient, hessian = brute(terms, W[g])
        np.testing.assert_allclose(e[g], gradient / P, rtol=1e-10)
        np.testing.assert_allclose(jacobian[g], hessian * model.ratios / P, rtol=1e-10)
        inverse = np.linalg.inv(np.eye(terms.shape[1]) + np.tensordot(W[g], terms, 1))
        expected = lifted @ (np.eye(terms.shape[1]) - inverse) @ lifted.T
        np.testing.assert_allclose(form[g], expected, rtol=1e-9, atol=1e-11)


def test_a_head_of_all_coordinates_and_directions_pinches_nothing(factors):
    terms = summands(factors, covariances())
    np.testing.assert_array_equal(pinched(terms, factors.shape[1], factors.shape[1], P), terms)


def test_pinched_covariances_are_positive(factors):
    r = factors.shape[1]
    for d in range(P + 1):
        for directions in range(r + 1):
            values = np.linalg.eigvalsh(pinched(summands(factors, covariances()), r, directions, d))
            assert values.min() > -1e-12


@pytest.mark.parametrize("d", [1, 3, P])
def test_without_the_exact_jacobian_the_traces_are_exact_all_the_same(factors, d):
    model = model_of(covariances(), factors, d)
    np.testing.assert_allclose(model.traces(W, exact=False)[0], model.traces(W)[0], rtol=1e-13)


def test_the_resolvent_diagonal_solves_the_equations_of_whole_matrices(factors):
    model = model_of(covariances(), factors, P)
    z = np.array([-1 + 1e-3j, 0.5 + 1e-2j, 2 + 1j])
    q = resolvent_diagonal(model, z)
    for g in range(z.size):
        e = brute(summands(model.factors, covariances()), model.ratios * q[g])[0] / P
        np.testing.assert_allclose(q[g] * (model.shifts - z[g] + e), 1, atol=1e-6)


@pytest.mark.parametrize("d", [2, P])
@pytest.mark.parametrize("exact", [True, False])
def test_the_equations_have_one_solution_in_the_upper_half_plane(factors, d, exact):
    model = model_of(covariances(), factors, d)
    z = np.repeat([-0.5 + 1e-4j, 0.4 + 1e-2j, 1.5 + 1e-3j, 6 + 0.2j], 10)
    rng = np.random.default_rng(0)
    starts = rng.standard_normal((z.size, K)) + 1j * rng.exponential(size=(z.size, K))
    expected = resolvent_diagonal(model, z)
    q, good = _newton(model, z, starts, 1e-10, exact)
    assert good.mean() > 0.2
    np.testing.assert_allclose(q[good], expected[good], rtol=1e-6)
    # Iterating the map brings every start there.
    np.testing.assert_allclose(_damped(model, z, starts.copy()), expected, rtol=1e-6)


@pytest.mark.parametrize("ranks", [(7, 7, 7), (3, 2, 7), (2, 2, 2)])
@pytest.mark.parametrize(
    "sizes", [(1e3, 1, 1), (1e8, 1, 1), (1e11, 1e11, 1), (1e11, 1e5, 1e8), (1e13, 1e11, 1e-3)], ids=str
)
def test_no_digits_are_lost_near_an_atom_of_a_class(factors, ranks, sizes):
    rng = np.random.default_rng(4)
    matrices = np.array([root @ root.T for root in (rng.standard_normal((P, rank)) for rank in ranks)])
    head = Head(matrices, factors)
    w = np.array(sizes) * np.exp(1j * np.array([0.1, 1.3, 2.5]))
    gradient, hessian = (part[0] for part in head.traces(w[None], True))
    with mpmath.workdps(50):
        # Roots, not covariances: of those the last digits decide what is large and what is not.
        roots = [mpmath.matrix(root.tolist()) for root in head._roots]
        inverse = mpmath.inverse(
            sum((mpmath.mpc(at) * root * root.T for at, root in zip(w, roots, strict=True)), mpmath.eye(head.order))
        )
        between = [[one.T * inverse * other for other in roots] for one in roots]

        def trace(matrix):
            return complex(sum(matrix[i, i] for i in range(matrix.rows)))

        first = np.array([trace(between[a][a]) for a in range(K)])
        second = -np.array([[trace(between[a][b] * between[b][a]) for b in range(K)] for a in range(K)])
    np.testing.assert_allclose(gradient, first, rtol=1e-11)
    scale = np.sqrt(abs(np.outer(np.diag(second), np.diag(second))))
    np.testing.assert_allclose(hessian / scale, second / scale, atol=1e-11)


def test_more_samples_than_rank_leave_every_class_its_atom():
    rng = np.random.default_rng(8)
    roots = [rng.standard_normal((P, rank)) for rank in (3, 5, 6)]
    matrices = np.array([root @ root.T for root in roots])
    # Three directions, so that the ranges of the s_a ⊗ C_a are independent.
    model = replace(model_of(matrices, np.eye(3) + 0.3, P), ratios=np.array([2.0, 1.5, 0.5]))
    law = bulk(model)
    assert law.mass == pytest.approx(1, abs=1e-5)
    # n_a - rank C_a samples of each class combine to nothing: 2·7 - 3 and 1.5·7 - 5 of 4·7.
    np.testing.assert_allclose(law.atoms, sorted([(0.1, 11 / 28), (-0.4, 5.5 / 28)]), atol=1e-5)
