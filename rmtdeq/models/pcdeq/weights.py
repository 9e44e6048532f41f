"""Nonnegative weights: W = |g v/‖v‖|, or g v/‖v‖ with g and v projected on the orthant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from rmtdeq import _check
from rmtdeq._errors import InvalidInputError

POSITIVITY = ("absolute", "clamp")

_SCALE = 1e-2

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d)


class Absolute(nn.Module):
    """W ↦ |W|, as a parametrisation: with weight normalisation before it, both factors enter by their moduli."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return |W|."""
        return weight.abs()

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return a weight that is given, if it is nonnegative."""
        return nonnegative(weight, "weight")


class Checked(nn.Module):
    """The identity, which refuses weights with negative entries when they are set."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return W."""
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return a weight that is given, if it is nonnegative."""
        return nonnegative(weight, "weight")


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
    _check.choice(positivity, "positivity", POSITIVITY)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) * (_SCALE / (fan_in + fan_out) ** 0.5))
    parametrizations.weight_norm(layer)
    parametrize.register_parametrization(layer, "weight", Absolute() if positivity == "absolute" else Checked())
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
