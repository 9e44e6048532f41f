"""Rules for expectations, and the panels on which an activation is a polynomial to rounding."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.polynomial import legendre
from scipy.special import factorial2, ndtr

from rmtdeq import InvalidInputError
from rmtdeq.activations.quadrature import (
    REACH,
    gaussian_rule,
    merge_edges,
    normal_density,
    panel_nodes,
    regular_rule,
    regular_scale,
    resolve,
)

LAWS = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.mark.parametrize("power", range(0, 21))
def test_rule_integrates_powers(power):
    rule = gaussian_rule(np.array([0.0]))
    exact = factorial2(power - 1) if power % 2 == 0 and power else float(power == 0)
    size = factorial2(power - 1) if power % 2 == 0 and power else factorial2(power)
    assert rule.weights @ rule.nodes**power == pytest.approx(exact, abs=1e-13 * max(1.0, size))


@LAWS
@given(st.floats(-6, 6))
def test_rule_split_at_a_kink_integrates_it(kink):
    rule = gaussian_rule(np.array([kink]))
    exact = normal_density(kink) - kink * ndtr(-kink)
    assert rule.weights @ np.maximum(rule.nodes - kink, 0) == pytest.approx(exact, abs=1e-14)


@LAWS
@given(st.lists(st.floats(-1e3, 1e3), max_size=30), st.floats(-50, 0), st.floats(0.1, 50))
def test_merged_edges_ascend_from_end_to_end(points, low, high):
    edges = merge_edges(np.array(points), low=low, high=high)
    assert edges[0] == low
    assert edges[-1] == high
    assert (np.diff(edges) > 0).all() or edges.size == 2
    inside = [p for p in points if low < p < high]
    assert all(abs(edges - p).min() <= 1e-12 * max(1, abs(low), abs(high)) for p in inside)


def test_panel_weights_add_up_to_the_length_and_empty_panels_weigh_nothing():
    nodes, weights = panel_nodes(np.array([[0.0, 1.0, 1.0, 4.0]]))
    assert nodes.shape == weights.shape == (1, 3, 32)
    np.testing.assert_allclose(weights.sum(axis=2), [[1, 0, 3]], atol=1e-14)
    assert nodes.min() > 0
    assert nodes.max() < 4


def interpolant(edges, coefficients, u):
    panel = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, len(edges) - 2)
    local = (2 * u - edges[panel] - edges[panel + 1]) / (edges[panel + 1] - edges[panel])
    return np.einsum("ij,ij->i", legendre.legvander(local, coefficients.shape[1] - 1), coefficients[panel])


def test_panels_reproduce_the_activation_and_end_at_its_kinks(phi):
    edges, coefficients = resolve(phi.fn, phi.kinks, 16.0)
    assert edges[0] == -16
    assert edges[-1] == 16
    assert set(phi.kinks) <= set(edges.tolist())
    u = np.random.default_rng(0).uniform(-15.9, 15.9, 3000)
    values = phi.fn(u)
    assert abs(interpolant(edges, coefficients, u) - values).max() < 1e-11 * max(1.0, abs(values).max())


@LAWS
@given(
    st.one_of(st.floats(-12, 12), st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 3.0, 4.0, -6.0, 8.0])),
    st.floats(0.01, 10),
    st.sampled_from(["kink", "jump"]),
)
def test_unnamed_kinks_and_jumps_are_refused_by_place(place, size, what):
    # But on an edge of the panels that the search starts from, numbers that no one would choose.
    assume(min(abs(abs(place) / 2.0**k - edge) for k in range(5) for edge in (0.5177, 0.5613)) > 1e-6)

    def fn(u):
        return np.sin(u) + size * (abs(u - place) if what == "kink" else np.sign(u - place))

    with pytest.raises(InvalidInputError, match="not smooth near") as caught:
        resolve(fn, (), 16.0)
    found = float(re.search(r"near u = (\S+):", str(caught.value)).group(1))
    assert found == pytest.approx(place, abs=1e-4)
    assert "kinks=" in str(caught.value)
    edges, _ = resolve(fn, (place,), 16.0)
    assert abs(edges - place).min() < 1e-12


def test_rapid_functions_are_resolved_by_more_panels():
    slow, fast = resolve(np.sin, (), 16.0)[0], resolve(lambda u: np.sin(40 * u), (), 16.0)[0]
    assert fast.size > 4 * slow.size
    near_pole, _ = resolve(lambda u: 1 / (1 + (50 * (u - 0.3)) ** 2), (), 16.0)
    assert np.diff(near_pole).min() < 0.1


@pytest.mark.parametrize(
    "fn",
    [
        lambda u: max(u, 0.0),
        lambda u: math.tanh(u),
        lambda u: 0.0 if u < 0 else u,
    ],
)
def test_functions_that_are_not_vectorised_are_refused(fn):
    with pytest.raises(InvalidInputError, match="vectorised"):
        resolve(fn, (), 16.0)


@pytest.mark.parametrize("fn", [lambda u: 1.0, lambda u: u.sum(), lambda u: u[:-1], lambda u: np.stack([u, u])])
def test_functions_that_do_not_act_entrywise_are_refused(fn):
    with pytest.raises(InvalidInputError, match="entrywise"):
        resolve(fn, (), 16.0)


@pytest.mark.parametrize(
    "fn", [np.sqrt, np.log, lambda u: 1 / np.floor(u), lambda u: np.where(abs(u - 3) < 0.1, np.nan, u)]
)
def test_functions_that_are_not_finite_are_refused_by_place(fn):
    with pytest.raises(InvalidInputError, match=r"NaN or infinite at u = \S+; it must be finite"):
        resolve(fn, (), 16.0)


@pytest.mark.parametrize(
    "fn",
    [
        lambda u: np.tanh(u.astype(np.float32)),
        lambda u: np.tanh(u) + 1e-9 * np.sin(1e12 * u),
        lambda u: np.sin(1e6 * u),
    ],
)
def test_functions_of_low_precision_are_refused_in_time(fn, seconds):
    with (
        seconds(3.0),
        pytest.raises(InvalidInputError, match=r"varies too fast, or is computed in too low a precision"),
    ):
        resolve(fn, (), 16.0)


def test_strings_are_no_values():
    with pytest.raises(InvalidInputError):
        resolve(lambda u: np.array(["a"] * u.size), (), 16.0)


def test_reach_leaves_nothing_out():
    assert 2 * ndtr(-REACH) < 1e-37


@pytest.mark.parametrize("part", [1.0, 0.61, 0.1])
def test_regular_rule_is_used_only_where_it_is_as_good_as_the_refined_one(phi, part):
    scale = regular_scale(phi.fn, 1.0) if not any(phi.kinks) else 0.0
    if scale == 0:
        assert phi.rule(0.3) is not regular_rule(1.0)
        return
    sigma = part * scale
    assert phi.rule(sigma) is regular_rule(1.0)
    assert phi.rule(1.01 * scale) is not regular_rule(1.0)
    refined = gaussian_rule(phi.edges(REACH * sigma) / sigma)
    for function in (
        lambda x: phi(sigma * x) ** 2,
        lambda x: phi.slope(sigma * x) ** 2,
        lambda x: phi(sigma * x) * x**6,
    ):
        expected = refined.weights @ function(refined.nodes)
        size = refined.weights @ abs(function(refined.nodes))
        assert regular_rule(1.0).weights @ function(regular_rule(1.0).nodes) == pytest.approx(
            expected, abs=2e-13 * size
        )


def test_a_function_that_no_regular_panel_resolves_has_no_regular_scale():
    assert regular_scale(lambda u: np.sin(300 * u), 1.0) == 0
    assert regular_scale(lambda u: np.abs(u - 0.1), 1.0) == 0
    assert regular_scale(np.abs, 1.0) == 8  # its kink is an edge
    assert 0 < regular_scale(lambda u: np.exp(u * u / 100), 1.0) < 8  # overflows far out
