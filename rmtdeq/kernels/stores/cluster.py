"""Kernels on the workers of a Dask cluster: arrays of tiles, and matrices multiplied there.

The engine is Dask's; what a worker does to a tile is ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from time import sleep
from typing import Any, TypeVar

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.cluster import cluster_errors, lost, memory_of
from rmtdeq._lib.errors import InvalidInputError, MemoryLimitError, RmtdeqError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.threads import alone
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.computation import Computation, engine, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.identity import identity
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.pieces import Pieces
from rmtdeq.kernels.plan import NetworkTables, Plan, plan_with
from rmtdeq.kernels.stores.operator import KernelOperator

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TRIES, _PAUSE = 3, 2.0
"""A product is tried so often, with seconds between for a worker to come back."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that the tiles of a kernel have in common.

    Attributes
    ----------
    tables : NetworkTables
        For the norms of all samples.
    kinds : tuple of str
    how : Computation
        By each worker.
    """

    tables: NetworkTables
    kinds: tuple[Kind, ...]
    how: Computation


def tile(recipe: Recipe, X: FloatArray, Y: FloatArray | None) -> list[FloatArray]:
    """Return the kernels of some rows and columns, or of some rows with themselves, by one thread."""
    with alone():
        place = placement(X, Y, recipe.how)
        engine = engine_of(plan_with(recipe.tables, place.inputs, place.inputs.squared_norms()), place)
        outputs = {kind: np.empty(place.inputs.shape, place.dtype) for kind in recipe.kinds}
        fill_matrix(engine, outputs)
    return [outputs[kind] for kind in recipe.kinds]


def refusal(device: str) -> str | None:
    """Return what a worker has to say against a device."""
    try:
        engine(None, device=device)
    except RmtdeqError as error:
        return str(error)
    return None


def multiply(entries: list[FloatArray], V: FloatArray, W: FloatArray | None) -> tuple[FloatArray, ...]:
    """Return the products of a tile with V and, if there is a W, of its transpose with W, in double precision."""
    with alone():
        matrix = entries[0].astype(np.float64, copy=False)
        return (matrix @ V,) if W is None else (matrix @ V, matrix.T @ W)


def add(parts: Sequence[tuple[FloatArray, ...]], which: Sequence[int]) -> FloatArray:
    """Add up one of each of the parts, always in the same order."""
    total = parts[0][which[0]].copy()
    for part, index in zip(parts[1:], which[1:], strict=True):
        total += part[index]
    return total


def recipe_for(plan: Plan, kinds: Sequence[Kind], how: Computation) -> Recipe:
    """Return what the tiles of a plan share, after asking a worker whether it has the device."""
    device = None if how.device is None else str(how.device)
    if device is not None:
        with cluster_errors():
            against = plan.inputs.X.client.submit(refusal, device, pure=False).result()
        if against is not None:
            raise InvalidInputError(f"A worker of the cluster says: {against}")
    precise = Computation(device=device, dtype=plan.inputs.dtype, products=how.products)
    return Recipe(plan.at.tables, tuple(kinds), precise)


def _tiles(recipe: Recipe, rows: Pieces, columns: Pieces | None = None) -> dict[tuple[int, int], Any]:
    """Return tiles by their place, not computed yet; of a symmetric kernel those on and below the diagonal."""
    from dask.delayed import delayed

    compute, shared = delayed(tile, pure=False), rows.client.scatter(recipe, broadcast=True, hash=False)
    if columns is None:
        lower = [(i, j) for i in range(len(rows)) for j in range(i + 1)]
        return {(i, j): compute(shared, rows.parts[i], None if i == j else rows.parts[j]) for i, j in lower}
    every = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    return {(i, j): compute(shared, rows.parts[i], columns.parts[j]) for i, j in every}


def cluster_kernels(plan: Plan, kinds: tuple[Kind, ...], how: Computation) -> tuple[Any, ...]:
    """Return kernels of samples in pieces as dask arrays (n, m), one for each kind.

    Nothing is computed yet.  Of a symmetric kernel the tiles above the diagonal are transposes.
    """
    rows: Pieces = plan.inputs.X
    columns: Pieces = rows if plan.same else plan.inputs.Y
    if how.memory_limit is not None:
        height, width = max(rows.chunks), max(columns.chunks)
        check.memory(
            height * width * len(kinds) * rows.dtype.itemsize,
            how.memory_limit,
            f"A block of the result, {len(kinds)} kernel(s) of {height} x {width} entries,",
            "backend='dask' computes it at a time on a worker, so raise the limit",
        )
    tiles = _tiles(recipe_for(plan, kinds, how), rows, plan.inputs.Y)
    return tuple(_array(tiles, number, rows, columns) for number in range(len(kinds)))


def _array(tiles: dict[tuple[int, int], Any], number: int, rows: Pieces, columns: Pieces) -> Any:
    """Put the tiles of one kernel together."""
    import dask.array as da

    def part(i: int, j: int) -> Any:
        if (i, j) in tiles:
            return da.from_delayed(tiles[i, j][number], (rows.rows(i), columns.rows(j)), rows.dtype)
        return part(j, i).T

    return da.block([[part(i, j) for j in range(len(columns))] for i in range(len(rows))])


class ClusterMatrix:
    """The tiles on and below the diagonal, kept by the workers or computed for every product.

    Parameters
    ----------
    recipe : Recipe
        Of one kind.
    rows : Pieces
    keep : bool
    """

    def __init__(self, recipe: Recipe, rows: Pieces, keep: bool) -> None:
        self._recipe, self._rows, self._keep = recipe, rows, keep
        self._tiles = _tiles(recipe, rows)
        self._kept = False

    def compute(self, progress: bool) -> None:
        """Let the workers compute what they keep."""
        self._patiently(lambda: self._persist(progress), "the kernel")

    def close(self) -> None:
        """Let the workers forget their tiles."""
        self._tiles, self._kept = {}, False

    def product(self, V: FloatArray, progress: bool) -> FloatArray:
        """Return the product with vectors (n, b), in double precision."""
        return self._patiently(lambda: self._multiply(V, progress), "a product")

    def _patiently(self, step: Callable[[], T], what: str) -> T:
        """Take a step that a lost worker may cost: the workers that are left begin it again with all that they need."""
        with cluster_errors():
            for _ in range(_TRIES - 1):
                try:
                    return step()
                except lost() as error:
                    logger.warning("Lost a part of %s with a worker (%s): computing it again.", what, error)
                    sleep(_PAUSE)
                    self._rows, self._kept = self._rows.sent_again(), False
                    self._tiles = _tiles(self._recipe, self._rows)
            return step()

    def _persist(self, progress: bool) -> None:
        if self._kept or not self._keep:
            return
        from distributed import as_completed, futures_of

        persisted = self._rows.client.persist(list(self._tiles.values()))
        with Stage("kernel", len(persisted), show=progress) as stage:
            for future in as_completed(futures_of(persisted)):
                future.result()
                stage.update()
        self._tiles = dict(zip(self._tiles, persisted, strict=True))
        self._kept = True

    def _multiply(self, V: FloatArray, progress: bool) -> FloatArray:
        from dask.delayed import delayed

        self._persist(progress)
        rows, reach = self._rows, self._rows.client
        parts = [V[start:stop] for start, stop in pairwise(rows.bounds)]
        # Part of the graph, and not scattered: what is lost with a worker is sent again.
        vectors = [delayed(part, pure=False) for part in parts]
        times, total = delayed(multiply, pure=False), delayed(add, pure=False)
        # One task for both halves of the matrix: the scheduler takes a millisecond for each.
        found = {
            (i, j): times(entries, vectors[j], None if i == j else vectors[i])
            for (i, j), entries in self._tiles.items()
        }
        every = range(len(rows))
        sums = [total([found[max(i, j), min(i, j)] for j in every], [int(j > i) for j in every]) for i in every]
        return np.concatenate(reach.gather(reach.compute(sums)))


def cluster_operators(
    plan: Plan, kinds: Sequence[Kind], how: Computation, method: str, progress: bool
) -> Iterator[KernelOperator]:
    """Yield kernels of samples in pieces as operators; see `rmtdeq.kernel_operator`."""
    rows: Pieces = plan.inputs.X
    recipe = recipe_for(plan, kinds, how)
    limit = math.inf if how.memory_limit is None else check.memory_allowed(how.memory_limit)[0]
    n = rows.norms.size
    needed, free = n * (n + rows.chunks[0]) / 2 * rows.dtype.itemsize, min(memory_of(rows.client), limit)
    if method == "cluster" and needed > free:
        source = "memory_limit" if free == limit else "memory of the workers"
        raise MemoryLimitError(
            f"Half the kernel of {n} samples takes {needed / 2**30:.3g} GiB, more than the {source} of "
            f"{free / 2**30:.3g} GiB; 'matrix-free' needs none, more workers have more memory."
        )
    if method == "auto":
        method = "cluster" if needed <= free else "matrix-free"
        logger.info("%d samples, method %r: %.3g GiB of entries.", n, method, needed / 2**30)
    for kind in kinds:
        store = partial(_store, replace(recipe, kinds=(kind,)), rows)
        record = partial(identity, plan.network, kind, rows.dtype, plan.inputs.array, "Dask workers")
        yield KernelOperator(n, store, record, method, rows.dtype, rows.dtype, progress)


def _store(recipe: Recipe, rows: Pieces, method: str) -> ClusterMatrix:
    return ClusterMatrix(recipe, rows, method == "cluster")
