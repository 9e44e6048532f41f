"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class TrainingRun(Tabular):
    """The course of a training.

    Attributes
    ----------
    model : str
    width, samples : int
    step : float or None
        Learning rate; None for gradient flow.
    at : ndarray (t,)
        Epochs, from 0; of a flow, times.
    loss : ndarray (t,)
        ½‖f(X) - y‖² there.
    test_loss : ndarray (t,) or None
        The same on the test samples, divided by their number and times that of the training samples.
    iterations, adjoint_iterations : ndarray (t,)
        Of the slowest sample, for the equilibrium and for the gradient.
    measured : ndarray (k,)
        Which of the times the following were measured at, as indices.
    recurrent_norm : ndarray (k,)
        ‖W‖₂, or γ̃‖A‖₂: below one, the equilibrium is unique.
    smallest_eigenvalue : ndarray (k,)
        λ_min of the Gram matrix of the equilibria.
    spectral_radius, contraction : ndarray (k,) or None
        Of the layer's Jacobian J at the equilibria, the larger of two samples: the factor by which changes of the
        iteration shrink in a step in the end, and ‖J‖₂.  None unless watched, as the next.
    smallest_singular_value : ndarray (k,) or None
        Of 1 - J, which the gradient inverts, the smaller of both.  All three are NaN where a J of more than 4096 units
        was too nearly singular to be looked at.
    """

    model: str
    width: int
    samples: int
    step: float | None
    at: FloatArray
    loss: FloatArray
    test_loss: FloatArray | None
    iterations: IntArray
    adjoint_iterations: IntArray
    measured: IntArray
    recurrent_norm: FloatArray
    smallest_eigenvalue: FloatArray
    spectral_radius: FloatArray | None = None
    contraction: FloatArray | None = None
    smallest_singular_value: FloatArray | None = None

    def __repr__(self) -> str:
        return f"TrainingRun({self.model}, loss {self.loss[0]:.4g} -> {self.loss[-1]:.4g} at {self.at[-1]:g})"

    @property
    def rate(self) -> float:
        """Rate of decay on average: 1 - (Φ_end/Φ_0)^{1/τ} of τ epochs; of a flow, log(Φ_0/Φ_end) per unit of time."""
        steps = float(self.at[-1] - self.at[0])
        if not steps or not self.loss[0]:
            return 0.0
        with np.errstate(divide="ignore"):  # nothing may be left
            exponent = float((np.log(self.loss[-1]) - np.log(self.loss[0])) / steps)
        return -exponent if self.step is None else float(-np.expm1(exponent))

    @property
    def drift(self) -> float:
        """Largest relative change of the recurrent norm; infinite if it begins at zero and changes."""
        change, start = float(abs(self.recurrent_norm - self.recurrent_norm[0]).max()), float(self.recurrent_norm[0])
        return change / start if start else np.inf if change else 0.0

    @property
    def stability(self) -> dict[str, FloatArray]:
        """What was watched, by name; nothing unless it was."""
        found = {
            "spectral radius": self.spectral_radius,
            "contraction": self.contraction,
            "smallest singular value": self.smallest_singular_value,
        }
        return {name: values for name, values in found.items() if values is not None}

    def table(self) -> Table:
        """Return the course by epoch (of a flow, by time); what was not measured at one is NaN."""
        columns: dict[str, Any] = {"loss": self.loss}
        if self.test_loss is not None:
            columns["test loss"] = self.test_loss
        columns |= {"iterations": self.iterations, "adjoint iterations": self.adjoint_iterations}
        for name, values in (
            ("recurrent norm", self.recurrent_norm),
            ("smallest eigenvalue", self.smallest_eigenvalue),
            *self.stability.items(),
        ):
            columns[name] = np.full(self.at.shape, np.nan)
            columns[name][self.measured] = values
        title = f"{self.model}, width {self.width}: {self.samples} samples"
        return Table(columns, self.at, "time" if self.step is None else "epoch", title)

    def summary(self) -> str:
        """Return the course in a few lines."""
        step = ", gradient flow" if self.step is None else f", step {self.step:.4g}"
        course = f"in a time of {self.at[-1]:g}, rate {self.rate:.4g}"
        if self.step is not None:
            course = f"in {self.at[-1]:g} epochs, by a factor of {1 - self.rate:.6f} each"
        lines = [
            f"{self.model}: {self.samples} samples{step}",
            f"loss            {self.loss[0]:.4g} -> {self.loss[-1]:.4g} {course}",
            f"recurrent norm  {self.recurrent_norm[0]:.5f}, changed by at most {100 * self.drift:.2g} %",
            f"ZᵀZ             smallest eigenvalue {self.smallest_eigenvalue[0]:.4g} -> "
            f"{self.smallest_eigenvalue[-1]:.4g}",
            f"iterations      {self.iterations.mean():.1f} for the equilibrium, {self.adjoint_iterations.mean():.1f} "
            "for the gradient, on average",
        ]
        if self.test_loss is not None:
            lines.insert(2, f"test loss       {self.test_loss[0]:.4g} -> {self.test_loss[-1]:.4g}")
        if self.stability:
            found = [f"{name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.stability.items()]
            lines.append(f"stability       {', '.join(found)}")
        return "\n".join(lines)

    def plot(self, ax: Any = None, quantity: str = "loss", **look: Any) -> Any:
        """Draw a quantity during training.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        quantity : str
            ``"loss"``, ``"test_loss"``, ``"recurrent_norm"``, ``"smallest_eigenvalue"``, ``"iterations"`` or
            ``"adjoint_iterations"``; where they were watched ``"spectral_radius"``, ``"contraction"`` or
            ``"smallest_singular_value"``.
        **look
            Of the line, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InvalidInputError
            Another quantity, a test loss where there was no test, or what was not watched.
        """
        check.choice(quantity, "quantity", QUANTITIES)
        values = getattr(self, quantity)
        if values is None and quantity == "test_loss":
            raise InvalidInputError("No test samples were given; pass test=(X, y) to the training.")
        if values is None:
            raise InvalidInputError('The stability was not watched; pass watch="stability" to the training.')
        ax = style.axes(ax)
        at = self.at[self.measured] if len(values) == len(self.measured) != len(self.at) else self.at
        ax.plot(at, values, **{"label": f"width {self.width}", **look})
        if quantity in ("loss", "test_loss"):
            ax.set_yscale("log")
        ax.set_xlabel("time" if self.step is None else "epoch")
        ax.set_ylabel(QUANTITIES[quantity])
        return ax


QUANTITIES = {
    "loss": "loss",
    "test_loss": "test loss",
    "recurrent_norm": "norm of the recurrent weights",
    "smallest_eigenvalue": "smallest eigenvalue of the Gram matrix",
    "iterations": "iterations",
    "adjoint_iterations": "adjoint iterations",
    "spectral_radius": "spectral radius of the Jacobian J",
    "contraction": "largest singular value of J",
    "smallest_singular_value": "smallest singular value of 1 - J",
}
