"""A symmetric kernel matrix kept by halves: the blocks below the diagonal, each in one piece, many in a panel.

A block in one piece comes from memory at full speed, whatever the size of the matrix.  Panels lie in memory or in the
files of a folder.  A file is written beside its place and renamed, so that whatever interrupts the work, a folder holds
whole panels and the rest can be computed later.  A checksum of the entries is part of its name.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import reserve, write_whole
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray
from rmtdeq.kernels.blocks import HEIGHT, WIDTH, Block

PANEL_BYTES = 1 << 28

logger = logging.getLogger(__name__)

Fill = Callable[[list[Block], list[FloatArray]], None]
"""Computes blocks into arrays of their shapes."""


def below_diagonal(n: int) -> Iterator[Block]:
    """Blocks of a symmetric matrix: for some rows at a time those left of the diagonal, then the square on it."""
    for top in range(0, n, HEIGHT):
        bottom = min(top + HEIGHT, n)
        for left in range(0, top, WIDTH):
            yield Block(top, bottom, left, min(left + WIDTH, top))
        yield Block(top, bottom, top, bottom)


@dataclass(frozen=True)
class Layout:
    """Which block is where.

    Attributes
    ----------
    n : int
    dtype : dtype
    """

    n: int
    dtype: np.dtype[Any]

    @cached_property
    def panels(self) -> list[list[Block]]:
        """The blocks of each panel, about 256 MiB."""
        panels: list[list[Block]] = [[]]
        size = 0
        for block in below_diagonal(self.n):
            if size >= PANEL_BYTES:
                panels.append([])
                size = 0
            panels[-1].append(block)
            size += block.size * self.dtype.itemsize
        return panels

    @property
    def bytes(self) -> int:
        """What all panels take: half the matrix, and half the squares on the diagonal."""
        squares = self.n // HEIGHT * HEIGHT**2 + (self.n % HEIGHT) ** 2
        return (self.n**2 + squares) // 2 * self.dtype.itemsize


class Panels:
    """The panels of one kernel, in memory or in a folder.

    Parameters
    ----------
    layout : Layout
    folder : Path, optional
        Where the files are; in memory by default.
    """

    def __init__(self, layout: Layout, folder: Path | None = None) -> None:
        self.layout = layout
        self._folder = folder
        self._arrays: dict[int, FloatArray] = {}
        if folder is None:
            return
        for path in sorted(folder.glob("panel-*.npy")):
            index, checksum = _read_name(path)
            if index < len(layout.panels):
                self._arrays[index] = _opened(path, self._size(index), layout.dtype, checksum)
        if self._arrays:
            logger.info("%d of %d panels found in %s.", len(self._arrays), len(layout.panels), folder)

    @property
    def missing(self) -> list[int]:
        """Numbers of the panels that are still to be computed."""
        return [index for index in range(len(self.layout.panels)) if index not in self._arrays]

    def _size(self, index: int) -> int:
        return sum(block.size for block in self.layout.panels[index])

    def compute(self, fill: Fill, what: str, progress: bool) -> None:
        """Compute and keep the panels that are missing."""
        missing = self.missing
        sizes = [self._size(index) for index in range(len(self.layout.panels))]
        done = sum(sizes) - sum(sizes[index] for index in missing)
        with Stage(what, sum(sizes), initial=done, show=progress) as stage:
            for index in missing:
                self._arrays[index] = self._computed(index, sizes[index], fill)
                stage.update(sizes[index])

    def _computed(self, index: int, size: int, fill: Fill) -> FloatArray:
        blocks = self.layout.panels[index]
        if self._folder is None:
            panel = np.empty(size, self.layout.dtype)
            fill(blocks, _cut(panel, blocks))
            return panel

        checksum = 0

        def write(path: Path) -> None:
            nonlocal checksum
            file = np.lib.format.open_memmap(path, mode="w+", dtype=self.layout.dtype, shape=(size,))
            reserve(path)
            fill(blocks, _cut(np.asarray(file), blocks))
            checksum = zlib.crc32(file.data)

        path = write_whole(self._folder / f"panel-{index:05d}.npy", write, lambda path: _name(path, checksum))
        return _opened(path, size, self.layout.dtype, None)

    def all_blocks(self) -> list[tuple[Block, FloatArray]]:
        """Every block and its entries, not copied."""
        return [
            pair
            for index, blocks in enumerate(self.layout.panels)
            for pair in zip(blocks, _cut(self._arrays[index], blocks), strict=True)
        ]


def kept_bytes(folder: Path) -> int:
    """Return what the panels in a folder take."""
    return sum(path.stat().st_size for path in folder.glob("panel-*.npy"))


def _cut(panel: FloatArray, blocks: list[Block]) -> list[FloatArray]:
    """Return the blocks of a panel as arrays, not copied."""
    ends = np.cumsum([block.size for block in blocks])
    parts = np.split(panel, ends[:-1])
    return [part.reshape(block.shape) for block, part in zip(blocks, parts, strict=True)]


def _name(path: Path, checksum: int) -> Path:
    return path.with_name(f"{path.stem}-{checksum:08x}{path.suffix}")


def _read_name(path: Path) -> tuple[int, int]:
    try:
        _, index, checksum = path.stem.split("-")
        return int(index), int(checksum, 16)
    except ValueError as error:
        raise InvalidInputError(f"{path} is not a file of this package; name another folder.") from error


def _opened(path: Path, size: int, dtype: np.dtype[Any], checksum: int | None) -> FloatArray:
    """Map a panel's file; with a checksum, read it and compare."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's reader of headers raises almost every kind there is
        raise InvalidInputError(f"{path} cannot be read: {error}; delete it, and it is computed again.") from error
    if found.shape != (size,) or found.dtype != dtype:
        raise InvalidInputError(
            f"{path} holds a {found.dtype} array {found.shape} where a {dtype} array {(size,)} is needed: it is of "
            "another kernel; name another folder, or delete it."
        )
    if checksum is not None and zlib.crc32(found.data) != checksum:
        raise InvalidInputError(f"{path} is damaged: its checksum is not its entries'; delete it to compute it again.")
    return np.asarray(found)
