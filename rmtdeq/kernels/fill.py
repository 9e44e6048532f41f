"""Blocks of a kernel: inner products, series, exact entries where the series do not serve.

A block's product and what is made of it stay in the cache of the core that works on it; blocks are shared out among
threads, each of which calls BLAS for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from rmtdeq._errors import IllPosedError
from rmtdeq._threads import threads
from rmtdeq._types import FloatArray, IntArray, Kind
from rmtdeq.deq import DEQ, named
from rmtdeq.kernels.exact import solve_pairs
from rmtdeq.kernels.plan import Plan

HEIGHT, WIDTH = 256, 1024
"""Rows and columns of a block: 2 MiB in double precision."""

_PAIR_CHUNK = 4096
_MANY = 2000
_TIMED = 64

logger = logging.getLogger(__name__)

Outputs = dict[Kind, Any]
"""Arrays, or tensors where torch computes."""


@dataclass(frozen=True)
class Block:
    """Rows top … bottom and columns left … right of a kernel."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def size(self) -> int:
        """Number of entries."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def on_diagonal(self) -> bool:
        """Whether the diagonal crosses it."""
        return self.right > self.top and self.left < self.bottom


def blocks(n: int, m: int, size: tuple[int, int] | None = None) -> list[Block]:
    """Cut a matrix into blocks of some height and width, row by row."""
    height, width = size or (HEIGHT, WIDTH)
    return [
        Block(top, min(top + height, n), left, min(left + width, m))
        for top in range(0, n, height)
        for left in range(0, m, width)
    ]


def blocks_below(n: int, size: tuple[int, int] | None = None) -> list[Block]:
    """Cut what lies below the diagonal into blocks, row by row, the squares that it crosses among them."""
    height, width = size or (HEIGHT, WIDTH)
    rows = [(top, min(top + height, n)) for top in range(0, n, height)]
    return [
        Block(top, bottom, left, min(left + width, bottom)) for top, bottom in rows for left in range(0, bottom, width)
    ]


class Worker:
    """Fills blocks; what it works in belongs to one thread."""

    def __init__(self, plan: Plan, dtype: np.dtype[Any]) -> None:
        assert plan.solver is not None
        self._plan, self._solver = plan, plan.solver
        self._gram = np.empty(HEIGHT * WIDTH, dtype)
        self._left = np.empty(HEIGHT * WIDTH, dtype=np.uint8)

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = (0, 0), mirror: bool = False) -> None:
        """Compute a block of the kernels.

        Parameters
        ----------
        block : Block
        outputs : dict of ndarray
        origin : tuple of int
            Row and column of the kernel that the outputs begin with.
        mirror : bool
            Compute only what lies below the diagonal, and write it on both sides of it.
        """
        # Contiguous pieces of the scratch, whatever the block's shape.
        height, width = block.shape
        gram = self._gram[: height * width].reshape(height, width)
        left = self._left[: height * width].reshape(height, width)
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        carried = self._plan.inputs.fill(rows, columns, gram)
        self._fill_by_series(block, gram, carried, left, outputs, origin, mirror)
        if self._plan.same:
            _fill_diagonal(self._plan, block, outputs, origin)

    def _fill_by_series(
        self,
        block: Block,
        gram: FloatArray,
        carried: FloatArray,
        left: np.ndarray[Any, Any],
        outputs: Outputs,
        origin: tuple[int, int],
        mirror: bool,
    ) -> None:
        plan = self._plan
        unused = np.empty((0, 0), dtype=gram.dtype)
        left[:] = 0
        length = 0
        while (series := plan.series(length)) is not None:
            bad, remaining = self._solver(
                gram,
                carried,
                *(outputs.get(kind, unused) for kind in ("ck", "ntk", "ntk-full")),
                ("ck" in outputs, "ntk" in outputs, "ntk-full" in outputs),
                block.top,
                block.left,
                block.top - origin[0],
                block.left - origin[1],
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
                raise no_contraction(plan, bad)
            if not remaining:
                return
            length += 1
        _fill_exactly(plan, block, outputs, origin, mirror, np.argwhere(left))


def scratch_bytes(itemsize: int) -> int:
    """Return what filling needs beyond its outputs."""
    return threads() * HEIGHT * WIDTH * (itemsize + 1)


def no_contraction(plan: Plan, bad: int) -> IllPosedError:
    """Return the exception for pairs of samples whose equation has no stable solution."""
    return IllPosedError(
        f"{named(plan.deq)} is no contraction on these data: the kernel map has slope 1 or more for {bad} pair(s) of "
        "samples; lower sigma_a2."
    )


def exact_entries(
    plan: Plan, block: Block, entries: IntArray, kinds: Iterable[Kind]
) -> Iterator[tuple[IntArray, dict[Kind, FloatArray]]]:
    """Compute entries (row and column within the block, (k, 2)) that no series serves, some at a time."""
    deq = plan.deq
    cuts = list(range(_PAIR_CHUNK, len(entries), _PAIR_CHUNK))
    # Closed forms take no time worth a word; the time of quadratures is known after the first few.
    slow = len(entries) > _MANY and deq.activation.dual_form is None and plan.note_once()
    start = perf_counter()
    for number, chunk in enumerate(np.split(entries, [_TIMED, *cuts] if slow else cuts)):
        if not len(chunk):
            return
        i, j = chunk[:, 0] + block.top, chunk[:, 1] + block.left
        angles, carried = plan.inputs.pairs(i, j)
        value, slope = solve_pairs(deq, plan.rows.at(i), plan.columns.at(j), angles)
        if slow and number == 0:
            _warn_of_quadratures(plan, block, entries, (perf_counter() - start) / len(chunk))
        yield chunk, {kind: entry(kind, deq, value, slope, carried) for kind in kinds}


def _warn_of_quadratures(plan: Plan, block: Block, entries: IntArray, seconds: float) -> None:
    """Say how long the kernel takes if it is all like a block, where each of these entries takes some seconds."""
    n, m = plan.rows.sigma.size, plan.columns.sigma.size
    i, j = entries[:, 0] + block.top, entries[:, 1] + block.left
    pairs, of = n * m, block.size
    if plan.same and (i > j).all():  # computed below the diagonal alone
        pairs = n * (n - 1) // 2
        of = int(np.tri(*block.shape, block.top - block.left - 1).sum())
    # Threads share the pairs where they are used.
    total = pairs * len(entries) / of * seconds / (threads() if plan.compiled else 1)
    logger.warning(
        "Of a block of %d x %d entries %d pairs of samples are nearly parallel, and the activation has no closed form: "
        "each takes two-dimensional quadratures (%.3g ms), the whole kernel about %s. Samples that share a large mean "
        "are nearly parallel: rmtdeq.center_and_scale(X) takes it off. Those of few dimensions stay so: take ReLU, "
        "leaky ReLU, erf or sin.",
        *block.shape,
        len(entries),
        1e3 * seconds,
        _duration(total),
    )


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _fill_exactly(
    plan: Plan, block: Block, outputs: Outputs, origin: tuple[int, int], mirror: bool, entries: IntArray
) -> None:
    """Write the entries (row and column within the block) that no series served."""
    for chunk, found in exact_entries(plan, block, entries, outputs):
        i, j = chunk[:, 0] + block.top, chunk[:, 1] + block.left
        for kind, out in outputs.items():
            out[i - origin[0], j - origin[1]] = found[kind]
            if mirror:
                out[j - origin[0], i - origin[1]] = found[kind]


def entry(kind: Kind, deq: DEQ, value: Any, slope: Any, carried: Any) -> Any:
    """The kernel's entry, given G, E φ'φ' and what the tangent carries: arrays or tensors."""
    if kind == "ck":
        return value
    # Without recurrence no slope counts, not even an infinite one.
    gain = 1 - deq.sigma_a2 * slope if deq.sigma_a2 else 1.0
    return (value if kind == "ntk" else value + deq.sigma_b2 * carried * slope) / gain


def diagonal_entries(plan: Plan, block: Block, kinds: Iterable[Kind]) -> tuple[slice, dict[Kind, FloatArray]]:
    """Return which samples the block has with themselves, and the entries there."""
    first = max(block.top, block.left)
    part, rows = slice(first, max(first, min(block.bottom, block.right))), plan.rows
    carried = plan.inputs.carried_diagonal(part)
    square, slope_square = rows.square[part], rows.slope_square[part]
    return part, {kind: entry(kind, plan.deq, square, slope_square, carried) for kind in kinds}


def _fill_diagonal(plan: Plan, block: Block, outputs: Outputs, origin: tuple[int, int]) -> None:
    """Write what the block has of the diagonal."""
    part, values = diagonal_entries(plan, block, outputs)
    i = np.arange(part.start, part.stop)
    for kind, out in outputs.items():
        out[i - origin[0], i - origin[1]] = values[kind]
