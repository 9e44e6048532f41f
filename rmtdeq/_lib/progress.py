"""Progress bars: one look, and silence where nobody reads them."""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(show: bool, **options: Any) -> Any:
    """Return a tqdm bar, made with its options, that is shown on a terminal if it is to be shown at all."""
    from tqdm import tqdm

    return tqdm(disable=not (show and _on_a_terminal()), leave=False, **options)


def _on_a_terminal() -> bool:
    """Say whether anybody sees standard error; services have none, and programs close theirs."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
