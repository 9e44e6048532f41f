"""Implicit networks with one output, their gradients sample by sample, and the kernel of those gradients."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from rmtdeq.models.implicit import ImplicitModule, Trace, full_precision, sensitivity


class Factor(NamedTuple):
    """Gradients of the outputs in one weight matrix, of rank one: that of sample i is the outer product of two rows.

    Attributes
    ----------
    left : Tensor (N, a)
    right : Tensor (N, b)
    """

    left: Tensor
    right: Tensor

    def gram(self) -> Tensor:
        """Return the inner products of the gradients, (N, N)."""
        return gram(self.left) * gram(self.right)


def input_factors(b: Tensor, x: Tensor, sigma_b: float, sigma_c: float, bias: Tensor | None) -> dict[str, Factor]:
    """Return the gradients in input weights B and bias c of a layer, those in its pre-activation, b, being given."""
    found = {"B": Factor(sigma_b * b, x)}
    return found if bias is None else found | {"c": Factor(sigma_c * b, torch.ones_like(b[:, :1]))}


def gram(x: Tensor) -> Tensor:
    """Return x xᵀ, symmetric to the last bit, which a matrix product is not."""
    product = x @ x.T
    return (product + product.T) / 2


class Point(NamedTuple):
    """An equilibrium and how the output depends on it.

    Attributes
    ----------
    z : Tensor (N, m)
    injected : tuple of Tensor (N, …)
    through : tuple of Tensor (N, …)
        Gradient of the output in `injected`, through the equilibrium.
    direct : tuple of Tensor (N, …)
        Gradient of the read-out in `injected`, at a fixed equilibrium.
    """

    z: Tensor
    injected: tuple[Tensor, ...]
    through: tuple[Tensor, ...]
    direct: tuple[Tensor, ...]


class ImplicitRegression(ImplicitModule):
    """An implicit layer with a read-out of one number.

    What a model adds to `injected` and `step` is `read_out`, `factors` and `recurrent`.

    Attributes
    ----------
    in_features, width : int
        p and m.
    """

    in_features: int
    width: int

    @abstractmethod
    def read_out(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Return the outputs (N,) of equilibria (N, m)."""

    @abstractmethod
    def factors(self, x: Tensor, point: Point) -> dict[str, Factor]:
        """Return the gradients of the outputs in every weight matrix, by the name of the parameter."""

    @abstractmethod
    def recurrent(self) -> Tensor:
        """Return the matrix (m, m) whose norm, below one, makes a layer with a ReLU or tanh a contraction."""

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        """Return the outputs (N,) of inputs (N, p), with gradients by implicit differentiation.

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
            injected = self.injected(x)
            return self.read_out(self.equilibrium(injected, trace), *injected)

    @torch.no_grad()
    def gram(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        """Return the inner products of the equilibria, (N, N)."""
        z = self.solve(x, None if trace is None else trace.forward).value
        return gram(z)

    @torch.no_grad()
    def gradients(self, x: Tensor, trace: Trace | None = None) -> dict[str, Factor]:
        """Return the gradients of the outputs, sample by sample, in every parameter that is trained.

        Parameters
        ----------
        x : Tensor (N, p)
        trace : Trace, optional
            Where the solve of the equilibrium begins.

        Returns
        -------
        dict of str to Factor
            The gradient of output i in a parameter is ``outer(left[i], right[i])``; of a vector, ``left`` is one.
        """
        x = self.own(x)
        with full_precision(x):
            return self._gradients(x, trace)

    def _gradients(self, x: Tensor, trace: Trace | None) -> dict[str, Factor]:
        injected = self.injected(x)
        layer = self.map()
        z = self._solve(layer, injected, None if trace is None else trace.start()).value
        with torch.enable_grad():
            leaves = tuple(each.detach().clone().requires_grad_() for each in (z, *injected))
            outputs = self.read_out(*leaves).sum()
        slopes = torch.autograd.grad(outputs, leaves, allow_unused=True)
        at_z, *direct = (
            torch.zeros_like(of) if slope is None else slope for slope, of in zip(slopes, leaves, strict=True)
        )
        through = sensitivity(layer, z, injected, at_z, self.solver)
        trained = {name for name, value in self.named_parameters() if value.requires_grad}
        found = self.factors(x, Point(z, injected, through, tuple(direct)))
        return {name: factor for name, factor in found.items() if name in trained}

    def tangent_kernel(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        """Return the inner products of the outputs' gradients in all trained parameters, (N, N).

        Of samples i and j, Σ_θ ∂f_i/∂θ · ∂f_j/∂θ: exact at this width, by implicit differentiation.
        """
        return torch.stack([factor.gram() for factor in self.gradients(x, trace).values()]).sum(dim=0)
