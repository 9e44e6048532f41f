"""Networks of finite width: their gradients, and the kernels that they tend to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import DEQModule, NetworkModule, NetworkRegression
from rmtdeq.network import Step

STACKS = {
    "dense, equilibrium, dense": rd.Network(
        [rd.Layer("relu", sigma_b2=1.5), rd.DEQ("tanh", 0.4, 0.8), rd.Layer("swish", sigma_c2=0.3)]
    ),
    "two equilibria with biases": rd.Network(
        [rd.DEQ("swish", 0.3, 0.8, centered=False, sigma_c2=0.2), rd.DEQ("relu", 0.3, 0.8, sigma_c2=0.1)]
    ),
    "normalised": rd.Network(
        [rd.Layer("relu", sigma_c2=0.1, normalized=True), rd.Layer("tanh", 0.4, 0.8, normalized=True)]
    ),
    "RMS norms": rd.Network(
        [
            rd.Layer("relu", sigma_c2=0.1, after=rd.RMSNorm(0.2)),
            rd.Layer("tanh", 0.2, 0.8, 0.1, before=rd.RMSNorm(0.3), after=rd.RMSNorm()),
        ]
    ),
    "branches": rd.Network(
        [
            rd.Concatenation([(), rd.Layer("relu", sigma_c2=0.1)], weights=(0.7, 1.0)),
            rd.Residual(rd.DEQ("tanh", 0.4, 0.8), 0.5),
        ]
    ),
    "one DEQ with a bias": rd.DEQ("relu", 0.4, 0.8, centered=False, sigma_c2=0.3),
    "one DEQ without recurrence": rd.DEQ("tanh", 0.0, 0.8),
}
KINDS = ("ck", "ntk", "ntk-full")


@pytest.mark.parametrize("name", STACKS)
def test_gradients_row_by_row_are_those_of_automatic_differentiation(name):
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 12)) / np.sqrt(12))
    network = NetworkRegression(12, 30, STACKS[name].resting(1.0), 0).double()
    found = network.gradients(X)
    assert set(found) == {each for each, _ in network.named_parameters()}
    outputs = network(X)
    for i in range(5):
        grads = torch.autograd.grad(outputs[i], list(network.parameters()), retain_graph=True)
        for (each, parameter), grad in zip(network.named_parameters(), grads, strict=True):
            left, right = found[each].left[i], found[each].right[i]
            own = torch.outer(left, right) if parameter.dim() == 2 else left * right
            torch.testing.assert_close(own, grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", STACKS)
def test_the_module_has_the_features_and_is_reproducible(name):
    X = np.random.default_rng(1).standard_normal((4, 12)) / np.sqrt(12)
    features = rd.sample_features(X, STACKS[name], 30, seed=3, tau0_squared=1.0)
    module = STACKS[name].to_torch(12, 30, 3).double()
    assert isinstance(module, DEQModule if name.startswith("one") else NetworkModule)
    np.testing.assert_allclose(module(torch.from_numpy(X)).detach(), features, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["normalised", "RMS norms", "branches"])
def test_wide_networks_have_the_kernels_of_infinite_width(name, kind):
    """Each entry is a mean of 600 units in 6 networks: off by more than six standard deviations once in 1e8."""
    X = np.random.default_rng(2).standard_normal((6, 12)) / np.sqrt(12)
    network = STACKS[name].pinned(1.0)
    found = np.array([rd.finite_width_kernel(X, network, 600, kind, seed) for seed in range(6)])
    error = found.mean(axis=0) - rd.kernel(X, network, kind)
    bound = 6 * found.std(axis=0, ddof=1) / np.sqrt(6) + 0.01 * found.mean()
    assert (abs(error) < bound).mean() > 0.99
    assert abs(error).max() < 0.1 * abs(found.mean(axis=0)).max()


@dataclass(frozen=True)
class Times(Step):
    """A multiple of what goes in."""

    factor: float

    def squared_norm(self, q):
        return self.factor**2 * q

    def module(self, width):
        linear = torch.nn.Linear(width, width, bias=False)
        linear.weight = torch.nn.Parameter(self.factor * torch.eye(width), requires_grad=False)
        return linear


def test_a_step_of_ones_own_is_one_class():
    """Twice the pre-activations are those of four times the variances, and half of tanh is half of its features."""
    X = np.random.default_rng(1).standard_normal((6, 12)) / np.sqrt(12)
    layer = rd.Layer("tanh", 0.3, 0.4, 0.1, before=Times(2.0), after=Times(0.5))
    own = rd.Network(["relu", layer])
    same = rd.Network(["relu", rd.Layer(rd.Activation(lambda u: np.tanh(u) / 2), 1.2, 1.6, 0.4)])
    for one, other in zip(rd.kernel(X, own, KINDS), rd.kernel(X, same, KINDS), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    one = rd.scalar_kernel(own).derivatives(1.0, 0.8, 0.3)
    other = rd.scalar_kernel(same).derivatives(1.0, 0.8, 0.3)
    np.testing.assert_allclose(one.hessian, other.hessian, rtol=1e-9, atol=1e-10)
    module = own.to_torch(12, 20, 0).double()
    theirs = same.to_torch(12, 20, 0, torch_activation=lambda u: torch.tanh(u) / 2).double()
    inputs = torch.from_numpy(X)
    torch.testing.assert_close(module(inputs), theirs(inputs), rtol=0, atol=1e-8)
    assert rd.Layer.recorded(layer.activation, layer.record()) == layer


def test_dropout_is_there_in_training_alone():
    network = rd.Network([rd.Layer("relu", dropout=0.25), rd.Layer("tanh", 0.3, 0.8, dropout=0.5)])
    module, x = network.to_torch(12, 4000, 0), torch.ones(1, 12)
    plain = rd.Network([replace(each, after=()) for each in network.layers]).to_torch(12, 4000, 0)
    torch.testing.assert_close(module.eval()(x), plain(x))
    dropped = module.train()(x)
    assert 0.45 < float((dropped == 0).double().mean()) < 0.55  # 4000 coins: 6 standard deviations
    with pytest.raises(rd.InvalidInputError, match="Dropout"):
        rd.sample_features(np.eye(3), network, 10)


def test_widths_layer_by_layer():
    module = STACKS["dense, equilibrium, dense"].to_torch(12, (7, 20, 5), 0)
    assert module(torch.zeros(3, 12)).shape == (3, 5)
    with pytest.raises(rd.InvalidInputError, match="3 layers"):
        STACKS["dense, equilibrium, dense"].to_torch(12, (7, 20), 0)


def test_jumps_have_no_tangent_kernel_at_any_width():
    network = rd.Network([rd.Layer("relu"), rd.Layer("steps(0, -1, 1)")])
    with pytest.raises(rd.IllPosedError, match="jumps"):
        rd.finite_width_kernel(np.eye(4), network, 20, "ntk")
    assert rd.finite_width_kernel(np.eye(4), network, 20, "ck").shape == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_jacobians_tend_to_the_infinite_width_kernels(name):
    """At width 2000 the mean of 4 networks is within 8 % of the largest entry; one is off by about 10 %."""
    X, network = np.random.default_rng(0).standard_normal((6, 30)) / np.sqrt(30), STACKS[name].pinned(1.0)
    found = np.mean(
        [rd.finite_width_kernel(X, network, 2000, KINDS, seed, tau0_squared=1.0, progress=False) for seed in range(4)],
        axis=0,
    )
    for one, exact in zip(found, rd.kernel(X, network, KINDS), strict=True):
        np.testing.assert_allclose(one, exact, rtol=0, atol=0.08 * exact.max())
