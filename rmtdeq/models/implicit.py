"""Modules whose output is the fixed point of a layer, with gradients by implicit differentiation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq.models.differentials import Problem, held_by, not_batched, not_transformed, problem_of, transformed
from rmtdeq.models.fixed_point import Equilibrium, Solver, Step, exported
from rmtdeq.models.inputs import not_recorded, require_precision, require_tensor
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
    warm : bool
        Whether solves begin there; if not, the trace only tells what they came to.
    """

    forward: Equilibrium | None = None
    backward: Equilibrium | None = None
    right: Tensor | None = None
    warm: bool = True

    def start(self) -> Equilibrium | None:
        """Return where to begin a solve."""
        return self.forward if self.warm else None

    def adjoint_start(self, right: Tensor) -> Tensor:
        """Return where to begin with another right side: the last solution, in proportion, or that side itself."""
        if not self.warm or self.backward is None or self.right is None or self.right.shape != right.shape:
            return right
        # Residuals of a training shrink and change sign: each row is scaled by what its side has become.
        before, now = self.right.flatten(1), right.flatten(1)
        square = (before * before).sum(dim=1)
        share = torch.where(square > 0, (before * now).sum(dim=1) / square.clamp_min(torch.finfo(now.dtype).tiny), 0.0)
        return self.backward.value * share.reshape(-1, *[1] * (right.dim() - 1))


Product = Callable[[Tensor], Tensor]
"""A linear map of (N, …) that acts on every row by itself."""


@dataclass(frozen=True, eq=False)
class Map:
    """A layer with its weights at hand, for the many steps of a solve.

    Parameters
    ----------
    step : callable
        Maps states and what is injected to the next states.
    pullback : callable, optional
        Maps the same to the product g ↦ Jᵀg with the transposed Jacobian in the states; by automatic differentiation
        of `step` if not given.
    initial : callable, optional
        Maps what is injected to the states that a solve begins with; the module's `initial` if not given.
    """

    step: Step
    pullback: Callable[..., Product] | None = None
    initial: Callable[..., Tensor] | None = None

    def adjoint(self, at: Tensor, injected: tuple[Tensor, ...]) -> Product:
        """Return the product with the transposed Jacobian at states."""
        injected = tuple(each.detach() for each in injected)
        if self.pullback is not None:
            with torch.no_grad():
                return self.pullback(at.detach(), *injected)
        with torch.enable_grad():
            leaf = at.detach().clone().requires_grad_()
            image = self.step(leaf, *injected)
        return lambda g: torch.autograd.grad(image, leaf, g, retain_graph=True)[0]


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

    def describe(self) -> str:
        """Return what the model is, in a line."""
        return f"{type(self).__name__}({self.extra_repr()})"

    @abstractmethod
    def injected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the inputs (N, …) are to the layer, each tensor with one row for each of them."""

    @abstractmethod
    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once to states (N, …)."""

    def map(self) -> Map:
        """Return the layer for the steps of one solve.

        To be overridden where the weights are computed from the parameters, which is then done once a solve, or where
        the transposed Jacobian is had at less cost than by automatic differentiation.
        """
        return Map(self.step)

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
        x = self.own(x)
        with full_precision(x):
            return self.equilibrium(self.injected(x), trace)

    def solve(self, x: Tensor, start: Equilibrium | None = None) -> Equilibrium:
        """Return the equilibria with the number of iterations and the residual of every row, without gradients.

        `start` are equilibria of similar inputs, or for similar weights, to begin with.
        """
        x = self.own(x)
        with torch.no_grad(), full_precision(x):
            return self._solve(self.map(), self.injected(x), check_start(start))

    def spectral_radius(self, x: Tensor) -> Tensor:
        """Return the spectral radius of the layer's Jacobian at the equilibrium of every row, (N,).

        Below 1 the equilibrium is stable and the iteration comes to it; estimated from 40 Arnoldi steps.
        """
        x = self.own(x)
        with full_precision(x):
            layer, injected = self.map(), tuple(each.detach() for each in self.injected(x))
            at = self._solve(layer, injected, None).value
            generator = torch.Generator().manual_seed(0)
            start = torch.randn(at.shape, generator=generator, dtype=torch.float64).to(at)
            return largest_modulus(layer.adjoint(at, injected), start)

    def own(self, x: Tensor) -> Tensor:
        """Return checked inputs, in mixed precision in that of the weights, which equilibria are computed in.

        Raises
        ------
        InvalidInputError
            x is no dense real tensor, or the weights are of a precision that torch does not compute in.
        """
        if not torch.compiler.is_compiling():
            not_recorded(x)
        require_tensor(x)
        like = next((each for each in self.parameters() if each.is_floating_point()), x)
        if like is not x:
            require_precision(like)
        mixed = torch.is_autocast_enabled(x.device.type) and x.is_floating_point()
        return x.to(like.dtype) if mixed else x

    def __prepare_scriptable__(self) -> None:
        """Refuse `torch.jit.script`."""
        raise InvalidInputError(
            "The steps to an equilibrium cannot be scripted: take torch.export, or torch.compile, which leaves them as "
            "they are."
        )

    def equilibrium(self, injected: tuple[Tensor, ...], trace: Trace | None = None) -> Tensor:
        """Return the equilibria of what the inputs are to the layer, with gradients."""
        layer = self.map()
        if torch.compiler.is_exporting():
            start, limit = self._first(layer, injected), self.solver.max_iterations
            return exported(layer.step, start, injected, self.solver.tolerance_for(start.dtype), limit)
        if not isinstance(injected, tuple) or not injected:
            raise InvalidInputError(f"{type(self).__name__}.injected must return a tuple of tensors.")
        if torch.compiler.is_compiling():
            # How many steps are taken depends on the data.
            from rmtdeq.models.uncompiled import result

            found: Tensor = result(self._equilibrium, layer, injected, trace)
            return found
        return self._equilibrium(layer, injected, trace)

    def _equilibrium(self, layer: Map, injected: tuple[Tensor, ...], trace: Trace | None) -> Tensor:
        held = held_by(self)
        tensors = (*injected, *held.values())

        def problem() -> Problem:
            return problem_of(self, len(injected), tuple(held), self._rest, self.solver)

        if transformed(*tensors):
            return problem().at(self._first(layer, injected), *tensors)
        free = tuple(each.detach() for each in injected)
        found = self._solve(layer, free, None if trace is None else trace.start())
        if trace is not None:
            trace.forward = found
        return attach_gradient(layer, found.value, injected, self.solver, trace, problem, tensors)

    def _rest(self, step: Step, start: Tensor, injected: tuple[Tensor, ...]) -> Tensor:
        """Bring all rows to rest by a step that holds everything else; what is injected may be looked at."""
        return self.solver.rest(step, start, None, self.solver.method).value

    def _first(self, layer: Map, injected: tuple[Tensor, ...]) -> Tensor:
        return (layer.initial or self.initial)(*injected)

    @torch.no_grad()
    def _solve(self, layer: Map, injected: tuple[Tensor, ...], start: Equilibrium | None) -> Equilibrium:
        not_transformed("Looking at a solve")
        not_recorded()
        first = self._first(layer, injected)
        if first.dim() < 2:
            raise InvalidInputError("Inputs are one sample a row, (N, p); a single sample x is x[None].")
        if start is not None and start.value.shape == first.shape:
            first = start.value
        return self.solver.rest(layer.step, first, injected, self.solver.method)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without mixed precision, which cannot tell a fixed point from its neighbours."""
    mixed = torch.is_autocast_enabled(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if mixed else nullcontext()


def check_start(start: Any) -> Equilibrium | None:
    """Return where a solve is to begin, if that is an equilibrium or nothing."""
    if start is not None and not isinstance(start, Equilibrium):
        raise InvalidInputError(f"start must be what solve returned before, not {type(start).__name__}.")
    return start


def largest_modulus(product: Product, start: Tensor) -> Tensor:
    """Return the largest modulus of an eigenvalue of a linear map, row by row, (N,), from 40 Arnoldi steps."""
    space = Arnoldi(product, start)
    space.extend(min(_RITZ, start[0].numel()))
    return torch.linalg.eigvals(space.reduced[:, :-1]).abs().amax(dim=1)


def attach_gradient(
    layer: Map,
    at: Tensor,
    injected: tuple[Tensor, ...],
    solver: Solver,
    trace: Trace | None = None,
    problem: Callable[[], Problem] | None = None,
    tensors: tuple[Tensor, ...] = (),
) -> Tensor:
    """Return fixed points `at` with their gradient.

    One step on the tape at the fixed point carries the gradient to everything that the layer and `injected` hold; the
    adjoint equation g = Jᵀg + ∂loss/∂z carries it through the fixed point.  Where the gradient is to have derivatives
    itself, the `problem` has it instead, as a function of `tensors`.
    """
    if not torch.is_grad_enabled():
        return at
    z = layer.step(at, *injected)
    if not z.requires_grad:
        return z
    product = layer.adjoint(at, injected)

    def through(gradient: Tensor) -> Tensor:
        start = gradient if trace is None else trace.adjoint_start(gradient)
        try:
            found = _solve_adjoint(product, gradient, solver, start)
        except ConvergenceError:
            if bool(gradient.isfinite().all()):
                raise
            # Infinite from above, as loss scaling in half precision provokes on purpose: whoever scales must see it.
            return torch.full_like(gradient, torch.nan)
        if trace is not None:
            trace.backward, trace.right = found, gradient
        return found.value

    return _Implicit.apply(z, through, problem, *tensors)


class _Implicit(torch.autograd.Function):
    """The identity, whose backward pass solves the adjoint equation."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, through: Product, problem: Callable[[], Problem] | None, *tensors: Tensor
    ) -> Tensor:
        """Return z."""
        ctx.through, ctx.problem = through, problem
        at = z.view_as(z)
        ctx.save_for_backward(at, *tensors)
        return at

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the solution of the adjoint equation; where that is to have derivatives, the problem's gradients."""
        nothing: list[Tensor | None] = [None] * len(ctx.needs_input_grad[3:])
        not_batched(gradients[0])
        if not (torch.is_grad_enabled() or transformed(*gradients)):
            return ctx.through(gradients[0]), None, None, *nothing
        z, *tensors = ctx.saved_tensors
        problem = None if ctx.problem is None else ctx.problem()
        if problem is None or _holds_more(problem, z, tensors):
            raise InvalidInputError(
                "Second derivatives of this equilibrium are not available: its layer depends on tensors that are "
                "neither injected nor its parameters. Register them as such, or call backward or grad without "
                "create_graph."
            )
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        for i, each in zip(wanted, problem.pull_back(z, tuple(tensors), gradients[0], wanted), strict=True):
            nothing[i] = each
        return None, None, None, *nothing


def _holds_more(problem: Problem, z: Tensor, tensors: list[Tensor]) -> bool:
    """Return whether a step depends on more that has gradients than the tensors that it is a function of."""
    return problem.bind(*(each.detach() for each in tensors))(z.detach()).requires_grad


@torch.no_grad()
def _solve_adjoint(product: Product, b: Tensor, solver: Solver, start: Tensor) -> Equilibrium:
    """Solve g = Jᵀ g + b for every row."""
    if solver.adjoint == "gmres":
        return gmres(lambda g: g - product(g), b, start, solver.tolerance_for(b.dtype), solver.max_iterations)
    return solver.rest(lambda g: product(g) + b, start, None, solver.adjoint)


def sensitivity(layer: Map, at: Tensor, injected: tuple[Tensor, ...], b: Tensor, solver: Solver) -> tuple[Tensor, ...]:
    """Return, for every row, the gradient of b·z in each tensor of `injected`, z the equilibrium.

    Unlike a backward pass, which sums them into the weights, this keeps the rows apart.
    """
    adjoint = _solve_adjoint(layer.adjoint(at, injected), b, solver, b).value
    with torch.enable_grad():
        leaves = tuple(each.detach().clone().requires_grad_() for each in injected)
        image = layer.step(at, *leaves)
    return torch.autograd.grad(image, leaves, adjoint)


@contextmanager
def traced(model: nn.Module) -> Iterator[dict[str, Trace]]:
    """Tell what the last solves of every implicit layer within a model came to.

    Yields
    ------
    dict of str to Trace
        By the layers' names, after each forward pass; the backward pass adds its part.
    """
    traces: dict[str, Trace] = {}

    def noting(name: str) -> Callable[..., tuple[Any, dict[str, Any]]]:
        def hook(module: nn.Module, given: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            traces[name] = Trace(warm=False)
            return given, {**keywords, "trace": traces[name]}

        return hook

    layers = {name: each for name, each in model.named_modules() if isinstance(each, ImplicitModule)}
    hooks = [each.register_forward_pre_hook(noting(name), with_kwargs=True) for name, each in layers.items()]
    try:
        yield traces
    finally:
        for each in hooks:
            each.remove()
