"""Whole kernels, block by block, by whichever engine there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rmtdeq._lib.threads import share_out, threads
from rmtdeq.kernels.blocks import Block, Engine, Outputs, blocks, blocks_below


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
        Name of the stage.
    progress : bool
        Show it, on a terminal.
    """
    n, m = engine.plan.inputs.shape
    mirror = engine.plan.same and rows is None
    first, last = (0, n) if rows is None else (rows.start, rows.stop)
    todo = blocks_below(n, engine.tile) if mirror else blocks(last - first, m, engine.tile)
    todo = [replace(block, top=block.top + first, bottom=block.bottom + first) for block in todo]
    workers = workers_for(engine, len(todo))

    def work(_: int) -> Callable[[Block], None]:
        worker = engine.worker()
        return lambda block: worker.fill(block, outputs, (first, 0), mirror)

    def say(error: BaseException, done: int) -> None:
        count = last - first if done == len(todo) else todo[done].top - first
        whole = f"the leading {count} x {count} entries are" if mirror else f"the first {count} rows are"
        if count:
            error.add_note(f"Of the {what}, {whole} complete.")

    share_out(todo, work, workers, what=what, progress=progress, stopped_at=say)


def workers_for(engine: Engine, items: int) -> int:
    """Return how many threads to use; an engine that holds the interpreter gains nothing from several."""
    return threads(items) if engine.concurrent else 1
