"""The exact kernels of a network on data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from rmtdeq._lib import check
from rmtdeq._lib.arrays import as_given, is_tensor, taken
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.moved import deprecated
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.outputs import device_outputs, given_outputs, host_outputs
from rmtdeq.kernels.plan import make_plan
from rmtdeq.network import Network, require_network


def kernel(
    X: ArrayLike,
    deq: Network,
    kind: str | Sequence[str] = "ck",
    *,
    Y: ArrayLike | None = None,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: Any = None,
    products: str = "full",
    out: FloatArray | Sequence[FloatArray] | None = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> Any:
    """Compute the exact kernels of a network of infinite width.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row, squared norms of order one.  Zero rows are allowed: if φ(0) = 0 their kernel with
        every sample is zero, otherwise what the recurrence makes of φ(0).
    deq : DEQ or Network
        A centred model is pinned at `tau0_squared` (see `Network.pinned`).
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` (input weights and bias of the first layer fixed), ``"ntk-full"`` (all weights trained);
        several are computed in one pass.
    Y : array_like (m, p), optional
        Columns; X itself by default.  Blocks computed one at a time fit together only if a centred model is
        centred at one place: pass `tau0_squared`, or a pinned model.
    tau0_squared : float, optional
        Where to centre φ; the mean squared norm of X by default.  Uncentred models ignore the question.
    backend : str
        ``"numba"`` (parallel, the default), ``"numpy"`` (the same algorithm without compilation), ``"torch"`` (the
        same on any device, a tile at a time) or ``"triton"`` (on a GPU, all of a tile in one pass).  ``"auto"`` takes
        numba on the CPU; on a GPU Triton where it is installed, or torch, and logs which.  ``"dask"``: on the workers
        of the Dask client that is in use, or of a local cluster; X may be a dask array.
    dtype : dtype, optional
        float64 or float32 of the result and of the product X Yᵀ; that of X by default.  In float32 entries are
        within 1e-6 of the diagonal, on a GPU within 2e-6 (its products of 784 features are rounded to 5e-7, those of
        a CPU to less, and the kernels amplify that by a factor of a few).
    device : str or torch.device, optional
        Where torch or Triton compute; by default where X is, if that is a tensor, or the CPU.
    products : str
        ``"full"``: inner products of the samples as they are.  ``"tf32"`` or ``"bfloat16"``: of samples whose entries
        are rounded to 11 or 8 significant bits, which the tensor cores of a GPU multiply many times faster.  The
        result is float32 and, within its usual accuracy and whatever the engine, the kernel of the rounded samples,
        whose distance from X is at most 2^-11 (0.05 %) or 2^-8 (0.4 %) of their norms.
    out : ndarray or tuple of ndarray, optional
        Arrays (n, m) to write into, such as memory maps; one for each kind.  Where the computation is interrupted, a
        note on the exception says which part of them is complete.
    memory_limit : float, optional
        Bytes that the result may take; nine tenths of the free memory by default.  With ``backend="dask"``, whose
        result is not computed yet and need never be whole in one place, bytes that a block of it may take.
    progress : bool
        Tell how far it is if standard error is a terminal.

    Returns
    -------
    ndarray (n, m), or a tuple of them
        One for each kind, in the order asked for.  From a tensor X tensors where X is, or on the host if they do not
        fit there (which is logged); from an array of another library that knows DLPack, as those of JAX and CuPy,
        arrays of that library, without a copy where it takes them without one; else arrays of numpy; dask arrays, not
        computed yet, with ``backend="dask"``.  Beyond the results each thread holds 256 x 1024 entries.  The first call
        on a machine compiles the engine (about 5 s, and says so on a terminal); later processes load it.

    Raises
    ------
    InvalidInputError
        NaN, wrong shapes, unknown names.
    IllPosedError
        No contraction on these data, or an infinite NTK.
    MemoryLimitError
        The result does not fit; `kernel_operator` never stores it.

    Notes
    -----
    K_ij = σ_a² G_ij + σ_b² x_i·x_j with G_ij = E φ(u)φ(v), (u, v) Gaussian with covariances K_ii, K_ij, K_jj, is
    the CK (arXiv 2402.02697), G_ij / (1 - σ_a² E φ'(u)φ'(v)) the NTK (arXiv 2310.14062); for several layers see
    `Network`.  An entry goes through all layers at once: nothing of n² entries is kept but the results.

    Entries are sums of Mehler's series; for nearly parallel pairs closed forms, tables or quadratures.  In double
    precision they are within 1e-12 of √(K_ii K_jj) for norms from 1e-6 to 1e6 and any angle; for piecewise
    linear activations that end level within as much up to pre-activations of 1e3, and in proportion beyond.
    Expectations below 1e-20, of functions that vanish around zero, may count as zero.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((100, 50)) / np.sqrt(50)
    >>> G, T = rd.kernel(X, rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8), kind=("ck", "ntk"))
    >>> G.shape, bool((np.diag(T) > np.diag(G)).all())
    ((100, 100), True)
    """
    kinds = check.kinds(kind)
    how = Computation(backend, device, dtype, products, memory_limit)
    results = dense_kernels(X, deq, kinds, how, Y=Y, tau0_squared=tau0_squared, out=out, progress=progress)
    return check.as_asked(kind, results if out is not None else [as_given(each, X) for each in results])


def layered_kernel(X: ArrayLike, layers: Sequence[Activation], kind: str | Sequence[str] = "ck", **options: Any) -> Any:
    """Return ``kernel(X, Network(layers), kind, **options)``; this name goes with the next release."""
    deprecated("rmtdeq.kernels.layered_kernel(X, layers, ...)", "rmtdeq.kernel(X, rmtdeq.Network(layers), ...)")
    return kernel(X, Network(layers), kind, **options)


def dense_kernels(
    X: Any,
    network: Network,
    kinds: tuple[Kind, ...],
    how: Computation,
    *,
    Y: Any = None,
    tau0_squared: float | None = None,
    out: FloatArray | Sequence[FloatArray] | None = None,
    progress: bool = True,
) -> tuple[Any, ...]:
    """Compute one kernel for each kind, arrays or tensors; parameters as for `kernel`."""
    require_network(network)
    X, Y = taken(X), taken(Y, "Y")
    if how.backend == "dask" and out is not None:
        raise InvalidInputError("out= is not for backend='dask', whose arrays have to_zarr and store.")
    place = placement(X, Y, how)
    plan = make_plan(place.inputs, network, kinds, tau0_squared)
    if place.backend == "dask":
        from rmtdeq.kernels.stores.cluster import cluster_kernels

        return cluster_kernels(plan, kinds, how)
    shape, precision = place.inputs.shape, place.dtype
    if out is not None:
        outputs = given_outputs(out, kinds, shape, precision, (X, Y))
    elif place.device is None or not is_tensor(X):
        outputs = host_outputs(kinds, shape, precision, how.memory_limit)
    else:
        outputs = device_outputs(kinds, shape, precision, X.device, how.memory_limit)
    engine = engine_of(plan, place, progress)
    fill_matrix(engine, outputs, progress=progress)
    return tuple(outputs[name] for name in kinds)


def kernel_diagonal(
    X: ArrayLike,
    deq: Network,
    kind: str | Sequence[str] = "ck",
    *,
    tau0_squared: float | None = None,
    dtype: DTypeLike | None = None,
) -> Any:
    """Compute the diagonal of a kernel alone, which depends on the samples' norms.

    Parameters
    ----------
    X, deq, tau0_squared, dtype
        As for `rmtdeq.kernel`.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.

    Returns
    -------
    ndarray (n,), or a tuple of them, one for each kind; in the library of X, as for `rmtdeq.kernel`

    Raises
    ------
    InvalidInputError, IllPosedError
        As for `rmtdeq.kernel`.
    """
    kinds = check.kinds(kind)
    inputs = placement(X, None, Computation("numpy", dtype=dtype)).inputs
    found = make_plan(inputs, deq, kinds, tau0_squared).diagonal(slice(0, inputs.shape[0]), kinds)
    return check.as_asked(kind, (as_given(found[each].astype(inputs.dtype, copy=False), X) for each in kinds))
