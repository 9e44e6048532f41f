"""Networks of infinite width: layers, recurrent or ordinary, one on another."""

from rmtdeq.network.deq import DEQ
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
    "require_network",
    "require_varying",
]
