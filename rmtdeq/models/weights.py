"""Gaussian weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TypeVar

import torch
from torch import Tensor, nn

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed

Network = TypeVar("Network", bound=nn.Module)

_SEEDS = 2**63 - 1


def torch_generator(seed: Seed) -> torch.Generator:
    """Return a torch generator that `seed` determines and that no other random number depends on."""
    return torch.Generator().manual_seed(int(check.generator(seed).integers(_SEEDS)))


def gaussian(shapes: Sequence[tuple[int, ...]], generator: torch.Generator) -> list[Tensor]:
    """Draw matrices of independent N(0, 1) entries of torch's default precision.

    Raises
    ------
    MemoryLimitError
        They do not fit into memory.
    """
    size = torch.empty(0).element_size()
    sizes = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
    check.memory(sum(map(prod, shapes)) * size, None, f"Weights of {sizes}", "take a smaller width")
    return [torch.randn(shape, generator=generator) for shape in shapes]


def orthogonal(weight: Tensor) -> Tensor:
    """Return √m times the orthogonal factor of a Gaussian (m, m): of Haar measure."""
    q, r = torch.linalg.qr(weight)
    return q * (weight.shape[0] ** 0.5 * torch.sgn(r.diagonal()))


def on_device(module: Network, device: str, precision: str) -> Network:
    """Move a module to a device and a precision.

    Raises
    ------
    InvalidInputError
        torch does not know the device, or has none.
    """
    try:
        return module.to(device=torch.device(device), dtype=getattr(torch, precision))
    except (RuntimeError, AssertionError) as error:
        raise InvalidInputError(f"The device {device!r} cannot be used: {error}") from error


@contextmanager
def seeded(seed: Seed) -> Iterator[None]:
    """Let torch's own initialisations draw what `seed` determines; its random numbers then go on as if never asked."""
    first = int(check.generator(seed).integers(_SEEDS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(first)
        yield
