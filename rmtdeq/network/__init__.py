"""Networks of infinite width: layers, recurrent or ordinary, one on another."""

from rmtdeq.network.contraction import contraction_range
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
    "contraction_range",
    "ordinary",
    "preactivation_scale",
    "require_network",
    "require_varying",
]
