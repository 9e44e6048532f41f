"""The deep equilibrium model z = φ(σ_a A z + σ_b B x) / √m at infinite width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rmtdeq._lib.optional import require
from rmtdeq._lib.types import Function, Seed
from rmtdeq.activations import Activation
from rmtdeq.network.layers import Layer
from rmtdeq.network.networks import Network
from rmtdeq.network.patience import patient_solver

if TYPE_CHECKING:
    from rmtdeq.models import DEQModule, DEQRegression, Solver


@dataclass(frozen=True, repr=False)
class DEQ(Network):
    """A deep equilibrium model with Gaussian weights: the network of one recurrent layer.

    Its equilibrium features are z = φ(σ_a A z + σ_b B x + σ_c c)/√m with A (m, m), B (m, p) and c (m,) of independent
    N(0, 1) entries, in the limit m → ∞ (arXiv 2402.02697, which has no bias).

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
    sigma_c2 : float
        Variance σ_c² ≥ 0 of the bias.

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

    layers: tuple[Layer, ...] = field(init=False, compare=False)
    activation: Activation
    sigma_a2: float
    sigma_b2: float
    centered: bool = True
    sigma_c2: float = 0.0

    def __init__(
        self,
        activation: str | Activation | Function,
        sigma_a2: float = 0.2,
        sigma_b2: float = 0.8,
        centered: bool = True,
        *,
        sigma_c2: float = 0.0,
    ) -> None:
        layer = Layer(activation, sigma_a2, sigma_b2, sigma_c2, centered)
        object.__setattr__(self, "layers", (layer,))
        for name, value in vars(layer).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        bias = f", sigma_c2={self.sigma_c2:g}" if self.sigma_c2 else ""
        return (
            f"DEQ({self.activation!r}, sigma_a2={self.sigma_a2:g}, sigma_b2={self.sigma_b2:g}, "
            f"centered={self.centered}{bias})"
        )

    @property
    def layer(self) -> Layer:
        """The one layer."""
        return self.layers[0]

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
        layer = self.layer.pinned(tau0_squared)
        return DEQ(layer.activation, layer.sigma_a2, layer.sigma_b2, centered=False, sigma_c2=layer.sigma_c2)

    def to_torch(  # type: ignore[override] # one layer has one width
        self,
        in_features: int,
        width: int,
        seed: Seed = 0,
        *,
        tau0_squared: float = 1.0,
        solver: Solver | None = None,
        torch_activation: Callable[[Any], Any] | None = None,
        recurrent: str = "gaussian",
    ) -> DEQModule:
        """Return a network of finite width as a torch module.

        Parameters
        ----------
        in_features, width : int
            p and m.
        seed, tau0_squared, solver, torch_activation, recurrent
            As for `Network.to_torch`.

        Returns
        -------
        rmtdeq.models.DEQModule
            Maps (…, p) to equilibria (…, m), whose inner products tend to the conjugate kernel as m grows.

        Raises
        ------
        MissingDependencyError, IllPosedError, MemoryLimitError
            As for `Network.to_torch`.
        """
        (layer,) = self.resting(tau0_squared)
        require("torch")
        from rmtdeq.models import DEQModule

        return DEQModule(
            in_features,
            width,
            layer.activation,
            layer.sigma_a2,
            layer.sigma_b2,
            seed,
            sigma_c2=layer.sigma_c2,
            solver=solver or patient_solver(self.slowest_rate(tau0_squared), width),
            torch_activation=torch_activation,
            recurrent=recurrent,
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
        recurrent: str = "gaussian",
    ) -> DEQRegression:
        """Return a network of finite width with a Gaussian read-out, vᵀz, as a torch module.

        Parameters
        ----------
        in_features, width, seed, tau0_squared, solver, torch_activation, recurrent
            As for `to_torch`, whose weights are the same.
        kind : str
            What is trained: ``"ntk"``, v and A; ``"ntk-full"``, B and a bias as well; ``"ck"``, v alone.

        Returns
        -------
        rmtdeq.models.DEQRegression
            Maps (n, p) to outputs (n,), whose tangent kernel tends to this kind of kernel as the width grows.

        Raises
        ------
        MissingDependencyError, IllPosedError, MemoryLimitError
            As for `to_torch`.
        """
        (layer,) = self.resting(tau0_squared)
        require("torch")
        from rmtdeq.models import DEQRegression

        return DEQRegression(
            in_features,
            width,
            layer.activation,
            layer.sigma_a2,
            layer.sigma_b2,
            seed,
            kind=kind,
            sigma_c2=layer.sigma_c2,
            solver=solver or patient_solver(self.slowest_rate(tau0_squared), width),
            torch_activation=torch_activation,
            recurrent=recurrent,
        )
