"""Commands: fit, learn, suggest."""

from __future__ import annotations

import argparse
import csv
from copy import copy
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

import rmtdeq
from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import of_kind, write_text
from rmtdeq._lib.optional import require
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tables import Table
from rmtdeq._lib.types import KINDS, FloatArray
from rmtdeq.cli.options import (
    add_network,
    add_report,
    network_of,
    record_of,
    save,
    save_report,
)
from rmtdeq.cli.samples import FEWEST, Samples, add_samples, samples_of
from rmtdeq.learning import ridge_fit

_TESTED = 3000
_SHARE = 0.2
_CRITERIA = ("loo", "gcv")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the parser's."""
    fit = commands.add_parser(
        "fit",
        help="learn with a network's kernel, and tell the error by leaving out and on a test",
        examples=[
            "rmtdeq fit --dataset digits --activation relu --out figures/fit",
            "rmtdeq fit --data table.csv --label-column kind --standardize --save predictions.csv",
        ],
    )
    _add_learning(fit)
    fit.add_argument(
        "--ridge",
        nargs="+",
        default=["loo"],
        help="loo or gcv: found by leave-one-out or generalised cross-validation; or one number, or several to choose "
        "from (default loo)",
    )
    fit.add_argument("--test", type=float, default=_SHARE, help=f"share of the samples to test on (default {_SHARE})")
    fit.add_argument(
        "--checkpoint",
        help="folder in which conjugate gradients, the way for tens of thousands of samples, keep the kernel and what "
        "they have solved; the same command goes on there",
    )
    fit.add_argument("--save", help="table of the test's targets and predictions to write, .csv")
    fit.add_argument(
        "--model",
        help="file to keep what was learnt in, .npz: rmtdeq.load_estimator makes an estimator of it that takes rows of "
        "the table as they are",
    )
    _add_outputs(fit)
    fit.set_defaults(run=_fit)

    learn = commands.add_parser(
        "learn",
        help="foretell the error with other numbers of samples",
        examples=[
            "rmtdeq learn --dataset digits --n 400 --sizes 100 400 1200 --measure --out figures/learning",
            "rmtdeq learn --data table.csv --label-column kind --standardize --ridge 0.01",
        ],
    )
    _add_learning(learn)
    learn.add_argument("--ridge", type=float, default=1e-3, help="in the units of the kernel (default 0.001)")
    learn.add_argument("--sizes", nargs="+", type=int, help="numbers of samples (default n/4, n/2, n, 2n, 4n)")
    learn.add_argument(
        "--measure",
        action="store_true",
        help="learn from so many of the samples that were not used as well, as far as there are, and test on the rest",
    )
    _add_outputs(learn)
    learn.set_defaults(run=_learn)

    suggest = commands.add_parser(
        "suggest",
        help="compare networks and kernels by the error that leaving samples out foretells",
        examples=[
            "rmtdeq suggest --dataset digits --n 400 --out figures/suggestion",
            "rmtdeq suggest --data table.csv --label-column kind --standardize --activations relu tanh",
        ],
    )
    grid = suggest.add_argument_group("networks, in every combination")
    grid.add_argument("--activations", nargs="+", help="names (default relu tanh sin)")
    grid.add_argument("--sigma-a2", nargs="+", type=float, help="variances of the recurrent weights (default 0 0.3)")
    grid.add_argument("--sigma-b2", nargs="+", type=float, help="variances of the input weights (default 0.8 3)")
    grid.add_argument("--sigma-c2", nargs="+", type=float, help="variances of the bias (default 0 0.3)")
    grid.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="kernels (default all)")
    add_samples(suggest)
    _add_outputs(suggest)
    suggest.set_defaults(run=_suggest)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument("--sigma-c2", type=float, default=0.0, help="variance of the bias (default 0)")
    parser.add_argument("--kind", choices=KINDS, default="ntk", help="kernel (default ntk)")
    add_samples(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
    add_report(parser)


def _network(options: argparse.Namespace) -> rmtdeq.DEQ:
    deq = network_of(options)
    return rmtdeq.DEQ(deq.activation, deq.sigma_a2, deq.sigma_b2, deq.centered, sigma_c2=options.sigma_c2)


def _ridge(given: list[str]) -> str | float | list[float]:
    if len(given) == 1 and given[0] in _CRITERIA:
        return given[0]
    try:
        ridges = [check.number(float(each), "--ridge", low=0) for each in given]
    except ValueError as error:
        raise InvalidInputError(
            f"--ridge takes loo, gcv, or numbers that are not negative, not {' '.join(given)}."
        ) from error
    return ridges[0] if len(ridges) == 1 else ridges


def _fit(options: argparse.Namespace) -> int:
    require("sklearn")
    deq, ridge = _network(options), _ridge(options.ridge)
    share = check.number(options.test, "--test", low=0, high=0.9)
    predictions = (
        None if options.save is None else of_kind(Path(options.save), (".csv",), "Predictions are a .csv file")
    )
    if predictions is not None and not share:
        raise InvalidInputError("--save writes the predictions of a test, and --test 0 leaves no sample for one.")
    kept = None if options.model is None else of_kind(Path(options.model), (".npz",), "A model is an .npz file")
    samples = samples_of(options)
    tested = round(share * samples.n)
    rows, of_test = np.split(np.arange(samples.n), [samples.n - tested])
    make = rmtdeq.DEQClassifier if samples.class_names else rmtdeq.DEQRegressor
    solver = "auto" if options.checkpoint is None else "iterative"
    model = make(deq, options.kind, ridge=ridge, scale=not options.as_is, solver=solver, checkpoint=options.checkpoint)
    with Stage("learning"):
        model.fit(samples.X[rows], samples.y[rows])
    best = int(np.flatnonzero(model.ridges_ == model.ridge_)[0])
    numbers: dict[str, Any] = {
        "samples": len(rows),
        "ridge": model.ridge_,
        "mean squared error left out": model.loo_error_[best],
        "mean squared error by generalised cross-validation": model.gcv_error_[best],
    }
    if samples.class_names:
        numbers["told wrong left out"] = model.loo_error_rate_[best]
    test: dict[str, float] = {}
    if tested:
        y = samples.y[of_test]
        predicted, test = _tested(model, samples.X[of_test], y)
        numbers["mean squared error of the test"] = test["mse"]
        if "error rate" in test:
            numbers["told wrong in the test"] = test["error rate"]
        numbers["samples of the test"] = tested
        if predictions is not None:
            write_text(predictions, _listed(samples, y, predicted))
    print(f"{samples.name}: {deq}, {options.kind}")
    for name, value in numbers.items():
        shown = f"{100 * value:.2f} %" if name.startswith("told") else f"{value:.4g}" if name != "samples" else value
        print(f"  {name:<52}{shown}")
    if predictions is not None:
        print(f"wrote {predictions}")
    if kept is not None:
        print(f"wrote {rmtdeq.save_estimator(_of_table(model, samples), kept)}")
    if options.out or options.report:
        from rmtdeq.output.figures import ridge_figure

        figure = ridge_figure(model, test, f"{samples.name}, n = {len(rows)}: {deq.activation!r} DEQ, {options.kind}")
        if options.out:
            path = {"ridges": model.ridges_, "left out": model.loo_error_, "gcv": model.gcv_error_}
            save(figure, options, record_of("fit", options, numbers | path))
        if options.report:
            columns = {"left out": model.loo_error_, "generalised cross-validation": model.gcv_error_}
            if samples.class_names:
                columns["told wrong, left out"] = model.loo_error_rate_
            told = Table(columns, model.ridges_, "ridge", "mean squared errors")
            lines = [f"{name}: {value:.6g}" for name, value in numbers.items()]
            sections = [rmtdeq.Section("Errors", [str(deq), *lines, figure]), rmtdeq.Section("By ridge", [told])]
            save_report(f"{samples.name}: learning with a kernel", sections, options, samples.problem)
    return 0


def _of_table(model: Any, samples: Samples) -> Any:
    """Return a fitted estimator as one that takes a table's features as they are, and tells classes by name."""
    found = copy(model)
    if samples.scaling is not None:
        found.scaling_ = samples.scaling if model.scaling_ is None else model.scaling_.after(samples.scaling)
    if samples.feature_names:
        found.feature_names_in_ = np.array(samples.feature_names, dtype=object)
    if samples.class_names:
        found.classes_ = np.array(samples.class_names)[model.classes_]
    return found


def _tested(model: Any, X: FloatArray, y: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
    """Return what an estimator predicts of samples, and how wrong it is."""
    if not hasattr(model, "classes_"):
        predicted = model.predict(X)
        return predicted, {"mse": float(np.square(predicted - y).mean())}
    values = model.decision_function(X)
    # Of two classes there is the difference of the two indicators, which sum to one.
    values = np.stack([(1 - values) / 2, (1 + values) / 2], axis=1) if values.ndim == 1 else values
    predicted = model.classes_[values.argmax(axis=1)]
    squares = np.square(values - (y[:, None] == model.classes_))
    return predicted, {"mse": float(squares.mean()), "error rate": float(np.mean(predicted != y))}


def _listed(samples: Samples, y: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any]) -> str:
    """Return what was to be predicted and what was, a line a sample."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["target", "predicted"])
    names = samples.class_names
    pairs = zip(y.tolist(), predicted.tolist(), strict=True)
    writer.writerows([names[a], names[b]] if names else [a, b] for a, b in pairs)
    return text.getvalue()


def _learn(options: argparse.Namespace) -> int:
    deq = _network(options)
    check.number(options.ridge, "--ridge", low=0)
    for size in options.sizes or ():
        check.integer(size, "A number of --sizes", low=2)
    samples = samples_of(options)
    n = samples.n
    if options.measure and len(samples.X) - n < 4 * FEWEST:
        raise InvalidInputError(
            f"--measure needs {4 * FEWEST} samples that the curve is not foretold from, and of {len(samples.X)} there "
            f"are {len(samples.X) - n}; lower --n."
        )
    labels = samples.y[:n]
    curve = rmtdeq.learning_curve(
        samples.X[:n], labels, deq, options.kind, sizes=options.sizes, ridge=options.ridge, seed=options.seed
    )
    measured = _measured(options, deq, samples, curve) if options.measure else {}
    prediction = None
    if samples.problem is not None and samples.problem.population is None:
        sizes = np.maximum(curve.sizes, len(samples.class_names))
        prediction = rmtdeq.predict_learning(deq, samples.problem.mixture, None, sizes, options.ridge, options.kind)
    print(f"{samples.name}: {deq}, {options.kind}, ridge {options.ridge:g}, foretold from {n} samples")
    for row, size in enumerate(curve.sizes.tolist()):
        line = f"  {size:>9}  mse {curve.mse[row]:.4g} ({curve.low[row]:.4g} to {curve.high[row]:.4g})"
        if curve.wrong is not None:
            low, high = (100 * each[row] for each in (curve.wrong.low, curve.wrong.high))
            line += f"  told wrong {100 * curve.wrong.value[row]:.2f} % ({low:.2f} to {high:.2f})"
        if prediction is not None:
            line += f"  from the mixture {prediction.mse[row, 0]:.4g}"
            line += "" if prediction.error_rate is None else f", {100 * prediction.error_rate[row, 0]:.2f} %"
        if size in measured:
            line += f"  measured {', '.join(f'{value:.4g}' for value in measured[size].values())}"
        print(line)
    if options.out or options.report:
        from rmtdeq.output.figures import learning_figure

        title = f"{samples.name}: {deq.activation!r} DEQ, ridge {options.ridge:g}"
        figure = learning_figure(curve, measured, title, prediction)
        table = curve.table()
        if options.out:
            by_size = {str(size): values for size, values in measured.items()}
            results: dict[str, Any] = {"sizes": curve.sizes, **table.columns, "measured": by_size}
            if prediction is not None:
                results["from the mixture"] = {"mse": prediction.mse[:, 0], "error rate": prediction.error_rate}
            save(figure, options, record_of("learn", options, results))
        if options.report:
            sections = [rmtdeq.Section("Learning curve", [str(deq), figure, table])]
            save_report(f"{samples.name}: error by number of samples", sections, options, samples.problem)
    return 0


def _measured(
    options: argparse.Namespace, deq: rmtdeq.DEQ, samples: Samples, curve: rmtdeq.LearningCurve
) -> dict[int, dict[str, float]]:
    """Return the errors of learning from samples that the curve does not know, on others that it does not know."""
    X, y = samples.X[samples.n :], samples.y[samples.n :]
    tested = min(_TESTED, len(X) // 4)
    sizes = [size for size in curve.sizes.tolist() if size <= len(X) - tested]
    targets = np.eye(len(samples.class_names))[y] if samples.class_names else y[:, None]
    known = deq.pinned(check.mean_squared_norm(samples.X[: samples.n]))
    found = {}
    for size in sizes:
        with Stage(f"learning from {size} samples"):
            train = X[tested : tested + size]
            K = np.array(rmtdeq.kernel(train, known, options.kind), order="C")
            fit = ridge_fit(K, targets[tested : tested + size], options.ridge)
            values = rmtdeq.kernel(X[:tested], known, options.kind, Y=train) @ fit.coefficients + fit.intercept
        found[size] = {"mse": float(np.square(values - targets[:tested]).mean())}
        if samples.class_names:
            found[size]["error rate"] = float(np.mean(values.argmax(axis=1) != y[:tested]))
    return found


def _suggest(options: argparse.Namespace) -> int:
    named = {
        "activations": options.activations,
        "sigma_a2": options.sigma_a2,
        "sigma_b2": options.sigma_b2,
        "sigma_c2": options.sigma_c2,
    }
    given = {name: values for name, values in named.items() if values is not None}
    # Wrong names and variances are refused before data are read.
    for activation in options.activations or ():
        rmtdeq.DEQ(activation)
    for name in ("sigma_a2", "sigma_b2", "sigma_c2"):
        for value in given.get(name, ()):
            rmtdeq.DEQ("relu", **{name: value})
    samples = samples_of(options)
    found = rmtdeq.suggest(
        samples.X[: samples.n],
        samples.y[: samples.n],
        kinds=options.kind,
        scale=not options.as_is,
        seed=options.seed,
        most=samples.n,
        **given,
    )
    print(f"{samples.name}: {len(found.candidates)} kernels compared")
    print(found.summary())
    if options.out or options.report:
        from rmtdeq.output.figures import suggestion_figure

        figure = suggestion_figure(found, samples.name)
        if options.out:
            rows = [dict(zip(("rank", *found.table().columns), row, strict=True)) for row in found.table().rows()]
            save(figure, options, record_of("suggest", options, {"candidates": rows}))
        if options.report:
            sections = [
                rmtdeq.Section("Suggestion", [*found.summary().splitlines()[:1], figure]),
                rmtdeq.Section("Candidates", [found.table()]),
            ]
            save_report(f"{samples.name}: networks to learn with", sections, options, samples.problem)
    return 0
