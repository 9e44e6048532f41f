"""What an experiment comes to: numbers beside those expected, curves, and a figure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.errors import InvalidInputError

RELATIONS = ("=", "<=", ">=")


@dataclass(frozen=True)
class Row:
    """A number beside the one expected.

    Attributes
    ----------
    quantity : str
    found : float
    expected : float or None
        Published, or what a law says; None where there is neither.
    source : str
        Where the expected number comes from.
    relation : {"=", "<=", ">="}
        A law may bound the number on one side only.
    caveat : str
        What is not as where the expected number was found, such as the size.  With a caveat, the difference is shown
        and not counted.
    """

    quantity: str
    found: float
    expected: float | None = None
    source: str = ""
    relation: str = "="
    caveat: str = ""

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise InvalidInputError(f"relation must be one of {', '.join(RELATIONS)}, not {self.relation!r}.")

    @property
    def difference(self) -> float | None:
        """found - expected; of a bound, what it is exceeded by."""
        if self.expected is None:
            return None
        off = self.found - self.expected
        if self.relation == "=":
            return off
        return max(off, 0.0) if self.relation == "<=" else min(off, 0.0)

    @property
    def relative(self) -> float | None:
        """The difference by the number expected, where that is not zero, without sign; None where it does not count."""
        if self.difference is None or self.expected is None or self.caveat:
            return None
        return abs(self.difference) / (abs(self.expected) or 1.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """A series of numbers, as it goes to the CSV file."""

    name: str
    x: Sequence[float] | np.ndarray[Any, Any]
    y: Sequence[float] | np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of an experiment.

    Attributes
    ----------
    rows : tuple of Row
    curves : tuple of Curve
    draw : callable
        Draws on the empty figure that it is given.
    size : (float, float)
        Of the figure, in inches.
    details : mapping
        What else the manifest keeps.
    """

    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    draw: Callable[[Any], None]
    size: tuple[float, float] = (9.4, 3.6)
    details: Mapping[str, Any] = field(default_factory=dict)

    def plot(self, figure: Any = None) -> Any:
        """Draw the outcome on `figure`, or on a new one, and return it."""
        if figure is None:
            from rmtdeq._lib.optional import require

            figure = require("matplotlib.figure").Figure(figsize=self.size, layout="constrained")
        self.draw(figure)
        return figure

    @property
    def worst(self) -> Row | None:
        """The row with the largest relative difference of those that count."""
        counted = [row for row in self.rows if row.relative is not None]
        return max(counted, key=lambda row: row.relative or 0.0, default=None)

    def table(self) -> str:
        """Return the rows as text."""
        return comparison_table(self.rows)

    def csv(self) -> str:
        """Return the curves as text, a point a line: curve, x, y."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("curve", "x", "y"))
        for curve in self.curves:
            for x, y in zip(np.asarray(curve.x).tolist(), np.asarray(curve.y).tolist(), strict=True):
                writer.writerow((curve.name, f"{x:.10g}", f"{y:.10g}"))
        return text.getvalue()

    def record(self) -> list[dict[str, Any]]:
        """Return the rows as a manifest keeps them."""
        return [{**vars(row), "difference": row.difference} for row in self.rows]


def comparison_table(rows: Sequence[Row]) -> str:
    """Return numbers found beside those expected, with their difference and where they come from."""
    cells = [("quantity", "found", "expected", "difference", "source")]
    for row in rows:
        bound = "" if row.relation == "=" else f"{row.relation} "
        expected = "-" if row.expected is None else bound + shown(row.expected)
        difference = "-" if row.difference is None else _difference(row)
        source = "; ".join(part for part in (row.source, _uncounted(row)) if part)
        cells.append((row.quantity, shown(row.found), expected, difference, source))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {found:>{widths[1]}}  {expected:>{widths[2]}}  {off:>{widths[3]}}  {source}".rstrip()
        for name, found, expected, off, source in cells
    )


def _uncounted(row: Row) -> str:
    return f"not counted: {row.caveat}" if row.caveat and row.expected is not None else ""


def shown(value: float) -> str:
    """Return a number as tables show it."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _difference(row: Row) -> str:
    if row.relation != "=" and row.difference == 0:
        return "holds"
    return f"{row.difference:+.2g}"


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the slope of log y against log x, by least squares."""
    return float(np.polyfit(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)), 1)[0])
