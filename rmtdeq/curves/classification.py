"""What the training of a classifier leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib import check, style
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.tables import Table, Tabular
from rmtdeq._lib.types import FloatArray

QUANTITIES = {
    "loss": "cross-entropy",
    "accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "iterations": "iterations for the equilibrium",
    "adjoint_iterations": "iterations for the gradient",
}


@dataclass(frozen=True, eq=False)
class ClassificationRun(Tabular):
    """The course of a classifier's training, epoch by epoch.

    Attributes
    ----------
    model : str
    parameters, samples : int
    loss : ndarray (t,)
        Mean cross-entropy of the training samples, each when it was learnt from.
    accuracy : ndarray (t,)
        Share of them that were classified correctly then.
    test_accuracy : ndarray (t,) or None
        Of the test samples, after each epoch.
    seconds : ndarray (t,)
        Of training, without the tests.
    layers : tuple of str
        Names of the equilibrium layers.
    iterations, adjoint_iterations : ndarray (t, L)
        Of each layer's equilibrium and of its gradient, on average over the epoch.
    """

    model: str
    parameters: int
    samples: int
    loss: FloatArray
    accuracy: FloatArray
    test_accuracy: FloatArray | None
    seconds: FloatArray
    layers: tuple[str, ...]
    iterations: FloatArray
    adjoint_iterations: FloatArray

    def __repr__(self) -> str:
        tested = "" if self.test_accuracy is None or not self.epochs else f", test {100 * self.test_accuracy[-1]:.2f} %"
        return f"ClassificationRun({self.model}, {self._epochs()}{tested})"

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self.loss)

    def _epochs(self) -> str:
        return f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"

    def table(self) -> Table:
        """Return the course by epoch, from 1; iterations have a column for each layer."""
        columns: dict[str, Any] = {"loss": self.loss, "accuracy": self.accuracy}
        if self.test_accuracy is not None:
            columns["test accuracy"] = self.test_accuracy
        columns["seconds"] = self.seconds
        for name, values in (("iterations", self.iterations), ("adjoint iterations", self.adjoint_iterations)):
            columns |= {f"{name} of {layer}": values[:, i] for i, layer in enumerate(self.layers)}
        title = f"{self.model}: {self.parameters:,} parameters, {self.samples:,} samples"
        return Table(columns, np.arange(1, self.epochs + 1), "epoch", title)

    def summary(self) -> str:
        """Return the course in a few lines."""
        lines = [f"{self.model}: {self.parameters:,} parameters, {self.samples:,} samples, {self._epochs()}"]
        if not self.epochs:
            return lines[0]
        lines += [
            f"cross-entropy   {self.loss[0]:.4g} -> {self.loss[-1]:.4g}",
            f"accuracy        {100 * self.accuracy[0]:.2f} % -> {100 * self.accuracy[-1]:.2f} %",
        ]
        if self.test_accuracy is not None:
            best = int(np.argmax(self.test_accuracy))
            lines.append(
                f"test accuracy   {100 * self.test_accuracy[0]:.2f} % -> {100 * self.test_accuracy[-1]:.2f} %, best "
                f"{100 * self.test_accuracy[best]:.2f} % after {best + 1}"
            )
        for name, forward, backward in zip(
            self.layers, self.iterations.mean(axis=0), self.adjoint_iterations.mean(axis=0), strict=True
        ):
            lines.append(
                f"iterations      {forward:.1f} for the equilibrium, {backward:.1f} for the gradient, on average, in "
                f"layer {name}"
            )
        lines.append(f"time            {np.median(self.seconds):.3g} s an epoch")
        return "\n".join(lines)

    def plot(self, ax: Any = None, quantity: str = "test_accuracy", **look: Any) -> Any:
        """Draw a quantity against epochs.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        quantity : str
            ``"test_accuracy"``, ``"accuracy"``, ``"loss"``, ``"iterations"`` or ``"adjoint_iterations"`` (the mean of
            all layers).
        **look
            Of the line, as for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InvalidInputError
            Another quantity, or a test accuracy where there was no test.
        """
        check.choice(quantity, "quantity", QUANTITIES)
        values = getattr(self, quantity)
        if values is None:
            raise InvalidInputError("No test samples were given; pass test=(X, y) to the training.")
        if values.ndim == 2:
            values = values.mean(axis=1)
        ax = style.axes(ax)
        scale = 100 if "accuracy" in quantity else 1
        ax.plot(np.arange(1, self.epochs + 1), scale * values, **{"label": self.model, **look})
        ax.set_xlabel("epoch")
        ax.set_ylabel(QUANTITIES[quantity])
        return ax
