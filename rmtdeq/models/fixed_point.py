"""Fixed points of maps that act on every row of a tensor by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq.models.acceleration import Anderson, Broyden, Plain
from rmtdeq.models.rows import quick_norms, row_norms

Step = Callable[..., Tensor]
"""A map of a state (N, …), followed by any number of inputs (N, …), to the next state."""

METHODS = {"iteration": Plain, "anderson": Anderson, "broyden": Broyden}

_EXPONENT = 0.7
_WINDOW = 20
_ROUNDING = 1e3
_WORTHWHILE = 0.75
_ROOM = 1.25
"""Steps to ask for, by those that the last ones' pace foretells."""


@dataclass(frozen=True)
class Solver:
    """How equilibria, and the adjoint equations of their gradients, are solved.

    Parameters
    ----------
    method : str
        ``"iteration"`` of the layer, sure wherever that contracts; ``"anderson"`` acceleration; ``"broyden"``, a
        quasi-Newton method.  The last two need fewer steps where the iteration is slow, and more memory.
    adjoint : str
        The same for the gradient, or ``"gmres"``.
    tolerance : float, optional
        Change in a step, relative to the state, at which a row is at rest; by default that of the precision, 1.4e-5
        for float32 and 1.1e-11 for float64.
    max_iterations : int
    stop : str
        ``"row"``: every row rests by itself, and does not depend on the others; ``"batch"``: all together, as soon as
        every row changes that little, at less than half the operations a step.  GMRES goes by rows.

    Raises
    ------
    InvalidInputError
        Unknown method, a tolerance or limit that is not positive.
    """

    method: str = "iteration"
    adjoint: str = "iteration"
    tolerance: float | None = None
    max_iterations: int = 500
    stop: str = "row"

    def __post_init__(self) -> None:
        check.choice(self.method, "method", METHODS)
        check.choice(self.adjoint, "adjoint", (*METHODS, "gmres"))
        check.choice(self.stop, "stop", ("row", "batch"))
        if self.tolerance is not None:
            check.number(self.tolerance, "tolerance", low=0, open_low=True)
        check.integer(self.max_iterations, "max_iterations")

    def tolerance_for(self, dtype: torch.dtype) -> float:
        """Return the tolerance in a precision."""
        return float(torch.finfo(dtype).eps ** _EXPONENT) if self.tolerance is None else self.tolerance

    def rest(self, step: Step, start: Tensor, inputs: tuple[Tensor, ...] | None, method: str) -> Equilibrium:
        """Bring the rows of `start` to rest by a method; see `fixed_point` for the arguments."""
        tolerance = self.tolerance_for(start.dtype)
        if self.stop == "batch":
            return fixed_point_of_batch(step, start, inputs or (), method, tolerance, self.max_iterations)
        return fixed_point(step, start, inputs, method, tolerance, self.max_iterations)


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """A fixed point of every row.

    Attributes
    ----------
    value : Tensor (N, …)
    iterations : Tensor (N,)
        Steps after which each row was at rest.
    residual : Tensor (N,)
        ‖f(z) - z‖/‖f(z)‖ then.
    """

    value: Tensor
    iterations: Tensor
    residual: Tensor

    def __repr__(self) -> str:
        name, shape = type(self).__name__, tuple(self.value.shape)
        if not self.iterations.numel():
            return f"{name}(of no rows)"
        worst = f"{int(self.iterations.max())} iterations and residual {float(self.residual.max()):.1e} at most"
        return f"{name}({shape} in {self.value.dtype}: {worst})"


def fixed_point(
    step: Step, start: Tensor, inputs: tuple[Tensor, ...] | None, method: str, tolerance: float, max_iterations: int
) -> Equilibrium:
    """Bring every row to rest.

    Parameters
    ----------
    step : callable
        Maps states and their inputs to the next states, row by row.
    start : Tensor (N, …)
    inputs : tuple of Tensor (N, …), or None
        What is passed to `step` beside the state.  Rows at rest are left out of later steps as soon as it is worth
        while, unless this is None, for a `step` that can only be had of all rows.
    method : str
    tolerance : float
    max_iterations : int

    Raises
    ------
    ConvergenceError
        Some row does not come to rest: the message tells no contraction from a want of steps or precision.
    """
    n = start.shape[0]
    given = inputs or ()
    accelerator = METHODS[method]()
    value: Tensor | None = None
    iterations = torch.zeros(n, dtype=torch.int64, device=start.device)
    rows = torch.arange(n, device=start.device)
    at_rest = torch.zeros(n, dtype=torch.bool, device=start.device)
    progress = _Progress(start.dtype)
    least = _least(start, tolerance)
    residual = torch.full_like(least, torch.inf)
    if not n:
        return Equilibrium(start, iterations, residual)
    z = start
    # Here and below: quick norms decide nothing, since squares may have underflowed in a row that seems to rest.
    for count in range(1, max_iterations + 1):
        image = step(z, *given)
        change = image - z
        moving = ~at_rest
        for norms in (quick_norms, row_norms):
            length = norms(change)
            relative = length / torch.maximum(norms(image), least)
            lowest, worst = (float(each) for each in torch.aminmax(relative[moving]))
            if tolerance < lowest and worst < math.inf:
                break
        if lowest <= tolerance:
            resting = relative <= tolerance
            new = resting & moving
            iterations[rows[new]] = count
            residual[rows[new]] = relative[new]
            at_rest = at_rest | resting
            if bool(at_rest.all()):
                if value is None and bool(new.all()):
                    return Equilibrium(image, iterations, residual)
                value = start.clone() if value is None else value
                value[rows[new]] = image[new]
                return Equilibrium(value, iterations, residual)
            value = torch.empty_like(start) if value is None else value
            value[rows[new]] = image[new]
        progress.watch(count, float(length[~at_rest].max()), worst, tolerance)
        if inputs is not None and int((~at_rest).sum()) <= _WORTHWHILE * at_rest.numel():
            left = (~at_rest).nonzero().squeeze(1)
            z, image, change, rows = z[left], image[left], change[left], rows[left]
            given = tuple(each[left] for each in given)
            accelerator.keep(left)
            at_rest, least = at_rest[left], least[left]
            progress.keep()
        z = accelerator.next(z, image, change)
    raise progress.exhausted(max_iterations, worst, tolerance)


def fixed_point_of_batch(
    step: Step, start: Tensor, inputs: tuple[Tensor, ...], method: str, tolerance: float, max_iterations: int
) -> Equilibrium:
    """Bring a state to rest as a whole, when ‖f(z) - z‖/‖f(z)‖ of every row is at most the tolerance.

    Unlike `fixed_point` this keeps no account of single rows, which takes less than half the operations.

    Parameters
    ----------
    step, start, inputs, method, tolerance, max_iterations
        As for `fixed_point`.

    Raises
    ------
    ConvergenceError
        It does not come to rest.
    """
    n = start.shape[0]
    accelerator, progress = METHODS[method](), _Progress(start.dtype, after=_WINDOW)
    least = _least(start, tolerance)
    z, count, relative = start, 0, 0.0
    while n:
        count += 1
        image = step(z, *inputs)
        change = image - z
        for norms in (quick_norms, row_norms):
            length = norms(change)
            relative = float((length / torch.maximum(norms(image), least)).amax())
            if tolerance < relative < math.inf:
                break
        if relative <= tolerance:
            z = image
            break
        # The longest change is one more operation and is looked at where the iteration is slow.
        longest = float(length.amax()) if count > _WINDOW else relative
        progress.watch(count, longest, relative, tolerance)
        if count == max_iterations:
            raise progress.exhausted(max_iterations, relative, tolerance)
        z = accelerator.next(z, image, change)
    iterations = torch.full((n,), count, dtype=torch.int64, device=start.device)
    return Equilibrium(z, iterations, torch.full_like(least, relative))


def _least(start: Tensor, tolerance: float) -> Tensor:
    """Return the norm below which the changes of a row are no longer measured by the row itself, (N,).

    A row that decays to zero is at rest when nothing is left of where it began, or of the range of its precision.
    """
    norms = quick_norms(start)  # where squares under- or overflow it is less, and the measure stricter
    return (tolerance * norms.nan_to_num(nan=0.0, posinf=0.0)).clamp_min(torch.finfo(start.dtype).tiny)


class _Progress:
    """Ends an iteration that gets nowhere, and says why; it looks at changes `after` some steps."""

    def __init__(self, dtype: torch.dtype, after: int = 0) -> None:
        self._after = after
        self.factor = float("nan")
        self._eps = torch.finfo(dtype).eps
        self._best: float | None = None
        self._before: float | None = None

    def exhausted(self, max_iterations: int, relative: float, tolerance: float) -> ConvergenceError:
        """Return the exception for an iteration that would have needed more steps."""
        pace, more = "", "more with max_iterations"
        if 0 < self.factor < 1 and relative > tolerance:
            needed = max_iterations + math.ceil(_ROOM * math.log(tolerance / relative) / math.log(self.factor))
            pace = f", shrinking by a factor of {self.factor:.4g} a step"
            more = f"{needed} steps in all, as with Solver(max_iterations={needed})"
        return ConvergenceError(
            f"The fixed-point iteration did not come to rest: after {max_iterations} steps the largest relative change "
            f"is {relative:.1e}, more than {tolerance:.1e}{pace}. Allow {more}, or a larger tolerance, or take "
            "Solver('broyden'), which needs fewer; rmtdeq.diagnose says why it is slow, and which sigma_a2 is not."
        )

    def keep(self) -> None:
        """Begin anew after rows have been left out."""
        self._best = self._before = None

    def watch(self, count: int, longest: float, relative: float, tolerance: float) -> None:
        """Look at the largest changes, absolute and relative, of the rows that still move."""
        if not math.isfinite(longest) or not math.isfinite(relative):
            raise ConvergenceError(
                f"The fixed-point iteration met NaN or infinite values at step {count}: the inputs or the weights hold "
                "such values, or the network is no contraction (lower sigma_a2, or the scale of the recurrent weights)."
            )
        if count <= self._after:
            return
        self._best = longest if self._best is None else min(self._best, longest)
        if (count - self._after) % _WINDOW:
            return
        if self._before is not None:
            # The best of this window against the best of the last: neither a transient nor a wave can deceive it.
            self.factor = (self._best / self._before) ** (1 / _WINDOW)
            if self.factor >= 1:
                self._give_up(count, relative, tolerance)
        self._before, self._best = self._best, None

    def _give_up(self, count: int, relative: float, tolerance: float) -> None:
        if relative < _ROUNDING * self._eps:
            raise ConvergenceError(
                f"The fixed-point iteration stays at a relative change of {relative:.1e}, which is rounding: the "
                f"tolerance of {tolerance:.1e} is below what this precision reaches."
            )
        raise ConvergenceError(
            f"The fixed-point iteration did not come to rest: it is no contraction. After {count} steps changes do not "
            f"shrink but go by a factor of {self.factor:.3g} a step. The spectral radius of the layer's Jacobian must "
            "be below 1, and rmtdeq.diagnose says what it is: lower sigma_a2 below its limit_at(width), or the scale "
            "of the recurrent weights."
        )


def exported(step: Step, start: Tensor, inputs: tuple[Tensor, ...], tolerance: float, max_iterations: int) -> Tensor:
    """The plain iteration in the form that `torch.export` can trace, without its errors."""
    from torch._higher_order_ops import while_loop

    def goes_on(count: Tensor, z: Tensor, change: Tensor) -> Tensor:
        return (count < max_iterations) & (change > tolerance)

    def body(count: Tensor, z: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = step(z, *inputs)
        return count + 1, new, (quick_norms(new - z) / quick_norms(new).clamp_min(torch.finfo(z.dtype).tiny)).amax()

    infinite = torch.full((), torch.inf, dtype=start.dtype, device=start.device)
    count = torch.zeros((), dtype=torch.int64, device=start.device)
    found: Any = while_loop(goes_on, body, (count, start, infinite))
    return found[1]
