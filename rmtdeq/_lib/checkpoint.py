"""Folders that hold what an interrupted computation has reached."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import as_json, write_text, write_whole
from rmtdeq._lib.types import FloatArray

logger = logging.getLogger(__name__)

JOB = "job.json"
"""What the command line keeps in a folder to go on from it."""

_LOCK = "in-use.lock"
_STATE = "last.pt"

_in_use: ContextVar[Callable[[], None]] = ContextVar("in_use", default=lambda: None)


@contextmanager
def noticing(call: Callable[[], None]) -> Iterator[None]:
    """Call something whenever a folder has been accepted, before anything is computed for it."""
    token = _in_use.set(call)
    try:
        yield
    finally:
        _in_use.reset(token)


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
        The folder belongs to another computation, or another process writes there.
    """

    def __init__(self, folder: str | Path, record: Mapping[str, Any], name: str) -> None:
        self.folder = Path(folder)
        self._release = lock(self.folder)
        weakref.finalize(self, self._release)
        text = as_json(record)
        path = self.folder / f"{name}.json"
        try:
            if path.exists():
                _compare(json.loads(path.read_text(encoding="utf-8")), json.loads(text), path)
            elif any(each.name not in (JOB, _LOCK) for each in self.folder.iterdir()):
                raise InvalidInputError(
                    f"{self.folder} is not empty, and no {path.name} in it says of what: name a new folder."
                )
            else:
                write_text(path, text)
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                f"{path} cannot be used: {error}; name another folder, or delete that one."
            ) from error
        _in_use.get()()

    def close(self) -> None:
        """Let another process use the folder."""
        self._release()

    def parts(self, pattern: str) -> int:
        """Return how many parts there are of some name."""
        return len(list(self.folder.glob(f"{pattern}.npz")))

    def load(self, name: str) -> dict[str, FloatArray] | None:
        """Return the arrays of a part, or None if it is not there."""
        return _read(self.folder / f"{name}.npz", _arrays)

    def load_state(self) -> dict[str, Any] | None:
        """Return the state of a training, its tensors on the CPU, or None if it is not there."""
        if (self.folder / "last.npz").exists():
            raise InvalidInputError(
                f"{self.folder} holds a training that an older rmtdeq kept, in a form that is no longer read; name "
                "another folder, or delete that one."
            )
        return _read(self.folder / _STATE, _state)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep the state of a training: tensors, numbers and texts, in dictionaries and lists."""
        import torch

        write_whole(self.folder / _STATE, lambda beside: torch.save(dict(state), beside))

    def kept(self) -> str:
        """Say what an interrupted training leaves behind."""
        if not (self.folder / _STATE).exists():
            return "It was too short for a state to be kept."
        return f"A state at most half a minute old is kept in {self.folder}; the same call goes on there."

    def save(self, name: str, arrays: Mapping[str, FloatArray]) -> None:
        """Keep the arrays of a part."""
        write_whole(self.folder / f"{name}.npz", lambda beside: np.savez(beside, allow_pickle=False, **arrays))


def _read(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return read(path)
    except Exception as error:  # zip, zlib, numpy's and torch's readers raise almost every kind there is
        raise InvalidInputError(f"{path} cannot be read: {error}; delete it, and it is computed again.") from error


def _arrays(path: Path) -> dict[str, FloatArray]:
    # Opened here: numpy leaves a file open if it is no archive.
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _state(path: Path) -> dict[str, Any]:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words tell how to run whatever code is in there
        raise ValueError("it is damaged, or holds more than tensors, numbers and texts") from error


def lock(folder: Path) -> Callable[[], None]:
    """Make a folder and keep other processes out of it; return what lets them in again, once.

    A process that ends, however it does, lets go of its folders.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = FileLock(folder / _LOCK, timeout=0, thread_local=False, is_singleton=True)
        taken.acquire()
    except Timeout as error:
        raise InvalidInputError(
            f"Another process is at work in {folder}; wait until it has ended, or name another folder."
        ) from error
    except RuntimeError:  # a file system without locks
        logger.warning("Files in %s cannot be locked: take care that no other process writes there.", folder)
        return lambda: None
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be used: {error}.") from error
    held = [taken]

    def release() -> None:
        while held:
            held.pop().release()

    return release


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
