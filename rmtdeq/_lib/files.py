"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rmtdeq._lib.errors import InvalidInputError


def write_whole(path: Path, write: Callable[[Path], None], final: Callable[[Path], Path] | None = None) -> Path:
    """Write a file beside its place and rename it: no reader ever meets half a file.

    Parameters
    ----------
    path : Path
        Where the file shall be; folders are made as needed.
    write : callable
        Writes the file whose path it is given.
    final : callable, optional
        Makes the file's name of `path` when its content is known.

    Returns
    -------
    Path
        Of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        write(beside)
        beside.chmod(0o644)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        place = path if final is None else final(path)
        beside.replace(place)
        return place
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Make an empty file, of a name of its own, where `path` shall be."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    return Path(name)


def file_path(path: str | os.PathLike[str], what: str) -> Path:
    """Return `path`, or raise if it is a folder or can only be the name of one; `what` names it: ``"--out"``."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    if os.path.basename(text) in ("", ".", "..") or "\0" in text:
        raise InvalidInputError(f"{what} {text!r} is a folder, or no name at all; name a file.")
    if os.path.isdir(text):
        raise InvalidInputError(f"{what} {text} is a folder; name a file in it.")
    return Path(text)


def of_kind(path: Path, suffixes: tuple[str, ...], what: str) -> Path:
    """Return `path`, with the first of a kind's suffixes if it has none; `what` says of which kind it has to be.

    Raises
    ------
    InvalidInputError
        The suffix is that of another kind of file.
    """
    if path.suffix.lower() in suffixes:
        return path
    # The end of "sigma-0.2" is no kind of file.
    if path.suffix[1:2].isalpha():
        raise InvalidInputError(f"{what}: name it {path.with_suffix(suffixes[0])}, not {path.name}.")
    return path.with_name(path.name + suffixes[0])


def require_writable(path: str | os.PathLike[str], what: str) -> None:
    """Raise, before any long work, unless a file can be written to `path`; leave nothing behind.

    Parameters
    ----------
    path : path
    what : str
        Names it: ``"--out"``.

    Raises
    ------
    InvalidInputError
        It is no file's name, a folder or a device has it, or its folder cannot be made or written to.
    """
    place = file_path(path, what)
    made: list[Path] = []
    try:
        if place.exists() and not place.is_file():
            raise InvalidInputError(f"{what} {place} is no regular file, and would be replaced by one; name another.")
        for folder in reversed(place.parents):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        _beside(place).unlink()
    except OSError as error:
        raise InvalidInputError(f"{what} {place} cannot be written: {error.strerror}.") from error
    finally:
        # Not those that another process has meanwhile put something into.
        with suppress(OSError):
            for folder in reversed(made):
                folder.rmdir()


def free_space(folder: Path) -> int:
    """Return the bytes free where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def reserve(path: Path) -> None:
    """Give a file all its room now: a full disk is then an OSError, and not a signal at some later write to its map."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def in_memory(folder: Path) -> bool:
    """Say whether the folder's files are kept in memory (tmpfs), as far as the operating system tells."""
    place = folder.resolve()
    # The deepest mount point above the folder is the one that holds it.
    above = [(len(point), kind) for point, kind in _mounts() if place.is_relative_to(point)]
    return max(above, default=(0, ""))[1] in ("tmpfs", "ramfs")


def _mounts() -> list[list[str]]:
    """Mount points and the kinds of their file systems; none where the operating system does not tell."""
    try:
        text = Path("/proc/mounts").read_text(encoding="utf-8")
    except OSError:
        return []
    return [line.split()[1:3] for line in text.splitlines()]


def as_json(record: Mapping[str, Any]) -> str:
    """Return a record, arrays included, as text: numbers of a list in one line."""
    text = json.dumps(record, indent=1, default=_plain) + "\n"
    # Texts hold no line breaks of their own.
    return re.sub(r"\[\n([^\[\]{}\"]*)\n *\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole."""
    write_whole(path, lambda beside: _write_text(beside, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """Turn numpy values into what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
