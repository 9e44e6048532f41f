"""Traces of resolvents of covariances that do not commute, against determinants and inverses by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rmtdeq.rmt import covariance_family
from rmtdeq.rmt.noncommuting import inverse_block, log_det_derivatives, mean_form

K, P = 3, 7
W = np.array([[0.4, 0.9, 0.2], [0.3 + 0.5j, -0.2 + 0.8j, 0.6 + 0.1j]])


def covariances(seed=0, off_diagonal=1.0):
    """Return K matrices whose off-diagonal entries are of the given size."""
    rng = np.random.default_rng(seed)
    result = []
    for a in range(K):
        noise = rng.standard_normal((P, P))
        full = (noise + noise.T) / 2
        np.fill_diagonal(full, 0)
        result.append(np.diag(np.linspace(4, 1, P) + 0.3 * a) + 0.35 * off_diagonal * full)
    return np.array(result)


def family_of(matrices, head):
    """Return a family in the basis that the matrices are given in."""
    family = covariance_family(list(matrices), MEANS, np.full(K, 1 / K), truncation=0.0)
    diagonals = np.einsum("akk->ka", matrices)
    return replace(family, matrices=matrices, eigenvalues=diagonals, means=MEANS, head=head)


MEANS = np.random.default_rng(9).standard_normal((K, P))


def big(factors, matrices, w):
    """Return B and the summands (s_a s_aᵀ) ⊗ C_a."""
    terms = np.array([np.kron(np.outer(s, s), c) for s, c in zip(factors, matrices, strict=True)])
    return np.eye(terms.shape[1]) + np.tensordot(w, terms, 1), terms


def brute(factors, matrices, w):
    """Return gradient and Hessian of log det B as traces of products of whole matrices."""
    B, terms = big(factors, matrices, w)
    along = np.array([np.linalg.solve(B, term) for term in terms])
    return np.einsum("aii->a", along), -np.einsum("aij,bji->ab", along, along)


def products(family, factors, w):
    """Return s_aᵀ B_i^{-1} s_b of the diagonal blocks."""
    blocks = np.eye(factors.shape[1]) + np.einsum("ga,ma,ai,aj->gmij", w, family.eigenvalues, factors, factors)
    return np.einsum("ai,gmij,bj->gmab", factors, np.linalg.inv(blocks), factors)


@pytest.fixture(params=[1, 2])
def factors(request):
    """Return the vectors s_a, of rank one or two."""
    return np.random.default_rng(request.param).standard_normal((K, request.param))


def test_the_traces_by_brute_force_are_derivatives_of_the_log_determinant(factors):
    matrices, step = covariances(), 1e-5
    w = W[0].real

    def log_det(at):
        return np.linalg.slogdet(big(factors, matrices, at)[0])[1]

    gradient, hessian = brute(factors, matrices, w)
    for a, e in enumerate(np.eye(K) * step):
        assert (log_det(w + e) - log_det(w - e)) / (2 * step) == pytest.approx(gradient[a], rel=1e-7)
        change = (brute(factors, matrices, w + e)[0] - brute(factors, matrices, w - e)[0]) / (2 * step)
        np.testing.assert_allclose(hessian[a], change, rtol=1e-6)


def test_a_head_of_all_coordinates_is_exact(factors):
    matrices = covariances()
    family = family_of(matrices, head=P)
    gradient, hessian = log_det_derivatives(family, factors, W, products(family, factors, W))
    for g in range(W.shape[0]):
        expected = brute(factors, matrices, W[g])
        np.testing.assert_allclose(gradient[g], expected[0], rtol=1e-10)
        np.testing.assert_allclose(hessian[g], expected[1], rtol=1e-10)


@pytest.mark.parametrize("head", [0, 3])
def test_entries_outside_the_head_enter_to_second_order(factors, head):
    def errors(size):
        matrices = covariances(off_diagonal=size)
        family = family_of(matrices, head)
        found = log_det_derivatives(family, factors, W, products(family, factors, W))
        expected = [np.array(part) for part in zip(*(brute(factors, matrices, w) for w in W), strict=True)]
        return [abs(one - other).max() for one, other in zip(found, expected, strict=True)]

    # With a head its entries are exact, but their product with those outside is left out: of third order, too.
    sizes = np.array([0.08, 0.04, 0.02])
    for coarse, middle, fine in zip(*(errors(size) for size in sizes), strict=True):
        assert fine < 1e-3
        assert coarse / middle > 5
        assert middle / fine > 5


@pytest.mark.parametrize("head", [0, 3, P])
def test_the_hessian_is_the_derivative_of_the_gradient_at_every_head(factors, head):
    family, step = family_of(covariances(), head), 1e-6

    def gradient(w):
        return log_det_derivatives(family, factors, w, products(family, factors, w))[0]

    _, hessian = log_det_derivatives(family, factors, W, products(family, factors, W))
    for a, e in enumerate(np.eye(K) * step):
        change = (gradient(W + e) - gradient(W - e)) / (2 * step)
        np.testing.assert_allclose(hessian[:, :, a], change, rtol=1e-6, atol=1e-7)


def test_the_inverse_of_a_block_is_the_inverse_of_the_kronecker_sum(factors):
    matrices = covariances()
    r = factors.shape[1]
    inverse = inverse_block(matrices, factors, W[1]).reshape(r * P, r * P)
    np.testing.assert_allclose(inverse @ big(factors, matrices, W[1])[0], np.eye(r * P), atol=1e-12)


@pytest.mark.parametrize("head", [0, P])
def test_the_form_of_the_means_is_exact_at_every_head(factors, head):
    matrices = covariances()
    lifted = np.array([np.kron(s, mu) for s, mu in zip(factors, MEANS, strict=True)])
    found = mean_form(family_of(matrices, head), factors, W)
    for g in range(W.shape[0]):
        inverse = np.linalg.inv(big(factors, matrices, W[g])[0])
        expected = lifted @ (np.eye(inverse.shape[0]) - inverse) @ lifted.T
        np.testing.assert_allclose(found[g], expected, rtol=1e-10, atol=1e-12)
