"""Fixed points of contractions on tensors, with gradients by implicit differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rmtdeq._errors import ConvergenceError

Step = Callable[[Tensor], Tensor]

_EXPONENT = 0.7


class Equilibrium(NamedTuple):
    """A fixed point of every row.

    Attributes
    ----------
    value : Tensor (N, m)
    iterations : int
    residual : Tensor (N,)
        ‖f(z) - z‖/‖f(z)‖ at the last step.
    """

    value: Tensor
    iterations: int
    residual: Tensor


def default_tolerance(dtype: torch.dtype) -> float:
    """Relative change at which an iteration in this precision stops: 1.4e-5 for float32, 1.1e-11 for float64."""
    return float(torch.finfo(dtype).eps ** _EXPONENT)


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """Return ‖new - old‖/‖new‖ of each row, zero where nothing changed."""
    change = torch.linalg.vector_norm(new - old, dim=-1)
    return torch.where(change == 0, change, change / torch.linalg.vector_norm(new, dim=-1))


def iterate(step: Step, start: Tensor, tolerance: float, max_iterations: int) -> Equilibrium:
    """Apply `step` until no row changes by more than `tolerance`, relatively.

    Raises
    ------
    ConvergenceError
        A row still changes after `max_iterations`, or is no longer finite.
    """
    z, residual = start, torch.full(start.shape[:-1], torch.inf, device=start.device)
    for count in range(1, max_iterations + 1):
        new = step(z)
        residual = relative_change(new, z)
        z = new
        if bool((residual <= tolerance).all()):
            return Equilibrium(z, count, residual)
        if not bool(residual.isfinite().all()):
            raise ConvergenceError(
                f"The fixed-point iteration met NaN or infinite values at step {count}: the inputs or the weights hold "
                "such values, or the network is no contraction (lower sigma_a2)."
            )
    raise ConvergenceError(
        f"The fixed-point iteration did not come to rest: after {max_iterations} steps the largest relative "
        f"change is {float(residual.max()):.1e}, more than {tolerance:.1e}. The network is no contraction on these "
        "inputs (lower sigma_a2), or needs a larger tolerance or max_iterations."
    )


def exported(step: Step, start: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """The same iteration in the form that `torch.export` can trace, without its errors."""
    from torch._higher_order_ops import while_loop

    def goes_on(count: Tensor, z: Tensor, change: Tensor) -> Tensor:
        return (count < max_iterations) & (change > tolerance)

    def body(count: Tensor, z: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = step(z)
        return count + 1, new, relative_change(new, z).amax()

    infinite = torch.full((), torch.inf, dtype=start.dtype, device=start.device)
    count = torch.zeros((), dtype=torch.int64, device=start.device)
    _, z, _ = while_loop(goes_on, body, (count, start, infinite))
    return z


def differentiable(step: Step, found: Equilibrium, tolerance: float, max_iterations: int) -> Tensor:
    """Return the equilibrium with its gradient.

    One step on the tape at the fixed point carries the gradient to everything that `step` holds; the adjoint equation
    g = Jᵀg + ∂loss/∂z, iterated, carries it through the fixed point.
    """
    at = found.value.detach()
    if not torch.is_grad_enabled():
        return at
    z = step(at)
    if not z.requires_grad:
        return z
    inner = at.clone().requires_grad_()
    image = step(inner)

    def adjoint(gradient: Tensor) -> Tensor:
        def back(g: Tensor) -> Tensor:
            return torch.autograd.grad(image, inner, g, retain_graph=True)[0] + gradient

        return iterate(back, gradient, tolerance, max_iterations).value

    z.register_hook(adjoint)
    return z
