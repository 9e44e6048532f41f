"""Rows of a kernel, block by block: inner products, series, exact entries where the series do not serve.

A block's product and what is made of it stay in the cache of the core that works on it; blocks are shared out among
threads, each of which calls BLAS for itself.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import lru_cache
from threading import local
from typing import Any

import numpy as np

from rmtdeq._errors import IllPosedError
from rmtdeq._types import FloatArray, IntArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.kernels.exact import solve_pairs
from rmtdeq.kernels.plan import Plan

HEIGHT, WIDTH = 256, 1024
"""Rows and columns of a block: 2 MiB in double precision."""

_PAIR_CHUNK = 4096

Outputs = dict[Kind, FloatArray]


def fill_rows(
    plan: Plan, start: int, stop: int, outputs: Outputs, *, mirror: bool, what: str = "kernel", progress: bool = False
) -> None:
    """Compute rows start … stop of the kernels.

    Parameters
    ----------
    plan : Plan
    start, stop : int
    outputs : dict of ndarray
        With `mirror`, the whole square matrices, of which the part below the diagonal of these rows and its
        mirror image are written; else arrays (stop - start, m).
    mirror : bool
    what : str
        Name of the progress bar.
    progress : bool
        Show it, on a terminal.
    """
    from tqdm import tqdm

    dtype = next(iter(outputs.values())).dtype
    scratch = local()

    def fill(top: int) -> None:
        if not hasattr(scratch, "gram"):
            shape = min(HEIGHT, stop - start), min(WIDTH, plan.inputs.shape[1])
            scratch.gram, scratch.left = np.empty(shape, dtype), np.empty(shape, dtype=np.uint8)
        _fill_block_row(plan, top, min(top + HEIGHT, stop), start, outputs, mirror, scratch)

    tops = range(start, stop, HEIGHT)
    # disable=None: silent where stderr is not a terminal.
    with tqdm(total=len(tops), desc=what, unit="block", disable=None if progress else True, leave=False) as bar:
        threads = min(_threads(plan), len(tops))
        if threads == 1:
            for top in tops:
                fill(top)
                bar.update()
            return
        with _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
            # The longest first, so that no thread is left alone with one at the end.
            tasks = [pool.submit(fill, top) for top in reversed(tops)]
            try:
                for task in tasks:
                    task.add_done_callback(lambda _: bar.update())
                wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                for task in tasks:
                    task.cancel()
            for task in tasks:
                if not task.cancelled():
                    task.result()


def scratch_bytes(shape: tuple[int, int], itemsize: int) -> int:
    """Return what `fill_rows` needs beyond its outputs, of the given shape."""
    import numba

    return int(numba.get_num_threads()) * min(HEIGHT, shape[0]) * min(WIDTH, shape[1]) * (itemsize + 1)


def _threads(plan: Plan) -> int:
    """As many as numba has; the engine without compilation holds the interpreter, and one is enough for it."""
    if plan.solver.__module__.endswith("reference"):
        return 1
    import numba

    return int(numba.get_num_threads())


@lru_cache(maxsize=1)
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _fill_block_row(
    plan: Plan, top: int, bottom: int, start: int, outputs: Outputs, mirror: bool, scratch: Any
) -> None:
    """Compute rows top … bottom, the block's share of columns at a time."""
    end = bottom if mirror else plan.inputs.shape[1]
    for column in range(0, end, WIDTH):
        width = min(WIDTH, end - column)
        # Contiguous pieces of the scratch, whatever their shape.
        size = (bottom - top) * width
        gram = scratch.gram.reshape(-1)[:size].reshape(bottom - top, width)
        left = scratch.left.reshape(-1)[:size].reshape(bottom - top, width)
        carried = plan.inputs.fill(slice(top, bottom), slice(column, column + width), gram)
        _fill_block(plan, gram, carried, left, top, column, start, outputs, mirror)
    if plan.same:
        _fill_diagonal(plan, top, bottom, start, outputs, mirror)


def _fill_block(
    plan: Plan,
    gram: FloatArray,
    carried: FloatArray,
    left: np.ndarray[Any, Any],
    row: int,
    column: int,
    start: int,
    outputs: Outputs,
    mirror: bool,
) -> None:
    unused = np.empty((0, 0), dtype=gram.dtype)
    ck, ntk, full = (outputs.get(kind, unused) for kind in ("ck", "ntk", "ntk-full"))
    left[:] = 0
    length, remaining = 0, 0
    while (series := plan.series(length)) is not None:
        bad, remaining = plan.solver(
            gram,
            carried,
            ck,
            ntk,
            full,
            ("ck" in outputs, "ntk" in outputs, "ntk-full" in outputs),
            row,
            column,
            row if mirror else row - start,
            plan.same,
            mirror,
            series.hermite_x,
            series.hermite_y,
            plan.rows.sigma,
            plan.columns.sigma,
            plan.deq.sigma_a2,
            plan.deq.sigma_b2,
            series.degrees,
            series.cutoffs,
            left,
            length > 0,
        )
        if bad:
            raise IllPosedError(
                f"{plan.deq} is no contraction on these data: the kernel map has slope 1 or more for {bad} pair(s) of "
                "samples; lower sigma_a2."
            )
        if not remaining:
            return
        length += 1
    _fill_exactly(plan, outputs, row, column, start, mirror, np.argwhere(left))


def _fill_exactly(
    plan: Plan, outputs: Outputs, row: int, column: int, start: int, mirror: bool, entries: IntArray
) -> None:
    """Write the entries (row and column within the block) that no series served."""
    deq = plan.deq
    for chunk in np.array_split(entries, max(1, len(entries) // _PAIR_CHUNK)):
        if not len(chunk):
            return
        i, j = chunk[:, 0] + row, chunk[:, 1] + column
        distances, carried = plan.inputs.pairs(i, j)
        value, slope = solve_pairs(
            deq,
            plan.rows.sigma[i],
            plan.columns.sigma[j],
            plan.rows.square[i],
            plan.columns.square[j],
            np.sqrt(plan.rows.slope_square[i] * plan.columns.slope_square[j]),
            distances,
        )
        for kind, out in outputs.items():
            entry = _entry(kind, deq, value, slope, carried)
            out[i if mirror else i - start, j] = entry
            if mirror:
                out[j, i] = entry


def _entry(kind: Kind, deq: DEQ, value: FloatArray, slope: FloatArray, carried: FloatArray) -> FloatArray:
    """The kernel's entry, given G, E φ'φ' and the inner product (or tangent kernel) of the inputs."""
    if kind == "ck":
        return value
    if kind == "ntk":
        return value / (1 - deq.sigma_a2 * slope)
    return (value + deq.sigma_b2 * carried * slope) / (1 - deq.sigma_a2 * slope)


def _fill_diagonal(plan: Plan, top: int, bottom: int, start: int, outputs: Outputs, mirror: bool) -> None:
    i, part, rows = np.arange(top, bottom), slice(top, bottom), plan.rows
    carried = plan.inputs.carried_diagonal(part)
    for kind, out in outputs.items():
        out[i if mirror else i - start, i] = _entry(kind, plan.deq, rows.square[part], rows.slope_square[part], carried)
