"""Gradient flow: gradient descent in the limit of small steps."""

from __future__ import annotations

from os import PathLike

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.progress import Stage
from rmtdeq.curves import TrainingRun
from rmtdeq.models import ImplicitRegression
from rmtdeq.training.descent import largest
from rmtdeq.training.session import Session

_GROWTH = 4.0
_SAFETY = 0.8
_SHORTEST = 1e-12
_NOISE = 10.0


def gradient_flow(
    model: ImplicitRegression,
    X: ArrayLike,
    y: ArrayLike,
    time: float,
    *,
    tolerance: float = 1e-3,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    measure_every: int = 1,
    subtract_initial: bool = False,
    watch: str | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Train all free parameters of an implicit network on ½‖f(X) - y‖² by gradient flow, θ' = -∂loss/∂θ.

    Parameters
    ----------
    model, X, y, test, subtract_initial, watch, checkpoint, progress
        As for `gradient_descent`; memory for a second copy of the weights is needed.
    time : float
        Length of the flow; an epoch of gradient descent of step η is a time of η.
    tolerance : float
        Error of the outputs in one step, relative to the residual, or to the solver's tolerance where that is more.
    measure_every : int
        Steps between measurements of the recurrent weights' norm and of the Gram matrix.

    Returns
    -------
    TrainingRun
        At the times of the steps, which are chosen by their error.

    Raises
    ------
    InvalidInputError
        As for `gradient_descent`.
    ConvergenceError
        Steps become too short, or the network stops being a contraction.

    Notes
    -----
    The residual r = f(X) - y follows r' = -H(t) r, H the tangent kernel.  In a step of length s with H kept, r decays
    as e^{-sH} r and the weights move by -Jᵀw, w = H^{-1}(1 - e^{-sH}) r, J the Jacobian.  With H and J of the middle of
    the step, this is an exponential midpoint rule: its steps are limited by the change of H and not by its largest
    eigenvalue.  It is of second order, but where units of a ReLU open and close during a step, of first.
    """
    end = check.number(time, "time", low=0, open_low=True)
    limit = check.number(tolerance, "tolerance", low=0, open_low=True)
    every = check.integer(measure_every, "measure_every")
    arguments = {"tolerance": limit, "measured every": every, "initial outputs subtracted": subtract_initial}
    session = Session(model, X, y, test, subtract_initial, checkpoint, {"program": "gradient flow", **arguments}, watch)
    state = session.restore("time", end) or {"time": 0.0, "step": 0.0, "count": 0.0, "iterations": -1.0}
    now, step, count, iterations = state["time"], state["step"], int(state["count"]), int(state["iterations"])
    with Stage("gradient flow", 1.0, initial=now / end, show=progress) as stage:
        while True:
            # Again where the last step ended, so that a resumed flow meets the same numbers.
            outputs = session.outputs()
            residual = outputs.detach() - session.y
            solved = session.solved_in() if iterations < 0 else iterations
            session.note(now, residual, solved, now >= end or count % every == 0)
            if now >= end:
                return session.result(None)
            taken, step, iterations = _step(session, outputs, residual, min(step, end - now) or None, limit)
            now = end if taken >= end - now else now + taken
            count += 1
            session.note_adjoint()
            session.save({"time": now, "step": step, "count": count, "iterations": iterations})
            stage.update(taken / end)


def _step(
    session: Session, outputs: Tensor, residual: Tensor, step: float | None, limit: float
) -> tuple[float, float, int]:
    """Move the weights by one step whose error is within the limit.

    Returns
    -------
    taken, next : float
        Length of this step and of the one to try next.
    iterations : int
        Of the solve at the new weights.
    """
    here = _Decay(session, residual)
    shortest = _SHORTEST / here.largest
    step = 1 / here.largest if step is None else step
    # What the solves leave of the outputs' precision cannot be told from an error of the step.
    noise = _NOISE * session.model.solver.tolerance_for(residual.dtype) * (outputs.detach().norm() + session.y.norm())
    before = [value.detach().clone() for value in session.parameters.values()]
    while step > shortest:
        session.move(session.gradients(outputs, here.impulse(step / 2)), 1.0)
        middle = session.outputs()
        there = _Decay(session, residual)
        gradients = session.gradients(middle, there.impulse(step))
        _restore(session, before)
        session.move(gradients, 1.0)
        with torch.no_grad():
            gap = session.outputs() - session.y - there.residual(step)
        error = float(gap.norm() / (residual.norm() + noise / limit))
        # The error of a step is of third order in its length.
        change = _SAFETY * (limit / max(error, 1e-300)) ** (1 / 3)
        if error <= limit:
            return step, step * min(change, _GROWTH), session.solved_in()
        _restore(session, before)
        step *= min(change, 0.5)
        outputs = session.outputs()
    raise ConvergenceError(
        "Gradient flow cannot be followed: even very short steps miss the tolerance; that of the model's solver must "
        "be well below the flow's."
    )


class _Decay:
    """How a residual decays while the tangent kernel is that of the present weights."""

    def __init__(self, session: Session, residual: Tensor) -> None:
        kernel = session.model.tangent_kernel(session.x, session.trace).double().cpu()
        values, self._vectors = torch.linalg.eigh(kernel)
        self.largest = largest(values)
        self._values = values.clamp_min(0)
        self._shares = self._vectors.T @ residual.double().cpu()
        self._like = residual

    def residual(self, time: float) -> Tensor:
        """Return e^{-sH} r."""
        return (self._vectors @ (torch.exp(-time * self._values) * self._shares)).to(self._like)

    def impulse(self, time: float) -> Tensor:
        """Return ∫₀ˢ e^{-tH} r dt = H^{-1}(1 - e^{-sH}) r."""
        decay = -time * self._values
        factor = torch.where(decay < 0, torch.expm1(decay) / decay.clamp_max(-1e-300), 1.0) * time
        return (self._vectors @ (factor * self._shares)).to(self._like)


def _restore(session: Session, before: list[Tensor]) -> None:
    with torch.no_grad():
        for value, old in zip(session.parameters.values(), before, strict=True):
            value.copy_(old)
