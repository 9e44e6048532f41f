"""Tables of numbers: what results say in columns, for a data frame, a printed table or a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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


def by_class(values: np.ndarray[Any, Any], what: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of a matrix (rows, K) of alignments with K classes, named by them."""
    return {f"{what} with class {a}": values[:, a] for a in range(values.shape[1])}
