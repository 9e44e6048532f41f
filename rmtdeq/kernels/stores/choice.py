"""Where half a kernel is kept: the first place that it fits in."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError, MemoryLimitError
from rmtdeq._lib.files import free_space, in_memory
from rmtdeq.kernels.blocks import scratch_bytes
from rmtdeq.kernels.stores.panels import Layout, kept_bytes

METHODS = ("auto", "device", "dense", "float32", "memory-mapped", "matrix-free")

logger = logging.getLogger(__name__)

_SPARE = 1.1
"""Of a disk's free space so much of the files' size must be there."""

_SAYS = {
    "device": "%d samples, method 'device': %s of entries are kept on {device}.",
    "dense": "%d samples, method 'dense': %s of entries are kept in memory.",
    "float32": "%d samples, method 'float32': entries take %s in double precision, more than may be used; they are "
    "computed and kept in single precision. Pass dtype='float64' to keep the precision.",
    "memory-mapped": "%d samples, method 'memory-mapped': %s of entries are kept in files in {place}.",
    "matrix-free": "%d samples, method 'matrix-free': %s of entries fit neither in memory nor on disk; they are "
    "computed for every product.",
}


@dataclass(frozen=True)
class Wish:
    """What is to be stored.

    Attributes
    ----------
    n : int
    dtype : dtype
        Of the entries.
    exactly : bool
        Whether the precision may not be lowered.
    device : torch.device or None
        Where the entries are computed, if not by an engine of the CPU.
    shares : int
        How many devices divide the matrix among them.
    together : int
        How many such matrices are there at a time.
    """

    n: int
    dtype: np.dtype[Any]
    exactly: bool
    device: Any = None
    shares: int = 1
    together: int = 1


def choose(method: str, wish: Wish, folder: Path | None, memory_limit: float | None) -> str:
    """Return the method asked for, or for ``"auto"`` the first that fits; say aloud which.

    Parameters
    ----------
    method : str
    wish : Wish
    folder : Path or None
        The user's, for files; a temporary one is considered otherwise, if its files are not kept in memory.
    memory_limit : float or None

    Raises
    ------
    MemoryLimitError
        What was asked for does not fit.
    """
    rooms = _rooms(wish, folder, memory_limit)
    chosen = "memory-mapped" if method == "auto" and folder is not None else method
    if chosen == "device" and wish.device is None:
        raise InvalidInputError("method='device' is for backend='torch' or 'triton'; 'dense' keeps half the matrix.")
    if chosen == "auto":
        considered = [name for name in rooms if _considered(name, wish)]
        chosen = next(name for name in considered if rooms[name].suffices)
        if considered[0] == "device" and chosen != "device":
            logger.warning("The kernel of %d samples takes more than %s: not kept there.", wish.n, rooms["device"])
    elif not rooms[chosen].suffices:
        part = "" if chosen == "device" else "half of "
        raise MemoryLimitError(
            f"The kernel of {wish.n} samples takes {rooms[chosen].needed / 2**30:.3g} GiB for {part}its entries, more "
            f"than {rooms[chosen]}; files need a folder with more room ('memory-mapped'), 'matrix-free' needs none."
        )
    if method == "auto":
        # Single precision and fresh computation are taken because this does not fit.
        size = rooms[chosen if chosen == "device" else "dense"].needed
        says = _SAYS[chosen].format(place=_files_in(folder), device=wish.device)
        level = logging.WARNING if chosen == "float32" else logging.INFO
        logger.log(level, says, wish.n, f"{size / 2**30:.3g} GiB")
    return chosen


@dataclass(frozen=True)
class _Room:
    """What a method needs, what there is, and where."""

    needed: float
    free: float
    where: str

    @property
    def suffices(self) -> bool:
        return self.needed <= self.free

    def __str__(self) -> str:
        return f"the {self.where.format(f'{self.free / 2**30:.3g} GiB')}"


def _rooms(wish: Wish, folder: Path | None, memory_limit: float | None) -> dict[str, _Room]:
    """Return the room of each method, best first."""
    allowed, source = check.memory_allowed(memory_limit)
    allowed = max(0.0, allowed - scratch_bytes(wish.dtype.itemsize))
    place = _files_in(folder)
    size, single = (wish.together * Layout(wish.n, np.dtype(each)).bytes for each in (wish.dtype, np.float32))
    # Files of an interrupted computation need no more room.
    on_disk = free_space(place) + (kept_bytes(folder) if folder is not None else 0)
    return {
        "device": _Room(
            wish.together * wish.n**2 * wish.dtype.itemsize / wish.shares,
            _free_on(wish.device, memory_limit),
            f"{{}} free on {wish.device}",
        ),
        "dense": _Room(size, allowed, f"{source} of {{}}"),
        "float32": _Room(single, allowed, f"{source} of {{}}"),
        "memory-mapped": _Room(size, on_disk / _SPARE, f"{{}} free in {place}"),
        "matrix-free": _Room(0, float("inf"), ""),
    }


def _considered(method: str, wish: Wish) -> bool:
    """Say whether ``"auto"`` may take a method."""
    if wish.shares > 1:
        return method in ("device", "matrix-free")
    if method == "device":
        return wish.device is not None and wish.device.type != "cpu"
    if method == "float32":
        return not wish.exactly and wish.dtype != np.float32
    return method != "memory-mapped" or not in_memory(_files_in(None))


def _files_in(folder: Path | None) -> Path:
    return Path(tempfile.gettempdir()) if folder is None else folder


def _free_on(device: Any, memory_limit: float | None) -> float:
    if device is None:
        return 0.0
    from rmtdeq.kernels.engines.torch_tables import free_memory

    return min(free_memory(device), memory_limit or float("inf"))
