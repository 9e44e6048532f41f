"""What a device holds of a plan, and what it has room for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import MemoryLimitError
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.series import Branches, Scales, SeriesBank

_SHARE = 0.8
"""Of a device's free memory so much may be taken by results; the rest is for tiles."""


def free_memory(device: torch.device) -> float:
    """Return the bytes that can be had on a device; on the host nine tenths of what is free."""
    if device.type == "cuda":
        # What torch has had before and keeps for the next tensor is free for it.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return _SHARE * (torch.cuda.mem_get_info(device)[0] + kept)
    return check.memory_allowed(None)[0] if device.type == "cpu" else float("inf")


@dataclass(frozen=True, eq=False)
class DeviceSeries:
    """The series of all layers up to some degree, on a device.

    Attributes
    ----------
    rows, columns : list of Tensor (degree + 1, n), (degree + 1, m), or None
        Hermite coefficients of a layer; None where it has a closed form.
    degrees : Tensor (tiers,)
    cutoffs : Tensor (layers, tiers)
    """

    rows: list[Tensor | None]
    columns: list[Tensor | None]
    degrees: Tensor
    cutoffs: Tensor


class DeviceTables:
    """What a device holds of a plan, as tensors, moved there when first used.

    Parameters
    ----------
    plan : Plan
    series : SeriesBank
    scales : Scales
    branches : Branches or None
    device : torch.device
    """

    def __init__(
        self, plan: Plan, series: SeriesBank, scales: Scales, branches: Branches | None, device: torch.device
    ) -> None:
        self._plan, self._series, self._scales, self._branches, self.device = plan, series, scales, branches, device
        self._moved: list[DeviceSeries] = []

    def to(self, array: FloatArray | IntArray | Tensor) -> Tensor:
        """Return an array as a contiguous tensor there."""
        if isinstance(array, Tensor):
            return array.to(self.device).contiguous()
        there = torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)
        return there.clone() if self.device.type == "cpu" else there

    def _both(self, of_rows: Any, of_columns: Any) -> tuple[Tensor, Tensor]:
        """Return what there is of rows and of columns, once where these are the same samples."""
        rows = self.to(of_rows)
        return rows, rows if self._plan.same else self.to(of_columns)

    @cached_property
    def samples(self) -> tuple[Tensor, Tensor]:
        """Those of rows and columns."""
        inputs = self._plan.inputs
        try:
            return self._both(inputs.X, inputs.Y)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"The samples do not fit on {self.device}: {str(error).splitlines()[0]} Free memory there, or compute "
                "on the CPU."
            ) from error

    @cached_property
    def scales(self) -> tuple[Tensor, Tensor]:
        """Scales σ of rows and columns, (layers, ·)."""
        return self._both(self._scales.rows, self._scales.columns)

    @cached_property
    def arguments(self) -> tuple[Tensor, Tensor]:
        """Scales of what φ is given, of rows and columns, (layers, ·)."""
        return self._both(self._scales.row_arguments, self._scales.column_arguments)

    @cached_property
    def nodes(self) -> tuple[Tensor, Tensor]:
        """Norms of samples and features of rows and columns, (layers + 1, ·)."""
        assert self._branches is not None
        return self._both(self._branches.row_sizes, self._branches.column_sizes)

    @cached_property
    def sizes(self) -> tuple[Tensor, Tensor]:
        """√E φ² of rows and columns, (layers, ·)."""
        return self._both(self._scales.row_sizes, self._scales.column_sizes)

    @cached_property
    def inverse_scales(self) -> tuple[Tensor, Tensor]:
        """1/σ of rows and columns, zero where σ is zero, (layers, ·)."""
        rows, columns = (torch.where(each > 0, 1 / each, 0.0) for each in self.scales)
        return rows, columns

    def gram(self, rows: slice, columns: slice) -> Tensor:
        """Return inner products of rows and columns."""
        left, right = self.samples
        with _products_of(self._plan.inputs.products, self.device):
            return left[rows] @ right[columns].T

    def series(self, length: int) -> DeviceSeries | None:
        """Return the series number `length`, of which those before have been asked for; None if there is none."""
        if length == len(self._moved):
            series = self._series(length)
            if series is None:
                return None
            rows: list[Tensor | None] = []
            columns: list[Tensor | None] = []
            for slot in series.slots:
                columns.append(None if slot < 0 else self.to(series.columns[slot]))
                rows.append(columns[-1] if slot < 0 or self._plan.same else self.to(series.rows[slot].T))
            degrees = self.to(series.degrees).to(torch.int32)
            self._moved.append(DeviceSeries(rows, columns, degrees, self.to(series.cutoffs)))
        return self._moved[length]


@contextmanager
def _products_of(precision: str, device: torch.device) -> Iterator[None]:
    """Make float32 products in their own precision, whatever the caller allows elsewhere (TF32, autocast).

    Samples that have been rounded to TF32 or bfloat16 lose nothing by TF32 products.
    """
    allowed = torch.get_float32_matmul_precision()
    # On a CPU "high" may mean sums of bfloat16.
    tensor_cores = precision != "full" and device.type == "cuda"
    torch.set_float32_matmul_precision("high" if tensor_cores else "highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)
