"""The exact kernels of an implicit network on data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._errors import IllPosedError, InvalidInputError
from rmtdeq._types import FloatArray, IntArray, Kind
from rmtdeq.deq import DEQ, require_deq
from rmtdeq.kernels.exact import solve_pairs
from rmtdeq.kernels.profile import Profile, ScaleTable, scale_table

BACKENDS = ("auto", "numba", "numpy")
BLOCK = 4096
_FIRST_DEGREE = 24
_LATER_DEGREES = (96, 512)
_PAIR_CHUNK = 4096
_SMALLEST_NORM2, _LARGEST_NORM2 = 1e-200, 1e16

TileSolver = Callable[..., int]
Outputs = dict[Kind, FloatArray]


@dataclass(frozen=True)
class Plan:
    """Everything about the rows and columns of a kernel that is computed once.

    Attributes
    ----------
    deq : DEQ
        Uncentred (`DEQ.pinned`).
    X, Y : ndarray (n, p), (m, p)
    same : bool
        Y is X.
    table : ScaleTable
    rows, columns : Profile
        Per-sample quantities of X and Y.
    hermite : tuple of ndarray
        Hermite coefficients (degree + 1, ·) of X and Y.
    degrees, cutoffs : ndarray
        See `ScaleTable.cutoffs`.
    solver : callable
        The engine: `tiles.solve_tiles` or one of the same signature.
    """

    deq: DEQ
    X: FloatArray
    Y: FloatArray
    same: bool
    table: ScaleTable
    rows: Profile
    columns: Profile
    hermite: tuple[FloatArray, FloatArray]
    degrees: IntArray
    cutoffs: FloatArray
    solver: TileSolver

    def with_degree(self, degree: int) -> Plan:
        """Return the plan with longer series."""
        at_nodes = self.table.hermite(degree)
        degrees, cutoffs = self.table.cutoffs(at_nodes)
        rows = self.table.coefficients(at_nodes, self.rows.sigma)
        columns = rows if self.same else self.table.coefficients(at_nodes, self.columns.sigma)
        return replace(self, hermite=(rows, columns), degrees=degrees, cutoffs=cutoffs)


def make_plan(
    X: FloatArray, Y: FloatArray | None, deq: DEQ, kinds: Sequence[Kind], backend: str, tau0_squared: float | None
) -> Plan:
    """Check well-posedness on these data and compute all per-sample quantities."""
    require_deq(deq)
    norms_x = _squared_norms(X)
    norms_y = norms_x if Y is None else _squared_norms(Y)
    highest = float(max(norms_x.max(), norms_y.max()))
    if highest == 0:
        raise InvalidInputError("Every sample is zero; the kernel needs at least one that is not.")
    if not _SMALLEST_NORM2 <= highest <= _LARGEST_NORM2:
        raise InvalidInputError(
            f"The largest squared norm is {highest:.3g}, and must lie between {_SMALLEST_NORM2:.0g} and "
            f"{_LARGEST_NORM2:.0g}: scale the data so that squared norms are of order one."
        )
    if deq.centered:
        if tau0_squared is None:
            tau0_squared = float(norms_x.mean())
        deq = deq.pinned(tau0_squared)
    table = scale_table(deq, float(min(norms_x.min(), norms_y.min())), highest)
    if tuple(kinds) != ("ck",):
        table.check_tangent()
    rows = table.profile(norms_x)
    columns = rows if Y is None else table.profile(norms_y)
    empty = np.empty((0, 0))
    plan = Plan(
        deq=deq,
        X=X,
        Y=X if Y is None else Y,
        same=Y is None,
        table=table,
        rows=rows,
        columns=columns,
        hermite=(empty, empty),
        degrees=np.empty(0, dtype=np.int64),
        cutoffs=empty,
        solver=_solver(backend),
    )
    return plan.with_degree(_FIRST_DEGREE)


def _solver(backend: str) -> TileSolver:
    if backend == "numpy":
        from rmtdeq.kernels.reference import solve_tiles as reference

        return reference
    from rmtdeq.kernels.tiles import solve_tiles

    return solve_tiles


def _squared_norms(X: FloatArray) -> FloatArray:
    return np.einsum("ij,ij->i", X, X, dtype=np.float64)


def fill_rows(plan: Plan, start: int, stop: int, outputs: Outputs, *, mirror: bool) -> Plan:
    """Compute rows start … stop of the kernels.

    Parameters
    ----------
    plan : Plan
    start, stop : int
    outputs : dict of ndarray
        With `mirror`, the whole square matrices, of which the part below the diagonal of these rows and its
        mirror image are written; else arrays (stop - start, m).
    mirror : bool

    Returns
    -------
    Plan
        The plan, with longer series if these rows needed them.
    """
    first = next(iter(outputs.values()))
    width = stop if mirror else plan.Y.shape[0]
    gram = first[start:stop, :width] if mirror else first
    np.matmul(plan.X[start:stop], plan.Y[:width].T, out=gram)
    # One byte an entry, 1 while the entry is to be done.
    below = start - 1 if mirror else width
    left = np.tri(gram.shape[0], gram.shape[1], below, dtype=np.uint8)
    tiles = _tiles(start, stop, width, mirror)
    for degree in (0, *_LATER_DEGREES):
        if degree:
            if plan.cutoffs[-1] >= 1 or degree < plan.hermite[0].shape[0]:
                continue
            plan = plan.with_degree(degree)
        _run(plan, gram, outputs, start, mirror, tiles, left)
        if not left.any():
            break
    else:
        _fill_exactly(plan, outputs, start, mirror, np.argwhere(left))
    if plan.same:
        _fill_diagonal(plan, start, stop, outputs, mirror)
    return plan


def _tiles(start: int, stop: int, width: int, mirror: bool) -> tuple[IntArray, IntArray]:
    from rmtdeq.kernels.tiles import TILE

    grid = np.meshgrid(np.arange(0, stop - start, TILE), np.arange(0, width, TILE), indexing="ij")
    rows, columns = (axis.ravel() for axis in grid)
    if mirror:
        below = columns < rows + start + TILE
        rows, columns = rows[below], columns[below]
    return rows, columns


def _run(
    plan: Plan,
    gram: FloatArray,
    outputs: Outputs,
    start: int,
    mirror: bool,
    tiles: tuple[IntArray, IntArray],
    left: np.ndarray[Any, Any],
) -> None:
    unused = np.empty((0, 0), dtype=gram.dtype)
    ck, ntk, full = (outputs.get(kind, unused) for kind in ("ck", "ntk", "ntk-full"))
    bad = plan.solver(
        gram,
        ck,
        ntk,
        full,
        ("ck" in outputs, "ntk" in outputs, "ntk-full" in outputs),
        *tiles,
        start,
        plan.same,
        mirror,
        *plan.hermite,
        plan.rows.sigma,
        plan.columns.sigma,
        plan.deq.sigma_a2,
        plan.deq.sigma_b2,
        plan.degrees,
        plan.cutoffs,
        left,
    )
    if bad:
        raise IllPosedError(
            f"{plan.deq} is no contraction on these data: the kernel map has slope 1 or more for {bad} pair(s) of "
            "samples; lower sigma_a2."
        )


def _fill_exactly(plan: Plan, outputs: Outputs, start: int, mirror: bool, entries: IntArray) -> None:
    """Write the entries (row within the block, column) that the series did not serve."""
    deq = plan.deq
    for chunk in np.array_split(entries, max(1, len(entries) // _PAIR_CHUNK)):
        local, j = chunk.T
        i = local + start
        x, y = plan.X[i].astype(np.float64), plan.Y[j].astype(np.float64)
        value, slope = solve_pairs(
            deq,
            plan.rows.sigma[i],
            plan.columns.sigma[j],
            plan.rows.square[i],
            plan.columns.square[j],
            np.sqrt(plan.rows.slope_square[i] * plan.columns.slope_square[j]),
            np.einsum("ij,ij->i", x - y, x - y),
        )
        inner = np.einsum("ij,ij->i", x, y)
        for kind, out in outputs.items():
            entry = _entry(kind, deq, value, slope, inner)
            out[i if mirror else local, j] = entry
            if mirror:
                out[j, i] = entry


def _entry(kind: Kind, deq: DEQ, value: FloatArray, slope: FloatArray, inner: FloatArray) -> FloatArray:
    """The kernel's entry, given G, E φ'φ' and the inner product of the inputs."""
    if kind == "ck":
        return value
    if kind == "ntk":
        return value / (1 - deq.sigma_a2 * slope)
    return (value + deq.sigma_b2 * inner * slope) / (1 - deq.sigma_a2 * slope)


def _fill_diagonal(plan: Plan, start: int, stop: int, outputs: Outputs, mirror: bool) -> None:
    local, part, rows = np.arange(stop - start), slice(start, stop), plan.rows
    for kind, out in outputs.items():
        entry = _entry(kind, plan.deq, rows.square[part], rows.slope_square[part], rows.squared_norms[part])
        out[local + start if mirror else local, local + start] = entry


def blocks(n: int, progress: bool, what: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows, with a progress bar on a terminal if asked for."""
    from tqdm import tqdm

    starts = range(0, n, size)
    # disable=None: silent where stderr is not a terminal.
    for start in tqdm(starts, desc=what, unit="block", disable=None if progress else True, leave=False):
        yield start, min(start + size, n)


def kernel(
    X: ArrayLike,
    deq: DEQ,
    kind: str | Sequence[str] = "ck",
    *,
    Y: ArrayLike | None = None,
    tau0_squared: float | None = None,
    backend: str = "auto",
    dtype: DTypeLike | None = None,
    device: str | None = None,
    out: FloatArray | Sequence[FloatArray] | None = None,
    memory_limit: float | None = None,
    progress: bool = True,
) -> Any:
    """Compute the exact kernels of an implicit network of infinite width.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row, squared norms of order one.  Zero rows are allowed: if φ(0) = 0 their kernel with
        every sample is zero, otherwise what the recurrence makes of φ(0).
    deq : DEQ
        A centred model is pinned at `tau0_squared` (see `DEQ.pinned`).
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` (input weights fixed), ``"ntk-full"`` (all weights trained); several are computed in
        one pass.
    Y : array_like (m, p), optional
        Columns; X itself by default.
    tau0_squared : float, optional
        Where to centre φ; the mean squared norm of X by default.  Uncentred models ignore the question.
    backend : str
        ``"numba"`` (parallel, the default) or ``"numpy"`` (the same algorithm without compilation).
    dtype : dtype, optional
        float64 or float32 of the result and of the product X Yᵀ; that of X by default.
    device : str, optional
        ``"cpu"``, where these backends run.
    out : ndarray or tuple of ndarray, optional
        Arrays (n, m) to write into, such as memory maps; one for each kind.
    memory_limit : float, optional
        Bytes that the result may take; nine tenths of the free memory by default.
    progress : bool
        Show a progress bar if standard error is a terminal.

    Returns
    -------
    ndarray (n, m), or a tuple of them
        One for each kind, in the order asked for.  Beyond the results one byte is held for each entry of 4096
        rows.

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
    the CK (arXiv 2402.02697), G_ij / (1 - σ_a² E φ'(u)φ'(v)) the NTK (arXiv 2310.14062).  What truncating
    Mehler's series leaves out is at most 1e-12 of the diagonal; nearly parallel pairs are computed in closed
    form or by two-dimensional quadrature.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> X = np.random.default_rng(0).standard_normal((100, 50)) / np.sqrt(50)
    >>> G, T = rd.kernel(X, rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8), kind=("ck", "ntk"))
    >>> G.shape, bool((np.diag(T) > np.diag(G)).all())
    ((100, 100), True)
    """
    kinds = _check.kinds(kind)
    X, Y, precision = prepare(X, Y, dtype, backend, device)
    n, m = X.shape[0], X.shape[0] if Y is None else Y.shape[0]
    outputs = _outputs(out, kinds, (n, m), precision, memory_limit)
    plan = make_plan(X, Y, deq, kinds, backend, tau0_squared)
    for start, stop in blocks(n, progress, "kernel", BLOCK):
        part = outputs if plan.same else {name: array[start:stop] for name, array in outputs.items()}
        plan = fill_rows(plan, start, stop, part, mirror=plan.same)
    results = tuple(outputs[name] for name in kinds)
    return results[0] if isinstance(kind, str) else results


def prepare(
    X: ArrayLike, Y: ArrayLike | None, dtype: DTypeLike | None, backend: str, device: str | None
) -> tuple[FloatArray, FloatArray | None, np.dtype[Any]]:
    """Check and convert the arguments that every kernel routine shares."""
    _check.choice(backend, "backend", BACKENDS)
    if device is not None:
        _check.choice(device, "device", ("cpu",))
    X = _check.samples(X)
    try:
        precision = np.dtype(X.dtype if dtype is None else dtype)
    except TypeError as error:
        raise InvalidInputError(f"dtype must be float64 or float32, not {dtype!r}.") from error
    if precision not in (np.float32, np.float64):
        raise InvalidInputError(f"dtype must be float64 or float32, not {precision}.")
    if Y is not None:
        Y = _check.samples(Y, "Y")
        if Y.shape[1] != X.shape[1]:
            raise InvalidInputError(f"X has {X.shape[1]} features and Y has {Y.shape[1]}; they must agree.")
        Y = np.ascontiguousarray(Y, dtype=precision)
    return np.ascontiguousarray(X, dtype=precision), Y, precision


def _outputs(
    out: FloatArray | Sequence[FloatArray] | None,
    kinds: tuple[Kind, ...],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    memory_limit: float | None,
) -> Outputs:
    if out is None:
        size = shape[0] * shape[1] * dtype.itemsize * len(kinds) + BLOCK * shape[1]
        _check.memory(
            size,
            memory_limit,
            f"The result, {len(kinds)} kernel(s) of {shape[0]} x {shape[1]} entries,",
            "use kernel_operator(X, deq, kind), which never stores the matrix, or pass memory maps as out=",
        )
        return {name: np.empty(shape, dtype) for name in kinds}
    arrays = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if len(arrays) != len(kinds):
        raise InvalidInputError(f"out must hold one array for each of {kinds}, not {len(arrays)}.")
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            raise InvalidInputError(f"out must be a {dtype} array of shape {shape}.")
        if not array.flags.writeable or not array.flags.c_contiguous:
            raise InvalidInputError("out must be writeable and C-contiguous.")
    if any(np.may_share_memory(a, b) for a, b in combinations(arrays, 2)):
        raise InvalidInputError("The arrays of out share memory; give each kernel one of its own.")
    return dict(zip(kinds, arrays, strict=True))
