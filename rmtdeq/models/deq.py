"""Deep equilibrium models of finite width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq import _check
from rmtdeq._types import Seed
from rmtdeq.gauss import Activation
from rmtdeq.models.activations import TensorFunction, TorchActivation
from rmtdeq.models.implicit import Equilibrium, default_tolerance, differentiable, exported, iterate
from rmtdeq.models.weights import gaussian, torch_generator


class DEQModule(nn.Module):
    """The network x ↦ z with z = φ(σ_a A z + σ_b B x)/√m, A and B of independent N(0, 1) entries.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    width : int
        m.
    activation : Activation
        φ, its shift included.
    sigma_a2, sigma_b2 : float
    seed : int, Generator or None
        Of the weights.
    tolerance : float, optional
        Relative change of the slowest sample at which the iteration stops; by default that of the inputs'
        precision, 1.4e-5 for float32 and 1.1e-11 for float64.
    max_iterations : int
    torch_activation : callable, optional
        φ (without shift) on tensors, where it was made from a callable.

    Attributes
    ----------
    A, B : Parameter (m, m), (m, p)
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        activation: Activation,
        sigma_a2: float,
        sigma_b2: float,
        seed: Seed = None,
        *,
        tolerance: float | None = None,
        max_iterations: int = 500,
        torch_activation: TensorFunction | None = None,
    ) -> None:
        super().__init__()
        p, m = _check.integer(in_features, "in_features"), _check.integer(width, "width")
        self.activation = TorchActivation(activation, torch_activation)
        self.sigma_a, self.sigma_b = sigma_a2**0.5, sigma_b2**0.5
        self.tolerance = None if tolerance is None else _check.number(tolerance, "tolerance", low=0, open_low=True)
        self.max_iterations = _check.integer(max_iterations, "max_iterations")
        self.scale = m**-0.5
        A, B = gaussian([(m, m), (m, p)], torch_generator(seed))
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)

    def forward(self, x: Tensor) -> Tensor:
        """Return the equilibria (…, m) of inputs (…, p), with gradients by implicit differentiation.

        Raises
        ------
        ConvergenceError
            The iteration, or that of the gradient, does not come to rest.
        """
        injected = self._injected(x)
        tolerance = self._tolerance(x)
        if torch.compiler.is_exporting():
            return exported(
                lambda z: self._step(z, injected), torch.zeros_like(injected), tolerance, self.max_iterations
            )
        found = self._solve(injected, tolerance)
        return differentiable(lambda z: self._step(z, injected), found, tolerance, self.max_iterations)

    def solve(self, x: Tensor) -> Equilibrium:
        """Return the equilibria with the number of iterations and the residuals, without gradients."""
        with torch.no_grad():
            return self._solve(self._injected(x), self._tolerance(x))

    def extra_repr(self) -> str:
        """Show sizes and variances."""
        m, p = self.B.shape
        return f"{p} → {m}, sigma_a2={self.sigma_a**2:g}, sigma_b2={self.sigma_b**2:g}"

    def _injected(self, x: Tensor) -> Tensor:
        return self.sigma_b * F.linear(x, self.B)

    def _tolerance(self, x: Tensor) -> float:
        return default_tolerance(x.dtype) if self.tolerance is None else self.tolerance

    def _step(self, z: Tensor, injected: Tensor) -> Tensor:
        return self.scale * self.activation(self.sigma_a * F.linear(z, self.A) + injected)

    @torch.no_grad()
    def _solve(self, injected: Tensor, tolerance: float) -> Equilibrium:
        start = torch.zeros_like(injected)
        return iterate(lambda z: self._step(z, injected), start, tolerance, self.max_iterations)
