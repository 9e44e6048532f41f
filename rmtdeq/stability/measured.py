"""The forward solve of a torch module, measured by running it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import FloatArray
from rmtdeq.models import ImplicitModule
from rmtdeq.models.implicit import Map, full_precision
from rmtdeq.stability.diagnosis import MeasuredDiagnosis
from rmtdeq.stability.jacobian import examine

_MOST_STEPS = 2000
_ROUNDING = 1e3
_PATIENCE = 20


def measure(module: ImplicitModule, X: ArrayLike) -> MeasuredDiagnosis:
    """Diagnose a module on inputs (n, …); see `diagnose`.

    The plain iteration is run whatever the module's solver is; J is examined at four samples at most, of norms from the
    smallest to the largest.
    """
    x = _inputs(module, X)
    with torch.no_grad(), full_precision(x):
        layer, injected = module.map(), module.injected(x)
        start = (layer.initial or module.initial)(*injected)
        sizes, changes, rest = _run(layer, injected, start)
        lengths = _lengths(rest)
        errors = _distances(layer, injected, start, rest, len(sizes))
        norms = _lengths(x) ** 2
        chosen, found = examine(layer, injected, rest, norms)
    relative = changes / np.maximum(sizes, np.finfo(float).tiny)
    eps = torch.finfo(rest.dtype).eps
    return MeasuredDiagnosis(
        model=module.describe(),
        squared_norms=norms,
        sizes=sizes / lengths,
        residuals=changes / lengths,
        errors=errors / lengths,
        rate=_rates(relative, _ROUNDING * eps),
        jacobian_norms=norms[chosen],
        spectral_radius=np.array([each.radius for each in found]),
        smallest_singular_value=np.array([each.smallest for each in found]),
        largest_singular_value=np.array([each.largest for each in found]),
        at_rest=relative[-1] <= max(_ROUNDING * eps, module.solver.tolerance_for(rest.dtype)),
        contraction=np.array([each.contraction for each in found]),
    )


def _inputs(module: ImplicitModule, X: ArrayLike) -> Tensor:
    """Return samples as the module's own tensor."""
    like = next(module.parameters(), torch.zeros(()))
    if not isinstance(X, Tensor):
        X = torch.from_numpy(np.array(check.real_array(X, "X")))
    return module.own(X.detach().to(like))


def _run(layer: Map, injected: tuple[Tensor, ...], start: Tensor) -> tuple[FloatArray, FloatArray, Tensor]:
    """Iterate until nothing but rounding changes: the sizes and changes by step, (steps, n), and the last states."""
    z = start
    sizes: list[FloatArray] = []
    changes: list[FloatArray] = []
    eps = torch.finfo(start.dtype).eps
    best, since = np.inf, 0
    while len(sizes) < _MOST_STEPS and since < _PATIENCE:
        image = layer.step(z, *injected)
        sizes.append(_lengths(image))
        changes.append(_lengths(image - z))
        z = image
        finite = np.isfinite(sizes[-1]).all() and np.isfinite(changes[-1]).all()
        worst = float((changes[-1] / np.maximum(sizes[-1], np.finfo(float).tiny)).max()) if finite else np.inf
        if not finite:
            raise ConvergenceError(
                f"The iteration met NaN or infinite values at step {len(sizes)}: the inputs or the weights hold such "
                "values, or states grow without bound. Lower sigma_a2, or the scale of the recurrent weights."
            )
        best, since = (worst, 0) if worst < best else (best, since + (best <= _ROUNDING * eps))
        if worst == 0:
            break
    return np.stack(sizes), np.stack(changes), z


def _distances(layer: Map, injected: tuple[Tensor, ...], start: Tensor, rest: Tensor, steps: int) -> FloatArray:
    """Iterate again, and return the distances from the last states, (steps + 1, n)."""
    z, found = start, [_lengths(start - rest)]
    for _ in range(steps):
        z = layer.step(z, *injected)
        found.append(_lengths(z - rest))
    return np.stack(found)


def _lengths(rows: Tensor) -> FloatArray:
    return rows.detach().flatten(1).double().norm(dim=1).cpu().numpy()


def _rates(relative: FloatArray, floor: float) -> FloatArray:
    """Return the mean factor a step over the second half of the steps before rounding, (n,)."""
    found = []
    for column in relative.T:
        moving = np.flatnonzero(column > floor)
        last = int(moving[-1]) if moving.size else 0
        first = last // 2
        found.append((column[last] / column[first]) ** (1 / (last - first)) if last > first else 0.0)
    return np.array(found)
