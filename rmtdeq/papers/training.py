"""Gradient descent on networks of growing width (arXiv 2205.13814 and arXiv 2110.05645)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib.optional import require
from rmtdeq.data.problems import Targets, random_targets, signed_classes
from rmtdeq.papers import published
from rmtdeq.papers.outcome import Curve, Outcome, Row, slope
from rmtdeq.papers.setting import Setting

if TYPE_CHECKING:
    from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
    from rmtdeq.training.widths import Beginning

SPHERE = "sphere"
_SIGMA_W2, _GAMMA = 0.08, 0.1
_FLAT = 0.02


@dataclass(frozen=True)
class Training:
    """Parameters: "deq" or "relu"; n samples on the sphere, or of two classes, and as many to test as are asked for."""

    model: str = "deq"
    dataset: str = SPHERE
    n: int = 1000
    p: int = 1000
    test: int = 0
    widths: tuple[int, ...] = (3000, 3500, 4000, 4500, 5000)
    epochs: int = 2000
    dtype: str = "float32"
    tolerance: float = 0.0


def of_growing_widths(parameters: Training, setting: Setting) -> Outcome:
    """Train networks of several widths with one step."""
    require("torch")
    from rmtdeq.training.widths import beginnings

    data = _data(parameters, setting)
    models = [_model(parameters, data.X.shape[1], width, setting) for width in parameters.widths]
    starts, runs = [], []
    for start in beginnings(models, data.X, data.y):
        starts.append(start)
        runs.append(
            rd.gradient_descent(
                start.model,
                data.X,
                data.y,
                step=start.step,
                epochs=parameters.epochs,
                test=data.test,
                checkpoint=setting.folder(f"width-{start.model.width}"),
            )
        )
    rows = _rows_deq(parameters, runs) if parameters.model == "deq" else _rows_relu(runs)
    rows += _rows_both(starts, runs)
    return Outcome(
        tuple(rows),
        tuple(curve for run in runs for curve in _curves(run)),
        lambda figure: _draw(figure, runs, starts, f"{_TITLES[parameters.model]}, {data.name}, n = {len(data.y)}"),
        (3.9 * (2 + (data.test is not None)) + 0.6, 3.4),
        {
            "step": starts[0].step,
            "conditions": {run.width: of.condition.holds for run, of in zip(runs, starts, strict=True)},
        },
    )


_TITLES = {"deq": "over-parameterised DEQ", "relu": "ReLU implicit network"}


def _data(parameters: Training, setting: Setting) -> Targets:
    p = parameters.p
    norm = None if parameters.model == "deq" else 1.0
    if parameters.dataset == SPHERE:
        radius = float(np.sqrt(p)) if norm is None else norm
        return random_targets(parameters.n, p, radius, parameters.test, setting.seed)
    return signed_classes(
        parameters.dataset,
        (0, 1),
        parameters.n,
        norm,
        test=parameters.test,
        seed=setting.seed,
        data_dir=setting.data_dir,
    )


def _model(parameters: Training, p: int, width: int, setting: Setting) -> OverparameterizedDEQ | ImplicitReLU:
    from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ, Solver
    from rmtdeq.models.weights import on_device

    solver = Solver(tolerance=parameters.tolerance or None)
    model = (
        OverparameterizedDEQ(p, width, _SIGMA_W2, setting.seed, solver=solver)
        if parameters.model == "deq"
        else ImplicitReLU(p, width, _GAMMA, setting.seed, solver=solver)
    )
    return on_device(model, setting.device, parameters.dtype)


def _rows_deq(parameters: Training, runs: Sequence[rd.TrainingRun]) -> list[Row]:
    full = Training()
    sizes = [
        f"{what} = {mine} of {theirs}"
        for what, mine, theirs in (
            ("n", parameters.n, full.n),
            ("epochs", parameters.epochs, full.epochs),
        )
        if mine != theirs
    ]
    caveat = ", ".join([*sizes, "their step is not stated"])
    rows = []
    for run in runs:
        known = published.LOG_LOSS.get(run.width) if parameters.dataset == SPHERE else None
        source = "" if known is None else "read off"
        rows.append(Row(f"width {run.width}: final log loss", float(np.log(run.loss[-1])), known, source, "=", caveat))
        norm = 2 * np.sqrt(2 * _SIGMA_W2)
        rows.append(Row(f"width {run.width}: ‖W‖ at the end", float(run.recurrent_norm[-1]), norm, "read off, ≈ 0.80"))
        least = float(run.smallest_eigenvalue.min() / run.smallest_eigenvalue[0])
        rows.append(Row(f"width {run.width}: λ_min of ZᵀZ, least by first", least, 0.5, "theorem: at least half", ">="))
    if len(runs) > 1:
        level = 2 * max(float(run.loss[-1]) for run in runs)
        epochs = [1 + int(np.flatnonzero(run.loss <= level)[0]) for run in runs]
        found = slope([run.width for run in runs], epochs)
        rows.append(Row("epochs to one loss: slope in the width", found, 0.0, "figure: the faster the wider", "<="))
    return rows


def _rows_relu(runs: Sequence[rd.TrainingRun]) -> list[Row]:
    return [
        Row(f"width {run.width}: γ̃‖A‖ at the end", float(run.recurrent_norm[-1]), 0.1985, "read off, 0.198 to 0.199")
        for run in runs
    ]


def _rows_both(starts: Sequence[Beginning], runs: Sequence[rd.TrainingRun]) -> list[Row]:
    rows = []
    for start, run in zip(starts, runs, strict=True):
        name = f"width {run.width}"
        rows.append(
            Row(f"{name}: largest change of the norm", run.drift, _FLAT, "read off: flat, here at most 2 %", "<=")
        )
        rate = start.condition.guaranteed_eigenvalue * start.step
        rows.append(Row(f"{name}: loss's rate a step", run.rate, rate, "law: at least ηλ/2", ">="))
        if run.test_loss is not None:
            rows.append(
                Row(f"{name}: test loss, end by start", float(run.test_loss[-1] / run.test_loss[0]), 1.0, "law", "<=")
            )
        if start.prediction is not None:
            inside = run.loss >= 0.1 * run.loss[0]
            off = abs(start.prediction.loss(run.at) / run.loss - 1)[inside].max()
            rows.append(Row(f"{name}: prediction's error over a decade", float(off), 0.0, "law: none is left as m → ∞"))
    return rows


def _curves(run: rd.TrainingRun) -> list[Curve]:
    curves = [
        Curve(f"width {run.width}, loss", run.at, run.loss),
        Curve(f"width {run.width}, recurrent norm", run.at[run.measured], run.recurrent_norm),
    ]
    if run.test_loss is not None:
        curves.append(Curve(f"width {run.width}, test loss", run.at, run.test_loss))
    return curves


def _draw(figure: Any, runs: Sequence[rd.TrainingRun], starts: Sequence[Beginning], title: str) -> None:
    from rmtdeq.output.figures import draw_training

    draw_training(figure, runs, [start.prediction for start in starts], title)
