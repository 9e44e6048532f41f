"""Krylov subspaces: Ritz pairs, residuals, restarts, invariance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtdeq._lib.solvers import KrylovSubspace


def matrix(values, seed=0):
    """A symmetric matrix with given eigenvalues."""
    values = np.asarray(values, dtype=float)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((values.size, values.size)))[0]
    return (basis * values) @ basis.T


def grown(A, start, steps, most=10_000):
    subspace = KrylovSubspace(start, most)
    for _ in range(steps):
        subspace.take(subspace.next_step(lambda V: A @ V))
    return subspace


def block(n, b, seed=1):
    return np.random.default_rng(seed).standard_normal((n, b))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(6, 60), b=st.integers(1, 6), steps=st.integers(1, 8), seed=st.integers(0, 1000))
def test_ritz_vectors_are_orthonormal_and_residuals_are_what_they_say(n, b, steps, seed):
    A = matrix(np.random.default_rng(seed).gamma(0.3, size=n), seed)
    subspace = grown(A, block(n, b, seed), steps)
    pairs = subspace.ritz()
    V = subspace.vectors(pairs.coordinates)
    size = np.linalg.norm(A, 2)
    np.testing.assert_allclose(V.T @ V, np.eye(subspace.dimension), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(A @ V - V * pairs.values, axis=0), pairs.residuals, atol=1e-11 * size)
    # Cauchy's interlacing: the k-th largest Ritz value is at most the k-th largest eigenvalue.
    assert (pairs.values <= np.linalg.eigvalsh(A)[-pairs.values.size :] + 1e-12 * size).all()


def test_moments_of_the_start_are_those_of_the_matrix():
    """Gauss quadrature: with k steps of one vector, polynomials of degree 2k - 1 are integrated exactly."""
    A, v = matrix(np.linspace(0.1, 1, 40)), block(40, 1)
    pairs = grown(A, v, 5).ritz()
    weights = pairs.coordinates[0] ** 2
    for degree in range(10):
        exact = (v.T @ np.linalg.matrix_power(A, degree) @ v).item() / (v.T @ v).item()
        assert weights @ pairs.values**degree == pytest.approx(exact, rel=1e-12)
    exact = (v.T @ np.linalg.matrix_power(A, 10) @ v).item() / (v.T @ v).item()
    assert weights @ pairs.values**10 != pytest.approx(exact, rel=1e-12)


def test_the_whole_space_gives_all_eigenvalues():
    A = matrix(np.geomspace(1e-6, 1, 37))
    subspace = KrylovSubspace(block(37, 5), 37)
    while not subspace.invariant:
        subspace.take(subspace.next_step(lambda V: A @ V))
    assert subspace.dimension == 37
    np.testing.assert_allclose(subspace.ritz().values, np.linalg.eigvalsh(A), atol=1e-14)


def test_invariance_is_noticed_and_repeated_eigenvalues_are_found_by_extending():
    A = matrix([1.0] * 30 + [2.0] * 6 + [5.0])
    subspace = grown(A, block(37, 2), 3)
    assert subspace.invariant
    # A vector of each eigenspace for every vector of the start, as far as there are so many.
    np.testing.assert_allclose(subspace.ritz().values, [1, 1, 2, 2, 5], atol=1e-13)
    np.testing.assert_allclose(subspace.ritz().residuals, 0, atol=1e-13)
    for seed in (2, 3):
        subspace.extend(block(37, 2, seed))
        while not subspace.invariant:
            subspace.take(subspace.next_step(lambda V: A @ V))
    np.testing.assert_allclose(subspace.ritz().values, [1] * 6 + [2] * 6 + [5], atol=1e-12)


def test_a_restart_keeps_the_best_and_converges():
    values = np.arange(1.0, 301.0)
    A, b, top = matrix(values), 4, 5
    subspace = KrylovSubspace(block(300, b), 60)
    for _ in range(200):
        if subspace.full:
            before = subspace.ritz()
            subspace.shrink(top + b)
            after = subspace.ritz()
            np.testing.assert_allclose(after.values, before.values[-(top + b) :], rtol=1e-12)
            np.testing.assert_allclose(after.residuals[-top:], before.residuals[-top:], atol=1e-9)
            V = subspace.vectors(after.coordinates)
            np.testing.assert_allclose(V.T @ V, np.eye(top + b), atol=1e-12)
        subspace.take(subspace.next_step(lambda V: A @ V))
        assert subspace.dimension <= 60
    np.testing.assert_allclose(subspace.ritz().values[-top:], values[-top:], rtol=1e-12)


def test_steps_can_be_taken_again_without_the_operator():
    A, start = matrix(np.geomspace(1e-4, 1, 80)), block(80, 3)
    first, second = KrylovSubspace(start, 80), KrylovSubspace(start, 80)
    for _ in range(6):
        step = first.next_step(lambda V: A @ V)
        assert second.fits(step)
        first.take(step)
        second.take(step)
        assert not second.fits(step)
    np.testing.assert_array_equal(first.ritz().values, second.ritz().values)


@pytest.mark.parametrize("A", [np.zeros((9, 9)), 3 * np.eye(9)])
def test_multiples_of_the_identity_are_exhausted_at_once(A):
    subspace = grown(A, block(9, 2), 1)
    assert subspace.invariant
    np.testing.assert_allclose(subspace.ritz().values, A[0, 0], atol=1e-14)
