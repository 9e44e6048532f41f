"""The designed network: how long it takes to find, and how much faster it runs than the equilibrium."""

import pytest
import torch

import rmtdeq as rd

WIDTH, BATCH, INPUTS = 4096, 1000, 784


@pytest.mark.parametrize("kind", ["ck", "ntk"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "swish"])
def test_finding_a_network(benchmark, activation, kind):
    benchmark.pedantic(lambda: rd.design(rd.DEQ(activation, 0.2, 0.8), 1.0, kind), rounds=3, warmup_rounds=1)
    print(f"\ndesign for {activation}, {kind}: {benchmark.stats.stats.median:.2f} s")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_forward_pass_against_the_equilibrium(benchmark, paired, activation):
    deq = rd.DEQ(activation, 0.2, 0.8)
    equilibrium = deq.to_torch(INPUTS, WIDTH, seed=0)
    designed = rd.design(deq, 1.0).to_torch(INPUTS, WIDTH, seed=0)
    x = torch.randn(BATCH, INPUTS, generator=torch.Generator().manual_seed(0)) / INPUTS**0.5
    with torch.no_grad():
        ratio, slow, fast = paired(lambda: equilibrium(x), lambda: designed(x), rounds=5)
        benchmark.pedantic(lambda: designed(x), rounds=3)
    benchmark.extra_info["times faster than the equilibrium"] = round(ratio, 1)
    steps = int(equilibrium.solve(x).iterations.max())
    print(f"\n{activation}: equilibrium {slow:.2f} s ({steps} iterations), designed {fast:.3f} s, ratio {ratio:.1f}")
