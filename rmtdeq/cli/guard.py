"""What surrounds every program: messages in one line, exit codes, threads that wait in patience."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rmtdeq._lib.errors import RmtdeqError
from rmtdeq._lib.progress import clear_line, told_in_log
from rmtdeq._lib.threads import wait_patiently

FAILED = 2
_INTERRUPTED = 130
_NO_READER = 141
"""As shells report a program that writes to a pipe which nobody reads any more."""


def guarded(call: Callable[[], int]) -> int:
    """Return the exit code of a program; what goes wrong is told in one line."""
    wait_patiently()
    # What the package says about its choices (where a matrix is kept, in which precision) is for the user to read.
    logging.basicConfig(format="rmtdeq: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(clear_line)
    logging.getLogger("rmtdeq").setLevel(logging.INFO)
    try:
        try:
            with _warnings_in_one_line(), told_in_log():
                return _told(call)
        finally:
            # A reader that has gone is found missing here, and not by the interpreter in the end.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still to be written goes nowhere, without complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER


def tell_line(line: str) -> None:
    """Write a line on standard error, which services do not have: `print` would write it on standard output then."""
    if sys.stderr is not None:
        clear_line()
        print(line, file=sys.stderr)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Tell each warning once, without the place in the code, which is no command's."""
    told = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            tell_line(f"rmtdeq: {text}")

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
        tell_line(f"rmtdeq: {' '.join(str(error).split())}")
        return FAILED
    except OSError as error:
        tell_line(f"rmtdeq: {error}")
        return FAILED
    except KeyboardInterrupt as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        tell_line(f"rmtdeq: interrupted; no file was left half written. {notes}".rstrip())
        return _INTERRUPTED
