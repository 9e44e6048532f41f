"""Tables of dual activations against closed forms and quadratures."""

from dataclasses import replace

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.activations.activations import Pairs
from rmtdeq.activations.duals import difference_form, second_moment
from rmtdeq.kernels import plan
from rmtdeq.kernels.dual_tables import dual_table
from rmtdeq.kernels.noise_tables import noise_table

KINDS = ("ck", "ntk", "ntk-full")
CLOSED = ["erf", "relu", "leaky_relu(0.3)", "abs", "sin"]
OPEN = {
    **{name: lambda name=name: rd.activation(name) for name in ("tanh", "elu", "softplus", "gelu", "swish", "sigmoid")},
    "centred elu": lambda: rd.activation("elu").minus(0.2),
    "cos": lambda: rd.Activation(np.cos, lambda u: -np.sin(u)),
    "even": lambda: rd.Activation(
        lambda u: u * np.tanh(u), lambda u: np.tanh(u) + u / np.cosh(np.clip(u, -300, 300)) ** 2
    ),
    "bump": lambda: rd.Activation(lambda u: np.exp(-u * u), lambda u: -2 * u * np.exp(-u * u)),
    "no derivative": lambda: rd.Activation(np.arctan),
    "bent at zero": lambda: rd.Activation(
        lambda u: np.where(u > 0, 2 * np.tanh(u), np.sin(np.arctan(u))),
        lambda u: np.where(u > 0, 2 / np.cosh(np.clip(u, -300, 300)) ** 2, (1 + u * u) ** -1.5),
        kinks=(0.0,),
    ),
}
BENT = {
    "hard_swish": lambda: rd.activation("hard_swish"),
    "bent tanh": lambda: rd.Activation(
        lambda u: np.where(u > 0.7, np.tanh(u), u * np.tanh(0.7) / 0.7),
        lambda u: np.where(u > 0.7, 1 / np.cosh(np.clip(u, -300, 300)) ** 2, np.tanh(0.7) / 0.7),
        kinks=(0.7,),
    ),
    "shifted elu": lambda: rd.Activation(
        lambda u: np.where(u > 1, u - 1, np.expm1(np.minimum(u - 1, 0))), kinks=(1.0,)
    ).minus(0.2),
}
BENT_CLOSED = ["hard_tanh(1, 0.7)", "relu6", "piecewise_linear([-1, -0.5, 1, 2], [-0.5, -0.5, 1, 0.7])"]
RANGES = [(0.3, 3.0), (0.02, 40.0), (1e-3, 2e-3), (500.0, 1000.0), (1.0, 1.0)]


def pairs_of(phi, low, high, n, seed=0):
    """Pairs with equal and with other scales, of both signs, at angles from 1e-8 to a right one."""
    rng = np.random.default_rng(seed)
    sigma_u, sigma_v = np.exp(rng.uniform(np.log(low), np.log(high), (2, n)))
    sigma_v[::3] = sigma_u[::3]
    theta = 10 ** rng.uniform(-8, np.log10(np.pi / 2), n)
    theta[:3] = 0, 1e-8, np.pi / 2
    sign = np.where(np.arange(n) % 2, 1.0, -1.0)
    sizes = (np.sqrt(second_moment(phi, each)) for each in (sigma_u, sigma_v))
    return Pairs(sigma_u, sigma_v, *sizes, theta, sign)


def steepest(phi, pairs):
    """√ of E φ'(u)² E φ'(v)²."""
    squares = [
        difference_form(phi, Pairs(s, s, z, z, np.zeros(s.size), np.ones(s.size)))[1]
        for s, z in ((pairs.sigma_u, pairs.size_u), (pairs.sigma_v, pairs.size_v))
    ]
    return np.sqrt(squares[0] * squares[1])


# At large scales the sine varies too fast for a table.
@pytest.mark.parametrize(
    ("name", "scales"), [(name, each) for name in CLOSED for each in RANGES if name != "sin" or each[1] <= 3]
)
def test_tables_hold_what_closed_forms_say(name, scales):
    phi = rd.activation(name)
    pairs = pairs_of(phi, *scales, 120)
    table = dual_table(replace(phi, dual_form=None, expectations=None), *scales)
    distance, slope = table.pairs(pairs)(np.arange(120), pairs.theta)
    expected, steep = difference_form(phi, pairs)
    # Odd functions of unequal scales: their closed forms are differences of expectations.
    rounding = np.where((pairs.sigma_u != pairs.sigma_v) & (name in ("erf", "sin")), 2e-15, 0.0)
    assert (abs(distance - expected) <= 1e-13 * expected + rounding).all()
    assert (abs(slope - steep) <= 2e-14 * steepest(phi, pairs)).all()


@pytest.mark.parametrize("scales", [*(pytest.param(each, marks=pytest.mark.slow) for each in RANGES[1:]), RANGES[0]])
@pytest.mark.parametrize("name", OPEN)
def test_tables_hold_what_quadratures_find(name, scales):
    phi = OPEN[name]()
    table = dual_table(phi, *scales)
    if table is None:
        assert name == "cos"
        assert scales[1] > 3
        return
    pairs = pairs_of(phi, *scales, 9)
    distance, slope = table.pairs(pairs)(np.arange(9), pairs.theta)
    expected, steep = difference_form(phi, pairs)
    # Features are rounded before the quadrature takes their difference.
    assert (abs(distance - expected) <= 1e-12 * expected + 1e-15 * np.sqrt(expected)).all()
    digits = 1e-13 if phi.derivative is not None else 1e-11
    assert (abs(slope - steep) <= digits * steepest(phi, pairs)).all()


@pytest.mark.parametrize("name", OPEN)
def test_every_box_is_resolved(name):
    table = dual_table(OPEN[name](), 0.02, 3.0)
    for part in range(table.halvings + 1):
        boxes = table.boxes(part).reshape(2, table.cells, table.cells, 20, 20, 21)
        size = np.sqrt(abs(boxes).max(axis=(0, 3, 4, 5)).diagonal())
        for last in (boxes[:, :, :, 17:], boxes[:, :, :, :, 17:], boxes[..., 17:20]):
            assert (abs(last).max(axis=(0, 3, 4, 5)) < 2e-12 * np.outer(size, size)).all()


def test_slopes_are_the_derivatives_of_distances():
    # Price's theorem: d/dθ E φ(u)φ(v) is -sin θ times σ_u σ_v E φ'(u)φ'(v).
    phi = rd.activation("softplus")
    pairs = pairs_of(phi, 0.1, 30.0, 200, seed=5)
    curves, theta, step = dual_table(phi, 0.1, 30.0).pairs(pairs), np.clip(pairs.theta, 0.02, 1.5), 1e-4
    index = np.arange(200)
    rise = (curves(index, theta * (1 + step))[0] - curves(index, theta * (1 - step))[0]) / (2 * step * theta)
    expected = 2 * np.sin(theta) * pairs.unit_u * pairs.unit_v * curves(index, theta)[1]
    np.testing.assert_allclose(rise, expected, rtol=1e-5, atol=1e-9)


def test_pairs_have_no_order():
    phi = rd.activation("elu")
    pairs = pairs_of(phi, 0.1, 30.0, 60)
    turned = Pairs(pairs.sigma_v, pairs.sigma_u, pairs.size_v, pairs.size_u, pairs.theta, pairs.sign)
    table, index = dual_table(phi, 0.1, 30.0), np.arange(60)
    for one, other in zip(table.pairs(pairs)(index, pairs.theta), table.pairs(turned)(index, pairs.theta), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-15)


def test_ranges_too_wide_for_all_digits_have_no_table():
    shifted = rd.Activation(lambda u: np.abs(u) - 0.3, np.sign, kinks=(0.0,))
    assert dual_table(shifted, 1e-6, 1e6) is None


@pytest.mark.parametrize("scales", [*(pytest.param(each, marks=pytest.mark.slow) for each in RANGES[1:]), RANGES[0]])
@pytest.mark.parametrize("name", BENT_CLOSED)
def test_tables_of_noise_hold_what_closed_forms_say(name, scales):
    phi = rd.activation(name)
    pairs = pairs_of(phi, *scales, 60)
    table = noise_table(replace(phi, dual_form=None), *scales)
    distance, slope = table.pairs(pairs)(np.arange(60), pairs.theta)
    expected, steep = difference_form(phi, pairs)
    # Values and their averages are rounded before their difference is taken.
    assert (abs(distance - expected) <= 1e-12 * expected + 1e-14 * np.sqrt(expected) + 1e-20).all()
    assert (abs(slope - steep) <= 1e-12 * steepest(phi, pairs)).all()


@pytest.mark.parametrize("scales", [*(pytest.param(each, marks=pytest.mark.slow) for each in RANGES[1:]), RANGES[0]])
@pytest.mark.parametrize("name", BENT)
def test_tables_of_noise_hold_what_quadratures_find(name, scales):
    phi = BENT[name]()
    table = noise_table(phi, *scales)
    pairs = pairs_of(phi, *scales, 6)
    distance, slope = table.pairs(pairs)(np.arange(6), pairs.theta)
    expected, steep = difference_form(phi, pairs)
    assert (abs(distance - expected) <= 1e-12 * expected + 1e-14 * np.sqrt(expected) + 1e-20).all()
    digits = 1e-12 if phi.derivative is not None else 1e-11
    assert (abs(slope - steep) <= digits * steepest(phi, pairs)).all()


def test_pairs_of_bent_functions_have_no_order():
    phi = rd.activation("hard_swish")
    pairs = pairs_of(phi, 0.5, 5.0, 12)
    turned = Pairs(pairs.sigma_v, pairs.sigma_u, pairs.size_v, pairs.size_u, pairs.theta, pairs.sign)
    table, index = noise_table(phi, 0.5, 5.0), np.arange(12)
    for one, other in zip(table.pairs(pairs)(index, pairs.theta), table.pairs(turned)(index, pairs.theta), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def few_features(gaussian, n):
    """Samples of two features, of different norms, opposite, equal and zero ones among them."""
    X = gaussian(n, 2, seed=4) * np.geomspace(0.2, 5, n)[:, None]
    X[1], X[2], X[3], X[4] = X[0], -X[0], 1.5 * X[0], 0.0
    X[5:9] = X[9:13] * (1 + 1e-7) + 1e-6 * gaussian(4, 2, seed=5)
    return X


@pytest.mark.parametrize(
    "name",
    [
        *("centred elu", "even", "hard_swish"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("tanh", "bump", "sigmoid", "bent tanh")),
    ],
)
@pytest.mark.parametrize("deep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_kernels_by_tables_are_kernels_by_quadratures(gaussian, monkeypatch, name, deep):
    X = few_features(gaussian, 13)
    phi = {**OPEN, **BENT}[name]()
    network = rd.DEQ(phi, 0.3, 0.8)
    if deep:
        network = rd.Network([rd.Layer(phi, 0.2, 0.8), rd.Layer("tanh", 0.0, 0.7, 0.2)])
    by_table = rd.kernel(X, network, KINDS, Y=X[::-1])
    monkeypatch.setattr(plan, "_FEW", 10**9)
    by_quadrature = rd.kernel(X, network, KINDS, Y=X[::-1])
    for one, other in zip(by_table, by_quadrature, strict=True):
        assert abs(one - other).max() < 2e-12 * abs(other).max()


def test_tables_serve_all_engines(gaussian):
    X = few_features(gaussian, 60)
    kernels = [rd.kernel(X, rd.DEQ("swish", 0.3, 0.8), "ntk", backend=backend) for backend in ("numba", "numpy")]
    np.testing.assert_allclose(*kernels, rtol=1e-11, atol=1e-13)
