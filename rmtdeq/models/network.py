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
from rmtdeq.models.activations import FeatureMap, StepLike, TensorFunction
from rmtdeq.models.deq import DEQModule
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.implicit import full_precision
from rmtdeq.models.inputs import product
from rmtdeq.models.regression import Factor, input_factors
from rmtdeq.models.weights import gaussian, torch_generator

Sources = tuple[tuple[int, float], ...]
"""Layers by number, -1 for the inputs, whose features go on side by side, each with a weight."""


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

    @property
    def before(self) -> Sequence[StepLike]:
        """What is done to pre-activations."""

    @property
    def after(self) -> Sequence[StepLike]:
        """What is done to features."""


class DenseModule(FeatureMap):
    """The layer x ↦ φ(σ_b B x + σ_c c)/√m, B and c of independent N(0, 1) entries.

    Steps before φ and after it are there as torch's modules, dropout in training alone.

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
        self.set_features(m, layer.activation, torch_activation, layer.before, layer.after)
        self.sigma_b, self.sigma_c = layer.sigma_b2**0.5, layer.sigma_c2**0.5
        B, *c = gaussian([(m, p), *([(m,)] if layer.sigma_c2 else [])], torch_generator(seed))
        self.B = nn.Parameter(B)
        self.register_parameter("c", nn.Parameter(c[0]) if c else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (…, m) of inputs (…, p)."""
        return self.dropout(self.features(self._given(x)))

    def _given(self, x: Tensor) -> Tensor:
        given = self.sigma_b * product(x, self.B)
        return given if self.c is None else given + self.sigma_c * self.c

    def row_gradients(self, x: Tensor, z: Tensor, g: Tensor) -> tuple[dict[str, Factor], Tensor]:
        """Return the gradients of g·z in the weights, row by row, and that in the inputs; see `DEQModule`."""
        with torch.enable_grad():
            leaf = self._given(x).detach().requires_grad_()
            (b,) = torch.autograd.grad(self.features(leaf), leaf, g)
        return input_factors(b, x, self.sigma_b, self.sigma_c, self.c), self.sigma_b * (b @ self.B)

    def extra_repr(self) -> str:
        """Show sizes and variances."""
        m, p = self.B.shape
        bias = f", sigma_c2={self.sigma_c**2:g}" if self.sigma_c else ""
        return f"{p} → {m}, sigma_b2={self.sigma_b**2:g}{bias}"


class NetworkModule(nn.Sequential):
    """Layers of finite width; inner products of the features tend to the conjugate kernel.

    They are one on another, or as they are wired: features go on side by side.

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
    wiring : sequence of tuple
        What every layer and the network are given, see `rmtdeq.Network`; nothing where layers are one on another.
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
        wiring: Sequence[Sources] = (),
        solver: Solver | None = None,
        torch_activation: TensorFunction | None = None,
        equilibria: bool = False,
        recurrent: str = "gaussian",
    ) -> None:
        super().__init__()
        self.sources = tuple(wiring) or tuple(((number - 1, 1.0),) for number in range(len(layers) + 1))
        widths = list(width) if np.iterable(width) else [width] * len(layers)
        if len(widths) != len(layers):
            raise InvalidInputError(
                f"A network of {len(layers)} layers needs a width, or as many widths, not {len(widths)}."
            )
        rng, sizes = check.generator(seed), [*widths, in_features]
        for layer, m, sources in zip(layers, widths, self.sources, strict=False):
            p = sum(sizes[source] for source, _ in sources)
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
                    before=layer.before,
                    after=layer.after,
                )
            else:
                made = DenseModule(p, m, layer, rng, torch_activation=own)
            self.append(made)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of inputs (…, p)."""
        return self.states(x)[0][-1]

    def states(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return what every layer and, last, the read-out are given, and every layer's features."""
        known, given = [x], []
        for layer, sources in zip(self, self.sources, strict=False):
            given.append(self._side_by_side(known, sources))
            known.append(layer(given[-1]))
        return [*given, self._side_by_side(known, self.sources[-1])], known[1:]

    @staticmethod
    def _side_by_side(known: Sequence[Tensor], sources: Sources) -> Tensor:
        parts = [known[source + 1] if weight == 1 else weight**0.5 * known[source + 1] for source, weight in sources]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def shares(self, number: int, g: Tensor) -> list[tuple[int, Tensor]]:
        """Return the gradients of features by layer, that in what a layer (or, last, the network) is given being g."""
        sources = self.sources[number]
        layers = cast("list[DEQModule | DenseModule]", list(self))
        sizes = [len(layers[source].B) if source >= 0 else 0 for source, _ in sources]
        # The samples come first, and are as wide as the rest leaves.
        sizes = [size or g.shape[-1] - sum(sizes) for size in sizes]
        parts = torch.split(g, sizes, dim=-1)
        return [(source, weight**0.5 * part) for (source, weight), part in zip(sources, parts, strict=True)]


class NetworkRegression(nn.Module):
    """The scalar network x ↦ vᵀz(x) on the features of a network, v of independent N(0, 1) entries.

    Parameters
    ----------
    in_features, width, layers, seed, wiring, solver, torch_activation, equilibria, recurrent
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
        wiring: Sequence[Sources] = (),
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
            wiring=wiring,
            solver=solver,
            torch_activation=torch_activation,
            equilibria=equilibria,
            recurrent=recurrent,
        )
        last, layers_made = self.features.sources[-1], cast("list[DEQModule | DenseModule]", list(self.features))
        size = sum(len(layers_made[source].B) if source >= 0 else in_features for source, _ in last)
        (v,) = gaussian([(size,)], torch_generator(rng))
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
            (*given, last), states = self.features.states(x)
            found = {"v": Factor(x.new_ones(len(x), 1), last)}
            reached: dict[int, Tensor] = {}
            for depth in range(len(layers), -1, -1):
                if depth == len(layers):
                    g = self.v.expand_as(last)
                else:
                    factors, g = layers[depth].row_gradients(given[depth], states[depth], reached[depth])
                    found |= {f"features.{depth}.{name}": factor for name, factor in factors.items()}
                for source, share in self.features.shares(depth, g):
                    reached[source] = reached[source] + share if source in reached else share
            return found
