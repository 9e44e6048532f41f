"""Kernels as linear operators: products with vectors, the matrix stored by halves or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._checkpoint import Checkpoint, checksum
from rmtdeq._errors import InvalidInputError
from rmtdeq._linear import SymmetricOperator
from rmtdeq._optional import require
from rmtdeq._types import KINDS, FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.kernels.host_matrix import HostMatrix
from rmtdeq.kernels.identity import identity
from rmtdeq.kernels.inputs import Samples
from rmtdeq.kernels.panels import Layout, Panels
from rmtdeq.kernels.placement import BACKENDS, UNLIMITED, placement
from rmtdeq.kernels.plan import Plan, make_plan
from rmtdeq.kernels.storage import METHODS, Wish, choose


class Store(Protocol):
    """A matrix and its products: `host_matrix.HostMatrix`, or one of `device.matrix` or `cluster.matrix`."""

    def compute(self, progress: bool) -> None:
        """Compute what is kept and is not there yet."""

    def product(self, V: FloatArray, progress: bool) -> FloatArray:
        """Return the product with vectors (n, b) in double precision."""

    def close(self) -> None:
        """Let go of what is kept."""


class KernelOperator(SymmetricOperator):
    """A symmetric kernel matrix, to be multiplied with vectors; made by `kernel_operator`.

    A scipy LinearOperator of shape (n, n).  Products are taken in double precision whatever the entries' is; they are
    returned in the precision asked for, or the vectors' where it is higher.

    Attributes
    ----------
    method : str
        How it is stored: ``"device"``, ``"dense"``, ``"float32"``, ``"memory-mapped"``, ``"cluster"`` or
        ``"matrix-free"``.
    entries_dtype : dtype
        Precision of the entries.
    """

    def __init__(
        self,
        n: int,
        store: Callable[[str], Store],
        identity: Callable[[], dict[str, Any]],
        method: str,
        dtype: np.dtype[Any],
        entries_dtype: np.dtype[Any],
        progress: bool = False,
    ) -> None:
        self.method, self.entries_dtype, self._progress = method, entries_dtype, progress
        self._store_by, self._identity = store, identity
        self._store = store(method)
        super().__init__(dtype=dtype, shape=(n, n))

    def close(self) -> None:
        """Forget what is stored, and remove temporary files; products compute the entries afresh from then on.

        The files are removed with the operator at the latest.
        """
        stored = self._store
        self.method, self._store = "matrix-free", self._store_by("matrix-free")
        stored.close()

    def identity(self) -> dict[str, Any]:
        """Return what the matrix depends on, with checksums of samples and activation."""
        return self._identity()

    def compute(self) -> KernelOperator:
        """Compute and store now what the first product would; return the operator itself."""
        self._store.compute(self._progress)
        return self

    def _matmat(self, V: FloatArray) -> FloatArray:
        if np.iscomplexobj(V):
            return np.asarray(self._matmat(V.real) + 1j * self._matmat(V.imag))
        result_dtype = np.result_type(self.dtype, V.dtype)
        found = self.compute()._store.product(np.ascontiguousarray(V, dtype=np.float64), self._progress)
        return found.astype(result_dtype, copy=False)


def kernel_operator(
    X: ArrayLike,
    deq: DEQ,
    kind: str = "ck",
    *,
    method: str = "auto",
    folder: str | Path | None = None,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    products: str = "full",
    memory_limit: float | None = None,
    group: Any = None,
    progress: bool = False,
) -> KernelOperator:
    """Return a kernel as a scipy LinearOperator that stores at most one half of the n x n matrix on the host.

    Parameters
    ----------
    X, deq, tau0_squared, backend, device, products
        As for `kernel`.
    kind : str
        One of ``"ck"``, ``"ntk"``, ``"ntk-full"``.
    method : str
        ``"dense"``: the half below the diagonal is computed once, at the first product, and kept in memory, n²/2
        entries; ``"float32"``: the same in single precision; ``"memory-mapped"``: in files; ``"matrix-free"``:
        entries are computed afresh for every product, which costs about one call of `kernel`.  ``"device"``: all n²
        entries are kept, and multiplied, on the device; ``"cluster"``: with backend="dask", the half is kept by its
        workers.  ``"auto"`` takes the first that fits, on a GPU of
        ``"device"`` and then the others in the order above, and logs its choice (a warning where it lowers the
        precision, or where a GPU has no room); with a `folder`, ``"memory-mapped"``.
    folder : path, optional
        Where the files of ``"memory-mapped"`` are.  Files that are already there are used, so that an interrupted
        computation goes on; they must be of the same samples and model.  A temporary folder by default.
    dtype : dtype, optional
        float64 or float32 of the entries; that of X by default.  ``"auto"`` does not lower it where it is given.
    memory_limit : float, optional
        Bytes that the stored entries may take; nine tenths of the free memory by default.
    group : torch.distributed.ProcessGroup, optional
        Processes with a device each, all of which make the same operator and use it in the same way: each keeps n²
        entries divided by their number (``"device"``), or computes as much (``"matrix-free"``).
    progress : bool
        Show a progress bar while entries are computed, if standard error is a terminal.

    Returns
    -------
    KernelOperator
        Of shape (n, n), symmetric.

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `kernel`; files in `folder` that are of another kernel.
    MemoryLimitError
        The stored half does not fit where `method` wants it.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((100, 50)) / np.sqrt(50)
    >>> op = rd.kernel_operator(X, rd.DEQ("relu", sigma_a2=0.2, sigma_b2=0.8), kind="ntk")
    >>> op.method, op.shape, (op @ np.ones(100)).shape
    ('dense', (100, 100), (100,))
    """
    _check.choice(kind, "kind", KINDS)
    kinds = _check.kinds(kind)
    _check.choice(method, "method", (*METHODS, "cluster"))
    _check.choice(backend, "backend", BACKENDS)
    if method == "cluster" and backend != "dask":
        raise InvalidInputError("method='cluster' is for backend='dask', whose workers keep the tiles.")
    if folder is not None and method not in ("auto", "memory-mapped"):
        raise InvalidInputError(f"folder= is for method='memory-mapped', not {method!r}.")
    where = None if folder is None else _check.folder(folder, "folder")
    if backend == "dask":
        if where is not None or group is not None:
            raise InvalidInputError("folder= and group= are not for backend='dask', whose workers keep the tiles.")
        if memory_limit is not None:
            raise InvalidInputError(UNLIMITED)
        from rmtdeq.kernels.cluster.matrix import cluster_operator

        return cluster_operator(X, deq, kinds[0], method, tau0_squared, dtype, device, products, progress)
    place = placement(X, backend=backend, device=device, dtype=dtype, products=products, keep=True)
    if method == "float32" and dtype is not None and place.dtype != np.float32:
        raise InvalidInputError(f"method='float32' stores single precision, and dtype={place.dtype} asks for more.")
    shares = 1
    if group is not None:
        if place.device is None or method not in ("auto", "device", "matrix-free"):
            raise InvalidInputError(
                "group= is for backend='torch' or 'triton' with method='device' or 'matrix-free', by which processes "
                "share a matrix."
            )
        shares = _shares(group, place.inputs)
    n = place.inputs.shape[0]
    wish = Wish(n, place.dtype, dtype is not None, place.device, shares)
    method = choose(method, wish, where, memory_limit)
    stored = place
    if method == "float32":
        single = np.dtype(np.float32)
        stored = replace(place, inputs=place.inputs.astype(single), dtype=single)
    plan = make_plan(stored, deq, kinds, tau0_squared, progress)

    def record() -> dict[str, Any]:
        assert isinstance(plan.inputs, Samples)
        return identity(plan.deq, kinds[0], stored.dtype, plan.inputs.array)

    def store(method: str) -> Store:
        return _store(plan, kinds[0], stored.dtype, method, where, record, group)

    return KernelOperator(n, store, record, method, place.dtype, stored.dtype, progress)


def _shares(group: Any, samples: Samples) -> int:
    """Return how many processes a group has, all of which must have the same samples."""
    distributed = require("torch").distributed
    if not isinstance(group, distributed.ProcessGroup):
        raise InvalidInputError(f"group must be a process group of torch.distributed, not {group!r}.")
    found: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, (samples.shape, checksum(samples.array)), group=group)
    if len(set(found)) > 1:
        raise InvalidInputError(f"The processes of the group have different samples: {found}.")
    return len(found)


def _store(
    plan: Plan,
    kind: Kind,
    dtype: np.dtype[Any],
    method: str,
    folder: Path | None,
    record: Callable[[], dict[str, Any]],
    group: Any,
) -> Store:
    """Return a place for the entries that is in this process, or on its device."""
    if method == "device" or (method == "matrix-free" and plan.device is not None):
        from rmtdeq.kernels.device.matrix import DeviceMatrix, DeviceTiles

        return DeviceMatrix(plan, kind, dtype, group) if method == "device" else DeviceTiles(plan, kind, dtype, group)
    if method == "matrix-free":
        return HostMatrix(plan, kind, dtype, None)
    layout, temporary, kept = Layout(plan.inputs.shape[0], dtype), None, None
    if method == "memory-mapped" and folder is None:
        folder = temporary = Path(tempfile.mkdtemp(prefix="rmtdeq-"))
    elif folder is not None:
        kept = Checkpoint(folder, record(), "kernel")
    return HostMatrix(plan, kind, dtype, Panels(layout, folder), temporary, kept)
