"""Networks with one output: gradients sample by sample, and the kernel they make, against the papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ, Solver

EXACT = Solver(tolerance=1e-14)
MODELS = {
    "over-parameterised": lambda: OverparameterizedDEQ(6, 15, 0.08, 2, solver=EXACT),
    "implicit ReLU": lambda: ImplicitReLU(6, 15, 0.12, 2, solver=EXACT),
    "tanh, ck": lambda: rd.DEQ("tanh", 0.5, 0.5).to_regression(6, 15, 2, kind="ck", solver=EXACT),
    "tanh, ntk": lambda: rd.DEQ("tanh", 0.5, 0.5).to_regression(6, 15, 2, kind="ntk", solver=EXACT),
    "gelu, ntk-full": lambda: rd.DEQ("gelu", 0.5, 0.5).to_regression(6, 15, 2, kind="ntk-full", solver=EXACT),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return request.param().double()


def inputs(n=4, p=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)))


def trained(model):
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def test_gradients_by_sample_are_those_of_single_backward_passes(model):
    x = inputs()
    weights = trained(model)
    found = model.gradients(x)
    assert set(found) == set(weights)
    for i in range(len(x)):
        rows = torch.autograd.grad(model(x[i : i + 1])[0], list(weights.values()))
        for (name, weight), row in zip(weights.items(), rows, strict=True):
            outer = torch.outer(found[name].left[i], found[name].right[i]).reshape(weight.shape)
            torch.testing.assert_close(outer, row, rtol=1e-10, atol=1e-10)


def test_the_tangent_kernel_is_that_of_the_jacobian(model):
    x = inputs()
    rows = [torch.autograd.grad(model(x[i : i + 1])[0], list(trained(model).values())) for i in range(len(x))]
    jacobian = torch.stack([torch.cat([each.ravel() for each in row]) for row in rows])
    kernel = model.tangent_kernel(x)
    torch.testing.assert_close(kernel, jacobian @ jacobian.T, rtol=1e-10, atol=1e-10)
    assert torch.equal(kernel, kernel.T)
    assert not kernel.requires_grad


def test_what_is_trained_decides_the_kernel():
    names = {"ck": {"v"}, "ntk": {"v", "features.A"}, "ntk-full": {"v", "features.A", "features.B"}}
    for kind, expected in names.items():
        assert set(trained(rd.DEQ("tanh", 0.5, 0.5).to_regression(6, 15, kind=kind))) == expected


def test_the_over_parameterised_deq_is_what_its_paper_says():
    model = OverparameterizedDEQ(6, 15, 0.08, 2, solver=EXACT).double()
    x = inputs()
    W, U, a = (each.detach() for each in (model.W, model.U, model.a))
    z = model.solve(x).value
    torch.testing.assert_close(z, torch.relu(z @ W.T + x @ U.T), rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x).detach(), z @ a, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.gram(x), z @ z.T)
    residual = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    expected = {"W": 0, "U": 0, "a": z.T @ residual}
    for i in range(4):
        D = torch.diag((z[i] > 0).double())
        v = D @ torch.linalg.solve(torch.eye(15).double() - W.T @ D, a) * residual[i]
        expected["W"] = expected["W"] + torch.outer(v, z[i])
        expected["U"] = expected["U"] + torch.outer(v, x[i])
    found = torch.autograd.grad(model(x), list(model.parameters()), residual)
    for (name, _), gradient in zip(model.named_parameters(), found, strict=True):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10)


def test_the_implicit_relu_network_is_what_its_paper_says():
    # The flow's matrix H = (γ²M + 11ᵀ)∘ZZᵀ + Q∘XXᵀ + ΦΦᵀ, with dense inverses.
    m = 15
    model = ImplicitReLU(6, m, 0.12, 2, solver=EXACT).double()
    x = inputs()
    A, W, u, v = (getattr(model, name).detach() for name in ("A", "W", "u", "v"))
    assert set(u.tolist()) == set(v.tolist()) == {-1.0, 1.0}
    scale = 0.12 / np.sqrt(m)
    phi = torch.relu(x @ W.T) / np.sqrt(m)
    z = model.solve(x).value
    torch.testing.assert_close(z, torch.relu(scale * z @ A.T + phi), rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x).detach(), z @ u + phi @ v, rtol=0, atol=1e-12)
    through = []
    for i in range(4):
        D = torch.diag((z[i] > 0).double())
        through.append(D @ torch.linalg.solve(torch.eye(m).double() - scale * A.T @ D, u))
    through = torch.stack(through)
    b = (through + v) * (x @ W.T > 0)
    M, Q = through @ through.T / m, b @ b.T / m
    H = (0.12**2 * M + 1) * (z @ z.T) + Q * (x @ x.T) + phi @ phi.T
    torch.testing.assert_close(model.tangent_kernel(x), H, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["over-parameterised", "implicit ReLU"])
def test_initialisations_have_the_papers_scales(name):
    m, p = 600, 400
    model = OverparameterizedDEQ(p, m, 0.08, 3) if name == "over-parameterised" else ImplicitReLU(p, m, 0.1, 3)
    expected = (
        {"W": 0.16 / m, "U": 2 / p, "a": 1 / m} if name == "over-parameterised" else {"A": 1, "W": 1, "u": 1, "v": 1}
    )
    for key, weight in model.named_parameters():
        value = weight.detach()
        # Four standard deviations of a sample variance: chance 6e-5 for each.
        tolerance = 4 * np.sqrt(2 / value.numel())
        assert float((value**2).mean()) == pytest.approx(expected[key], rel=tolerance)
        assert abs(float(value.mean())) < 4 * np.sqrt(expected[key] / value.numel())
    norm = float(torch.linalg.matrix_norm(model.recurrent().detach(), 2))
    assert norm == pytest.approx(2 * np.sqrt(2 * 0.08) if name == "over-parameterised" else 0.2, rel=0.03)


def test_seeds_and_relatives():
    a, b, c = (OverparameterizedDEQ(5, 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.W, b.W)
    assert not torch.equal(a.W, c.W)
    deq = rd.DEQ("tanh", 0.5, 0.5)
    module, regression = deq.to_torch(5, 8, 7), deq.to_regression(5, 8, 7)
    assert torch.equal(module.A, regression.features.A)
    assert torch.equal(module.B, regression.features.B)
    x = inputs(p=5).float()
    torch.testing.assert_close(regression(x), module(x) @ regression.v)


BAD = {
    "sigma_w2 too large": (lambda: OverparameterizedDEQ(5, 8, 0.125), "1/8"),
    "sigma_w2 negative": (lambda: OverparameterizedDEQ(5, 8, -0.1), "sigma_w2"),
    "read-out of zero": (lambda: OverparameterizedDEQ(5, 8, read_out_scale=0.0), "read_out_scale"),
    "gamma": (lambda: ImplicitReLU(5, 8, 0.6), "gamma"),
    "gamma NaN": (lambda: ImplicitReLU(5, 8, float("nan")), "gamma"),
    "no width": (lambda: ImplicitReLU(5, 0), "width"),
    "no features": (lambda: OverparameterizedDEQ(0, 5), "in_features"),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, match):
    with pytest.raises(rd.InvalidInputError, match=match):
        make()


def test_a_vector_is_no_batch():
    with pytest.raises(rd.InvalidInputError, match="one sample a row"):
        OverparameterizedDEQ(5, 8)(torch.ones(5))


def test_too_wide_is_an_error_before_the_memory_is_used(seconds):
    for kind in (OverparameterizedDEQ, ImplicitReLU):
        with seconds(1.0), pytest.raises(rd.MemoryLimitError, match="smaller width"):
            kind(5, 10**7)
