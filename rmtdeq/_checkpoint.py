"""Folders that hold what an interrupted computation has reached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from rmtdeq._errors import InvalidInputError
from rmtdeq._files import as_json, write_text, write_whole
from rmtdeq._types import FloatArray


class Checkpoint:
    """A folder for the parts of one computation, each a file that is whole or not there.

    Parameters
    ----------
    folder : path
        Made if need be.
    record : mapping
        What the results depend on.  It is written into the folder, and compared with what is there.
    name : str
        Of the record's file.

    Raises
    ------
    InvalidInputError
        The folder belongs to another computation.
    """

    def __init__(self, folder: str | Path, record: Mapping[str, Any], name: str) -> None:
        self.folder = Path(folder)
        text = as_json(record)
        path = self.folder / f"{name}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _compare(json.loads(path.read_text(encoding="utf-8")), json.loads(text), path)
            elif any(self.folder.iterdir()):
                raise InvalidInputError(
                    f"{self.folder} is not empty, and no {path.name} in it says of what: name a new folder."
                )
            else:
                write_text(path, text)
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"{path} cannot be used: {error}.") from error

    def parts(self, pattern: str) -> int:
        """Return how many parts there are of some name."""
        return len(list(self.folder.glob(f"{pattern}.npz")))

    def load(self, name: str) -> dict[str, FloatArray] | None:
        """Return the arrays of a part, or None if it is not there."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            # Opened here: numpy leaves a file open if it is no archive.
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InvalidInputError(f"{path} cannot be read: {error}; delete it, and it is computed again.") from error

    def kept(self, name: str) -> str:
        """Say what an interrupted training leaves behind in a part."""
        if not (self.folder / f"{name}.npz").exists():
            return "It was too short for a state to be kept."
        return f"A state at most half a minute old is kept in {self.folder}; the same call goes on there."

    def save(self, name: str, arrays: Mapping[str, FloatArray]) -> None:
        """Keep the arrays of a part."""
        write_whole(self.folder / f"{name}.npz", lambda beside: np.savez(beside, allow_pickle=False, **arrays))


def _compare(found: Any, wanted: Mapping[str, Any], path: Path) -> None:
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path} is not a record of this package; name another folder.")
    for key in dict.fromkeys([*wanted, *found]):
        if found.get(key) != wanted.get(key):
            raise InvalidInputError(
                f"{path.parent} holds another computation: its {key} is {found.get(key)!r}, here it is "
                f"{wanted.get(key)!r}; name another folder, or delete that one."
            )


def checksum(array: np.ndarray[Any, Any]) -> str:
    """Return 64 bits of the SHA-256 of an array's entries."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]
