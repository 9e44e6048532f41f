"""Progress bars: one look, and silence where nobody reads them."""

from __future__ import annotations

from typing import Any


def progress_bar(show: bool, **options: Any) -> Any:
    """Return a tqdm bar, made with its options, that is shown on a terminal if it is to be shown at all."""
    from tqdm import tqdm

    # None: silent where stderr is not a terminal.
    return tqdm(disable=None if show else True, leave=False, **options)
