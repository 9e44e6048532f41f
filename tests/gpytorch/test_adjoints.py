"""Gradients that go through all layers block by block: of many samples, nearly parallel ones, and on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.gpytorch import DEQKernel
from rmtdeq.gpytorch.adjoints import pull_back
from rmtdeq.gpytorch.device import pull_back_there
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.plan import make_plan

KINDS = ("ck", "ntk", "ntk-full")
NETWORKS = {
    "two folds": rd.Network([rd.Layer("relu", 0.0, 2.0, 0.1), rd.Layer("leaky_relu(0.1)", 0.0, 2.0, 0.1)]),
    "recurrent fold": rd.DEQ("relu", 0.3, 0.8, sigma_c2=0.1),
    "mixed": rd.Network([rd.DEQ("tanh", 0.3, 0.8, sigma_c2=0.1), rd.Layer("abs"), rd.DEQ("gelu", 0.3, 0.7)]),
    "bent at zero": rd.DEQ("elu", 0.3, 0.8, sigma_c2=0.1),
}
networks = pytest.mark.parametrize("network", [each.pinned(1.0) for each in NETWORKS.values()], ids=NETWORKS.keys())


def samples(n, p=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p)


def along(network, kind, X, Y, weights, directions, step=1e-4):
    """Return the derivative of ``Σ weights·K`` along directions of the samples, from kernels beside them."""

    def at(e):
        moved = None if Y is None else Y + e * directions[1]
        return float((rd.kernel(X + e * directions[0], network, kind, Y=moved, progress=False) * weights).sum())

    return (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)


@networks
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("same", [True, False])
def test_gradients_of_many_samples_are_differences(network, kind, same):
    """Of several blocks and strips, none of them whole."""
    X, Y = samples(301, 20), None if same else samples(77, 20, seed=1)
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((301, 301 if same else 77)) / 301
    plan = make_plan(placement(X, Y, Computation()).inputs, network, (kind,))
    found = pull_back(plan, kind, weights)
    directions = [rng.standard_normal(each.shape) for each in (X, X if Y is None else Y)]
    total = (found.X * directions[0]).sum() + (0.0 if same else (found.Y * directions[1]).sum())
    expected = along(network, kind, X, Y, weights, directions)
    assert abs(total - expected) < 1e-8 * max(1.0, abs(expected))


@networks
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("same", [True, False])
def test_gradients_on_a_device_are_those_of_the_host(network, kind, same):
    X, Y = abs(samples(90)), None if same else abs(samples(31, seed=1))
    X[5] = 0.0
    weights = np.random.default_rng(2).standard_normal((90, 90 if same else 31))
    there = [None if each is None else torch.from_numpy(each) for each in (X, Y)]
    places = placement(X, Y, Computation()), placement(*there, Computation("torch", device="cpu"))
    here, device = (make_plan(each.inputs, network, (kind,)) for each in places)
    expected, found = pull_back(here, kind, weights), pull_back_there(device, kind, torch.from_numpy(weights))
    np.testing.assert_allclose(found.X, expected.X, rtol=0, atol=1e-10 * abs(expected.X).max())
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-9, atol=1e-12)
    if not same:
        np.testing.assert_allclose(found.Y, expected.Y, rtol=0, atol=1e-10 * abs(expected.Y).max())


@pytest.mark.parametrize("activation", ["elu", "hard_tanh", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["ck", "ntk"])
def test_nearly_parallel_samples_have_gradients(activation, kind):
    """In two dimensions, whatever the activation: within 1e-6."""
    network = rd.DEQ(activation, 0.3, 0.8, centered=False, sigma_c2=0.1)
    X, rng = abs(samples(40, 2)), np.random.default_rng(1)
    weights, direction = rng.standard_normal((40, 40)) / 40, rng.standard_normal((40, 2))
    kernel, x = DEQKernel(network, kind), torch.from_numpy(X).requires_grad_()
    (kernel.double().forward(x, x) * torch.from_numpy(weights)).sum().backward()
    expected = along(network, kind, X, None, weights, [direction], 2e-5)
    assert abs(float((x.grad * torch.from_numpy(direction)).sum()) - expected) < 1e-6 * max(1.0, abs(expected))


def test_samples_that_are_equal_and_not_the_same_have_gradients_of_their_own():
    X = samples(5)
    x, y = (torch.from_numpy(X).requires_grad_() for _ in range(2))
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 5)))
    kernel = DEQKernel("tanh").double()
    (kernel.forward(x, y) * weights).sum().backward()
    apart = x.grad.clone(), y.grad.clone()
    assert not torch.allclose(*apart)
    x.grad = None
    (kernel.forward(x, x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, apart[0] + apart[1], rtol=0, atol=1e-12)
    x.grad = None
    (kernel.forward(x, x.detach()) * weights).sum().backward()
    torch.testing.assert_close(x.grad, apart[0], rtol=0, atol=1e-12)


def test_a_sample_of_nothing_has_a_gradient():
    X = samples(4)
    X[2] = 0.0
    x, direction = torch.from_numpy(X).requires_grad_(), np.random.default_rng(1).standard_normal((4, 3))
    network = rd.Network([rd.Layer("tanh", 0.0, 1.5), rd.Layer("erf")])
    DEQKernel(network).double().forward(x, x).sum().backward()
    expected = along(network, "ck", X, None, 1.0, [direction])
    assert abs(float((x.grad * torch.from_numpy(direction)).sum()) - expected) < 1e-7


def test_samples_of_nothing_alone_are_taken_as_they_are():
    x = torch.zeros(1, 3, dtype=torch.double, requires_grad=True)
    y = torch.from_numpy(samples(3))
    for network, expected in ((rd.DEQ("tanh", 0.3, 0.8), 0.0), (rd.Network([rd.Layer("cos(1, 1, 0)")]), 1.0)):
        kernel = DEQKernel(network).double()
        value = kernel.forward(x, x)
        value.sum().backward()
        assert value.item() == pytest.approx(expected, abs=1e-12)
        assert torch.isfinite(x.grad).all()
        assert torch.isfinite(kernel.forward(x, y)).all()
