"""The state of an optimiser as arrays, which files can hold without pickles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Return a tensor, or a number, as an array."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.array(value)


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray[Any, Any]]:
    """Return what an optimiser remembers of every parameter, by the parameter's number and the name of the quantity."""
    state = optimizer.state_dict()["state"]
    return {f"{i} {name}": as_array(value) for i, each in state.items() for name, value in each.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Let an optimiser remember what `optimizer_arrays` gave."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        number, quantity = name.split(" ", 1)
        state.setdefault(int(number), {})[quantity] = torch.from_numpy(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
