"""What a worker does: compute a tile, multiply it with vectors, add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib.errors import RmtdeqError
from rmtdeq._lib.threads import alone
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.computation import Computation, engine, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.plan import NetworkTables, plan_with


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


def squared_norms(X: FloatArray, products: str, dtype: np.dtype[Any]) -> FloatArray:
    """Return those of samples as tiles take them, which checks them, too."""
    return placement(X, None, Computation(dtype=dtype, products=products)).inputs.squared_norms()[0]


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
