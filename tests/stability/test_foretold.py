"""Diagnoses at infinite width: counts, limits, what norms and samples have in common, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.activations import moments
from rmtdeq.network import preactivation_scale
from rmtdeq.stability.limits import limits
from rmtdeq.stability.singular_values import spectral_radii

DEQ = rd.DEQ("tanh", 0.5, 0.8)
NORMS = [0.5, 1.0, 2.0]


def samples(n=200, p=30, seed=0):
    """Samples of many norms."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)) * rng.uniform(0.5, 1.5, (n, 1)) / np.sqrt(p)


def test_samples_are_their_norms():
    X = samples()
    of_samples, of_norms = rd.diagnose(DEQ, X), rd.diagnose(DEQ, (X**2).sum(axis=1))
    np.testing.assert_allclose(of_samples.residuals, of_norms.residuals, rtol=1e-12)
    assert of_samples.limit == pytest.approx(of_norms.limit, rel=1e-9)
    assert of_samples.summary() == of_norms.summary()


def test_a_number_is_one_norm():
    one, many = rd.diagnose(rd.DEQ("tanh", 0.5, 0.8, centered=False), 1.0), rd.diagnose(DEQ, NORMS)
    np.testing.assert_allclose(one.residuals[:20, 0], many.residuals[:20, 1], rtol=1e-12)


def test_between_norms_the_iteration_is_what_it_is_there():
    many = rd.diagnose(DEQ, np.linspace(0.2, 3.0, 50))
    alone = rd.diagnose(DEQ, many.squared_norms[[7, 31]])
    for tolerance in (1e-2, 1e-5, 1e-9):
        np.testing.assert_array_equal(many.iterations(tolerance)[[7, 31]], alone.iterations(tolerance))
    np.testing.assert_allclose(many.residuals[:25, [7, 31]], alone.residuals[:25], rtol=1e-4)
    np.testing.assert_allclose(many.rate[[7, 31]], alone.rate, rtol=1e-12)


def test_many_samples_are_stood_for_by_quantiles():
    found = rd.diagnose(DEQ, samples(5000))
    norms = (samples(5000) ** 2).sum(axis=1)
    assert found.squared_norms.size == 65
    assert found.squared_norms[[0, 32, 64]] == pytest.approx([norms.min(), np.median(norms), norms.max()])
    assert found.jacobian_norms.size == found.spectral_radius.size == found.condition_number.size < 20


def test_counts_are_those_of_the_relative_change():
    found = rd.diagnose(DEQ, NORMS)
    relative = found.residuals / found.sizes
    for tolerance in (0.3, 1e-2, 1e-6, 1e-11):
        for i, count in enumerate(found.iterations(tolerance)):
            assert relative[count - 1, i] <= tolerance < relative[count - 2, i]


def test_counts_go_on_where_the_steps_end():
    found = rd.diagnose(DEQ, 1.0)
    last = np.log(found.residuals[-1, 0] / 1e-30) / -np.log(found.rate[0])
    assert found.iterations(1e-30)[0] == len(found.residuals) + np.ceil(last)
    slow = rd.diagnose(rd.DEQ("relu", 1.99, 0.8, centered=False), 1.0)
    assert len(slow.residuals) < 1000 < slow.iterations(1e-6)[0]


@pytest.mark.parametrize("name", ["tanh", "relu", "swish", "softplus"])
@pytest.mark.parametrize("centered", [True, False])
def test_at_the_limit_the_spectral_radius_is_one(name, centered):
    layer = rd.Layer(name, 0.1, 0.8, centered=centered)
    limit = limits(layer, 1.0, np.array(NORMS)).iteration
    below = replace(layer, sigma_a2=(1 - 1e-6) * limit).pinned(1.0)
    radii = [spectral_radii(below, preactivation_scale(below, norm).value) for norm in NORMS]
    assert 0.998 < np.max(radii) < 1


def test_norms_of_many_sizes_take_more_points():
    norms = np.geomspace(1e-2, 1e1, 30)
    deq = rd.DEQ("erf", 0.3, 0.8)
    many, alone = (rd.diagnose(deq, some, tau0_squared=1.0) for some in (norms, norms[[5, 25]]))
    assert 9 < many.jacobian_norms.size < 30
    np.testing.assert_array_equal(many.iterations(1e-8)[[5, 25]], alone.iterations(1e-8))


def test_the_limit_is_where_the_mean_squared_slope_is():
    limit = rd.diagnose(DEQ, 1.0).limit
    layer = rd.Layer("tanh", limit, 0.8)
    assert limit * moments(layer.activation, preactivation_scale(layer, 1.0).value).first_square == pytest.approx(1)


@pytest.mark.parametrize(("name", "centered"), [("relu", False), ("tanh", True), ("swish", True), ("erf", True)])
def test_kernels_exist_wherever_iterations_come_to_rest(name, centered):
    found = rd.diagnose(rd.DEQ(name, 0.1, 0.8, centered=centered), NORMS)
    assert found.limits.iteration <= found.limits.kernel * (1 + 1e-6)


def test_relu_s_limit_is_two():
    assert rd.diagnose(rd.DEQ("relu", 0.1, 0.8, centered=False), NORMS).limit == pytest.approx(2, rel=1e-6)


def test_without_convergence_all_is_said_but_counts():
    found = rd.diagnose(rd.DEQ("tanh", 4.0, 0.8), 1.0)
    assert not found.converges.any()
    assert found.spectral_radius[0] > 1
    assert found.smallest_singular_value[0] == 0
    assert found.condition_number[0] == np.inf
    assert found.residuals[-1, 0] > 0.01
    assert found.limit < 4
    assert "does not come to rest for 1 of 1" in found.summary()
    assert "does not converge" in repr(found)
    with pytest.raises(rd.IllPosedError, match=f"sigma_a2 must be below {found.limit:.4g}"):
        found.iterations(1e-3)


def test_a_bias_is_a_larger_norm():
    biased = rd.diagnose(rd.DEQ("swish", 0.5, 0.8, sigma_c2=0.4, centered=False), [0.5, 1.0])
    plain = rd.diagnose(rd.DEQ("swish", 0.5, 0.8, centered=False), [1.0, 1.5])
    np.testing.assert_allclose(biased.errors, plain.errors, rtol=1e-9)
    np.testing.assert_allclose(biased.smallest_singular_value, plain.smallest_singular_value, rtol=1e-9)
    np.testing.assert_array_equal(biased.squared_norms, [0.5, 1.0])
    assert rd.diagnose(rd.DEQ("tanh", 0.5, 0.8, sigma_c2=0.4), [0.0, 1.0]).converges.all()


def test_a_layer_of_a_stack_is_given_what_comes_from_below():
    below, above = rd.Layer("relu", sigma_b2=2.0), rd.Layer("tanh", 0.5, 0.8)
    stack = rd.diagnose(rd.Network([below, above]), NORMS)
    alone = rd.diagnose(rd.Network([above]), NORMS)  # ReLU layers with σ_b² = 2 keep norms
    np.testing.assert_allclose(stack.residuals, alone.residuals, rtol=1e-9)
    two = rd.Network([rd.DEQ("relu", 1.0, 1.0, centered=False), above])  # which doubles: s = s/2 + 1, E φ² = s/2
    np.testing.assert_allclose(rd.diagnose(two, NORMS, layer=1).residuals, alone.residuals, rtol=1e-9)
    sine = rd.diagnose(rd.Network([rd.Layer("sin", sigma_b2=4.0, sigma_c2=0.2), above]), np.linspace(0, 3, 30))
    alone = rd.diagnose(rd.Network([rd.Layer("sin", sigma_b2=4.0, sigma_c2=0.2), above]), sine.squared_norms[[0, 12]])
    np.testing.assert_allclose(sine.residuals[:15, [0, 12]], alone.residuals[:15], rtol=1e-3)
    assert sine.jacobian_norms[[0, -1]] == pytest.approx([0, 3], abs=1e-12)
    assert rd.diagnose(two, NORMS, layer=0).limit == pytest.approx(2, rel=1e-6)


def test_the_width_moves_the_smallest_singular_value():
    found = rd.diagnose(DEQ, 1.0)
    at = [found.smallest_singular_value_at(m)[0] - found.smallest_singular_value[0] for m in (1000, 8000)]
    assert at[0] / at[1] == pytest.approx(4, rel=0.02)
    assert found.spectral_radius[0] < found.spectral_radius_at(8000)[0] < found.spectral_radius_at(1000)[0]
    for at in (found.smallest_singular_value_at, found.spectral_radius_at):
        with pytest.raises(rd.InvalidInputError, match="width"):
            at(0)


def test_table_and_figure():
    found = rd.diagnose(DEQ, NORMS)
    table = found.table()
    assert list(table.index) == NORMS
    np.testing.assert_array_equal(table.columns["steps to 1e-06"], found.iterations(1e-6))
    lines = found.plot().get_lines()
    assert len(lines) == 6
    np.testing.assert_array_equal(lines[0].get_ydata(), found.residuals[found.residuals[:, 0] > 1e-12, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rd.diagnose("tanh", 1.0), rd.InvalidInputError, "deq must be a network"),
        (lambda: rd.diagnose(DEQ, -1.0), rd.InvalidInputError, "no squared norms"),
        (lambda: rd.diagnose(DEQ, np.ones((2, 2, 2))), rd.InvalidInputError, "one a row"),
        (lambda: rd.diagnose(DEQ, []), rd.InvalidInputError, "squared norms"),
        (lambda: rd.diagnose(DEQ, [0.0, 1.0]), rd.InvalidInputError, "norm zero"),
        (lambda: rd.diagnose(DEQ, [1e-90, 1.0]), rd.InvalidInputError, "scale the samples"),
        (lambda: rd.diagnose(DEQ, [np.nan]), rd.InvalidInputError, "NaN"),
        (lambda: rd.diagnose(DEQ, 1.0, tau0_squared=-1), rd.InvalidInputError, "tau0_squared"),
        (lambda: rd.diagnose(DEQ, 1.0, layer=1), rd.InvalidInputError, "recurrent layer, 0"),
        (lambda: rd.diagnose(DEQ, 1.0).iterations(0), rd.InvalidInputError, "tolerance"),
        (lambda: rd.diagnose(rd.Network(["relu"]), 1.0), rd.InvalidInputError, "no recurrent layer"),
        (lambda: rd.diagnose(rd.Network([DEQ, "relu", DEQ]), 1.0), rd.InvalidInputError, "they are 0, 2"),
        (lambda: rd.diagnose(rd.DEQ("steps(0, -1, 1)", 0.1, 0.8), 1.0), rd.IllPosedError, "jumps"),
        (lambda: rd.diagnose(rd.DEQ("relu", 2.5, 0.8, centered=False), 1.0), rd.IllPosedError, "must be below 2"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
