"""The command line: solve, predict, compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import rmtdeq
from rmtdeq._errors import InvalidInputError, RmtdeqError
from rmtdeq._types import KINDS, LEVELS, FloatArray, IntArray

_NO_MEAN = 1e-10
_FAILED = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(_FAILED)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Data, the mixture they come from, and the squared norm at which the activation is centred."""

    name: str
    X: FloatArray
    y: IntArray
    mixture: rmtdeq.GaussianMixture
    n: int
    tau0_squared: float
    class_names: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except RmtdeqError as error:
        print(f"rmtdeq: {' '.join(str(error).split())}", file=sys.stderr)
        return _FAILED
    except OSError as error:
        print(f"rmtdeq: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("rmtdeq: interrupted; no file was left half written", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rmtdeq", description="Spectra of the kernels of deep equilibrium models.")
    parser.add_argument("--version", action="version", version=f"rmtdeq {rmtdeq.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    solve = commands.add_parser("solve", help="solve the four equations of a network")
    _add_network(solve)
    solve.add_argument("--tau0-squared", type=float, default=1.0, help="mean squared norm of the inputs (default 1)")
    solve.set_defaults(run=_solve)

    predict = commands.add_parser("predict", help="predict the spectrum of the kernels on a mixture or data set")
    compare = commands.add_parser("compare", help="compare predicted and measured spectra, with a figure")
    for command, run in ((predict, _predict), (compare, _compare)):
        _add_network(command)
        _add_data(command)
        command.add_argument(
            "--level",
            nargs="+",
            choices=LEVELS,
            help="classwise (second order around each pair of classes), paper (first order around one point), or both "
            "(default: classwise, and paper where the activation has no mean)",
        )
        command.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
        command.set_defaults(run=run)
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--activation", default="tanh", help="name, with parameters in parentheses if any, as leaky_relu(0.1)"
    )
    group.add_argument("--sigma-a2", type=float, default=0.2, help="variance of the recurrent weights (default 0.2)")
    group.add_argument("--sigma-b2", type=float, default=0.8, help="variance of the input weights (default 0.8)")
    group.add_argument("--uncentered", action="store_true", help="leave the activation's mean in")
    group.add_argument("--kind", nargs="+", default=["ck", "ntk"], choices=KINDS, help="kernels (default ck ntk)")


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default="fashion-sample",
        help="fashion-sample and digits (in the package), mnist, fashion-mnist, cifar10, svhn, or mixture "
        "(default fashion-sample)",
    )
    group.add_argument("--classes", nargs="+", type=int, help="labels to use; for mixture, how many classes")
    group.add_argument("--n", type=int, help="samples (default 0.8 p, as far as there are)")
    group.add_argument("--p", type=int, default=2000, help="dimension of --dataset mixture (default 2000)")
    group.add_argument(
        "--covariance",
        default="common",
        choices=("full", "common", "diagonal", "scalar"),
        help="estimate of the classes' covariances (default common: the same eigenvectors for all)",
    )
    group.add_argument("--data-dir", help="folder with the data set's files")
    group.add_argument("--seed", type=int, default=0, help="of the samples drawn (default 0)")


def _network(options: argparse.Namespace) -> rmtdeq.DEQ:
    return rmtdeq.DEQ(options.activation, options.sigma_a2, options.sigma_b2, centered=not options.uncentered)


def example_mixture(p: int, classes: int) -> rmtdeq.GaussianMixture:
    """Return the papers' synthetic mixture: μ_a = 8 e_{8a}, C_a = (1 + 8a/√p) I, a = 0 … K-1."""
    import numpy as np

    if classes < 1 or p <= 8 * (classes - 1):
        raise InvalidInputError(f"A mixture of {classes} classes needs p > {8 * max(classes - 1, 0)}, not {p}.")
    means = np.zeros((classes, p))
    means[np.arange(classes), 8 * np.arange(classes)] = 8.0
    return rmtdeq.GaussianMixture(means, list(1 + 8 * np.arange(classes) / np.sqrt(p)))


def _problem(options: argparse.Namespace) -> _Problem:
    if options.dataset == "mixture":
        if options.classes is not None and len(options.classes) != 1:
            raise InvalidInputError("For --dataset mixture, --classes takes one number: how many classes.")
        mixture = example_mixture(options.p, 2 if options.classes is None else options.classes[0])
        n = int(0.8 * options.p) if options.n is None else options.n
        X, y = mixture.sample(n, options.seed)
        name = f"Gaussian mixture, K = {mixture.classes}, p = {options.p}"
        names = tuple(f"class {a}" for a in range(mixture.classes))
        return _Problem(name, X, y, mixture, n, mixture.mean_squared_norm, names)
    classes = None if options.classes is None else tuple(options.classes)
    everything, labels = rmtdeq.load_dataset(options.dataset, classes=classes, data_dir=options.data_dir)
    mixture = rmtdeq.GaussianMixture.from_data(everything, labels, covariance=options.covariance)
    n = min(int(0.8 * mixture.dimension), len(labels)) if options.n is None else options.n
    X, y = rmtdeq.load_dataset(options.dataset, classes=classes, n=n, seed=options.seed, data_dir=options.data_dir)
    shown = "" if classes is None else " " + " vs ".join(map(str, classes))
    centre = mixture.mean_squared_norm
    return _Problem(options.dataset + shown, X, y, mixture, n, centre, _class_names(options.dataset, classes))


def _class_names(dataset: str, classes: tuple[int, ...] | None) -> tuple[str, ...]:
    from rmtdeq.data.catalog import DATASETS

    meanings = DATASETS[dataset].classes
    return tuple(meanings[label] for label in (sorted(meanings) if classes is None else classes))


def _record(program: str, options: argparse.Namespace, results: Mapping[Any, Any]) -> dict[str, Any]:
    from rmtdeq.io import manifest

    arguments = {name: value for name, value in vars(options).items() if name != "run"}
    return manifest(program, arguments, results)


def _save(figure: Any, options: argparse.Namespace, record: dict[str, Any]) -> None:
    from rmtdeq.io import save_figure

    for path in save_figure(figure, options.out, record):
        print(f"wrote {path}")


def _solve(options: argparse.Namespace) -> int:
    deq = _network(options)
    found = rmtdeq.solve(deq, options.tau0_squared, kind=tuple(options.kind))
    print(f"{deq}, tau0_squared = {options.tau0_squared:g}: {found.status}, residual {found.residual:.1e}")
    print(f"  tau     {found.tau:.10g}")
    print(f"  gamma2  {found.gamma2:.10g}")
    for i, value in enumerate(found.alpha, start=1):
        print(f"  alpha{i}  {value:.10g}")
    for suffix, kappa2, beta in (("", found.kappa2, found.beta), (" (full)", found.kappa2_full, found.beta_full)):
        wanted = ("ntk-full" if suffix else "ntk") in options.kind
        if wanted and beta is not None:
            print(f"  kappa2{suffix}  {kappa2:.10g}")
            for i, value in enumerate(beta, start=1):
                print(f"  beta{i}{suffix}  {value:.10g}")
    return 0


def _levels(options: argparse.Namespace, deq: rmtdeq.DEQ, tau0_squared: float) -> tuple[str, ...]:
    """The levels asked for, best first; by default all that apply to the network."""
    if options.level is not None:
        return tuple(sorted(set(options.level), key=LEVELS.index))
    without_mean = deq.centered or abs(rmtdeq.solve(deq, tau0_squared, kind="ck").mean) < _NO_MEAN
    return LEVELS if without_mean else LEVELS[:1]


def _predict(options: argparse.Namespace) -> int:
    deq = _network(options)
    problem = _problem(options)
    predictions = [
        rmtdeq.predict_spectrum(deq, problem.mixture, problem.n, kind, level, tau0_squared=problem.tau0_squared)
        for kind in options.kind
        for level in _levels(options, deq, problem.tau0_squared)
    ]
    for prediction in predictions:
        print(prediction.summary())
    if options.out:
        from rmtdeq.plots import prediction_figure

        results = {
            f"{p.kind}, {p.level}": {"edges": p.edges, "outliers": p.outliers, "alignments": p.alignments}
            for p in predictions
        }
        _save(prediction_figure(predictions, problem.name), options, _record("predict", options, results))
    return 0


def _compare(options: argparse.Namespace) -> int:
    deq = _network(options)
    problem = _problem(options)
    comparisons = []
    for kind in options.kind:
        measured = rmtdeq.empirical_spectrum(problem.X, deq, kind, tau0_squared=problem.tau0_squared)
        for level in _levels(options, deq, problem.tau0_squared):
            prediction = rmtdeq.predict_spectrum(
                deq, problem.mixture, problem.n, kind, level, tau0_squared=problem.tau0_squared
            )
            comparisons.append(rmtdeq.compare(measured, prediction, problem.y))
            print(comparisons[-1].summary(), flush=True)
    if options.out:
        from rmtdeq.plots import comparison_figure

        results = {
            f"{c.prediction.kind}, {c.prediction.level}": {
                "ks": c.ks,
                "wasserstein": c.wasserstein,
                "predicted_outliers": c.prediction.outliers,
                "measured_outliers": c.matched,
                "predicted_alignments": c.prediction.alignments,
                "measured_alignments": c.alignments,
            }
            for c in comparisons
        }
        title = f"{problem.name}, n = {problem.n}: {deq.activation!r} DEQ, $\\sigma_a^2$ = {deq.sigma_a2:g}"
        _save(comparison_figure(comparisons, title, problem.class_names), options, _record("compare", options, results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
