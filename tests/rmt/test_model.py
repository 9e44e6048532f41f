"""The Gram model: its upper bound holds the spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.rmt import bulk

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
