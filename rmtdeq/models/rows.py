"""Norms of the rows of a tensor (N, …), each of which is a problem of its own, of a size of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of small computations on rows: float32 for half precisions, and else that of the rows."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def quick_norms(x: Tensor) -> Tensor:
    """Return the Euclidean norm of every row, (N,), where squares of its entries neither under- nor overflow."""
    wide = torch.float32 if x.dtype.itemsize < 4 else None
    if x.dim() == 2:
        return torch.linalg.vector_norm(x, dim=1, dtype=wide)
    # All dimensions but the first at once: `flatten` copies images whose channels come last.
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), dtype=wide)


def row_norms(x: Tensor) -> Tensor:
    """Return the Euclidean norm of every row, (N,), of entries of any size."""
    norms = quick_norms(x)
    limits = torch.finfo(norms.dtype)
    low, high = limits.tiny**0.5 / limits.eps, limits.max**0.5
    if not norms.numel() or all(low < float(each) < high for each in torch.aminmax(norms)):
        return norms
    others = (~((norms > low) & (norms < high))).nonzero().squeeze(1)
    flat = x[others].flatten(1).to(norms.dtype)
    largest = flat.abs().amax(dim=1) if flat.shape[1] else norms[others]
    scale = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
    return norms.index_put((others,), quick_norms(flat / scale[:, None]) * scale)


def unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of x (N, D) divided by their norms, and these; rows of zeros stay zeros."""
    norms = row_norms(x)
    return x / norms.clamp_min(torch.finfo(x.dtype).tiny)[:, None], norms
