"""What `torch.compile` leaves as it is.

Loaded while it traces a module, and not before: what marks a function for it takes a second and more to load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def result(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, of which no graph is made."""
    return function(*arguments)
