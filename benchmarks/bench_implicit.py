"""Equilibrium and gradient of the implicit core against torchdeq, where that is installed: same layer and tolerance."""

import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import Solver

torchdeq = pytest.importorskip("torchdeq", reason="pip install torchdeq")

SIZES = {"small": (64, 100, 100), "middle": (200, 1000, 784), "large": (500, 2000, 784)}
THEIRS = {"iteration": "fixed_point_iter", "anderson": "anderson", "broyden": "broyden"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("method", THEIRS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("default")
def test_forward_and_backward_against_torchdeq(benchmark, paired, size, method, dtype):
    samples, width, inputs = SIZES[size]
    module = rd.DEQ("tanh", 0.2, 0.8).to_torch(inputs, width, 0, solver=Solver(method, method)).to(dtype)
    generator = torch.Generator().manual_seed(1)
    x = (torch.randn(samples, inputs, generator=generator) / inputs**0.5).to(dtype)
    weights = torch.randn(samples, width, generator=generator).to(dtype)
    tolerance = module.solver.tolerance_for(dtype)
    rival = torchdeq.get_deq(
        ift=True, f_solver=THEIRS[method], b_solver=THEIRS[method], f_max_iter=200, b_max_iter=200,
        f_tol=tolerance, b_tol=tolerance, f_stop_mode="rel", b_stop_mode="rel",
    ).train()  # fmt: skip

    def ours():
        module.zero_grad(set_to_none=True)
        (module(x) * weights).sum().backward()
        return module.A.grad

    def theirs():
        module.zero_grad(set_to_none=True)
        injected = module.injected(x)
        found, _ = rival(lambda z: module.step(z, *injected), torch.zeros(samples, width, dtype=dtype))
        (found[-1] * weights).sum().backward()
        return module.A.grad

    torch.testing.assert_close(ours(), theirs(), rtol=0, atol=100 * tolerance * float(theirs().abs().max()))
    ratio, seconds, their_seconds = paired(ours, theirs, rounds=9)
    benchmark.pedantic(ours, rounds=3)
    benchmark.extra_info["time / time of torchdeq"] = round(ratio, 2)
    print(
        f"\n{size}, {method}, {dtype}: {1e3 * seconds:.1f} ms, torchdeq {1e3 * their_seconds:.1f} ms, ratio {ratio:.2f}"
    )
