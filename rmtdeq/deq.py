"""The deep equilibrium model z = φ(σ_a A z + σ_b B x) / √m at infinite width."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmtdeq._check import flag, number, squared_norm
from rmtdeq._errors import IllPosedError, InvalidInputError
from rmtdeq._optional import require
from rmtdeq._types import Function, Seed
from rmtdeq.gauss import Activation, mean_and_variance, moments
from rmtdeq.gauss import activation as as_activation
from rmtdeq.solvers import Solution, smallest_fixed_point

PROBES = np.linspace(-8.0, 8.0, 257)
"""Points that tell activations apart: where a Gaussian of variance one has all its mass."""

if TYPE_CHECKING:
    from rmtdeq.models import DEQModule, DEQRegression, Solver


@dataclass(frozen=True)
class DEQ:
    """A deep equilibrium model with Gaussian weights.

    Its equilibrium features are z = φ(σ_a A z + σ_b B x)/√m with A (m, m) and B (m, p) of independent N(0, 1)
    entries, in the limit m → ∞ (arXiv 2402.02697).

    Parameters
    ----------
    activation : str, Activation or callable
        A registered name (`rmtdeq.activation_names`), an `Activation`, or any smooth vectorised callable.
    sigma_a2 : float
        Variance σ_a² ≥ 0 of the recurrent weights.
    sigma_b2 : float
        Variance σ_b² > 0 of the input weights.
    centered : bool
        Take off φ its mean at the equilibrium, φ - E φ(τ* ξ), as the first-order theory requires.  Odd
        activations are centred as they are.

    Raises
    ------
    InvalidInputError
        Unknown activation, a variance that is negative, zero (σ_b²) or not finite.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
    DEQ(tanh, sigma_a2=0.2, sigma_b2=0.8, centered=True)
    """

    activation: Activation
    sigma_a2: float
    sigma_b2: float
    centered: bool = True

    def __init__(
        self,
        activation: str | Activation | Function,
        sigma_a2: float,
        sigma_b2: float,
        centered: bool = True,
    ) -> None:
        object.__setattr__(self, "activation", as_activation(activation))
        object.__setattr__(self, "sigma_a2", number(sigma_a2, "sigma_a2", low=0, high=1e16))
        object.__setattr__(self, "sigma_b2", number(sigma_b2, "sigma_b2", low=0, high=1e16, open_low=True))
        object.__setattr__(self, "centered", flag(centered, "centered"))

    def __repr__(self) -> str:
        return (
            f"DEQ({self.activation!r}, sigma_a2={self.sigma_a2:g}, sigma_b2={self.sigma_b2:g}, "
            f"centered={self.centered})"
        )

    def pinned(self, tau0_squared: float) -> DEQ:
        """Return the same model as an uncentred DEQ, its activation shifted by E φ(τ* ξ) once and for all.

        Kernels of several blocks of data fit together when they are computed with one pinned model.  An
        uncentred model is returned as it is.

        Parameters
        ----------
        tau0_squared : float
            Mean squared norm of the inputs, which fixes τ*.

        Raises
        ------
        IllPosedError
            No equilibrium.
        """
        if not self.centered:
            return self
        mean = moments(self.activation, preactivation_scale(self, tau0_squared).value).mean
        # The mean of an odd activation is zero up to rounding; leaving it alone keeps φ odd exactly.
        shift = mean if abs(mean) > 1e-15 else 0.0
        return replace(self, activation=self.activation.minus(shift), centered=False)

    def to_torch(
        self,
        in_features: int,
        width: int,
        seed: Seed = 0,
        *,
        tau0_squared: float = 1.0,
        solver: Solver | None = None,
        torch_activation: Callable[[Any], Any] | None = None,
    ) -> DEQModule:
        """Return a network of finite width as a torch module.

        Parameters
        ----------
        in_features, width : int
            p and m.
        seed : int, Generator or None
            Of the weights, drawn in torch's default precision.
        tau0_squared : float
            Mean squared norm of the inputs, at which a centred activation is centred.
        solver : rmtdeq.models.Solver, optional
            How equilibria and gradients are found: by plain iteration to the tolerance of the precision, by default.
        torch_activation : callable, optional
            The activation on tensors, where it was made from a callable on arrays.

        Returns
        -------
        rmtdeq.models.DEQModule
            Maps (…, p) to equilibria (…, m), whose inner products tend to the conjugate kernel as m grows.

        Raises
        ------
        MissingDependencyError
            No torch.
        IllPosedError
            There is no equilibrium, or the iteration is no contraction: σ_a² E φ'(τ*ξ)² ≥ 1.
        MemoryLimitError
            The weights do not fit into memory.
        """
        phi = self._stable(tau0_squared)
        require("torch")
        from rmtdeq.models import DEQModule

        return DEQModule(
            in_features,
            width,
            phi,
            self.sigma_a2,
            self.sigma_b2,
            seed,
            solver=solver,
            torch_activation=torch_activation,
        )

    def to_regression(
        self,
        in_features: int,
        width: int,
        seed: Seed = 0,
        *,
        kind: str = "ntk",
        tau0_squared: float = 1.0,
        solver: Solver | None = None,
        torch_activation: Callable[[Any], Any] | None = None,
    ) -> DEQRegression:
        """Return a network of finite width with a Gaussian read-out, vᵀz, as a torch module.

        Parameters
        ----------
        in_features, width, seed, tau0_squared, solver, torch_activation
            As for `to_torch`, whose weights are the same.
        kind : str
            What is trained: ``"ntk"``, v and A; ``"ntk-full"``, B as well; ``"ck"``, v alone.

        Returns
        -------
        rmtdeq.models.DEQRegression
            Maps (n, p) to outputs (n,), whose tangent kernel tends to this kind of kernel as the width grows.

        Raises
        ------
        MissingDependencyError, IllPosedError, MemoryLimitError
            As for `to_torch`.
        """
        phi = self._stable(tau0_squared)
        require("torch")
        from rmtdeq.models import DEQRegression

        return DEQRegression(
            in_features,
            width,
            phi,
            self.sigma_a2,
            self.sigma_b2,
            seed,
            kind=kind,
            solver=solver,
            torch_activation=torch_activation,
        )

    def _stable(self, tau0_squared: float) -> Activation:
        """The pinned activation, where random networks of finite width come to rest."""
        require_varying(self)
        tau = preactivation_scale(self, tau0_squared).value
        slope = self.sigma_a2 * moments(self.activation, tau).first_square if self.sigma_a2 else 0.0
        if slope >= 1:
            raise IllPosedError(
                f"Random networks of {self} have no stable equilibrium at tau0_squared = {tau0_squared:g}: sigma_a2 "
                f"E[activation'^2] is {slope:.4g}, and at 1 or more the iteration is no contraction; lower sigma_a2."
            )
        return self.pinned(tau0_squared).activation


def named(deq: DEQ) -> str:
    """Return what messages call a model that may be pinned: neither the shift nor `centered` are what its user gave."""
    phi = deq.activation
    return f"DEQ({phi.minus(-phi.shift)!r}, sigma_a2={deq.sigma_a2:g}, sigma_b2={deq.sigma_b2:g})"


def require_deq(deq: object) -> None:
    """Raise unless `deq` is a DEQ."""
    if not isinstance(deq, DEQ):
        raise InvalidInputError(
            f"deq must be a DEQ, as in DEQ('tanh', sigma_a2=0.2, sigma_b2=0.8), not {deq!r} (an ExplicitNetwork has a "
            "kernel method of its own)."
        )


def require_varying(deq: DEQ) -> None:
    """Raise if the activation of a DEQ is a constant, of which there is nothing to predict or to design."""
    if np.ptp(np.asarray(deq.activation(PROBES), dtype=float)) == 0:
        raise InvalidInputError(
            f"The activation of {deq} is a constant: all samples have the same features. Take one that varies."
        )


def preactivation_scale(deq: DEQ, tau0_squared: float) -> Solution[float]:
    """Solve ``τ² = σ_a² γ²(τ) + σ_b² τ0²`` for τ, γ² the variance (centred) or the second moment of φ(τξ).

    Source: arXiv 2402.02697, equation for τ*.

    Raises
    ------
    InvalidInputError
        τ0² is not positive and finite.
    IllPosedError
        There is no equilibrium.
    """
    require_deq(deq)
    tau0_squared = squared_norm(tau0_squared, "tau0_squared")
    base = deq.sigma_b2 * tau0_squared

    def image(s: float) -> float:
        mean, variance = mean_and_variance(deq.activation, math.sqrt(s))
        return deq.sigma_a2 * (variance if deq.centered else variance + mean * mean) + base

    found = smallest_fixed_point(image, base)
    if not found.converged:
        raise IllPosedError(
            f"{deq} has no equilibrium at tau0_squared = {tau0_squared:g}: the squared pre-activation grows without "
            "bound; lower sigma_a2."
        )
    return replace(found, value=math.sqrt(found.value))
