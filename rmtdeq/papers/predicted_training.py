"""The loss during training of wide networks, against what kernels and spectra foretell without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq.data.problems import example_mixture, random_targets
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_SIGMA_W2, _TOLERANCE = 0.08, 1e-5
_LAW = "law: none is left as m → ∞"


@dataclass(frozen=True)
class PredictedTraining:
    """Parameters: widths, the mixture's dimension p, samples n on the sphere, and the share of the loss to stop at."""

    widths: tuple[int, ...] = (512, 2048, 8192)
    activation: str = "tanh"
    p: int = 125
    n: int = 50
    share: float = 0.03


@dataclass(frozen=True, eq=False)
class _Panel:
    title: str
    runs: Sequence[rd.TrainingRun]
    predicted: dict[str, rd.LossCurve]
    rows: Sequence[Row]


def of_training(parameters: PredictedTraining, setting: Setting) -> Outcome:
    """Train on the labels of a mixture, and on random targets."""
    require("torch")
    panels = (_on_mixture(parameters, setting), _on_sphere(parameters, setting))
    curves = [
        curve
        for panel in panels
        for curve in (
            *(Curve(f"{panel.title}, width {run.width}", run.at, run.loss) for run in panel.runs),
            *(
                Curve(f"{panel.title}, {name}", panel.runs[-1].at, of.loss(panel.runs[-1].at))
                for name, of in panel.predicted.items()
            ),
        )
    ]
    return Outcome(
        tuple(row for panel in panels for row in panel.rows), tuple(curves), lambda figure: _draw(figure, panels)
    )


def _error(curve: rd.LossCurve, run: rd.TrainingRun) -> float:
    """Largest relative error of a predicted loss over the first decade of decrease."""
    inside = run.loss >= 0.1 * run.loss[0]
    return float(abs(curve.loss(run.at) / run.loss - 1)[inside].max())


def _descend(model: Any, X: Any, y: Any, step: float, epochs: int, setting: Setting, name: str) -> rd.TrainingRun:
    return rd.gradient_descent(
        model.to(setting.device),
        X,
        y,
        step=step,
        epochs=epochs,
        subtract_initial=True,
        measure_every=max(1, epochs),
        checkpoint=setting.folder(f"{name}-{model.width}"),
    )


def _on_mixture(parameters: PredictedTraining, setting: Setting) -> _Panel:
    """A DEQ, A and its read-out trained, with the predicted spectrum: no sample, no kernel."""
    from rmtdeq.models import Solver

    gmm, n = example_mixture(parameters.p, 2), int(0.8 * parameters.p)
    deq = rd.DEQ(parameters.activation, 0.2, 0.8)
    X, labels = gmm.sample(n, setting.seed)
    y, centre = 2.0 * labels - 1, gmm.mean_squared_norm
    spectrum = rd.predict_spectrum(deq, gmm, n, "ntk", "classwise")
    step = 0.2 / spectrum.outliers[-1]
    predicted = {
        "infinite-width NTK": rd.predict_training(rd.kernel(X, deq, "ntk", tau0_squared=centre), y, step),
        "predicted spectrum alone": rd.predict_training(spectrum, [-1.0, 1.0], step),
    }
    epochs = predicted["infinite-width NTK"].epochs_to(parameters.share)
    runs, rows = [], []
    for width in parameters.widths:
        model = deq.to_regression(
            parameters.p, width, setting.seed, tau0_squared=centre, solver=Solver(tolerance=_TOLERANCE)
        )
        runs.append(_descend(model, X, y, step, epochs, setting, "mixture"))
        rows += [
            Row(
                f"{parameters.activation} DEQ, width {width}: error over a decade, {name}",
                _error(curve, runs[-1]),
                0.0,
                _LAW,
            )
            for name, curve in predicted.items()
        ]
    title = f"{parameters.activation} DEQ, two Gaussian classes, n = {n}, p = {parameters.p}"
    return _Panel(title, runs, predicted, rows)


def _on_sphere(parameters: PredictedTraining, setting: Setting) -> _Panel:
    """The over-parameterised DEQ, with the limit of its tangent kernel."""
    from rmtdeq.models import OverparameterizedDEQ, Solver
    from rmtdeq.training import population_tangent_kernel

    n = parameters.n
    data = random_targets(n, n, float(np.sqrt(n)), seed=setting.seed)
    runs, rows = [], []
    curve = None
    for width in parameters.widths:
        model = OverparameterizedDEQ(n, width, _SIGMA_W2, setting.seed, solver=Solver(tolerance=_TOLERANCE))
        kernel = population_tangent_kernel(model, data.X)
        step = 1 / np.linalg.eigvalsh(kernel)[-1]
        curve = rd.predict_training(kernel, data.y, step)
        runs.append(_descend(model, data.X, data.y, step, curve.epochs_to(parameters.share), setting, "sphere"))
        rows.append(
            Row(f"over-parameterised DEQ, width {width}: error over a decade", _error(curve, runs[-1]), 0.0, _LAW)
        )
    predicted = {} if curve is None else {"limit of the tangent kernel": curve}
    return _Panel(f"over-parameterised DEQ, random targets, n = p = {n}", runs, predicted, rows)


def _draw(figure: Any, panels: Sequence[_Panel]) -> None:
    looks: tuple[dict[str, Any], ...] = (
        {"color": "black", "ls": "--", "lw": 1.1},
        {"color": style.THEORY, "ls": ":", "lw": 1.8},
    )
    for ax, panel in zip(figure.subplots(1, 2), panels, strict=True):
        for i, run in enumerate(panel.runs):
            run.plot(ax, color=style.CLASSES[i % len(style.CLASSES)], lw=1.6)
        for look, (name, curve) in zip(looks, panel.predicted.items(), strict=False):
            curve.plot(ax, panel.runs[-1].at, label=name, **look)
        ax.set_title(panel.title, loc="left", fontsize=9)
        ax.yaxis.set_minor_formatter(require("matplotlib.ticker").NullFormatter())
        ax.legend(frameon=False, fontsize=8)
        style.open_frame(ax)
