"""Names that have moved, which work for one release more."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def forwarding(old: str, new: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that finds its names in another module, and says so."""

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(import_module(new), name)
        deprecated(f"{old}.{name}", f"{new}.{name}")
        return value

    return find


def deprecated(old: str, new: str) -> None:
    """Warn the package's user that an old name goes with the next release."""
    warnings.warn(f"{old} is now {new}; the old name goes with the next release.", DeprecationWarning, stacklevel=3)
