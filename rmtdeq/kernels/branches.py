"""Features side by side: inner products are added, and angles join without a difference of large terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, Self, TypeVar

from rmtdeq.kernels.samples import Pair, beside


@dataclass(frozen=True, eq=False)
class Node:
    """The samples, or a layer's features, in a block of a kernel: arrays or tensors.

    Attributes
    ----------
    entries : tuple of array (rows, columns)
        Of kernels.
    sizes : tuple of array (rows, 1), (columns,)
        Norms √K(x, x).
    near : array (rows, columns)
        1 - cos of the angles.
    """

    entries: tuple[Any, ...]
    sizes: Pair
    near: Any

    def weighted(self, weight: float) -> Node:
        """Return the features times √weight."""
        root = weight**0.5
        entries = tuple(weight * each for each in self.entries)
        return Node(entries, (root * self.sizes[0], root * self.sizes[1]), self.near)

    def beside(self, other: Node) -> Node:
        """Return both side by side."""
        entries = tuple(one + two for one, two in zip(self.entries, other.entries, strict=True))
        sizes = tuple((one * one + two * two) ** 0.5 for one, two in zip(self.sizes, other.sizes, strict=True))
        return Node(entries, (sizes[0], sizes[1]), beside(self.sizes, self.near, other.sizes, other.near))


class _Part(Protocol):
    """What goes on side by side: `Node`, or `pairs.Features`."""

    def weighted(self, weight: float) -> Self:
        """Return the features times √weight."""

    def beside(self, other: Self) -> Self:
        """Return both side by side."""


Part = TypeVar("Part", bound=_Part)


def side_by_side(parts: Iterable[Part], weights: Iterable[float]) -> Part:
    """Return parts side by side, of which those that have a weight, and no others, are there."""
    weighted = (
        part if weight == 1 else part.weighted(float(weight))
        for part, weight in zip(parts, weights, strict=False)
        if weight > 0
    )
    return reduce(lambda one, other: one.beside(other), weighted)
