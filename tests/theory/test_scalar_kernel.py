"""A kernel as a function of two norms and an inner product, and the dual of an activation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.polynomial.polynomial import polyval

import rmtdeq as rd
from rmtdeq.activations import activation, dual

KINDS = ("ck", "ntk", "ntk-full")
NETWORKS = {
    "one layer": rd.Network([rd.Layer("relu", sigma_b2=2.0)]),
    "an equilibrium": rd.DEQ("tanh", 0.4, 0.8),
    "bent, with biases": rd.Network(
        [rd.Layer("elu", sigma_b2=1.4, sigma_c2=0.1), rd.DEQ("hard_tanh", 0.3, 0.9, sigma_c2=0.2), rd.Layer("relu")]
    ),
    "centred": rd.Network([rd.DEQ("softplus", 0.3, 0.8), rd.Layer("swish", sigma_b2=1.5)]),
    "branches, normalised": rd.Network(
        [
            rd.Layer("relu"),
            rd.Residual(rd.Layer("tanh", 0.3, 0.9, 0.1, normalized=True), 0.6),
            rd.Layer("relu", after=rd.RMSNorm(0.1)),
        ]
    ),
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def samples():
    """Return samples of different norms, some alike, opposite, or zero."""
    X = np.random.default_rng(0).standard_normal((14, 20)) / np.sqrt(20)
    X[3], X[4], X[5], X[6] = X[2], -X[2], 0.0, 1.2 * X[2]
    return X


@networks
def test_entries_are_those_of_the_kernel(network):
    X = samples()
    norms, size = (X**2).sum(axis=1), np.sqrt(np.outer((X**2).sum(axis=1), (X**2).sum(axis=1)))
    found = rd.scalar_kernel(network, KINDS, tau0_squared=norms.mean())(
        norms[:, None], norms, np.clip(X @ X.T, -size, size)
    )
    for kernel, exact, kind in zip(found, rd.kernel(X, network, KINDS, backend="numpy"), KINDS, strict=True):
        # Where samples are parallel norms and inner product say so to 1e-8 of the angle alone.
        apart = abs(X @ X.T) < 0.999 * size
        np.testing.assert_allclose(kernel[apart], exact[apart], rtol=0, atol=1e-12)
        np.testing.assert_allclose(kernel, exact, rtol=0, atol=1e-12 if kind == "ck" else 1e-7)


@networks
def test_derivatives_are_those_of_the_entries(network):
    g = rd.scalar_kernel(network, KINDS)
    at, h = np.array([1.1, 0.8, 0.2]), 1e-3
    steps = at + h * np.concatenate([np.eye(3), -np.eye(3)])
    for jet, moved, value in zip(g.derivatives(*at), g(*steps.T), g(*at), strict=True):
        assert jet.value == pytest.approx(float(value), abs=1e-13)
        np.testing.assert_allclose(jet.gradient, (moved[:3] - moved[3:]) / (2 * h), atol=1e-5)
        curvature = (moved[:3] + moved[3:] - 2 * value) / h**2
        np.testing.assert_allclose(np.diag(jet.hessian), curvature, atol=2e-4)


@networks
@pytest.mark.parametrize("at", [0.0, 0.25])
def test_taylor_coefficients_are_derivatives_and_add_up_to_the_entry(network, at):
    u, v, near = 1.1, 0.8, at + np.array([-0.08, 0.05, 0.1])
    g = rd.scalar_kernel(network, KINDS)
    for series, jet, exact in zip(g.taylor(40, u, v, at=at), g.derivatives(u, v, at), g(u, v, near), strict=True):
        expected = [jet.value, jet.gradient[2], jet.hessian[2, 2] / 2]
        np.testing.assert_allclose(series[:3], expected, rtol=0, atol=1e-12 * max(1.0, max(map(abs, expected))))
        np.testing.assert_allclose(polyval(near - at, series), exact, rtol=0, atol=1e-12)


def test_the_series_of_relu_is_the_known_one():
    # Of √(1 - c²) + c (π - arccos c), over π: 1, π/2, 1/2, 0, 1/24, 0, 1/80 …
    found = rd.scalar_kernel(NETWORKS["one layer"]).taylor(40)
    even = [math.comb(2 * k, k) * Fraction(1, 4**k * (2 * k + 1) * (2 * k + 2)) for k in range(20)]
    expected = np.zeros(41)
    expected[0], expected[1], expected[2::2] = 1 / math.pi, 0.5, [float(each) / math.pi for each in even]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [NETWORKS["an equilibrium"], NETWORKS["one layer"], rd.Network(["gelu"] * 3)])
def test_no_coefficient_of_a_kernel_on_a_sphere_is_negative(network, kind):
    """By Schoenberg's theorem; and they add up to the diagonal, or to less."""
    g = rd.scalar_kernel(network, kind)
    series = g.taylor(120, 1.3)
    assert (series >= -1e-15).all()
    total = polyval(1.3, series)
    assert total <= float(g(1.3, 1.3, 1.3)) * (1 + 1e-12)
    assert total > 0.9 * float(g(1.3, 1.3, 1.3))


def test_deep_relu_networks_have_their_series():
    """Twenty layers: the correlation of orthogonal samples is nearly one in the last of them."""
    g = rd.scalar_kernel(rd.Network([rd.Layer("relu", sigma_b2=2.0)] * 20), ("ck", "ntk"))
    near = np.array([-0.2, 0.1, 0.3])
    for series, exact in zip(g.taylor(60), g(1.0, 1.0, near), strict=True):
        np.testing.assert_allclose(polyval(near, series), exact, rtol=1e-12)


@networks
def test_dressed_coefficients_are_of_least_squares(network):
    rng = np.random.default_rng(1)
    x, w = 0.4 * rng.standard_normal(200).clip(-2, 2), rng.random(200) + 0.1
    g = rd.scalar_kernel(network, KINDS)
    for fit, values in zip(g.dressed(x, 3, 1.1, 0.9, weights=w), g(1.1, 0.9, x), strict=True):
        # What is left is orthogonal to all powers.
        powers = x[:, None] ** np.arange(4)
        rest = values - powers @ fit
        np.testing.assert_allclose((w * rest) @ powers, 0, atol=1e-12 * np.linalg.norm(values))
        assert abs(rest).max() > 1e-9


@networks
def test_dressed_coefficients_tend_to_those_of_taylor_as_the_inner_products_become_small(network):
    g = rd.scalar_kernel(network)
    errors = [abs(g.dressed(s * np.linspace(-1, 1, 50), 3) - g.taylor(3))[:2].max() for s in (0.2, 0.1)]
    assert errors[1] < 0.2 * errors[0] + 1e-14


def test_a_polynomial_kernel_is_dressed_as_it_is():
    g = rd.scalar_kernel(rd.Network([rd.Layer("polynomial(0.1, 1, 0.2, -0.05)")]))
    np.testing.assert_allclose(g.dressed(np.linspace(-0.9, 0.5, 30), 3), g.taylor(3), atol=1e-13)
    np.testing.assert_allclose(g.taylor(6)[4:], 0, atol=1e-16)


def test_one_kind_gives_arrays_and_several_tuples():
    one, three = rd.scalar_kernel(NETWORKS["centred"], "ntk"), rd.scalar_kernel(NETWORKS["centred"], KINDS)
    assert one(np.ones((4, 1)), np.ones(3), 0.1).shape == (4, 3)
    assert [each.shape for each in three(1.0, 1.0, np.zeros((2, 2)))] == [(2, 2)] * 3
    np.testing.assert_array_equal(one.taylor(5), three.taylor(5)[1])
    np.testing.assert_array_equal(one.dressed([0, 0.1, 0.2], 1), three.dressed([0, 0.1, 0.2], 1)[1])
    assert one.derivatives(1.0, 1.0, [0.1, 0.2]).hessian.shape == (2, 3, 3)


def test_more_pairs_than_are_computed_at_once_are_computed_alike():
    rng = np.random.default_rng(2)
    u, v = rng.uniform(0.5, 2, (2, 70_000))
    x = rng.uniform(-1, 1, 70_000) * np.sqrt(u * v)
    g = rd.scalar_kernel(NETWORKS["one layer"], "ntk")
    found = g(u, v, x)
    some = rng.integers(0, 70_000, 50)
    np.testing.assert_allclose(found[some], g(u[some], v[some], x[some]), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_known_values_of_two_relu_layers_on_the_sphere(kind):
    """κ0 and κ1 of Bietti and Mairal 2019, variances 2, so that the diagonal is one in every layer."""
    c = np.linspace(-1, 1, 41)
    kappa0 = (np.pi - np.arccos(c)) / np.pi
    kappa1 = (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi
    slope = (np.pi - np.arccos(kappa1)) / np.pi
    last = (np.sqrt(1 - kappa1**2) + kappa1 * (np.pi - np.arccos(kappa1))) / np.pi
    first = {"ck": 0.0, "ntk": kappa1, "ntk-full": kappa1 + c * kappa0}[kind]
    relu = rd.Layer("relu", sigma_b2=2.0)
    found = rd.scalar_kernel(rd.Network([relu, rd.Layer("relu", sigma_b2=2.0)]), kind)(1.0, 1.0, c)
    # Layers here are of unit variance of features times σ_b²: κ of features, σ_b² of what is below.
    np.testing.assert_allclose(found, last + slope * first, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda g: g(-1.0, 1.0, 0.0), "not positive semidefinite"),
        (lambda g: g(1.0, 1.0, 1.1), "not positive semidefinite"),
        (lambda g: g(1.0, 1.0, np.nan), "remove or impute"),
        (lambda g: g([], [], []), "at least one point"),
        (lambda g: g(0.0, 0.0, 0.0), "Every sample is zero"),
        (lambda g: g.derivatives(1.0, 1.0, 1.0), "smaller than"),
        (lambda g: g.taylor(-1), "at least 0"),
        (lambda g: g.taylor(3, 0.0), "u must be"),
        (lambda g: g.taylor(3, at=1.0), "at must be smaller"),
        (lambda g: g.dressed([0.1, 0.1], 1), "2 different inner products"),
        (lambda g: g.dressed([0.1, 0.2], 1, weights=[1.0, 0.0]), "must be positive"),
        (lambda g: rd.scalar_kernel("relu"), "deq must be a DEQ"),
        (lambda g: rd.scalar_kernel(g.network, "gram"), "'ck', 'ntk', 'ntk-full'"),
        (lambda g: rd.scalar_kernel(g.network, tau0_squared=0.0), "tau0_squared"),
        (lambda g: rd.dual_activation("foo"), "Unknown activation"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(call, remedy):
    with pytest.raises(rd.InvalidInputError, match=remedy):
        call(rd.scalar_kernel(NETWORKS["one layer"]))


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("spec", ["relu", "erf", "tanh", "elu", "steps(0, -1, 1)"])
def test_the_dual_is_the_quadrature_and_its_slope_the_derivative(spec, count):
    rng = np.random.default_rng(3)
    s, t = rng.uniform(0.3, 2, (2, count))
    rho = rng.uniform(-0.95, 0.95, count) * np.sqrt(s * t)
    phi, exact = rd.dual_activation(spec), dual(activation(spec), s, t, rho)
    np.testing.assert_allclose(phi(s, t, rho), exact.product, atol=1e-12)
    np.testing.assert_allclose(phi.slope(s, t, rho), exact.slope, atol=1e-11)
    h = 1e-4 * np.sqrt(s * t)
    np.testing.assert_allclose((phi(s, t, rho + h) - phi(s, t, rho - h)) / (2 * h), phi.slope(s, t, rho), rtol=1e-5)


def test_the_dual_of_no_variance_is_a_constant():
    phi = rd.dual_activation("sigmoid")
    assert phi(0.0, 0.0, 0.0) == pytest.approx(0.25, rel=1e-15)
    assert phi.slope(0.0, 0.0, 0.0) == pytest.approx(1 / 16, rel=1e-12)
    assert phi(0.0, 1.3, 0.0) == pytest.approx(0.25, rel=1e-13)
    np.testing.assert_allclose(phi(np.zeros(20), np.linspace(0, 2, 20), 0.0), 0.25, rtol=1e-13)
