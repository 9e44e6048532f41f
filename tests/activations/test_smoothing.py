"""Expectations by smoothed functions on panels."""

import math

import numpy as np
import pytest
from numpy.polynomial import hermite_e

import rmtdeq as rd
from rmtdeq.activations.smoothing import Smoothing, smoothing

ANGLES = [1e-9, 1e-6, 1e-4, 3e-3, 0.05, 0.4, 1.1, np.pi / 2]
ONE = np.ones(1)


def functions(panels, *fns):
    return np.concatenate([panels.halves(fn, ONE) for fn in fns], axis=2)


def doubling(first, widest=1.0, kinked=False):
    edges = np.concatenate([[0.0], first * 2.0 ** np.arange(np.ceil(np.log2(1 / first))), np.arange(1.0, 10.5)])
    return Smoothing(np.unique(edges), widest, kinked)


@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize("first", [1.0, 1e-4])
def test_hermite_polynomials_are_what_the_noise_shrinks(theta, first):
    panels = doubling(first)
    basis = [lambda x, k=k: hermite_e.hermeval(x, np.eye(k + 1)[k]) / math.sqrt(math.factorial(k)) for k in range(7)]
    same, opposite = panels.products(functions(panels, *basis), theta)
    powers = np.cos(theta) ** np.arange(7)
    np.testing.assert_allclose(same, np.diag(powers), atol=1e-13)
    np.testing.assert_allclose(opposite, np.diag(powers * (-1.0) ** np.arange(7)), atol=1e-13)


@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize("first", [1.0, 1e-4])
def test_functions_with_a_kink_or_a_jump_at_zero_have_their_arc_cosine_forms(theta, first):
    panels = doubling(first, kinked=True)
    same, opposite = panels.products(functions(panels, np.abs, np.sign), theta)
    folded = 2 / np.pi * (np.sin(theta) + (np.pi / 2 - theta) * np.cos(theta))
    signs = 1 - 2 * theta / np.pi
    np.testing.assert_allclose(same, np.diag([folded, signs]), atol=2e-14)
    np.testing.assert_allclose(opposite, np.diag([folded, -signs]), atol=2e-14)


@pytest.mark.parametrize("theta", [1e-5, 0.3])
def test_averages_are_positive_semidefinite_and_at_most_the_diagonal(theta):
    panels = smoothing(rd.activation("tanh"), 0.1, 100.0)
    values = panels.halves(np.tanh, np.geomspace(0.1, 100, 12))
    same, opposite = panels.products(values, theta)
    diagonal = np.einsum("xnk,xnk,n->k", values, values, panels.weights)
    assert (same.diagonal() < diagonal).all()
    assert np.linalg.eigvalsh(same).min() > -1e-14
    np.testing.assert_array_equal(opposite, -same)


@pytest.mark.parametrize(
    ("spec", "scales"),
    [
        (lambda: rd.Activation(lambda u: np.maximum(u, -0.5), kinks=(-0.5,)), (0.5, 2.0)),
        (lambda: rd.Activation(np.cos, lambda u: -np.sin(u)), (0.5, 200.0)),
        (lambda: rd.Activation(lambda u: np.exp(u / 8)), (0.5, 1e4)),
    ],
)
def test_functions_that_panels_do_not_hold_have_none(spec, scales):
    assert smoothing(spec(), *scales) is None
