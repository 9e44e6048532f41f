"""What a kernel depends on, as a record that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._checkpoint import checksum
from rmtdeq._types import Kind
from rmtdeq._version import __version__
from rmtdeq.kernels.inputs import Samples
from rmtdeq.kernels.plan import Plan

_PROBES = np.linspace(-8.0, 8.0, 257)


def identity(plan: Plan, kind: Kind, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return kind, precision, model and checksums of the samples and of the activation's values."""
    assert isinstance(plan.inputs, Samples)
    X, deq = plan.inputs.X, plan.deq
    return {
        "rmtdeq": __version__,
        "kernel": kind,
        "precision": str(dtype),
        "samples": list(X.shape),
        "samples' checksum": checksum(X),
        "sigma_a2": deq.sigma_a2,
        "sigma_b2": deq.sigma_b2,
        "activation": deq.activation.name,
        "activation's checksum": checksum(np.asarray(deq.activation(_PROBES), dtype=float)),
    }
