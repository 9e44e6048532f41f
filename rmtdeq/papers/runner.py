"""Running experiments one after the other, and writing what they come to."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from rmtdeq._lib.errors import DataNotFoundError, RmtdeqError
from rmtdeq._lib.files import write_text
from rmtdeq.output.files import manifest, save_figure
from rmtdeq.papers.experiments import Experiment
from rmtdeq.papers.outcome import Outcome, shown
from rmtdeq.papers.setting import Setting

logger = logging.getLogger(__name__)


class Status(StrEnum):
    """How an experiment ended."""

    DONE = "done"
    NO_DATA = "no data"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Report:
    """An experiment that was run.

    Attributes
    ----------
    name : str
    status : Status
    seconds : float
    outcome : Outcome or None
    files : tuple of Path
    message : str
        What was missing, or went wrong.
    """

    name: str
    status: Status
    seconds: float
    outcome: Outcome | None = None
    files: tuple[Path, ...] = ()
    message: str = ""


def run(
    experiment: Experiment, parameters: Any, setting: Setting, out: Path, name: str, extra: dict[str, Any] | None = None
) -> Report:
    """Run an experiment and write figure, curves (CSV) and manifest (JSON).

    Parameters
    ----------
    experiment : Experiment
    parameters : dataclass
        Of the experiment's kind.
    setting : Setting
    out : Path
        Of the files, without a suffix.
    name : str
        For the manifest: the program.
    extra : dict, optional
        What else the manifest says of the arguments.

    Returns
    -------
    Report
        Also of what was missing or went wrong; only interruptions are raised.
    """
    start = time.perf_counter()
    try:
        outcome = experiment.function(parameters, setting)
        arguments = {
            "experiment": experiment.name,
            "source": experiment.source,
            **asdict(parameters),
            **{key: None if value is None else str(value) for key, value in asdict(setting).items() if key != "seed"},
            "seed": setting.seed,
            **(extra or {}),
        }
        seconds = time.perf_counter() - start
        record = manifest(name, arguments, {"rows": outcome.record(), "seconds": seconds, **outcome.details})
        figure, beside = save_figure(outcome.plot(), out, record)
        table = beside.with_suffix(".csv")
        write_text(table, outcome.csv())
    except DataNotFoundError as error:
        return Report(experiment.name, Status.NO_DATA, time.perf_counter() - start, message=str(error))
    except Exception as error:  # one experiment's failure is not the end of the others
        logger.debug("%s failed", experiment.name, exc_info=True)
        kind = "" if isinstance(error, RmtdeqError) else f"{type(error).__name__}: "
        return Report(experiment.name, Status.FAILED, time.perf_counter() - start, message=f"{kind}{error}")
    return Report(experiment.name, Status.DONE, seconds, outcome, (figure, table, beside))


def run_all(
    experiments: Sequence[Experiment], full: bool, setting: Setting, out: Path, ending: str = ""
) -> Iterator[Report]:
    """Run experiments of one size, each from its own folder of the checkpoint, and yield their reports.

    The names of files and folders are those of the experiments, with ``-full`` for the full size and an ending.
    """
    for experiment in experiments:
        stem = f"{experiment.name}{'-full' if full else ''}{ending}"
        own = replace(setting, checkpoint=setting.folder(stem))
        try:
            yield run(experiment, experiment.parameters(full), own, out / stem, "reproduce", {"full": full})
        except KeyboardInterrupt as error:
            error.add_note(f"Experiments before {experiment.name} are in {out}.")
            raise


def reports_table(reports: Sequence[Report]) -> str:
    """Return name, status, seconds and worst difference of each experiment."""
    cells = [("experiment", "status", "seconds", "worst difference")]
    for report in reports:
        worst = None if report.outcome is None else report.outcome.worst
        text = report.message.partition("\n")[0]
        if report.status is Status.DONE:
            text = "-" if worst is None else f"{shown(worst.relative or 0.0)}  {worst.quantity}"
        cells.append((report.name, str(report.status), f"{report.seconds:.0f}", text))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {status:<{widths[1]}}  {seconds:>{widths[2]}}  {text}".rstrip()
        for name, status, seconds, text in cells
    )
