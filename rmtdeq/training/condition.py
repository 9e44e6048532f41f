"""What a convergence theorem says of a network before training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check, style
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import FloatArray


@dataclass(frozen=True)
class Inequality:
    """One condition, left ≥ right.

    Attributes
    ----------
    name : str
    left, right : float
    """

    name: str
    left: float
    right: float

    @property
    def ratio(self) -> float:
        """left / right: satisfied from 1 on, and else short by this factor."""
        return self.left / self.right if self.right else math.inf

    @property
    def holds(self) -> bool:
        """Whether it is satisfied."""
        return self.left >= self.right


@dataclass(frozen=True, eq=False)
class InitialCondition(Tabular):
    """What a convergence theorem asks of a network before training, and what it then guarantees.

    Attributes
    ----------
    model : str
    source : str
    samples, width : int
    assumptions : tuple of Inequality
        On the data and the weights.
    inequalities : tuple of Inequality
        On the Gram matrix at the start.
    constants : dict
        What enters them.
    gram, scaled_gram : str
        The Gram matrix that the theorem speaks of, and what of it has a limit.
    smallest_eigenvalue : float
        λ_min of the Gram matrix at the start that the theorem speaks of: of ZᵀZ, or of ΦᵀΦ.
    population_gram : ndarray (n, n)
        Its limit at infinite width (of ZᵀZ/m, or of ΦᵀΦ).
    population_eigenvalue : float
        λ*, the smallest eigenvalue of that.
    guaranteed_eigenvalue : float
        μ: the loss shrinks by 1 - ημ or better in every step, by e^{-2μt} or better in gradient flow.
    permitted_step : float
        The largest step that the theorem allows, or its order of magnitude.
    step : float
        The one given, or the permitted one.
    needed_width : float
        From which on all inequalities are satisfied, with the norms of Gaussian matrices and the limit of the Gram
        matrix; infinite if never, NaN where the theorem does not say.
    width_orders : dict
        The widths of the theorem, without its constants.
    """

    model: str
    source: str
    samples: int
    width: int
    assumptions: tuple[Inequality, ...]
    inequalities: tuple[Inequality, ...]
    constants: dict[str, float]
    gram: str
    scaled_gram: str
    smallest_eigenvalue: float
    population_gram: FloatArray
    population_eigenvalue: float
    guaranteed_eigenvalue: float
    permitted_step: float
    step: float
    needed_width: float
    width_orders: dict[str, float]

    def __repr__(self) -> str:
        every = (*self.assumptions, *self.inequalities)
        verdict = f"{sum(each.holds for each in every)} of {len(every)} conditions hold"
        return f"InitialCondition({self.model} on {self.samples} samples: {verdict}, step {self.step:.3g})"

    @property
    def holds(self) -> bool:
        """Whether everything the theorem asks of network and data is satisfied (not whether the step is permitted)."""
        return all(each.holds for each in (*self.assumptions, *self.inequalities))

    @property
    def factor(self) -> float:
        """Factor by which the loss shrinks at least in each step, if the theorem applies."""
        return 1 - self.step * self.guaranteed_eigenvalue

    def bound(self, epochs: ArrayLike, loss: float) -> np.ndarray[Any, Any]:
        """Return the guaranteed loss after some epochs, from `loss` at the start."""
        return np.asarray(loss * self.factor ** check.real_array(epochs, "epochs"))

    def table(self) -> Table:
        """Return both sides of every condition."""
        every = (*self.assumptions, *self.inequalities)
        columns = {name: [getattr(each, name) for each in every] for name in ("left", "right", "ratio", "holds")}
        title = f"{self.model} on {self.samples} samples ({self.source})"
        return Table(columns, [each.name for each in every], "condition", title)

    def summary(self) -> str:
        """Return the conditions and what follows from them as text."""
        lines = [f"{self.model} on {self.samples} samples ({self.source})"]
        for each in (*self.assumptions, *self.inequalities):
            short = each.right > 0 and each.ratio > 0
            verdict = "fails" if not short else f"short by a factor of {1 / each.ratio:.3g}"
            verdict = "holds" if each.holds else verdict
            lines.append(f"  {each.name:<44}{each.left:>12.4g} >= {each.right:<12.4g}{verdict}")
        lines.append("  " + ", ".join(f"{name} = {value:.4g}" for name, value in self.constants.items()))
        lines.append(
            f"  smallest eigenvalue of {self.gram} {self.smallest_eigenvalue:.4g}, of the limit of {self.scaled_gram} "
            f"{self.population_eigenvalue:.4g}"
        )
        allowed = "within what is permitted" if self.step <= self.permitted_step else "more than is permitted"
        lines.append(f"  step {self.step:.3g}, {allowed} ({self.permitted_step:.3g})")
        if self.holds and self.step <= self.permitted_step:
            lines.append(f"  guaranteed: the loss shrinks by {self.factor:.8f} or better in every step")
        else:
            lines.append(f"  nothing is guaranteed; the theorem's factor would be {self.factor:.8f}")
        orders = ", ".join(f"{name} = {value:.3g}" for name, value in self.width_orders.items())
        lines.append(f"  width {self.width}; the theorem's orders of magnitude: {orders}")
        if not math.isnan(self.needed_width):
            needed = "at no width" if math.isinf(self.needed_width) else f"from width {self.needed_width:.3g} on"
            lines.append(f"  with this data and initialisation the inequalities hold {needed}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the ratio of both sides of every condition; those beyond a factor of 10¹² are drawn there.

        Returns
        -------
        matplotlib.axes.Axes
        """
        ax = style.axes(ax)
        every = [*self.assumptions, *self.inequalities]
        place = np.arange(len(every))[::-1]
        ratios = [min(max(each.ratio, 1e-12), 1e12) for each in every]
        colours = [style.CLASSES[0] if each.holds else style.THEORY for each in every]
        ax.scatter(ratios, place, color=colours, zorder=3)
        ax.axvline(1.0, color=style.OTHER, lw=0.8)
        ax.set_xscale("log")
        ax.set_yticks(place, [each.name for each in every])
        ax.set_xlabel("left side / right side (satisfied from 1 on)")
        return ax
