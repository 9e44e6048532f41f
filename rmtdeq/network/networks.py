"""Networks of layers: one on another, or with branches whose features go on side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import number, real_array
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq._lib.types import Function, Seed
from rmtdeq.activations import Activation
from rmtdeq.network.layers import PROBES, Layer, preactivation_scale
from rmtdeq.network.patience import patient_solver
from rmtdeq.network.wellposed import require_stable

if TYPE_CHECKING:
    from torch import nn

    from rmtdeq.models import Solver

_NORMS = (1.0, 0.25, 4.0)
"""Squared norms of inputs, of that at which a network is centred, whose iterations are to end."""

INPUT = -1
"""Number of the samples among the sources of a layer."""

Sources = tuple[tuple[int, float], ...]
"""Layers by number, from 0, whose features a layer is given side by side, each with a weight of its inner products."""


@dataclass(frozen=True)
class Concatenation:
    """Branches that are given the same features, and whose own features go on side by side.

    Their kernels are added, each with a weight.  So are those of sums W_1 z_1 + W_2 z_2 with independent weights, whose
    variances are then the weights here.

    Parameters
    ----------
    branches : sequence
        Each a `Layer`, a `Network`, a sequence of layers, of which an empty one hands on what it is given, or what
        stands for a layer.
    weights : array_like, optional
        Positive, one for each branch; one by default.  With shares of the width, m_k/m, the kernel is that of features
        that have been put side by side without more.

    Raises
    ------
    InvalidInputError
        No branch, or weights that are not positive, one for each.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Network([rd.Concatenation([rd.Layer("relu"), rd.Layer("erf")], weights=(0.5, 0.5))])
    Network(0: Layer(relu, sigma_b2=1) of input; 1: Layer(erf, sigma_b2=1) of input; 0.5*0 + 0.5*1)
    """

    branches: tuple[Network | None, ...]
    weights: tuple[float, ...]

    def __init__(self, branches: Iterable[Any], weights: ArrayLike | None = None) -> None:
        if isinstance(branches, str) or not isinstance(branches, Iterable):
            raise InvalidInputError(
                f"A concatenation is made of branches, as in Concatenation([(), Layer('relu')]), not of {branches!r}."
            )
        made = tuple(_branch(each) for each in branches)
        if not made:
            raise InvalidInputError("A concatenation needs at least one branch.")
        shares = np.ones(len(made)) if weights is None else real_array(weights, "weights")
        if shares.shape != (len(made),) or not (shares > 0).all():
            raise InvalidInputError(f"weights must be {len(made)} positive numbers, one for each branch.")
        object.__setattr__(self, "branches", made)
        object.__setattr__(self, "weights", tuple(float(each) for each in shares))


@dataclass(frozen=True)
class Residual(Concatenation):
    """A branch of layers and what it is given, side by side: a residual block.

    Its kernel is K + weight·f(K), f that of the branch: of the features x and √weight f(x) next to each other, and of
    W_1 x + √weight W_2 f(x) with independent weights.

    Parameters
    ----------
    layers : Layer, Network, or sequence of layers
    weight : float
        Of the branch's kernel, positive.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Network([rd.Layer("relu"), rd.Residual([rd.Layer("relu", sigma_b2=2.0)])])
    Network(0: Layer(relu, sigma_b2=1) of input; 1: Layer(relu, sigma_b2=2) of 0; 0 + 1)
    """

    def __init__(self, layers: Any, weight: float = 1.0) -> None:
        super().__init__([(), layers], (1.0, number(weight, "weight", low=0, open_low=True)))


@dataclass(frozen=True)
class Network:
    """Layers one on another, the input of each being the features of the one below.

    Parameters
    ----------
    layers : sequence of Layer
        From the input on; networks, `Concatenation` and `Residual` among them.  An `Activation`, a name or a callable
        stands for an ordinary layer with σ_b² = 1.

    Attributes
    ----------
    layers : tuple of Layer
        All of them, each after those that it is given.
    wiring : tuple of tuple
        Of every layer and, last, of the network, the numbers of the layers whose features go there side by side, -1 for
        the samples, each with a weight; nothing at all where layers are one on another.

    Raises
    ------
    InvalidInputError
        No layer.

    Notes
    -----
    The conjugate kernel of a layer with input kernel K_in is G = E φ(u)φ(v), the covariance of (u, v) the fixed point
    K = σ_a² G + σ_b² K_in + σ_c²; its tangent kernel Θ = (G + Ė (σ_b² Θ_in + σ_c²))/(1 - σ_a² Ė), Ė = E φ'(u)φ'(v).
    At the input K_in = X Xᵀ, and Θ_in = X Xᵀ for "ntk-full"; for "ntk", whose first input weights and bias, those of
    layers that are given the samples alone, stay as they are, neither it nor σ_c² is there.  Branches side by side have
    the weighted sums of their kernels, with X Xᵀ of either kind where the samples are among them.  Normalised layers
    have φ(u/√K(u, u)) for φ(u), and dropout divides what samples have with themselves by the share that it keeps; so do
    other steps (`Step`) multiply what φ is given, or makes, by a number for each sample.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Network([rd.Layer("relu", sigma_b2=2.0), rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)])
    Network(Layer(relu, sigma_b2=2), Layer(tanh, sigma_a2=0.2, sigma_b2=0.8, centered=True))
    """

    layers: tuple[Layer, ...]
    wiring: tuple[Sources, ...] = field(default=(), init=False)

    def __init__(self, layers: Iterable[Layer | Network | Concatenation | Activation | str | Function]) -> None:
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise InvalidInputError(f"A network is made of layers, as in Network([Layer('relu')]), not of {layers!r}.")
        plan = _Wiring()
        result = plan.chain(layers, ((INPUT, 1.0),))
        if not plan.layers:
            raise InvalidInputError("A network needs at least one layer.")
        self._wire(plan.layers, (*plan.sources, result))

    def _wire(self, layers: Iterable[Layer], wiring: tuple[Sources, ...]) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        sequential = wiring == _one_on_another(len(self.layers))
        object.__setattr__(self, "wiring", () if sequential else wiring)

    def __repr__(self) -> str:
        if self.sequential:
            return f"Network({', '.join(map(repr, self.layers))})"
        layers = (f"{i}: {layer!r} of {_listed(self.sources[i])}; " for i, layer in enumerate(self.layers))
        return f"Network({''.join(layers)}{_listed(self.sources[-1])})"

    @property
    def sequential(self) -> bool:
        """Whether its layers are one on another."""
        return not self.wiring

    @property
    def sources(self) -> tuple[Sources, ...]:
        """The wiring, of layers that are one on another, too."""
        return self.wiring or _one_on_another(self.depth)

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
        return self.with_layers(layer for layer, _ in _along(self, tau0_squared))

    def with_layers(self, layers: Iterable[Layer]) -> Network:
        """Return a network of other layers, wired as these."""
        return Network.wired(layers, self.sources)

    @staticmethod
    def wired(layers: Iterable[Layer], sources: tuple[Sources, ...]) -> Network:
        """Return a network of layers that are given what `Network.sources` says of it."""
        found = object.__new__(Network)
        found._wire(layers, sources)
        return found

    def resting(self, tau0_squared: float) -> tuple[Layer, ...]:
        """Return the layers pinned, where random networks of finite width come to rest.

        Raises
        ------
        IllPosedError
            There is no equilibrium, or the iteration is no contraction: σ_a² E φ'(τ*ξ)² ≥ 1.
        """
        require_varying(self)
        found = []
        for layer, tau in _along(self, tau0_squared):
            if layer.recurrent:
                require_stable(layer.title, layer.steepness(tau), f" at tau0_squared = {tau0_squared:g}")
            found.append(layer)
        return tuple(found)

    def slowest_rate(self, tau0_squared: float) -> float:
        """Return the largest σ_a √E φ'² of recurrent layers, by which changes of their iterations shrink in a step.

        Of inputs whose squared norms are a quarter, or four times, of the one at which the network is centred, as well.
        """
        pinned, found = self.pinned(tau0_squared), 0.0
        for share in _NORMS:
            try:
                for layer, tau in _along(pinned, share * tau0_squared):
                    if layer.recurrent:
                        found = max(found, math.sqrt(layer.steepness(tau)))
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
            wiring=self.wiring,
            solver=solver or patient_solver(self.slowest_rate(tau0_squared), width),
            torch_activation=torch_activation,
            recurrent=recurrent,
        )


class _Wiring:
    """Layers in the order in which they are reached, and what each is given."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.sources: list[Sources] = []

    def chain(self, parts: Iterable[Any], given: Sources) -> Sources:
        """Add parts one on another, the first on what is given; return what the last leaves."""
        for part in parts:
            given = self._add(part, given)
        return given

    def _add(self, part: Any, given: Sources) -> Sources:
        if isinstance(part, Concatenation):
            return _merged(
                (number, weight * share)
                for branch, weight in zip(part.branches, part.weights, strict=True)
                for number, share in (self._add(branch, given) if branch else given)
            )
        if isinstance(part, Network):
            first = len(self.layers)

            def moved(sources: Sources) -> Sources:
                return _merged(
                    (number, weight * share)
                    for source, weight in sources
                    for number, share in (given if source == INPUT else ((first + source, 1.0),))
                )

            for layer, sources in zip(part.layers, part.sources, strict=False):
                self._append(layer, moved(sources))
            return moved(part.sources[-1])
        return self._append(part if isinstance(part, Layer) else Layer(part), given)

    def _append(self, layer: Layer, given: Sources) -> Sources:
        self.layers.append(layer)
        self.sources.append(given)
        return ((len(self.layers) - 1, 1.0),)


def _branch(given: Any) -> Network | None:
    """Return a branch as a network, None where it hands on what it is given."""
    if isinstance(given, Network):
        return given
    if isinstance(given, Iterable) and not isinstance(given, str):
        parts = list(given)
        return Network(parts) if parts else None
    return Network([given])


def _merged(sources: Iterable[tuple[int, float]]) -> Sources:
    """Add the weights of a layer that comes several times; features may be put side by side in any order."""
    weights: dict[int, float] = {}
    for source, weight in sources:
        weights[source] = weights.get(source, 0.0) + weight
    return tuple(sorted(weights.items()))


def _one_on_another(depth: int) -> tuple[Sources, ...]:
    return tuple(((number, 1.0),) for number in range(INPUT, depth))


def _listed(sources: Sources) -> str:
    names = (("" if weight == 1 else f"{weight:g}*") + ("input" if i == INPUT else str(i)) for i, weight in sources)
    return " + ".join(names)


def _along(network: Network, squared_norm: float) -> Iterator[tuple[Layer, float]]:
    """Pin layer after layer at the squared norm of what it is given; yield each with its scale."""
    squares = {INPUT: squared_norm}
    for i, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=False)):
        given = weighted_sum(squares, sources)
        pinned = layer.pinned(given)
        tau = preactivation_scale(pinned, given).value
        yield pinned, tau
        squares[i] = pinned.response(tau).square / pinned.kept


def require_network(network: object) -> None:
    """Raise unless `network` is a network."""
    if not isinstance(network, Network):
        raise InvalidInputError(
            f"deq must be a DEQ or another network, as in DEQ('tanh', sigma_a2=0.2, sigma_b2=0.8) or Network(["
            f"Layer('relu')]), not {network!r}."
        )


def weighted_sum(known: Mapping[int, Any], sources: Sources) -> Any:
    """Return the sum of what is known of some layers, each with its weight: what side by side they have."""
    first, *others = (known[source] if weight == 1 else weight * known[source] for source, weight in sources)
    return sum(others, first)


def samples_alone(sources: Sources) -> bool:
    """Say whether a layer is given nothing but the samples, so that "ntk" has its input weights and bias fixed."""
    return all(source == INPUT for source, _ in sources)


def require_plain(network: Network, what: str) -> None:
    """Raise unless layers are one on another, without normalisation and dropout, for `what` knows of nothing else."""
    if not network.sequential or not all(layer.plain for layer in network.layers):
        raise InvalidInputError(
            f"{what} is there for layers one on another, without concatenations, normalisation and dropout, not for "
            f"{network!r}."
        )


def require_varying(network: Network) -> None:
    """Raise if some activation is a constant, of which there is nothing to predict or to design."""
    for layer in network.layers:
        if np.ptp(np.asarray(layer.activation(PROBES), dtype=float)) == 0:
            raise InvalidInputError(
                f"The activation of {layer.title} is a constant: all samples have the same features. Take one that "
                "varies."
            )
