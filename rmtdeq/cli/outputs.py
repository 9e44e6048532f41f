"""The files that a command writes: refused at once where they could not be written in the end."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import file_path, require_writable


def require_outputs(options: argparse.Namespace) -> None:
    """Raise unless every file of a command's options can be written, each to a place of its own.

    Raises
    ------
    InvalidInputError
    """
    taken: dict[str, str] = {}
    for option, path, what in _files(options):
        require_writable(path, option)
        place = os.path.realpath(path)
        if place in taken:
            raise InvalidInputError(
                f"{path}, {what}, would be overwritten by {taken[place]}; give one of them another name."
            )
        taken[place] = what


def _files(options: argparse.Namespace) -> list[tuple[str, str | Path, str]]:
    """The option, the path and the name of every file."""
    found: list[tuple[str, str | Path, str]] = []
    out, save, report = (getattr(options, name, None) for name in ("out", "save", "report"))
    if out is not None:
        from rmtdeq.output.files import figure_path, manifest_path

        figure = figure_path(file_path(out, "--out"))
        found += [("--out", figure, "the figure of --out"), ("--out", manifest_path(out), "the manifest of --out")]
    if save is not None:
        found.append(("--save", save, "the file of --save"))
    if report is not None:
        from rmtdeq.output.report.document import report_path

        found.append(("--report", report_path(file_path(report, "--report")), "the file of --report"))
    return found
