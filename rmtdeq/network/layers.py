"""What every network is made of: layers, each with an activation and the variances of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import flag, number, squared_norm
from rmtdeq._lib.errors import IllPosedError
from rmtdeq._lib.jets import variable
from rmtdeq._lib.solvers import Solution, smallest_fixed_point
from rmtdeq._lib.types import Function
from rmtdeq.activations import Activation, mean_and_variance, moments
from rmtdeq.activations import activation as as_activation
from rmtdeq.network.steps import Dropout, LayerNorm, Step, in_place, through

PROBES = np.linspace(-8.0, 8.0, 257)
"""Points that tell activations apart: where a Gaussian of variance one has all its mass."""

_LARGEST = 1e16
_NOTHING = 1e-60


@dataclass(frozen=True)
class Response:
    """What a layer makes of pre-activations u of some standard deviation τ, steps included.

    Attributes
    ----------
    argument : float
        Standard deviation of what φ is given.
    gain : float
        Factor of what φ makes of it.
    mean, square : float
        Of the features, E z and E z².
    square_slope : float
        Derivative of E z² in τ².
    slope_square : float
        E (∂z/∂u)².
    """

    argument: float
    gain: float
    mean: float
    square: float
    square_slope: float
    slope_square: float


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
    before, after : Step or sequence of Step
        What is done to pre-activations and to features besides, in this order; see `Step` for what there is.
    normalized : bool
        Layer normalisation of the pre-activations: stands for a `LayerNorm` before φ.
    dropout : float
        Probability that a feature is dropped in training: stands for a `Dropout` after φ.

    Raises
    ------
    InvalidInputError
        Unknown activation, a variance that is negative, zero (σ_b²) or not finite, a probability that is none, a step
        where it does not go.

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
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    def __init__(
        self,
        activation: str | Activation | Function,
        sigma_a2: float = 0.0,
        sigma_b2: float = 1.0,
        sigma_c2: float = 0.0,
        centered: bool = False,
        *,
        before: Step | Iterable[Step] = (),
        after: Step | Iterable[Step] = (),
        normalized: bool = False,
        dropout: float = 0.0,
    ) -> None:
        object.__setattr__(self, "activation", as_activation(activation))
        object.__setattr__(self, "sigma_a2", number(sigma_a2, "sigma_a2", low=0, high=_LARGEST))
        object.__setattr__(self, "sigma_b2", number(sigma_b2, "sigma_b2", low=0, high=_LARGEST, open_low=True))
        object.__setattr__(self, "sigma_c2", number(sigma_c2, "sigma_c2", low=0, high=_LARGEST))
        object.__setattr__(self, "centered", flag(centered, "centered"))
        norm = (LayerNorm(),) if flag(normalized, "normalized") else ()
        noise = tuple(each for each in (Dropout(dropout),) if each.kept < 1)
        object.__setattr__(self, "before", (*in_place(before, "before"), *norm))
        object.__setattr__(self, "after", in_place((*in_place(after, "after"), *noise), "after"))

    def __call__(self, x: ArrayLike) -> Any:
        """Return φ at x."""
        return self.activation(np.asarray(x, dtype=float))

    def __repr__(self) -> str:
        given = {"sigma_a2": self.sigma_a2, "sigma_b2": self.sigma_b2, "sigma_c2": self.sigma_c2}
        shown = [f"{name}={value:g}" for name, value in given.items() if value or name == "sigma_b2"]
        shown += ["centered=True"] if self.centered else []
        steps = {name: getattr(self, name) for name in ("before", "after")}
        shown += [f"{name}={list(each)!r}" for name, each in steps.items() if each]
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
        """Whether it is without steps besides φ."""
        return not (self.before or self.after)

    @property
    def kept(self) -> float:
        """Share of the features that are kept where some are dropped."""
        return math.prod(each.kept for each in self.after)

    def given(self, s: Any) -> Any:
        """Return the variance of what φ is given, that of the pre-activation being s: numbers, arrays or jets."""
        return through(self.before, s)

    def argument(self, tau: float) -> float:
        """Return the standard deviation of what φ is given, that of the pre-activation being τ."""
        return math.sqrt(self.given(tau**2)) if self.before else tau

    def passed(self, q: Any) -> Any:
        """Return the squared norm of the features, that of what φ makes being q: numbers, arrays or jets."""
        return through(self.after, q)

    def response(self, tau: float) -> Response:
        """Return what an uncentred layer makes of pre-activations of standard deviation τ."""
        if self.plain:
            at = moments(self.activation, tau)
            return Response(tau, 1.0, at.mean, at.square, 0.5 * at.square_second, at.first_square)
        s = variable(tau**2)
        given = self.given(s)
        argument = math.sqrt(given.value)
        at = moments(self.activation, argument)
        made = given.of((at.square, 0.5 * at.square_second, 0.0))
        square = self.passed(made) if at.square > 0 else made
        gain = math.sqrt(square.value / at.square) if at.square > 0 else 1.0
        slope = gain * argument / tau
        return Response(
            argument,
            gain,
            gain * at.mean,
            float(square.value),
            float(square.gradient[0]),
            at.first_square * slope**2,
        )

    def steepness(self, tau: float) -> float:
        """Return σ_a² E (∂z/∂u)², u of standard deviation τ: below one where random networks come to rest."""
        return self.sigma_a2 * self.response(tau).slope_square

    def variance(self, s: float, base: float) -> float:
        """Return what s, the variance of the pre-activation, comes to in a step: σ_a² E z² and what the input gives."""
        mean, variance = mean_and_variance(self.activation, self.argument(math.sqrt(s)))
        square = variance if self.centered else variance + mean * mean
        return self.sigma_a2 * (self.passed(square) if square else square) + base

    @property
    def square_at_zero(self) -> float:
        """E z² in the limit of no pre-activation."""
        if self.plain:
            return float(np.asarray(self.activation(np.zeros(1)))[0]) ** 2
        square = self.response(_NOTHING).square
        return square if square > _NOTHING else 0.0

    @property
    def title(self) -> str:
        """What messages call a layer that may be pinned: neither the shift nor `centered` are what its user gave."""
        phi = self.activation
        given = replace(self, activation=phi.minus(-phi.shift), centered=False)
        return f"DEQ({repr(given).removeprefix('Layer(')}" if self.recurrent else repr(given)

    def record(self) -> dict[str, Any]:
        """Return all but the activation as numbers and texts, of which `recorded` makes it again."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "activation"}
        return given | {place: [step.record() for step in given[place]] for place in ("before", "after")}

    @staticmethod
    def recorded(activation: Activation, record: dict[str, Any]) -> Layer:
        """Return the layer with this activation that `record` tells of."""
        steps = {place: [Step.recorded(each) for each in record[place]] for place in ("before", "after")}
        return Layer(activation, **(record | steps))

    def pinned(self, squared_norm: float) -> Layer:
        """Return the same layer uncentred, its activation shifted by E φ(τξ) once and for all.

        Raises
        ------
        IllPosedError
            No equilibrium.
        """
        if not self.centered:
            return self
        mean = moments(self.activation, self.argument(preactivation_scale(self, squared_norm).value)).mean
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

    found = smallest_fixed_point(lambda s: layer.variance(s, base), base)
    if not found.converged:
        raise IllPosedError(
            f"{layer.title} has no equilibrium at tau0_squared = {tau0_squared:g}: the squared pre-activation grows "
            "without bound; lower sigma_a2."
        )
    return replace(found, value=math.sqrt(found.value))
