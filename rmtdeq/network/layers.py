"""What every network is made of: layers, each with an activation and the variances of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import flag, number, squared_norm
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.solvers import Solution, smallest_fixed_point
from rmtdeq._lib.types import Function, Seed
from rmtdeq.activations import Activation, mean_and_variance, moments
from rmtdeq.activations import activation as as_activation
from rmtdeq.network.patience import patient_solver
from rmtdeq.network.wellposed import require_stable

if TYPE_CHECKING:
    from torch import nn

    from rmtdeq.models import Solver

_NORMS = (1.0, 0.25, 4.0)

PROBES = np.linspace(-8.0, 8.0, 257)
"""Points that tell activations apart: where a Gaussian of variance one has all its mass."""

_LARGEST = 1e16


@dataclass(frozen=True)
class Layer:
    """A layer z = φ(σ_a A z + σ_b B x + σ_c c)/√m of infinite width, at its equilibrium if it is recurrent.

    A (m, m), B (m, p) and c (m,) are of independent N(0, 1) entries, x is the input or the layer below.  Called with an
    array, a layer is its activation.

    Parameters
    ----------
    activation : str, Activation or callable
        A registered name (`rmtdeq.activation_names`), an `Activation`, or any smooth vectorised callable.
    sigma_a2 : float
        Variance σ_a² ≥ 0 of the recurrent weights; 0: an ordinary layer.
    sigma_b2 : float
        Variance σ_b² > 0 of the input weights.
    sigma_c2 : float
        Variance σ_c² ≥ 0 of the bias.
    centered : bool
        Take off φ its mean at the scale of the pre-activation, φ - E φ(τξ).

    Raises
    ------
    InvalidInputError
        Unknown activation, a variance that is negative, zero (σ_b²) or not finite.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1)
    Layer(relu, sigma_b2=2, sigma_c2=0.1)
    """

    activation: Activation
    sigma_a2: float = 0.0
    sigma_b2: float = 1.0
    sigma_c2: float = 0.0
    centered: bool = False

    def __init__(
        self,
        activation: str | Activation | Function,
        sigma_a2: float = 0.0,
        sigma_b2: float = 1.0,
        sigma_c2: float = 0.0,
        centered: bool = False,
    ) -> None:
        object.__setattr__(self, "activation", as_activation(activation))
        object.__setattr__(self, "sigma_a2", number(sigma_a2, "sigma_a2", low=0, high=_LARGEST))
        object.__setattr__(self, "sigma_b2", number(sigma_b2, "sigma_b2", low=0, high=_LARGEST, open_low=True))
        object.__setattr__(self, "sigma_c2", number(sigma_c2, "sigma_c2", low=0, high=_LARGEST))
        object.__setattr__(self, "centered", flag(centered, "centered"))

    def __call__(self, x: ArrayLike) -> Any:
        """Return φ at x."""
        return self.activation(np.asarray(x, dtype=float))

    def __repr__(self) -> str:
        given = {"sigma_a2": self.sigma_a2, "sigma_b2": self.sigma_b2, "sigma_c2": self.sigma_c2}
        shown = [f"{name}={value:g}" for name, value in given.items() if value or name == "sigma_b2"]
        shown += ["centered=True"] if self.centered else []
        return f"Layer({self.activation!r}, {', '.join(shown)})"

    @property
    def recurrent(self) -> bool:
        """Whether it has an equilibrium to come to."""
        return self.sigma_a2 > 0

    @property
    def name(self) -> str:
        """That of the activation."""
        return self.activation.name

    @property
    def parameters(self) -> tuple[float, ...]:
        """Those of the activation."""
        return self.activation.parameters

    @property
    def shift(self) -> float:
        """What is taken off the activation."""
        return self.activation.shift

    @property
    def bias(self) -> float:
        """Square of the constant feature that stands for the bias, σ_c²/σ_b²."""
        return self.sigma_c2 / self.sigma_b2

    @property
    def title(self) -> str:
        """What messages call a layer that may be pinned: neither the shift nor `centered` are what its user gave."""
        phi = self.activation
        given = replace(self, activation=phi.minus(-phi.shift), centered=False)
        return f"DEQ({repr(given).removeprefix('Layer(')}" if self.recurrent else repr(given)

    def pinned(self, squared_norm: float) -> Layer:
        """Return the same layer uncentred, its activation shifted by E φ(τξ) once and for all.

        Raises
        ------
        IllPosedError
            No equilibrium.
        """
        if not self.centered:
            return self
        mean = moments(self.activation, preactivation_scale(self, squared_norm).value).mean
        # The mean of an odd activation is zero up to rounding; leaving it alone keeps φ odd exactly.
        shift = mean if abs(mean) > 1e-15 else 0.0
        return replace(self, activation=self.activation.minus(shift), centered=False)


@dataclass(frozen=True)
class Network:
    """Layers one on another, the input of each being the features of the one below.

    Parameters
    ----------
    layers : sequence of Layer
        From the input on.  An `Activation`, a name or a callable stands for an ordinary layer with σ_b² = 1.

    Raises
    ------
    InvalidInputError
        No layer.

    Notes
    -----
    The conjugate kernel of a layer with input kernel K_in is G = E φ(u)φ(v), the covariance of (u, v) the fixed point
    K = σ_a² G + σ_b² K_in + σ_c²; its tangent kernel Θ = (G + Ė (σ_b² Θ_in + σ_c²))/(1 - σ_a² Ė), Ė = E φ'(u)φ'(v).
    At the input K_in = X Xᵀ, and Θ_in = X Xᵀ for "ntk-full"; for "ntk", whose first input weights and bias stay as they
    are, neither it nor σ_c² is there.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Network([rd.Layer("relu", sigma_b2=2.0), rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)])
    Network(Layer(relu, sigma_b2=2), Layer(tanh, sigma_a2=0.2, sigma_b2=0.8, centered=True))
    """

    layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Layer | Network | Activation | str | Function]) -> None:
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise InvalidInputError(f"A network is made of layers, as in Network([Layer('relu')]), not of {layers!r}.")
        object.__setattr__(self, "layers", tuple(layer for each in layers for layer in _layers_of(each)))
        if not self.layers:
            raise InvalidInputError("A network needs at least one layer.")

    def __repr__(self) -> str:
        return f"Network({', '.join(map(repr, self.layers))})"

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def centered(self) -> bool:
        """Whether some layer's activation is centred where the data are, and not yet."""
        return any(layer.centered for layer in self.layers)

    def pinned(self, tau0_squared: float) -> Self | Network:
        """Return the same network with uncentred layers, activations shifted by E φ(τξ) once and for all.

        Kernels of several blocks of data fit together when they are computed with one pinned network.  An uncentred
        network is returned as it is.

        Parameters
        ----------
        tau0_squared : float
            Mean squared norm of the inputs, which fixes the scales τ.

        Raises
        ------
        IllPosedError
            No equilibrium.
        """
        if not self.centered:
            return self
        return Network([layer for layer, _ in _along(self.layers, tau0_squared)])

    def resting(self, tau0_squared: float) -> tuple[Layer, ...]:
        """Return the layers pinned, where random networks of finite width come to rest.

        Raises
        ------
        IllPosedError
            There is no equilibrium, or the iteration is no contraction: σ_a² E φ'(τ*ξ)² ≥ 1.
        """
        require_varying(self)
        found = []
        for layer, tau in _along(self.layers, tau0_squared):
            if layer.recurrent:
                slope = layer.sigma_a2 * moments(layer.activation, tau).first_square
                require_stable(layer.title, slope, f" at tau0_squared = {tau0_squared:g}")
            found.append(layer)
        return tuple(found)

    def slowest_rate(self, tau0_squared: float) -> float:
        """Return the largest σ_a √E φ'² of recurrent layers, by which changes of their iterations shrink in a step.

        Of inputs whose squared norms are a quarter, or four times, of the one at which the network is centred, as well.
        """
        pinned, found = self.pinned(tau0_squared), 0.0
        for share in _NORMS:
            try:
                for layer, tau in _along(pinned.layers, share * tau0_squared):
                    if layer.recurrent:
                        slope = layer.sigma_a2 * moments(layer.activation, tau).first_square
                        found = max(found, math.sqrt(slope))
            except IllPosedError:  # such inputs have no equilibrium
                continue
        return found

    def to_torch(
        self,
        in_features: int,
        width: int | Sequence[int],
        seed: Seed = 0,
        *,
        tau0_squared: float = 1.0,
        solver: Solver | None = None,
        torch_activation: Callable[[Any], Any] | None = None,
        recurrent: str = "gaussian",
    ) -> nn.Module:
        """Return a network of finite width as a torch module.

        Parameters
        ----------
        in_features : int
            The dimension p of the inputs.
        width : int or sequence of int
            Of all layers, or of each.
        seed : int, Generator or None
            Of the weights, drawn in torch's default precision.
        tau0_squared : float
            Mean squared norm of the inputs, at which centred activations are centred.
        solver : rmtdeq.models.Solver, optional
            How equilibria and gradients are found: by default, by plain iteration to the tolerance of the precision, in
            500 steps at most, or as many more as the rate asks for.
        torch_activation : callable, optional
            The activation on tensors, of those that were made from a callable on arrays.
        recurrent : {"gaussian", "orthogonal"}
            The recurrent weights: independent N(0, 1) entries, or √m times an orthogonal matrix of Haar measure, which
            has the same equilibria and kernels in the limit and better conditioned gradients (see `diagnose`).

        Returns
        -------
        rmtdeq.models.NetworkModule
            Maps (…, p) to features (…, m), whose inner products tend to the conjugate kernel as the widths grow.

        Raises
        ------
        MissingDependencyError
            No torch.
        IllPosedError
            There is no equilibrium, or the iteration is no contraction: σ_a² E φ'(τ*ξ)² ≥ 1.
        MemoryLimitError
            The weights do not fit into memory.
        """
        layers = self.resting(tau0_squared)
        require("torch")
        from rmtdeq.models import NetworkModule

        return NetworkModule(
            in_features,
            width,
            layers,
            seed,
            solver=solver or patient_solver(self.slowest_rate(tau0_squared), width),
            torch_activation=torch_activation,
            recurrent=recurrent,
        )


def _layers_of(given: Layer | Network | Activation | str | Function) -> tuple[Layer, ...]:
    if isinstance(given, Network):
        return given.layers
    return (given if isinstance(given, Layer) else Layer(given),)


def _along(layers: Iterable[Layer], squared_norm: float) -> Iterator[tuple[Layer, float]]:
    """Pin layer after layer at the squared norm of what it is given; yield each with its scale."""
    for layer in layers:
        pinned = layer.pinned(squared_norm)
        tau = preactivation_scale(pinned, squared_norm).value
        yield pinned, tau
        squared_norm = moments(pinned.activation, tau).square


def ordinary(activations: Iterable[Activation]) -> tuple[Layer, ...]:
    """Return the layers of an explicit network with these activations."""
    return tuple(Layer(each) for each in activations)


def require_network(network: object) -> None:
    """Raise unless `network` is a network."""
    if not isinstance(network, Network):
        raise InvalidInputError(
            f"deq must be a DEQ or another network, as in DEQ('tanh', sigma_a2=0.2, sigma_b2=0.8) or Network(["
            f"Layer('relu')]), not {network!r}."
        )


def require_varying(network: Network) -> None:
    """Raise if some activation is a constant, of which there is nothing to predict or to design."""
    for layer in network.layers:
        if np.ptp(np.asarray(layer.activation(PROBES), dtype=float)) == 0:
            raise InvalidInputError(
                f"The activation of {layer.title} is a constant: all samples have the same features. Take one that "
                "varies."
            )


def preactivation_scale(layer: Layer, tau0_squared: float) -> Solution[float]:
    """Solve ``τ² = σ_a² γ²(τ) + σ_b² τ0² + σ_c²`` for τ, γ² the variance (centred) or the second moment of φ(τξ).

    Source: arXiv 2402.02697, equation for τ*.

    Raises
    ------
    InvalidInputError
        τ0² is not positive and finite.
    IllPosedError
        There is no equilibrium.
    """
    tau0_squared = squared_norm(tau0_squared, "tau0_squared")
    base = layer.sigma_b2 * tau0_squared + layer.sigma_c2

    def image(s: float) -> float:
        mean, variance = mean_and_variance(layer.activation, math.sqrt(s))
        return layer.sigma_a2 * (variance if layer.centered else variance + mean * mean) + base

    found = smallest_fixed_point(image, base)
    if not found.converged:
        raise IllPosedError(
            f"{layer.title} has no equilibrium at tau0_squared = {tau0_squared:g}: the squared pre-activation grows "
            "without bound; lower sigma_a2."
        )
    return replace(found, value=math.sqrt(found.value))
