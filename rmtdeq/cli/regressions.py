"""Training on the squared loss, against what theory says."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rmtdeq
from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require
from rmtdeq.cli.options import data_dir_of, record_of, save
from rmtdeq.data.problems import Targets, random_targets, signed_classes

if TYPE_CHECKING:
    from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ

SPHERE = "sphere"


def train(options: argparse.Namespace) -> int:
    """Train networks of growing width by gradient descent."""
    data = data_of(options)
    widths = sorted(set(options.widths))
    require("torch")
    from rmtdeq.training.widths import beginnings

    models = [model_of(options, data.X.shape[1], width) for width in widths]
    runs, predictions, conditions = [], [], []
    for start in beginnings(models, data.X, data.y, options.step):
        print(start.condition.summary(), flush=True)
        if start.why_not:
            print(f"  no prediction: {start.why_not}")
        run = rmtdeq.gradient_descent(
            start.model,
            data.X,
            data.y,
            step=start.step,
            epochs=options.epochs,
            test=data.test,
            measure_every=options.measure_every,
            watch=options.watch,
            checkpoint=None if options.checkpoint is None else Path(options.checkpoint) / f"width-{start.model.width}",
        )
        print(run.summary(), flush=True)
        predictions.append(start.prediction)
        runs.append(run)
        conditions.append(start.condition)
    if options.out:
        from rmtdeq.output.figures import training_figure

        title = f"{MODELS[options.model].title}, {data.name}, n = {len(data.y)}"
        results = {f"width {run.width}": _numbers(run, of) for run, of in zip(runs, conditions, strict=True)}
        figure = training_figure(runs, predictions, title)
        save(figure, options, record_of("train", options, {"step": runs[0].step, **results}))
    return 0


def _numbers(run: rmtdeq.TrainingRun, condition: rmtdeq.InitialCondition) -> dict[str, Any]:
    return {
        "loss": [run.loss[0], run.loss[-1]],
        "curve": {"epoch": run.at[run.measured], "loss": run.loss[run.measured], "norm": run.recurrent_norm},
        "rate": run.rate,
        "guaranteed rate": 1 - condition.factor,
        "condition holds": condition.holds,
        "ratios": {each.name: each.ratio for each in (*condition.assumptions, *condition.inequalities)},
        "largest change of the norm": run.drift,
        "smallest eigenvalue": [run.smallest_eigenvalue[0], run.smallest_eigenvalue[-1]],
        "test loss": None if run.test_loss is None else [run.test_loss[0], run.test_loss[-1]],
        "iterations": [run.iterations.mean(), run.adjoint_iterations.mean()],
        **{name: [values[0], values[-1]] for name, values in run.stability.items()},
    }


@dataclass(frozen=True)
class _Model:
    """A name of --model: how it is made, and the norm of its inputs, √p if none is given."""

    title: str
    make: Callable[[argparse.Namespace, int, int], OverparameterizedDEQ | ImplicitReLU]
    norm: float | None


def _overparameterized(options: argparse.Namespace, p: int, width: int) -> OverparameterizedDEQ:
    from rmtdeq.models import OverparameterizedDEQ, Solver

    return OverparameterizedDEQ(
        p,
        width,
        0.08 if options.sigma_w2 is None else options.sigma_w2,
        options.seed,
        solver=Solver(tolerance=options.tolerance),
    )


def _implicit_relu(options: argparse.Namespace, p: int, width: int) -> ImplicitReLU:
    from rmtdeq.models import ImplicitReLU, Solver

    return ImplicitReLU(
        p,
        width,
        0.1 if options.gamma is None else options.gamma,
        options.seed,
        solver=Solver(tolerance=options.tolerance),
    )


MODELS = {
    "deq": _Model("over-parameterised DEQ", _overparameterized, None),
    "implicit-relu": _Model("ReLU implicit network", _implicit_relu, 1.0),
}


def model_of(options: argparse.Namespace, p: int, width: int) -> OverparameterizedDEQ | ImplicitReLU:
    """Return the network of the options."""
    require("torch")
    from rmtdeq.models.weights import on_device

    model = MODELS[options.model].make(options, p, width)
    return on_device(model, options.device, options.dtype)


def data_of(options: argparse.Namespace) -> Targets:
    """Load or draw the data of the options, in the scaling of the model."""
    n = check.integer(options.n, "--n", low=2)
    wanted = check.integer(options.test, "--test", low=0)
    norm = MODELS[options.model].norm
    dataset = check.choice(options.dataset, "--dataset", (SPHERE, *rmtdeq.dataset_names()))
    data_dir = data_dir_of(options, dataset)
    if dataset == SPHERE:
        p = 100 if options.p is None else check.integer(options.p, "--p", low=2)
        return random_targets(n, p, float(np.sqrt(p)) if norm is None else norm, wanted, options.seed)
    classes = [0, 1] if options.classes is None else options.classes
    if len(classes) != 2:
        raise InvalidInputError(f"--classes takes two labels, not {len(classes)}: their targets are -1 and 1.")
    return signed_classes(dataset, classes, n, norm, test=wanted, seed=options.seed, data_dir=data_dir)
