"""Networks of infinite width: layers, recurrent or ordinary, one on another or in branches."""

from rmtdeq.network.contraction import contraction_range
from rmtdeq.network.deq import DEQ
from rmtdeq.network.layers import PROBES, Layer, ordinary, preactivation_scale
from rmtdeq.network.networks import (
    INPUT,
    Concatenation,
    Network,
    Residual,
    Sources,
    require_network,
    require_plain,
    require_varying,
    samples_alone,
    weighted_sum,
)

__all__ = [
    "DEQ",
    "INPUT",
    "PROBES",
    "Concatenation",
    "Layer",
    "Network",
    "Residual",
    "Sources",
    "contraction_range",
    "ordinary",
    "preactivation_scale",
    "require_network",
    "require_plain",
    "require_varying",
    "samples_alone",
    "weighted_sum",
]
