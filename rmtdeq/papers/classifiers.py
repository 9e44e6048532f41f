"""Accuracy and iterations of positive concave DEQs (arXiv 2402.04029)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rmtdeq as rd
from rmtdeq._lib import style
from rmtdeq._lib.optional import require
from rmtdeq.papers import published
from rmtdeq.papers.outcome import Curve, Outcome, Row
from rmtdeq.papers.setting import Setting

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Classifiers:
    """Parameters: a network, "linear", "conv" or "three-blocks", and its training; n = 0 stands for all images."""

    dataset: str = "mnist"
    network: str = "linear"
    activations: tuple[str, ...] = ("tanh", "sigmoid")
    draws: int = 3
    epochs: int = 20
    rate: float = 2e-3
    weight_decay: float = 0.1
    milestones: tuple[int, ...] = (15,)
    n: int = 0
    test: int = 0
    augment: bool = False


def of_positive_concave(parameters: Classifiers, setting: Setting) -> Outcome:
    """Train a network some times for each activation."""
    require("torch")
    X, y, test = rd.load_classification(
        parameters.dataset, n=parameters.n or None, test=parameters.test or None, data_dir=setting.data_dir
    )
    runs = {
        activation: [
            _train(parameters, activation, setting.seed + draw, X, y, test, setting) for draw in range(parameters.draws)
        ]
        for activation in parameters.activations
    }
    title = f"pcDEQ, {parameters.network}, on {parameters.dataset}, {len(y):,} images"
    if parameters.draws > 1:
        title += f", {parameters.draws} draws"
    return Outcome(
        tuple(row for activation, of in runs.items() for row in _rows(parameters, activation, of, len(y))),
        tuple(curve for activation, of in runs.items() for curve in _curves(activation, of)),
        lambda figure: _draw(figure, runs, parameters, title),
        (8.4, 3.4),
        {"seconds an epoch": {name: [run.seconds for run in of] for name, of in runs.items()}},
    )


def _train(
    parameters: Classifiers, activation: str, seed: int, X: Any, y: Any, test: Any, setting: Setting
) -> rd.ClassificationRun:
    from rmtdeq.models import pcdeq
    from rmtdeq.models.weights import on_device

    shape, classes = X.shape[1:], int(y.max()) + 1
    named: dict[str, Any] = {"classes": classes, "activation": activation, "seed": seed}
    if parameters.network == "linear":
        model = pcdeq.linear_network(int(np.prod(shape)), **named)
    elif parameters.network == "conv":
        model = pcdeq.conv_network(shape, **named)
    else:
        model = pcdeq.three_block_network(shape, **named)
    return rd.train_classifier(
        on_device(model, setting.device, "float32"),
        X,
        y,
        test=test,
        epochs=parameters.epochs,
        step=parameters.rate,
        weight_decay=parameters.weight_decay,
        milestones=parameters.milestones,
        augment=parameters.augment,
        seed=seed,
        checkpoint=setting.folder(f"{activation}-{seed}"),
    )


def _rows(parameters: Classifiers, activation: str, runs: Sequence[rd.ClassificationRun], n: int) -> list[Row]:
    key = (parameters.dataset, parameters.network)
    full = Classifiers()
    smaller = []
    if parameters.n:
        smaller.append(f"{n:,} images")
    if parameters.epochs < full.epochs:
        smaller.append(f"{parameters.epochs} epochs")
    accuracy = [100 * float(run.test_accuracy[-1]) for run in runs if run.test_accuracy is not None]
    known = published.MONDEQ.get(key)
    rival = "" if known is None else "monDEQ, as its paper gives it"
    solves = float(np.mean([run.iterations.mean() for run in runs]))
    adjoint = float(np.mean([run.adjoint_iterations.mean() for run in runs]))
    rows = [
        Row(
            f"{activation}: parameters",
            float(runs[0].parameters),
            None if key not in published.PCDEQ_PARAMETERS else float(published.PCDEQ_PARAMETERS[key]),
            "the paper's layers",
        ),
        Row(f"{activation}: test accuracy, %", float(np.mean(accuracy)), known, rival, "=", ", ".join(smaller)),
        Row(f"{activation}: iterations for the equilibrium", solves, 200.0, "the paper's limit", "<="),
        Row(f"{activation}: iterations for the gradient", adjoint, 200.0, "the paper's limit", "<="),
    ]
    if activation == "sigmoid":
        # From anywhere the distance halves at least, and the relative change it starts from is at most 1.
        bound = float(np.log2(1 / _TOLERANCE)) + 1
        rows.append(Row("sigmoid: iterations, by the contraction of 1/2", solves, bound, "law: distances halve", "<="))
    return rows


def _curves(activation: str, runs: Sequence[rd.ClassificationRun]) -> list[Curve]:
    curves = []
    for draw, run in enumerate(runs):
        epochs = np.arange(1, run.epochs + 1)
        for what, values in (
            ("test accuracy", run.test_accuracy),
            ("iterations", run.iterations.mean(axis=1)),
            ("adjoint iterations", run.adjoint_iterations.mean(axis=1)),
        ):
            if values is not None:
                curves.append(Curve(f"{activation}, {what}, draw {draw}", epochs, values))
    return curves


def _draw(figure: Any, runs: dict[str, list[rd.ClassificationRun]], parameters: Classifiers, title: str) -> None:
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, parameters.epochs + 1)
    for colour, (activation, of) in zip(style.CLASSES, runs.items(), strict=False):
        for run in of:
            run.plot(left, color=colour, lw=0.6, alpha=0.6, label=None)
        mean = 100 * np.mean([run.test_accuracy for run in of if run.test_accuracy is not None], axis=0)
        left.plot(epochs, mean, "o-", color=colour, lw=2, markersize=3, label=activation)
        for quantity, line, what in (("iterations", "-", "equilibrium"), ("adjoint_iterations", ":", "gradient")):
            values = np.mean([getattr(run, quantity).mean(axis=1) for run in of], axis=0)
            right.plot(epochs, values, line, marker=".", color=colour, label=f"{activation}, {what}")
    known = published.MONDEQ.get((parameters.dataset, parameters.network))
    if known is not None:
        left.axhline(known, color=style.OTHER, ls="--", lw=1, label="monDEQ, as published")
    left.set_ylabel("test accuracy (%)")
    right.set_xlabel("epoch")
    right.set_ylabel("mean number of iterations")
    right.set_ylim(bottom=0)
    for ax, columns in ((left, 3), (right, 2)):
        style.open_frame(ax)
        ax.legend(frameon=False, fontsize=8, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.suptitle(title, fontsize=11)
