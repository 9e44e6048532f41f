"""A symmetric kernel on the workers of a cluster, multiplied there with vectors."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from time import sleep
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError, MemoryLimitError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.computation import Computation
from rmtdeq.kernels.identity import identity
from rmtdeq.kernels.stores.cluster.arrays import lower_tiles, model_of, recipe_for
from rmtdeq.kernels.stores.cluster.client import client, cluster_errors, lost, memory_of
from rmtdeq.kernels.stores.cluster.pieces import Pieces, pieces
from rmtdeq.kernels.stores.cluster.tasks import Recipe, add, multiply
from rmtdeq.kernels.stores.operator import KernelOperator
from rmtdeq.network import Network

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TRIES, _PAUSE = 3, 2.0
"""A product is tried so often, with seconds between for a worker to come back."""


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
        self._tiles = lower_tiles(recipe, rows)
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
                    self._tiles = lower_tiles(self._recipe, self._rows)
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
    X: ArrayLike,
    network: Network,
    kinds: Sequence[Kind],
    how: Computation,
    method: str,
    tau0_squared: float | None,
    progress: bool,
) -> Iterator[KernelOperator]:
    """Yield kernels of the workers as operators; the samples are sent once.  See `rmtdeq.kernel_operator`."""
    if method not in ("auto", "cluster", "matrix-free"):
        raise InvalidInputError(f"backend='dask' has the methods 'cluster' and 'matrix-free', not {method!r}.")
    limit = math.inf if how.memory_limit is None else check.memory_allowed(how.memory_limit)[0]
    reach = client()
    rows = pieces(X, "X", how.dtype, how.products, reach)
    model = model_of(network, rows, tau0_squared)
    recipe = recipe_for(rows, None, model, kinds, how)
    n = rows.norms.size
    needed, free = n * (n + rows.chunks[0]) / 2 * rows.dtype.itemsize, min(memory_of(reach), limit)
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
        # Samples that are on workers are told apart by their norms.
        record = partial(identity, model, kind, rows.dtype, rows.norms, "Dask workers")
        yield KernelOperator(n, store, record, method, rows.dtype, rows.dtype, progress)


def _store(recipe: Recipe, rows: Pieces, method: str) -> ClusterMatrix:
    return ClusterMatrix(recipe, rows, method == "cluster")
