"""Inputs of networks: tensors that fit the weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn import functional as F

from rmtdeq._lib.errors import InvalidInputError

_METHODS = {torch.float64: "double", torch.float32: "float", torch.bfloat16: "bfloat16", torch.float16: "half"}
"""What brings modules and tensors into a precision."""


def not_recorded(x: object = None) -> None:
    """Raise where torch records operations, and would record as many steps as these values need."""
    if isinstance(x, torch.fx.Proxy) or torch._C._get_tracing_state() is not None or get_proxy_mode() is not None:
        raise InvalidInputError(
            "The number of steps to an equilibrium depends on the values, which a record of operations (torch.jit, "
            "torch.fx, torch.func.linearize) cannot hold: take torch.export for the network, torch.func.jvp or vjp for "
            "its derivatives."
        )


def require_tensor(x: object) -> None:
    """Raise unless x is a real tensor that holds its values one by one."""
    if not isinstance(x, Tensor):
        raise InvalidInputError(
            f"Inputs of a layer are real torch tensors, not {type(x).__name__}; torch.as_tensor makes them."
        )
    if x.is_complex():
        raise InvalidInputError(f"Inputs of a layer are real torch tensors, not a tensor of {x.dtype}: take X.real.")
    if x.layout != torch.strided:
        raise InvalidInputError(f"Inputs of a layer are dense tensors, not {x.layout}: X.to_dense().")
    if x.is_meta:
        raise InvalidInputError("Inputs of a layer are tensors with values, and those on the device meta have none.")


def require_precision(weight: Tensor) -> None:
    """Raise unless torch computes in the precision of a weight."""
    if weight.dtype not in _METHODS:
        own = str(weight.dtype).removeprefix("torch.")
        known = ", ".join(str(each).removeprefix("torch.") for each in _METHODS)
        raise InvalidInputError(f"Layers are computed in {known}, not in {own}: take module.float().")


def check_inputs(x: Tensor, weight: Tensor) -> None:
    """Raise unless W x can be computed of inputs (…, p), W (m, p)."""
    require_tensor(x)
    require_precision(weight)
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
