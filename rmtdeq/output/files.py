"""Files that programs write: whole or not at all, and with a record of how they were made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rmtdeq._lib.files import as_json, of_kind, write_text, write_whole
from rmtdeq._version import __version__

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def manifest(program: str, arguments: Mapping[str, Any], results: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what is needed to make the same numbers again: arguments, seed and versions, beside the results."""
    return {
        "program": program,
        "arguments": dict(arguments),
        "versions": versions(),
        "results": dict(results),
    }


_PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "torch")


def versions() -> dict[str, str]:
    """Return the versions of Python, of the package and of what it computes with."""
    return {
        "python": platform.python_version(),
        "rmtdeq": __version__,
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def figure_path(out: str | Path) -> Path:
    """Return where a figure goes: `out`, with .png if it has no suffix.

    Raises
    ------
    InvalidInputError
        The suffix is that of another kind of file.
    """
    known = f"{', '.join(FIGURE_SUFFIXES[:-1])} or {FIGURE_SUFFIXES[-1]}"
    return of_kind(Path(out), FIGURE_SUFFIXES, f"A figure is a {known} file")


def manifest_path(out: str | Path) -> Path:
    """Return where the figure's manifest goes."""
    return figure_path(out).with_suffix(".json")


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
    figure : Path
    manifest : Path

    Raises
    ------
    InvalidInputError
        `out` has the suffix of another kind of file.
    """
    path = figure_path(out)
    text = as_json(record)
    write_whole(path, lambda beside: figure.savefig(beside, dpi=160))
    beside_figure = manifest_path(out)
    write_text(beside_figure, text)
    return path, beside_figure
