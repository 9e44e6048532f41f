"""What results are written to: new arrays or tensors that fit where they are, or arrays of the caller's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.blocks import Outputs, scratch_bytes

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_REMEDY = "use kernel_operator(X, deq, kind), which never stores the matrix, or pass memory maps as out="


def host_outputs(
    kinds: Sequence[Kind], shape: tuple[int, int], dtype: np.dtype[Any], memory_limit: float | None
) -> Outputs:
    """Return arrays for results.

    Raises
    ------
    MemoryLimitError
        They do not fit.
    """
    what, size = _result(kinds, shape, dtype)
    check.memory(size + scratch_bytes(dtype.itemsize), memory_limit, what, _REMEDY)
    return {name: np.empty(shape, dtype) for name in kinds}


def device_outputs(
    kinds: Sequence[Kind],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    device: torch.device,
    memory_limit: float | None,
) -> Outputs:
    """Return tensors for results: on a device, or on the host where they do not fit there.

    Raises
    ------
    MemoryLimitError
        They fit nowhere.
    """
    import torch

    from rmtdeq.kernels.engines.torch_tables import free_memory

    what, size = _result(kinds, shape, dtype)
    kind = getattr(torch, str(dtype))
    if device.type != "cpu" and size <= min(free_memory(device), memory_limit or float("inf")):
        with suppress(torch.OutOfMemoryError):
            return {name: torch.empty(shape, dtype=kind, device=device) for name in kinds}
    check.memory(size, memory_limit, what, _REMEDY)
    if device.type != "cpu":
        logger.warning("%s do not fit on %s: they are kept on the host, a tile at a time.", what, device)
    return {name: torch.empty(shape, dtype=kind) for name in kinds}


def _result(kinds: Sequence[Kind], shape: tuple[int, int], dtype: np.dtype[Any]) -> tuple[str, int]:
    what = f"The result, {len(kinds)} kernel(s) of {shape[0]} x {shape[1]} entries,"
    return what, shape[0] * shape[1] * dtype.itemsize * len(kinds)


def given_outputs(
    out: FloatArray | Sequence[FloatArray],
    kinds: Sequence[Kind],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    samples: tuple[Any, Any],
) -> Outputs:
    """Return the caller's arrays, which are such as results need, and apart from one another and from the samples.

    Raises
    ------
    InvalidInputError
        They are not.
    """
    arrays = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if len(arrays) != len(kinds):
        raise InvalidInputError(f"out must hold one array for each of {kinds}, not {len(arrays)}.")
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            raise InvalidInputError(f"out must be a {dtype} array of shape {shape}.")
        if not array.flags.writeable or not array.flags.c_contiguous:
            raise InvalidInputError("out must be writeable and C-contiguous.")
    if any(np.may_share_memory(a, b) for a, b in combinations(arrays, 2)):
        raise InvalidInputError("The arrays of out share memory; give each kernel one of its own.")
    if any(np.may_share_memory(a, b) for a in arrays for b in samples if isinstance(b, np.ndarray)):
        raise InvalidInputError("out shares memory with the samples, which are needed until the end; copy them.")
    return dict(zip(kinds, arrays, strict=True))
