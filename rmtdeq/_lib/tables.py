"""Tables of numbers: what results say in columns, for a data frame, a printed table or a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.optional import require
from rmtdeq._lib.types import FloatArray


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
    scales : dict of float
        By column, the size next to which its values may be nothing but rounding; see `shown`.
    """

    columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]
    index: Sequence[Any] | np.ndarray[Any, Any]
    name: str
    title: str = ""
    notes: tuple[str, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict)

    def shown(self) -> Table:
        """Return the table as it is shown to a reader, with 0 for what is nothing but rounding."""
        columns = {
            name: without_rounding(values, self.scales[name]) if name in self.scales else values
            for name, values in self.columns.items()
        }
        return replace(self, columns=columns)

    def with_classes(self, names: Sequence[str]) -> Table:
        """Return the table with the classes' names in place of their numbers in the columns of `by_class`."""

        def renamed(column: str) -> str:
            for a, name in enumerate(names):
                if column.endswith(_of_class(a)):
                    return f"{column.removesuffix(_of_class(a))}with {name}"
            return column

        columns = {renamed(name): values for name, values in self.columns.items()}
        return replace(self, columns=columns, scales={renamed(name): size for name, size in self.scales.items()})

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


_ROUNDING = 1e-14
_SHOWN = 6


def without_rounding(values: ArrayLike, scale: float) -> FloatArray:
    """Return values with 0 for those that are nothing but rounding in a computation with numbers of size `scale`."""
    found = np.asarray(values, dtype=float)
    return np.where(abs(found) <= _ROUNDING * scale, 0.0, found)


def largest(*values: ArrayLike) -> float:
    """Return the largest size of the numbers that are known."""
    found = np.concatenate([np.ravel(each) for each in values])
    return float(np.max(abs(found), initial=0.0, where=np.isfinite(found)))


def numbers(values: Iterable[float], what: str) -> str:
    """Return how many there are of something and the last of them, as representations show them."""
    found = np.array(list(values), dtype=float)
    every = without_rounding(found, largest(found)).tolist()
    counted = f"{len(every) or 'no'} {what}{'' if len(every) == 1 else 's'}"
    if not every:
        return counted
    more = "…, " if len(every) > _SHOWN else ""
    return f"{counted}: {more}{', '.join(f'{value:.4g}' for value in every[-_SHOWN:])}"


def intervals(edges: Iterable[tuple[float, float]]) -> str:
    """Return intervals as representations show them: the widest, ascending."""
    found = np.array(list(edges), dtype=float).reshape(-1, 2)
    every = without_rounding(found, largest(found)).tolist()
    widest = sorted(sorted(every, key=lambda edge: edge[0] - edge[1])[:_SHOWN])
    more = f" and {len(every) - len(widest)} narrower interval(s)" if len(every) > len(widest) else ""
    return ", ".join(f"[{low:.4g}, {high:.4g}]" for low, high in widest) + more


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def by_class(values: np.ndarray[Any, Any], what: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of a matrix (rows, K) of alignments with K classes, named by them."""
    return {f"{what} {_of_class(a)}": values[:, a] for a in range(values.shape[1])}


def _of_class(a: int) -> str:
    return f"with class {a}"
