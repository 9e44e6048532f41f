"""Kernels as dask arrays of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Kind
from rmtdeq.kernels.computation import Computation
from rmtdeq.kernels.plan import pinned, tabulate
from rmtdeq.kernels.stores.cluster.client import client, cluster_errors
from rmtdeq.kernels.stores.cluster.pieces import Pieces, pieces
from rmtdeq.kernels.stores.cluster.tasks import Recipe, refusal, tile
from rmtdeq.network import Network


def model_of(network: Network, rows: Pieces, tau0_squared: float | None) -> Network:
    """Return the network with its activations centred for all samples, not for those of a tile."""
    mean = float(rows.norms.mean())
    model = pinned(network, float(rows.norms.max()), mean if tau0_squared is None else tau0_squared)
    check.warn_of_scale(mean)
    return model


def recipe_for(rows: Pieces, columns: Pieces | None, model: Network, kinds: Sequence[Kind], how: Computation) -> Recipe:
    """Check well-posedness on all samples, and return what their tiles share."""
    norms = rows.norms if columns is None else np.concatenate([rows.norms, columns.norms])
    tables = tabulate(model, kinds, norms)
    device = None if how.device is None else str(how.device)
    if device is not None:
        with cluster_errors():
            against = rows.client.submit(refusal, device, pure=False).result()
        if against is not None:
            raise InvalidInputError(f"A worker of the cluster says: {against}")
    return Recipe(tables, tuple(kinds), Computation(device=device, dtype=rows.dtype, products=how.products))


def sent(recipe: Recipe, reach: Any) -> Any:
    """Give every worker what its tiles share."""
    return reach.scatter(recipe, broadcast=True, hash=False)


def lower_tiles(recipe: Recipe, rows: Pieces) -> dict[tuple[int, int], Any]:
    """Return the tiles of a symmetric kernel on and below the diagonal, by their place, not computed yet."""
    from dask.delayed import delayed

    compute, shared = delayed(tile, pure=False), sent(recipe, rows.client)
    return {
        (i, j): compute(shared, rows.parts[i], None if i == j else rows.parts[j])
        for i in range(len(rows))
        for j in range(i + 1)
    }


def cluster_kernel(
    X: ArrayLike,
    network: Network,
    kinds: tuple[Kind, ...],
    how: Computation,
    *,
    Y: ArrayLike | None,
    tau0_squared: float | None,
) -> tuple[Any, ...]:
    """Return kernels as dask arrays (n, m), one for each kind; parameters as for `rmtdeq.kernel`.

    Nothing but the norms is computed yet.  Of a symmetric kernel the tiles above the diagonal are transposes.
    """
    from dask.delayed import delayed

    if how.memory_limit is not None:
        check.memory_allowed(how.memory_limit)
    reach = client()
    rows = pieces(X, "X", how.dtype, how.products, reach)
    columns = None if Y is None else pieces(Y, "Y", rows.dtype, how.products, reach)
    if columns is not None and columns.features != rows.features:
        raise InvalidInputError(f"X has {rows.features} features and Y has {columns.features}; they must agree.")
    if how.memory_limit is not None:
        height, width = max(rows.chunks), max((rows if columns is None else columns).chunks)
        check.memory(
            height * width * len(kinds) * rows.dtype.itemsize,
            how.memory_limit,
            f"A block of the result, {len(kinds)} kernel(s) of {height} x {width} entries,",
            "backend='dask' computes it at a time on a worker, so raise the limit",
        )
    recipe = recipe_for(rows, columns, model_of(network, rows, tau0_squared), kinds, how)
    if columns is None:
        tiles, across = lower_tiles(recipe, rows), rows
    else:
        compute, across, shared = delayed(tile, pure=False), columns, sent(recipe, reach)
        tiles = {
            (i, j): compute(shared, rows.parts[i], columns.parts[j])
            for i in range(len(rows))
            for j in range(len(columns))
        }
    return tuple(_array(tiles, number, rows, across) for number in range(len(kinds)))


def _array(tiles: dict[tuple[int, int], Any], number: int, rows: Pieces, columns: Pieces) -> Any:
    """Put the tiles of one kernel together."""
    import dask.array as da

    def part(i: int, j: int) -> Any:
        if (i, j) in tiles:
            return da.from_delayed(tiles[i, j][number], (rows.rows(i), columns.rows(j)), rows.dtype)
        return part(j, i).T

    return da.block([[part(i, j) for j in range(len(columns))] for i in range(len(rows))])
