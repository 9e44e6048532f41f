"""Networks of finite width: recurrent and ordinary layers one on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.activations import Activation
from rmtdeq.models.activations import TensorFunction, TorchActivation
from rmtdeq.models.deq import DEQModule
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.implicit import full_precision
from rmtdeq.models.inputs import product
from rmtdeq.models.regression import Factor, input_factors
from rmtdeq.models.weights import gaussian, torch_generator


class LayerLike(Protocol):
    """What a layer of finite width is made from: a `rmtdeq.Layer`, uncentred."""

    @property
    def activation(self) -> Activation:
        """φ, its shift included."""

    @property
    def sigma_a2(self) -> float:
        """Variance of the recurrent weights; 0: an ordinary layer."""

    @property
    def sigma_b2(self) -> float:
        """Variance of the input weights."""

    @property
    def sigma_c2(self) -> float:
        """Variance of the bias."""


class DenseModule(nn.Module):
    """The layer x ↦ φ(σ_b B x + σ_c c)/√m, B and c of independent N(0, 1) entries.

    Parameters
    ----------
    in_features, width : int
        p and m.
    layer : Layer
        Uncentred, without recurrence.
    seed : int, Generator or None
    torch_activation : callable, optional
        φ (without shift) on tensors, where it was made from a callable.

    Attributes
    ----------
    B : Parameter (m, p)
    c : Parameter (m,) or None
    """

    c: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        width: int,
        layer: LayerLike,
        seed: Seed = None,
        *,
        torch_activation: TensorFunction | None = None,
    ) -> None:
        super().__init__()
        p, m = check.integer(in_features, "in_features"), check.integer(width, "width")
        self.activation = TorchActivation(layer.activation, torch_activation)
        self.sigma_b, self.sigma_c, self.scale = layer.sigma_b2**0.5, layer.sigma_c2**0.5, m**-0.5
        B, *c = gaussian([(m, p), *([(m,)] if layer.sigma_c2 else [])], torch_generator(seed))
        self.B = nn.Parameter(B)
        self.register_parameter("c", nn.Parameter(c[0]) if c else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (…, m) of inputs (…, p)."""
        return self.scale * self.activation(self._given(x))

    def _given(self, x: Tensor) -> Tensor:
        given = self.sigma_b * product(x, self.B)
        return given if self.c is None else given + self.sigma_c * self.c

    def row_gradients(self, x: Tensor, z: Tensor, g: Tensor) -> tuple[dict[str, Factor], Tensor]:
        """Return the gradients of g·z in the weights, row by row, and that in the inputs; see `DEQModule`."""
        with torch.enable_grad():
            leaf = self._given(x).detach().requires_grad_()
            (b,) = torch.autograd.grad(self.scale * self.activation(leaf), leaf, g)
        return input_factors(b, x, self.sigma_b, self.sigma_c, self.c), self.sigma_b * (b @ self.B)

    def extra_repr(self) -> str:
        """Show sizes and variances."""
        m, p = self.B.shape
        bias = f", sigma_c2={self.sigma_c**2:g}" if self.sigma_c else ""
        return f"{p} → {m}, sigma_b2={self.sigma_b**2:g}{bias}"


class NetworkModule(nn.Sequential):
    """Layers of finite width one on another; inner products of the features tend to the conjugate kernel.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    width : int or sequence of int
        Of all layers, or of each.
    layers : sequence of Layer
        Uncentred.
    seed : int, Generator or None
        Of the weights.
    solver : Solver, optional
        Of the recurrent layers.
    torch_activation : callable, optional
        Of activations made from a callable, on tensors.
    equilibria : bool
        Make layers without recurrence a `DEQModule`, too, as that of a DEQ with σ_a² = 0 is.
    recurrent : {"gaussian", "orthogonal"}
        What the recurrent weights are.
    """

    def __init__(
        self,
        in_features: int,
        width: int | Sequence[int],
        layers: Sequence[LayerLike],
        seed: Seed = None,
        *,
        solver: Solver | None = None,
        torch_activation: TensorFunction | None = None,
        equilibria: bool = False,
        recurrent: str = "gaussian",
    ) -> None:
        super().__init__()
        widths = list(width) if np.iterable(width) else [width] * len(layers)
        if len(widths) != len(layers):
            raise InvalidInputError(
                f"A network of {len(layers)} layers needs a width, or as many widths, not {len(widths)}."
            )
        rng, p = check.generator(seed), in_features
        for layer, m in zip(layers, widths, strict=True):
            own = torch_activation if layer.activation.name == "callable" else None
            if layer.sigma_a2 > 0 or equilibria:
                made: DEQModule | DenseModule = DEQModule(
                    p,
                    m,
                    layer.activation,
                    layer.sigma_a2,
                    layer.sigma_b2,
                    rng,
                    sigma_c2=layer.sigma_c2,
                    solver=solver,
                    torch_activation=own,
                    recurrent=recurrent,
                )
            else:
                made = DenseModule(p, m, layer, rng, torch_activation=own)
            self.append(made)
            p = m


class NetworkRegression(nn.Module):
    """The scalar network x ↦ vᵀz(x) on the features of a network, v of independent N(0, 1) entries.

    Parameters
    ----------
    in_features, width, layers, seed, solver, torch_activation, equilibria, recurrent
        As for `NetworkModule`, whose weights are the same.

    Attributes
    ----------
    features : NetworkModule
    v : Parameter (m,)
    """

    def __init__(
        self,
        in_features: int,
        width: int | Sequence[int],
        layers: Sequence[LayerLike],
        seed: Seed = None,
        *,
        solver: Solver | None = None,
        torch_activation: TensorFunction | None = None,
        equilibria: bool = False,
        recurrent: str = "gaussian",
    ) -> None:
        super().__init__()
        rng = check.generator(seed)
        self.features = NetworkModule(
            in_features,
            width,
            layers,
            rng,
            solver=solver,
            torch_activation=torch_activation,
            equilibria=equilibria,
            recurrent=recurrent,
        )
        last = cast("DEQModule | DenseModule", self.features[-1])
        (v,) = gaussian([(last.B.shape[0],)], torch_generator(rng))
        self.v = nn.Parameter(v)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (N,) of inputs (N, p)."""
        return self.features(x) @ self.v

    @torch.no_grad()
    def gradients(self, x: Tensor) -> dict[str, Factor]:
        """Return the gradients of the outputs in every weight, sample by sample, by the weight's name.

        One adjoint equation for each recurrent layer: no Jacobian is formed.
        """
        with full_precision(x):
            layers = cast("list[DEQModule | DenseModule]", list(self.features))
            states = [x]
            for layer in layers:
                states.append(layer(states[-1]))
            found = {"v": Factor(x.new_ones(len(x), 1), states[-1])}
            g = self.v.expand_as(states[-1])
            for depth in range(len(layers) - 1, -1, -1):
                factors, g = layers[depth].row_gradients(states[depth], states[depth + 1], g)
                found |= {f"features.{depth}.{name}": factor for name, factor in factors.items()}
            return found
