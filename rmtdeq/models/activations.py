"""The registered activations on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.activations import Activation
from rmtdeq.activations.splines import NaturalSpline

TensorFunction = Callable[[Tensor], Tensor]

_GRID = np.linspace(-6.03, 6.03, 121)
_AGREES = 1e-9


def _two_slopes(u: Tensor, above: float, below: float) -> Tensor:
    return above * F.leaky_relu(u, below / above) if above > 0 else below * u + (above - below) * F.relu(u)


def _hard_tanh(u: Tensor, a: float, c: float) -> Tensor:
    return a * u.clamp(-c, c)


def _polynomial(u: Tensor, *coefficients: float) -> Tensor:
    value = torch.full_like(u, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * u + coefficient
    return value


def _sin(u: Tensor, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Tensor:
    return a * torch.sin(b * u + c)


def _cos(u: Tensor, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Tensor:
    return a * torch.cos(b * u + c)


def _rbf(u: Tensor, gamma: float) -> Tensor:
    return math.sqrt(2) * torch.sin(math.sqrt(2 * gamma) * u + math.pi / 4)


def _exp(u: Tensor, a: float = 1.0, b: float = 1.0) -> Tensor:
    return a * torch.exp(b * u)


def _monomial(u: Tensor, degree: float) -> Tensor:
    return u ** int(degree)


def _hermite(u: Tensor, degree: float) -> Tensor:
    previous, current = torch.zeros_like(u), torch.ones_like(u)
    for k in range(int(degree)):
        previous, current = current, (u * current - math.sqrt(k) * previous) / math.sqrt(k + 1)
    return current


def _piecewise_linear(u: Tensor, *points: float) -> Tensor:
    x, y = points[: len(points) // 2], points[len(points) // 2 :]
    slopes = [(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    value = y[0] + slopes[0] * (u - x[0])
    for i in range(1, len(slopes)):
        if slopes[i] != slopes[i - 1]:
            value = value + (slopes[i] - slopes[i - 1]) * F.relu(u - x[i])
    return value


def _steps(u: Tensor, *points: float) -> Tensor:
    count = len(points) // 2
    thresholds, levels = points[:count], points[count:]
    value = torch.full_like(u, levels[0])
    for i in range(count):
        value = value + (levels[i + 1] - levels[i]) * (u > thresholds[i]).to(u.dtype)
    return value


def _spline(u: Tensor, low: float, high: float, *values: float) -> Tensor:
    curve = _natural_spline(low, high, values)
    # Half precision has too few digits for the place among the knots.
    fine = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
    at = (fine - curve.low) / curve.step
    knot = at.detach().nan_to_num().floor().clamp(-1, len(curve.pieces) - 2)
    piece, t = (knot + 1).int().reshape(-1), at - knot
    # One list for each power is the quickest to look up.
    c0, c1, c2, c3 = (each.index_select(0, piece).reshape(t.shape) for each in fine.new_tensor(curve.pieces.T))
    value = torch.addcmul(c0, t, torch.addcmul(c1, t, torch.addcmul(c2, t, c3)))
    return value.to(u.dtype)


@lru_cache(maxsize=64)
def _natural_spline(low: float, high: float, values: tuple[float, ...]) -> NaturalSpline:
    return NaturalSpline.through(low, high, np.array(values))


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "two_slopes": _two_slopes,
    "elu": F.elu,
    "selu": F.selu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "sin": _sin,
    "cos": _cos,
    "rbf": _rbf,
    "exp": _exp,
    "sign": torch.sign,
    "hard_tanh": _hard_tanh,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "relu6": F.relu6,
    "abs": torch.abs,
    "polynomial": _polynomial,
    "monomial": _monomial,
    "hermite": _hermite,
    "piecewise_linear": _piecewise_linear,
    "steps": _steps,
    "spline": _spline,
}


class StepLike(Protocol):
    """What is done to the units before or after φ: a `rmtdeq.network.Step`."""

    @property
    def kept(self) -> float:
        """Share of the features that are kept, others of every sample."""

    def module(self, width: int) -> nn.Module:
        """Return it on tensors (…, width)."""


class TorchActivation(nn.Module):
    """An `Activation` as a module.

    Parameters
    ----------
    activation : Activation
    function : callable, optional
        The same function on tensors, for an activation made from a callable.

    Raises
    ------
    InvalidInputError
        A callable without `function`, or one that is another function.
    """

    def __init__(self, activation: Activation, function: TensorFunction | None = None) -> None:
        super().__init__()
        if function is None and activation.name not in _FUNCTIONS:
            raise InvalidInputError(
                f"{activation!r} was made from a callable on arrays; pass the same function on tensors as "
                "torch_activation, as in torch_activation=torch.sin."
            )
        self.name, self.constants, self.spec = activation.name, activation.parameters, activation.spec
        self.shift, self.function = activation.shift, function
        if function is not None:
            self._check(activation)

    def _check(self, activation: Activation) -> None:
        u = _GRID[np.min(abs(_GRID[:, None] - np.append(activation.kinks, np.inf)), axis=1) > 1e-6]
        with torch.no_grad():
            found = self(torch.from_numpy(u))
        expected = activation(u)
        if not isinstance(found, Tensor) or found.shape != u.shape:
            raise InvalidInputError("torch_activation must act entrywise on tensors.")
        error = abs(found.numpy() - expected).max() / max(abs(expected).max(), 1e-300)
        if not error < _AGREES:
            raise InvalidInputError(
                f"torch_activation is another function than {activation!r}: they differ by {error:.1e}, relatively."
            )

    def forward(self, u: Tensor) -> Tensor:
        """Return φ(u), entry by entry."""
        value = _FUNCTIONS[self.name](u, *self.constants) if self.function is None else self.function(u)
        return value - self.shift if self.shift else value

    def extra_repr(self) -> str:
        """Show the name, parameters and shift."""
        return self.spec + (f", shift={self.shift:.6g}" if self.shift else "")


class FeatureMap(nn.Module):
    """A layer of finite width, as far as what it makes of its pre-activations goes."""

    def set_features(
        self,
        width: int,
        activation: Activation,
        function: TensorFunction | None,
        before: Sequence[StepLike],
        after: Sequence[StepLike],
    ) -> None:
        """Take φ, the steps before it, and those after it, of which what is drawn anew for every sample comes last.

        Parameters
        ----------
        width : int
            m.
        activation, function
            As for `TorchActivation`.
        before, after : sequence of Step
        """
        self.scale, self.activation = width**-0.5, TorchActivation(activation, function)
        self.before, self.after, self.dropout = (
            nn.Sequential(*(each.module(width) for each in steps))
            for steps in (before, [s for s in after if s.kept == 1], [s for s in after if s.kept < 1])
        )

    def features(self, u: Tensor) -> Tensor:
        """Return the features (…, m) of pre-activations, before any are dropped."""
        return self.scale * self.after(self.activation(self.before(u)))
