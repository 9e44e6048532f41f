"""The engine that was chosen, made for a plan: what a new engine is added to."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq.kernels.angular import angular_function
from rmtdeq.kernels.blocks import Engine, HostEngine
from rmtdeq.kernels.computation import Placement
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.series import Coefficients, Position, Scales

logger = logging.getLogger(__name__)


def engine_of(plan: Plan, place: Placement, progress: bool = False) -> Engine:
    """Return the engine that was chosen, for a plan."""
    if place.backend == "numba":
        _load_machine_code(plan.inputs.dtype, progress)
        from rmtdeq.kernels.engines.numba_tiles import solve_block

        angular = angular_function(plan)
        solver = solve_block if angular is None else partial(solve_block, angular=angular)
        return HostEngine(plan, solver, concurrent=True)
    if place.backend == "numpy":
        from rmtdeq.kernels.engines.numpy_tiles import solve_block as reference

        return HostEngine(plan, reference, concurrent=False)
    if place.backend == "torch":
        from rmtdeq.kernels.engines.torch_engine import TorchEngine

        return TorchEngine(plan, place.device)
    if place.backend == "triton":
        from rmtdeq.kernels.engines.triton_engine import TritonEngine

        return TritonEngine(plan, place.device)
    raise InvalidInputError(f"There is no engine {place.backend!r}.")


@lru_cache(maxsize=4)
def _load_machine_code(dtype: np.dtype[Any], progress: bool) -> None:
    """Load the compiled engine, or compile it; say so, as that takes seconds on a machine that has not done it yet."""
    what = "loading machine code (compiled once on a machine, about 5 s)"
    with Stage(what, show=progress):
        start = perf_counter()
        from rmtdeq.kernels.engines.numba_tiles import solve_block

        nothing, one = np.zeros((1, 1), dtype), np.ones((1, 1))
        slots, degrees = np.array([0]), np.array([12])
        series = Coefficients(slots, np.zeros((1, 1, 13)), np.zeros((1, 13, 1)), degrees, one, one[0] < 0)
        variances, folds = np.array([[0.0, 1.0, 0.0]]), np.zeros((1, 3))
        scales, wants = Scales(one, one, one, one, one, one, variances, folds), (False, False, False)
        left = np.zeros((1, 1), dtype=np.uint8)
        solve_block(nothing, (nothing,) * 3, wants, Position(0, 0, 0, 0, True, True), series, scales, None, left, False)
    if sum(solve_block.stats.cache_misses.values()):
        logger.info("Compiled the kernel engine for %s in %.1f s.", dtype, perf_counter() - start)
