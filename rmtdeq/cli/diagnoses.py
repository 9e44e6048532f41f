"""Command: diagnose."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import rmtdeq
from rmtdeq._lib import check
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import RECURRENT
from rmtdeq.cli.options import add_data, add_network, add_report, network_of, problem_of, record_of, save, save_report
from rmtdeq.data.problems import Problem
from rmtdeq.stability import Diagnosis

_MEASURED = 8
"""Samples that networks of finite width are run on."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    diagnose = commands.add_parser(
        "diagnose",
        help="say whether and in how many steps the forward solve converges, and up to which sigma_a2",
        examples=[
            "rmtdeq diagnose --activation tanh --sigma-a2 1.5 --squared-norms 0.5 1 2",
            "rmtdeq diagnose --dataset fashion-sample --width 1000 --out figures/diagnosis",
        ],
    )
    add_network(diagnose)
    add_data(diagnose, default=None)
    diagnose.add_argument("--squared-norms", nargs="+", type=float, help="of the samples, instead of data (default: 1)")
    diagnose.add_argument(
        "--recurrent", default="gaussian", choices=RECURRENT, help="law of the recurrent weights (default gaussian)"
    )
    diagnose.add_argument("--tolerance", type=float, help="print the steps to this relative change as well")
    diagnose.add_argument(
        "--width", type=int, help=f"run a network of this width beside it, on {_MEASURED} samples of the data"
    )
    diagnose.add_argument("--out", help="figure to write (.png by default, .pdf, .svg), and its manifest")
    add_report(diagnose)
    diagnose.set_defaults(run=_diagnose)


def _diagnose(options: argparse.Namespace) -> int:
    deq = network_of(options)
    problem = _problem(options)
    if options.tolerance is not None:
        check.number(options.tolerance, "--tolerance", low=0, open_low=True)
    samples = problem.X if problem else options.squared_norms or [1.0]
    tau0_squared = problem.tau0_squared if problem else None
    with Stage("following the iteration"):
        found: list[Diagnosis] = [rmtdeq.diagnose(deq, samples, tau0_squared=tau0_squared, recurrent=options.recurrent)]
    if problem and options.width is not None:
        with Stage("running a network"):
            found.append(_measured(deq, problem, options))
    for each in found:
        print(each.summary())
        if options.width is not None and isinstance(each, rmtdeq.ForetoldDiagnosis):
            radius, smallest = each.spectral_radius_at(options.width), each.smallest_singular_value_at(options.width)
            print(
                f"  at width {options.width}: spectral radius {radius.max():.4g} at most, smallest singular value "
                f"{smallest.min():.4g} at least; {each.verdict(options.width)}"
            )
        if options.tolerance is not None:
            steps = each.iterations(options.tolerance)
            print(f"  steps to a relative change of {options.tolerance:g}: {steps.min()} to {steps.max()}")
            if options.width is not None and isinstance(each, rmtdeq.ForetoldDiagnosis):
                mean, scatter = (
                    count(options.tolerance, options.width).max()
                    for count in (each.iterations_at, each.iterations_scatter_at)
                )
                print(f"  at width {options.width} {mean:.1f} at most, in single networks ± {scatter:.1f}")
    title = f"{problem.name}, {deq!r}" if problem else repr(deq)
    if options.out or options.report:
        from rmtdeq.output.figures import diagnosis_figure

        figure = diagnosis_figure(found, title)
        if options.out:
            save(figure, options, record_of("diagnose", options, _numbers(found)))
        if options.report:
            sections = [rmtdeq.Section("Forward solve", [found[0].summary(), figure])]
            sections += [rmtdeq.Section("By squared norm", [each.table() for each in found])]
            save_report(title, sections, options, problem)
    return 0


def _problem(options: argparse.Namespace) -> Problem | None:
    if options.dataset is None and options.data is None:
        if options.width is not None:
            raise rmtdeq.InvalidInputError("--width runs a network on samples: name them with --dataset or --data.")
        return None
    if options.squared_norms is not None:
        raise rmtdeq.InvalidInputError("--squared-norms stand for data: leave out --dataset and --data.")
    return problem_of(options)


def _measured(deq: rmtdeq.DEQ, problem: Problem, options: argparse.Namespace) -> rmtdeq.MeasuredDiagnosis:
    network = deq.to_torch(
        problem.X.shape[1],
        options.width,
        options.seed,
        tau0_squared=problem.tau0_squared,
        recurrent=options.recurrent,
    )
    return rmtdeq.diagnose(network.double(), problem.X[:: max(1, problem.n // _MEASURED)][:_MEASURED])


def _numbers(found: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return what a manifest keeps."""
    foretold = found[0]
    assert isinstance(foretold, rmtdeq.ForetoldDiagnosis)
    numbers: dict[str, Any] = {
        "limit": foretold.limit,
        "limit of the kernel": foretold.limits.kernel,
        "verdict": foretold.verdict(),
    }
    for name, each in zip(("foretold", "measured"), found, strict=False):
        numbers[name] = {
            "squared norms": each.squared_norms,
            "rate": each.rate,
            "spectral radius": each.spectral_radius,
            "smallest singular value": each.smallest_singular_value,
            "condition number": each.condition_number,
            "steps": {f"{at:.0e}": each.iterations(at) for at in each.tolerances} if each.converges.all() else None,
        }
    return numbers
