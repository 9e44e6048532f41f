"""What every network is made of: layers, each with an activation and the variances of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import flag, number, squared_norm
from rmtdeq._lib.errors import IllPosedError
from rmtdeq._lib.solvers import Solution, smallest_fixed_point
from rmtdeq._lib.types import Function
from rmtdeq.activations import Activation, mean_and_variance, moments
from rmtdeq.activations import activation as as_activation

PROBES = np.linspace(-8.0, 8.0, 257)
"""Points that tell activations apart: where a Gaussian of variance one has all its mass."""

_LARGEST = 1e16
_MOST_DROPOUT = 0.999


@dataclass(frozen=True)
class Layer:
    """A layer z = φ(σ_a A z + σ_b B x + σ_c c)/√m of infinite width, at its equilibrium if it is recurrent.

    A (m, m), B (m, p) and c (m,) are of independent N(0, 1) entries, x is the input or the features below.  Called with
    an array, a layer is its activation.

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
    normalized : bool
        Layer normalisation: φ is given the pre-activation less its mean over the units and divided by its standard
        deviation over them, which at infinite width is that of the Gaussian that it is.
    dropout : float
        Probability, below one, that a feature is dropped in training, the others being divided by one less it.

    Raises
    ------
    InvalidInputError
        Unknown activation, a variance that is negative, zero (σ_b²) or not finite, a probability that is none.

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
    normalized: bool = False
    dropout: float = 0.0

    def __init__(
        self,
        activation: str | Activation | Function,
        sigma_a2: float = 0.0,
        sigma_b2: float = 1.0,
        sigma_c2: float = 0.0,
        centered: bool = False,
        *,
        normalized: bool = False,
        dropout: float = 0.0,
    ) -> None:
        object.__setattr__(self, "activation", as_activation(activation))
        object.__setattr__(self, "sigma_a2", number(sigma_a2, "sigma_a2", low=0, high=_LARGEST))
        object.__setattr__(self, "sigma_b2", number(sigma_b2, "sigma_b2", low=0, high=_LARGEST, open_low=True))
        object.__setattr__(self, "sigma_c2", number(sigma_c2, "sigma_c2", low=0, high=_LARGEST))
        object.__setattr__(self, "centered", flag(centered, "centered"))
        object.__setattr__(self, "normalized", flag(normalized, "normalized"))
        object.__setattr__(self, "dropout", number(dropout, "dropout", low=0, high=_MOST_DROPOUT))

    def __call__(self, x: ArrayLike) -> Any:
        """Return φ at x."""
        return self.activation(np.asarray(x, dtype=float))

    def __repr__(self) -> str:
        given = {"sigma_a2": self.sigma_a2, "sigma_b2": self.sigma_b2, "sigma_c2": self.sigma_c2}
        shown = [f"{name}={value:g}" for name, value in given.items() if value or name == "sigma_b2"]
        shown += [f"{name}=True" for name in ("centered", "normalized") if getattr(self, name)]
        shown += [f"dropout={self.dropout:g}"] if self.dropout else []
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
    def plain(self) -> bool:
        """Whether it is without normalisation and dropout."""
        return not (self.normalized or self.dropout)

    @property
    def kept(self) -> float:
        """Share of the features that dropout keeps."""
        return 1.0 - self.dropout

    def scale_at(self, tau: float) -> float:
        """Return the standard deviation of what φ is given, where that of the pre-activation is τ."""
        return 1.0 if self.normalized else tau

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
        mean = moments(self.activation, self.scale_at(preactivation_scale(self, squared_norm).value)).mean
        # The mean of an odd activation is zero up to rounding; leaving it alone keeps φ odd exactly.
        shift = mean if abs(mean) > 1e-15 else 0.0
        return replace(self, activation=self.activation.minus(shift), centered=False)


def ordinary(activations: Iterable[Activation]) -> tuple[Layer, ...]:
    """Return the layers of an explicit network with these activations."""
    return tuple(Layer(each) for each in activations)


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
        mean, variance = mean_and_variance(layer.activation, layer.scale_at(math.sqrt(s)))
        return layer.sigma_a2 * (variance if layer.centered else variance + mean * mean) + base

    found = smallest_fixed_point(image, base)
    if not found.converged:
        raise IllPosedError(
            f"{layer.title} has no equilibrium at tau0_squared = {tau0_squared:g}: the squared pre-activation grows "
            "without bound; lower sigma_a2."
        )
    return replace(found, value=math.sqrt(found.value))
