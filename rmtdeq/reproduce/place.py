"""Where an experiment runs: its seed, its data, its device, and the folder it can go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rmtdeq._progress import progress_bar

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """What an experiment is given beside its parameters.

    Attributes
    ----------
    seed : int
        Of samples, weights and batches.
    data_dir : Path or None
        Folder with data sets, searched first.
    checkpoint : Path or None
        Folder from which an interrupted experiment goes on.
    device : str
        Of torch.
    """

    seed: int = 0
    data_dir: Path | None = None
    checkpoint: Path | None = None
    device: str = "cpu"

    def folder(self, *names: object) -> Path | None:
        """Return a folder within the checkpoint, if there is one."""
        return None if self.checkpoint is None else self.checkpoint.joinpath(*map(str, names))

    def each(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Yield the items with a progress bar."""
        with progress_bar(True, total=len(items), desc=what, unit="part") as bar:
            for item in items:
                yield item
                bar.update()
