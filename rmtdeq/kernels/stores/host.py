"""Products of a symmetric kernel with vectors on the host, the matrix kept by halves or not at all."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.threads import share_out
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.blocks import HEIGHT, WIDTH, Block, BlockWorker, Engine
from rmtdeq.kernels.matrix import workers_for
from rmtdeq.kernels.stores.panels import Panels, below_diagonal


class HostMatrix:
    """A kernel in panels, or one whose entries are computed for every product.

    Parameters
    ----------
    engine : Engine
        Of X with itself.
    kind : str
    panels : Panels or None
    temporary : Path, optional
        Folder that goes with the matrix.
    kept : Checkpoint, optional
        Folder that is this matrix's alone as long as it is there.
    """

    def __init__(
        self,
        engine: Engine,
        kind: Kind,
        panels: Panels | None,
        temporary: Path | None = None,
        kept: Checkpoint | None = None,
    ) -> None:
        self._kept = kept
        self._engine, self._kind, self._panels = engine, kind, panels
        self._remove_files: Callable[[], object] = lambda: None
        if temporary is not None:
            self._remove_files = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    def close(self) -> None:
        """Forget the panels, and remove a temporary folder."""
        self._panels = None
        self._remove_files()
        if self._kept is not None:
            self._kept.close()

    def compute(self, progress: bool) -> None:
        """Compute the panels that are missing."""
        if self._panels is not None and self._panels.missing:
            n = self._engine.plan.inputs.shape[0]
            self._panels.compute(self._fill, f"{self._kind}, half of {n} x {n}", progress)

    def _fill(self, blocks: list[Block], entries: list[FloatArray]) -> None:
        def work(_: int) -> Callable[[tuple[Block, FloatArray]], None]:
            worker = self._engine.worker()
            return lambda pair: self._fill_one(worker, *pair)

        pairs = list(zip(blocks, entries, strict=True))
        share_out(pairs, work, workers_for(self._engine, len(pairs)))

    def _fill_one(self, worker: BlockWorker, block: Block, entries: FloatArray) -> None:
        worker.fill(block, {self._kind: entries}, origin=(block.top, block.left), mirror=block.left == block.top)

    def product(self, V: FloatArray, progress: bool) -> FloatArray:
        """Return the product with vectors (n, b), in double precision: of all blocks and of their mirror images."""
        pairs: list[tuple[Block, FloatArray | None]]
        if self._panels is None:
            pairs = [(block, None) for block in below_diagonal(self._engine.plan.inputs.shape[0])]
        else:
            pairs = list(self._panels.all_blocks())
        workers = workers_for(self._engine, len(pairs))
        parts = [np.zeros(V.shape) for _ in range(workers)]

        def work(number: int) -> Callable[[tuple[Block, FloatArray | None]], None]:
            worker, result = self._engine.worker(), parts[number]
            scratch = np.empty(HEIGHT * WIDTH, self._engine.plan.inputs.dtype)

            def multiply(pair: tuple[Block, FloatArray | None]) -> None:
                block, entries = pair
                if entries is None:
                    entries = scratch[: block.size].reshape(block.shape)
                    self._fill_one(worker, block, entries)
                # In double precision: a rounded vector would not be the same to both halves of the matrix.
                entries = entries.astype(np.float64, copy=False)
                result[block.top : block.bottom] += entries @ V[block.left : block.right]
                if block.left != block.top:
                    result[block.left : block.right] += entries.T @ V[block.top : block.bottom]

            return multiply

        # Each thread has the same blocks every time, so that sums round the same way.
        share_out(pairs, work, workers, fixed=True, what="kernel product", progress=progress and self._panels is None)
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total
