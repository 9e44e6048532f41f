"""Whole kernels, block by block, by whichever engine there is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np

from rmtdeq._progress import progress_bar
from rmtdeq._threads import share_out, threads
from rmtdeq.kernels.computation import Placement
from rmtdeq.kernels.fill import Block, Engine, HostEngine, Outputs, blocks, blocks_below
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.series import Coefficients, Place, Scales

logger = logging.getLogger(__name__)


def engine_of(plan: Plan, place: Placement, progress: bool = False) -> Engine:
    """Return the engine that was chosen, for a plan."""
    if place.backend == "triton":
        from rmtdeq.kernels.device.fused import TritonEngine

        return TritonEngine(plan, place.device)
    if place.backend == "torch":
        from rmtdeq.kernels.device.worker import TorchEngine

        return TorchEngine(plan, place.device)
    if place.backend == "numpy":
        from rmtdeq.kernels.reference import solve_block as reference

        return HostEngine(plan, reference, concurrent=False)
    _load_machine_code(plan.inputs.dtype, progress)
    from rmtdeq.kernels.tiles import solve_block

    return HostEngine(plan, solve_block, concurrent=True)


@lru_cache(maxsize=4)
def _load_machine_code(dtype: np.dtype[Any], progress: bool) -> None:
    """Load the compiled engine, or compile it; say so, as that takes seconds on a machine that has not done it yet."""
    what = "loading machine code (compiled once on a machine, about 5 s)"
    with progress_bar(progress, total=1, desc=what, bar_format="{desc}"):
        start = perf_counter()
        from rmtdeq.kernels.tiles import solve_block

        nothing, one = np.zeros((1, 1), dtype), np.ones((1, 1))
        series = Coefficients(np.array([0]), np.zeros((1, 1, 13)), np.zeros((1, 13, 1)), np.array([12]), one)
        scales, wants = Scales(one, one, np.array([[0.0, 1.0, 0.0]]), np.zeros((1, 3))), (False, False, False)
        left = np.zeros((1, 1), dtype=np.uint8)
        solve_block(nothing, (nothing,) * 3, wants, Place(0, 0, 0, 0, True, True), series, scales, left, False)
    if sum(solve_block.stats.cache_misses.values()):
        logger.info("Compiled the kernel engine for %s in %.1f s.", dtype, perf_counter() - start)


def fill_matrix(
    engine: Engine,
    outputs: Outputs,
    *,
    rows: slice | None = None,
    what: str = "kernel",
    progress: bool = False,
) -> None:
    """Compute the kernels of all rows, or of some, and all columns.

    Parameters
    ----------
    engine : Engine
    outputs : dict of ndarray (n, m), or of tensors where torch computes
    rows : slice, optional
        Those that the outputs have.
    what : str
        Name of the progress bar.
    progress : bool
        Show it, on a terminal.
    """
    n, m = engine.plan.inputs.shape
    mirror = engine.plan.same and rows is None
    first, last = (0, n) if rows is None else (rows.start, rows.stop)
    todo = blocks_below(n, engine.tile) if mirror else blocks(last - first, m, engine.tile)
    todo = [replace(block, top=block.top + first, bottom=block.bottom + first) for block in todo]

    def work(_: int) -> Callable[[Block], None]:
        worker = engine.worker()
        return lambda block: worker.fill(block, outputs, (first, 0), mirror)

    def say(error: BaseException, done: int) -> None:
        count = last - first if done == len(todo) else todo[done].top - first
        whole = f"the leading {count} x {count} entries are" if mirror else f"the first {count} rows are"
        if count:
            error.add_note(f"Of the {what}, {whole} complete.")

    share_out(todo, work, workers_for(engine, len(todo)), what=what, progress=progress, stopped_at=say)


def workers_for(engine: Engine, items: int) -> int:
    """Return how many threads to use; an engine that holds the interpreter gains nothing from several."""
    return threads(items) if engine.concurrent else 1
