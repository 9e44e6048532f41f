"""Blocks of a kernel on a device, by torch; exact entries, of which there are few, come from the host."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._errors import MemoryLimitError
from rmtdeq._types import Kind
from rmtdeq.kernels.device.series import solve_some, solve_tile
from rmtdeq.kernels.fill import Block, Outputs, blocks, diagonal_entries, entry, exact_entries, no_contraction
from rmtdeq.kernels.plan import Plan

logger = logging.getLogger(__name__)

_SMALLEST = 64


class DeviceWorker:
    """Fills blocks on a device; the counterpart of `fill.Worker`, with outputs that are arrays or tensors anywhere."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._tables = plan, plan.tables

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = (0, 0), mirror: bool = False) -> None:
        """Compute a block of the kernels, see `fill.Worker.fill`; in parts, if the device has no room for all of it.

        Raises
        ------
        MemoryLimitError
            It has no room for the smallest part.
        """
        try:
            self._fill(block, outputs, origin, mirror)
            return
        except torch.OutOfMemoryError as error:
            height, width = (max(side // 2, min(side, _SMALLEST)) for side in block.shape)
            if (height, width) == block.shape:
                raise MemoryLimitError(
                    f"{self._tables.device} has no room for {height} x {width} entries: "
                    f"{str(error).splitlines()[0]} Free memory there, or compute on the CPU."
                ) from error
            logger.warning(
                "%s has no room for %d x %d entries at a time: taking %d x %d.",
                self._tables.device, *block.shape, height, width,
            )  # fmt: skip
        if self._tables.device.type == "cuda":
            torch.cuda.empty_cache()
        for part in blocks(*block.shape, (height, width)):
            top, left = block.top + part.top, block.left + part.left
            moved = Block(top, block.top + part.bottom, left, block.left + part.right)
            if not mirror or moved.left < moved.bottom:
                self.fill(moved, outputs, origin, mirror)

    def _fill(self, block: Block, outputs: Outputs, origin: tuple[int, int], mirror: bool) -> None:
        """Compute a block at once."""
        for kind, tile in self._tiles(block, outputs, mirror).items():
            write_tile(outputs[kind], tile, block, origin, mirror)

    def _tiles(self, block: Block, outputs: Outputs, mirror: bool) -> dict[Kind, Tensor]:
        """Return the kernels' entries; with `mirror` those on and below the diagonal."""
        plan, tables = self._plan, self._tables
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        gram, carried = (each.double() for each in tables.gram(rows, columns))
        wanted = self._wanted(block, mirror)
        x = plan.deq.sigma_b2 * gram
        if wanted is not None:
            x = torch.where(wanted, x, 0.0)
        value, slope, left = self._solve(block, x, wanted)
        derivative = slope * torch.outer(tables.scales[0][rows], tables.scales[1][columns])
        bad = (plan.deq.sigma_a2 * derivative >= 1).flatten()
        bad[left] = False
        if wanted is not None:
            bad &= wanted.flatten()
        if bool(bad.any()):
            raise no_contraction(plan, int(bad.sum()))
        tiles = {kind: entry(kind, plan.deq, value, derivative, carried) for kind in outputs}
        numbers = left.cpu().numpy()
        entries = np.stack([numbers // block.shape[1], numbers % block.shape[1]], axis=1)
        for chunk, found in exact_entries(plan, block, entries, tiles):
            for kind, values in found.items():
                tiles[kind][self._index(chunk[:, 0]), self._index(chunk[:, 1])] = tables.to(values)
        if plan.same and block.on_diagonal:
            part, on_diagonal = diagonal_entries(plan, block, tiles)
            at = torch.arange(part.start, part.stop, device=tables.device)
            for kind, tile in tiles.items():
                tile[at - block.top, at - block.left] = tables.to(on_diagonal[kind])
        return tiles

    def _index(self, numbers: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self._tables.device)

    def _wanted(self, block: Block, below: bool) -> Tensor | None:
        """Mask of the entries to compute: those off the diagonal, or `below` it; None if that is all of them."""
        if not self._plan.same or not (block.on_diagonal or (below and block.right > block.top)):
            return None
        i = torch.arange(block.top, block.bottom, device=self._tables.device)[:, None]
        j = torch.arange(block.left, block.right, device=self._tables.device)
        return j < i if below else j != i

    def _solve(self, block: Block, x: Tensor, wanted: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return value and slope of the series of all entries, and the numbers of those that no series served."""
        tables, a2 = self._tables, self._plan.deq.sigma_a2
        scales = tables.scales[0][block.top : block.bottom], tables.scales[1][block.left : block.right]
        left = torch.empty(0, dtype=torch.int64, device=tables.device)
        value = slope = x
        length = 0
        while (series := tables.series(length)) is not None:
            h_rows, h_columns, *_ = tables.coefficients(length)
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


def as_tensor(out: Any) -> Tensor:
    """Return an output as a tensor on the same memory."""
    return torch.from_numpy(out) if isinstance(out, np.ndarray) else out


def write_tile(out: Any, tile: Tensor, block: Block, origin: tuple[int, int], mirror: bool) -> None:
    """Write a tile to its place, and with `mirror` what lies below the diagonal on both sides of it."""
    target = as_tensor(out)
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
