"""Products of a symmetric kernel with vectors on a device, the matrix kept there or not; on several by rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.errors import MemoryLimitError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.blocks import blocks_below
from rmtdeq.kernels.engines.torch_engine import TorchEngine
from rmtdeq.kernels.matrix import fill_matrix

_ROWS = 1024


def product_in_double(entries: Tensor, vectors: Tensor) -> Tensor:
    """Return the product of entries (n, m) of any precision with vectors (m, b) of double precision, in that."""
    if entries.dtype == torch.float64:
        return entries @ vectors
    return torch.cat([rows.double() @ vectors for rows in torch.split(entries, _ROWS)])


def share_of(n: int, group: Any) -> slice:
    """Return the rows that this process has of n."""
    if group is None:
        return slice(0, n)
    rank, size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    return slice(n * rank // size, n * (rank + 1) // size)


class DeviceMatrix:
    """A kernel's rows on a device, of which each process of a group has its share.

    Parameters
    ----------
    engine : TorchEngine
        Of X with itself.
    kind : str
    group : torch.distributed.ProcessGroup, optional
        Its processes call the same functions with the same arguments but the device.

    Raises
    ------
    MemoryLimitError
        The rows do not fit there.
    """

    def __init__(self, engine: TorchEngine, kind: Kind, group: Any = None) -> None:
        self._engine, self._kind, self._group = engine, kind, group
        n = engine.plan.inputs.shape[0]
        self._rows = share_of(n, group)
        self._complete = False
        shape = (self._rows.stop - self._rows.start, n)
        try:
            self._entries = torch.empty(shape, dtype=_dtype(engine), device=engine.device)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"{shape[0]} x {n} entries do not fit on {engine.device}: {str(error).splitlines()[0]} 'dense' keeps "
                "half the matrix on the host, 'matrix-free' nothing."
            ) from error

    def compute(self, progress: bool) -> None:
        """Compute the entries, if they are not there yet."""
        if not self._complete:
            rows = None if self._group is None else self._rows
            what = f"{self._kind}, {self._entries.shape[0]} x {self._entries.shape[1]}"
            fill_matrix(self._engine, {self._kind: self._entries}, rows=rows, what=what, progress=progress)
            self._complete = True

    def close(self) -> None:
        """Give the memory back."""
        self._entries, self._complete = self._entries[:0], False

    def product(self, V: FloatArray, progress: bool = False) -> FloatArray:
        """Return the product with vectors (n, b), in double precision."""
        vectors = _shared(V, self._engine.device, self._group)
        result = vectors.new_zeros(vectors.shape)
        result[self._rows] = product_in_double(self._entries, vectors)
        return _total(result, self._group)


class DeviceTiles:
    """A kernel whose entries are computed for every product, tile by tile; parameters as for `DeviceMatrix`."""

    def __init__(self, engine: TorchEngine, kind: Kind, group: Any = None) -> None:
        self._engine, self._kind, self._group = engine, kind, group

    def compute(self, progress: bool) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Do nothing likewise."""

    def product(self, V: FloatArray, progress: bool = False) -> FloatArray:
        """Return the product with vectors (n, b), in double precision."""
        engine, group = self._engine, self._group
        vectors = _shared(V, engine.device, group)
        result = vectors.new_zeros(vectors.shape)
        worker = engine.worker()
        todo = blocks_below(engine.plan.inputs.shape[0], engine.apart)
        if group is not None:
            todo = todo[torch.distributed.get_rank(group) :: torch.distributed.get_world_size(group)]
        with Stage("kernel product", len(todo), show=progress) as stage:
            for block in todo:
                # Blocks that the diagonal crosses are taken below it, and their mirror images with them.
                entries = torch.zeros(block.shape, dtype=_dtype(engine), device=engine.device)
                worker.fill(block, {self._kind: entries}, (block.top, block.left))
                entries = entries.double()
                below = entries.tril(block.top - block.left)
                result[block.top : block.bottom] += below @ vectors[block.left : block.right]
                strictly = below.tril(block.top - block.left - 1)
                result[block.left : block.right] += strictly.T @ vectors[block.top : block.bottom]
                stage.update()
        return _total(result, group)


def _dtype(engine: TorchEngine) -> torch.dtype:
    """The precision of the entries."""
    found: torch.dtype = getattr(torch, str(engine.plan.inputs.dtype))
    return found


def _shared(V: FloatArray, device: torch.device, group: Any) -> Tensor:
    """Return the vectors of the group's first process, on the device."""
    vectors = torch.from_numpy(np.require(V, np.float64, ["C", "W"]))
    if group is not None:
        vectors = _where_it_talks(vectors.clone(), device, group)
        torch.distributed.broadcast(vectors, group=group, group_src=0)
    return vectors.to(device)


def _total(result: Tensor, group: Any) -> FloatArray:
    """Add up what the processes have."""
    if group is not None:
        result = _where_it_talks(result, result.device, group)
        torch.distributed.all_reduce(result, group=group)
    return np.asarray(result.cpu().numpy())


def _where_it_talks(tensor: Tensor, device: torch.device, group: Any) -> Tensor:
    return tensor.to(device if torch.distributed.get_backend(group) == "nccl" else "cpu")
