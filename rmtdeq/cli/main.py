"""The command line: one parser, and one line for everything that goes wrong."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import rmtdeq
from rmtdeq._lib.check import suggestion
from rmtdeq.cli import designs, diagnoses, explanations, jobs, learning, reproduce, spectra, training
from rmtdeq.cli.guard import FAILED, guarded, tell_line
from rmtdeq.cli.outputs import require_outputs


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line, and ends its help with examples as they can be typed."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def format_help(self) -> str:
        return "\n  ".join([f"{super().format_help()}\nexamples:", *self.examples]) + "\n"

    def error(self, message: str) -> NoReturn:
        tell_line(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(FAILED)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(action, f"{error.message}{suggestion(value, action.choices or ())}") from None


class _Command(_Parser):
    """A command's parser, which refuses unknown options itself: the main parser would point to its own help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            hints = (suggestion(each.partition("=")[0], self._option_string_actions) for each in unknown)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{next(filter(None, hints), '')}")
        return options, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""

    def call() -> int:
        given = training.current(sys.argv[1:] if arguments is None else arguments)
        options = _parser().parse_args(given)
        options.command = shlex.join(["rmtdeq", *given])
        if options.run is None:
            return jobs.resume(options.folder, main)
        require_outputs(options)
        with jobs.remembered(options, given):
            return int(options.run(options))

    return guarded(call)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rmtdeq",
        description="Spectra of the kernels of deep equilibrium models, and their training.",
        examples=["rmtdeq compare --dataset mixture --p 800 --activation relu --out figures/mixture"],
    )
    parser.add_argument("--version", action="version", version=f"rmtdeq {rmtdeq.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for module in (spectra, designs, diagnoses, learning, explanations, training, reproduce, jobs):
        module.add_commands(commands)
    return parser
