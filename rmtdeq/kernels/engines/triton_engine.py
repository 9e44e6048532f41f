"""Blocks of a kernel on a card by Triton, each output written once and on both sides of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.types import KINDS, Kind
from rmtdeq.kernels.blocks import Block, BlockWorker, Outputs, diagonal_entries
from rmtdeq.kernels.engines.torch_engine import DeviceWorker, TorchEngine, as_tensor
from rmtdeq.kernels.engines.torch_tables import DeviceSeries
from rmtdeq.kernels.engines.triton_tiles import solve_tiles
from rmtdeq.kernels.plan import Plan, weighted_sums
from rmtdeq.kernels.series import ARCSINE, CLOSED
from rmtdeq.network import INPUT, samples_alone

_TILE, _WARPS = 32, 4
"""Rows and columns of a tile, and warps that share it."""

_BLOCK = 8192
"""Side of a block on a card, of which nothing is kept but its inner products, with one layer."""

_MOST_STEPS = 60


class TritonEngine(TorchEngine):
    """Computes blocks by `triton_tiles.solve_tiles`, layer by layer; their inner products are the library's."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__(plan, device)
        if device.type != "cpu" and len(plan.layers) == 1:
            self.tile = (_BLOCK, _BLOCK)
        scales = self.scales
        shared = np.tile([2 / pi, sqrt(2 / pi), pi / 2, *ARCSINE], (len(plan.layers), 1))
        self.constants = self.tables.to(np.concatenate([scales.variances, scales.folds, shared], axis=1))

    def worker(self) -> BlockWorker:
        """Return what fills blocks."""
        return FusedWorker(self)


@dataclass(frozen=True, eq=False)
class _Target:
    """Tensors of one stride that have a kernel from some row and column on."""

    tensors: dict[Kind, Tensor]
    row: int
    column: int

    @property
    def some(self) -> Tensor:
        """One of them."""
        return next(iter(self.tensors.values()))


class FusedWorker(DeviceWorker):
    """Fills blocks on a card."""

    def __init__(self, engine: TritonEngine) -> None:
        super().__init__(engine)
        self._constants = engine.constants

    def _fill(self, block: Block, outputs: Outputs, origin: tuple[int, int], mirror: bool) -> None:
        targets = {kind: as_tensor(out) for kind, out in outputs.items()}
        if all(target.device == self._constants.device for target in targets.values()):
            self._fill_there(block, _Target(targets, *origin), below=mirror, mirror=mirror)
            return
        super()._fill(block, outputs, origin, mirror)

    def _tiles(self, block: Block, outputs: Outputs, mirror: bool) -> dict[Kind, Tensor]:
        device = self._constants.device
        tiles = {
            kind: torch.empty(block.shape, dtype=as_tensor(out).dtype, device=device) for kind, out in outputs.items()
        }
        self._fill_there(block, _Target(tiles, block.top, block.left), below=mirror, mirror=False)
        return tiles

    def _fill_there(self, block: Block, target: _Target, below: bool, mirror: bool) -> None:
        """Fill tensors on the device; `mirror` writes what is computed `below` the diagonal above it, too."""
        tables, outputs = self._tables, target.tensors
        gram = tables.gram(slice(block.top, block.bottom), slice(block.left, block.right))
        remaining, length = block.size, 0
        while remaining and (series := tables.series(length)) is not None:
            bad, remaining = self._through_launches(series, block, gram, target, below, mirror, length > 0)
            if bad:
                raise self._engine.no_contraction(bad)
            length += 1
        if remaining:
            self._fill_exactly(block, target, below, mirror)
        if self._plan.same and block.on_diagonal:
            part, values = diagonal_entries(self._plan, block, outputs)
            at = torch.arange(part.start, part.stop, device=tables.device)
            for kind, out in outputs.items():
                out[at - target.row, at - target.column] = tables.to(values[kind]).to(out.dtype)

    def _through_launches(
        self, series: DeviceSeries, block: Block, gram: Tensor, target: _Target, below: bool, mirror: bool, again: bool
    ) -> tuple[int, int]:
        """Compute what a series serves in all layers; return how many entries have no solution, and are left."""
        depth, device = len(self._plan.layers), self._tables.device
        counts = torch.zeros((depth, 2), dtype=torch.int32, device=device)
        under = dict.fromkeys(("ck", *target.tensors), gram)
        branches = self._engine.branches
        sources = self._plan.network.sources
        nodes = {INPUT: {kind: entries.double() for kind, entries in under.items()}} if branches is not None else {}
        for layer in range(depth):
            last = layer + 1 == depth and branches is None
            if last:
                into = target
            else:
                kept = {kind: torch.empty(block.shape, dtype=torch.float64, device=device) for kind in under}
                into = _Target(kept, block.top, block.left)
            if branches is not None:
                under = weighted_sums(nodes, sources[layer])
            self._launch(layer, series, block, under, into, target, below, mirror and last, again, counts[layer])
            under = into.tensors
            nodes[layer] = under
        found = counts.tolist()
        bad = sum(each for each, _ in found)
        if branches is None:
            return bad, found[-1][1]
        return bad, self._write(weighted_sums(nodes, sources[-1]), block, target, below, mirror, again)

    def _write(
        self, found: dict[Kind, Tensor], block: Block, target: _Target, below: bool, mirror: bool, again: bool
    ) -> int:
        """Write what branches come to, `again` where there is NaN alone; return how many entries stay so."""
        wanted, remaining = self._wanted(block, below), 0
        row, column = block.top - target.row, block.left - target.column
        for kind, out in target.tensors.items():
            part = out[row : row + block.shape[0], column : column + block.shape[1]]
            asked = torch.ones_like(part, dtype=torch.bool) if wanted is None else wanted
            asked = asked & part.isnan() if again else asked
            torch.where(asked, found[kind].to(part.dtype), part, out=part)
            remaining = int((asked & part.isnan()).sum())
            if mirror:
                a, b = asked.nonzero(as_tuple=True)
                out[b + block.left - target.row, a + block.top - target.column] = part[a, b]
        return remaining

    def _launch(
        self,
        layer: int,
        series: DeviceSeries,
        block: Block,
        under: dict[Kind, Tensor],
        into: _Target,
        target: _Target,
        below: bool,
        mirror: bool,
        again: bool,
        counts: Tensor,
    ) -> None:
        """Take a block through one layer."""
        tables, unused = self._tables, self._constants
        of_rows, of_columns = series.rows[layer], series.columns[layer]
        closed = of_rows is None or of_columns is None
        cutoffs = torch.full_like(series.cutoffs[layer], CLOSED) if closed else series.cutoffs[layer]
        gram = under["ck"]
        grid = -(-block.shape[0] // _TILE), -(-block.shape[1] // _TILE)
        solve_tiles[grid](
            gram, under.get("ntk", gram), under.get("ntk-full", gram), gram.stride(0),
            *(into.tensors.get(kind, unused) for kind in KINDS), into.some.stride(0), into.row, into.column,
            target.some, target.some.stride(0), target.row, target.column,
            unused if of_rows is None else of_rows, unused if of_columns is None else of_columns,
            *(each[layer] for each in tables.scales), *(each[layer] for each in tables.arguments),
            *self._plan.inputs.shape,
            series.degrees, cutoffs, len(series.degrees),
            self._constants[layer], counts,
            block.top, block.bottom, block.left, block.right,
            *(kind in into.tensors for kind in KINDS),
            closed=closed, first=samples_alone(self._plan.network.sources[layer]),
            same=self._plan.same, below=below, mirror=mirror, again=again,
            size=_TILE, most_steps=_MOST_STEPS, num_warps=_WARPS, enable_fp_fusion=True,
        )  # fmt: skip

    def _fill_exactly(self, block: Block, target: _Target, below: bool, mirror: bool) -> None:
        """Compute the entries that are still NaN."""
        row, column = block.top - target.row, block.left - target.column
        some = target.some[row : row + block.shape[0], column : column + block.shape[1]]
        wanted = self._wanted(block, below)
        missing = some.isnan() if wanted is None else some.isnan() & wanted
        for chunk, found in self._engine.exact_entries(block, missing.nonzero().cpu().numpy(), target.tensors):
            i, j = self._index(chunk[:, 0] + block.top), self._index(chunk[:, 1] + block.left)
            for kind, out in target.tensors.items():
                values = self._tables.to(found[kind]).to(out.dtype)
                out[i - target.row, j - target.column] = values
                if mirror:
                    out[j - target.row, i - target.column] = values
