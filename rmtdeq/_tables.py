"""Tables of numbers: what results say in columns, for a data frame, a printed table or a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._optional import require


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length under names.

    Attributes
    ----------
    columns : dict of sequence
        By name.
    index : sequence
        What the rows are named by.
    name : str
        Of the index: "epoch", "rank".
    title : str
        What the table is of.
    notes : tuple of str
        Sentences that belong to it.
    """

    columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]
    index: Sequence[Any] | np.ndarray[Any, Any]
    name: str
    title: str = ""
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows, each after its name."""
        return list(zip(self.index, *self.columns.values(), strict=True))

    def to_frame(self) -> Any:
        """Return the table as a pandas.DataFrame."""
        pandas = require("pandas")
        return pandas.DataFrame(dict(self.columns), index=pandas.Index(self.index, name=self.name))


class Tabular(ABC):
    """A result that is a table."""

    @abstractmethod
    def table(self) -> Table:
        """Return the numbers as columns under names."""

    def to_frame(self) -> Any:
        """Return the numbers as a pandas.DataFrame.

        Returns
        -------
        pandas.DataFrame
            The columns of `table`.

        Raises
        ------
        MissingDependencyError
            No pandas.
        """
        return self.table().to_frame()


_SHOWN = 6


def numbers(values: Iterable[float], what: str) -> str:
    """Return how many there are of something and the last of them, as representations show them."""
    every = list(values)
    counted = f"{len(every) or 'no'} {what}{'' if len(every) == 1 else 's'}"
    if not every:
        return counted
    more = "…, " if len(every) > _SHOWN else ""
    return f"{counted}: {more}{', '.join(f'{value:.4g}' for value in every[-_SHOWN:])}"


def intervals(edges: Iterable[tuple[float, float]]) -> str:
    """Return intervals as representations show them: the widest, ascending."""
    every = list(edges)
    widest = sorted(sorted(every, key=lambda edge: edge[0] - edge[1])[:_SHOWN])
    more = f" and {len(every) - len(widest)} narrower" if len(every) > len(widest) else ""
    return ", ".join(f"[{low:.4g}, {high:.4g}]" for low, high in widest) + more


def by_class(values: np.ndarray[Any, Any], what: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of a matrix (rows, K) of alignments with K classes, named by them."""
    return {f"{what} with class {a}": values[:, a] for a in range(values.shape[1])}
