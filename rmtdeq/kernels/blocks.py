"""Blocks of a kernel: inner products, series, exact entries where the series do not serve.

A block's product and what is made of it stay in the cache of the core that works on it; blocks are shared out among
threads, each of which calls BLAS for itself.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from rmtdeq._lib.errors import IllPosedError
from rmtdeq._lib.progress import afford
from rmtdeq._lib.threads import threads
from rmtdeq._lib.types import KINDS, FloatArray, IntArray, Kind
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.series import Position, SeriesBank, branches_of, scales_of
from rmtdeq.network.wellposed import no_pair_contraction

HEIGHT, WIDTH = 256, 1024
"""Rows and columns of a block: 2 MiB in double precision."""

_PAIR_CHUNK = 4096
_MANY = 2000
_TIMED = 64

logger = logging.getLogger(__name__)

BlockSolver = Callable[..., tuple[int, int]]

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


class BlockWorker(Protocol):
    """What fills blocks; what it works in belongs to one thread."""

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = ..., mirror: bool = ...) -> None:
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


class Engine(ABC):
    """Computes the kernels of one plan block by block; threads share it, each with a worker of its own.

    Attributes
    ----------
    plan : Plan
    series : SeriesBank
    scales : Scales
    branches : Branches or None
    tile : tuple of int, or None
        Height and width of the blocks that suit it, where they are not `HEIGHT` and `WIDTH`.
    concurrent : bool
        Whether it leaves the interpreter to other threads, so that several are worth while.
    """

    tile: tuple[int, int] | None = None
    concurrent = False

    def __init__(self, plan: Plan) -> None:
        self.plan, self.series, self.scales = plan, SeriesBank(plan), scales_of(plan)
        self.branches = branches_of(plan, self.scales)
        self._lock, self._warned = Lock(), False

    @abstractmethod
    def worker(self) -> BlockWorker:
        """Return what fills blocks in one thread."""

    def exact_entries(
        self, block: Block, entries: IntArray, kinds: Iterable[Kind]
    ) -> Iterator[tuple[IntArray, dict[Kind, FloatArray]]]:
        """Compute entries (row and column within the block, (k, 2)) that no series serves, some at a time."""
        plan = self.plan
        cuts = list(range(_PAIR_CHUNK, len(entries), _PAIR_CHUNK))
        # Closed forms and tables take no time worth a word; that of quadratures is known after the first few.
        slow = len(entries) > _MANY and any(each.by_quadrature for each in plan.layers)
        slow = slow and self._first_warning()
        start = perf_counter()
        for number, chunk in enumerate(np.split(entries, [_TIMED, *cuts] if slow else cuts)):
            if not len(chunk):
                return
            found = plan.pairs(chunk[:, 0] + block.top, chunk[:, 1] + block.left, kinds)
            if slow and number == 0:
                self._warn_of_quadratures(block, entries, (perf_counter() - start) / len(chunk))
            yield chunk, found

    def _first_warning(self) -> bool:
        with self._lock:
            first, self._warned = not self._warned, True
            return first

    def _warn_of_quadratures(self, block: Block, entries: IntArray, seconds: float) -> None:
        """Say how long the kernel takes if it is all like a block, where each of these entries takes some seconds."""
        n, m = self.plan.inputs.shape
        i, j = entries[:, 0] + block.top, entries[:, 1] + block.left
        pairs, of = n * m, block.size
        if self.plan.same and (i > j).all():  # computed below the diagonal alone
            pairs = n * (n - 1) // 2
            of = int(np.tri(*block.shape, block.top - block.left - 1).sum())
        # Threads share the pairs where they are used.
        total = pairs * len(entries) / of * seconds / (threads() if self.concurrent else 1)
        afford(total, "Quadratures for pairs of samples that are nearly parallel")
        logger.warning(
            "Of a block of %d x %d entries %d pairs of samples are nearly parallel, and the activation has no closed "
            "form and no table at these scales: each takes two-dimensional quadratures (%.3g ms), the whole kernel "
            "about %s. Samples that share a large mean are nearly parallel: rmtdeq.center_and_scale(X) takes it off. "
            "Those of few dimensions stay so: take an activation that `rmtdeq activations` lists as smooth, or with a "
            "closed form.",
            *block.shape,
            len(entries),
            1e3 * seconds,
            _duration(total),
        )

    def no_contraction(self, bad: int) -> IllPosedError:
        """Return the exception for pairs of samples whose equation has no stable solution."""
        titles = ", ".join(dict.fromkeys(each.layer.title for each in self.plan.layers if each.layer.recurrent))
        return no_pair_contraction(titles, bad)


class HostEngine(Engine):
    """An engine of the CPU: a function that solves a block.

    Parameters
    ----------
    plan : Plan
    solve_block : callable
        `tiles.solve_block` or one of the same signature.
    concurrent : bool
    """

    def __init__(self, plan: Plan, solve_block: BlockSolver, concurrent: bool) -> None:
        super().__init__(plan)
        self.solve_block, self.concurrent = solve_block, concurrent

    def worker(self) -> BlockWorker:
        """Return what fills blocks in one thread."""
        return HostWorker(self)


class HostWorker:
    """Fills blocks in one thread; see `BlockWorker`."""

    def __init__(self, engine: HostEngine) -> None:
        self._engine, self._plan = engine, engine.plan
        self._gram = np.empty(HEIGHT * WIDTH, self._plan.inputs.dtype)
        self._left = np.empty(HEIGHT * WIDTH, dtype=np.uint8)

    def fill(self, block: Block, outputs: Outputs, origin: tuple[int, int] = (0, 0), mirror: bool = False) -> None:
        """Compute a block of the kernels."""
        # Contiguous pieces of the scratch, whatever the block's shape.
        height, width = block.shape
        gram = self._gram[: height * width].reshape(height, width)
        left = self._left[: height * width].reshape(height, width)
        self._plan.inputs.fill(slice(block.top, block.bottom), slice(block.left, block.right), gram)
        self._fill_by_series(block, gram, left, outputs, origin, mirror)
        if self._plan.same:
            _fill_diagonal(self._plan, block, outputs, origin)

    def _fill_by_series(
        self,
        block: Block,
        gram: FloatArray,
        left: np.ndarray[Any, Any],
        outputs: Outputs,
        origin: tuple[int, int],
        mirror: bool,
    ) -> None:
        engine, unused = self._engine, np.empty((0, 0), dtype=gram.dtype)
        arrays = tuple(outputs.get(kind, unused) for kind in KINDS)
        wants = tuple(kind in outputs for kind in KINDS)
        position = Position(
            block.top, block.left, block.top - origin[0], block.left - origin[1], self._plan.same, mirror
        )
        left[:] = 0
        length = 0
        while (series := engine.series(length)) is not None:
            bad, remaining = engine.solve_block(
                gram, arrays, wants, position, series, engine.scales, engine.branches, left, length > 0
            )
            if bad:
                raise engine.no_contraction(bad)
            if not remaining:
                return
            length += 1
        _fill_exactly(engine, block, outputs, origin, mirror, np.argwhere(left))


def scratch_bytes(itemsize: int) -> int:
    """Return what filling needs beyond its outputs."""
    return threads() * HEIGHT * WIDTH * (itemsize + 1)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _fill_exactly(
    engine: Engine, block: Block, outputs: Outputs, origin: tuple[int, int], mirror: bool, entries: IntArray
) -> None:
    """Write the entries (row and column within the block) that no series served."""
    for chunk, found in engine.exact_entries(block, entries, outputs):
        i, j = chunk[:, 0] + block.top, chunk[:, 1] + block.left
        for kind, out in outputs.items():
            out[i - origin[0], j - origin[1]] = found[kind]
            if mirror:
                out[j - origin[0], i - origin[1]] = found[kind]


def diagonal_entries(plan: Plan, block: Block, kinds: Iterable[Kind]) -> tuple[slice, dict[Kind, FloatArray]]:
    """Return which samples the block has with themselves, and the entries there."""
    first = max(block.top, block.left)
    part = slice(first, max(first, min(block.bottom, block.right)))
    return part, plan.diagonal(part, kinds)


def _fill_diagonal(plan: Plan, block: Block, outputs: Outputs, origin: tuple[int, int]) -> None:
    """Write what the block has of the diagonal."""
    part, values = diagonal_entries(plan, block, outputs)
    i = np.arange(part.start, part.stop)
    for kind, out in outputs.items():
        out[i - origin[0], i - origin[1]] = values[kind]
