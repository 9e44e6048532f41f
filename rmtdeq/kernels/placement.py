"""Which engine computes a kernel, and where."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from rmtdeq import _check
from rmtdeq._errors import InvalidInputError
from rmtdeq._optional import require
from rmtdeq._types import FloatArray

BACKENDS = ("auto", "numba", "numpy", "torch")

logger = logging.getLogger(__name__)


def placement(backend: str, device: Any, X: Any) -> tuple[str, Any]:
    """Return the engine and, where that is torch, its device.

    Parameters
    ----------
    backend : str
        ``"auto"``: numba, or torch where the device is not the CPU.
    device : str, torch.device or None
        None: where X is, or the CPU.
    X : array_like

    Raises
    ------
    InvalidInputError
        Unknown names; an engine that does not run there; a device that torch cannot use.
    MissingDependencyError
        torch is wanted and not installed.
    """
    _check.choice(backend, "backend", BACKENDS)
    home = str(X.device) if is_tensor(X) else "cpu"
    wanted = home if device is None else str(device)
    if backend == "auto":
        backend = "numba" if wanted == "cpu" else "torch"
        if wanted != "cpu":
            logger.info("Kernels are computed by torch on %s.", wanted)
    if backend != "torch":
        if device is not None and wanted != "cpu":
            raise InvalidInputError(f"backend={backend!r} runs on the CPU; for device={wanted!r} take backend='torch'.")
        return backend, None
    torch = require("torch")
    try:
        place = torch.device(wanted)
        torch.zeros(1, dtype=torch.float64, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device={wanted!r} cannot be used in double precision: {reason}") from error
    return backend, place


def is_tensor(X: Any) -> bool:
    """Say whether X is a tensor of torch, without loading it."""
    return type(X).__module__.partition(".")[0] == "torch" and hasattr(X, "detach")


def prepare(
    X: ArrayLike, Y: ArrayLike | None, dtype: DTypeLike | None
) -> tuple[FloatArray, FloatArray | None, np.dtype[Any]]:
    """Check and convert the arguments that every kernel routine shares."""
    X = _check.samples(X)
    precision = _check.precision(dtype, X)
    if Y is not None:
        Y = _check.samples(Y, "Y")
        if Y.shape[1] != X.shape[1]:
            raise InvalidInputError(f"X has {X.shape[1]} features and Y has {Y.shape[1]}; they must agree.")
        Y = np.ascontiguousarray(Y, dtype=precision)
    return np.ascontiguousarray(X, dtype=precision), Y, precision
