"""E[(φ(v) - φ(u))²]: quadrature in two dimensions, Monte Carlo, and its limit as v nears u."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.activations import activation, moments
from rmtdeq.activations.increments import mean_square_increment

SMOOTH = ("tanh", "erf", "swish", "gelu", "softplus", "sigmoid", "sin")
KINKED = ("relu", "leaky_relu", "hard_tanh", "elu")


def increment(name, sigma_u, sigma_v, gap):
    """Of one pair."""
    return float(mean_square_increment(activation(name), *(np.array([float(at)]) for at in (sigma_u, sigma_v, gap)))[0])


def by_quadrature(name, sigma_u, sigma_v, gap):
    """By Gauss-Hermite rules along u and across."""
    phi = activation(name)
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    weights = weights / weights.sum()
    along = (sigma_u**2 + sigma_v**2 - gap**2) / (2 * sigma_u**2)
    across = np.sqrt(sigma_v**2 - (along * sigma_u) ** 2)
    u, v = sigma_u * nodes[:, None], along * sigma_u * nodes[:, None] + across * nodes
    return float(weights @ (phi(v) - phi(u)) ** 2 @ weights)


@pytest.mark.parametrize("name", ["erf", "sin", "softplus", "swish", "tanh"])
@pytest.mark.parametrize(("sigma_u", "sigma_v", "gap"), [(1.0, 1.1, 0.8), (0.7, 0.7, 1.2), (0.5, 0.6, 0.2)])
def test_increments_are_those_of_a_quadrature(name, sigma_u, sigma_v, gap):
    assert increment(name, sigma_u, sigma_v, gap) == pytest.approx(by_quadrature(name, sigma_u, sigma_v, gap), rel=1e-6)


@pytest.mark.parametrize("name", SMOOTH + KINKED)
def test_increments_are_those_of_samples(name):
    rng = np.random.default_rng(0)
    u = rng.standard_normal(1_000_000)
    v = 0.8 * u + 0.5 * rng.standard_normal(u.size)
    phi = activation(name)
    assert increment(name, 1, np.sqrt(0.89), np.sqrt(0.29)) == pytest.approx(np.mean((phi(v) - phi(u)) ** 2), rel=6e-3)


@pytest.mark.parametrize("name", SMOOTH + KINKED)
@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-10])
def test_small_increments_are_those_of_the_slope(name, gap):
    wanted = gap**2 * moments(activation(name), 1.0).first_square
    assert increment(name, 1, 1, gap) == pytest.approx(wanted, rel=1e-9 + 2 * gap * (name in KINKED))


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_opposite_values(name):
    phi, xi = activation(name), np.random.default_rng(1).standard_normal(1_000_000)
    assert increment(name, 1, 0.5, 1.5) == pytest.approx(np.mean((phi(0.5 * xi) - phi(-xi)) ** 2), rel=6e-3)
    assert increment(name, 0.5, 1, 1.5) == pytest.approx(increment(name, 1, 0.5, 1.5), rel=1e-12)


def test_a_pair_that_is_one_has_no_increment():
    assert increment("tanh", 1, 1, 0) == 0
    assert increment("relu", 1, 1, 0) == 0
