"""How fast the iteration of a positive concave map contracts, known before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError

_SMALL = 1e-3


def thompson_metric(x: Tensor, y: Tensor) -> Tensor:
    """Return Thompson's metric ‖log x - log y‖_∞ of positive tensors, row by row.

    Parameters
    ----------
    x, y : Tensor (N, …)
        Infinitely distant where one entry is zero and the other is not.

    Returns
    -------
    Tensor (N,)

    Raises
    ------
    InvalidInputError
        Shapes that differ, or negative entries.
    """
    if x.shape != y.shape or x.dim() < 2:
        raise InvalidInputError(f"x and y must be (N, …) of one shape, not {tuple(x.shape)} and {tuple(y.shape)}.")
    if bool((x < 0).any()) or bool((y < 0).any()):
        raise InvalidInputError("Thompson's metric is of nonnegative tensors, and some entry is negative.")
    apart = (x.log() - y.log()).abs()
    return torch.where((x == 0) & (y == 0), torch.zeros_like(apart), apart).flatten(1).amax(dim=1)


@dataclass(frozen=True, eq=False)
class Certificate:
    """A bound on the convergence of z ↦ f(z), f positive, increasing and concave, proved by two of its values.

    With δ = min_i f_i(0)/f_i(u), u an upper bound of f, f contracts Thompson's metric ‖log x - log y‖_∞ on (0, u] by
    1 - δ at least; and its iterates from zero, as those from u, come to within the factor 1 - (1 - δ)^k of the fixed
    point, entry by entry.  The same holds for the map of several steps.

    Parameters
    ----------
    delta : Tensor (N,)
        δ of every row, of `steps` steps.
    steps : int
    spectral_radius : float
        Of the asymptotic map lim f(tz)/t: below 1, and 0 where the activation saturates, a fixed point exists.

    Notes
    -----
    f(e^{-t}y) ≥ e^{-t}f(y) + (1 - e^{-t})f(0) ≥ (e^{-t} + (1 - e^{-t})δ)f(y), and log is concave.
    """

    delta: Tensor
    steps: int
    spectral_radius: float

    def __repr__(self) -> str:
        if not self.delta.numel():
            return "Certificate(of no rows)"
        least = float(self.delta.min())
        worst = f"{self.worst:.4g}" if least > _SMALL else f"1 - {least:.2g}"
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        return (
            f"Certificate(delta {least:.3g} … {float(self.delta.max()):.3g}, contraction <= {worst} in {steps}, "
            f"asymptotic spectral radius {self.spectral_radius:.3g})"
        )

    @property
    def contraction(self) -> Tensor:
        """1 - δ of every row, (N,): the factor of Thompson's metric in `steps` steps."""
        return 1 - self.delta

    @property
    def worst(self) -> float:
        """The largest factor of all rows, 0 if there are none."""
        return float(self.contraction.max()) if self.delta.numel() else 0.0

    def iterations(self, tolerance: float) -> Tensor:
        """Return after how many steps from zero or from u each row is sure to be at rest, (N,), infinite if δ is zero.

        Parameters
        ----------
        tolerance : float
            Of the change in a step, relative to the state.

        Notes
        -----
        From zero the iterates increase, (1 - r^k) z* ≤ z_k ≤ z* with r = 1 - δ; the change after z_{k-1} is at most
        r^{k-1}/(1 - r^k) of the state z_k.  From u they decrease, (1 - r^k) z_k ≤ z* ≤ z_k, and the change is at most
        r^{k-1}/(1 - r^{k-1}).  A solve begins with f(0) or f(u), one step later, and takes one less.
        """
        tolerance = check.number(tolerance, "tolerance", low=0, open_low=True)
        wanted = torch.log(torch.tensor(tolerance / (1 + tolerance), dtype=torch.float64))
        rate = torch.log1p(-self.delta.double())
        # δ = 1: constant, at rest in the step after the first.  δ = 0: nothing is promised.
        blocks = torch.where(rate < 0, torch.ceil(wanted / rate), torch.inf)
        return self.steps * blocks.clamp_min(1) + 1
