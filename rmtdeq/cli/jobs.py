"""Command: resume; and what it needs, which commands with a checkpoint leave in its folder."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rmtdeq._lib.checkpoint import JOB, lock, noticing
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import as_json, write_text
from rmtdeq._version import __version__

_DATA = "RMTDEQ_DATA"

Run = Callable[[Sequence[str]], int]


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    resume = commands.add_parser(
        "resume",
        help="go on with a job that was interrupted",
        description="Runs the command whose --checkpoint a folder is again, which goes on from what is there: in the "
        "same working folder, with the same arguments.",
    )
    resume.add_argument("folder", help="the --checkpoint of the command")
    resume.set_defaults(run=None)


@contextmanager
def remembered(options: argparse.Namespace, arguments: Sequence[str]) -> Iterator[None]:
    """Leave what `resume` needs in the folder of the command's checkpoint, once the command uses it."""
    folder = getattr(options, "checkpoint", None)
    if not folder:
        yield
        return
    record = {
        "rmtdeq": __version__,
        "arguments": list(arguments),
        "working folder": os.getcwd(),
        "checkpoint": os.path.realpath(folder),
        _DATA: os.environ.get(_DATA),
    }
    path = Path(folder) / JOB
    _require_same_command(path, arguments)
    held: list[Callable[[], None]] = []

    def notice() -> None:
        if not held:
            held.append(lock(path.parent))
            if not path.exists():
                write_text(path, as_json(record))

    try:
        with noticing(notice):
            yield
        # What a command that was refused asked for is not what there is to go on with.
        if held:
            write_text(path, as_json(record))
    except KeyboardInterrupt as error:
        if held:
            error.add_note(f"To go on: rmtdeq resume {shlex.quote(str(folder))}.")
        raise
    finally:
        for release in held:
            release()


def _require_same_command(path: Path, arguments: Sequence[str]) -> None:
    """Raise if a folder is the checkpoint of another command; the same one may go on with other options."""
    try:
        before = _read(path)[0] if path.exists() else None
    except (InvalidInputError, OSError):  # nothing to go on with, and nothing to lose
        return
    if before and before[0] != arguments[0]:
        raise InvalidInputError(
            f"{path.parent} is the checkpoint of another command, rmtdeq {before[0]}; name another folder."
        )


def resume(folder: str, run: Run) -> int:
    """Run the command of a job's folder again.

    Raises
    ------
    InvalidInputError
        No job is there, or it is one of another version or of a folder that is gone.
    """
    path = Path(folder) / JOB
    if not path.exists():
        raise InvalidInputError(
            f"There is no {path}: {folder!r} is not the --checkpoint of a command; call the command itself again."
        )
    arguments, place, data, home = _read(path)
    if home != os.path.realpath(folder):
        raise InvalidInputError(
            f"{path} is of the job in {home}, and this is a copy: resume that one, or call the command again with "
            f"--checkpoint {folder}."
        )
    if not Path(place).is_dir():
        raise InvalidInputError(
            f"{place}, where the job was started, is no longer there; call the command itself again."
        )
    if data is not None:
        os.environ.setdefault(_DATA, data)
    os.chdir(place)
    print(f"rmtdeq {' '.join(arguments)}", flush=True)
    return run(arguments)


def _read(path: Path) -> tuple[list[str], str, str | None, str]:
    """Return arguments, working folder, data folder and checkpoint of a job."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, arguments, place = record["rmtdeq"], record["arguments"], record["working folder"]
        data, home = record[_DATA], record["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} cannot be read ({error!r}); call the command itself again.") from error
    texts = [place, home, *([] if data is None else [data]), *(arguments if isinstance(arguments, list) else [None])]
    if not all(isinstance(each, str) and "\0" not in each for each in texts) or "resume" in arguments[:1]:
        raise InvalidInputError(f"{path} is not the record of a job; call the command itself again.")
    if version != __version__:
        raise InvalidInputError(
            f"{path} is of version {version} of rmtdeq, this is {__version__}: their numbers may differ. Install that "
            "version, or name a new folder."
        )
    return arguments, place, data, home
