"""Where an experiment runs: its seed, its data, its device, and the folder it can go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray
from rmtdeq._version import __version__

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
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

    @property
    def engine(self) -> str | None:
        """The device for kernels: none on a CPU, where numba computes them."""
        return None if self.device == "cpu" else self.device

    def folder(self, *names: object) -> Path | None:
        """Return a folder within the checkpoint, if there is one."""
        return None if self.checkpoint is None else self.checkpoint.joinpath(*map(str, names))

    def each(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Yield the items, and tell how far it is."""
        with Stage(what, len(items), unit="part") as stage:
            for item in items:
                yield item
                stage.update()


class Parts:
    """Arrays that an experiment has computed, kept in a folder if there is one.

    Parameters
    ----------
    folder : Path or None
    record : mapping
        What the arrays depend on.
    """

    def __init__(self, folder: Path | None, record: Mapping[str, Any]) -> None:
        whole = {"rmtdeq": __version__, **record}
        self._kept = None if folder is None else Checkpoint(folder, whole, "experiment")
        self._known: dict[str, dict[str, FloatArray]] = {}

    def find(self, name: str) -> dict[str, FloatArray] | None:
        """Return the arrays of a part, or None if they have not been computed."""
        if name not in self._known and self._kept is not None:
            found = self._kept.load(name)
            if found is not None:
                self._known[name] = found
        return self._known.get(name)

    def once(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, FloatArray]:
        """Return the arrays of a part, computed unless they are there."""
        found = self.find(name)
        if found is None:
            found = {key: np.asarray(value, dtype=float) for key, value in compute().items()}
            if self._kept is not None:
                self._kept.save(name, found)
            self._known[name] = found
        return found
