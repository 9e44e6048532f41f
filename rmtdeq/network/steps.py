"""What a layer does besides its weights and φ: steps on the units, before φ or after it.

At infinite width a sample has a squared norm, the mean square over the units, and that is all that a step sees of it.
So a step is a function of one number, from which scales, kernels, their expansions and their derivatives follow, and a
torch module for networks of finite width.  Steps before φ, and those after it, belong to the map whose fixed point a
recurrent layer has; those that are drawn anew for every sample come last, after the equilibrium.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from rmtdeq._lib.check import number
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require

if TYPE_CHECKING:
    from torch import nn

_MOST_DROPOUT = 0.999
_LEAST_EPSILON = 1e-12

_KINDS: dict[str, type[Step]] = {}
"""All classes of steps, by name."""


@dataclass(frozen=True)
class Step(ABC):
    """A map of the units of a layer: `LayerNorm`, `RMSNorm`, `Dropout`, or one's own.

    A new one is a frozen dataclass with `squared_norm` and `module`, and nothing else has to know of it.

    Attributes
    ----------
    places : tuple of str
        Where it may stand: "before" φ, "after" it, or both.
    """

    places: ClassVar[tuple[str, ...]] = ("before", "after")

    def squared_norm(self, q: Any) -> Any:
        """Return the mean square of what comes out, a sample's being a multiple of what goes in, of mean square q > 0.

        In arithmetic that numbers, arrays and `rmtdeq.theory.Jet` have.
        """
        return q

    @property
    def kept(self) -> float:
        """Share of the units that are kept, others of every sample: what it has with itself is divided by it."""
        return 1.0

    @abstractmethod
    def module(self, width: int) -> nn.Module:
        """Return the step at finite width, on tensors (…, width)."""

    def record(self) -> dict[str, Any]:
        """Return the step as a name and numbers, of which `recorded` makes it again."""
        return {"step": type(self).__name__, **asdict(self)}

    @staticmethod
    def recorded(record: dict[str, Any]) -> Step:
        """Return the step that `record` tells of."""
        return _KINDS[record["step"]](**{name: value for name, value in record.items() if name != "step"})

    def __init_subclass__(cls) -> None:
        """Make the class known by its name."""
        _KINDS[cls.__name__] = cls


@dataclass(frozen=True)
class Normalization(Step):
    """A division by √(mean square + ε), of ε ≥ 0; of nothing, which stays nothing, 1e-12 at finite width."""

    epsilon: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", number(self.epsilon, "epsilon", low=0))

    def squared_norm(self, q: Any) -> Any:
        """Return q/(q + ε)."""
        return q / (q + self.epsilon)

    def module(self, width: int) -> nn.Module:
        """Return it as a module of torch without weights."""
        kind = getattr(require("torch").nn, type(self).__name__)
        norm: nn.Module = kind(width, eps=max(self.epsilon, _LEAST_EPSILON), elementwise_affine=False)
        return norm


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Layer normalisation of pre-activations: their mean over the units taken off, and divided by √(variance + ε).

    At infinite width the variance is that of the Gaussian that they are.

    Parameters
    ----------
    epsilon : float
        ε ≥ 0; of nothing, which stays nothing, 1e-12 at finite width.

    Raises
    ------
    InvalidInputError
        ε is negative or not finite.
    """

    places: ClassVar[tuple[str, ...]] = ("before",)


@dataclass(frozen=True)
class RMSNorm(Normalization):
    """Pre-activations, or features, divided by √(mean square over the units + ε), their mean being left as it is.

    After φ features have norm one, at ε = 0, and a kernel is the cosine of their angle.

    Parameters
    ----------
    epsilon : float
        ε ≥ 0; of nothing, which stays nothing, 1e-12 at finite width.

    Raises
    ------
    InvalidInputError
        ε is negative or not finite.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.Layer("relu", after=rd.RMSNorm())
    Layer(relu, sigma_b2=1, after=[RMSNorm(epsilon=0.0)])
    """


@dataclass(frozen=True)
class Dropout(Step):
    """Features that are dropped in training, others of every sample, the rest being divided by the share that is kept.

    Parameters
    ----------
    probability : float
        Below one.

    Raises
    ------
    InvalidInputError
        It is no probability, or above 0.999.
    """

    places: ClassVar[tuple[str, ...]] = ("after",)

    probability: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "probability", number(self.probability, "dropout", low=0, high=_MOST_DROPOUT))

    @property
    def kept(self) -> float:
        """One less the probability."""
        return 1.0 - self.probability

    def module(self, width: int) -> nn.Module:
        """Return `torch.nn.Dropout`."""
        dropout: nn.Module = require("torch").nn.Dropout(self.probability)
        return dropout


def in_place(given: Step | Iterable[Step], place: str) -> tuple[Step, ...]:
    """Return one step, or several, as a sequence; refuse those that are not made for the place."""
    steps = (given,) if isinstance(given, Step) else tuple(given) if isinstance(given, Iterable) else (given,)
    for each in steps:
        if not isinstance(each, Step):
            raise InvalidInputError(f"{place} is made of steps, as rmtdeq.LayerNorm(), not of {each!r}.")
        if place not in each.places:
            raise InvalidInputError(f"{each!r} goes {' or '.join(each.places)} the activation, not {place} it.")
    if any(one.kept < 1 and other.kept == 1 for one, other in pairwise(steps)):
        raise InvalidInputError(f"What is drawn anew for every sample comes last, not as in {place}={list(steps)!r}.")
    return steps


def through(steps: Sequence[Step], q: Any) -> Any:
    """Return the squared norm of what comes out of several steps."""
    for each in steps:
        q = each.squared_norm(q)
    return q
