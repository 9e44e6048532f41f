"""What an activation accepts, refuses and works out by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd
from rmtdeq.activations import Activation, activation, moments
from rmtdeq.activations.hermite import jumps

POINTS = np.linspace(-8.01, 8.01, 1501)


def away_from(kinks, u=POINTS):
    return u[np.min(abs(u[:, None] - np.append(kinks, np.inf)), axis=1) > 1e-9]


def test_slope_is_the_derivative(spec, make, slope_of):
    phi = make(spec)
    u = away_from(phi.kinks)
    exact = slope_of(spec)(u)
    np.testing.assert_allclose(phi.slope(u), exact, atol=1e-10 * abs(exact).max())


def test_derivative_of_the_interpolant_agrees_with_the_given_one(registered_spec):
    given_one = activation(registered_spec)
    derived = Activation(given_one.fn, kinks=given_one.kinks)
    u = away_from(given_one.kinks)
    exact = given_one.slope(u)
    np.testing.assert_allclose(derived.slope(u), exact, atol=1e-10 * abs(exact).max())


def test_derivative_of_the_interpolant_reaches_as_far_as_it_is_asked():
    phi = Activation(lambda u: u + np.sin(u))
    u = np.array([-900.0, -100.0, 0.0, 3.0, 700.0])
    np.testing.assert_allclose(phi.slope(u), 1 + np.cos(u), atol=1e-8)


def test_given_derivative_is_used_as_it_is():
    calls = []

    def derivative(u):
        calls.append(u)
        return 1 - np.tanh(u) ** 2

    phi = Activation(np.tanh, derivative)
    calls.clear()
    phi.slope(np.zeros(3))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["callable", "mine"])
@pytest.mark.parametrize(
    "derivative",
    [
        np.tanh,
        lambda u: 2 - 2 * np.tanh(u) ** 2,
        lambda u: 1 - np.tanh(u) ** 2 + 1e-4 * np.exp(-((u - 2) ** 2)),
        lambda u: np.where(u > 7.9, np.nan, 1 - np.tanh(u) ** 2),
        lambda u: np.zeros_like(u),
    ],
)
def test_wrong_derivatives_are_refused_whatever_the_name(derivative, name):
    with pytest.raises(rd.InvalidInputError, match=r"not the derivative of the activation: at u = "):
        Activation(np.tanh, derivative, name=name)


def test_message_of_a_wrong_derivative_says_what_it_should_be():
    with pytest.raises(rd.InvalidInputError, match=r"is 3, the slope there is 2\."):
        Activation(lambda u: 2 * u, lambda u: np.where(abs(u - 1) < 0.1, 3.0, 2.0))


@pytest.mark.parametrize("derivative", [lambda u: 1.0, lambda u: u[:-1]])
def test_derivatives_that_do_not_act_entrywise_are_refused(derivative):
    with pytest.raises(rd.InvalidInputError, match="entrywise"):
        Activation(lambda u: 1.0 * u, derivative)


@pytest.mark.parametrize(
    ("fn", "derivative", "kinks"),
    [
        (lambda u: 0 * u + 3.0, lambda u: 0 * u, ()),
        (lambda u: np.clip(u, -1e-4, 1e-4), lambda u: (abs(u) < 1e-4) * 1.0, (-1e-4, 1e-4)),
        (lambda u: 1e6 * np.maximum(u, 0), lambda u: 1e6 * (u > 0), (0.0,)),
        (lambda u: np.interp(u, np.arange(-9, 10), np.cos(np.arange(-9, 10))), None, tuple(range(-9, 10))),
    ],
)
def test_right_derivatives_of_awkward_functions_are_accepted(fn, derivative, kinks):
    Activation(fn, derivative, kinks=kinks)


@pytest.mark.parametrize("name", ["callable", "mine"])
def test_unnamed_kinks_are_refused_whatever_the_name(name):
    with pytest.raises(rd.InvalidInputError, match=r"not smooth near u = 0\.3"):
        Activation(lambda u: abs(u - 0.3), name=name)
    assert Activation(lambda u: abs(u - 0.3), kinks=0.3, name=name).kinks == (0.3,)


def test_kinks_are_sorted_and_distinct():
    assert Activation(lambda u: abs(u) + abs(u - 1), kinks=[1, 0.0, 1.0]).kinks == (0.0, 1.0)


@pytest.mark.parametrize("kinks", ["a", [np.nan], [np.inf], [None], [[1.0]]])
def test_kinks_that_are_no_numbers_are_refused(kinks):
    with pytest.raises(rd.InvalidInputError, match="kinks must be"):
        Activation(np.tanh, kinks=kinks)


@pytest.mark.parametrize("fn", [3, None, [1.0], np.ones(2)])
def test_what_cannot_be_called_is_refused(fn):
    with pytest.raises(rd.InvalidInputError, match="vectorised callable"):
        Activation(fn)
    if fn is not None:
        with pytest.raises(rd.InvalidInputError, match="derivative must be"):
            Activation(np.tanh, fn)


@pytest.mark.parametrize(
    "fn", [lambda u: max(u, 0.0), lambda u: 1.0, np.log, lambda u: np.where(u > 2, np.nan, u), lambda u: "a"]
)
def test_functions_that_are_not_vectorised_or_not_finite_are_refused(fn):
    with pytest.raises(rd.InvalidInputError):
        Activation(fn)
    with pytest.raises(rd.InvalidInputError):
        rd.DEQ(fn, 0.2, 0.8)


def test_numpy_polynomials_are_activations():
    # They define equality and hence no hash.
    series = np.polynomial.Polynomial([0.1, 1.0, 0.2, -0.05])
    ours = moments(activation("polynomial(0.1, 1, 0.2, -0.05)"), 0.9)
    theirs = moments(Activation(series, series.deriv()), 0.9)
    assert vars(theirs) == pytest.approx(vars(ours), rel=1e-12)
    assert moments(Activation(np.poly1d([1.0, 0.0])), 2.0).square == pytest.approx(4, rel=1e-13)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.floats(-10, 10), st.floats(-10, 10))
def test_shifts_add_up_and_leave_the_slope_alone(first, second):
    phi = activation("gelu")
    moved = phi.minus(first).minus(second)
    np.testing.assert_allclose(moved(POINTS), phi(POINTS) - first - second, atol=1e-13)
    np.testing.assert_array_equal(moved.slope(POINTS), phi.slope(POINTS))
    np.testing.assert_array_equal(moved.edges(10.0), phi.edges(10.0))
    assert phi.shift == 0


def test_jumps_are_told_from_kinks():
    assert not jumps(activation("relu"))
    assert not jumps(activation("tanh"))
    assert not jumps(activation("hard_tanh(1, 1e-4)"))
    assert jumps(Activation(np.sign, kinks=(0.0,)))
    assert jumps(Activation(lambda u: np.where(u > 2, u, u + 0.01), kinks=(2.0,)))


def test_representation_shows_parameters_and_shift():
    assert repr(activation("leaky_relu(0.1)")) == "leaky_relu(0.1)"
    assert repr(activation("tanh").minus(0.5)) == "tanh - 0.5"


def test_rule_at_scale_zero_is_finite():
    rule = activation("relu").rule(0.0)
    assert rule.weights.sum() == pytest.approx(1, abs=1e-14)
