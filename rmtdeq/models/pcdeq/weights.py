"""Nonnegative weights: W = |g v/‖v‖|, or g v/‖v‖ with g and v projected on the orthant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError

POSITIVITY = ("absolute", "clamp")

_SCALE = 1e-2
_LEAST_NORM = 1e-6

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d)


class NonnegativeNorm(nn.Module):
    """The parametrisation W = g v/‖v‖ of a weight, row by row, by factors that are or become nonnegative.

    Parameters
    ----------
    shape : tuple of int
        Of W.
    absolute : bool
        Take the moduli of g and v; without, they are projected before.
    """

    def __init__(self, shape: tuple[int, ...], absolute: bool) -> None:
        super().__init__()
        self._shape, self._absolute = shape, absolute

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return W; a row of v that is zero makes one of W."""
        weight = g / self._norm(v) * v
        # |W| with the slope -1 at zero: an entry that is exactly zero is not bound to stay so.
        return F.leaky_relu(weight, -1.0) if self._absolute else weight

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors of a weight that is given, if it is nonnegative."""
        if not isinstance(weight, Tensor) or tuple(weight.shape) != self._shape:
            shown = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
            raise InvalidInputError(f"weight must be a tensor of shape {self._shape}, not {shown}.")
        weight = nonnegative(weight.detach(), "weight")
        return self._norm(weight), weight

    @staticmethod
    def _norm(v: Tensor) -> Tensor:
        return torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True).clamp_min(_LEAST_NORM)


def nonnegative(weight: Tensor, name: str) -> Tensor:
    """Return a tensor without negative, NaN or infinite entries.

    Raises
    ------
    InvalidInputError
        There are some; the message says where.
    """
    for bad, what in ((~weight.isfinite(), "NaN or infinite"), (weight < 0, "negative")):
        if bool(bad.any()):
            place = tuple(bad.nonzero()[0].tolist())
            raise InvalidInputError(
                f"{name} holds {int(bad.sum())} {what} value(s), the first {float(weight[place]):.4g} at {place}; the "
                "weights of a positive concave DEQ are finite and nonnegative."
            )
    return weight


def check_state(state: Mapping[str, Any], prefix: str, positivity: str) -> None:
    """Raise unless the factors in a state dict, g and v, are what a layer can hold."""
    for part in ("original0", "original1"):
        value = state.get(prefix + part)
        if isinstance(value, Tensor):
            # The moduli of the factors are all that counts, except where negative ones would be projected.
            nonnegative(value.abs() if positivity == "absolute" else value, prefix + part)


def with_nonnegative_weight(layer: Layer, positivity: str, generator: torch.Generator) -> Layer:
    """Give a layer a weight-normed nonnegative weight, uniform on [0, 0.01/√(fan in + fan out)] at the start.

    Parameters
    ----------
    layer : torch.nn.Linear or Conv2d
        Without bias; changed in place.
    positivity : {"absolute", "clamp"}
    generator : torch.Generator
    """
    check.choice(positivity, "positivity", POSITIVITY)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) * (_SCALE / (fan_in + fan_out) ** 0.5))
    shape, absolute = tuple(layer.weight.shape), positivity == "absolute"
    parametrize.register_parametrization(layer, "weight", NonnegativeNorm(shape, absolute))
    return layer


def factors(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what is trained of a layer's weight: g and v."""
    held = cast(Any, layer).parametrizations.weight
    return held.original0, held.original1


@torch.no_grad()
def project(layer: nn.Module) -> None:
    """Set negative entries of both factors to zero.

    Through `data`: autograd need not know, since the values that it may have saved were nonnegative before.
    """
    for factor in factors(layer):
        factor.data.clamp_(min=0)


def projected(layer: nn.Module) -> Tensor:
    """Return the weight that a layer has once its factors are projected, and leave them as they are."""
    normed = cast(Any, layer).parametrizations.weight[0]
    return normed(*(factor.clamp(min=0) for factor in factors(layer)))
