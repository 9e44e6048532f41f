"""Modules whose output is the fixed point of a layer, with gradients by implicit differentiation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rmtdeq._errors import InvalidInputError
from rmtdeq.models.fixed_point import Equilibrium, Solver, exported, fixed_point
from rmtdeq.models.krylov import Arnoldi, gmres

_RITZ = 40


@dataclass(eq=False)
class Trace:
    """What the last solves of one batch came to, and where the next ones of the same batch begin.

    Attributes
    ----------
    forward : Equilibrium or None
    backward : Equilibrium or None
        Of the adjoint equation.
    right : Tensor or None
        The adjoint equation's right side.
    """

    forward: Equilibrium | None = None
    backward: Equilibrium | None = None
    right: Tensor | None = None

    def adjoint_start(self, right: Tensor) -> Tensor:
        """Return where to begin with another right side: the last solution, in proportion, or that side itself."""
        if self.backward is None or self.right is None or self.right.shape != right.shape:
            return right
        # Residuals of a training shrink and change sign: each row is scaled by what its side has become.
        before, now = self.right.flatten(1), right.flatten(1)
        square = (before * before).sum(dim=1)
        share = torch.where(square > 0, (before * now).sum(dim=1) / square.clamp_min(torch.finfo(now.dtype).tiny), 0.0)
        return self.backward.value * share.reshape(-1, *[1] * (right.dim() - 1))


class ImplicitModule(nn.Module, ABC):
    """A layer x ↦ z with z = step(z, injected(x)).

    What a model has to say is `injected` and `step` (and `initial`, if its states have not the shape of the first
    tensor injected); everything else is here: the solve leaves nothing on the tape, so that memory does not depend on
    the number of iterations, and the gradient comes from the adjoint equation at the fixed point.

    Parameters
    ----------
    solver : Solver, optional
    """

    def __init__(self, solver: Solver | None = None) -> None:
        super().__init__()
        self.solver = Solver() if solver is None else solver
        if not isinstance(self.solver, Solver):
            raise InvalidInputError(f"solver must be a Solver, as in Solver('anderson'), not {solver!r}.")

    @abstractmethod
    def injected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the inputs (N, …) are to the layer, each tensor with one row for each of them."""

    @abstractmethod
    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once to states (N, …)."""

    def initial(self, *injected: Tensor) -> Tensor:
        """Return the states (N, …) that the solve begins with: zeros."""
        return torch.zeros_like(injected[0])

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        """Return the equilibria (N, …) of inputs (N, …).

        Parameters
        ----------
        x : Tensor
        trace : Trace, optional
            Where the solves begin and what they came to.

        Raises
        ------
        ConvergenceError
            The iteration, or that of the gradient, does not come to rest.
        """
        return self.equilibrium(self.injected(x), trace)

    def solve(self, x: Tensor, start: Equilibrium | None = None) -> Equilibrium:
        """Return the equilibria with the number of iterations and the residual of every row, without gradients.

        `start` are equilibria of similar inputs, or for similar weights, to begin with.
        """
        with torch.no_grad():
            return self._solve(self.injected(x), start)

    def spectral_radius(self, x: Tensor) -> Tensor:
        """Return the spectral radius of the layer's Jacobian at the equilibrium of every row, (N,).

        Below 1 the equilibrium is stable and the iteration comes to it; estimated from 40 Arnoldi steps.
        """
        injected = tuple(each.detach() for each in self.injected(x))
        back = _Adjoint(self.step, self._solve(injected, None).value, injected)
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(back.at.shape, generator=generator, dtype=torch.float64).to(back.at)
        space = Arnoldi(back.product, start)
        space.extend(min(_RITZ, back.at[0].numel()))
        return torch.linalg.eigvals(space.reduced[:, :-1]).abs().amax(dim=1)

    def equilibrium(self, injected: tuple[Tensor, ...], trace: Trace | None = None) -> Tensor:
        """Return the equilibria of what the inputs are to the layer, with gradients."""
        if torch.compiler.is_exporting():
            start, limit = self.initial(*injected), self.solver.max_iterations
            return exported(self.step, start, injected, self.solver.tolerance_for(start.dtype), limit)
        if not isinstance(injected, tuple) or not injected:
            raise InvalidInputError(f"{type(self).__name__}.injected must return a tuple of tensors.")
        free = tuple(each.detach() for each in injected)
        found = self._solve(free, None if trace is None else trace.forward)
        if trace is not None:
            trace.forward = found
        return attach_gradient(self.step, found.value, injected, self.solver, trace)

    @torch.no_grad()
    def _solve(self, injected: tuple[Tensor, ...], start: Equilibrium | None) -> Equilibrium:
        first = self.initial(*injected)
        if first.dim() < 2:
            raise InvalidInputError("Inputs are one sample a row, (N, p); a single sample x is x[None].")
        if start is not None and start.value.shape == first.shape:
            first = start.value
        tolerance = self.solver.tolerance_for(first.dtype)
        return fixed_point(self.step, first, injected, self.solver.method, tolerance, self.solver.max_iterations)


def attach_gradient(
    step: Callable[..., Tensor],
    at: Tensor,
    injected: tuple[Tensor, ...],
    solver: Solver,
    trace: Trace | None = None,
) -> Tensor:
    """Return fixed points `at` with their gradient.

    One step on the tape at the fixed point carries the gradient to everything that `step` and `injected` hold; the
    adjoint equation g = Jᵀg + ∂loss/∂z carries it through the fixed point.
    """
    if not torch.is_grad_enabled():
        return at
    z = step(at, *injected)
    if not z.requires_grad:
        return z
    back = _Adjoint(step, at, tuple(each.detach() for each in injected))

    def hook(gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise InvalidInputError(
                "Second derivatives through an equilibrium are not available; call backward or grad without "
                "create_graph."
            )
        found = back.solve(gradient, solver, gradient if trace is None else trace.adjoint_start(gradient))
        if trace is not None:
            trace.backward, trace.right = found, gradient
        return found.value

    z.register_hook(hook)
    return z


class _Adjoint:
    """Products with Jᵀ, the transposed Jacobian of the layer at states, and the equation g = Jᵀg + b."""

    def __init__(self, step: Callable[..., Tensor], at: Tensor, injected: tuple[Tensor, ...]) -> None:
        with torch.enable_grad():
            self.at = at.detach().clone().requires_grad_()
            self.image = step(self.at, *injected)

    def product(self, g: Tensor) -> Tensor:
        """Return Jᵀ g."""
        return torch.autograd.grad(self.image, self.at, g, retain_graph=True)[0]

    def solve(self, b: Tensor, solver: Solver, start: Tensor) -> Equilibrium:
        """Solve g = Jᵀ g + b for every row."""
        tolerance = solver.tolerance_for(b.dtype)
        with torch.no_grad():
            if solver.adjoint == "gmres":
                return gmres(lambda g: g - self.product(g), b, start, tolerance, solver.max_iterations)
            return fixed_point(
                lambda g: self.product(g) + b, start, None, solver.adjoint, tolerance, solver.max_iterations
            )


def sensitivity(
    step: Callable[..., Tensor], at: Tensor, injected: tuple[Tensor, ...], b: Tensor, solver: Solver
) -> tuple[Tensor, ...]:
    """Return, for every row, the gradient of b·z in each tensor of `injected`, z the equilibrium.

    Unlike a backward pass, which sums them into the weights, this keeps the rows apart.
    """
    adjoint = _Adjoint(step, at, injected).solve(b, solver, b).value
    with torch.enable_grad():
        leaves = tuple(each.detach().clone().requires_grad_() for each in injected)
        image = step(at, *leaves)
    return torch.autograd.grad(image, leaves, adjoint)
