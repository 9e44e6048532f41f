"""The command line: one parser, and one line for everything that goes wrong."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import rmtdeq
from rmtdeq._errors import RmtdeqError
from rmtdeq.cli import designs, jobs, reproduce, spectra, training
from rmtdeq.cli.outputs import require_outputs

_FAILED = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(_FAILED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    options.command = shlex.join(["rmtdeq", *given])

    def call() -> int:
        if options.run is None:
            return jobs.resume(options.folder, main)
        require_outputs(options)
        with jobs.remembered(options, given):
            return int(options.run(options))

    return guarded(call)


def guarded(call: Callable[[], int]) -> int:
    """Return the exit code of a program; what goes wrong is told in one line."""
    # What the package says about its choices (where a matrix is kept, in which precision) is for the user to read.
    logging.basicConfig(format="rmtdeq: %(message)s")
    logging.getLogger("rmtdeq").setLevel(logging.INFO)
    try:
        return call()
    except RmtdeqError as error:
        print(f"rmtdeq: {' '.join(str(error).split())}", file=sys.stderr)
        return _FAILED
    except OSError as error:
        print(f"rmtdeq: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        print(f"rmtdeq: interrupted; no file was left half written. {notes}".rstrip(), file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rmtdeq", description="Spectra of the kernels of deep equilibrium models, and their training."
    )
    parser.add_argument("--version", action="version", version=f"rmtdeq {rmtdeq.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for module in (spectra, designs, training, reproduce, jobs):
        module.add_commands(commands)
    return parser
