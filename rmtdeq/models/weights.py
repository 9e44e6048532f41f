"""Gaussian weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from rmtdeq import _check
from rmtdeq._types import Seed

_SEEDS = 2**63 - 1


def torch_generator(seed: Seed) -> torch.Generator:
    """Return a torch generator that `seed` determines and that no other random number depends on."""
    return torch.Generator().manual_seed(int(_check.generator(seed).integers(_SEEDS)))


def gaussian(shapes: Sequence[tuple[int, ...]], generator: torch.Generator) -> list[Tensor]:
    """Draw matrices of independent N(0, 1) entries of torch's default precision.

    Raises
    ------
    MemoryLimitError
        They do not fit into memory.
    """
    size = torch.empty(0).element_size()
    sizes = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
    _check.memory(sum(map(prod, shapes)) * size, None, f"Weights of {sizes}", "take a smaller width")
    return [torch.randn(shape, generator=generator) for shape in shapes]
