"""Command: reproduce; and the programs of single experiments."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmtdeq._lib.progress import duration
from rmtdeq.cli.settings import with_settings

if TYPE_CHECKING:
    from rmtdeq.papers import Experiment, Report, Setting

logger = logging.getLogger(__name__)

OUT = "figures/reproduce"
_FAILED = 2


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    reproduce = commands.add_parser(
        "reproduce",
        help="make the papers' figures and tables again, each number beside the paper's",
        description="Each experiment writes DIR/NAME.png, its curves in DIR/NAME.csv, and its numbers beside the "
        "paper's, arguments, seed and versions in DIR/NAME.json (with --full NAME-full), and prints the numbers.",
        epilog="example: rmtdeq reproduce spectra-mixture --set p=4000 --set activations=tanh --folder scratch",
    )
    reproduce.add_argument("names", nargs="+", metavar="NAME", help="list, all, or names of experiments")
    reproduce.add_argument("--full", action="store_true", help="the papers' sizes (default: minutes on two cores)")
    reproduce.add_argument(
        "--set",
        dest="settings",
        metavar="PARAMETER=VALUE",
        action="append",
        default=[],
        help="another value of a parameter, as p=4000, activations=tanh,relu or centered=false; a wrong name shows the "
        "right ones with their values; may be repeated (files are then called NAME-set)",
    )
    reproduce.add_argument("--folder", metavar="DIR", default=OUT, help=f"for the files (default {OUT})")
    reproduce.add_argument("--out", dest="old_folder", metavar="DIR", help="former name of --folder")
    _add_setting(reproduce)
    reproduce.set_defaults(run=_reproduce)


def _add_setting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of samples, weights and batches (default 0)")
    parser.add_argument("--data-dir", help="folder with the data sets' files")
    parser.add_argument("--checkpoint", help="folder from which the same command goes on if it was interrupted")
    parser.add_argument("--device", default="cpu", help="of torch (default cpu)")


def _setting(options: argparse.Namespace) -> Setting:
    from rmtdeq._lib import check
    from rmtdeq.papers import Setting

    if options.device != "cpu":
        from rmtdeq.kernels.computation import engine

        # A device that is not there is told once, before anything is computed.
        engine(None, backend="torch", device=options.device)
    return Setting(
        check.integer(options.seed, "--seed", low=0),
        None if options.data_dir is None else Path(options.data_dir),
        None if options.checkpoint is None else Path(options.checkpoint),
        options.device,
    )


def _reproduce(options: argparse.Namespace) -> int:
    from rmtdeq._lib.files import require_writable
    from rmtdeq.papers import EXPERIMENTS, reports_table, run_all

    if "list" in options.names:
        print(_listed())
        return 0
    if options.old_folder is not None:
        logger.warning("--out of reproduce is now --folder; the old spelling goes with the next release.")
        options.folder = options.old_folder
    chosen = [_set(each, options.full, options.settings) for each in _chosen(options.names, options.full)]
    setting, out = _setting(options), Path(options.folder)
    require_writable(out / "figure", "--folder")
    reports = []
    runs = run_all(chosen, options.full, setting, out, "-set" if options.settings else "")
    for i, experiment in enumerate(chosen, start=1):
        print(f"[{i}/{len(chosen)}] {experiment.name}: {experiment.title} ({experiment.source})", flush=True)
        reports.append(next(runs))
        _show(reports[-1])
    if len(reports) > 1:
        print(reports_table(reports))
    left_out = sorted(EXPERIMENTS.keys() - {each.name for each in chosen}, key=[*EXPERIMENTS].index)
    if left_out and "all" in options.names:
        print(f"(by name, or with --full: {', '.join(left_out)})")
    return _code(reports, named="all" not in options.names)


def _chosen(names: Sequence[str], full: bool) -> list[Experiment]:
    from rmtdeq.papers import EXPERIMENTS, find

    wanted: list[Experiment] = []
    for name in names:
        wanted += [each for each in EXPERIMENTS.values() if full or not each.alone] if name == "all" else [find(name)]
    return list(dict.fromkeys(wanted))


def _set(experiment: Experiment, full: bool, settings: Sequence[str]) -> Experiment:
    """Return an experiment with some parameters of one size set."""
    parameters = with_settings(experiment.parameters(full), settings, experiment.name)
    return replace(experiment, full=parameters) if full else replace(experiment, small=parameters)


def _listed() -> str:
    from rmtdeq.papers import EXPERIMENTS

    width = max(map(len, EXPERIMENTS))
    lines = []
    for each in EXPERIMENTS.values():
        takes = "" if each.seconds is None else f"; {duration(each.seconds)}"
        lines.append(f"{each.name:<{width}}  {each.title}")
        lines.append(f"{'':<{width}}  {each.source}{'; not part of all without --full' if each.alone else takes}")
    lines.append("(times of the small sizes, measured on two cores with nothing else to do; beside others, longer)")
    return "\n".join(lines)


def _show(report: Report) -> None:
    from rmtdeq.papers import Status

    if report.outcome is not None:
        print(report.outcome.table())
    for path in report.files:
        print(f"wrote {path}")
    if report.status is not Status.DONE:
        print(f"{report.status}: {' '.join(report.message.split())}", flush=True)


def _code(reports: Sequence[Report], named: bool = True) -> int:
    """Return the exit code; without data an experiment that was asked for by name has failed."""
    from rmtdeq.papers import Status

    bad = {Status.FAILED, Status.NO_DATA} if named else {Status.FAILED}
    return _FAILED if any(report.status in bad for report in reports) else 0


def program(name: str, out: str, description: str | None, arguments: Sequence[str] | None = None, **start: Any) -> int:
    """Run one experiment as a program of its own, with an option for each of its parameters.

    Parameters
    ----------
    name : str
        Of the experiment, whose full parameters are the defaults.
    out : str
        Default of the option ``--out``: the figure to write.
    description : str or None
    arguments : sequence of str, optional
        Of the command line.
    **start
        Defaults of parameters that differ from the full ones.

    Returns
    -------
    int
        The exit code.
    """
    from rmtdeq.cli.guard import guarded
    from rmtdeq.papers import find, run

    experiment = find(name)
    full = replace(experiment.full, **start)
    parser = argparse.ArgumentParser(
        description=description, epilog=type(full).__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in fields(full):
        _add_parameter(parser, field.name, getattr(full, field.name))
    parser.add_argument("--out", default=out, help=f"figure to write (default {out})")
    _add_setting(parser)
    options = parser.parse_args(arguments)

    def call() -> int:
        from rmtdeq.cli.outputs import require_outputs
        from rmtdeq.output.files import figure_path

        require_outputs(options)
        given = {field.name: _as(getattr(full, field.name), getattr(options, field.name)) for field in fields(full)}
        path = figure_path(options.out)
        report = run(experiment, replace(full, **given), _setting(options), path, name)
        _show(report)
        return _code([report])

    return guarded(call)


def _add_parameter(parser: argparse.ArgumentParser, name: str, value: Any) -> None:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=value)
        return
    several = isinstance(value, tuple)
    kind = type(value[0]) if several and value else int if several else type(value)
    shown = " ".join(map(str, value)) if several else value
    parser.add_argument(option, type=kind, nargs="*" if several else None, default=value, help=f"(default {shown})")


def _as(default: Any, given: Any) -> Any:
    return tuple(given) if isinstance(default, tuple) else given
