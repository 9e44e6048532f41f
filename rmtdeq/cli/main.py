"""The command line: one parser, and one line for everything that goes wrong."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import rmtdeq
from rmtdeq._check import suggestion
from rmtdeq._errors import RmtdeqError
from rmtdeq._threads import wait_patiently
from rmtdeq.cli import designs, jobs, reproduce, spectra, training
from rmtdeq.cli.outputs import require_outputs

_FAILED = 2
_INTERRUPTED = 130
_NO_READER = 141
"""As shells report a program that writes to a pipe which nobody reads any more."""


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line."""

    def error(self, message: str) -> NoReturn:
        _tell(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(_FAILED)

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
    given = list(sys.argv[1:] if arguments is None else arguments)

    def call() -> int:
        options = _parser().parse_args(given)
        options.command = shlex.join(["rmtdeq", *given])
        if options.run is None:
            return jobs.resume(options.folder, main)
        require_outputs(options)
        with jobs.remembered(options, given):
            return int(options.run(options))

    return guarded(call)


def guarded(call: Callable[[], int]) -> int:
    """Return the exit code of a program; what goes wrong is told in one line."""
    wait_patiently()
    # What the package says about its choices (where a matrix is kept, in which precision) is for the user to read.
    logging.basicConfig(format="rmtdeq: %(message)s")
    logging.getLogger("rmtdeq").setLevel(logging.INFO)
    try:
        try:
            with _warnings_in_one_line():
                return _told(call)
        finally:
            # A reader that has gone is found missing here, and not by the interpreter in the end.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still to be written goes nowhere, without complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER


def _tell(line: str) -> None:
    """Write a line on standard error, which services do not have: `print` would write it on standard output then."""
    if sys.stderr is not None:
        print(line, file=sys.stderr)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Tell each warning once, without the place in the code, which is no command's."""
    told = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            _tell(f"rmtdeq: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def _told(call: Callable[[], int]) -> int:
    """Return the exit code of a program, its exceptions told on standard error."""
    try:
        return call()
    except BrokenPipeError:
        raise
    except RmtdeqError as error:
        _tell(f"rmtdeq: {' '.join(str(error).split())}")
        return _FAILED
    except OSError as error:
        _tell(f"rmtdeq: {error}")
        return _FAILED
    except KeyboardInterrupt as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        _tell(f"rmtdeq: interrupted; no file was left half written. {notes}".rstrip())
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rmtdeq", description="Spectra of the kernels of deep equilibrium models, and their training."
    )
    parser.add_argument("--version", action="version", version=f"rmtdeq {rmtdeq.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for module in (spectra, designs, training, reproduce, jobs):
        module.add_commands(commands)
    return parser
