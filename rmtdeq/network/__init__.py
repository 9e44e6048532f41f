"""Networks of infinite width: layers, recurrent or ordinary, one on another."""

from rmtdeq.network.deq import DEQ, require_deq
from rmtdeq.network.layers import (
    PROBES,
    Layer,
    Network,
    ordinary,
    preactivation_scale,
    require_network,
    require_varying,
)

__all__ = [
    "DEQ",
    "PROBES",
    "Layer",
    "Network",
    "ordinary",
    "preactivation_scale",
    "require_deq",
    "require_network",
    "require_varying",
]
