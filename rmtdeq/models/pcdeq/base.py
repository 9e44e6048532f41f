"""What positive concave layers have in common: the solve, its certificate, the checks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError, IllPosedError, InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.models.differentials import not_transformed, transformed
from rmtdeq.models.fixed_point import Equilibrium, Solver, Step
from rmtdeq.models.implicit import ImplicitModule, Map, Product, check_start, full_precision, largest_modulus
from rmtdeq.models.pcdeq.activation import ConcaveActivation, concave_activation
from rmtdeq.models.pcdeq.certificate import Certificate
from rmtdeq.models.pcdeq.weights import check_state, factors, nonnegative, project, projected, with_nonnegative_weight
from rmtdeq.models.weights import torch_generator

SOLVER = Solver(tolerance=1e-4, max_iterations=2000, stop="batch")
"""Plain iteration to the paper's tolerance, for the gradient as well; usual layers need ten steps."""

_SOFTPLUS = 5.0


@dataclass(frozen=True, eq=False, repr=False)
class PcEquilibrium(Equilibrium):
    """The fixed point of every row, with the certificate of its iteration.

    Attributes
    ----------
    value : Tensor (N, …)
    iterations : Tensor (N,)
    residual : Tensor (N,)
    certificate : Certificate
    """

    certificate: Certificate


class PcDEQ(ImplicitModule):
    """A positive concave equilibrium layer; see `PcDEQLinear` and `PcDEQConv2d`.

    Attributes
    ----------
    recurrent : torch.nn.Linear or Conv2d
        Its ``weight`` is W, computed from the trained factors and never negative.
    activation : ConcaveActivation
    """

    def __init__(
        self,
        recurrent: nn.Linear | nn.Conv2d,
        activation: str | Callable[[Tensor], Tensor] | ConcaveActivation,
        supremum: float | None,
        positivity: str,
        map_input: bool,
        seed: Seed,
        solver: Solver | None,
    ) -> None:
        super().__init__(SOLVER if solver is None else solver)
        self.activation = concave_activation(activation, supremum)
        self.map_input = bool(map_input)
        self.recurrent = with_nonnegative_weight(recurrent, positivity, torch_generator(seed))
        self.positivity = positivity
        self.register_state_dict_pre_hook(_project_before_saving)
        self.register_load_state_dict_pre_hook(_check_before_loading)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to hide the method `weight`."""
        if name == "weight":
            raise InvalidInputError("The weight of a positive concave layer is set by set_weight(W), which checks it.")
        super().__setattr__(name, value)

    @abstractmethod
    def affine(self, weight: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Return W z + x."""

    @abstractmethod
    def transposed(self, weight: Tensor, g: Tensor) -> Tensor:
        """Return Wᵀ g."""

    @abstractmethod
    def _sizes(self) -> str:
        """Return the sizes, as shown."""

    @abstractmethod
    def check_shape(self, x: Tensor) -> None:
        """Raise unless the layer takes inputs of this shape."""

    def weight(self) -> Tensor:
        """Return W, nonnegative, on the tape."""
        if self.positivity == "clamp":
            if torch.compiler.is_exporting() or transformed(*factors(self.recurrent)):
                return projected(self.recurrent)
            project(self.recurrent)
        return self.recurrent.weight

    def map(self) -> Map:
        """Return the layer, its weight computed once."""
        return self._with(self.weight())

    def set_weight(self, weight: Tensor) -> None:
        """Set W, in the layer's precision and on its device.

        Parameters
        ----------
        weight : Tensor
            Of the shape of ``recurrent.weight``.

        Raises
        ------
        InvalidInputError
            Another shape; negative, NaN or infinite entries.
        """
        like = factors(self.recurrent)[0]
        cast(Any, self.recurrent).weight = weight.to(like) if isinstance(weight, Tensor) else weight

    def _with(self, weight: Tensor) -> Map:
        activation = self.activation
        # Accelerated iterations leave the orthant, beyond which there are other fixed points.
        plain = self.solver.method == "iteration"

        def step(z: Tensor, *injected: Tensor) -> Tensor:
            return activation(self.affine(weight, z if plain else z.clamp(min=0), injected[0]))

        def pullback(z: Tensor, *injected: Tensor) -> Product:
            u = self.affine(weight, z, injected[0])
            slope = activation.slope(u, activation(u))
            return lambda g: self.transposed(weight, slope * g)

        # From above the iterates fall to the equilibrium, and every step is a contraction; from below they may grow
        # from next to nothing, which takes the longer the smaller it is, and looks like rest beside larger entries.
        def initial(*injected: Tensor) -> Tensor:
            return self._above(weight, injected[0]) if activation.saturates else activation(injected[0])

        return Map(step, pullback, initial)

    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once."""
        return self.map().step(z, *injected)

    def initial(self, *injected: Tensor) -> Tensor:
        """Return where a solve begins: above the equilibrium, or at f(0) if σ is not bounded."""
        return self._first(self.map(), injected)

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return the inputs made positive: softplus(5 x)/5, or ReLU(x) where σ(0) > 0; or as they are, checked."""
        self.check_shape(x)
        x = x.to(factors(self.recurrent)[0].dtype)
        if self.map_input:
            return (self._positive(x),)
        if not transformed(x):  # else values are looked at within the solve
            self._check_sign(x)
        return (x,)

    def _positive(self, x: Tensor) -> Tensor:
        if self.activation.kind == 2:
            return torch.relu(x)
        # Far below zero softplus underflows, and a positive input would be zero.
        return F.softplus(x, beta=_SOFTPLUS) + torch.finfo(x.dtype).tiny

    def _check_sign(self, x: Tensor) -> None:
        strictly = self.activation.kind == 1
        least = x.detach().amin() if x.numel() else torch.ones(())
        if bool(least > 0) or (bool(least == 0) and not strictly):
            return
        bad = ~(x > 0) if strictly else ~(x >= 0)
        place = tuple(bad.nonzero()[0].tolist())
        raise InvalidInputError(
            f"x holds {int(bad.sum())} value(s) that are not {'positive' if strictly else 'nonnegative'}, the first "
            f"{float(x[place]):.4g} at {place}; {self.activation.name} needs such inputs. Leave map_input=True to have "
            "them mapped."
        )

    def _above(self, weight: Tensor, x: Tensor) -> Tensor:
        """Return f(sup σ), or for a convolution what that is inside the image, which is more than at its border."""
        rows = weight.sum(dim=tuple(range(1, weight.dim()))).reshape(-1, *[1] * (x.dim() - 2))
        return self.activation(torch.add(x, rows, alpha=self.activation.supremum))

    def solve(self, x: Tensor, start: Equilibrium | None = None) -> PcEquilibrium:
        """Return the equilibria, iterations, residuals and the certificate of the iteration, without gradients.

        Parameters
        ----------
        x : Tensor (N, …)
        start : Equilibrium, optional
            Of similar inputs, to begin with.

        Raises
        ------
        InvalidInputError
            Inputs of another shape or the wrong sign; NaN in inputs or weights.
        IllPosedError
            The activation does not saturate, and the weights are too large for an equilibrium.
        ConvergenceError
            The solver's `max_iterations` are too few.
        """
        x = self.own(x)
        with torch.no_grad(), full_precision(x):
            weight, injected = self.weight(), self.injected(x)
            found = self._solve(self._with(weight), injected, check_start(start))
            certified = self._certificate(weight, injected[0], 1, None if self.activation.saturates else found.value)
            return PcEquilibrium(found.value, found.iterations, found.residual, certified)

    def certificate(self, x: Tensor, steps: int = 1) -> Certificate:
        """Return how fast the iteration contracts, row by row.

        Parameters
        ----------
        x : Tensor (N, …)
        steps : int
            Of the map that is certified: more of them cost as many products, and say more where f(0) has an entry near
            zero.

        Returns
        -------
        Certificate
            Where the activation saturates it needs no solve, u = f(sup σ), and the bound holds from anywhere; where it
            does not, u is the equilibrium, and it holds below that, as on the way from zero.
        """
        steps = check.integer(steps, "steps")
        x = self.own(x)
        with torch.no_grad(), full_precision(x):
            weight, injected = self.weight(), self.injected(x)
            upper = None if self.activation.saturates else self._solve(self._with(weight), injected, None).value
            found = self._certificate(weight, injected[0], steps, upper)
            if bool(found.delta.isnan().any()):
                self._blame(injected[0])
            return found

    def _certificate(self, weight: Tensor, x: Tensor, steps: int, equilibrium: Tensor | None) -> Certificate:
        radius = self._asymptotic_radius(weight, x)
        if steps == 1 and equilibrium is None:
            return Certificate(self._least_ratio(weight, x.amin(dim=tuple(range(1, x.dim())))), 1, radius)
        low = self.activation(x)
        high = self._above(weight, x) if equilibrium is None else equilibrium
        for _ in range(steps - 1):
            low, high = (self.activation(self.affine(weight, z, x)) for z in (low, high))
        return Certificate((low / high).flatten(1).amin(dim=1).clamp(max=1.0), steps, radius)

    def _least_ratio(self, weight: Tensor, least: Tensor) -> Tensor:
        """Return a bound below σ(x_i)/σ(x_i + (W sup σ)_i) for all inputs that are at least `least`.

        σ(x)/σ(x + a) falls with a, and rises with x, since log σ is concave.
        """
        rows = weight.sum(dim=tuple(range(1, weight.dim())))
        return self.activation(least) / self.activation(torch.add(least, rows.amax(), alpha=self.activation.supremum))

    def _asymptotic_radius(self, weight: Tensor, x: Tensor) -> float:
        if self.activation.slope_at_infinity == 0 or not len(x):
            return 0.0
        radius = largest_modulus(lambda v: self.affine(weight, v, torch.zeros_like(v)), torch.ones_like(x[:1]))
        return self.activation.slope_at_infinity * float(radius[0])

    @torch.no_grad()
    def _solve(self, layer: Map, injected: tuple[Tensor, ...], start: Equilibrium | None) -> Equilibrium:
        if start is not None or not self.activation.saturates:
            return self._solve_by_entries(layer, injected, start)
        try:
            return super()._solve(layer, injected, None)
        except ConvergenceError as error:
            # Only now: looking at every entry in advance would cost as much as a step.
            self._blame(injected[0])
            if self.solver.method == "iteration":
                largest = float(injected[0].flatten(1).amax(dim=1).min())
                raise ConvergenceError(
                    f"{error} There is an equilibrium, and the iteration converges, but slowly where all inputs of a "
                    f"sample are next to zero (here none of one sample's is above {largest:.1e}) and the weights "
                    "neither small nor large: normalise the layer's inputs (BatchNorm1d or 2d), or lower the rate."
                ) from error
        return self._solve_by_entries(layer, injected, None)

    def _solve_by_entries(self, layer: Map, injected: tuple[Tensor, ...], start: Equilibrium | None) -> Equilibrium:
        """Iterate until every entry's relative change is small: an entry that still grows cannot hide beside others."""
        not_transformed("Looking at a solve")
        first = self._first(layer, injected)
        z = first if start is None or start.value.shape != first.shape else start.value.clamp(min=0)
        return self._rest_by_entries(lambda z: layer.step(z, *injected), z, lambda: self._blame(injected[0]))

    def _rest(self, step: Step, start: Tensor, injected: tuple[Tensor, ...]) -> Tensor:
        if not self.map_input:
            self._check_sign(injected[0])
        return (
            super()._rest(step, start, injected)
            if self.activation.saturates
            else self._rest_by_entries(step, start).value
        )

    def _rest_by_entries(self, step: Step, z: Tensor, blame: Callable[[], None] = lambda: None) -> Equilibrium:
        tolerance, most = self.solver.tolerance_for(z.dtype), self.solver.max_iterations
        change, count = z.new_zeros(len(z)), 0
        while len(z):
            count += 1
            image = step(z)
            change = ((image - z).abs() / image).flatten(1).amax(dim=1)
            largest = float(change.amax())
            z = image
            if largest <= tolerance:
                break
            if count == most or not math.isfinite(largest):
                blame()
                raise ConvergenceError(
                    f"The iteration has not come to rest after {count} steps: some entry still changes by "
                    f"{largest:.1e} of its size, more than {tolerance:.1e}. It will: allow more with max_iterations."
                )
        iterations = torch.full((len(z),), count, dtype=torch.int64, device=z.device)
        return Equilibrium(z, iterations, change)

    def _blame(self, x: Tensor) -> None:
        """Raise if weights or inputs hold NaN, or if there is no equilibrium."""
        nonnegative(self.weight(), f"The weight of {self.describe()}")
        if not bool(x.isfinite().all()):
            place = tuple((~x.isfinite()).nonzero()[0].tolist())
            raise InvalidInputError(f"x holds NaN or infinite values, the first at {place}.")
        radius = self._asymptotic_radius(self.weight(), x)
        if radius >= 1:
            raise IllPosedError(
                f"The layer has no equilibrium: its asymptotic map has the spectral radius {radius:.4g}, and only "
                "below 1 there is one. Scale the weight down, or take an activation that saturates."
            )

    def describe(self) -> str:
        """Return what the layer is, in a few words."""
        return f"{type(self).__name__}({self._sizes()}, {self.activation.name})"

    def extra_repr(self) -> str:
        """Show the sizes, the activation and the certificate."""
        activation = self.activation
        shown = f"{self._sizes()}, {activation.name}, pcDEQ-{activation.kind}, positivity={self.positivity!r}"
        with torch.no_grad():
            weight = self.weight()
            if not activation.saturates:
                rows = float(weight.flatten(1).sum(dim=1).max())
                return f"{shown}, asymptotic spectral radius <= {activation.slope_at_infinity * rows:.4g}"
            least, where = torch.zeros((), dtype=weight.dtype, device=weight.device), "for all inputs"
            if activation.kind == 1:
                least = self._positive(least) if self.map_input else least + 1
                where = "where x >= 0, nearer to 1 below" if self.map_input else "where x >= 1, nearer to 1 below"
            return f"{shown}, contraction <= {1 - float(self._least_ratio(weight, least)):.4g} {where}"


def _project_before_saving(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    if isinstance(module, PcDEQ) and module.positivity == "clamp":
        project(module.recurrent)


def _check_before_loading(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if isinstance(module, PcDEQ):
        check_state(state, f"{prefix}recurrent.parametrizations.weight.", module.positivity)
