"""Positive concave layers against the loop that their paper describes, written plainly, with the same weights."""

import pytest
import torch
from torch.nn import functional as F

from rmtdeq.models.pcdeq import PcDEQConv2d, PcDEQLinear

CASES = {
    "linear 80": (lambda name: PcDEQLinear(80, name, seed=0), (64, 80), 50),
    "conv 12 on 28 x 28": (lambda name: PcDEQConv2d(12, name, seed=0), (64, 12, 28, 28), 3),
    "conv 48 on 7 x 7": (lambda name: PcDEQConv2d(48, name, seed=0), (64, 48, 7, 7), 5),
    "conv 82 on 28 x 28": (lambda name: PcDEQConv2d(82, name, seed=0), (64, 82, 28, 28), 1),
}
"""The layer, the shape of its inputs, and how often a step is repeated for one timing."""


class PlainLoop(torch.nn.Module):
    """Iteration from zero, and a hook that iterates with products by automatic differentiation."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def step(self, weight, z, x):
        applied = F.conv2d(z, weight, padding=1) if weight.dim() == 4 else F.linear(z, weight)
        return self.layer.activation.function(applied + x)

    @staticmethod
    def iterate(step, z):
        for _ in range(200):
            new = step(z)
            change = float((new - z).norm() / (new.norm() + 1e-5))
            z = new
            if change < 1e-4:
                break
        return z

    def forward(self, h):
        x = F.softplus(h, beta=5) if self.layer.activation.kind == 1 else F.relu(h)
        weight = self.layer.recurrent.weight
        with torch.no_grad():
            z = self.iterate(lambda z: self.step(weight, z, x), torch.zeros_like(x))
        z = self.step(weight, z, x)
        at = z.detach().clone().requires_grad_()
        image = self.step(weight, at, x)
        z.register_hook(
            lambda b: self.iterate(
                lambda g: torch.autograd.grad(image, at, g, retain_graph=True)[0] + b, torch.zeros_like(b)
            )
        )
        return z


@pytest.mark.parametrize("name", ["tanh", "softsign", "relu6", "sigmoid"])
@pytest.mark.parametrize("case", CASES)
def test_forward_and_backward_against_the_plain_loop(benchmark, paired, case, name):
    make, shape, repeats = CASES[case]
    layer = make(name)
    with torch.no_grad():  # weights of the size that training gives them
        weight = torch.rand(layer.recurrent.weight.shape, generator=torch.Generator().manual_seed(1))
        layer.recurrent.weight = 2 * weight / weight.flatten(1).sum(dim=1).max()
    generator = torch.Generator().manual_seed(2)
    x, pull = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    plain = PlainLoop(layer)

    def step(module):
        layer.zero_grad(set_to_none=True)
        (module(x) * pull).sum().backward()
        return layer.recurrent.parametrizations.weight.original1.grad

    # The slope of relu6 jumps: entries within the tolerance of the kink fall on either side of it.
    agree = 1e-2 if name == "relu6" else 1e-3
    torch.testing.assert_close(step(layer), step(plain), rtol=0, atol=agree * float(step(plain).abs().max()))
    with torch.no_grad():
        (injected,), held = layer.injected(x), layer.weight()

    @torch.no_grad()
    def certify():
        return layer._certificate(held, injected, 1, None)

    def times(call):
        def repeated():
            for _ in range(repeats):
                call()

        return repeated

    ratio, seconds, theirs = paired(times(lambda: step(layer)), times(lambda: step(plain)), rounds=9)
    share, _, _ = paired(times(certify), times(lambda: step(layer)), rounds=5)
    benchmark.pedantic(lambda: step(layer), rounds=3)
    benchmark.extra_info.update({"time / time of the plain loop": ratio, "certificate / step": share})
    print(
        f"\n{case}, {name}: {1e3 * seconds / repeats:.2f} ms, plain {1e3 * theirs / repeats:.2f} ms, "
        f"ratio {ratio:.2f}, certificate {100 * share:.1f} %"
    )
