"""Full-batch gradient descent on the squared loss."""

from __future__ import annotations

from os import PathLike

import torch
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq.curves import TrainingRun
from rmtdeq.models import ImplicitRegression
from rmtdeq.training.norm import eigenvalues
from rmtdeq.training.session import Session


def gradient_descent(
    model: ImplicitRegression,
    X: ArrayLike,
    y: ArrayLike,
    *,
    step: float | None = None,
    epochs: int = 1000,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    measure_every: int | None = None,
    subtract_initial: bool = False,
    watch: str | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Train all free parameters of an implicit network on ½‖f(X) - y‖² by full-batch gradient descent.

    Parameters
    ----------
    model : rmtdeq.models.ImplicitRegression
        `OverparameterizedDEQ`, `ImplicitReLU` or what `DEQ.to_regression` returns; it is trained in place, on its
        device and in its precision.
    X : array_like (n, p)
        Samples in the model's scaling: squared norm p (`OverparameterizedDEQ`) or 1 (`ImplicitReLU`, `DEQ`).
    y : array_like (n,)
    step : float, optional
        Learning rate; by default the inverse of the largest eigenvalue of the tangent kernel before training, half of
        what is stable while that kernel stays what it is.
    epochs : int
    test : (X, y), optional
        Samples whose loss is recorded as well.
    measure_every : int, optional
        Epochs between measurements of the recurrent weights' norm and of the Gram matrix; 50 measurements by default.
    subtract_initial : bool
        Train f - f₀ instead of f, f₀ the network before training.
    watch : {"stability"}, optional
        Measure, where the norm of the recurrent weights is, the Jacobian J of the layer at the equilibria of the
        samples of the least and the largest norm as well: its spectral radius, ‖J‖₂, and the smallest singular value
        of 1 - J.  Up to 4096 units that takes as long as some factorisations of J, beyond that products alone.
    checkpoint : path, optional
        Folder that keeps the state twice a minute, and at the end.  The same call with the same folder and the same
        model before training goes on from there, also with more `epochs`, to the same numbers, bit for bit on a CPU
        with as many threads.
    progress : bool
        Tell how far it is if standard error is a terminal.

    Returns
    -------
    TrainingRun

    Raises
    ------
    InvalidInputError
        Shapes that do not fit the model; a checkpoint that belongs to another or a longer training.
    ConvergenceError
        The loss grows without bounds (the step is too large), or the network stops being a contraction.
    """
    total = check.integer(epochs, "epochs", low=0)
    every = max(1, total // 50) if measure_every is None else check.integer(measure_every, "measure_every")
    rate = None if step is None else check.step(step)
    arguments = {"step": rate, "measured every": measure_every, "initial outputs subtracted": subtract_initial}
    session = Session(
        model, X, y, test, subtract_initial, checkpoint, {"program": "gradient descent", **arguments}, watch
    )
    rate = stable_step(model, session.x) if rate is None else rate
    state = session.restore("epoch", total)
    first = 0 if state is None else int(state["epoch"])
    epoch = first
    try:
        with Stage("training", total, initial=first, unit="epoch", show=progress) as stage:
            for epoch in range(first, total + 1):
                outputs = session.outputs()
                residual = outputs.detach() - session.y
                last = epoch == total
                session.note(epoch, residual, session.solved_in(), last or epoch % every == 0)
                if not last:
                    session.move(session.gradients(outputs, residual), rate)
                    session.note_adjoint()
                    session.save({"epoch": epoch + 1}, always=epoch + 1 == total)
                    stage.update()
    except KeyboardInterrupt as error:
        if checkpoint is not None:
            error.add_note(session.kept())
        raise
    except ConvergenceError as error:
        if epoch == 0:
            raise
        raise ConvergenceError(
            f"Training with step {rate:.4g} broke down at epoch {epoch}: take a smaller step (what is stable at the "
            f"start, up to twice the default, need not be later, least of all in narrow networks). {error}"
        ) from error
    return session.result(rate)


def stable_step(model: ImplicitRegression, x: torch.Tensor) -> float:
    """Return the inverse of the largest eigenvalue of the tangent kernel, half the limit of stability."""
    return 1 / largest(eigenvalues(model.tangent_kernel(x)))


def largest(values: torch.Tensor) -> float:
    """Return the last of a tangent kernel's eigenvalues.

    Raises
    ------
    InvalidInputError
        It is zero: nothing can be learnt.
    """
    found = float(values[-1])
    if not found > 0:
        raise InvalidInputError(
            "The tangent kernel is zero: no weight has an influence on the outputs. Are all samples zero?"
        )
    return found
