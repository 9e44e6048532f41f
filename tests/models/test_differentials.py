"""Derivatives of equilibria of every order and in either mode, under `torch.func` and `torch.vmap`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ, Solver
from rmtdeq.models.implicit import ImplicitModule
from rmtdeq.models.pcdeq import PcDEQConv2d, PcDEQLinear

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.(script|trace)"),  # torch's own
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),  # dynamo looks at it
]

EXACT = Solver(tolerance=1e-13)


def positive(layer, scale=0.4):
    layer.set_weight(torch.rand(layer.weight().shape, generator=torch.Generator().manual_seed(1)) * scale)
    return layer


MODELS = {
    "tanh DEQ": lambda: rd.DEQ("tanh", 0.4, 0.5).to_torch(5, 7, seed=0, solver=EXACT),
    "Anderson and GMRES": lambda: rd.DEQ("tanh", 0.4, 0.5).to_torch(
        5, 7, seed=0, solver=Solver("anderson", "gmres", 1e-12, stop="batch")
    ),
    "regression": lambda: rd.DEQ("swish", 0.4, 0.5).to_regression(5, 7, seed=0, kind="ntk-full", solver=EXACT),
    "implicit ReLU": lambda: ImplicitReLU(5, 7, 0.2, 0, solver=EXACT),
    "over-parameterised": lambda: OverparameterizedDEQ(5, 7, 0.1, 0, solver=EXACT),
    "pcDEQ": lambda: positive(PcDEQLinear(5, seed=0, solver=EXACT)),
    "pcDEQ, projected": lambda: positive(PcDEQLinear(5, positivity="clamp", seed=0, solver=EXACT)),
    "pcDEQ, unbounded": lambda: positive(PcDEQLinear(5, torch.log1p, seed=0, solver=EXACT)),
    "pcDEQ, inputs as they are": lambda: positive(PcDEQLinear(5, map_input=False, seed=0, solver=EXACT)),
    "pcDEQ of images": lambda: positive(PcDEQConv2d(2, seed=0, solver=EXACT), 0.04),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request):
    model = request.param().double()
    shape = (3, 2, 3, 3) if isinstance(model, PcDEQConv2d) else (3, 5)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    return model, x


def held(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_first_derivatives_are_those_of_a_backward_pass(case):
    model, x = case
    weights = torch.randn(model(x).shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad((model(leaf) ** 2 * weights).sum(), [leaf, *model.parameters()])

    def loss(parameters, x, weights):
        return (functional_call(model, parameters, (x,)) ** 2 * weights).sum()

    before = held(model)
    by_parameter, by_input = grad(loss, (0, 1))(before, x, weights)
    close(by_input, expected[0])
    close(list(by_parameter.values()), list(expected[1:]))
    close(vjp(model, x)[1](2 * model(x).detach() * weights)[0], expected[0])
    # Sample by sample, and of two networks at once.
    single = vmap(lambda x, w: grad(loss)(before, x[None], w[None]))(x, weights)
    close([each.sum(dim=0) for each in single.values()], list(expected[1:]))
    both = {name: torch.stack([value, 0.9 * value]) for name, value in before.items()}
    found = vmap(lambda parameters: functional_call(model, parameters, (x,)))(both)
    for i in range(2):
        close(found[i], functional_call(model, {name: value[i] for name, value in both.items()}, (x,)))
    close(list(held(model).values()), list(before.values()), 0)


def test_jacobians_are_the_same_in_either_mode(case):
    model, x = case

    def single(x):
        return model(x[None])[0]

    expected = torch.autograd.functional.jacobian(single, x[0])
    direction = torch.rand(x[0].shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    close(vmap(single)(x), model(x))
    close(jacrev(single)(x[0]), expected)
    close(jacfwd(single)(x[0]), expected)
    along = torch.tensordot(expected, direction, x[0].dim())
    close(jvp(single, (x[0],), (direction,))[1], along)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction.expand_as(x))
        close(torch.autograd.forward_ad.unpack_dual(model(dual)).tangent[0], along)


def test_second_derivatives_are_those_of_first_ones(case):
    model, x = case
    weights = torch.arange(1.0, 2.0, 1 / model(x)[0].numel(), dtype=torch.float64)[: model(x)[0].numel()]

    def loss(x):
        return (model(x[None])[0].flatten() ** 2 * weights).sum()

    point, step = x[0], 1e-5
    units = torch.eye(point.numel(), dtype=torch.float64).reshape(-1, *point.shape)
    slopes = [(grad(loss)(point + step * e) - grad(loss)(point - step * e)) / (2 * step) for e in units]
    expected = torch.stack(slopes).reshape(*point.shape, *point.shape)
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacrev), (jacfwd, jacfwd), (jacrev, jacfwd)):
        close(outer(inner(loss))(point), expected, 1e-7)
    close(torch.autograd.functional.hessian(loss, point), expected, 1e-7)
    close(vmap(hessian(loss))(x)[0], expected, 1e-7)


SMALL = {
    "GMRES": lambda: rd.DEQ("tanh", 0.4, 0.5).to_torch(2, 3, seed=0, solver=Solver("anderson", "gmres", 1e-12)),
    "regression": lambda: rd.DEQ("tanh", 0.4, 0.5).to_regression(2, 3, seed=0, kind="ntk-full", solver=EXACT),
    "pcDEQ": lambda: positive(PcDEQLinear(2, seed=0, solver=EXACT)),
}


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_second_derivatives_in_all_weights(make):
    model = make().double()
    names = list(held(model))
    given = [value.requires_grad_() for value in held(model).values()]
    x = (torch.rand(2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.1).requires_grad_()

    def outputs(x, *parameters):
        return functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(outputs, (x, *given), check_forward_ad=True, check_batched_forward_grad=False)
    assert torch.autograd.gradgradcheck(outputs, (x, *given))


def test_third_derivatives():
    layer = positive(PcDEQLinear(1, "sigmoid", map_input=False, solver=EXACT), 1.0).double()

    def loss(x):
        return layer(x[None]).sum()

    x = torch.tensor([0.7], dtype=torch.float64)
    second = hessian(loss)
    expected = (second(x + 1e-4) - second(x - 1e-4)) / 2e-4
    for third in (jacrev(jacrev(jacrev(loss))), jacfwd(jacfwd(jacfwd(loss))), jacfwd(hessian(loss))):
        close(third(x)[0], expected, 1e-6)


def test_a_gradient_penalty_trains_every_weight(case):
    model, x = case
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    found = [value.grad.clone() for value in model.parameters() if value.grad is not None]

    def penalty(parameters):
        return grad(lambda x: functional_call(model, parameters, (x,)).sum())(x.detach()).square().sum()

    expected = grad(penalty)(held(model))
    close(found, list(expected.values()))


def test_batches_of_no_rows_and_no_problems(case):
    model, x = case
    assert vmap(model)(torch.zeros(2, 0, *x.shape[1:]).double()).shape == (2, 0, *model(x).shape[1:])
    assert grad(lambda x: model(x).sum())(x[:0]).shape == x[:0].shape


class Hidden(ImplicitModule):
    """A layer whose weight is no parameter."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def injected(self, x):
        return (x,)

    def step(self, z, *injected):
        return torch.tanh(z @ self.weight + injected[0])


def test_what_cannot_be_differentiated_or_recorded_is_refused_in_words(case):
    model, x = case
    leaf = x.clone().requires_grad_()
    z = model(leaf)
    many = torch.ones(2, *z.shape, dtype=torch.float64)
    refused = {
        "is_grads_batched": lambda: torch.autograd.grad(z, leaf, many, is_grads_batched=True),
        "forward-mode": lambda: torch.autograd.functional.jacobian(model, x, vectorize=True, strategy="forward-mode"),
        "scripted": lambda: torch.jit.script(model),
        "torch.jit": lambda: torch.jit.trace(model, (x,)),
        "torch.fx": lambda: torch.fx.symbolic_trace(torch.nn.Sequential(model)),
        "linearize": lambda: linearize(model, x),
        "solve": lambda: vmap(lambda x: model.solve(x[None]).value)(x),
    }
    for name, call in refused.items():
        with pytest.raises(rd.InvalidInputError, match={"forward-mode": "vectorize=True"}.get(name, name)):
            call()


def test_second_derivatives_need_parameters():
    hidden = Hidden((0.1 * torch.eye(3)).requires_grad_())
    x = torch.ones(2, 3, requires_grad=True)
    assert torch.autograd.grad(hidden(x).sum(), hidden.weight)[0].abs().sum() > 0
    with pytest.raises(rd.InvalidInputError, match="neither injected nor its parameters"):
        torch.autograd.grad(hidden(x).sum(), x, create_graph=True)


@pytest.mark.parametrize("transform", [vmap, grad])
def test_inputs_of_the_wrong_sign_are_named_under_transforms(transform):
    layer = PcDEQLinear(3, map_input=False, seed=0)
    with pytest.raises(rd.InvalidInputError, match=r"1 value\(s\) that are not positive, the first -1"):
        transform(lambda x: layer(x[None]).sum())(torch.tensor([[-1.0, 2, 3]] if transform is vmap else [-1.0, 2, 3]))


def test_no_contraction_is_an_error_under_transforms():
    model = rd.DEQ("relu", 0.5, 0.5).to_torch(4, 8, seed=0)
    with torch.no_grad():
        model.A.fill_(3.0)
    with pytest.raises(rd.ConvergenceError, match="contraction"):
        grad(lambda x: model(x).sum())(torch.ones(2, 4))


PRECISIONS = [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float64]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_in_mixed_precision_inputs_come_in_that_of_the_weights(case, dtype):
    model, x = case
    model = model.float()
    for each in model.modules():
        if isinstance(each, ImplicitModule):
            each.solver = Solver()
    x = x.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, model(x.float()))
    if isinstance(model, (PcDEQLinear, PcDEQConv2d)):
        assert torch.equal(model(x), found)
    else:
        with pytest.raises(rd.InvalidInputError, match=r"they must be the same: .*X\.float\(\)"):
            model(x)


def test_inputs_of_any_layout(case):
    model, x = case
    pairs = torch.view_as_complex(torch.stack([x, -x], dim=-1)).conj().imag
    assert pairs.is_neg()
    close(model(pairs), model(x))
    close(model(x.transpose(0, 1).contiguous().transpose(0, 1)), model(x))
    for wrong, says in (
        (x.to_sparse(), "to_dense"),
        (x.to("meta"), "with values"),
        (torch.complex(x, x), "X.real"),
    ):
        with pytest.raises(rd.InvalidInputError, match=says):
            model(wrong)
    with pytest.raises(rd.InvalidInputError, match=r"not in float8_e5m2: take module\.float"):
        copy.deepcopy(model).to(torch.float8_e5m2)(x.to(torch.float8_e5m2))
