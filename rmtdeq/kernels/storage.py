"""Where half a kernel is kept: the first place that it fits in."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq import _check
from rmtdeq._errors import MemoryLimitError
from rmtdeq._files import free_space, in_memory
from rmtdeq.kernels.fill import scratch_bytes
from rmtdeq.kernels.panels import Layout, kept_bytes

METHODS = ("auto", "dense", "float32", "memory-mapped", "matrix-free")

logger = logging.getLogger(__name__)

_SPARE = 1.1
"""Of a disk's free space so much of the files' size must be there."""

_SAYS = {
    "dense": "%d samples, method 'dense': %s of entries are kept in memory.",
    "float32": "%d samples, method 'float32': entries take %s in double precision, more than may be used; they are "
    "computed and kept in single precision. Pass dtype='float64' to keep the precision.",
    "memory-mapped": "%d samples, method 'memory-mapped': %s of entries are kept in files in {place}.",
    "matrix-free": "%d samples, method 'matrix-free': %s of entries fit neither in memory nor on disk; they are "
    "computed for every product.",
}


def choose(
    method: str, n: int, dtype: np.dtype[Any], exactly: bool, folder: Path | None, memory_limit: float | None
) -> str:
    """Return the method asked for, or for ``"auto"`` the first that fits; say aloud which.

    Parameters
    ----------
    method : str
    n : int
    dtype : dtype
        Of the entries.
    exactly : bool
        Whether the precision may not be lowered.
    folder : Path or None
        The user's, for files; a temporary one is considered otherwise, if its files are not kept in memory.
    memory_limit : float or None

    Raises
    ------
    MemoryLimitError
        What was asked for does not fit.
    """
    allowed, source = _check.memory_allowed(memory_limit)
    allowed = max(0.0, allowed - scratch_bytes(dtype.itemsize))
    place = Path(tempfile.gettempdir()) if folder is None else folder
    size, single = Layout(n, dtype).bytes, Layout(n, np.dtype(np.float32)).bytes
    # Files of an interrupted computation need no more room.
    on_disk = free_space(place) + (kept_bytes(folder) if folder is not None else 0)
    fits = {
        "dense": size <= allowed,
        "float32": single <= allowed,
        "memory-mapped": _SPARE * size <= on_disk,
        "matrix-free": True,
    }
    chosen = "memory-mapped" if method == "auto" and folder is not None else method
    if chosen != "auto":
        if not fits[chosen]:
            room = f"the {on_disk / 2**30:.3g} GiB free in {place}"
            if chosen != "memory-mapped":
                room = f"the {source} of {allowed / 2**30:.3g} GiB"
            needed = single if chosen == "float32" else size
            raise MemoryLimitError(
                f"Half the kernel of {n} samples takes {needed / 2**30:.3g} GiB, more than {room}; files need a "
                "folder with more room ('memory-mapped'), 'matrix-free' needs none."
            )
    else:
        if exactly or dtype == np.float32:
            del fits["float32"]
        if in_memory(place):
            del fits["memory-mapped"]
        chosen = next(name for name, good in fits.items() if good)
    if method == "auto":
        level = logging.WARNING if chosen == "float32" else logging.INFO
        logger.log(level, _SAYS[chosen].format(place=place), n, f"{size / 2**30:.3g} GiB")
    return chosen
