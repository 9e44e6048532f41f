"""Kernel ridge regression on samples: by which solver, and where, from their number and the memory that there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.checkpoint import Checkpoint, checksum
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.data import ScaledRows
from rmtdeq.kernels import kernel, kernel_diagonal, kernel_operator
from rmtdeq.kernels.blocks import scratch_bytes
from rmtdeq.kernels.computation import engine
from rmtdeq.kernels.identity import identity
from rmtdeq.learning.iterative import iterative_path
from rmtdeq.learning.nystrom import nystrom_path
from rmtdeq.learning.places import Device, Host, Place
from rmtdeq.learning.ridge import RidgeFit, RidgeProblem, ridge_fit, ridge_path, ridge_problem
from rmtdeq.network import Network

SOLVERS = ("auto", "direct", "iterative", "nystrom")

logger = logging.getLogger(__name__)

_ALL_EIGENVALUES, _ONE_FACTOR = 8192, 20000
"""Samples up to which a decomposition takes less time than conjugate gradients: for several ridges, and for one."""

_FEWEST_CENTRES, _MATRICES = 1000, 5

_ENTRIES, _ENTRIES_ON_DEVICE = 1 << 24, 1 << 28
"""Of a kernel of new samples with those of the training that is there at a time."""


@dataclass(frozen=True)
class Solver:
    """How regressions are solved.

    Attributes
    ----------
    name : str
        ``"direct"``: one decomposition of the kernel; ``"iterative"``: conjugate gradients; ``"nystrom"``: on the span
        of some samples; ``"auto"``.
    backend, device
        Of the kernel, as for `rmtdeq.kernel`.  Where torch or Triton compute it, it stays on the device as far as there
        is room, and is decomposed and multiplied there.
    memory_limit : float, optional
        Bytes that n x n matrices may take; nine tenths of the free memory by default.
    folder : Path, optional
        Where conjugate gradients keep the kernel and what they have solved, and go on.
    centres : int, optional
        Samples that ``"nystrom"`` takes, drawn at random, always the same; four times the root of their number by
        default, but 1000 at least.
    """

    name: str = "auto"
    backend: str = "auto"
    device: Any = None
    memory_limit: float | None = None
    folder: Path | None = None
    centres: int | None = None

    def __post_init__(self) -> None:
        check.choice(self.name, "solver", SOLVERS)
        if self.centres is not None:
            check.integer(self.centres, "centres")
            if self.name not in ("auto", "nystrom"):
                raise InvalidInputError(f"centres= is for solver='nystrom', not {self.name!r}.")

    def choice(self, n: int, single: bool, precision: np.dtype[Any]) -> str:
        """Return the name of the solver that is used.

        Parameters
        ----------
        n : int
            Samples.
        single : bool
            Whether there is one ridge.
        precision : dtype
            Of the kernel.

        Raises
        ------
        InvalidInputError
            A folder, and nothing that is kept there.
        MemoryLimitError
            No room for a decomposition that was asked for.
        """
        chosen = self._automatic(n, single, precision) if self.name == "auto" else self.name
        if self.name == "direct":
            self._require_memory(n, 1 if single else 2, precision)
        if chosen != "iterative" and self.folder is not None:
            few = "so few samples are done without" if chosen == "direct" else "two passes over the samples are not"
            raise InvalidInputError(
                f"checkpoint= keeps what conjugate gradients have reached, and {few}; leave it out, or pass "
                "solver='iterative'."
            )
        return chosen

    def _automatic(self, n: int, single: bool, precision: np.dtype[Any]) -> str:
        if self.centres is not None:
            return "nystrom"
        allowed, source = check.memory_allowed(self.memory_limit)
        few = n <= (_ONE_FACTOR if single else _ALL_EIGENVALUES)
        if few and _bytes(n, 1 if single else 2, precision) <= allowed:
            return "direct"
        half = n * (n + 1) / 2 * precision.itemsize
        if half <= allowed or self.folder is not None or self._room(n, precision, 2) is not None:
            return "iterative"
        logger.warning(
            "Half the kernel of %d samples takes %.3g GiB, more than the %s of %.3g GiB: learning on the span of %d of "
            "them, solver='nystrom'; centres= sets how many. solver='iterative' with checkpoint=FOLDER keeps the "
            "kernel in files.",
            n,
            half / 2**30,
            source,
            allowed / 2**30,
            self._centres(n),
        )
        return "nystrom"

    def _centres(self, n: int) -> int:
        return min(n, max(_FEWEST_CENTRES, round(4 * math.sqrt(n))) if self.centres is None else self.centres)

    def learn(
        self,
        X: FloatArray | ScaledRows,
        targets: FloatArray,
        network: Network,
        kind: str,
        ridges: Sequence[float] | None = None,
        *,
        weights: FloatArray | None = None,
        intercept: bool = True,
    ) -> tuple[FloatArray, list[RidgeFit]]:
        """Return the regressions with several ridges, or with those that the kernel suggests.

        Parameters
        ----------
        X : ndarray (n, p) or ScaledRows
            Samples in the scaling of `rmtdeq.kernel`, in the precision of the kernel.
        targets : ndarray (n,) or (n, k)
        network : Network
            Pinned, see `Network.pinned`.
        kind : str
        ridges : sequence of float, optional
        weights : ndarray (n,), optional
            Positive.
        intercept : bool
            Learn a constant as well.

        Returns
        -------
        anchors : ndarray (m, p)
            The samples that coefficients are of: all of them, or the centres.
        fits : list of RidgeFit

        Raises
        ------
        InvalidInputError, IllPosedError, MemoryLimitError, ConvergenceError
            As for `rmtdeq.DEQRegressor.fit`.
        """
        options: dict[str, Any] = {"weights": weights, "intercept": intercept}
        single = ridges is not None and len(ridges) == 1
        chosen = self.choice(len(X), single, X.dtype)
        if chosen == "nystrom":
            problem = ridge_problem(len(X), targets, weights, intercept)
            return self._on_centres(X, problem, network, kind, ridges)
        samples = X[:]
        if chosen == "iterative":
            problem = ridge_problem(len(X), targets, weights, intercept)
            return samples, self._iterated(samples, problem, network, kind, ridges)
        place = self._room(len(X), X.dtype, 3)
        K = self.kernel(samples, network, kind) if place is None else self._kept(place.put(samples), network, kind)
        if ridges is not None and single:
            return samples, [ridge_fit(K, targets, ridges[0], **options)]
        path = ridge_path(K, targets, **options)
        return samples, path.fits(path.grid() if ridges is None else ridges)

    def _on_centres(
        self,
        X: FloatArray | ScaledRows,
        problem: RidgeProblem,
        network: Network,
        kind: str,
        ridges: Sequence[float] | None,
    ) -> tuple[FloatArray, list[RidgeFit]]:
        """Fit on the span of some samples, in double precision: their kernel is as good as singular in single."""
        n, m = len(X), self._centres(len(X))
        check.memory(
            _MATRICES * m * m * 8,
            self.memory_limit,
            f"Learning on the span of {m} samples, {_MATRICES} matrices of {m} x {m} entries in double precision,",
            "take fewer, as centres=1000",
        )
        chosen = np.sort(np.random.default_rng(0).choice(n, m, replace=False))
        anchors = X[chosen].astype(float)
        device = self._device()
        place: Place = Host() if device is None else device
        there = None if device is None else device.put(anchors)

        def columns(part: slice) -> Any:
            rows = X[part].astype(float)
            if device is None:
                return self.kernel(rows, network, kind, anchors)
            return self._kept(device.put(rows), network, kind, there)

        own = self.kernel(anchors, network, kind, anchors) if device is None else self._kept(there, network, kind)
        path = nystrom_path(own, columns, problem, place)
        return anchors, path.fits(path.grid() if ridges is None else ridges)

    def values(
        self,
        Z: FloatArray | ScaledRows,
        X: FloatArray,
        network: Network,
        kind: str,
        coefficients: FloatArray,
        intercept: Any = 0.0,
    ) -> FloatArray:
        """Return Σ_j K(z, x_j) a_j + b for samples Z (m, p), some of them at a time, (m, k)."""
        place = self._device()
        if place is None:
            parts = _parts(Z, _ENTRIES // len(X))
            return np.concatenate([self.kernel(part, network, kind, X) @ coefficients + intercept for part in parts])
        from rmtdeq.kernels.stores.device import product_in_double

        columns, vectors = place.put(X), place.put(np.asarray(coefficients, dtype=float))
        parts = _parts(Z, _ENTRIES_ON_DEVICE // len(X))
        found = (product_in_double(self._kept(place.put(part), network, kind, columns), vectors) for part in parts)
        return np.concatenate([place.take(each) for each in found]) + intercept

    def kernel(self, rows: FloatArray, network: Network, kind: str, columns: FloatArray | None = None) -> FloatArray:
        """Return the kernel of rows with themselves, or with others, C-contiguous."""
        options: dict[str, Any] = {"backend": self.backend, "device": self.device, "progress": False}
        limit = self.memory_limit if columns is None else None
        return np.ascontiguousarray(kernel(rows, network, kind, Y=columns, memory_limit=limit, **options))

    def _kept(self, samples: Any, network: Network, kind: str, columns: Any = None) -> Any:
        """Return the kernel of tensors, where they are."""
        backend = "torch" if samples.device.type == "cpu" else self.backend
        return kernel(samples, network, kind, Y=columns, backend=backend, progress=False)

    def _device(self) -> Device | None:
        """Return the device on which torch or Triton compute, if they do."""
        name, device = engine(None, backend=self.backend, device=self.device)
        return None if device is None or name == "dask" else Device(device)

    def _room(self, n: int, precision: np.dtype[Any], matrices: int) -> Device | None:
        """Return the device, if there is one that has room for so many matrices of n x n entries."""
        place = self._device()
        if place is None:
            return None
        from rmtdeq.kernels.engines.torch_tables import free_memory

        room = min(free_memory(place.device), self.memory_limit or float("inf"))
        return place if matrices * n * n * precision.itemsize <= room else None

    def _iterated(
        self, X: FloatArray, problem: RidgeProblem, network: Network, kind: str, ridges: Sequence[float] | None
    ) -> list[RidgeFit]:
        """Fit by conjugate gradients."""
        squares = np.square(problem.roots)
        trace = float(squares @ kernel_diagonal(X, network, kind))
        with ExitStack() as open_:
            stored = open_.enter_context(self._stored(X, network, kind))
            kept = None
            if self.folder is not None:
                record = {
                    **stored.record(),
                    "targets": checksum(problem.targets),
                    "weights": checksum(squares),
                    "intercept": problem.constant,
                }
                kept = open_.enter_context(closing(Checkpoint(self.folder / "ridges", record, "regression")))
            path = iterative_path(
                stored.product, stored.columns, trace, problem, stored.precision, place=stored.place, kept=kept
            )
            return path.fits(path.grid() if ridges is None else np.array(ridges))

    @contextmanager
    def _stored(self, X: FloatArray, network: Network, kind: str) -> Iterator[_Stored]:
        """Keep a kernel: all of it on a device, or half of it on the host or in files."""
        place = self._room(len(X), X.dtype, 2)
        if place is not None:
            from rmtdeq.kernels.stores.device import product_in_double

            K = self._kept(place.put(X), network, kind)
            record = partial(identity, network, check.kinds(kind)[0], X.dtype, X)
            yield _Stored(partial(product_in_double, K), lambda few: K[:, place.rows(few)], X.dtype, record, place)
            return
        operator = kernel_operator(
            X,
            network,
            kind,
            folder=None if self.folder is None else self.folder / "kernel",
            backend=self.backend,
            device=self.device,
            memory_limit=self.memory_limit,
            progress=True,
        )
        with closing(operator):
            yield _Stored(
                operator.__matmul__,
                lambda few: self.kernel(X, network, kind, X[few]),
                operator.entries_dtype,
                operator.identity,
                Host(),
            )

    def _require_memory(self, n: int, matrices: int, precision: np.dtype[Any]) -> None:
        half = "dtype='float32' takes half, " if precision == np.float64 else ""
        single = "one ridge instead of several takes half, " if matrices > 1 else ""
        check.memory(
            _bytes(n, matrices, precision),
            self.memory_limit,
            f"Kernel ridge regression on {n} samples, {matrices} matrices of {n} x {n} entries,",
            f"{half}{single}solver='iterative' keeps half a matrix, or learn from fewer samples",
        )


def _parts(samples: FloatArray | ScaledRows, rows: int) -> Iterator[FloatArray]:
    """Yield parts of so many samples at most."""
    for start in range(0, len(samples), max(1, rows)):
        yield samples[start : start + max(1, rows)]


@dataclass(frozen=True, eq=False)
class _Stored:
    """A kernel that is kept somewhere: products with it, columns of it, its precision, and what it depends on."""

    product: Callable[[Any], Any]
    columns: Callable[[IntArray], Any]
    precision: np.dtype[Any]
    record: Callable[[], dict[str, Any]]
    place: Place


def _bytes(n: int, matrices: int, precision: np.dtype[Any]) -> int:
    return matrices * n * n * precision.itemsize + scratch_bytes(precision.itemsize)
