"""Commands: solve, predict, compare."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rmtdeq
from rmtdeq._lib.progress import Stage, duration, patience
from rmtdeq._lib.tables import Tabular, without_rounding
from rmtdeq._lib.types import AUTO, KINDS, LEVELS, SAMPLED, FloatArray
from rmtdeq.cli.guard import tell_line
from rmtdeq.cli.options import (
    add_data,
    add_network,
    add_report,
    network_of,
    problem_of,
    record_of,
    save,
    save_report,
)
from rmtdeq.data.problems import Problem
from rmtdeq.kernels import kernel_diagonal
from rmtdeq.kernels.computation import BACKENDS
from rmtdeq.output.files import save_figure
from rmtdeq.output.numbers import (
    arrays_path,
    comparison_arrays,
    comparison_record,
    prediction_arrays,
    prediction_record,
    save_arrays,
)
from rmtdeq.spectra.overview import LINES, overview
from rmtdeq.spectra.verdict import Trust
from rmtdeq.theory.coefficients import coefficient_scales
from rmtdeq.theory.expansion import require_without_mean

_LEVELS = (SAMPLED, *LEVELS)
"""The best first."""

_PATIENCE = 300.0
"""Seconds that a comparison may take without --yes."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the parser's."""
    solve = commands.add_parser(
        "solve",
        help="solve the four equations of a network",
        examples=["rmtdeq solve --activation relu --sigma-a2 0.2 --tau0-squared 1"],
    )
    add_network(solve)
    _add_kinds(solve)
    solve.add_argument("--tau0-squared", type=float, default=1.0, help="mean squared norm of the inputs (default 1)")
    solve.set_defaults(run=_solve)

    predict = commands.add_parser(
        "predict",
        help="predict the spectrum of the kernels on a mixture or data set",
        examples=["rmtdeq predict --dataset mixture --classes 3 --p 2000 --kind ntk --out figures/predicted"],
    )
    compare = commands.add_parser(
        "compare",
        help="compare predicted and measured spectra, with a figure",
        examples=[
            "rmtdeq compare --dataset mixture --p 800 --activation relu --out figures/mixture",
            "rmtdeq compare --data table.csv --label-column kind --standardize --save spectrum.npz",
        ],
    )
    for command, run in ((predict, _predict), (compare, _compare)):
        add_network(command)
        _add_kinds(command)
        add_data(command)
        command.add_argument(
            "--level",
            nargs="+",
            default=[AUTO],
            choices=(AUTO, *_LEVELS),
            help="classwise (from a mixture, second order around each pair of classes), paper (first order around one "
            "point), polynomial (from samples that are not measured), or several of them (default auto: polynomial "
            "where samples are left unmeasured; of a mixture classwise as far as that holds)",
        )
        command.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
        command.add_argument("--save", help="file for all numbers as arrays, .npz; the documentation names them")
        add_report(command)
        command.set_defaults(run=run)

    compare.add_argument("--verbose", action="store_true", help="print outliers, alignments and warnings as well")
    compare.add_argument(
        "--yes",
        action="store_true",
        help=f"begin even what takes more than {duration(_PATIENCE)} (--checkpoint does so, too)",
    )
    group = compare.add_argument_group("measurement")
    group.add_argument(
        "--method",
        default="exact",
        choices=("exact", "lanczos", "slq"),
        help="all eigenvalues (exact, up to some ten thousand samples); the largest (lanczos); the largest and the "
        "density with error bars (slq) (default exact)",
    )
    group.add_argument("--top", type=int, help="largest eigenvalues to compute with lanczos and slq (default 20)")
    group.add_argument("--steps", type=int, help="products for the density of slq (default 64)")
    group.add_argument(
        "--checkpoint",
        help="folder that keeps the matrix and every step of lanczos and slq: the same command goes on where it was "
        "interrupted (4 n² bytes for each kernel)",
    )
    group.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help="engine of the kernels (default auto: numba on the CPU, triton or torch on a GPU)",
    )
    group.add_argument("--device", help="where torch and triton compute, as cuda or cuda:1 (default the CPU)")
    group.add_argument(
        "--scheduler", help="address of a Dask scheduler, tcp://HOST:8786, for --backend dask (default a local cluster)"
    )


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", nargs="+", default=["ck", "ntk"], choices=KINDS, help="kernels (default ck ntk)")


def _solve(options: argparse.Namespace) -> int:
    deq = network_of(options)
    found = rmtdeq.solve(deq, options.tau0_squared, kind=tuple(options.kind))
    print(f"{deq}, tau0_squared = {options.tau0_squared:g}: {found.status}, residual {found.residual:.1e}")
    print(f"  tau     {found.tau:.10g}")
    print(f"  gamma2  {found.gamma2:.10g}")
    for i, value in enumerate(_shown(found, found.alpha, found.gamma2), start=1):
        print(f"  alpha{i}  {value:.10g}")
    for suffix, kappa2, beta in (("", found.kappa2, found.beta), (" (full)", found.kappa2_full, found.beta_full)):
        wanted = ("ntk-full" if suffix else "ntk") in options.kind
        if wanted and beta is not None and kappa2 is not None:
            print(f"  kappa2{suffix}  {kappa2:.10g}")
            for i, value in enumerate(_shown(found, beta, kappa2), start=1):
                print(f"  beta{i}{suffix}  {value:.10g}")
    return 0


def _shown(found: rmtdeq.Coefficients, slopes: FloatArray, diagonal: float) -> list[float]:
    """Coefficients with 0 for those that are nothing but rounding."""
    scales = coefficient_scales(diagonal, found.tau0_squared)
    sizes = (scales.linear, scales.norm, scales.pair)
    return [*(float(without_rounding(each, size)) for each, size in zip(slopes[:3], sizes, strict=True)), *slopes[3:]]


def _predictions(
    options: argparse.Namespace, deq: rmtdeq.DEQ, problem: Problem, measured: bool
) -> list[rmtdeq.SpectrumPrediction]:
    """Of every kind and level, the levels of a kind together; what is measured is predicted from other samples."""
    kinds, common = tuple(options.kind), {"tau0_squared": problem.tau0_squared}
    levels = set(options.level)
    if AUTO in levels and (problem.spares if measured else problem.population):
        levels = levels - {AUTO} | {SAMPLED}
    if "paper" in levels:
        # Before a mixture is estimated, which takes its time.
        require_without_mean(deq, problem.tau0_squared)
    of_mixture = levels - {SAMPLED}
    known: dict[str, Any] = dict.fromkeys(of_mixture, problem.mixture) if of_mixture else {}
    if AUTO in levels and problem.population:
        tell_line(
            "rmtdeq: too few samples are left unmeasured; predicting from a Gaussian mixture estimated from all, the "
            "measured ones among them"
        )
    if SAMPLED in levels:
        known[SAMPLED] = moments = problem.moments(options.seed, whole=not measured)
        others = f" other than the {problem.n} measured" if measured else ""
        tell_line(f"rmtdeq: predicting from {moments.count} samples{others}")
    found: dict[str, Sequence[rmtdeq.SpectrumPrediction]] = {}
    for level, data in known.items():
        predictions = rmtdeq.predict_spectrum(deq, data, problem.n, kinds, level, **common)
        found[predictions[0].level] = predictions
    ordered = sorted(found, key=_LEVELS.index)
    return [prediction for of_kind in zip(*(found[level] for level in ordered), strict=True) for prediction in of_kind]


def _predict(options: argparse.Namespace) -> int:
    arrays = arrays_path(options.save)
    deq = network_of(options)
    problem = problem_of(options)
    predictions = _predictions(options, deq, problem, measured=False)
    print(problem.legend, end="")
    for prediction in predictions:
        print(prediction.summary())
    if arrays is not None:
        print(f"wrote {save_arrays(arrays, prediction_arrays(predictions, problem.class_names))}")
    if not (options.out or options.report):
        return 0
    from rmtdeq.output.figures import prediction_figure

    figure = prediction_figure(predictions, _title(problem, deq))
    if options.out:
        save(figure, options, record_of("predict", options, prediction_record(predictions, problem.class_names)))
    if options.report:
        _save_report("predicted spectra", [figure], predictions, deq, problem, options)
    return 0


def _title(problem: Problem, deq: rmtdeq.DEQ) -> str:
    # Those that have names of their own and are not named yet, as far as there is room.
    told = " against ".join(problem.class_names) in problem.name
    shown = problem.legend and not told and len(problem.class_names) < 5
    against = f", {' against '.join(problem.class_names)}" if shown else ""
    variances = f"$\\sigma_a^2$ = {deq.sigma_a2:g}, $\\sigma_b^2$ = {deq.sigma_b2:g}"
    return f"{problem.name}{against}, n = {problem.n}: {deq.activation!r} DEQ, {variances}"


def _save_report(
    title: str,
    shown: Sequence[Any],
    results: Sequence[Tabular],
    deq: rmtdeq.DEQ,
    problem: Problem,
    options: argparse.Namespace,
) -> None:
    found = rmtdeq.solve(deq, problem.tau0_squared, kind=tuple(options.kind))
    sections = [
        rmtdeq.Section("Spectra", [f"{deq}, n = {problem.n}, p = {problem.X.shape[1]}", *shown]),
        rmtdeq.Section("Outliers", [result.table().with_classes(problem.class_names) for result in results]),
        rmtdeq.Section("Coefficients", ["The solution of the model's equations.", found.table()]),
    ]
    save_report(f"{problem.name}: {title}", sections, options, problem)


def _measured(options: argparse.Namespace, deq: rmtdeq.DEQ, problem: Problem) -> tuple[rmtdeq.EmpiricalSpectrum, ...]:
    common = {"tau0_squared": problem.tau0_squared, "backend": options.backend, "device": options.device}
    kinds = tuple(options.kind)
    if options.method == "exact":
        if options.checkpoint is not None or options.top is not None:
            raise rmtdeq.InvalidInputError("--checkpoint and --top are for --method lanczos and slq.")
        if options.steps is not None:
            raise rmtdeq.InvalidInputError("--steps is for --method slq.")
        return rmtdeq.empirical_spectrum(problem.X, deq, kinds, **common)
    return rmtdeq.empirical_spectrum(
        problem.X,
        deq,
        kinds,
        method=options.method,
        top=min(problem.n, 20) if options.top is None else options.top,
        steps=options.steps,
        checkpoint=options.checkpoint,
        **common,
    )


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[None]:
    """Use the scheduler of the options, if there is one."""
    if options.scheduler is None:
        yield
        return
    if options.backend != "dask":
        raise rmtdeq.InvalidInputError("--scheduler is for --backend dask.")
    from rmtdeq._lib.cluster import connected

    with connected(options.scheduler):
        yield


def _compare(options: argparse.Namespace) -> int:
    # What a folder keeps may take its time.
    willing = options.yes or options.checkpoint is not None
    with _cluster(options), patience(math.inf if willing else _PATIENCE):
        return _compare_here(options)


def _compare_here(options: argparse.Namespace) -> int:
    arrays = arrays_path(options.save)
    deq = network_of(options)
    problem = problem_of(options, spared=0.5 if {AUTO, SAMPLED} & set(options.level) else 0.0)
    # A kernel that is infinite on these data is refused before another takes its time.
    kernel_diagonal(problem.X, deq, tuple(options.kind), tau0_squared=problem.tau0_squared)
    predictions = _predictions(options, deq, problem, measured=True)
    measured = {spectrum.kind: spectrum for spectrum in _measured(options, deq, problem)}
    comparisons = [rmtdeq.compare(measured[each.kind], each, problem.y) for each in predictions]
    print(overview(comparisons, problem.name, problem.class_names, LINES - 1), flush=True)
    best = comparisons[0]
    if problem.population and best.prediction.level != SAMPLED and best.verdict.trust != Trust.ALL:
        tell_line(f"rmtdeq: on data of few directions --level {SAMPLED} predicts better, from samples left unmeasured")
    if options.verbose:
        print("", problem.legend, *(comparison.details() for comparison in comparisons), sep="\n")
    written = []
    if arrays is not None:
        written.append(save_arrays(arrays, comparison_arrays(comparisons, problem.class_names)))
    if options.out or options.report:
        from rmtdeq.output.figures import comparison_figure

        figure = comparison_figure(comparisons, _title(problem, deq), problem.class_names)
        if options.out:
            results = comparison_record(comparisons, problem.class_names)
            with Stage("drawing the figure"):
                written += save_figure(figure, options.out, record_of("compare", options, results))
    if written:
        print(f"wrote {', '.join(map(str, written))}")
    if options.report:
        told = overview(comparisons, problem.name, problem.class_names).splitlines()[: 1 + len(options.kind)]
        _save_report("predicted and measured spectra", [*told, figure], comparisons, deq, problem, options)
    return 0
