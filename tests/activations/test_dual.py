"""Dual activations: closed form, two-dimensional quadrature, Mehler's series, Monte Carlo and scipy agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import rmtdeq as rd
from rmtdeq.activations import Activation, activation, dual, mehler
from rmtdeq.activations.activations import Pairs
from rmtdeq.activations.duals import _quadrature, second_moment
from rmtdeq.activations.quadrature import panel_nodes

LAWS = settings(deadline=None, derandomize=True, max_examples=30)
ANGLES = (0.0, 1e-4, 0.03, 1.0, math.pi / 2, 2.6, math.pi - 1e-3, math.pi)
PAIRS = tuple(
    itertools.product([(1.0, 1.0), (0.3, 2.0), (1.1, np.nextafter(1.1, 2))], (0.0, 1e-4, 0.03, 1.0), (1.0, -1.0))
)
CLOSED = (
    "erf",
    "relu",
    "leaky_relu(0.1)",
    "sin",
    "sin(0.8, -1.3, 0.4)",
    "cos",
    "cos(2, 0.7, -0.2)",
    "rbf(0.7)",
    "exp(0.5, -0.3)",
    "gelu",
    "polynomial(0.1, 1, 0.2, -0.05)",
    "monomial(2)",
    "hermite(3)",
    "hermite(4)",
    "hard_tanh(1, 0.5)",
    "hard_tanh(2, 1.5)",
    "hard_sigmoid",
    "relu6",
    "abs",
    "piecewise_linear([-1, 0, 1.5], [-0.3, -0.2, 1])",
    "piecewise_linear([-1, -0.5, 0.5, 1], [1, 0, 0, 1])",
    "piecewise_linear([0.2, 0.3, 0.9], [1, 0, 3])",
    "piecewise_linear([0, 1], [0.5, -1])",
    "steps([-0.5, 0.8], [-1, 0, 1.5])",
    "steps(0, 0, 1)",
    "sign",
)
"""Every activation with a closed form."""

JUMPING = tuple(s for s in CLOSED if s.startswith("steps") or s == "sign")
"""Those that jump, whose quadrature has no slope."""

KINKED = tuple(s for s in CLOSED if activation(s).kinks)

RELATIVE = tuple(s for s in KINKED if s not in JUMPING)
"""Those with a kink, whose slopes depend on the angle to first order."""


def pair(phi: Activation, sigma_u: float, sigma_v: float, theta: float, sign: float) -> Pairs:
    sizes = np.sqrt(second_moment(phi, np.array([sigma_u, sigma_v])))
    return Pairs(*(np.array([float(each)]) for each in (sigma_u, sigma_v, *sizes, theta, sign)))


def closed_and_exact(phi: Activation, *arguments: float) -> tuple[tuple[float, float], tuple[float, float]]:
    at = pair(phi, *arguments)
    value, slope = phi.dual_form(at, phi.shift)
    return (float(value[0]), float(slope[0])), _quadrature(phi, *(float(each[0]) for each in vars(at).values()))


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize(("sigmas", "theta", "sign"), PAIRS)
@pytest.mark.parametrize("spec", CLOSED)
def test_closed_form_is_the_quadrature(spec, sigmas, theta, sign, shift):
    (value, slope), (exact, exact_slope) = closed_and_exact(activation(spec).minus(shift), *sigmas, theta, sign)
    assert value == pytest.approx(exact, abs=5e-14)
    if spec not in JUMPING:
        assert slope == pytest.approx(exact_slope, abs=2e-12)


@LAWS
@given(
    st.sampled_from(CLOSED),
    st.floats(0.05, 3),
    st.floats(0.05, 3),
    st.one_of(st.floats(0, math.pi / 2), st.floats(0, 1e-3)),
    st.sampled_from([1.0, -1.0]),
)
def test_closed_form_is_the_quadrature_anywhere(spec, sigma_u, sigma_v, theta, sign):
    phi = activation(spec)
    assume((second_moment(phi, np.array([sigma_u, sigma_v])) > 1e-12).all())
    (value, slope), (exact, exact_slope) = closed_and_exact(phi, sigma_u, sigma_v, theta, sign)
    assert value == pytest.approx(exact, abs=2e-13)
    if spec not in JUMPING:
        assert slope == pytest.approx(exact_slope, abs=2e-11)


@LAWS
@given(st.sampled_from(RELATIVE), st.floats(0.1, 2), st.floats(-9, -0.5), st.floats(-1, 1))
def test_closed_form_of_a_small_difference_fixes_the_angle(spec, sigma, log_angle, lag):
    # The kernels solve for the angle: relative accuracy 1e-12/θ of the difference is 1e-12 of the angle.
    phi, theta = activation(spec), 10.0**log_angle
    (value, _), (exact, _) = closed_and_exact(phi, sigma, sigma * (1 + lag * theta), theta, 1.0)
    assume(exact > 1e-3 * theta**2)
    assert abs(value / exact - 1) * theta < 1e-12


@LAWS
@given(
    st.sampled_from(KINKED),
    st.floats(-5, 5),
    st.floats(-5, 5),
    st.floats(-9, 0.19),
    st.sampled_from([1.0, -1.0]),
)
def test_loss_is_the_integral_of_the_slope(spec, log_sigma_u, log_sigma_v, log_angle, sign):
    """By Price's theorem, at scales that a two-dimensional quadrature is slow at."""
    phi, sigmas, theta = activation(spec), (10.0**log_sigma_u, 10.0**log_sigma_v), 10.0**log_angle
    squares = second_moment(phi, np.array(sigmas))
    assume((squares > 1e-12).all())
    # Panels towards zero, where slopes of unequal scales begin.
    edges = theta * np.append(0.0, 2.0 ** np.arange(-40.0, 1.0))
    tau, weights = panel_nodes(edges, 12)
    tau, weights = tau.ravel(), weights.ravel()
    one = pair(phi, *sigmas, theta, sign)
    at = one.at(np.zeros(tau.size, dtype=int), tau)
    slopes = phi.dual_form(at, 0.0)[1]
    loss = np.prod(sigmas) * float(weights @ (np.sin(tau) * slopes))
    ends = phi.dual_form(one.at(np.zeros(2, dtype=int), np.array([0.0, theta])), 0.0)[0]
    assert ends[1] - ends[0] == pytest.approx(2 * loss / math.sqrt(np.prod(squares)), rel=1e-10, abs=2e-14)


@pytest.mark.parametrize("eta", [0.0, 1e-16, 1e-12, 1e-8, 1e-3])
@pytest.mark.parametrize("spec", CLOSED)
def test_closed_form_is_continuous_at_the_opposite_of_equal_scales(spec, eta):
    phi, sigma = activation(spec), 0.9142627230560197
    at = [
        np.ravel(phi.dual_form(pair(phi, sigma, other, eta, -1.0), 0.0)[: 1 if spec in JUMPING else 2])
        for other in (np.nextafter(sigma, 0), sigma, np.nextafter(sigma, 1), sigma * (1 + 1e-9))
    ]
    np.testing.assert_allclose(at[:3], np.broadcast_to(at[3], (3, at[3].size)), atol=1e-7)


@pytest.mark.parametrize("theta", [math.acos(0.6), math.pi / 2, math.acos(-0.5)])
@pytest.mark.parametrize("sigmas", [(1.0, 1.0), (0.4, 1.7)])
def test_mehlers_series_is_the_dual_where_it_has_converged(phi, sigmas, theta):
    # 0.6^96 < 1e-21.
    sigma_u, sigma_v = sigmas
    covariance = sigma_u * sigma_v * math.cos(theta)
    exact = dual(phi, sigma_u**2, sigma_v**2, covariance)
    series = mehler(phi, sigma_u, sigma_v, math.cos(theta), 96)
    scale = math.sqrt(np.prod(second_moment(phi, np.array(sigmas))))
    assert series.product == pytest.approx(exact.product, abs=1e-12 * scale)
    assert series.slope == pytest.approx(exact.slope, abs=1e-11 * max(1.0, scale))


def test_mehlers_series_is_exact_for_polynomials_at_every_angle():
    phi = activation("polynomial(0.1, 1, 0.2, -0.05)")
    for theta in ANGLES:
        exact = dual(phi, 0.8, 1.9, math.sqrt(0.8 * 1.9) * math.cos(theta))
        series = mehler(phi, math.sqrt(0.8), math.sqrt(1.9), math.cos(theta), 3)
        assert series.product == pytest.approx(exact.product, abs=1e-13)
        assert series.slope == pytest.approx(exact.slope, abs=1e-13)


@pytest.mark.parametrize(("sigmas", "theta"), list(itertools.product([(1.0, 1.0), (0.5, 1.8)], [0.2, 1.2, 2.8])))
def test_dual_lies_within_monte_carlo_confidence(spec, make, slope_of, sigmas, theta):
    # Bounds of six standard errors: a right value falls outside once in 5e8, over all 192 comparisons once in 2.6e6.
    xi, zeta = np.random.default_rng(11).standard_normal((2, 100_000))
    u, v = sigmas[0] * xi, sigmas[1] * (math.cos(theta) * xi + math.sin(theta) * zeta)
    phi, slope = make(spec), slope_of(spec)
    found = dual(phi, sigmas[0] ** 2, sigmas[1] ** 2, sigmas[0] * sigmas[1] * math.cos(theta))
    for value, sample in ((found.product, phi(u) * phi(v)), (found.slope, slope(u) * slope(v))):
        assert abs(value - sample.mean()) < 6 * sample.std() / math.sqrt(sample.size) + 1e-12


def nested(phi, slope, kinks, sigma_u, sigma_v, theta):
    """E (φ(u) - φ(v))² and E φ'(u)φ'(v) by scipy's adaptive quadrature inside itself."""
    r, s = math.cos(theta), math.sin(theta)

    def density(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def split(function, points):
        edges = [-9.0, *sorted(p for p in points if -9 < p < 9), 9.0]
        return sum(quad(function, a, b, epsabs=1e-9, epsrel=1e-9, limit=100)[0] for a, b in itertools.pairwise(edges))

    def outer(xi, integrand):
        crossings = [(k / sigma_v - r * xi) / s for k in kinks]
        return density(xi) * split(
            lambda zeta: density(zeta) * integrand(sigma_u * xi, sigma_v * (r * xi + s * zeta)), crossings
        )

    breaks = [0.0, *(k / sigma_u for k in kinks), *(k / (sigma_v * r) for k in kinks)]
    return (
        split(lambda xi: outer(xi, lambda u, v: (phi(u) - phi(v)) ** 2), breaks),
        split(lambda xi: outer(xi, lambda u, v: slope(u) * slope(v)), breaks),
    )


def unnormalised(phi, sigma_u, sigma_v, theta):
    """E (φ(u) - φ(v))² and E φ'(u)φ'(v) by the package's quadrature, at any angle."""
    sign = math.copysign(1.0, math.cos(theta))
    return _quadrature(phi, sigma_u, sigma_v, 1.0, sign, theta if sign > 0 else math.pi - theta, sign)


@pytest.mark.parametrize(
    ("spec", "sigma_u", "sigma_v", "theta"), [("bent", 0.9, 1.4, 0.15), ("bent", 1.0, 1.0, 2.4), ("elu", 1.2, 0.5, 0.8)]
)
def test_quadrature_agrees_with_scipys_inside_itself(spec, sigma_u, sigma_v, theta):
    if spec == "bent":
        phi = Activation(lambda u: np.sin(u) + np.maximum(u - 0.4, 0.0), kinks=(0.4,))
        fn, slope = lambda u: math.sin(u) + max(u - 0.4, 0.0), lambda u: math.cos(u) + (u > 0.4)
    else:
        phi = activation("elu")
        fn, slope = lambda u: u if u > 0 else math.expm1(u), lambda u: 1.0 if u > 0 else math.exp(u)
    exact = nested(fn, slope, phi.kinks, sigma_u, sigma_v, theta)
    assert unnormalised(phi, sigma_u, sigma_v, theta) == pytest.approx(exact, abs=3e-9)


@pytest.mark.parametrize("covariance", [0.7 * 1.3, 0.4, -0.8])
def test_slope_does_not_see_shifts(phi, covariance):
    plain, moved = (dual(each, 0.49, 1.69, covariance) for each in (phi, phi.minus(2.5)))
    np.testing.assert_allclose(moved.slope, plain.slope, rtol=1e-13, atol=1e-14)


@LAWS
@given(
    st.sampled_from(["tanh", "elu", "hard_tanh(1, 0.5)", "relu"]),
    st.floats(0.1, 2),
    st.floats(0.1, 2),
    st.floats(0, 3.14),
)
def test_dual_is_symmetric_and_bounded(spec, sigma_u, sigma_v, theta):
    phi, covariance = activation(spec), sigma_u * sigma_v * math.cos(theta)
    one, other = dual(phi, sigma_u**2, sigma_v**2, covariance), dual(phi, sigma_v**2, sigma_u**2, covariance)
    assert one.product == pytest.approx(other.product, abs=1e-13)
    assert one.slope == pytest.approx(other.slope, abs=1e-11)
    assert abs(one.product) <= math.sqrt(np.prod(second_moment(phi, np.array([sigma_u, sigma_v])))) * (1 + 1e-12)


def test_slope_is_the_derivative_of_the_product_in_the_covariance(phi):
    s, t, rho, h = 0.8, 1.5, 0.5, 0.02
    first = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
    nearby = dual(phi, s, t, rho + h * np.arange(-4, 5))
    assert first @ nearby.product / h == pytest.approx(nearby.slope[4], rel=1e-9)


def test_equal_variables_have_the_second_moment(phi):
    at = dual(phi, 1.7, 1.7, 1.7)
    assert at.product == pytest.approx(second_moment(phi, np.sqrt(1.7)), rel=1e-13)


def test_uncorrelated_variables_have_the_product_of_means(phi):
    rule_u, rule_v = phi.rule(0.6), phi.rule(1.9)
    means = rule_u.weights @ phi(0.6 * rule_u.nodes) * (rule_v.weights @ phi(1.9 * rule_v.nodes))
    assert dual(phi, 0.36, 3.61, 0.0).product == pytest.approx(means, abs=1e-13)


def test_variable_of_no_variance_is_a_constant(phi):
    value, rule = phi(np.zeros(1))[0], phi.rule(1.2)
    at = dual(phi, 0.0, 1.44, 0.0)
    assert at.product == pytest.approx(value * (rule.weights @ phi(1.2 * rule.nodes)), abs=1e-13)


def test_arguments_are_broadcast():
    at = dual(activation("relu"), np.ones((4, 1)), np.ones(3), 0.5)
    assert at.product.shape == at.slope.shape == (4, 3)
    assert np.ptp(at.product) == 0


@pytest.mark.parametrize(
    "arguments",
    [(-1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (1.0, 1.0, 1.1), (1.0, 4.0, -2.1), (0.0, 1.0, 0.1), (np.nan, 1, 0)],
)
def test_matrices_that_are_no_covariances_are_refused(arguments):
    with pytest.raises(rd.InvalidInputError):
        dual(activation("tanh"), *arguments)


def test_relu_at_two_known_angles():
    # E φφ = (sin θ + (π - θ) cos θ)/2π, E φ'φ' = (π - θ)/2π.
    for theta, product, slope in ((math.pi / 2, 1 / (2 * math.pi), 0.25), (0.0, 0.5, 0.5), (math.pi, 0.0, 0.0)):
        at = dual(activation("relu"), 1.0, 1.0, math.cos(theta))
        assert (at.product, at.slope) == pytest.approx((product, slope), abs=1e-15)
