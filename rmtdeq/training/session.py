"""A training under way: its data, what it records, and the folder it can be resumed from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.checkpoint import Checkpoint, checksum
from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq._version import __version__
from rmtdeq.curves import TrainingRun
from rmtdeq.models import Equilibrium, ImplicitRegression, Trace
from rmtdeq.models.implicit import full_precision
from rmtdeq.stability.jacobian import JacobianEnds, examine
from rmtdeq.training.inputs import samples_and_targets
from rmtdeq.training.norm import eigenvalues, spectral_norm

WATCHES = ("stability",)

_WATCHED = 2
"""Samples whose Jacobian is looked at."""
_EXPLODED = 1e4
_SAVE_EVERY = 30.0


class Session:
    """State of a training that can be saved and restored, bit for bit.

    Parameters
    ----------
    model : ImplicitRegression
        Trained in place.
    X, y : array_like (n, p), (n,)
    test : (array_like, array_like) or None
    subtract_initial : bool
        Train f - f₀, which begins at zero, f₀ the network before training.
    checkpoint : path or None
    arguments : mapping
        What else the numbers depend on.
    watch : {"stability"} or None
        What else is measured where the recurrent weights are.
    """

    def __init__(
        self,
        model: ImplicitRegression,
        X: ArrayLike,
        y: ArrayLike,
        test: tuple[ArrayLike, ArrayLike] | None,
        subtract_initial: bool,
        checkpoint: str | PathLike[str] | None,
        arguments: Mapping[str, Any],
        watch: str | None = None,
    ) -> None:
        self._watched = watch is not None and check.choice(watch, "watch", WATCHES) == "stability"
        if not isinstance(model, ImplicitRegression):
            raise InvalidInputError(
                "model must be an implicit network with one output: rmtdeq.models.OverparameterizedDEQ, ImplicitReLU, "
                f"or DEQ.to_regression(...), not {type(model).__name__}."
            )
        self.model = model
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        if not self.parameters:
            raise InvalidInputError("No parameter of the model is trained; all have requires_grad=False.")
        self.x, self.y = samples_and_targets(model, X, y)
        self.test = None if test is None else samples_and_targets(model, *_pair(test), "test ")
        self.trace, self.test_trace = Trace(), Trace()
        self.at: list[float] = []
        self.loss: list[float] = []
        self.test_loss: list[float] = []
        self.iterations: list[int] = []
        self.adjoint_iterations: list[int] = []
        self.measured: list[int] = []
        self.norms: list[float] = []
        self.smallest: list[float] = []
        self.radii: list[float] = []
        self.contractions: list[float] = []
        self.singular: list[float] = []
        self._direction: FloatArray | None = None
        self._saved = time.monotonic()
        self._folder: Checkpoint | None = None
        if checkpoint is not None:
            also = {"watched": watch} if self._watched else {}
            record = {"rmtdeq": __version__, "model": model.describe(), **self._checksums(), **arguments, **also}
            self._folder = Checkpoint(check.folder(checkpoint, "checkpoint"), record, "training")
        self.offset = torch.zeros_like(self.y)
        self.test_offset = None if self.test is None else torch.zeros_like(self.test[1])
        if subtract_initial:
            with torch.no_grad():
                self.offset = model(self.x)
                if self.test is not None:
                    self.test_offset = model(self.test[0])

    def outputs(self) -> Tensor:
        """Return f(X), or f(X) - f₀(X), with gradients; the solves begin where the last ones ended."""
        return self.model(self.x, self.trace) - self.offset

    def gradients(self, outputs: Tensor, residual: Tensor) -> list[Tensor]:
        """Return residual·∂f/∂θ for every parameter."""
        return list(torch.autograd.grad(outputs, list(self.parameters.values()), residual))

    @torch.no_grad()
    def move(self, gradients: list[Tensor], step: float) -> None:
        """Take a step against the gradients."""
        for value, gradient in zip(self.parameters.values(), gradients, strict=True):
            value.add_(gradient, alpha=-step)

    def solved_in(self) -> int:
        """Return the number of iterations of the slowest sample in the last solve of the equilibria."""
        return 0 if self.trace.forward is None else int(self.trace.forward.iterations.max())

    def note(self, at: float, residual: Tensor, iterations: int, measure: bool) -> None:
        """Record where the training stands, before a step.

        Raises
        ------
        ConvergenceError
            The loss has grown out of all bounds.
        """
        loss = 0.5 * float(residual @ residual)
        if not np.isfinite(loss) or (self.loss and loss > _EXPLODED * max(self.loss[0], 1e-30)):
            first = self.loss[0] if self.loss else loss
            raise ConvergenceError(
                f"Training diverges: the loss is {loss:.3g} at {at:g}, {first:.3g} at the start. The step is too "
                "large: below 2 / (largest eigenvalue of the tangent kernel) it converges."
            )
        self.at.append(at)
        self.loss.append(loss)
        self.iterations.append(iterations)
        if self.test is not None and self.test_offset is not None:
            x, y = self.test
            with torch.no_grad():
                gap = self.model(x, self.test_trace) - self.test_offset - y
            self.test_loss.append(0.5 * float(gap @ gap) * len(self.y) / len(y))
        if measure and self.trace.forward is not None:
            z = self.trace.forward.value.double()
            self.measured.append(len(self.at) - 1)
            norm, self._direction = spectral_norm(self.model.recurrent().detach(), self._direction)
            self.norms.append(norm)
            self.smallest.append(float(eigenvalues(z @ z.T)[0]))
            if self._watched:
                self._note_stability(self.trace.forward.value)

    def _note_stability(self, rest: Tensor) -> None:
        """Record what the layer's Jacobian is like at the samples of the least and the largest norm."""
        norms = self.x.flatten(1).double().norm(dim=1).cpu().numpy()
        try:
            with torch.no_grad(), full_precision(self.x):
                _, ends = examine(self.model.map(), self.model.injected(self.x), rest, norms, _WATCHED)
        except ConvergenceError:  # no reason to end a training
            ends = [JacobianEnds(np.nan, np.nan, np.nan, np.nan)]
        self.radii.append(max(each.radius for each in ends))
        self.contractions.append(max(each.contraction for each in ends))
        self.singular.append(min(each.smallest for each in ends))

    def note_adjoint(self) -> None:
        """Record how many iterations the gradient took."""
        backward = self.trace.backward
        self.adjoint_iterations.append(0 if backward is None else int(backward.iterations.max()))

    def result(self, step: float | None) -> TrainingRun:
        """Return what was recorded."""
        adjoint = [*self.adjoint_iterations, *[0] * (len(self.at) - len(self.adjoint_iterations))]
        return TrainingRun(
            model=self.model.describe(),
            width=self.model.width,
            samples=len(self.y),
            step=step,
            at=np.array(self.at),
            loss=np.array(self.loss),
            test_loss=np.array(self.test_loss) if self.test is not None else None,
            iterations=np.array(self.iterations),
            adjoint_iterations=np.array(adjoint),
            measured=np.array(self.measured),
            recurrent_norm=np.array(self.norms),
            smallest_eigenvalue=np.array(self.smallest),
            spectral_radius=np.array(self.radii) if self._watched else None,
            contraction=np.array(self.contractions) if self._watched else None,
            smallest_singular_value=np.array(self.singular) if self._watched else None,
        )

    def save(self, state: Mapping[str, float], always: bool = False) -> None:
        """Keep everything, where there is a folder and it is time."""
        if self._folder is None or not (always or time.monotonic() - self._saved > _SAVE_EVERY):
            return
        solves = {name: _solve(self, name) for name in _SOLVES}
        self._folder.save_state(
            {
                "reached": dict(state),
                "weights": {name: value.detach() for name, value in self.parameters.items()},
                "solves": {name: vars(found) for name, found in solves.items() if found is not None},
                "right": self.trace.right,
                "lists": {name: getattr(self, name) for name in _LISTS},
                "direction": None if self._direction is None else torch.from_numpy(self._direction),
            }
        )
        self._saved = time.monotonic()

    def kept(self) -> str:
        """Say what an interrupted training leaves behind."""
        return "No checkpoint folder was given: nothing is kept." if self._folder is None else self._folder.kept()

    def restore(self, progress: str, end: float) -> dict[str, float] | None:
        """Return to what was saved, if there is anything; the numbers of `save` are given back.

        Raises
        ------
        InvalidInputError
            What was saved is beyond the end that is asked for, by the number of `save` that counts the progress.
        """
        found = None if self._folder is None else self._folder.load_state()
        if self._folder is None or found is None:
            return None
        reached = found["reached"]
        if reached[progress] > end:
            raise InvalidInputError(
                f"{self._folder.folder} holds a training to {progress} {reached[progress]:g} already, beyond the "
                f"{end:g} asked for; ask for as much at least, or name another folder."
            )
        device = self.y.device
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(found["weights"][name])
        for name, parts in found["solves"].items():
            trace, direction = name.rsplit(".", 1)
            solve = Equilibrium(**{part: value.to(device) for part, value in parts.items()})
            setattr(getattr(self, trace), direction, solve)
        self.trace.right = None if found["right"] is None else found["right"].to(device)
        for name, values in found["lists"].items():
            setattr(self, name, values)
        self._direction = None if found["direction"] is None else found["direction"].numpy()
        return reached

    def _checksums(self) -> dict[str, Any]:
        found = {
            f"{name}'s checksum": checksum(value.detach().cpu().numpy()) for name, value in self.parameters.items()
        }
        found |= {"X's checksum": checksum(self.x.cpu().numpy()), "y's checksum": checksum(self.y.cpu().numpy())}
        if self.test is not None:
            found["test's checksum"] = checksum(self.test[0].cpu().numpy()) + checksum(self.test[1].cpu().numpy())
        return found


_SOLVES = ("trace.forward", "trace.backward", "test_trace.forward")
_LISTS = (
    "at",
    "loss",
    "test_loss",
    "iterations",
    "adjoint_iterations",
    "measured",
    "norms",
    "smallest",
    "radii",
    "contractions",
    "singular",
)


def _solve(session: Session, name: str) -> Equilibrium | None:
    trace, direction = name.rsplit(".", 1)
    return getattr(getattr(session, trace), direction)


def _pair(test: Any) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise InvalidInputError("test must be a pair (X, y) of samples and targets.")
    return test[0], test[1]
