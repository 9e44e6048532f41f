"""Blocks of a kernel on a card by Triton, each output written once and on both sides of the diagonal."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rmtdeq._types import KINDS, Kind
from rmtdeq.kernels.device.triton_tiles import solve_tiles
from rmtdeq.kernels.device.worker import DeviceWorker, as_tensor
from rmtdeq.kernels.fill import Block, Outputs, diagonal_entries, exact_entries, no_contraction
from rmtdeq.kernels.plan import Plan

_TILE, _WARPS = 32, 4
"""Rows and columns of a tile, and warps that share it."""

_MOST_STEPS = 60


class FusedWorker(DeviceWorker):
    """Fills blocks by `triton_tiles.solve_tiles`; their inner products are the library's."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._constants = self._tables.to(np.array([plan.deq.sigma_a2, plan.deq.sigma_b2]))

    def _fill(self, block: Block, outputs: Outputs, origin: tuple[int, int], mirror: bool) -> None:
        targets = {kind: as_tensor(out) for kind, out in outputs.items()}
        if all(target.device == self._constants.device for target in targets.values()):
            self._fill_there(block, targets, origin, below=mirror, mirror=mirror)
            return
        super()._fill(block, outputs, origin, mirror)

    def _tiles(self, block: Block, outputs: Outputs, mirror: bool) -> dict[Kind, Tensor]:
        device = self._constants.device
        tiles = {
            kind: torch.empty(block.shape, dtype=as_tensor(out).dtype, device=device) for kind, out in outputs.items()
        }
        self._fill_there(block, tiles, (block.top, block.left), below=mirror, mirror=False)
        return tiles

    def _fill_there(
        self, block: Block, outputs: dict[Kind, Tensor], origin: tuple[int, int], below: bool, mirror: bool
    ) -> None:
        """Fill tensors on the device; `mirror` writes what is computed `below` the diagonal above it, too."""
        plan, tables = self._plan, self._tables
        gram, carried = tables.gram(slice(block.top, block.bottom), slice(block.left, block.right))
        remaining, length = block.size, 0
        while remaining and tables.series(length) is not None:
            bad, remaining = self._launch(length, block, gram, carried, outputs, origin, below, mirror)
            if bad:
                raise no_contraction(plan, bad)
            length += 1
        if remaining:
            self._fill_exactly(block, outputs, origin, below, mirror)
        if plan.same and block.on_diagonal:
            part, values = diagonal_entries(plan, block, outputs)
            at = torch.arange(part.start, part.stop, device=tables.device)
            for kind, out in outputs.items():
                out[at - origin[0], at - origin[1]] = tables.to(values[kind]).to(out.dtype)

    def _launch(
        self,
        length: int,
        block: Block,
        gram: Tensor,
        carried: Tensor,
        outputs: dict[Kind, Tensor],
        origin: tuple[int, int],
        below: bool,
        mirror: bool,
    ) -> tuple[int, int]:
        """Compute what the series number `length` serves; return how many entries have no solution, and are left."""
        plan, tables, unused = self._plan, self._tables, self._constants
        of_rows, of_columns, degrees, cutoffs = tables.coefficients(length)
        counts = torch.zeros(2, dtype=torch.int32, device=tables.device)
        some = next(iter(outputs.values()))
        grid = -(-block.shape[0] // _TILE), -(-block.shape[1] // _TILE)
        solve_tiles[grid](
            gram, carried, gram.stride(0), carried.stride(0),
            *(outputs.get(kind, unused) for kind in KINDS), some.stride(0), *origin,
            of_rows, of_columns, *tables.scales, of_rows.shape[1], of_columns.shape[1],
            degrees, cutoffs, len(degrees),
            self._constants, counts,
            block.top, block.bottom, block.left, block.right,
            *(kind in outputs for kind in KINDS),
            carries=carried is not gram, same=plan.same, below=below, mirror=mirror, again=length > 0,
            size=_TILE, most_steps=_MOST_STEPS, num_warps=_WARPS, enable_fp_fusion=True,
        )  # fmt: skip
        bad, remaining = counts.tolist()
        return bad, remaining

    def _fill_exactly(
        self, block: Block, outputs: dict[Kind, Tensor], origin: tuple[int, int], below: bool, mirror: bool
    ) -> None:
        """Compute the entries that are still NaN."""
        row, column = block.top - origin[0], block.left - origin[1]
        some = next(iter(outputs.values()))[row : row + block.shape[0], column : column + block.shape[1]]
        wanted = self._wanted(block, below)
        missing = some.isnan() if wanted is None else some.isnan() & wanted
        for chunk, found in exact_entries(self._plan, block, missing.nonzero().cpu().numpy(), outputs):
            i, j = self._index(chunk[:, 0] + block.top), self._index(chunk[:, 1] + block.left)
            for kind, out in outputs.items():
                values = self._tables.to(found[kind]).to(out.dtype)
                out[i - origin[0], j - origin[1]] = values
                if mirror:
                    out[j - origin[0], i - origin[1]] = values
