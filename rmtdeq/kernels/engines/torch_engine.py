"""Blocks of a kernel on a device, by torch; exact entries, of which there are few, come from the host."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.errors import MemoryLimitError
from rmtdeq._lib.types import Kind
from rmtdeq.kernels.blocks import Block, BlockWorker, Engine, Outputs, blocks, diagonal_entries
from rmtdeq.kernels.branches import Node, side_by_side
from rmtdeq.kernels.engines.torch_series import fold_tile, solve_some, solve_tile, versine_of_features
from rmtdeq.kernels.engines.torch_tables import DeviceTables
from rmtdeq.kernels.pairs import entry
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.series import CLOSED

logger = logging.getLogger(__name__)

_SMALLEST = 64

_HOST_TILE, _DEVICE_TILE = 512, 4096
"""Sides of the blocks that torch is given on the host and on a card, which waits for Python between blocks (half a
millisecond each on an H100)."""


class TorchEngine(Engine):
    """Computes blocks on a device by torch.

    Parameters
    ----------
    plan : Plan
    device : torch.device

    Attributes
    ----------
    apart : tuple of int
        Height and width of blocks that are computed into tensors of their own.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        super().__init__(plan)
        self.device, self.tables = device, DeviceTables(plan, self.series, self.scales, self.branches, device)
        side = _HOST_TILE if device.type == "cpu" else _DEVICE_TILE
        self.tile = self.apart = (side, side)

    def worker(self) -> BlockWorker:
        """Return what fills blocks."""
        return DeviceWorker(self)


class DeviceWorker:
    """Fills blocks on a device; the counterpart of `fill.HostWorker`, with outputs that are arrays or tensors."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine, self._plan, self._tables = engine, engine.plan, engine.tables

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = (0, 0), mirror: bool = False) -> None:
        """Compute a block of the kernels; in parts, if the device has no room for all of it.

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
        tables = self._tables
        gram = tables.gram(slice(block.top, block.bottom), slice(block.left, block.right)).double()
        wanted = self._wanted(block, mirror)
        if wanted is not None:
            gram = torch.where(wanted, gram, 0.0)
        tiles, left = self._through_layers(block, gram, tuple(outputs), wanted)
        numbers = left.cpu().numpy()
        entries = np.stack([numbers // block.shape[1], numbers % block.shape[1]], axis=1)
        for chunk, found in self._engine.exact_entries(block, entries, tiles):
            for kind, values in found.items():
                tiles[kind][self._index(chunk[:, 0]), self._index(chunk[:, 1])] = tables.to(values)
        if self._plan.same and block.on_diagonal:
            part, on_diagonal = diagonal_entries(self._plan, block, tiles)
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

    def _through_layers(
        self, block: Block, gram: Tensor, kinds: tuple[Kind, ...], wanted: Tensor | None
    ) -> tuple[dict[Kind, Tensor], Tensor]:
        """Return the last layer's entries, and the numbers of those that some layer's series did not serve."""
        tables = self._tables
        branches, sizes = self._engine.branches, self._sizes(block)
        left = torch.empty(0, dtype=torch.int64, device=tables.device)
        value, tangents = gram, dict.fromkeys(kinds, gram)
        versine: Tensor | None = None  # 1 - r of the features below, from layers that hand it on
        below = None
        nodes: list[Node] = []
        if branches is not None:
            nodes.append(self._node(block, 0, 1.0, value, tangents, None))
            left = self._beyond(1 - nodes[0].near, CLOSED, wanted) if branches.near[0] else left
        for depth, each in enumerate(self._plan.layers):
            layer = each.layer
            if branches is not None:
                given = side_by_side(nodes, branches.weights[depth])
                value, tangents = given.entries[0], dict(zip(kinds, given.entries[1:], strict=True))
                versine, below = given.near, given.sizes
            elif depth:
                below = sizes[0][depth - 1], sizes[1][depth - 1]
            x = layer.sigma_b2 * value + layer.sigma_c2
            if each.fold is None:
                value, derivative, lost = self._layer(depth, block, x, wanted)
                versine = None
            else:
                value, derivative, versine, lost = self._fold(depth, block, x, versine, below, each.fold, wanted)
            left = torch.cat([left, lost]).unique() if len(lost) else left
            bad = (layer.sigma_a2 * derivative >= 1).flatten()
            if len(left):
                bad[left] = False
            if wanted is not None:
                bad &= wanted.flatten()
            if bool(bad.any()):
                raise self._engine.no_contraction(int(bad.sum()))
            first = depth == 0 if branches is None else bool(branches.first[depth])
            tangents = {kind: entry(kind, layer, value, derivative, under, first) for kind, under in tangents.items()}
            if len(left) and depth + 1 < len(self._plan.layers):
                # What is left to exact methods goes on as nothing.
                for tensor in (value, *tangents.values()):
                    tensor.view(-1)[left] = 0.0
            if branches is not None:
                nodes.append(self._node(block, depth + 1, layer.kept, value, tangents, versine))
                if branches.near[depth + 1]:
                    left = torch.cat([left, self._beyond(1 - nodes[-1].near, CLOSED, wanted)]).unique()
        if branches is not None:
            tangents = dict(zip(kinds, side_by_side(nodes, branches.weights[-1]).entries[1:], strict=True))
        return tangents, left

    def _sizes(self, block: Block) -> tuple[Tensor, Tensor]:
        """√E φ² of the block's rows and columns, in every layer."""
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        return self._tables.sizes[0][:, rows, None], self._tables.sizes[1][:, columns]

    def _node(
        self, block: Block, number: int, kept: float, value: Tensor, entries: dict[Kind, Tensor], near: Tensor | None
    ) -> Node:
        """Return the samples, or a layer's features, as what layers above are given; 1 - cos where it is not known."""
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        of_rows, of_columns = self._tables.nodes
        sizes = of_rows[number, rows, None], of_columns[number, columns]
        if near is None:
            both = kept * sizes[0] * sizes[1]
            near = 1 - torch.where(both > 0, value / both, 0.0).clamp(-1.0, 1.0)
        return Node((value, *entries.values()), sizes, kept * near + (1 - kept))

    def _layer(self, depth: int, block: Block, x: Tensor, wanted: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return a layer's G and E φ'φ', and the numbers of the entries that no series served."""
        tables, each = self._tables, self._plan.layers[depth]
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        inverse = tables.inverse_scales[0][depth, rows], tables.inverse_scales[1][depth, columns]
        left = torch.empty(0, dtype=torch.int64, device=tables.device)
        value = slope = x
        length = 0
        while (series := tables.series(length)) is not None:
            of_rows, of_columns = series.rows[depth], series.columns[depth]
            assert of_rows is not None
            assert of_columns is not None
            terms = of_rows[:, rows], of_columns[:, columns]
            degrees, cutoffs = series.degrees.tolist(), series.cutoffs[depth].tolist()
            if length == 0:
                solved = solve_tile(x, *terms, *inverse, each.layer.sigma_a2, degrees, cutoffs)
                value, slope = solved.value, solved.slope
                left = self._beyond(solved.r, cutoffs[-1], wanted)
            else:
                remaining = []
                for part, solved in solve_some(x, left, *terms, *inverse, each.layer.sigma_a2, degrees, cutoffs):
                    value.view(-1)[part], slope.view(-1)[part] = solved.value, solved.slope
                    remaining.append(part[solved.r.abs() > cutoffs[-1]])
                left = torch.cat(remaining)
            if not len(left):
                break
            length += 1
        return value, slope * torch.outer(*inverse), left

    def _fold(
        self,
        depth: int,
        block: Block,
        x: Tensor,
        near: Tensor | None,
        below: tuple[Tensor, Tensor] | None,
        fold: tuple[float, float, float],
        wanted: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return G, E φ'φ' and 1 - r of a layer with a closed form, and the numbers of the entries that it loses."""
        tables, layer = self._tables, self._plan.layers[depth].layer
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        inverse = torch.outer(tables.inverse_scales[0][depth, rows], tables.inverse_scales[1][depth, columns])
        if near is None or below is None:
            r = (x * inverse).clamp(-1.0, 1.0)
            versine = 1 - r
        else:
            versine = versine_of_features(near, inverse, *below, layer.sigma_b2, layer.sigma_c2)
            # Nearly parallel pairs have their digits, nearly opposite ones have not.
            r = (1 - versine).clamp(max=0.0)
        arguments = tables.arguments[0][depth, rows, None], tables.arguments[1][depth, columns]
        sizes = tables.sizes[0][depth, rows, None], tables.sizes[1][depth, columns]
        value, slope, turned = fold_tile(versine, *arguments, *sizes, *fold)
        if not layer.plain:
            slope = slope * inverse * arguments[0] * arguments[1]
        return value, slope, turned, self._beyond(r, CLOSED, wanted)

    @staticmethod
    def _beyond(r: Tensor, strongest: float, wanted: Tensor | None) -> Tensor:
        """Numbers of the entries whose correlation is larger."""
        beyond = ~(r.abs() <= strongest)
        return (beyond if wanted is None else beyond & wanted).flatten().nonzero().squeeze(1)


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
