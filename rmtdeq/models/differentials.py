"""Fixed points as functions of tensors, with derivatives of every order in either mode, and under `torch.vmap`.

The derivatives of a fixed point z = f(z, θ) are fixed points as well, of affine maps: ż = J ż + b, b the change of f in
θ, and the adjoint g = Jᵀg + v; so one function, applied to them again, has all derivatives that f has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, vjp

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.inputs import not_recorded
from rmtdeq.models.krylov import gmres

Update = Callable[[Tensor], Tensor]
"""A map of a state to the next."""


def transformed(*tensors: Tensor) -> bool:
    """Return whether a transform of `torch.func` is under way, or a tensor has a tangent of forward mode."""
    active: bool = torch._C._are_functorch_transforms_active()
    tangents = [tangent for each in tensors if (tangent := _parts(each).tangent) is not None]
    for tangent in tangents:
        not_batched(tangent)
    return active or bool(tangents)


def not_transformed(what: str) -> None:
    """Raise under a transform of `torch.func`."""
    if transformed():
        raise InvalidInputError(
            f"{what} is not available under torch.func or torch.vmap: it looks at values. Call the module itself there."
        )


def not_batched(gradient: Tensor) -> None:
    """Raise for a batch of gradients or tangents in the form that `torch.vmap` has replaced."""
    if torch._C._functorch.is_legacy_batchedtensor(gradient):
        raise InvalidInputError(
            "Batches of gradients through an equilibrium (is_grads_batched, vectorize=True) are not available: take "
            "torch.func.jacrev or jacfwd, or torch.vmap of torch.func.vjp."
        )


def _parts(x: Tensor) -> Any:
    """Return x as primal and tangent."""
    return forward_ad.unpack_dual(x)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Problem:
    """A fixed point as a function of tensors.

    Parameters
    ----------
    bind : callable
        Maps the tensors to the map whose fixed point is wanted, a pure function of both.
    rest : callable
        Brings a state to rest by a map, given the tensors as well: ``rest(update, start, *tensors)``.
    solver : Solver
        Of the affine equations of the derivatives.
    """

    bind: Callable[..., Update]
    rest: Callable[..., Tensor]
    solver: Solver

    def at(self, start: Tensor, *tensors: Tensor) -> Tensor:
        """Return the fixed point, with its derivatives."""
        not_recorded()
        found: Tensor = _FixedPoint.apply(self, start.detach(), *tensors)  # type: ignore[no-untyped-call]
        return found

    def pull_back(self, z: Tensor, tensors: tuple[Tensor, ...], v: Tensor, wanted: list[int]) -> list[Tensor]:
        """Return the gradients of v·z in some of the tensors, z the fixed point."""

        def adjoint(v: Tensor, z: Tensor, *tensors: Tensor) -> Update:
            product = _pullback(self.bind(*tensors), z)[1]
            return lambda g: product(g)[0] + v

        g = self._affine(adjoint).at(v, v, z, *tensors)

        def step(*some: Tensor) -> Tensor:
            return self.bind(*_replaced(tensors, wanted, some))(z)

        return list(_pullback(step, *(tensors[i] for i in wanted))[1](g))

    def push_forward(self, z: Tensor, tensors: tuple[Tensor, ...], tangents: dict[int, Tensor]) -> Tensor:
        """Return the change of the fixed point z with those of some tensors."""
        moved = list(tangents)

        def step(*some: Tensor) -> Tensor:
            return self.bind(*_replaced(tensors, moved, some))(z)

        def tangent(b: Tensor, z: Tensor, *tensors: Tensor) -> Update:
            product = _forward_product(self.bind(*tensors), z)
            return lambda change: product(change) + b

        b = _forward_product(step, *(tensors[i] for i in moved))(*tangents.values())
        return self._affine(tangent).at(b, b, z, *tensors)

    def batched(self, size: int, dims: tuple[int | None, ...]) -> Problem:
        """Return the problem of many problems at once, their states one below the other in one batch."""

        def bind(*tensors: Tensor) -> Update:
            every = torch.vmap(lambda z, *each: self.bind(*each)(z), (0, *dims))
            return lambda z: every(z.reshape(size, len(z) // max(size, 1), *z.shape[1:]), *tensors).flatten(0, 1)

        return Problem(bind, self.rest, self.solver)

    def _affine(self, bind: Callable[..., Update]) -> Problem:
        def rest(update: Update, start: Tensor, *_: Tensor) -> Tensor:
            solver = self.solver
            if solver.adjoint != "gmres":
                return solver.rest(update, start, None, solver.adjoint).value
            b = update(torch.zeros_like(start))
            tolerance = solver.tolerance_for(start.dtype)
            return gmres(lambda g: g - (update(g) - b), b, start, tolerance, solver.max_iterations).value

        return Problem(bind, rest, self.solver)


def problem_of(
    layer: nn.Module, injected: int, names: tuple[str, ...], rest: Callable[..., Tensor], solver: Solver
) -> Problem:
    """Return the equilibrium of a layer as a function of what is injected, and of the parameters of these names."""
    within = _Step(layer)

    def bind(*tensors: Tensor) -> Update:
        held = dict(zip((f"layer.{name}" for name in names), tensors[injected:], strict=True))
        return lambda z: functional_call(within, held, (z, *tensors[:injected]))

    return Problem(bind, lambda update, start, *tensors: rest(update, start, tensors[:injected]), solver)


def held_by(layer: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that a layer may depend on smoothly, by their names."""
    held: dict[str, Tensor] = {}
    for prefix, module in layer.named_modules():
        for name, value in (*module._parameters.items(), *module._buffers.items()):
            if value is not None and value.is_floating_point():
                held[f"{prefix}.{name}" if prefix else name] = value
    return held


class _Step(nn.Module):
    """A layer whose forward pass is one step, for `functional_call`."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, *injected: Tensor) -> Tensor:
        step: Tensor = self.layer.step(z, *injected)
        return step


def _replaced(tensors: tuple[Tensor, ...], places: list[int], by: tuple[Tensor, ...]) -> list[Tensor]:
    new = list(tensors)
    for place, each in zip(places, by, strict=True):
        new[place] = each
    return new


def _pullback(function: Callable[..., Any], *at: Tensor) -> tuple[Tensor, Callable[..., Any]]:
    """Return a function's value, and the product with its transposed Jacobian."""
    value, product = vjp(function, *at)[:2]
    return value, product


def _forward_product(function: Callable[..., Tensor], *at: Tensor) -> Callable[..., Tensor]:
    """Return the product with a Jacobian: g ↦ Jᵀg is linear, and its transpose is this."""
    value, product = _pullback(function, *at)
    transposed = _pullback(product, torch.zeros_like(value))[1]
    return lambda *changes: transposed(changes)[0]


class _FixedPoint(torch.autograd.Function):
    """The fixed point of a `Problem`."""

    @staticmethod
    def forward(problem: Problem, start: Tensor, *tensors: Tensor) -> Tensor:
        """Solve, without derivatives."""
        found = problem.rest(problem.bind(*tensors), start, *tensors)
        return found.clone() if found is start else found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the fixed point and what it depends on."""
        ctx.problem, _, *tensors = inputs
        ctx.save_for_backward(output, *tensors)
        ctx.save_for_forward(output, *tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Solve the adjoint equation."""
        z, *tensors = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        found: list[Tensor | None] = [None] * len(tensors)
        for i, each in zip(wanted, ctx.problem.pull_back(z, tuple(tensors), gradients[0], wanted), strict=True):
            found[i] = each
        return None, None, *found

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        """Solve the equation of the tangent."""
        moved = {i: each for i, each in enumerate(tangents[2:]) if each is not None}
        # torch turns forward mode off here, and with it the tangents of enclosing levels.
        with forward_ad._set_fwd_grad_enabled(True):
            z, *tensors = (_parts(each).primal for each in ctx.saved_tensors)
            found: Tensor = ctx.problem.push_forward(z, tuple(tensors), moved) if moved else torch.zeros_like(z)
            return found

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], problem: Problem, start: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, int]:
        """Solve all problems as one, row by row."""
        size, (_, place, *dims) = info.batch_size, in_dims
        start = start.expand(size, *start.shape) if place is None else start.movedim(place, 0)
        found = problem.batched(size, tuple(dims)).at(start.flatten(0, 1), *tensors)
        return found.reshape(start.shape), 0
