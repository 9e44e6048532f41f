"""Kernels of networks as differentiable functions of samples and variances, in torch.

Expectations come from numpy, with their partial derivatives, which are expectations, too (Price's theorem):
``∂/∂s E φφ = ½ E φ''φ``, ``∂/∂ρ E φφ = E φ'φ'``.  Fixed points are found without gradients; one step of Newton's method
from there, which moves nothing, has the gradients of the implicit function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation
from rmtdeq.kernels.computation import Computation, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.pairs import entry
from rmtdeq.kernels.plan import plan_with, tabulate
from rmtdeq.kernels.scales import scale_table
from rmtdeq.network import Layer, Network
from rmtdeq.theory.pair_expectations import PairExpectations

_SMALLEST = 1e-30
"""Variance that stands for none: a sample of nothing is orthogonal to all."""

_NEAREST = 1 - 1e-14
"""Correlation that stands for one, where a bent activation's slopes are infinite."""

_AT_ONCE = 1 << 18
"""Pairs whose series are summed at a time."""


@dataclass(frozen=True)
class LayerTensors:
    """A layer whose variances are tensors of one entry.

    Attributes
    ----------
    activation : Activation
    sigma_a2, sigma_b2, sigma_c2 : Tensor
    recurrent : bool
    """

    activation: Activation
    sigma_a2: Tensor
    sigma_b2: Tensor
    sigma_c2: Tensor
    recurrent: bool

    @property
    def numbers(self) -> Layer:
        """The layer at these variances."""
        a2, b2, c2 = (float(each.detach()) for each in (self.sigma_a2, self.sigma_b2, self.sigma_c2))
        return Layer(self.activation, a2, b2, c2)


def without_gradients(layers: Sequence[LayerTensors], x1: Tensor, x2: Tensor, kind: Kind, same: bool) -> Tensor:
    """Return what `network_kernel` does, without gradients, in a fraction of the time."""
    place = placement(_array(x1), None if same else _array(x2), Computation())
    rows, columns = place.inputs.squared_norms()
    network = Network([layer.numbers for layer in layers])
    tables = tabulate(network, (kind,), rows if same else np.concatenate([rows, columns]))
    found = np.empty(place.inputs.shape)
    plan = plan_with(tables, place.inputs, (rows, columns))
    fill_matrix(engine_of(plan, place, progress=False), {kind: found}, progress=False)
    return torch.from_numpy(found).to(x1)


def network_kernel(layers: Sequence[LayerTensors], x1: Tensor, x2: Tensor, kind: Kind, same: bool) -> Tensor:
    """Return a kernel with gradients in samples and variances.

    Parameters
    ----------
    layers : sequence of LayerTensors
    x1, x2 : Tensor (n, p), (m, p)
        In double precision.
    kind : str
    same : bool
        Whether these are the same samples: their diagonal depends on norms alone.

    Returns
    -------
    Tensor (n, m)
    """
    u, v = (x1 * x1).sum(-1), (x2 * x2).sum(-1)
    value = x1 @ x2.mT
    eye = torch.eye(*value.shape, dtype=torch.bool, device=value.device) if same else None
    tangent = value
    for depth, layer in enumerate(layers):
        s = _scales(layer, u)
        t = s if same else _scales(layer, v)
        source = layer.sigma_b2 * value + layer.sigma_c2
        if eye is not None:
            source = source.masked_fill(eye, 0.0)
        pairs = _PairMatrix(layer.numbers, _array(s), _array(t))
        rho = _covariances(layer, pairs, s, t, source)
        u = _OfOne.apply(s, layer.activation, 0)
        v = u if same else _OfOne.apply(t, layer.activation, 0)
        value = _with_diagonal(_OfPairs.apply(s, t, rho, pairs, 0), u, eye)
        if kind != "ck":
            slope = _OfPairs.apply(s, t, rho, pairs, 1)
            if eye is not None:
                slope = _with_diagonal(slope, _OfOne.apply(s, layer.activation, 1), eye)
            tangent = entry(kind, layer, value, slope, tangent, depth == 0)
    return value if kind == "ck" else tangent


def network_diagonal(layers: Sequence[LayerTensors], x: Tensor, kind: Kind) -> Tensor:
    """Return the diagonal of the kernel of samples (n, p), (n,), with gradients."""
    value = (x * x).sum(-1)
    tangent = value
    for depth, layer in enumerate(layers):
        s = _scales(layer, value)
        value = _OfOne.apply(s, layer.activation, 0)
        if kind != "ck":
            tangent = entry(kind, layer, value, _OfOne.apply(s, layer.activation, 1), tangent, depth == 0)
    return value if kind == "ck" else tangent


def _with_diagonal(matrix: Tensor, diagonal: Tensor, eye: Tensor | None) -> Tensor:
    return matrix if eye is None else torch.where(eye, torch.diag_embed(diagonal), matrix)


def _scales(layer: LayerTensors, norms: Tensor) -> Tensor:
    """Solve ``s = σ_a² E φ(√s ξ)² + σ_b² ‖x‖² + σ_c²``."""
    base = layer.sigma_b2 * norms + layer.sigma_c2
    if not layer.recurrent:
        return base.clamp_min(_SMALLEST)
    given = _array(norms)
    table = scale_table(layer.numbers, float(given.min()), float(given.max()))
    s = np.maximum(table.profile(given).sigma ** 2, _SMALLEST)
    square, slope = (torch.from_numpy(each).to(norms) for each in _of_one(s, layer.activation, 0))
    found = torch.from_numpy(s).to(norms)
    moved = (layer.sigma_a2 * square + base - found) / (1 - layer.sigma_a2.detach() * slope)
    return (found + moved).clamp_min(_SMALLEST)


def _covariances(layer: LayerTensors, pairs: _PairMatrix, s: Tensor, t: Tensor, source: Tensor) -> Tensor:
    """Solve ``ρ = σ_a² E φ(u)φ(v) + source``."""
    if not layer.recurrent:
        return source
    found = pairs.solve(_array(source))
    slope = torch.from_numpy(pairs.expectation(1, 1, pairs.correlations(found))).to(source)
    rho = torch.from_numpy(found).to(source)
    value = _OfPairs.apply(s, t, rho, pairs, 0)
    return rho + (layer.sigma_a2 * value + source - rho) / (1 - layer.sigma_a2.detach() * slope)


class _PairMatrix:
    """Expectations of φ and its derivatives at all pairs of scales σ_u (n,), σ_v (m,): (n, m)."""

    def __init__(self, layer: Layer, s: FloatArray, t: FloatArray) -> None:
        self._size = np.sqrt(np.outer(s, t))
        rows = max(1, _AT_ONCE // t.size)
        self._parts = [self._pairs(layer, s[top : top + rows], t) for top in range(0, s.size, rows)]
        self._rows = [slice(top, top + rows) for top in range(0, s.size, rows)]

    @staticmethod
    def _pairs(layer: Layer, s: FloatArray, t: FloatArray) -> PairExpectations:
        sigma, inverse = np.unique(np.sqrt(np.concatenate([s, t])), return_inverse=True)
        left, right = inverse[: s.size], inverse[s.size :]
        return PairExpectations(layer, sigma, np.repeat(left, t.size), np.tile(right, s.size))

    def correlations(self, rho: FloatArray) -> FloatArray:
        """Return those of covariances (n, m)."""
        return np.clip(rho / self._size, -_NEAREST, _NEAREST)

    def expectation(self, i: int, j: int, r: FloatArray) -> FloatArray:
        """``E[φ⁽ⁱ⁾(ξ) φ⁽ʲ⁾(ζ)]`` at correlations r (n, m)."""
        found = [
            part.expectation(i, j, r[rows].ravel()).reshape(r[rows].shape)
            for part, rows in zip(self._parts, self._rows, strict=True)
        ]
        return np.concatenate(found)

    def solve(self, source: FloatArray) -> FloatArray:
        """Solve ``ρ = σ_a² E φ(u)φ(v) + source`` for every pair."""
        found = [
            part.solve(source[rows].ravel()).reshape(source[rows].shape)
            for part, rows in zip(self._parts, self._rows, strict=True)
        ]
        return np.concatenate(found)


class _OfPairs(torch.autograd.Function):
    """``E[φ⁽ᵒ⁾(ξ) φ⁽ᵒ⁾(ζ)]`` of variances s (n,), t (m,) and covariances (n, m)."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, rho: Tensor, pairs: _PairMatrix, order: int) -> Tensor:
        r = pairs.correlations(_array(rho))
        if any(ctx.needs_input_grad[:3]):
            steps = ((0.5, 2, 0), (0.5, 0, 2), (1.0, 1, 1))
            partials = (weight * pairs.expectation(order + i, order + j, r) for weight, i, j in steps)
            ctx.save_for_backward(*(torch.from_numpy(each).to(rho) for each in partials))
        return torch.from_numpy(pairs.expectation(order, order, r)).to(rho)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), (of_s, of_t, of_rho) = grads, ctx.saved_tensors
        return (grad * of_s).sum(-1), (grad * of_t).sum(-2), grad * of_rho, None, None


class _OfOne(torch.autograd.Function):
    """``E φ(√s ξ)²``, or of φ', of variances s (n,)."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, activation: Activation, order: int) -> Tensor:
        value, slope = (torch.from_numpy(each).to(s) for each in _of_one(_array(s), activation, order))
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.saved_tensors[0], None, None


def _of_one(s: FloatArray, activation: Activation, order: int) -> FloatArray:
    """``E φ⁽ᵒ⁾(√s ξ)²`` and its derivative in s, by Stein's lemma, (2, n)."""
    fn = activation if order == 0 else activation.slope
    distinct, inverse = np.unique(np.sqrt(s), return_inverse=True)
    found = np.empty((2, distinct.size))
    rules = [activation.rule(float(sigma)) for sigma in distinct]
    for rule in {id(each): each for each in rules}.values():
        # Most scales have one rule.
        at = [k for k, each in enumerate(rules) if each is rule]
        squares = np.asarray(fn(np.outer(distinct[at], rule.nodes).ravel()), dtype=float).reshape(len(at), -1) ** 2
        found[0, at] = squares @ rule.weights
        spread = (squares - found[0, at, None]) @ (rule.weights * (rule.nodes**2 - 1))
        found[1, at] = spread / (2 * distinct[at] ** 2)
    return found[:, inverse]


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy()
