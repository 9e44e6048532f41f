"""The convolutional positive concave DEQ on MNIST, trained on one CPU core in under two hours.

    RMTDEQ_DATA=FOLDER python scripts/pcdeq_conv_on_cpu.py --checkpoint scratch

A GPU trains it in minutes by ``rmtdeq train classifier --model pcdeq-conv``.  Without one, three things save time:
products in bfloat16, for which recent CPUs have instructions; a few steps only, from the mean state of the batches
before, which leave half a per cent of the equilibrium; and as few for the gradient.  The rate is constant, and
falls to zero over the last epochs.  The accuracy printed in the end is that of the layer itself: single
precision, the usual tolerance.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rmtdeq as rd
from rmtdeq.models import pcdeq

HALF, LAST = torch.bfloat16, torch.channels_last
WARM_UP, BATCH = 200, 64


class FewSteps(torch.autograd.Function):
    """Some steps of z = relu6(W * z + x) from a start, and as many for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, mean: Tensor, steps: int) -> Tensor:
        """Return the state after the steps, and one more that the gradient is taken at."""
        half = weight.to(HALF).contiguous(memory_format=LAST)
        z = (x + (weight.sum((2, 3)) @ mean).to(HALF).view(1, -1, 1, 1)).clamp_(0, 6)
        for _ in range(steps):
            z = F.conv2d(z, half, padding=1).add_(x).clamp_(0, 6)
        u = F.conv2d(z, half, padding=1).add_(x)
        ctx.steps = steps
        ctx.save_for_backward(z, ((u > 0) & (u < 6)).to(HALF), weight)
        return u.clamp_(0, 6)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients in x and the weight."""
        z, slope, weight = ctx.saved_tensors
        # The transposed convolution as a convolution, which is faster.
        turned = weight.flip(2, 3).transpose(0, 1).to(HALF).contiguous(memory_format=LAST)
        first = gradient.contiguous(memory_format=LAST) * slope
        g = first
        for _ in range(ctx.steps):
            g = F.conv2d(g, turned, padding=1).mul_(slope).add_(first)
        return g, nn.grad.conv2d_weight(z, weight.shape, g, padding=1).float(), None, None


class Half(nn.Module):
    """The network of `conv_network`, its parameters in single precision, its products in bfloat16."""

    def __init__(self, net: nn.Sequential, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net.to(memory_format=LAST), steps
        self.register_buffer("mean", torch.zeros(net[2].channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (N, 1, height, width)."""
        convolution, before, layer, after, pool, flat, linear = self.net
        u = before(F.conv2d(images.to(HALF), convolution.weight.to(HALF), convolution.bias.to(HALF), padding=1))
        z = FewSteps.apply(F.softplus(u, beta=5.0), layer.weight(), self.mean, self.steps)
        if self.training:
            new = z.detach().mean((0, 2, 3), dtype=torch.float32)
            self.mean = 0.9 * self.mean + 0.1 * new if self.mean.any() else new
        return linear(flat(pool(after(z))).float())


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    pairs = zip(images.split(250), labels.split(250), strict=True)
    return sum(int((model(part).argmax(dim=1) == of).sum()) for part, of in pairs) / len(labels)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--decay", type=int, default=9, help="of these with a falling rate (default 9)")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--steps", type=int, default=4, help="of the layer (default 4)")
    parser.add_argument("--n", type=int, help="training images (default all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="folder from which the same command goes on")
    parser.add_argument("--out", type=Path, help="file for the trained weights, a state dict of torch")
    options = parser.parse_args()
    X, y, held = rd.load_classification("mnist", n=options.n)
    images, labels, test, test_labels = (torch.from_numpy(each) for each in (X, y, *held))
    net = pcdeq.conv_network(activation="relu6", seed=options.seed)
    model = Half(net, options.steps)
    count = len(images) // BATCH
    start, end = (options.epochs - options.decay) * count, options.epochs * count
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / WARM_UP, (end - i) / (end - start) if options.decay else 1.0)
    )
    generator = torch.Generator().manual_seed(options.seed)
    kept = None if options.checkpoint is None else options.checkpoint / "pcdeq-conv.pt"
    done = 0
    if kept is not None and kept.exists():
        state = torch.load(kept)
        done = state["epoch"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
    for epoch in range(done + 1, options.epochs + 1):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator)[: count * BATCH].split(BATCH):
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}: loss {total / count:.4f}, test accuracy {accuracy(model, test, test_labels):.4f}",
            flush=True,
        )
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(".new")
            state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "schedule": schedule.state_dict(), "generator": generator.get_state()}, beside)
            os.replace(beside, kept)
    print(f"in single precision, equilibria to 1e-4: test accuracy {accuracy(net, test, test_labels):.4f}")
    if options.out is not None:
        torch.save(net.state_dict(), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
