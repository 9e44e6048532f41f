"""Arrays of other libraries: taken over by DLPack without a copy where that can be, and handed back as what came.

An array of another library has ``__dlpack__``; its namespace, in which ``from_dlpack`` is looked up, is what
``__array_namespace__`` returns, or the library that its type comes from.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.optional import require

_ON_HOST = {1, 3, 13}
"""DLPack's numbers of memory that numpy reads: of the CPU, pinned, and managed by CUDA."""

_NAMESPACES = {"jaxlib": "jax.numpy", "jax": "jax.numpy"}
"""Where ``from_dlpack`` is, by the library that a type comes from, if not in that itself."""


def is_tensor(X: Any) -> bool:
    """Say whether X is a tensor of torch, without loading it."""
    return type(X).__module__.partition(".")[0] == "torch" and hasattr(X, "detach")


def is_foreign(X: Any) -> bool:
    """Say whether X is an array of another library than numpy and torch, which DLPack hands over."""
    return hasattr(type(X), "__dlpack__") and not isinstance(X, (np.ndarray, np.generic)) and not is_tensor(X)


def taken(X: Any, name: str = "X") -> Any:
    """Return an array of another library as one of numpy, or as a tensor where it is on a device; all else as it is.

    Raises
    ------
    InvalidInputError
        Memory that neither can read.
    MissingDependencyError
        It is on a device, and torch is not installed.
    """
    if not is_foreign(X):
        return X
    try:
        if X.__dlpack_device__()[0] in _ON_HOST:
            return np.from_dlpack(X)
        return require("torch").from_dlpack(X)
    except (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        # Such as types that DLPack has no name for.
        if hasattr(X, "__array__"):
            return np.asarray(X)
        raise InvalidInputError(f"{name} cannot be read through DLPack: {error}.") from error


def as_given(found: Any, X: Any) -> Any:
    """Return a result, an array or a tensor, in the library of X and, as a tensor, where X is."""
    if is_tensor(X):
        return found if is_tensor(found) else require("torch").from_numpy(found).to(X.device)
    return _namespace(X).from_dlpack(found) if is_foreign(X) else found


def _namespace(X: Any) -> Any:
    if hasattr(X, "__array_namespace__"):
        return X.__array_namespace__()
    root = type(X).__module__.partition(".")[0]
    name = _NAMESPACES.get(root, root)
    return sys.modules.get(name) or importlib.import_module(name)
