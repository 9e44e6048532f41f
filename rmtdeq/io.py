"""Files that programs write: whole or not at all, and with a record of how they were made."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rmtdeq

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


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


def manifest(program: str, arguments: Mapping[str, Any], results: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what is needed to make the same numbers again: arguments, seed and versions, beside the results."""
    return {
        "program": program,
        "arguments": dict(arguments),
        "versions": {
            "python": platform.python_version(),
            "rmtdeq": rmtdeq.__version__,
            **{name: _version(name) for name in _PACKAGES},
        },
        "results": dict(results),
    }


_PACKAGES = ("numpy", "scipy", "numba", "matplotlib")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def save_figure(figure: Any, out: str | Path, record: Mapping[str, Any]) -> tuple[Path, Path]:
    """Save a figure and, beside it, its manifest.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    out : path
        With the suffix of a figure, or without one (then .png).
    record : mapping
        See `manifest`.

    Returns
    -------
    figure, manifest : Path
    """
    path = Path(out)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        path = path.with_name(path.name + ".png")
    text = json.dumps(record, indent=1, default=_plain) + "\n"
    write_whole(path, lambda beside: figure.savefig(beside, dpi=160))
    beside_figure = path.with_suffix(".json")
    write_whole(beside_figure, lambda beside: _write_text(beside, text))
    return path, beside_figure


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """Turn numpy values into what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
