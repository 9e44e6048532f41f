"""Inputs of networks: tensors that fit the weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rmtdeq._errors import InvalidInputError

_METHODS = {torch.float64: "double", torch.float32: "float", torch.bfloat16: "bfloat16", torch.float16: "half"}
"""What brings modules and tensors into a precision."""


def require_tensor(x: object) -> None:
    """Raise unless x is a real tensor."""
    if not isinstance(x, Tensor) or x.is_complex():
        what = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__}"
        raise InvalidInputError(f"Inputs of a layer are real torch tensors, not {what}; torch.as_tensor makes them.")


def check_inputs(x: Tensor, weight: Tensor) -> None:
    """Raise unless W x can be computed of inputs (…, p), W (m, p)."""
    require_tensor(x)
    p = weight.shape[1]
    if x.dim() == 0 or x.shape[-1] != p:
        raise InvalidInputError(f"Inputs must have the shape (N, {p}), one sample a row, not {tuple(x.shape)}.")
    # Mixed precision has its own ways with types.
    if x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type):
        return
    name, own = (str(each).removeprefix("torch.") for each in (x.dtype, weight.dtype))
    remedy = f"X.{_METHODS.get(weight.dtype, own)}()"
    if x.dtype in _METHODS:
        remedy = f"module.{_METHODS[x.dtype]}() or {remedy}"
    raise InvalidInputError(f"Inputs are {name} and the weights {own}; they must be the same: {remedy}.")


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return W x of inputs (…, p), checked."""
    check_inputs(x, weight)
    return F.linear(x, weight)
