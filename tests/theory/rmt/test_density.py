"""A law given by its series: density, distribution function, quantiles and moments, whatever its panels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import legendre
from scipy.integrate import quad, trapezoid

from rmtdeq.theory.rmt import Bulk, Interval, TabulatedLaw

LOW, HIGH = -1.0, 3.0
X = np.linspace(LOW - 0.5, HIGH + 0.5, 401)


def series(breaks, function, terms=16):
    """Return the Legendre coefficients of a function of θ on every panel."""
    nodes, weights = legendre.leggauss(terms)
    left, right = breaks[:-1, None], breaks[1:, None]
    values = function((left + right) / 2 + (right - left) / 2 * nodes)
    return values @ ((np.arange(terms) + 0.5)[:, None] * legendre.legvander(nodes, terms - 1).T * weights).T


def semicircle(breaks, mass=1.0):
    """Wigner's semicircle from LOW to HIGH: density·dx/dθ is 2 sin²θ/π."""
    breaks = np.asarray(breaks)
    coefficients = series(breaks, lambda theta: mass * 2 * np.sin(theta) ** 2 / np.pi)
    return Interval(LOW, HIGH, LOW - (HIGH - LOW), breaks, coefficients)


def reciprocal(low, high, breaks=(0.0, np.pi / 2, np.pi)):
    """Return the law of density ∝ 1/x from low to high, on a logarithmic scale."""
    breaks = np.asarray(breaks)
    return Interval(low, high, 0.0, breaks, series(breaks, lambda theta: np.sin(theta) / 2))


@pytest.fixture(params=["one panel", "halves", "uneven"], name="wigner")
def _wigner(request):
    """Return the semicircle on panels of several kinds."""
    panels = {"one panel": [0, np.pi], "halves": [0, np.pi / 2, np.pi], "uneven": [0, 1e-3, 0.1, 2.0, 3.1, np.pi]}
    return semicircle(panels[request.param])


def test_the_density_is_the_series_over_the_slope(wigner):
    half, middle = (HIGH - LOW) / 2, (HIGH + LOW) / 2
    expected = 2 / (np.pi * half**2) * np.sqrt(np.maximum(half**2 - (X - middle) ** 2, 0))
    np.testing.assert_allclose(wigner.density(X), expected, atol=1e-8)


def test_the_distribution_function_is_the_integral_of_the_density(wigner):
    assert wigner.mass == pytest.approx(1, abs=1e-9)
    for x in np.linspace(LOW, HIGH, 9):
        below = quad(lambda at: wigner.density(np.array([at]))[0], LOW, x, epsabs=1e-9)[0]
        assert wigner.cdf(np.array([x]))[0] == pytest.approx(below, abs=1e-3)


def test_the_distribution_function_of_the_semicircle_is_wigners(wigner):
    theta = np.linspace(0, np.pi, 101)
    x, _ = wigner.position(theta)
    np.testing.assert_allclose(wigner.cdf(x), (theta - np.sin(2 * theta) / 2) / np.pi, atol=1e-3)
    assert (np.diff(wigner.cdf(X)) >= 0).all()
    np.testing.assert_allclose(wigner.cdf(np.array([LOW - 1, HIGH + 1])), [0.0, wigner.mass], atol=1e-14)


def test_quantiles_invert_the_distribution_function_of_an_interval(wigner):
    levels = np.linspace(0, 1, 51)
    np.testing.assert_allclose(wigner.cdf(wigner.quantiles(levels)), levels, atol=1e-9)


@pytest.mark.parametrize("span", [2.0, 1e3, 1e8])
def test_angles_invert_positions_on_either_scale(span):
    law = reciprocal(0.5, 0.5 * span)
    theta = np.linspace(0.05, np.pi - 0.05, 60)
    x, slope = law.position(theta)
    np.testing.assert_allclose(law.angle(x), theta, atol=1e-9)
    change = (law.position(theta + 1e-6)[0] - law.position(theta - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope, change, rtol=1e-6)


@pytest.mark.parametrize("span", [20.0, 1e3, 1e8])
def test_on_a_logarithmic_scale_a_law_of_many_decades_is_exact(span):
    law = reciprocal(0.5, 0.5 * span)
    x = np.geomspace(0.5, 0.5 * span, 102)[1:-1]
    np.testing.assert_allclose(law.density(x) * x * np.log(span), 1, rtol=1e-6)
    np.testing.assert_allclose(law.cdf(x), np.log(x / 0.5) / np.log(span), atol=1e-3)


def test_outside_an_interval_there_is_no_density(wigner):
    np.testing.assert_array_equal(wigner.density(np.array([LOW - 1, LOW, HIGH, HIGH + 1])), 0.0)


@pytest.mark.parametrize("part", [semicircle([0, 1.0, np.pi]), reciprocal(0.5, 500.0)])
def test_scaling_and_shifting_scale_and_shift_the_law(part):
    law = Bulk((part,), ((0.25, 0.5),))
    image = law.affine(2.5, -0.7)
    x = np.linspace(-2, 20, 300)
    np.testing.assert_allclose(image.cdf(2.5 * x - 0.7), law.cdf(x), atol=1e-12)
    np.testing.assert_allclose(2.5 * image.density(2.5 * x - 0.7), law.density(x), atol=1e-9)
    assert image.mass == law.mass
    np.testing.assert_allclose(image.edges, 2.5 * np.array(law.edges) - 0.7)
    np.testing.assert_allclose(image.atoms, [(2.5 * 0.25 - 0.7, 0.5)])


def test_a_law_of_intervals_and_atoms_counts_each_where_it_is():
    law = Bulk((semicircle([0, np.pi], mass=0.5),), ((-4.0, 0.2), (1.0, 0.3)))
    assert law.mass == pytest.approx(1, abs=1e-9)
    # The one amid the interval is no interval of its own.
    assert law.edges == ((-4.0, -4.0), (LOW, HIGH))
    at = np.array([-4.1, -4.0, -1.0, 1.0, 1.0 - 1e-9, 3.0])
    np.testing.assert_allclose(law.cdf(at), [0, 0.2, 0.2, 0.75, 0.45, 1], atol=1e-6)
    np.testing.assert_array_equal(law.density(np.array([-4.0, -2.0, 5.0])), 0)


def test_quantiles_of_a_law_jump_over_its_gaps_and_rest_at_its_atoms():
    low = semicircle([0, np.pi], mass=0.5)
    high = Interval(10.0, 12.0, 8.0, low.breaks, low.coefficients * 0.4)
    law = Bulk((low, high), ((-4.0, 0.1), (20.0, 0.2)))
    levels = np.array([0.0, 0.05, 0.0999, 0.35, 0.7, 0.9, 1.0])
    np.testing.assert_allclose(law.quantiles(levels), [-4, -4, -4, 1, 11, 20, 20], atol=1e-6)


def test_laws_without_intervals_are_their_atoms():
    law = Bulk((), ((1.0, 0.25), (2.0, 0.75)))
    np.testing.assert_array_equal(law.cdf(np.array([0.0, 1.0, 1.5, 2.0])), [0, 0.25, 0.25, 1])
    np.testing.assert_array_equal(law.quantiles(np.array([0.1, 0.25, 0.3, 1.0])), [1, 1, 2, 2])
    np.testing.assert_array_equal(law.density(np.array([1.0, 2.0])), 0)


def test_moments_of_the_semicircle_are_wigners(wigner):
    middle, radius = (HIGH + LOW) / 2, (HIGH - LOW) / 2
    found = [wigner.moment(order, middle) for order in range(5)]
    np.testing.assert_allclose(found, [1, 0, radius**2 / 4, 0, radius**4 / 8], atol=1e-8)
    assert wigner.moment(1) == pytest.approx(middle, abs=1e-8)


@pytest.mark.parametrize("span", [2.0, 1e3, 1e8])
def test_moments_on_either_scale_are_integrals(span):
    law, low = reciprocal(0.5, 0.5 * span), 0.5
    expected = [1, low * (span - 1) / np.log(span), low**2 * (span**2 - 1) / (2 * np.log(span))]
    if span > 10:  # on a linear scale the series is that of another law
        np.testing.assert_allclose([law.moment(order) for order in range(3)], expected, rtol=1e-6)


def test_moments_count_atoms_and_are_those_of_quantiles():
    low = semicircle([0, np.pi], mass=0.5)
    law = Bulk((low, Interval(10.0, 12.0, 8.0, low.breaks, low.coefficients * 0.4)), ((-4.0, 0.1), (20.0, 0.2)))
    values = law.quantiles((np.arange(100_000) + 0.5) / 100_000)
    for order in (1, 2, 3):
        assert law.moment(order) == pytest.approx((values**order).mean(), rel=1e-4)
        assert law.moment(order, 3.0) == pytest.approx(((values - 3) ** order).mean(), rel=1e-4)


def test_moments_of_a_tabulated_law_are_those_of_its_density():
    levels = np.linspace(0, 1, 30)
    law = TabulatedLaw(levels, np.sinh(3 * levels))
    ((low, high),) = law.edges
    x = np.geomspace(low * (1 + 1e-12), high * (1 - 1e-12), 400_001)
    for order in (0, 1, 2):
        assert law.moment(order, 0.5) == pytest.approx(trapezoid(law.density(x) * (x - 0.5) ** order, x), rel=1e-5)
