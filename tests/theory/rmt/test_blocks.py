"""Compiled traces over many small blocks, against inverses of the blocks and numbers of many digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from rmtdeq.theory.rmt.blocks import block_form, block_traces

POINTS = 3


def blocks(k, count, rank, seed=0):
    """Return loads in the upper half plane, vectors s_a, eigenvalues (a third of them zero) and weights."""
    rng = np.random.default_rng([k, count, rank, seed])
    w = rng.standard_normal((POINTS, k)) + 1j * rng.exponential(size=(POINTS, k))
    values = rng.uniform(0.0, 3.0, (count, k)) * (rng.random((count, k)) < 2 / 3)
    return w, rng.standard_normal((k, rank)), values, rng.uniform(0.1, 5.0, count)


def products(w, factors, values):
    """Return s_aᵀ B^{-1} s_b of every point and block, each block inverted as a matrix."""
    matrices = np.eye(factors.shape[1]) + np.einsum("ga,ma,ai,aj->gmij", w, values, factors, factors)
    return np.einsum("ai,gmij,bj->gmab", factors, np.linalg.inv(matrices), factors)


def exact_product(loads, gram, a, b):
    """Return P_ab of one block with fifty digits: P = S (I + diag(D) S)^{-1}."""
    with mpmath.workdps(50):
        S = mpmath.matrix(gram.tolist())
        D = mpmath.diag([mpmath.mpc(complex(load)) for load in loads])
        return complex((S * mpmath.inverse(mpmath.eye(gram.shape[0]) + D * S))[a, b])


@pytest.mark.parametrize("count", [1, 31, 33, 70])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_traces_are_sums_over_inverted_blocks(k, count):
    for rank in {1, k, k + 2}:
        w, factors, values, weights = blocks(k, count, rank)
        P = products(w, factors, values)
        first, second = block_traces(w, factors @ factors.T, values, weights)
        diagonal = np.einsum("m,ma,gmaa->ga", weights, values, P)
        squares = np.einsum("m,ma,mb,gmab->gab", weights, values, values, P**2)
        np.testing.assert_allclose(first, diagonal, rtol=1e-10, atol=1e-10 * abs(diagonal).max())
        np.testing.assert_allclose(second, -squares, rtol=1e-10, atol=1e-10 * abs(squares).max())


@pytest.mark.parametrize("count", [1, 31, 33, 70])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_forms_are_sums_over_inverted_blocks(k, count):
    for rank in {1, k}:
        w, factors, values, _ = blocks(k, count, rank)
        vectors = np.random.default_rng(k).standard_normal((count, k, 2))
        given = vectors @ vectors.transpose(0, 2, 1)
        expected = np.einsum("mab,gmab->gab", given, products(w, factors, values))
        found = block_form(w, factors @ factors.T, values, given)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())


def test_second_traces_are_derivatives_of_the_first():
    w, factors, values, weights = blocks(4, 40, 2)
    gram = factors @ factors.T
    _, second = block_traces(w, gram, values, weights)
    for b, e in enumerate(np.eye(4) * 1e-6):
        change = (block_traces(w + e, gram, values, weights)[0] - block_traces(w - e, gram, values, weights)[0]) / 2e-6
        np.testing.assert_allclose(second[:, :, b], change, rtol=1e-6, atol=1e-6)


def test_a_point_has_the_same_traces_alone_and_among_others():
    w, factors, values, weights = blocks(3, 70, 3)
    gram = factors @ factors.T
    together = block_traces(w, gram, values, weights)
    for g in range(POINTS):
        for part, alone in zip(together, block_traces(w[g : g + 1], gram, values, weights), strict=True):
            np.testing.assert_array_equal(part[g], alone[0])


def test_blocks_without_variance_give_nothing():
    w, factors, values, weights = blocks(3, 33, 2)
    gram = factors @ factors.T
    for part in block_traces(w, gram, np.zeros_like(values), weights):
        assert not part.any()
    given = np.repeat(np.ones((1, 3, 3)), 33, axis=0)
    np.testing.assert_allclose(block_form(w, gram, np.zeros_like(values), given), [33 * gram] * POINTS)


@pytest.mark.parametrize("load", [1e6j, 1e12j, -1e12 + 1e3j])
@pytest.mark.parametrize("heavy", [0, 1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_huge_load_on_a_class_costs_its_trace_no_digits(load, heavy, rank):
    rng = np.random.default_rng([heavy, rank])
    factors = rng.standard_normal((4, rank))
    gram, loads = factors @ factors.T, np.array([0.4 + 0.3j, 0.1 + 0.2j, -0.2 + 0.5j, 0.7 + 0.1j])
    loads[heavy] = load
    first, second = block_traces(loads[None], gram, np.ones((1, 4)), np.ones(1))
    # The heavy class's P_aa is about 1/load; the others' stay of order one unless they lie in its direction.
    own = exact_product(loads, gram, heavy, heavy)
    assert abs(own) == pytest.approx(1 / abs(load), rel=1e-3)
    assert abs(first[0, heavy] - own) < 1e-12 * abs(own)
    assert abs(second[0, heavy, heavy] + own**2) < 1e-12 * abs(own) ** 2
    for b in range(4):
        cross = exact_product(loads, gram, heavy, b)
        assert abs(second[0, heavy, b] + cross**2) < 1e-9 * abs(cross) ** 2
    found = block_form(loads[None], gram, np.ones((1, 4)), np.ones((1, 4, 4)))
    assert abs(found[0, heavy, heavy] - own) < 1e-12 * abs(own)
