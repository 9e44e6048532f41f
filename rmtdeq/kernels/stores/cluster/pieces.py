"""Samples cut into pieces that the workers hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.kernels.stores.cluster.client import cluster_errors, workers_of
from rmtdeq.kernels.stores.cluster.tasks import squared_norms

SIDE = 4096
"""Rows of a piece."""

_FEWEST, _MOST = 8, 128
"""Pieces: fewer rows each where there would be fewer, more where there would be more."""

_COPIES = 2
"""Workers that hold each piece at first; the scheduler's memory manager may let the second go."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Consecutive rows of samples on the workers.

    Attributes
    ----------
    client : distributed.Client
    parts : list of Future or Delayed
        Each of an array of some rows.
    bounds : list of int
        Where they begin, and where the last one ends.
    norms : ndarray (n,)
        Squared.
    dtype : dtype
        Of the kernels.
    features : int
    held : list of ndarray, or None
        The pieces as this process keeps them, to be sent again where theirs are lost with workers; None where workers
        can compute theirs again.
    """

    client: Any
    parts: list[Any]
    bounds: list[int]
    norms: FloatArray
    dtype: np.dtype[Any]
    features: int
    held: list[FloatArray] | None

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, p)."""
        return self.norms.size, self.features

    def sent_again(self) -> Pieces:
        """Return the same pieces, on the workers that there are now."""
        return self if self.held is None else replace(self, parts=_sent(self.client, self.held))

    def rows(self, i: int) -> int:
        """Number of rows of a piece."""
        return self.bounds[i + 1] - self.bounds[i]

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Numbers of rows."""
        return tuple(self.rows(i) for i in range(len(self)))


def is_dask(X: Any) -> bool:
    """Say whether X is a dask array, without loading dask."""
    return type(X).__module__.startswith("dask.array")


def pieces(X: ArrayLike, name: str, dtype: DTypeLike | None, products: str, reach: Any) -> Pieces:
    """Cut samples into pieces and check them where they are.

    Parameters
    ----------
    X : array_like, or dask array (n, p)
        An array is sent to two workers, a dask array computed by them when its tiles are.
    name : str
    dtype : dtype, optional
        Of the kernels; that of X, or float32 for rounded `products`, by default.
    products : str
    reach : distributed.Client
    """
    from dask.delayed import delayed

    example: FloatArray
    held: list[FloatArray] | None
    if is_dask(X):
        if X.ndim != 2 or 0 in X.shape or np.isnan(X.shape).any():  # type: ignore[union-attr]
            raise InvalidInputError(f"{name} must be a matrix (n, p) of known shape, not {X.shape}.")  # type: ignore[union-attr]
        if X.dtype.kind not in "fiub":  # type: ignore[union-attr]
            raise InvalidInputError(f"{name} must hold real numbers, not {X.dtype}.")  # type: ignore[union-attr]
        shape = X.shape  # type: ignore[union-attr]
        bounds = _bounds(shape[0])
        rows: Any = X.rechunk({0: tuple(np.diff(bounds).tolist()), 1: -1})  # type: ignore[union-attr]
        held, parts = None, list(rows.to_delayed().ravel())
        example = np.empty(1, dtype=X.dtype)  # type: ignore[union-attr]
    else:
        array = check.samples(X, name)
        shape, bounds = array.shape, _bounds(len(array))
        held = [array[start:stop].copy() for start, stop in pairwise(bounds)]
        parts = _sent(reach, held)
        example = array[:1]
    precision = _precision(example, dtype, products)
    norms = [delayed(squared_norms)(part, products, precision) for part in parts]
    with cluster_errors():
        found = reach.gather(reach.compute(norms))
    return Pieces(reach, parts, bounds, np.concatenate(found), precision, int(shape[1]), held)


def _sent(reach: Any, held: list[FloatArray]) -> list[Any]:
    parts: list[Any] = reach.scatter(held, hash=False)
    workers = len(workers_of(reach))
    if workers > 1:
        reach.replicate(parts, n=min(_COPIES, workers))
    return parts


def _bounds(n: int) -> list[int]:
    side = side_of(n)
    return [*range(0, n, side), n]


def side_of(n: int) -> int:
    """Return how many of n samples are in a piece."""
    return max(min(SIDE, -(-n // _FEWEST)), -(-n // _MOST))


def _precision(example: FloatArray, dtype: DTypeLike | None, products: str) -> np.dtype[Any]:
    if dtype is None and products != "full":
        dtype = np.float32
    floating = example if example.dtype in (np.float32, np.float64) else example.astype(np.float64)
    return check.precision(dtype, floating)
