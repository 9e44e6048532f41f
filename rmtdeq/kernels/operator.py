"""Kernels as linear operators: products with vectors, the matrix stored by halves or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.checkpoint import Checkpoint, checksum
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import Kind
from rmtdeq.kernels.blocks import Engine, HostEngine
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.identity import identity
from rmtdeq.kernels.plan import Plan, make_plan
from rmtdeq.kernels.samples import Samples
from rmtdeq.kernels.stores.choice import METHODS, Wish, choose
from rmtdeq.kernels.stores.host import HostMatrix
from rmtdeq.kernels.stores.operator import KernelOperator, Store
from rmtdeq.kernels.stores.panels import Layout, Panels
from rmtdeq.network import Network, require_network


def kernel_operator(
    X: ArrayLike,
    deq: Network,
    kind: str | Sequence[str] = "ck",
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
) -> Any:
    """Return a kernel as a scipy LinearOperator that stores at most one half of the n x n matrix on the host.

    Parameters
    ----------
    X, deq, tau0_squared, backend, device, products
        As for `kernel`.
    kind : str or tuple of str
        One of ``"ck"``, ``"ntk"``, ``"ntk-full"``, or several, each of which is an operator.
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
        Bytes that the stored entries may take; nine tenths of the free memory by default.  With ``backend="dask"``,
        bytes on all workers together, by default six tenths of what they have.
    group : torch.distributed.ProcessGroup, optional
        Processes with a device each, all of which make the same operator and use it in the same way: each keeps n²
        entries divided by their number (``"device"``), or computes as much (``"matrix-free"``).
    progress : bool
        Tell how far it is while entries are computed, if standard error is a terminal.

    Returns
    -------
    KernelOperator, or a tuple of them
        Of shape (n, n), symmetric; one for each kind.

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
    kinds = check.kinds(kind)
    how = Computation(backend, device, dtype, products, memory_limit)
    options: dict[str, Any] = {"tau0_squared": tau0_squared, "group": group, "progress": progress}
    if not isinstance(kind, str):
        options |= {"apart": True, "together": len(kinds)}
    found = operators_of(X, deq, kinds, how, method=method, folder=folder, **options)
    return check.as_asked(kind, found)


def operators_of(
    X: ArrayLike,
    network: Network,
    kinds: Sequence[Kind],
    how: Computation,
    *,
    method: str = "auto",
    folder: str | Path | None = None,
    tau0_squared: float | None = None,
    group: Any = None,
    apart: bool = False,
    together: int = 1,
    progress: bool = False,
) -> Iterator[KernelOperator]:
    """Yield kernels as operators; parameters as for `kernel_operator`.

    Samples are checked, and the network is worked out on them, once for all of them.

    Parameters
    ----------
    apart : bool
        Give each kind a folder of its own within `folder`.
    together : int
        So many of the operators are there at a time.
    """
    require_network(network)
    check.choice(method, "method", (*METHODS, "cluster"))
    if method == "cluster" and how.backend != "dask":
        raise InvalidInputError("method='cluster' is for backend='dask', whose workers keep the tiles.")
    if folder is not None and method not in ("auto", "memory-mapped"):
        raise InvalidInputError(f"folder= is for method='memory-mapped', not {method!r}.")
    where = None if folder is None else check.folder(folder, "folder")
    if how.backend == "dask":
        if where is not None or group is not None:
            raise InvalidInputError("folder= and group= are not for backend='dask', whose workers keep the tiles.")
        if method not in ("auto", "cluster", "matrix-free"):
            raise InvalidInputError(f"backend='dask' has the methods 'cluster' and 'matrix-free', not {method!r}.")
    place = placement(X, None, how, keep=True)
    if place.backend == "dask":
        from rmtdeq.kernels.stores.cluster import cluster_operators

        plan = make_plan(place.inputs, network, kinds, tau0_squared)
        yield from cluster_operators(plan, kinds, how, method, progress)
        return
    exactly = how.dtype is not None
    if method == "float32" and exactly and place.dtype != np.float32:
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
    method = choose(method, Wish(n, place.dtype, exactly, place.device, shares, together), where, how.memory_limit)
    inputs = place.inputs.astype(np.dtype(np.float32)) if method == "float32" else place.inputs
    plan = make_plan(inputs, network, kinds, tau0_squared)
    engine = engine_of(plan, place, progress)
    for kind in kinds:
        record = partial(_record, plan, kind)
        folder_of = where if where is None or not apart else where / kind
        store = partial(_store, engine, kind, folder=folder_of, record=record, group=group)
        yield KernelOperator(n, store, record, method, place.dtype, inputs.dtype, progress)


def _record(plan: Plan, kind: Kind) -> dict[str, Any]:
    return identity(plan.network, kind, plan.inputs.dtype, plan.inputs.array)


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
    engine: Engine,
    kind: Kind,
    method: str,
    folder: Path | None,
    record: Callable[[], dict[str, Any]],
    group: Any,
) -> Store:
    """Return a place for the entries that is in this process, or on its device."""
    if method == "device" or (method == "matrix-free" and not isinstance(engine, HostEngine)):
        from rmtdeq.kernels.engines.torch_engine import TorchEngine
        from rmtdeq.kernels.stores.device import DeviceMatrix, DeviceTiles

        assert isinstance(engine, TorchEngine)
        return DeviceMatrix(engine, kind, group) if method == "device" else DeviceTiles(engine, kind, group)
    if method == "matrix-free":
        return HostMatrix(engine, kind, None)
    inputs = engine.plan.inputs
    layout, temporary, kept = Layout(inputs.shape[0], inputs.dtype), None, None
    if method == "memory-mapped" and folder is None:
        folder = temporary = Path(tempfile.mkdtemp(prefix="rmtdeq-"))
    elif folder is not None:
        kept = Checkpoint(folder, record(), "kernel")
    return HostMatrix(engine, kind, Panels(layout, folder), temporary, kept)
