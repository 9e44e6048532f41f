"""Moments and Hermite coefficients against identities and against scipy's adaptive quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.integrate import quad
from scipy.special import gammaln

from rmtdeq.activations import Activation, activation, hermite_coefficients, moments

SCALES = (0.05, 0.7, 1.0, 2.5)


def expectation(integrand, kinks, sigma):
    """E of a function of ξ by scipy, split at the kinks."""
    points = sorted({0.0, *(k / sigma for k in kinks if abs(k / sigma) < 12)})
    edges = [-12.0, *points, 12.0]
    density = 1 / math.sqrt(2 * math.pi)
    return sum(
        quad(lambda x: density * math.exp(-x * x / 2) * integrand(x), a, b, epsabs=1e-11, epsrel=1e-11, limit=200)[0]
        for a, b in itertools.pairwise(edges)
    )


@pytest.mark.parametrize("sigma", SCALES)
def test_first_hermite_coefficients_are_the_moments(phi, sigma):
    at, h = moments(phi, sigma), hermite_coefficients(phi, sigma, 2)
    size = math.sqrt(at.square)
    assert h[0] == pytest.approx(at.mean, abs=1e-14 * size)
    assert h[1] == pytest.approx(sigma * at.first, abs=1e-13 * size)
    assert h[2] == pytest.approx(sigma**2 * at.second / math.sqrt(2), abs=1e-13 * size)


@pytest.mark.parametrize("sigma", SCALES)
def test_steins_lemma_holds_for_the_slope(spec, make, slope_of, sigma):
    phi, slope = make(spec), slope_of(spec)
    rule = phi.rule(sigma)
    u = sigma * rule.nodes
    at = moments(phi, sigma)
    size = math.sqrt(rule.weights @ slope(u) ** 2)
    assert at.first == pytest.approx(rule.weights @ slope(u), abs=1e-12 * size)
    assert at.first_square == pytest.approx(size**2, rel=1e-10)
    # E φ'' = E[ξ φ']/σ, E (φ²)'' = E[ξ 2φφ']/σ
    assert at.second == pytest.approx(rule.weights @ (rule.nodes * slope(u)) / sigma, abs=1e-11 * size / sigma)
    product = rule.weights @ (rule.nodes * 2 * phi(u) * slope(u)) / sigma
    assert at.square_second == pytest.approx(product, abs=1e-11 * size * math.sqrt(at.square) / sigma)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_moments_move_with_the_variance_as_the_heat_equation_says(phi, sigma):
    # ∂/∂σ² E f(σξ) = E f''/2 for f = φ and f = φ².
    h = 0.01 * sigma**2
    first = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
    nearby = [moments(phi, math.sqrt(sigma**2 + k * h)) for k in range(-4, 5)]
    at = nearby[4]
    for values, slope in (
        ([m.mean for m in nearby], at.second / 2),
        ([m.square for m in nearby], at.square_second / 2),
        ([m.variance for m in nearby], at.variance_slope),
    ):
        assert first @ values / h == pytest.approx(slope, abs=1e-10 * max(1.0, at.square) / sigma**2)


def test_variance_does_not_suffer_from_a_large_mean():
    plain = moments(activation("tanh"), 0.5)
    moved = moments(Activation(lambda u: np.tanh(u) + 1e6), 0.5)
    # The values of the function themselves are rounded to 1e-10.
    assert moved.variance == pytest.approx(plain.variance, rel=1e-9)
    assert moved.mean == pytest.approx(1e6, rel=1e-15)


@pytest.mark.parametrize("sigma", [0.6, 1.7])
def test_hermite_recurrence_agrees_with_scipy(phi, sigma):
    h = hermite_coefficients(phi, sigma, 9)
    size = math.sqrt(moments(phi, sigma).square)
    for k in (0, 1, 2, 3, 6, 9):
        basis = hermite_e.HermiteE.basis(k)
        exact = expectation(
            lambda x, basis=basis: float(phi(np.array([sigma * x]))[0]) * basis(x), phi.kinks, sigma
        ) / math.sqrt(math.factorial(k))
        assert h[k] == pytest.approx(exact, abs=1e-11 * size)


def test_hermite_coefficients_of_the_relu_are_right_up_to_degree_512():
    # E[max(ξ, 0) He_k] = (-1)^(k/2 - 1) (k - 3)!!/√(2π) for even k > 2, none for odd k > 1.
    h = hermite_coefficients(activation("relu"), 1.0, 512)
    np.testing.assert_allclose(h[:3], [1 / math.sqrt(2 * math.pi), 0.5, 0.5 / math.sqrt(math.pi)], atol=1e-14)
    even = np.arange(4, 513, 2)
    half = (even - 2) / 2  # (2j - 1)!! = (2j)!/(2^j j!)
    log = gammaln(2 * half + 1) - half * math.log(2) - gammaln(half + 1) - gammaln(even + 1) / 2
    exact = np.where(even % 4 == 0, -1, 1) * np.exp(log) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(h[4::2], exact, atol=1e-13)
    np.testing.assert_allclose(h[3::2], 0, atol=1e-13)


@pytest.mark.parametrize("sigma", SCALES)
def test_parseval_sums_stay_below_and_close_in_on_the_moments(phi, sigma):
    h = hermite_coefficients(phi, sigma, 96)
    at = moments(phi, sigma)
    partial = np.cumsum(h**2)
    assert (np.diff(partial) >= 0).all()
    assert partial[-1] <= at.square * (1 + 1e-13)
    slopes = np.cumsum(np.arange(97) * h**2) / sigma**2
    assert slopes[-1] <= at.first_square * (1 + 1e-12)
    # Kinks: h_k² falls like k^(-5/2), so that about 96^(-3/2) of the slopes' power is missing.
    complete = 1e-12 if not phi.kinks and sigma <= 1 else 2e-2
    assert 1 - partial[-1] / at.square < complete
    assert 1 - slopes[-1] / at.first_square < max(complete * 1e3, 2e-1 if phi.kinks or sigma > 1 else 0)


def test_polynomials_have_as_many_coefficients_as_their_degree():
    h = hermite_coefficients(activation("polynomial(0.3, -1, 0.5, 0.25)"), 1.3, 40)
    np.testing.assert_allclose(h[4:], 0, atol=1e-13)
    assert h @ h == pytest.approx(moments(activation("polynomial(0.3, -1, 0.5, 0.25)"), 1.3).square, rel=1e-14)
    # E[u³ He_3(ξ)] = 6σ³
    assert h[3] == pytest.approx(0.25 * 6 * 1.3**3 / math.sqrt(6), rel=1e-13)


def test_coefficients_do_not_depend_on_the_degree_asked_for():
    phi = activation("elu")
    np.testing.assert_allclose(hermite_coefficients(phi, 1.1, 512)[:97], hermite_coefficients(phi, 1.1, 96), atol=1e-14)


def test_shift_moves_the_mean_and_nothing_else(phi):
    plain, moved = (hermite_coefficients(f, 0.9, 20) for f in (phi, phi.minus(0.75)))
    assert moved[0] == pytest.approx(plain[0] - 0.75, abs=1e-14)
    np.testing.assert_allclose(moved[1:], plain[1:], atol=1e-13)


def test_squared_slope_of_a_jump_is_infinite():
    at = moments(Activation(np.sign, kinks=(0.0,)), 1.5)
    assert at.first_square == math.inf
    assert at.square == pytest.approx(1, abs=1e-14)
    assert at.first == pytest.approx(math.sqrt(2 / math.pi) / 1.5, rel=1e-13)


def test_exponential_growth_overflows_to_infinity_in_silence():
    assert moments(Activation(np.exp), 0.3).square == pytest.approx(math.exp(2 * 0.09), rel=1e-13)
    assert not math.isfinite(moments(Activation(np.exp), 39.0).square)


@pytest.mark.parametrize("sigma", [1e-150, 1e-8, 1e4, 1e7])
def test_moments_of_the_relu_are_exact_at_every_scale(sigma):
    at = moments(activation("relu"), sigma)
    assert at.square / sigma / sigma == pytest.approx(0.5, rel=1e-13)
    assert at.mean / sigma == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-13)
    assert (at.first, at.square_second, at.first_square) == pytest.approx((0.5, 1.0, 0.5), rel=1e-12)


@pytest.mark.parametrize("sigma", [1e-5, 0.05, 0.3, 1.0, 2.5])
def test_slopes_that_are_not_given_are_as_good_as_given_ones(make, spec, slope_of, sigma):
    phi = make(spec)
    given = Activation(phi.fn, slope_of(spec), phi.kinks)
    bare = Activation(phi.fn, None, phi.kinks)
    assert moments(bare, sigma).first_square == pytest.approx(moments(given, sigma).first_square, rel=5e-11)
