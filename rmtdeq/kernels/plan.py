"""What is computed once for all entries of a kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from rmtdeq import _check
from rmtdeq._errors import InvalidInputError
from rmtdeq._progress import progress_bar
from rmtdeq._types import FloatArray, IntArray, Kind
from rmtdeq.deq import DEQ, require_deq
from rmtdeq.kernels.inputs import LayerBefore, Samples
from rmtdeq.kernels.placement import Placement
from rmtdeq.kernels.profile import SHORT, Profile, ScaleTable, scale_table

logger = logging.getLogger(__name__)

_DEGREES = (SHORT, 96, 512)
_POINTS_PER_PAIR, _POINTS_PER_CLOSED_PAIR = 500, 2
"""Hermite coefficients at points of the table that take the time of an exact entry."""
_SMALLEST_NORM2, _LARGEST_NORM2 = 1e-200, 1e16
_SMALLEST_SINGLE = 1e-30

BlockSolver = Callable[..., tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Series:
    """Mehler's series of every pair of samples up to some degree.

    Attributes
    ----------
    of_rows, hermite_y : ndarray (degree + 1, n), (degree + 1, m)
        Hermite coefficients of rows and columns.
    degrees, cutoffs : ndarray
        See `ScaleTable.cutoffs`.
    """

    of_rows: FloatArray
    hermite_y: FloatArray
    degrees: IntArray
    cutoffs: FloatArray

    @cached_property
    def hermite_x(self) -> FloatArray:
        """Those of rows, (n, degree + 1), a row's together in memory, as the CPU's engines take them."""
        return np.ascontiguousarray(self.of_rows.T)


@dataclass(frozen=True, eq=False)
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
    solver : callable or None
        The engine: `tiles.solve_block` or one of the same signature; None where the device's is used.
    backend : str
        Name of the engine.
    device : torch.device or None
        Where blocks are computed, if by torch or Triton.
    """

    deq: DEQ
    inputs: Samples | LayerBefore
    table: ScaleTable
    rows: Profile
    columns: Profile
    solver: BlockSolver | None
    backend: str
    device: Any = None
    # Longer series are computed when some entries need them, once for all threads.
    _series: dict[int, Series] = field(default_factory=dict, init=False, repr=False)
    _noted: list[bool] = field(default_factory=list, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def note_once(self) -> bool:
        """Return True the first time."""
        with self._lock:
            if self._noted:
                return False
            self._noted.append(True)
            return True

    @property
    def compiled(self) -> bool:
        """Whether the engine leaves the interpreter to other threads."""
        return self.solver is not None and not self.solver.__module__.endswith("reference")

    @cached_property
    def tables(self) -> Any:
        """What the device holds of all this, moved there once."""
        from rmtdeq.kernels.device.tables import DeviceTables

        return DeviceTables(self)

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.inputs.same

    def _pays(self, length: int) -> bool:
        """Whether a longer series takes less time than the entries it may serve do without it."""
        n, m = self.inputs.shape
        each = _POINTS_PER_PAIR if self.deq.activation.dual_form is None else _POINTS_PER_CLOSED_PAIR
        return length == 0 or n * m * each >= self._used.sigma.size * _DEGREES[length]

    @cached_property
    def _used(self) -> ScaleTable:
        """What these samples need of the table."""
        return self.table.used(self.rows, self.columns)

    def series(self, length: int) -> Series | None:
        """Return the series number `length`, from short to long, or None where the one before is the longest."""
        known = self._series
        with self._lock:
            if length not in known:
                if length == len(_DEGREES) or (length and known[length - 1].cutoffs[-1] >= 1) or not self._pays(length):
                    return None
                degree = _DEGREES[length]
                rows = self._used.coefficients(degree, self.rows)
                columns = rows if self.same else self._used.coefficients(degree, self.columns)
                known[length] = Series(rows, columns, *self._used.cutoffs(degree))
            return known[length]


def make_plan(
    place: Placement,
    deq: DEQ,
    kinds: Sequence[Kind],
    tau0_squared: float | None = None,
    progress: bool = False,
    inputs: LayerBefore | None = None,
) -> Plan:
    """Check well-posedness on these data and compute all per-sample quantities.

    The data are the samples of `place`, or `inputs` in the place of them.
    """
    rows, columns = (place.inputs if inputs is None else inputs).squared_norms()
    lowest, highest = float(min(rows.min(), columns.min())), float(max(rows.max(), columns.max()))
    if place.dtype == np.float32 and 0 < highest < _SMALLEST_SINGLE:
        raise InvalidInputError(
            f"The largest squared norm is {highest:.3g}, whose products single precision does not hold: scale the data "
            "so that squared norms are of order one."
        )
    model = pinned(deq, highest, float(rows.mean()) if tau0_squared is None else tau0_squared)
    if inputs is None:
        _check.heed_scale(float(np.concatenate([rows, columns]).mean()), stacklevel=4)
    table = tabulate(model, kinds, lowest, highest)
    return plan_with(table, place, (rows, columns), progress, inputs)


def pinned(deq: DEQ, highest: float, tau0_squared: float) -> DEQ:
    """Check model and largest squared norm; return the model, its activation centred where it is to be."""
    require_deq(deq)
    if highest == 0:
        raise InvalidInputError("Every sample is zero; the kernel needs at least one that is not.")
    if not _SMALLEST_NORM2 <= highest <= _LARGEST_NORM2:
        raise InvalidInputError(
            f"The largest squared norm is {highest:.3g}, and must lie between {_SMALLEST_NORM2:.0g} and "
            f"{_LARGEST_NORM2:.0g}: scale the data so that squared norms are of order one."
        )
    return deq.pinned(tau0_squared) if deq.centered else deq


def tabulate(deq: DEQ, kinds: Sequence[Kind], lowest: float, highest: float) -> ScaleTable:
    """Check that an uncentred model is well-posed for squared norms between two, and tabulate what samples need."""
    table = scale_table(deq, lowest, highest)
    table.check_tangent(kinds)
    return table


def plan_with(
    table: ScaleTable,
    place: Placement,
    norms: tuple[FloatArray, FloatArray],
    progress: bool = False,
    inputs: LayerBefore | None = None,
) -> Plan:
    """Return the plan for samples whose squared norms, of rows and columns, lie within the table."""
    seen = place.inputs if inputs is None else inputs
    rows = table.profile(norms[0])
    columns = rows if seen.same else table.profile(norms[1])
    solver = None if place.device is not None else _solver(place.backend, place.dtype, progress)
    return Plan(table.deq, seen, table, rows, columns, solver, place.backend, place.device)


def _solver(backend: str, dtype: np.dtype[Any], progress: bool) -> BlockSolver:
    if backend == "numpy":
        from rmtdeq.kernels.reference import solve_block as reference

        return reference
    _load_machine_code(dtype, progress)
    from rmtdeq.kernels.tiles import solve_block

    return solve_block


@lru_cache(maxsize=4)
def _load_machine_code(dtype: np.dtype[Any], progress: bool) -> None:
    """Load the compiled engine, or compile it; say so, as that takes seconds on a machine that has not done it yet."""
    what = "loading machine code (compiled once on a machine, about 5 s)"
    with progress_bar(progress, total=1, desc=what, bar_format="{desc}"):
        start = perf_counter()
        from rmtdeq.kernels.tiles import solve_block

        nothing, one = np.zeros((1, 1), dtype), np.ones(1)
        solve_block(
            nothing, nothing, nothing, nothing, nothing, (False, False, False), 0, 0, 0, 0, True, True,
            np.zeros((1, 13)), np.zeros((13, 1)), one, one, 0.0, 1.0, np.array([12]), one,
            np.zeros((1, 1), dtype=np.uint8), False,
        )  # fmt: skip
    if sum(solve_block.stats.cache_misses.values()):
        logger.info("Compiled the kernel engine for %s in %.1f s.", dtype, perf_counter() - start)
