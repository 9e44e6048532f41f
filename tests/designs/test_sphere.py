"""One layer for samples of one norm: the series of a kernel, and the layer's own kernels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.polynomial import polynomial as poly

import rmtdeq as rd
from rmtdeq.activations import hermite_coefficients, moments
from rmtdeq.designs.sphere import sphere_series

KINDS = ("ck", "ntk", "ntk-full")
SMOOTH = {
    "tanh": rd.DEQ("tanh", 0.2, 0.8),
    "erf": rd.DEQ("erf", 0.4, 0.8),
    "swish": rd.DEQ("swish", 0.2, 0.8),
    "gelu": rd.DEQ("gelu", 0.5, 0.8, centered=False),
    "with bias": rd.DEQ("softplus", 0.2, 0.8, centered=False, sigma_c2=0.3),
}
KINKED = {
    "relu": rd.DEQ("relu", 0.2, 0.8),
    "relu with mean": rd.DEQ("relu", 0.3, 0.8, centered=False),
    "stack": rd.Network([rd.Layer("relu", 0.0, 2.0, 0.1), rd.DEQ("tanh", 0.3, 0.8)]),
}
NORMS = {"ck": 0.6, "ntk": 3.0, "ntk-full": 1.0}


@cache
def twin(network, squared_norm, kind):
    return rd.design(network, squared_norm, kind, "hermite")


def cases(networks):
    return [pytest.param(network, id=name) for name, network in networks.items()]


def on_circle(squared_norm, cosines):
    X = np.sqrt(squared_norm) * np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    return X[:1], X


def sphere(n, p, squared_norm, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, p))
    return X * np.sqrt(squared_norm) / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", cases(SMOOTH | KINKED))
def test_the_series_is_the_kernel(network, kind):
    squared_norm, cosines = 1.7, np.array([1.0, -0.9, -0.5, 0.0, 0.3, 0.8, 0.9])
    series = sphere_series(network, squared_norm, kind)
    x, X = on_circle(squared_norm, cosines)
    wanted = rd.kernel(x, network, kind, Y=X[1:], tau0_squared=squared_norm, backend="numpy", progress=False)[0]
    np.testing.assert_allclose(poly.polyval(cosines[1:], series), wanted, rtol=0, atol=1e-12 * wanted[-1])
    assert series.min() > -1e-15 * wanted[-1]


@pytest.mark.parametrize("activation", ["tanh", "swish", "relu"])
def test_without_recurrence_the_series_is_mehlers(activation):
    deq = rd.DEQ(activation, 0.0, 0.8, centered=False)
    series = sphere_series(deq, 1.5, "ck")[:513]
    wanted = hermite_coefficients(deq.activation, np.sqrt(1.2), 512) ** 2
    np.testing.assert_allclose(series, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", cases(SMOOTH))
def test_one_layer_has_the_kernel_of_samples_of_one_norm(network, kind):
    squared_norm = NORMS[kind]
    net = twin(network, squared_norm, kind)
    assert (net.depth, net.status) == (1, rd.DesignStatus.SPHERE)
    assert net.on_sphere.squared_norm == squared_norm
    assert net.on_sphere.residual < 3e-5
    X = sphere(60, 30, squared_norm)
    wanted = rd.kernel(X, network, kind, tau0_squared=squared_norm, backend="numpy", progress=False)
    error = abs(net.kernel(X, backend="numpy", progress=False) - wanted).max() / wanted.max()
    assert error <= 1.1 * net.on_sphere.residual


@pytest.mark.parametrize(("kind", "near"), [("ck", 2e-4), ("ntk", 1e-2), ("ntk-full", 3e-2)])
@pytest.mark.parametrize("network", cases(KINKED))
def test_a_kink_costs_digits_at_small_angles_alone(network, kind, near):
    net = twin(network, 1.0, kind)
    assert net.on_sphere.residual < near
    cosines = np.array([1.0, -0.7, -0.4, 0.2, 0.7])
    x, X = on_circle(1.0, cosines)
    wanted = rd.kernel(x, network, kind, Y=X[1:], tau0_squared=1.0, backend="numpy", progress=False)[0]
    found = net.kernel(x, Y=X[1:], backend="numpy", progress=False)[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-7 * wanted[-1])


@pytest.mark.parametrize("activation", ["tanh", "erf", "sin"])
def test_without_recurrence_the_layer_is_the_activation(activation):
    phi = rd.activation(activation)
    (twin,) = rd.design(rd.DEQ(activation, 0.0, 1.0), 1.0, family="hermite").activations
    u = np.linspace(-5, 5, 301)
    np.testing.assert_allclose(twin(u), phi(u), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", cases(SMOOTH | KINKED))
def test_layers_are_tame(network, kind):
    squared_norm = NORMS[kind] if network in SMOOTH.values() else 1.0
    net = twin(network, squared_norm, kind)
    (phi,) = net.activations
    reach = net.on_sphere.reach
    far = np.array([1.0, 1.5, 2.0]) * reach
    for sign in (1.0, -1.0):
        np.testing.assert_allclose(np.diff(phi(sign * far), n=2), 0, atol=1e-12)
    u = np.linspace(-reach, reach, 1001)
    scale = np.sqrt(squared_norm)
    size = np.sqrt(moments(phi, scale).square)
    assert abs(phi(u)).max() < 10 * size
    if network in SMOOTH.values():
        assert abs(phi.slope(u)).max() * scale < 5 * size


def test_coefficients_but_that_of_the_norms_are_the_deqs():
    net = rd.design(rd.DEQ("gelu", 0.3, 0.8), 1.0, "ntk", "hermite")
    linear, norm, pair, diagonal = abs(net.errors("ntk"))
    assert max(linear, pair, diagonal) < 1e-6
    assert norm > 1e-3
    assert net.residual == pytest.approx(norm)
    assert net.distances["ntk"].network < net.distances["ntk"].plain


def test_networks_of_finite_width_have_the_kernel():
    deq = SMOOTH["swish"]
    net = twin(deq, 0.6, "ck")
    X = sphere(20, 30, 0.6)
    with torch.no_grad():
        features = net.to_torch(30, 4000, seed=0).double()(torch.from_numpy(X)).numpy()
    wanted = rd.kernel(X, deq, tau0_squared=0.6, backend="numpy", progress=False)
    assert abs(features @ features.T - wanted).max() < 6 * wanted.max() / np.sqrt(4000)


def test_descriptions_are_kept(tmp_path):
    net = twin(KINKED["relu"], 1.0, "ntk")
    back = rd.ExplicitNetwork.load(net.save(tmp_path / "net.json"))
    assert back.on_sphere == net.on_sphere
    assert back.activations[0].parameters == net.activations[0].parameters
    assert repr(back) == repr(net)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norms": [0.9, 1.1]}, "one norm"),
        ({"tau0_squared": 1.0, "kind": "both"}, "one kernel"),
    ],
)
def test_what_one_layer_cannot_be_is_said(options, message):
    with pytest.raises(rd.InvalidInputError, match=message):
        rd.design(rd.DEQ("tanh", 0.2, 0.8), family="hermite", **options)


def test_networks_without_a_stable_equilibrium_are_refused():
    with pytest.raises(rd.IllPosedError):
        rd.design(rd.DEQ("relu", 2.5, 0.8, centered=False), 1.0, family="hermite")
