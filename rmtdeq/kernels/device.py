"""Blocks of a kernel on a device, by torch; exact entries, of which there are few, come from the host."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq import _check
from rmtdeq._errors import MemoryLimitError
from rmtdeq._types import FloatArray, Kind
from rmtdeq.kernels.fill import Block, Outputs, entry, exact_entries, no_contraction
from rmtdeq.kernels.inputs import LayerBefore, Samples
from rmtdeq.kernels.plan import Plan, Series
from rmtdeq.kernels.series import solve_some, solve_tile

logger = logging.getLogger(__name__)

_SHARE = 0.8
"""Of a device's free memory so much may be taken by results; the rest is for tiles."""


def device_outputs(
    kinds: Sequence[Kind],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    device: torch.device,
    memory_limit: float | None,
) -> dict[Kind, Tensor]:
    """Return tensors for the results: on the device, or on the host where they do not fit there.

    Raises
    ------
    MemoryLimitError
        They fit nowhere.
    """
    size = len(kinds) * shape[0] * shape[1] * dtype.itemsize
    kind = getattr(torch, str(dtype))
    what = f"The result, {len(kinds)} kernel(s) of {shape[0]} x {shape[1]} entries,"
    try:
        if device.type == "cpu":
            raise MemoryLimitError("The host is the device.")
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        _check.memory(size, min(_SHARE * free, memory_limit or float("inf")), what, "")
        return {name: torch.empty(shape, dtype=kind, device=device) for name in kinds}
    except (MemoryLimitError, torch.OutOfMemoryError):
        remedy = "use kernel_operator(X, deq, kind), which never stores the matrix, or pass memory maps as out="
        _check.memory(size, memory_limit, what, remedy)
        if device.type != "cpu":
            logger.warning("%s do not fit on %s: they are kept on the host, a tile at a time.", what, device)
        return {name: torch.empty(shape, dtype=kind) for name in kinds}


class DeviceTables:
    """What a plan knows of rows and columns, as tensors.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self.device = plan, plan.device
        self._series: list[tuple[Tensor, Tensor]] = []

    def to(self, array: FloatArray) -> Tensor:
        """Return an array as a tensor there."""
        return torch.tensor(array, device=self.device)

    @cached_property
    def products(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Samples of rows and columns and None; or the Gram matrix before, twice, and the tangent kernel."""
        inputs = self._plan.inputs
        if isinstance(inputs, Samples):
            X = self.to(inputs.X)
            return X, X if inputs.Y is None else self.to(inputs.Y), None
        gram = self.to(inputs.gram)
        return gram, gram, None if inputs.tangent is None else self.to(inputs.tangent)

    @cached_property
    def scales(self) -> tuple[Tensor, Tensor]:
        """1/σ of rows and columns, zero where σ is zero."""
        rows = self.to(_reciprocal(self._plan.rows.sigma))
        return rows, rows if self._plan.same else self.to(_reciprocal(self._plan.columns.sigma))

    def gram(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Return inner products of rows and columns, and what the tangent carries, in double precision."""
        left, right, tangent = self.products
        if isinstance(self._plan.inputs, LayerBefore):
            gram = left[rows, columns].double()
            return gram, gram if tangent is None else tangent[rows, columns].double()
        with _exact_products(self.device):
            gram = (left[rows] @ right[columns].T).double()
        return gram, gram

    def series(self, length: int) -> tuple[Series, Tensor, Tensor] | None:
        """Return the plan's series number `length` with its coefficients of rows and columns, (degree + 1, ·)."""
        series = self._plan.series(length)
        if series is None:
            return None
        if length == len(self._series):
            rows = self.to(series.hermite_x.T)
            self._series.append((rows, rows if self._plan.same else self.to(series.hermite_y)))
        return series, *self._series[length]


@contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Keep products in their own precision, whatever the caller allows elsewhere (TF32, bfloat16, autocast)."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _reciprocal(sigma: FloatArray) -> FloatArray:
    return np.divide(1.0, sigma, out=np.zeros_like(sigma), where=sigma > 0)


class DeviceWorker:
    """Fills blocks on a device; the counterpart of `fill.Worker`, with outputs that are arrays or tensors anywhere."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._tables = plan, plan.tables

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = (0, 0), mirror: bool = False) -> None:
        """Compute a block of the kernels; see `fill.Worker.fill`."""
        plan, tables = self._plan, self._tables
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        gram, carried = tables.gram(rows, columns)
        i = torch.arange(block.top, block.bottom, device=tables.device)[:, None]
        j = torch.arange(block.left, block.right, device=tables.device)
        wanted = j < i if mirror else (j != i if plan.same else None)
        x = plan.deq.sigma_b2 * gram
        if wanted is not None and block.right > block.top:
            x = torch.where(wanted, x, 0.0)
        value, slope, left = self._solve(block, x, wanted)
        inverse_scale = torch.outer(tables.scales[0][rows], tables.scales[1][columns])
        derivative = slope * inverse_scale
        bad = (plan.deq.sigma_a2 * derivative >= 1).flatten()
        bad[left] = False
        if wanted is not None:
            bad &= wanted.flatten()
        if bool(bad.any()):
            raise no_contraction(plan, int(bad.sum()))
        tiles = {kind: entry(kind, plan.deq, value, derivative, carried) for kind in outputs}
        self._fill_exactly(block, tiles, left)
        if plan.same and block.right > block.top and block.left < block.bottom:
            self._fill_diagonal(block, tiles)
        for kind, tile in tiles.items():
            _write(outputs[kind], tile, block, origin, mirror)

    def _solve(self, block: Block, x: Tensor, wanted: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return value and slope of the series of all entries, and the numbers of those that no series served."""
        tables, a2 = self._tables, self._plan.deq.sigma_a2
        scales = tables.scales[0][block.top : block.bottom], tables.scales[1][block.left : block.right]
        left = torch.empty(0, dtype=torch.int64, device=tables.device)
        value = slope = x
        length = 0
        while (found := tables.series(length)) is not None:
            series, h_rows, h_columns = found
            of_rows, of_columns = h_rows[:, block.top : block.bottom], h_columns[:, block.left : block.right]
            degrees, cutoffs = series.degrees.tolist(), series.cutoffs.tolist()
            if length == 0:
                solved = solve_tile(x, of_rows, of_columns, *scales, a2, degrees, cutoffs)
                value, slope = solved.value, solved.slope
                beyond = solved.r.abs() > cutoffs[-1]
                left = (beyond if wanted is None else beyond & wanted).flatten().nonzero().squeeze(1)
            else:
                remaining = []
                for part, solved in solve_some(x, left, of_rows, of_columns, *scales, a2, degrees, cutoffs):
                    value.view(-1)[part], slope.view(-1)[part] = solved.value, solved.slope
                    remaining.append(part[solved.r.abs() > cutoffs[-1]])
                left = torch.cat(remaining)
            if not len(left):
                break
            length += 1
        return value, slope, left

    def _fill_exactly(self, block: Block, tiles: dict[Kind, Tensor], left: Tensor) -> None:
        """Write the entries that no series served."""
        if not len(left):
            return
        numbers = left.cpu().numpy()
        entries = np.stack([numbers // block.shape[1], numbers % block.shape[1]], axis=1)
        done = 0
        for chunk, found in exact_entries(self._plan, block, entries, tiles):
            part = left[done : done + len(chunk)]
            for kind, values in found.items():
                tiles[kind].view(-1)[part] = self._tables.to(values)
            done += len(chunk)

    def _fill_diagonal(self, block: Block, tiles: dict[Kind, Tensor]) -> None:
        first, last = max(block.top, block.left), min(block.bottom, block.right)
        part, rows, device = slice(first, last), self._plan.rows, self._tables.device
        carried = self._plan.inputs.carried_diagonal(part)
        at = torch.arange(first, last, device=device)
        for kind, tile in tiles.items():
            values = entry(kind, self._plan.deq, rows.square[part], rows.slope_square[part], carried)
            tile[at - block.top, at - block.left] = self._tables.to(values)


def _write(out: Any, tile: Tensor, block: Block, origin: tuple[int, int], mirror: bool) -> None:
    """Write a tile to its place, and with `mirror` what lies below the diagonal on both sides of it."""
    target = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
    row, column = block.top - origin[0], block.left - origin[1]
    if not mirror:
        target[row : row + tile.shape[0], column : column + tile.shape[1]] = tile
        return
    below = max(0, min(block.right, block.top) - block.left)  # columns wholly below the diagonal
    part = tile[:, :below]
    target[row : row + part.shape[0], column : column + below] = part
    down, across = block.left - origin[0], block.top - origin[1]
    target[down : down + below, across : across + part.shape[0]] = part.T
    beyond = torch.arange(block.left + below, block.right, device=tile.device)
    a, b = (beyond <= torch.arange(block.top, block.bottom, device=tile.device)[:, None]).nonzero(as_tuple=True)
    values = tile[a, b + below].to(target)
    a, b = (a + block.top).to(target.device), (b + block.left + below).to(target.device)
    target[a - origin[0], b - origin[1]] = values
    target[b - origin[0], a - origin[1]] = values
