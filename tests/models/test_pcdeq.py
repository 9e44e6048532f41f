"""Positive concave layers: what their theory promises holds, and what it excludes is refused."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import rmtdeq as rd
from rmtdeq.models import Equilibrium, Solver
from rmtdeq.models.implicit import Map
from rmtdeq.models.pcdeq import (
    PcDEQConv2d,
    PcDEQLinear,
    concave_activation,
    conv_network,
    linear_network,
    thompson_metric,
    three_block_network,
)

SATURATING = ("tanh", "softsign", "relu6", "sigmoid")
ACTIVATIONS = {**dict.fromkeys(SATURATING), "log1p": torch.log1p, "sqrt": lambda u: torch.sqrt(1 + u)}
EXACT = Solver(tolerance=1e-14, max_iterations=50_000)


def make(name, kind, scale, seed, *, map_input=False, solver=EXACT, size=5):
    """A layer of double precision with weights of this size (the largest row sum), a tenth of them zero."""
    activation = ACTIVATIONS[name] or name
    options = {"map_input": map_input, "solver": solver, "seed": seed}
    layer = PcDEQLinear(size, activation, **options) if kind == "linear" else PcDEQConv2d(3, activation, **options)
    layer = layer.double()
    rng = np.random.default_rng(seed)
    shape = tuple(layer.recurrent.weight.shape)
    W = rng.exponential(size=shape) * (rng.random(shape) < 0.9)
    W[:, 0] += 1e-3
    layer.recurrent.weight = torch.from_numpy(scale * W / W.reshape(len(W), -1).sum(axis=1).max())
    return layer


def positive(kind, seed, n=4, low=0.05, size=5):
    shape = (n, size) if kind == "linear" else (n, 3, 4, 4)
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, 2.0, shape))


def starts(like, seed):
    """Ten starts in the orthant: zero, tiny, huge, and random ones of very different entries."""
    rng = np.random.default_rng(seed)
    yield torch.zeros_like(like)
    yield torch.full_like(like, 1e-12)
    yield torch.full_like(like, 1e6)
    for _ in range(7):
        yield torch.from_numpy(10 ** rng.uniform(-6, 3, tuple(like.shape)))


LAYERS = {
    "name": st.sampled_from(SATURATING),
    "kind": st.sampled_from(["linear", "conv"]),
    "scale": st.floats(-3, 1).map(lambda exponent: 10**exponent),
    "seed": st.integers(0, 10**6),
}


@settings(deadline=None, max_examples=40)
@given(**LAYERS)
def test_the_fixed_point_is_one_from_ten_starts(name, kind, scale, seed):
    layer, x = make(name, kind, scale, seed), positive(kind, seed)
    found = layer.solve(x)
    assert (found.value > 0).all()
    with torch.no_grad():
        torch.testing.assert_close(layer.step(found.value, x), found.value, rtol=1e-13, atol=0)
    blank = torch.zeros(len(x))
    for start in starts(x, seed):
        other = layer.solve(x, Equilibrium(start, blank, blank)).value
        torch.testing.assert_close(other, found.value, rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(**LAYERS, steps=st.sampled_from([1, 2, 5]))
def test_thompson_distances_contract_as_certified(name, kind, scale, seed, steps):
    layer, x = make(name, kind, scale, seed), positive(kind, seed, low=1e-3)
    certificate = layer.certificate(x, steps)
    assert certificate.steps == steps
    assert certificate.spectral_radius == 0
    rng = np.random.default_rng(seed)
    bound = layer.activation.supremum
    with torch.no_grad():
        for spread in (-6, -1):
            a, b = (torch.from_numpy(bound * 10 ** rng.uniform(spread, 0, tuple(x.shape))) for _ in range(2))
            before = thompson_metric(a, b)
            for _ in range(steps):
                a, b = layer.step(a, x), layer.step(b, x)
            assert (thompson_metric(a, b) <= certificate.contraction * before + 1e-12).all()


@settings(deadline=None, max_examples=40)
@given(**LAYERS, steps=st.sampled_from([1, 3]), digits=st.integers(2, 10))
def test_iterations_stay_within_the_certified_number(name, kind, scale, seed, steps, digits):
    x = positive(kind, seed)
    for stop in ("row", "batch"):
        layer = make(name, kind, scale, seed, solver=Solver(tolerance=10.0**-digits, max_iterations=50_000, stop=stop))
        # The solve begins with the layer's value at zero, the first of the iterates that the certificate counts.
        counted = layer.solve(x).iterations + 1
        certified = layer.certificate(x, steps).iterations(10.0**-digits)
        assert (counted <= (certified if stop == "row" else certified.max())).all()


@settings(deadline=None, max_examples=40)
@given(**{**LAYERS, "name": st.sampled_from(tuple(ACTIVATIONS))})
def test_iterates_from_zero_increase_to_the_fixed_point_at_the_certified_rate(name, kind, scale, seed):
    scale = min(scale, 0.8) if name not in SATURATING else scale
    layer, x = make(name, kind, scale, seed), positive(kind, seed)
    found = layer.solve(x)
    certificate = found.certificate
    rest = certificate.contraction.reshape(-1, *[1] * (x.dim() - 1))
    z = torch.zeros_like(x)
    with torch.no_grad():
        for k in range(1, 15):
            z, before = layer.step(z, x), z
            assert (z >= before * (1 - 1e-14)).all()
            assert (z <= found.value * (1 + 1e-10)).all()
            assert (z >= found.value * (1 - rest**k) * (1 - 1e-10)).all()


@pytest.mark.parametrize("examples", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_no_solver_stops_at_another_point(examples):
    @settings(deadline=None, max_examples=examples)
    @given(
        **{**LAYERS, "scale": st.sampled_from([0.01, 0.1, 0.5, 4.0, 10.0])},  # far from where growth and decay balance
        method=st.sampled_from(["iteration", "anderson", "broyden"]),
        stop=st.sampled_from(["row", "batch"]),
        least=st.sampled_from([-30, -8, -2]),
    )
    def holds(**case):
        check_the_point_where_a_solver_stops(**case)

    holds()


def check_the_point_where_a_solver_stops(name, kind, scale, seed, method, stop, least):
    # Entries and whole rows from 1 down to 1e-30, which the recurrence may lift by any factor, or not at all.
    layer = make(name, kind, scale, seed, solver=Solver(method, tolerance=1e-11, max_iterations=50_000, stop=stop))
    rng = np.random.default_rng(seed)
    x = positive(kind, seed) * torch.from_numpy(10 ** rng.uniform(least, 0, positive(kind, seed).shape))
    x[0] *= 10.0**least
    found = layer.solve(x).value
    below, above = layer.activation(x), torch.full_like(x, layer.activation.supremum)
    with torch.no_grad():
        for _ in range(4000):
            below, above = layer.step(below, x), layer.step(above, x)
            if ((above - below) <= 1e-13 * above).all():
                break
    # The true equilibrium lies between the two, whatever either has come to.
    size = above.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))
    assert ((above - below) <= 1e-9 * size).all()
    assert ((found - below).abs() <= 1e-8 * (size + 1e-4 * layer.activation.supremum)).all()
    assert (found > 0).all()


@pytest.mark.parametrize("method", ["iteration", "anderson", "broyden"])
@pytest.mark.parametrize("stop", ["row", "batch"])
def test_rows_next_to_zero_do_not_hide_in_their_batch(method, stop):
    layer = PcDEQLinear(1, "tanh", solver=Solver(method, tolerance=1e-4, max_iterations=200, stop=stop))
    layer.set_weight(torch.tensor([[5.0]]))
    h = torch.tensor([[-20.0], [-5.0], [-0.5], [1.0], [2.0]])
    for rows in (h, h[:1]):
        torch.testing.assert_close(layer(rows).detach(), torch.full_like(rows, 0.99991), rtol=1e-4, atol=0)
    grown = PcDEQLinear(1, torch.log1p, solver=Solver(method, max_iterations=2000, stop=stop))
    grown.set_weight(torch.tensor([[5.0]]))
    h = torch.tensor([[-10.0], [1.0], [2.0]])
    found = grown(h).detach()
    torch.testing.assert_close(found, torch.log1p(5 * found + grown.injected(h)[0]), rtol=1e-4, atol=0)
    assert (found > 2).all()


def test_sigmoid_layers_are_certified_for_all_inputs_and_weights():
    for scale in (1e-2, 1.0, 1e3):
        layer = make("sigmoid", "linear", scale, 0, map_input=True)
        x = torch.from_numpy(np.random.default_rng(0).normal(0, 5, (50, 5)))
        certificate = layer.certificate(x)
        assert certificate.worst <= 0.5
        shown = float(repr(layer).split("contraction <= ")[1].split()[0])
        assert certificate.worst <= shown + 1e-4
    assert "for all inputs" in repr(layer)
    assert (layer.certificate(x).iterations(1e-4) <= 15).all()


def test_more_steps_certify_more():
    # An input near zero: one step promises next to nothing, a few promise nearly everything.
    layer, x = make("tanh", "linear", 0.5, 0), positive("linear", 0, low=0.2)
    x[:, 0] = 1e-9
    worst = [layer.certificate(x, steps).worst for steps in (1, 2, 6, 20)]
    assert worst[0] > 1 - 1e-8
    assert worst[1] < 0.97
    assert worst == sorted(worst, reverse=True)
    assert worst[-1] < 1e-3


def test_the_asymptotic_radius_says_whether_there_is_a_fixed_point():
    relu = lambda radius: make_relu(radius, "linear")
    x = positive("linear", 0)
    found = relu(0.9).solve(x)
    assert found.certificate.spectral_radius == pytest.approx(0.9, rel=1e-9)
    W = relu(0.9).recurrent.weight.detach()
    torch.testing.assert_close(found.value, torch.linalg.solve(torch.eye(5).double() - W, x.T).T, rtol=1e-10, atol=0)
    for radius in (1.0 + 1e-6, 1.5):
        with pytest.raises(rd.IllPosedError, match="no equilibrium"):
            relu(radius).solve(x)
    assert make_relu(0.5, "conv").solve(positive("conv", 0)).certificate.spectral_radius < 0.5
    assert "asymptotic spectral radius <= " in repr(relu(0.9))


def make_relu(radius, kind):
    options = {"map_input": False, "solver": EXACT, "seed": 0}
    if kind == "conv":
        layer = PcDEQConv2d(3, F.relu, **options).double()
        W = torch.rand(3, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        layer.recurrent.weight = radius * W / W.flatten(1).sum(dim=1).max()
        return layer
    layer = PcDEQLinear(5, F.relu, **options).double()
    W = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer.recurrent.weight = radius * W / torch.linalg.eigvals(W).abs().max()
    return layer


@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_weights_stay_nonnegative_through_hundreds_of_steps(positivity, optimizer, kind):
    torch.manual_seed(0)
    layer = (
        PcDEQLinear(6, positivity=positivity, seed=0)
        if kind == "linear"
        else PcDEQConv2d(2, positivity=positivity, seed=0)
    )
    x = torch.randn((8, 6) if kind == "linear" else (4, 2, 3, 3))
    target = torch.rand_like(x)
    rule = torch.optim.AdamW(layer.parameters(), lr=0.05) if optimizer == "adamw" else None
    rule = rule or torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    negative = 0
    for _ in range(400):
        rule.zero_grad()
        # Pulled to and fro, so that the factors cross zero again and again.
        target = 1 - target
        (layer(x) - target).square().mean().backward()
        rule.step()
        negative += any(bool((value < 0).any()) for value in layer.parameters())
        weight = layer.weight()
        assert float(weight.detach().min()) >= 0
        assert bool(weight.isfinite().all())
    assert negative > 10  # of the factors, before they are made positive: the test has tried
    saved = layer.state_dict()
    assert float(layer.weight().detach().min()) >= 0
    if positivity == "clamp":
        assert all(float(value.min()) >= 0 for value in saved.values())


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
@pytest.mark.parametrize("stop", ["row", "batch"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_agree_with_finite_differences(name, kind, positivity, stop):
    activation = ACTIVATIONS[name] or name
    solver = Solver(tolerance=1e-14, stop=stop)
    options = {"positivity": positivity, "solver": solver, "seed": 0}
    layer = PcDEQLinear(6, activation, **options) if kind == "linear" else PcDEQConv2d(2, activation, **options)
    layer = layer.double()
    generator = torch.Generator().manual_seed(1)
    weight = torch.rand(layer.recurrent.weight.shape, generator=generator, dtype=torch.float64)
    layer.recurrent.weight = 0.7 * weight / weight.flatten(1).sum(dim=1).max()
    x = torch.randn((3, 6) if kind == "linear" else (3, 2, 4, 4), generator=generator, dtype=torch.float64) + 0.3
    x.requires_grad_()
    pull = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    leaves = {"x": x, **dict(layer.named_parameters())}
    gradients = torch.autograd.grad((layer(x) * pull).sum(), list(leaves.values()))
    for (what, value), gradient in zip(leaves.items(), gradients, strict=True):
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        direction *= 1e-6 / direction.norm()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                kept = value.clone()
                value += sign * direction
                ends.append(float((layer(x) * pull).sum()))
                value.copy_(kept)
        # The sums, of order one, are known to 1e-13: the difference quotient to 1e-7.
        assert float((gradient * direction).sum()) / 1e-6 == pytest.approx(
            (ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=3e-7
        ), what


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_transposed_jacobian_is_that_of_automatic_differentiation(name, kind):
    layer, x = make(name, kind, 0.7, 0), positive(kind, 0)
    z, g = positive(kind, 1), positive(kind, 2) - 1
    torch.testing.assert_close(
        layer.map().adjoint(z, (x,))(g), Map(layer.step).adjoint(z, (x,))(g), rtol=1e-12, atol=1e-14
    )


def test_the_networks_have_the_papers_numbers_of_parameters():
    count = lambda model: sum(value.numel() for value in model.parameters())
    colour = (3, 32, 32)
    assert count(linear_network()) == 70_410
    assert count(conv_network()) == 69_136
    assert count(three_block_network()) == 41_278
    assert count(conv_network(colour)) == 164_760
    assert count(three_block_network(colour)) == 130_950
    assert count(three_block_network(colour, (100, 120, 140))) == 661_470


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize(
    ("network", "shape"),
    [(linear_network, (4, 784)), (conv_network, (2, 1, 28, 28)), (three_block_network, (2, 1, 28, 28))],
)
def test_networks_are_determined_by_their_seed_alone(network, shape, name):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again, other = (network(seed=seed, activation=name).eval() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(shape)
    with torch.no_grad():
        assert first(x).shape == (shape[0], 10)
        assert torch.equal(first(x), again(x))
        assert not torch.equal(first(x), other(x))


@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
class TestAsATorchModule:
    def case(self, kind, positivity, seed=0):
        torch.manual_seed(0)
        if kind == "linear":
            return PcDEQLinear(6, positivity=positivity, seed=seed), torch.randn(4, 6)
        return PcDEQConv2d(2, positivity=positivity, seed=seed), torch.randn(4, 2, 5, 5)

    def test_without_gradients(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        expected = layer(x)
        assert expected.requires_grad
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                found = layer(x)
            assert not found.requires_grad
            torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-4)
        frozen = layer.requires_grad_(False)(x)
        assert not frozen.requires_grad

    def test_state_dicts_and_copies(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        other, _ = self.case(kind, positivity, seed=1)
        assert not torch.equal(other(x), layer(x))
        other.load_state_dict(layer.state_dict())
        for each in (other, copy.deepcopy(layer)):
            assert torch.equal(each(x), layer(x))

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at it
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled(self, kind, positivity, backend):
        layer, x = self.case(kind, positivity)
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend=backend)
        found = []
        for each in (layer, compiled):
            layer.zero_grad()
            z = each(x)
            z.square().sum().backward()
            found.append([z.detach(), *(value.grad.clone() for value in layer.parameters())])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)

    def test_exported(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        with torch.no_grad():  # as an optimiser may leave it
            next(iter(layer.parameters())).flatten()[0] *= -1
            program = torch.export.export(copy.deepcopy(layer).eval(), (x,))
            torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-3, atol=1e-4)

    def test_mixed_precision(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x.bfloat16())
        assert found.dtype == torch.float32
        assert torch.equal(found, layer(x.bfloat16().float()))
        found.sum().backward()
        assert all(bool(value.grad.isfinite().all()) for value in layer.parameters())

    def test_gradcheck(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        layer.solver = Solver(tolerance=1e-13)
        layer.double()
        assert torch.autograd.gradcheck(layer, (x[:1].double().requires_grad_(),))

    def test_called_twice_in_one_graph(self, kind, positivity):
        layer, x = self.case(kind, positivity)
        (layer(x) + layer(x + 1)).sum().backward()
        together = [value.grad.clone() for value in layer.parameters()]
        layer.zero_grad()
        layer(x).sum().backward()
        layer(x + 1).sum().backward()
        for one, two in zip(together, layer.parameters(), strict=True):
            torch.testing.assert_close(one, two.grad)


def test_empty_batches_and_single_rows():
    layer = PcDEQLinear(4, seed=0)
    assert layer(torch.zeros(0, 4)).shape == (0, 4)
    assert layer.solve(torch.zeros(0, 4)).certificate.iterations(1e-3).shape == (0,)
    assert layer(torch.zeros(1, 4)).shape == (1, 4)
    assert layer.solve(torch.zeros(0, 4)).certificate.worst == 0
    repr(layer.solve(torch.zeros(0, 4)).certificate)


@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_set_as_they_are(positivity, dtype):
    layer = PcDEQLinear(4, "sigmoid", positivity=positivity, seed=0).to(dtype)
    W = torch.rand(4, 4, dtype=torch.float64)
    W[0] = 0.0
    W[1] *= 1e-9
    W[2, 1:] = 0.0
    layer.set_weight(W)
    torch.testing.assert_close(layer.weight().detach(), W.to(dtype), rtol=1e-6, atol=0)
    x = torch.randn(3, 4, dtype=dtype, requires_grad=True)
    layer(x).sum().backward()
    assert all(bool(value.grad.isfinite().all()) for value in (x, *layer.parameters()))
    # A row of zeros is none that learning cannot leave.
    assert float(layer.recurrent.parametrizations.weight.original1.grad[0].abs().min()) > 0
    layer.set_weight(torch.zeros(4, 4))
    torch.testing.assert_close(layer(x), torch.sigmoid(torch.relu(x)))
    for bad in (torch.ones(4, 5), torch.ones(4), [[1.0]]):
        with pytest.raises(rd.InvalidInputError, match="shape"):
            layer.set_weight(bad)


def test_inputs_far_below_zero_stay_positive():
    layer = PcDEQLinear(4, "tanh", seed=0)
    found = layer.solve(torch.full((2, 4), -1e4))
    assert (found.value > 0).all()
    assert (found.certificate.delta > 0).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.exp, "convex"),
        (F.softplus, "convex"),
        (F.silu, "convex"),
        (lambda u: u**2, "convex"),
        (lambda u: u - 0.5, "negative at u = 0"),
        (torch.cos, "negative"),
        (lambda u: torch.log(u), "negative"),
        (lambda u: u / u, "NaN at u = 0"),
        (lambda u: 0 * u, "zero everywhere"),
        (lambda u: u * torch.exp(-u / 50), "convex|falls"),
        (lambda u: u.sum(), "entrywise"),
        (lambda u: u.float(), "entrywise"),
        (torch.nn.Tanh, "cannot be applied|entrywise"),
        (math.tanh, "cannot be applied"),
        (np.tanh, "cannot be applied"),
        ("relu", "one of 'tanh', 'softsign', 'relu6', 'sigmoid'"),
        (None, "a name or a function"),
    ],
)
def test_other_activations_are_refused(function, message):
    with pytest.raises(rd.InvalidInputError, match=message):
        concave_activation(function)
    with pytest.raises(rd.InvalidInputError, match=message):
        PcDEQLinear(3, function)


def test_a_supremum_is_checked_and_used():
    with pytest.raises(rd.InvalidInputError, match="exceeds its supremum 3"):
        PcDEQLinear(3, torch.log1p, supremum=3.0)
    known, unknown = (PcDEQLinear(3, torch.erf, supremum=bound, seed=0) for bound in (1.0, None))
    assert known.activation.saturates
    assert not unknown.activation.saturates
    x = torch.ones(2, 3)
    assert torch.equal(known(x), unknown(x))
    assert known.certificate(x).spectral_radius == 0
    assert 0 < unknown.certificate(x).spectral_radius < 1e-3


def test_the_weight_is_not_hidden_by_an_attribute():
    layer = PcDEQLinear(3, seed=0)
    with pytest.raises(rd.InvalidInputError, match="set_weight"):
        layer.weight = torch.ones(3, 3)
    layer(torch.ones(2, 3)).sum().backward()


def test_a_slow_iteration_says_that_inputs_are_next_to_zero():
    layer = PcDEQLinear(2, "tanh", seed=0)
    layer.set_weight(torch.full((2, 2), 0.4999))
    with pytest.raises(rd.ConvergenceError, match=r"There is an equilibrium.*above 4\.1e-10.*BatchNorm1d"):
        layer(torch.tensor([[-4.0, -4.0], [1.0, 1.0]]))
    torch.nn.Sequential(torch.nn.BatchNorm1d(2), layer)(torch.tensor([[-4.0, -4.1], [1.0, 1.0]])).sum().backward()


@pytest.mark.parametrize("positivity", ["absolute", "clamp"])
def test_bad_weights_are_named(positivity):
    layer = PcDEQLinear(3, positivity=positivity, seed=0)
    W = torch.rand(3, 3)
    W[1, 2] = -0.25
    with pytest.raises(rd.InvalidInputError, match=r"1 negative value\(s\), the first -0.25 at \(1, 2\)"):
        layer.recurrent.weight = W
    W[1, 2] = float("nan")
    with pytest.raises(rd.InvalidInputError, match=r"NaN .* at \(1, 2\)"):
        layer.recurrent.weight = W
    state = layer.state_dict()
    key = "recurrent.parametrizations.weight.original1"
    broken = {**state, key: state[key].clone()}
    broken[key][2, 0] = float("inf")
    with pytest.raises(rd.InvalidInputError, match=rf"{key} holds 1 NaN or infinite .* \(2, 0\)"):
        PcDEQLinear(3, positivity=positivity).load_state_dict(broken)
    broken[key] = -state[key]
    if positivity == "clamp":
        with pytest.raises(rd.InvalidInputError, match="9 negative"):
            layer.load_state_dict(broken)
    else:
        layer.load_state_dict(broken)
    network = linear_network(4, 3, positivity=positivity)
    with pytest.raises(rd.InvalidInputError, match=r"3\.recurrent\.parametrizations\.weight\.original0"):
        network.load_state_dict(
            {**network.state_dict(), "3.recurrent.parametrizations.weight.original0": torch.full((3, 1), torch.nan)}
        )
    with torch.no_grad():
        layer.recurrent.parametrizations.weight.original1[0, 1] = float("nan")
    for call in (layer, layer.solve):
        with pytest.raises(rd.InvalidInputError, match=r"weight of PcDEQLinear\(3, tanh\) holds 3 NaN"):
            call(torch.ones(2, 3))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_bad_inputs_are_named(kind):
    for name, least in (("tanh", "positive"), ("sigmoid", "nonnegative")):
        layer = make(name, kind, 0.5, 0)
        x = positive(kind, 0)
        place = (2, 1) if kind == "linear" else (2, 1, 3, 0)
        shown = ", ".join(map(str, place))
        x[place] = -0.5
        with pytest.raises(rd.InvalidInputError, match=rf"not {least}, the first -0.5 at \({shown}\)"):
            layer(x)
        x[place] = float("nan")
        with pytest.raises(rd.InvalidInputError, match=rf"the first nan at \({shown}\)"):
            layer(x)
        x[place] = 0.0
        if name == "sigmoid":
            layer(x)
        else:
            with pytest.raises(rd.InvalidInputError, match="not positive, the first 0 at"):
                layer.certificate(x)
        mapped = make(name, kind, 0.5, 0, map_input=True)
        x[place] = float("nan")
        for call in (mapped, mapped.solve, mapped.certificate):
            with pytest.raises(rd.InvalidInputError, match=rf"NaN or infinite values, the first at \({shown}\)"):
                call(x)
        for wrong in (x.numpy(), x.tolist(), None, x.to(torch.complex128)):
            with pytest.raises(rd.InvalidInputError, match="real torch tensors"):
                mapped(wrong)
        with pytest.raises(rd.InvalidInputError, match="start must be"):
            mapped.solve(positive(kind, 0), positive(kind, 0))
        with pytest.raises(rd.InvalidInputError, match="shape"):
            layer(x[0])
        with pytest.raises(rd.InvalidInputError, match="shape"):
            layer(x[:, :2])


@pytest.mark.parametrize(
    "call",
    [
        lambda: PcDEQLinear(0),
        lambda: PcDEQConv2d(2, kernel_size=2),
        lambda: PcDEQLinear(3, positivity="square"),
        lambda: PcDEQLinear(3, solver="iteration"),
        lambda: PcDEQLinear(3).certificate(torch.ones(1, 3), steps=0),
        lambda: PcDEQLinear(3).certificate(torch.ones(1, 3)).iterations(0),
        lambda: conv_network((1, 6, 6)),
        lambda: conv_network((28, 28)),
        lambda: three_block_network(channels=(3, 4)),
        lambda: linear_network(width=0),
        lambda: Solver(stop="never"),
        lambda: thompson_metric(torch.ones(2, 3), torch.ones(3, 2)),
        lambda: thompson_metric(torch.ones(2, 3), -torch.ones(2, 3)),
    ],
)
def test_senseless_arguments_are_refused(call):
    with pytest.raises(rd.InvalidInputError):
        call()
