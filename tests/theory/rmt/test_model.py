"""The Gram model: its upper bound holds the spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.theory.rmt import bulk
from rmtdeq.theory.rmt import model as models

P = 160
SHIFTS = [0.3, -0.5, 0.8]


def covariances(kind):
    """Return three covariances of dimension P."""
    rng = np.random.default_rng(6)
    if kind == "scalar":
        return [np.ones(P), 0.3 * np.ones(P), 2 * np.ones(P)]
    if kind == "diagonal":
        return [np.exp(rng.standard_normal(P)), np.linspace(0.1, 4, P), np.repeat([0.1, 8.0], [P - 20, 20])]
    parts = rng.standard_normal((3, P, 2 * P)) / np.sqrt(2 * P) * np.linspace(2, 0.5, P)[:, None]
    return [(a + 1) * part @ part.T for a, part in enumerate(parts)]


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "matrix"])
@pytest.mark.parametrize("ratios", [(0.05, 0.2, 0.1), (1.0, 0.5, 0.25), (2.0, 0.1, 2.0)])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_upper_bound_holds_the_eigenvalues_of_sampled_matrices(sampler, kind, ratios, rank):
    factors = np.random.default_rng(rank).standard_normal((3, rank))
    drawn = sampler(covariances(kind), ratios, gram=factors @ factors.T, shifts=SHIFTS)
    model = drawn.model
    largest = max(np.linalg.eigvalsh(drawn.draw(seed))[-1] for seed in range(2))
    # The norm of a Gaussian matrix of dimension n exceeds its bound by O(n^{-2/3}) of it.
    room = model.upper_bound - model.shifts.max()
    assert largest <= model.upper_bound + 2 * P ** (-2 / 3) * room
    # Nor is it far above: a bound of the norm by the triangle inequality is within a factor of two of each part.
    assert largest - min(SHIFTS) >= room / 8


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "matrix"])
@pytest.mark.parametrize("truncation", [0.0, 0.05])
def test_the_upper_bound_is_above_the_predicted_support(gram_model, kind, truncation):
    small = [c[::16] if c.ndim == 1 else c[::16, ::16] for c in covariances(kind)]
    factors = np.random.default_rng(4).standard_normal((3, 2))
    model = gram_model(small, [0.5, 0.2, 0.9], gram=factors @ factors.T, shifts=SHIFTS, truncation=truncation)
    assert bulk(model).edges[-1][1] <= model.upper_bound


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_the_upper_bound_of_white_data_is_the_edge(gram_model, ratio):
    assert gram_model([np.ones(2)], [ratio]).upper_bound == pytest.approx((1 + np.sqrt(ratio)) ** 2, rel=1e-12)


def test_without_variance_the_upper_bound_is_the_largest_shift(gram_model):
    assert gram_model([np.zeros(2)] * 3, [0.1, 0.2, 0.3], shifts=SHIFTS).upper_bound == max(SHIFTS)


def spread(gram_model):
    variances = 10.0 ** np.linspace(1, -8, P) * np.exp(0.3 * np.random.default_rng(0).standard_normal((3, P)))
    factors = np.random.default_rng(1).standard_normal((3, 3))
    return gram_model(variances, [0.5, 0.2, 0.9], gram=factors @ factors.T, shifts=SHIFTS)


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_small_blocks_act_through_their_moments(gram_model, monkeypatch, size):
    rng = np.random.default_rng(2)
    q = size * (rng.standard_normal((5, 3)) + 1j * rng.exponential(size=(5, 3)))
    short = spread(gram_model)
    found = (*short.traces(q), short.argument(q))
    assert (short._blocks[0]._strips(q * short.ratios) < P // 32).all() or size > 1
    monkeypatch.setattr(models, "_LITTLE", 0.0)
    for part, whole in zip(found, (*short.traces(q), short.argument(q)), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-6, atol=1e-8 * abs(whole).max())


@pytest.mark.parametrize("kind", ["diagonal", "matrix"])
def test_the_argument_is_that_of_the_determinants_eigenvalues(gram_model, kind):
    rng = np.random.default_rng(3)
    small = [c[::8] if c.ndim == 1 else c[::8, ::8] for c in covariances(kind)]
    factors = np.random.default_rng(4).standard_normal((3, 2))
    model = gram_model(small, [0.5, 0.2, 0.9], gram=factors @ factors.T, shifts=SHIFTS)
    q = rng.standard_normal((4, 3)) * 10 + 1j * rng.exponential(size=(4, 3))
    full = [np.diag(c) if c.ndim == 1 else c for c in small]
    for i, w in enumerate(q * model.ratios):
        terms = [load * np.kron(np.outer(s, s), c) for load, s, c in zip(w, factors, full, strict=True)]
        # Im B ≥ 0: eigenvalues lie in the upper half plane, where their arguments are unambiguous.
        expected = np.angle(np.linalg.eigvals(np.eye(terms[0].shape[0]) + sum(terms))).sum()
        assert model.argument(q[i : i + 1])[0] == pytest.approx(expected, abs=1e-9)
