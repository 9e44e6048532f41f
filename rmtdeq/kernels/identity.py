"""What a kernel depends on, as a record that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._checkpoint import checksum
from rmtdeq._types import FloatArray, Kind
from rmtdeq._version import __version__
from rmtdeq.deq import DEQ, PROBES


def identity(
    deq: DEQ, kind: Kind, dtype: np.dtype[Any], samples: FloatArray, place: str = "one process"
) -> dict[str, Any]:
    """Return kind, precision, model (uncentred) and checksums of the samples and of the activation's values."""
    return {
        "rmtdeq": __version__,
        "place": place,
        "kernel": kind,
        "precision": str(dtype),
        "samples": list(samples.shape),
        "samples' checksum": checksum(samples),
        "sigma_a2": deq.sigma_a2,
        "sigma_b2": deq.sigma_b2,
        "activation": deq.activation.name,
        "activation's checksum": checksum(np.asarray(deq.activation(PROBES), dtype=float)),
    }
