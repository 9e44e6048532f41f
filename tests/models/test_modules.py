"""Networks of finite width: scaling, equilibrium, gradients, and what torch expects of a module."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ, Solver

DEQS = {
    "tanh": rd.DEQ("tanh", 0.2, 0.8),
    "relu": rd.DEQ("relu", 0.4, 0.6),
    "swish, mean left in": rd.DEQ("swish", 0.3, 0.7, centered=False),
}


def inputs(n=6, p=20, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, p)) / np.sqrt(p)).to(dtype)


def networks():
    relu = rd.design(DEQS["relu"], 1.0)
    return {
        "one layer": rd.design(DEQS["tanh"], 1.0).to_torch(20, 64, seed=1),
        "two layers": relu.to_torch(20, (64, 32), seed=1),
        "equilibrium": DEQS["relu"].to_torch(20, 64, seed=1),
    }


@pytest.fixture(params=["one layer", "two layers", "equilibrium"])
def module(request):
    return networks()[request.param]


@pytest.mark.parametrize("kind", ["one layer", "two layers"])
def test_an_explicit_network_is_what_its_formula_says(kind):
    net = rd.design(DEQS["tanh" if kind == "one layer" else "relu"], 1.0)
    module = net.to_torch(20, (64, 32)[: net.depth], seed=1).double()
    h = inputs().numpy()
    for layer, weight in zip(net.layers, module.weights, strict=True):
        h = layer(h @ weight.detach().numpy().T) / np.sqrt(weight.shape[0])
    np.testing.assert_allclose(module(inputs()).detach().numpy(), h, atol=1e-14)


@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_equilibria_solve_their_equation(deq):
    module = deq.to_torch(20, 100, seed=2).double()
    x = inputs()
    found = module.solve(x)
    z, A, B = found.value.numpy(), module.A.detach().numpy(), module.B.detach().numpy()
    phi = deq.pinned(1.0).activation
    image = phi(np.sqrt(deq.sigma_a2) * z @ A.T + np.sqrt(deq.sigma_b2) * x.numpy() @ B.T) / np.sqrt(100)
    np.testing.assert_allclose(z, image, rtol=0, atol=1e-10 * abs(z).max())
    assert (found.iterations > 3).all()
    assert found.residual.shape == found.iterations.shape == (6,)
    assert (found.residual <= 1.2e-11).all()
    torch.testing.assert_close(module(x).detach(), found.value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_wide_networks_have_the_conjugate_kernel(deq):
    x, width, draws = inputs(n=5), 800, 40
    found = []
    for seed in range(draws):
        with torch.no_grad():
            z = deq.to_torch(20, width, seed=seed).double()(x)
        found.append((z @ z.T).numpy())
    error = np.mean(found, axis=0) - rd.kernel(x.numpy(), deq, tau0_squared=1.0)
    # Five standard errors in 15 entries: 1e-5 of chance; the bias is of order 1/width.
    assert (abs(error) < 5 * np.std(found, axis=0) / np.sqrt(draws) + 3 / width).all()


def test_gradients_are_implicit_and_right(module):
    module = module.double()
    x = inputs(n=3).requires_grad_()
    weight = torch.from_numpy(np.random.default_rng(3).standard_normal(module(x).shape))
    values = [x, *module.parameters()]
    gradients = torch.autograd.grad((module(x) * weight).sum(), values)
    rng = np.random.default_rng(4)
    for value, gradient in zip(values, gradients, strict=True):
        direction = torch.from_numpy(rng.standard_normal(value.shape))
        step = 1e-6
        with torch.no_grad():
            value += step * direction
            up = float((module(x) * weight).sum())
            value -= 2 * step * direction
            down = float((module(x) * weight).sum())
            value += step * direction
        assert float((gradient * direction).sum()) == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-8)


def test_no_gradient_is_recorded_where_none_is_wanted(module):
    with torch.no_grad():
        assert not module.double()(inputs()).requires_grad
    module.requires_grad_(False)
    assert not module(inputs()).requires_grad


def test_a_seed_determines_the_weights_and_leaves_other_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    net = rd.design(DEQS["tanh"], 1.0)
    first, second, other = (net.to_torch(20, 64, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.weights[0], second.weights[0])
    assert not torch.equal(first.weights[0], other.weights[0])
    rng = np.random.default_rng(1)
    assert torch.equal(first.weights[0], net.to_torch(20, 64, seed=rng).weights[0])
    assert not torch.equal(first.weights[0], net.to_torch(20, 64, seed=rng).weights[0])


def test_state_dicts_and_whole_modules_come_back(module):
    x = inputs(dtype=torch.float32)
    other = type(module).__name__
    state = module.state_dict()
    assert set(state) == ({"A", "B"} if other == "DEQModule" else {f"weights.{i}" for i in range(len(state))})
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    back = torch.load(file, weights_only=False)
    assert torch.equal(back(x), module(x))
    if other == "DEQModule":
        fresh = DEQS["relu"].to_torch(20, 64, seed=9)
        assert not torch.equal(fresh(x), module(x))
        fresh.load_state_dict(state)
        assert torch.equal(fresh(x), module(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_modules_move_between_precisions(module, dtype):
    exact = module.double()(inputs()).detach()
    found = module.to(dtype)(inputs(dtype=dtype)).detach()
    assert found.dtype == dtype
    error = float(torch.linalg.vector_norm(found.double() - exact) / torch.linalg.vector_norm(exact))
    assert error < {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]


# What the machine has; a device that is not there cannot be tested.
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_modules_move_between_devices(module, device):
    here = module.double()(inputs()).detach()
    there = module.to(device)(inputs().to(device)).detach()
    assert there.device.type == device
    assert all(weight.device.type == device for weight in module.parameters())
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("default")
def test_modules_can_be_exported_with_a_batch_of_any_size(module):
    module = module.double().requires_grad_(False)
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(module, (inputs(),), dynamic_shapes=({0: batch},)).module()
        x = inputs(n=11, seed=7)
        # The exported equilibrium iterates all rows as long as the slowest needs it.
        torch.testing.assert_close(program(x), module(x), rtol=0, atol=2e-11)


def test_inputs_may_have_more_or_fewer_dimensions(module):
    module, x = module.double(), inputs(n=6)
    whole = module(x).detach()
    torch.testing.assert_close(module(x.reshape(2, 3, 20)).detach().reshape(6, -1), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(module(x[0]).detach(), whole[0], rtol=0, atol=1e-10)


MISFITS = {
    "another number of features": (torch.zeros(3, 21), r"shape \(N, 20\), one sample a row, not \(3, 21\)"),
    "one number too few": (torch.zeros(19), r"shape \(N, 20\), one sample a row, not \(19,\)"),
    "no entries": (torch.zeros(3, 0), r"shape \(N, 20\)"),
    "a number": (torch.zeros(()), r"shape \(N, 20\)"),
    "double precision": (
        torch.zeros(3, 20).double(),
        r"float64 and the weights float32; .*module.double\(\) or X.float",
    ),
    "whole numbers": (torch.zeros(3, 20).long(), r"int64 and the weights float32; .*same: X.float\(\)\.$"),
    "complex numbers": (torch.zeros(3, 20, dtype=torch.complex64), "real torch tensors"),
    "an array": (np.zeros((3, 20), np.float32), "real torch tensors, not ndarray; torch.as_tensor"),
}


@pytest.mark.parametrize(("x", "says"), MISFITS.values(), ids=MISFITS.keys())
def test_inputs_that_do_not_fit_the_weights_are_refused_in_words(module, x, says):
    every = [
        module,
        DEQS["relu"].to_regression(20, 8),
        OverparameterizedDEQ(20, 8, 0.08, 0),
        ImplicitReLU(20, 8, 0.1, 0),
    ]
    for each in every:
        with pytest.raises(rd.InvalidInputError, match=says):
            each(x)


def test_mixed_precision_may_mix_precisions():
    module = networks()["two layers"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(inputs(dtype=torch.bfloat16)).shape == (6, 32)


def test_the_zero_input_is_at_rest():
    z = DEQS["tanh"].to_torch(20, 64, seed=0)(torch.zeros(2, 20))
    assert torch.equal(z, torch.zeros(2, 64))


def test_what_does_not_come_to_rest_is_an_error():
    module = DEQS["relu"].to_torch(20, 64, seed=1)
    with torch.no_grad():
        module.A *= 10
    with pytest.raises(rd.ConvergenceError, match="lower sigma_a2"):
        module(inputs(dtype=torch.float32))
    slow = DEQS["relu"].to_torch(20, 64, seed=1, solver=Solver(max_iterations=2))
    with pytest.raises(rd.ConvergenceError, match="max_iterations"):
        slow(inputs(dtype=torch.float32))
    with pytest.raises(rd.ConvergenceError, match="NaN"):
        DEQS["relu"].to_torch(20, 64, seed=1)(torch.full((2, 20), torch.nan))


BAD = {
    "no contraction": (lambda: rd.DEQ("tanh", 3.0, 0.01).to_torch(5, 10), rd.IllPosedError, "lower sigma_a2"),
    "width zero": (lambda: DEQS["tanh"].to_torch(5, 0), rd.InvalidInputError, "width"),
    "width too large": (lambda: DEQS["tanh"].to_torch(5, 10**7), rd.MemoryLimitError, "smaller width"),
    "no inputs": (lambda: DEQS["tanh"].to_torch(0, 5), rd.InvalidInputError, "in_features"),
    "tolerance": (lambda: Solver(tolerance=0.0), rd.InvalidInputError, "tolerance"),
    "method": (lambda: Solver("newton"), rd.InvalidInputError, "anderson"),
    "adjoint": (lambda: Solver(adjoint="cg"), rd.InvalidInputError, "gmres"),
    "regression, width zero": (lambda: DEQS["tanh"].to_regression(5, 0), rd.InvalidInputError, "width"),
    "regression, kind": (lambda: DEQS["tanh"].to_regression(5, 5, kind="nngp"), rd.InvalidInputError, "kind"),
    "regression, no contraction": (
        lambda: rd.DEQ("tanh", 3.0, 0.01).to_regression(5, 10),
        rd.IllPosedError,
        "lower sigma_a2",
    ),
    "three widths": (
        lambda: rd.design(DEQS["tanh"], 1.0).to_torch(5, (3, 3, 3)),
        rd.InvalidInputError,
        "1 layers needs",
    ),
    "width and a half": (lambda: rd.design(DEQS["tanh"], 1.0).to_torch(5, (3.5,)), rd.InvalidInputError, "width"),
}


@pytest.mark.parametrize(("make", "error", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(seconds, make, error, remedy):
    with seconds(1.0), pytest.raises(error, match=remedy):
        make()


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import rmtdeq as rd\n"
        "try: rd.DEQ('tanh', 0.2, 0.8).to_torch(5, 5)\n"
        "except rd.MissingDependencyError as error: print(error)\n"
        "try: rd.design(rd.DEQ('tanh', 0.2, 0.8), 1.0).to_torch(5, 5)\n"
        "except rd.MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count('pip install "rmtdeq[torch]"') == 2
