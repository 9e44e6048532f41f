"""Activations that are nonnegative, increasing and concave on the positive axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError

_SPAN = (1e-6, 1e6)
_POINTS = 4000
_ROUNDING = 64


@dataclass(frozen=True)
class ConcaveActivation:
    """An activation σ with σ ≥ 0, increasing and concave on [0, ∞).

    Parameters
    ----------
    name : str
    function : callable
        σ on tensors, entry by entry.
    at_zero : float
        σ(0).  Where it is positive, inputs of the layer may be zero (pcDEQ-2); else they must be positive (pcDEQ-1).
    supremum : float
        sup σ, infinite if there is none or none is known.
    slope_at_infinity : float
        lim σ(u)/u, or a number above it.
    slope_of_value : callable, optional
        σ'(u) as a function of σ(u); by automatic differentiation if not given.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    at_zero: float
    supremum: float
    slope_at_infinity: float
    slope_of_value: Callable[[Tensor], Tensor] | None = None

    def __call__(self, u: Tensor) -> Tensor:
        """Return σ(u)."""
        return self.function(u)

    @property
    def kind(self) -> int:
        """1 for pcDEQ-1, 2 for pcDEQ-2."""
        return 2 if self.at_zero > 0 else 1

    @property
    def saturates(self) -> bool:
        """Whether σ is bounded, as far as is known."""
        return math.isfinite(self.supremum)

    def slope(self, u: Tensor, value: Tensor) -> Tensor:
        """Return σ'(u), where σ(u) is known."""
        if self.slope_of_value is not None:
            return self.slope_of_value(value)
        with torch.enable_grad():
            leaf = u.detach().clone().requires_grad_()
            return torch.autograd.grad(self.function(leaf).sum(), leaf)[0]


_NAMED = {
    each.name: each
    for each in (
        ConcaveActivation("tanh", torch.tanh, 0.0, 1.0, 0.0, lambda s: 1 - s * s),
        ConcaveActivation("softsign", F.softsign, 0.0, 1.0, 0.0, lambda s: (1 - s.abs()).square()),
        ConcaveActivation("relu6", F.relu6, 0.0, 6.0, 0.0, lambda s: ((s > 0) & (s < 6)).to(s.dtype)),
        ConcaveActivation("sigmoid", torch.sigmoid, 0.5, 1.0, 0.0, lambda s: s * (1 - s)),
    )
}

NAMES = tuple(_NAMED)


def concave_activation(
    activation: str | Callable[[Tensor], Tensor] | ConcaveActivation, supremum: float | None = None
) -> ConcaveActivation:
    """Return an activation for a positive concave DEQ, checked.

    Parameters
    ----------
    activation : str, callable or ConcaveActivation
        ``"tanh"``, ``"softsign"``, ``"relu6"``, ``"sigmoid"``, or any function on tensors, which is looked at between
        0 and a million.
    supremum : float, optional
        A bound of the callable's values on [0, ∞); without one it is taken as unbounded, and the certificate of the
        layer refers to the equilibrium instead.

    Raises
    ------
    InvalidInputError
        An unknown name, or a callable that is negative, falls, is not concave, or exceeds its supremum, with the
        place where it does.

    Notes
    -----
    A check at 8,000 points cannot see what happens between them, nor beyond a million.
    """
    if isinstance(activation, ConcaveActivation):
        return activation
    if isinstance(activation, str):
        return _NAMED[check.choice(activation, "activation", NAMES)]
    if not callable(activation):
        raise InvalidInputError(f"activation must be a name or a function on tensors, not {activation!r}.")
    bound = math.inf if supremum is None else check.number(supremum, "supremum", low=0, open_low=True)
    name = getattr(activation, "__name__", type(activation).__name__)
    u = torch.from_numpy(np.unique(np.concatenate([np.geomspace(*_SPAN, _POINTS), np.linspace(0, 12, _POINTS)])))
    try:
        with torch.enable_grad():  # a function of arrays would fail, or lose the gradient
            value = activation(u.clone().requires_grad_())
            value = value.detach()
    except Exception as failure:
        raise InvalidInputError(f"The activation {name} cannot be applied to tensors: {failure}") from failure
    if not isinstance(value, Tensor) or value.shape != u.shape or value.dtype != u.dtype:
        raise InvalidInputError(f"The activation {name} must act entrywise on tensors of any floating-point type.")
    _require(~value.isnan(), u, value, name, "is NaN")
    _require(value >= 0, u, value, name, "is negative")
    width, rounding = u.diff(), _ROUNDING * torch.finfo(u.dtype).eps * value[1:]
    slope, error = value.diff() / width, rounding / width
    _require(slope.diff() <= error[1:] + error[:-1], u[1:-1], value[1:-1], name, "is convex, not concave,")
    _require(value.diff() >= -rounding, u[1:], value[1:], name, "falls")
    _require(value <= bound, u, value, name, f"exceeds its supremum {bound:g}")
    if float(value[-1]) == 0:
        raise InvalidInputError(f"The activation {name} is zero everywhere; its equilibrium would be zero.")
    # σ(u)/u never rises, since σ is concave and σ(0) ≥ 0: its last value is above the limit.
    slope_at_infinity = 0.0 if math.isfinite(bound) else float(value[-1] / u[-1])
    return ConcaveActivation(name, activation, float(value[0]), bound, slope_at_infinity)


def _require(holds: Tensor, u: Tensor, value: Tensor, name: str, what: str) -> None:
    if not bool(holds.all()):
        where = int((~holds).nonzero()[0])
        raise InvalidInputError(
            f"The activation {name} {what} at u = {float(u[where]):.6g}, where it is {float(value[where]):.6g}; a "
            "positive concave DEQ needs one that is nonnegative, increasing and concave for u >= 0, as "
            f"{', '.join(NAMES)} are."
        )
