"""Whole kernels, block by block, by whichever engine there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from rmtdeq._threads import share_out, threads
from rmtdeq.kernels.fill import Block, Outputs, Worker, blocks, blocks_below
from rmtdeq.kernels.plan import Plan

_HOST_TILE, _DEVICE_TILE, _FUSED_TILE = 512, 4096, 8192
"""Sides of the blocks that torch is given on the host and on a card, and Triton on a card.

A card waits for Python between blocks (half a millisecond each on an H100).  Triton keeps nothing of a block but its
inner products, where torch keeps ten matrices in double precision.
"""


class BlockWorker(Protocol):
    """What fills blocks: `fill.Worker`, or a worker of `rmtdeq.kernels.device`."""

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = ..., mirror: bool = ...) -> None:
        """Compute a block of the kernels."""


def worker_for(plan: Plan, dtype: np.dtype[Any]) -> BlockWorker:
    """Return what fills blocks where the plan says."""
    if plan.device is None:
        return Worker(plan, dtype)
    if plan.backend == "triton":
        from rmtdeq.kernels.device.fused import FusedWorker

        return FusedWorker(plan)
    from rmtdeq.kernels.device.worker import DeviceWorker

    return DeviceWorker(plan)


def tile_size(device: Any, *, fused: bool = False) -> tuple[int, int]:
    """Return the height and width of the blocks that a device is given; `fused` where Triton writes the results."""
    side = _HOST_TILE if device.type == "cpu" else _FUSED_TILE if fused else _DEVICE_TILE
    return side, side


def fill_matrix(
    plan: Plan,
    outputs: Outputs,
    dtype: np.dtype[Any],
    *,
    rows: slice | None = None,
    what: str = "kernel",
    progress: bool = False,
) -> None:
    """Compute the kernels of all rows, or of some, and all columns.

    Parameters
    ----------
    plan : Plan
    outputs : dict of ndarray (n, m), or of tensors where torch computes
    dtype : dtype
        Of the products and the outputs.
    rows : slice, optional
        Those that the outputs have.
    what : str
        Name of the progress bar.
    progress : bool
        Show it, on a terminal.
    """
    n, m = plan.inputs.shape
    size = None if plan.device is None else tile_size(plan.device, fused=plan.backend == "triton")
    mirror = plan.same and rows is None
    first, last = (0, n) if rows is None else (rows.start, rows.stop)
    todo = blocks_below(n, size) if mirror else blocks(last - first, m, size)
    todo = [replace(block, top=block.top + first, bottom=block.bottom + first) for block in todo]

    def work(_: int) -> Callable[[Block], None]:
        worker = worker_for(plan, dtype)
        return lambda block: worker.fill(block, outputs, (first, 0), mirror)

    def say(error: BaseException, done: int) -> None:
        count = last - first if done == len(todo) else todo[done].top - first
        whole = f"the leading {count} x {count} entries are" if mirror else f"the first {count} rows are"
        if count:
            error.add_note(f"Of the {what}, {whole} complete.")

    share_out(todo, work, workers_for(plan, len(todo)), what=what, progress=progress, stopped_at=say)


def workers_for(plan: Plan, items: int) -> int:
    """Return how many threads to use; an engine that holds the interpreter gains nothing from several."""
    return threads(items) if plan.compiled else 1
