"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place and rename it: no reader ever meets half a file.

    Parameters
    ----------
    path : Path
        Where the file shall be; folders are made as needed.
    write : callable
        Writes the file whose path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


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
