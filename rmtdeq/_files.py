"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
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
    """Return a record, arrays included, as text."""
    return json.dumps(record, indent=1, default=_plain) + "\n"


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
