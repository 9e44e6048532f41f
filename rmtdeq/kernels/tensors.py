"""Samples that are tensors: they stay where they are, and so does what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.kernels.samples import Samples, rounded_bits

_ROWS = 4096


@dataclass(frozen=True, eq=False)
class DeviceSamples(Samples):
    """The rows of tensors X (n, p) and Y (m, p) on one device; see `Samples`."""

    @property
    def array(self) -> FloatArray:
        """X as an array, which is a copy where it is not on the host."""
        return np.asarray(self.X.cpu().numpy())

    def astype(self, dtype: np.dtype[Any]) -> Samples:
        """Return the samples in another precision."""
        kind = getattr(torch, str(dtype))
        return replace(self, X=self.X.to(kind), Y=None if self.Y is None else self.Y.to(kind))

    def copy(self) -> Samples:
        """Return samples that nobody else can change."""
        return replace(self, X=self.X.clone(), Y=None if self.Y is None else self.Y.clone())

    def squared_norms(self) -> tuple[FloatArray, FloatArray]:
        """Of rows and columns."""
        rows = _squared_norms(self.X)
        return rows, rows if self.Y is None else _squared_norms(self.Y)

    def _rows(self, X: Tensor, index: IntArray) -> FloatArray:
        return np.asarray(X[torch.from_numpy(np.ascontiguousarray(index)).to(X.device)].double().cpu().numpy())


def _squared_norms(X: Tensor) -> FloatArray:
    if not len(X):
        return np.empty(0)
    return np.asarray(torch.cat([(rows.double() ** 2).sum(dim=1) for rows in torch.split(X, _ROWS)]).cpu().numpy())


def tensors_of(X: Any, Y: Any, dtype: np.dtype[Any] | None, products: str, device: torch.device) -> DeviceSamples:
    """Check samples, of which X is a tensor, on a device; see `samples.samples_of`."""
    rows = checked(X, "X", device, dtype, products)
    kind = np.dtype(str(rows.dtype).removeprefix("torch."))
    return DeviceSamples(rows, None if Y is None else checked(Y, "Y", device, kind, products), products)


def checked(X: Any, name: str, device: torch.device, dtype: np.dtype[Any] | None, products: str) -> Tensor:
    """Return samples, a tensor or not, on a device; float32 or float64 as asked for, or as they are.

    Raises
    ------
    InvalidInputError
        As for `check.samples`.
    """
    found: Tensor = check.samples_on(device, X, name)
    if dtype is not None:
        found = found.to(getattr(torch, str(dtype)))
    if products != "full":
        found = rounded_bits(found.contiguous().view(torch.int32), products).view(torch.float32)
    return found.contiguous()
