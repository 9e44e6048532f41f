"""Activations by name."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd
from rmtdeq.activations.registry import ALIASES, REGISTRY

U = np.linspace(-5, 5, 401)


def test_names_are_those_of_the_registry_and_all_can_be_made(registered_spec):
    assert registered_spec.partition("(")[0] in rd.activation_names()
    assert rd.activation_names() == tuple(REGISTRY)


def test_every_registered_name_is_tested(request):
    from_conftest = {name.partition("(")[0] for name in request.getfixturevalue("registered_names")}
    assert from_conftest == set(rd.activation_names())


@pytest.mark.parametrize(
    ("spec", "fn"),
    [
        ("tanh", np.tanh),
        ("relu", lambda u: np.maximum(u, 0)),
        ("leaky_relu", lambda u: np.where(u > 0, u, 0.01 * u)),
        ("leaky_relu(0.1)", lambda u: np.where(u > 0, u, 0.1 * u)),
        (" leaky_relu( -0.5 ) ", lambda u: np.where(u > 0, u, -0.5 * u)),
        ("elu", lambda u: np.where(u > 0, u, np.exp(np.minimum(u, 0)) - 1)),
        ("swish", lambda u: u / (1 + np.exp(-u))),
        ("softplus", lambda u: np.log(1 + np.exp(u))),
        ("sigmoid", lambda u: 1 / (1 + np.exp(-u))),
        ("sin", np.sin),
        ("sin(2, 1.5, 0.3)", lambda u: 2 * np.sin(1.5 * u + 0.3)),
        ("cos", np.cos),
        ("cos(2, -1.5, 0.3)", lambda u: 2 * np.cos(-1.5 * u + 0.3)),
        ("rbf(0.5)", lambda u: np.sqrt(2) * np.sin(u + np.pi / 4)),
        ("exp", np.exp),
        ("exp(-2, 0.3)", lambda u: -2 * np.exp(0.3 * u)),
        ("sign", np.sign),
        ("monomial(3)", lambda u: u**3),
        ("hermite(0)", np.ones_like),
        ("hermite(3)", lambda u: (u**3 - 3 * u) / np.sqrt(6)),
        ("abs", np.abs),
        ("hard_tanh", lambda u: np.clip(u, -1, 1)),
        ("hard_tanh(2, 0.5)", lambda u: 2 * np.clip(u, -0.5, 0.5)),
        ("polynomial(1, 2, 3)", lambda u: 1 + 2 * u + 3 * u**2),
        ("polynomial([1, 2, 3])", lambda u: 1 + 2 * u + 3 * u**2),
        ("polynomial((1, 2, 3))", lambda u: 1 + 2 * u + 3 * u**2),
        ("piecewise_linear([-1, 1], [2, 4])", lambda u: 3 + u),
        ("piecewise_linear(-1, 1, 2, 4)", lambda u: 3 + u),
        ("two_slopes(1.5, -0.5)", lambda u: np.where(u > 0, 1.5 * u, -0.5 * u)),
        ("steps([-0.5, 0.5], [-1, 0, 1])", lambda u: 1.0 * (u > 0.5) - 1.0 * (u <= -0.5)),
        ("steps(-0.5, 0.5, -1, 0, 1)", lambda u: 1.0 * (u > 0.5) - 1.0 * (u <= -0.5)),
        ("spline([-1, 2], [-1, 0.5, 2])", lambda u: u),
        ("spline(-1, 1, 1, 0, 1)", lambda u: np.where(abs(u) < 1, u**2 * (3 - abs(u)) / 2, 1.5 * abs(u) - 0.5)),
        ("piecewise_linear([-1, 0, 2], [0, 1, 0])", lambda u: np.where(u < 0, 1 + u, 1 - u / 2)),
    ],
)
def test_names_mean_what_they_say(spec, fn):
    np.testing.assert_allclose(rd.activation(spec)(U), fn(U), atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "at_one", "slope"),
    [("erf", 0.8427007929497149, 0.4151074974205947), ("gelu", 0.8413447460685429, 1.0833154705876864)],
)
def test_names_without_an_elementary_form(spec, at_one, slope):
    phi = rd.activation(spec)
    assert phi(np.ones(1))[0] == pytest.approx(at_one, rel=1e-15)
    assert phi.slope(np.ones(1))[0] == pytest.approx(slope, rel=1e-15)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.floats(-3, 3), st.floats(0.01, 5))
def test_parameters_survive_the_way_through_the_name(a, c):
    phi = rd.activation(f"hard_tanh({a!r}, {c!r})")
    assert phi.parameters == (a, c)
    np.testing.assert_array_equal(phi(U), rd.activation("hard_tanh", a, c)(U))
    assert rd.activation(f"leaky_relu({a!r})").parameters == (a,)


def test_representation_is_a_name(registered_spec):
    phi = rd.activation(registered_spec)
    if phi.name != "piecewise_linear":  # which takes two lists
        np.testing.assert_array_equal(rd.activation(repr(phi))(U), phi(U))


@pytest.mark.parametrize("spec", ["foo", "", "RELU", "relu)", "tanh2", "(0.1)", "leaky-relu(0.1)"])
def test_unknown_names_are_refused_with_those_known(spec):
    with pytest.raises(rd.InvalidInputError, match=r"Unknown activation .*known are tanh, .*or pass a callable"):
        rd.activation(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "leaky_relu(a)",
        "leaky_relu(0.1",
        "leaky_relu(0.1))",
        "leaky_relu(0.1) x",
        "tanh(",
        "leaky_relu(nan)",
        "hard_tanh(a=1)",
        "leaky_relu(__import__('os'))",
        "leaky_relu(1 2)",
    ],
)
def test_parameters_that_cannot_be_read_are_refused(spec):
    with pytest.raises(rd.InvalidInputError, match="Cannot read the parameters"):
        rd.activation(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "tanh(1)",
        "leaky_relu(1, 2)",
        "leaky_relu('a')",
        "leaky_relu([1])",
        "leaky_relu(1e999)",
        "hard_tanh(1, 0)",
        "hard_tanh(1, -1)",
        "polynomial",
        "polynomial()",
        "polynomial([])",
        "polynomial('a')",
        "polynomial(1, [2])",
        "polynomial(1e999)",
        "piecewise_linear",
        "piecewise_linear([0], [1])",
        "piecewise_linear([0, 1], [1])",
        "piecewise_linear([1, 0], [0, 1])",
        "piecewise_linear([0, 0], [0, 1])",
        "piecewise_linear([[0, 1]], [[0, 1]])",
        "piecewise_linear(0, 1)",
        "sin(1, 0)",
        "exp(1, 0)",
        "rbf(0)",
        "hermite",
        "hermite(-1)",
        "hermite(1.5)",
        "monomial(65)",
        "sign(1)",
    ],
)
def test_parameters_that_do_not_fit_are_refused(spec):
    with pytest.raises(rd.InvalidInputError):
        rd.activation(spec)


@pytest.mark.parametrize(
    ("spec", "takes"),
    [
        ("relu(1)", "relu takes no parameters, not 1"),
        ("leaky_relu(1, 2)", r"leaky_relu takes at most 1 parameter \(slope\), not 2"),
        ("hard_tanh(1, 2, 3)", r"hard_tanh takes at most 2 parameters \(a, c\), not 3"),
    ],
)
def test_too_many_parameters_are_counted(spec, takes):
    with pytest.raises(rd.InvalidInputError, match=f"^{takes}.$"):
        rd.activation(spec)


@pytest.mark.parametrize(("spec", "meant"), [("rleu", "relu"), ("ReLU", "relu"), ("leaky-relu(0.1)", "leaky_relu")])
def test_the_nearest_name_is_suggested(spec, meant):
    with pytest.raises(rd.InvalidInputError, match=f"did you mean '{meant}'"):
        rd.activation(spec)


def test_activations_pass_through_and_callables_become_activations():
    phi = rd.activation("relu")
    assert rd.activation(phi) is phi
    assert rd.activation(np.tanh).name == "callable"


@pytest.mark.parametrize("spec", [None, 3, [1.0], b"tanh"])
def test_what_is_neither_name_nor_callable_is_refused(spec):
    with pytest.raises(rd.InvalidInputError, match="vectorised callable"):
        rd.activation(spec)


def test_large_arguments_overflow_nowhere(registered_spec):
    """Nowhere but where the exponential itself does."""
    u = np.array([-1e4, -800.0, 800.0, 1e4]) * (0.05 if registered_spec.startswith("exp") else 1.0)
    phi = rd.activation(registered_spec)
    assert np.isfinite(phi(u)).all()
    assert np.isfinite(phi.slope(u)).all()


def test_registered_activations_are_pickled_by_name(registered_spec):
    phi = rd.activation(registered_spec).minus(0.25)
    back = pickle.loads(pickle.dumps(phi))
    np.testing.assert_array_equal(back(U), phi(U))
    np.testing.assert_array_equal(back.slope(U), phi.slope(U))
    assert (back.name, back.parameters, back.kinks, back.shift) == (phi.name, phi.parameters, phi.kinks, phi.shift)
    assert copy.copy(phi) is copy.deepcopy(phi) is phi


def test_an_activation_of_ones_own_under_a_registered_name_stays_itself():
    for parameters in ((), (1.0, 2.0)):
        own = rd.Activation(np.sin, name="tanh", parameters=parameters)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(own))(U), np.sin(U))


def test_results_can_be_pickled():
    deq = rd.DEQ("relu", 0.3, 0.8)
    mixture = rd.GaussianMixture(np.zeros((2, 40)), [1.0, 1.5])
    X, y = mixture.sample(30, 0)
    prediction, measured = rd.predict_spectrum(deq, mixture, 30, "ck"), rd.empirical_spectrum(X, deq, "ck")
    net = rd.design(deq, 1.0)
    for found in (deq, rd.solve(deq, 1.0), mixture, prediction, measured, rd.compare(measured, prediction, y), net):
        assert repr(pickle.loads(pickle.dumps(found))) == repr(found)
    again = pickle.loads(pickle.dumps(deq))
    np.testing.assert_array_equal(rd.kernel(X, again, "ntk"), rd.kernel(X, deq, "ntk"))


@pytest.mark.parametrize(("name", "ours"), ALIASES.items())
def test_names_of_others_are_ours(name, ours):
    assert repr(rd.activation(name)) == repr(rd.activation(ours))
    assert repr(rd.DEQ(name)) == repr(rd.DEQ(ours, 0.2, 0.8))
