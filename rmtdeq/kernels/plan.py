"""Kernels a block of rows at a time: what is computed once for all rows, and how rows are filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmtdeq._errors import IllPosedError, InvalidInputError
from rmtdeq._types import FloatArray, IntArray, Kind
from rmtdeq.deq import DEQ, require_deq
from rmtdeq.kernels.exact import solve_pairs
from rmtdeq.kernels.inputs import LayerBefore, Samples
from rmtdeq.kernels.profile import Profile, ScaleTable, scale_table

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
    inputs : Samples or LayerBefore
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
    inputs: Samples | LayerBefore
    table: ScaleTable
    rows: Profile
    columns: Profile
    hermite: tuple[FloatArray, FloatArray]
    degrees: IntArray
    cutoffs: FloatArray
    solver: TileSolver

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.inputs.same

    def with_degree(self, degree: int) -> Plan:
        """Return the plan with longer series."""
        at_nodes = self.table.hermite(degree)
        degrees, cutoffs = self.table.cutoffs(at_nodes)
        rows = self.table.coefficients(at_nodes, self.rows.sigma)
        columns = rows if self.same else self.table.coefficients(at_nodes, self.columns.sigma)
        return replace(self, hermite=(rows, columns), degrees=degrees, cutoffs=cutoffs)


def make_plan(
    inputs: Samples | LayerBefore, deq: DEQ, kinds: Sequence[Kind], backend: str, tau0_squared: float | None
) -> Plan:
    """Check well-posedness on these data and compute all per-sample quantities."""
    require_deq(deq)
    norms_x, norms_y = inputs.squared_norms()
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
    columns = rows if inputs.same else table.profile(norms_y)
    empty = np.empty((0, 0))
    plan = Plan(
        deq=deq,
        inputs=inputs,
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
    width = stop if mirror else plan.inputs.shape[1]
    gram = first[start:stop, :width] if mirror else first
    carried = plan.inputs.fill(slice(start, stop), width, gram)
    # One byte an entry, 1 while the entry is to be done.
    below = start - 1 if mirror else width
    left = np.tri(gram.shape[0], gram.shape[1], below, dtype=np.uint8)
    tiles = _tiles(start, stop, width, mirror)
    for degree in (0, *_LATER_DEGREES):
        if degree:
            if plan.cutoffs[-1] >= 1 or degree < plan.hermite[0].shape[0]:
                continue
            plan = plan.with_degree(degree)
        _run(plan, gram, carried, outputs, start, mirror, tiles, left)
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
    carried: FloatArray,
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
        carried,
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
        distances, carried = plan.inputs.pairs(i, j)
        value, slope = solve_pairs(
            deq,
            plan.rows.sigma[i],
            plan.columns.sigma[j],
            plan.rows.square[i],
            plan.columns.square[j],
            np.sqrt(plan.rows.slope_square[i] * plan.columns.slope_square[j]),
            distances,
        )
        for kind, out in outputs.items():
            entry = _entry(kind, deq, value, slope, carried)
            out[i if mirror else local, j] = entry
            if mirror:
                out[j, i] = entry


def _entry(kind: Kind, deq: DEQ, value: FloatArray, slope: FloatArray, carried: FloatArray) -> FloatArray:
    """The kernel's entry, given G, E φ'φ' and the inner product (or tangent kernel) of the inputs."""
    if kind == "ck":
        return value
    if kind == "ntk":
        return value / (1 - deq.sigma_a2 * slope)
    return (value + deq.sigma_b2 * carried * slope) / (1 - deq.sigma_a2 * slope)


def _fill_diagonal(plan: Plan, start: int, stop: int, outputs: Outputs, mirror: bool) -> None:
    local, part, rows = np.arange(stop - start), slice(start, stop), plan.rows
    carried = plan.inputs.carried_diagonal(part)
    for kind, out in outputs.items():
        entry = _entry(kind, plan.deq, rows.square[part], rows.slope_square[part], carried)
        out[local + start if mirror else local, local + start] = entry
