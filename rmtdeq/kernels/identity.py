"""What a kernel depends on, as a record that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._lib.checkpoint import checksum
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq._version import __version__
from rmtdeq.network import PROBES, Layer, Network


def identity(
    network: Network, kind: Kind, dtype: np.dtype[Any], samples: FloatArray, place: str = "one process"
) -> dict[str, Any]:
    """Return kind, precision, layers (uncentred) and checksums of the samples and of the activations' values."""
    return {
        "rmtdeq": __version__,
        "place": place,
        "kernel": kind,
        "precision": str(dtype),
        "samples": list(samples.shape),
        "samples' checksum": checksum(samples),
        "layers": [_layer(layer) for layer in network.layers],
        "wiring": [[list(source) for source in sources] for sources in network.sources],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    values = checksum(np.asarray(layer.activation(PROBES), dtype=float))
    return {**layer.record(), "activation": layer.activation.name, "activation's checksum": values}
