"""Per-sample quantities: solved for every norm, interpolated to rounding, cut off within the stated tolerance."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.activations import dual, hermite_coefficients, moments
from rmtdeq.kernels.scales import SERIES_TOLERANCE, scale_table

RANGES = ((0.9, 1.1), (0.05, 3.0), (0.0, 4.0), (1e-12, 1.0), (1.0, 1.0))


def model(make, spec, sigma_a2=0.3):
    if spec.startswith("polynomial"):
        sigma_a2 /= 5
    return rd.DEQ(make(spec), sigma_a2, 0.8).pinned(1.0).layer


def norms_between(low, high):
    return np.concatenate([[low, high], np.linspace(low, high, 7), np.geomspace(max(low, 1e-12), high, 5)])


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_scales_solve_the_equation_of_the_diagonal(make, spec, low, high):
    layer = model(make, spec)
    norms = norms_between(low, high)
    profile = scale_table(layer, low, high).profile(norms)
    for norm, sigma, square, slope in zip(norms, profile.sigma, profile.square, profile.slope_square, strict=True):
        if sigma == 0:
            assert (norm, square) == (0, 0)
            assert layer.activation(np.zeros(1))[0] == 0
            continue
        at = moments(layer.activation, sigma)
        assert sigma**2 == pytest.approx(layer.sigma_a2 * at.square + 0.8 * norm, rel=1e-13)
        assert square == pytest.approx(at.square, rel=1e-13)
        assert slope == pytest.approx(at.first_square, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_hermite_coefficients_are_interpolated_to_rounding(make, spec, low, high):
    layer = model(make, spec)
    table = scale_table(layer, low, high)
    profile = table.profile(norms_between(low, high))
    found = table.coefficients(24, profile)
    for sigma, h, square in zip(profile.sigma, found.T, profile.square, strict=True):
        if sigma:
            exact = hermite_coefficients(layer.activation, sigma, 24)
            np.testing.assert_allclose(h, exact, atol=1e-11 * np.sqrt(square) + 2e-17)


@pytest.mark.parametrize("degree", [24, 96])
def test_series_stops_within_the_stated_tolerance(make, spec, degree):
    layer = model(make, spec)
    table = scale_table(layer, 0.3, 2.0)
    degrees, cutoffs = table.cutoffs(degree)
    assert degrees[-1] == degree
    assert (np.diff(cutoffs) >= -1e-3).all()
    assert ((cutoffs >= 0) & (cutoffs <= 1)).all()
    profile = table.profile(np.array([0.3, 2.0]))
    sigma, square, slope_square = profile.sigma, profile.square, profile.slope_square
    h = table.coefficients(degree, profile).prod(axis=1)
    for stop, r in zip(degrees[::3], cutoffs[::3], strict=True):
        for sign in (1, -1):
            exact = dual(layer.activation, *sigma**2, sign * r * sigma.prod())
            series = np.polynomial.Polynomial(h[: stop + 1])
            allowed = SERIES_TOLERANCE + 5e-14
            assert abs(series(sign * r) - exact.product) <= allowed * np.sqrt(square.prod())
            # The two-dimensional quadrature itself is good to some 1e-12 for the slope of a callable.
            slope = series.deriv()(sign * r) / sigma.prod()
            assert abs(slope - exact.slope) <= (allowed + 3e-12) * np.sqrt(slope_square.prod())


def test_smooth_activations_are_served_to_the_end_by_short_series(make):
    table = scale_table(model(make, "gelu"), 0.5, 1.0)
    assert table.cutoffs(96)[1][-1] == 1
    table = scale_table(model(make, "relu"), 0.5, 1.5)
    assert table.cutoffs(512)[1][-1] < 1


def test_equal_norms_need_one_point(make):
    assert scale_table(model(make, "elu"), 1.3, 1.3).sigma.size == 1
    assert scale_table(model(make, "elu"), 1.3, 1.4).sigma.size > 1


@pytest.mark.parametrize("spec", ["softplus", "sigmoid"])
def test_zero_sample_solves_its_own_equation(make, spec):
    layer = rd.Layer(make(spec), 0.4, 0.8)
    sigma = scale_table(layer, 0.0, 1.0).profile(np.array([0.0, 1.0])).sigma[0]
    assert sigma > 0
    assert sigma**2 == pytest.approx(0.4 * moments(layer.activation, sigma).square, rel=1e-13)


def test_zero_sample_without_recurrence_holds_the_value_at_zero(make):
    profile = scale_table(rd.Layer(make("sigmoid"), 0.0, 0.8), 0.0, 1.0).profile(np.array([0.0, 1.0]))
    assert profile.sigma[0] == 0
    assert profile.square[0] == 0.25


def test_no_equilibrium_and_no_contraction_are_refused(make):
    with pytest.raises(rd.IllPosedError, match=r"no equilibrium for a sample of squared norm 1.*lower sigma_a2"):
        scale_table(rd.Layer(make("abs"), 1.5, 0.8), 1.0, 2.0)
    with pytest.raises(rd.IllPosedError, match=r"NTK .* is infinite.*lower sigma_a2"):
        scale_table(rd.Layer(np.sin, 3.0, 1e-2), 1e-3, 1e-2).check_tangent(("ntk",))
