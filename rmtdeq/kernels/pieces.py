"""Samples cut into pieces that the workers of a cluster hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.cluster import client, cluster_errors, workers_of
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.kernels.samples import Samples, samples_of

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


@dataclass(frozen=True, eq=False)
class SamplesInPieces(Samples):
    """The rows of pieces X and Y; see `Samples`, of which norms alone are known here."""

    @property
    def array(self) -> FloatArray:
        """The squared norms of X, by which samples that are on workers are told apart."""
        return np.asarray(self.X.norms)

    def copy(self) -> Samples:
        """Return the samples, which nobody else can change."""
        return self

    def squared_norms(self) -> tuple[FloatArray, FloatArray]:
        """Of rows and columns."""
        return self.X.norms, self._columns.norms


def samples_in_pieces(X: ArrayLike, Y: ArrayLike | None, dtype: np.dtype[Any] | None, products: str) -> SamplesInPieces:
    """Cut samples into pieces and check them where they are; see `samples.samples_of`.

    An array is sent to two workers, a dask array computed by them when its tiles are.

    Raises
    ------
    ClusterError
        There are no workers.
    """
    reach = client()
    rows = _pieces(X, "X", dtype, products, reach)
    return SamplesInPieces(rows, None if Y is None else _pieces(Y, "Y", rows.dtype, products, reach), products)


def _pieces(X: Any, name: str, dtype: np.dtype[Any] | None, products: str, reach: Any) -> Pieces:
    from dask.delayed import delayed

    held: list[FloatArray] | None = None
    if type(X).__module__.startswith("dask.array"):
        if X.ndim != 2 or 0 in X.shape or np.isnan(X.shape).any():
            raise InvalidInputError(f"{name} must be a matrix (n, p) of known shape, not {X.shape}.")
        if X.dtype.kind not in "fiub":
            raise InvalidInputError(f"{name} must hold real numbers, not {X.dtype}.")
        bounds = _bounds(len(X))
        parts = list(X.rechunk({0: tuple(np.diff(bounds).tolist()), 1: -1}).to_delayed().ravel())
    else:
        X = check.samples(X, name)
        bounds = _bounds(len(X))
        held = [X[start:stop].copy() for start, stop in pairwise(bounds)]
        parts = _sent(reach, held)
    own = X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    precision = own if dtype is None else dtype
    norms = [delayed(_squared_norms)(part, precision, products) for part in parts]
    with cluster_errors():
        found = reach.gather(reach.compute(norms))
    return Pieces(reach, parts, bounds, np.concatenate(found), precision, X.shape[1], held)


def _squared_norms(X: FloatArray, dtype: np.dtype[Any], products: str) -> FloatArray:
    """Return those of samples as tiles take them, which checks them, too."""
    return samples_of(X, None, dtype, products).squared_norms()[0]


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
