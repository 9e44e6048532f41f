"""Networks of infinite width: layers, recurrent or ordinary, one on another or in branches."""

from rmtdeq.network.contraction import contraction_range
from rmtdeq.network.deq import DEQ
from rmtdeq.network.layers import PROBES, Layer, Response, ordinary, preactivation_scale
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
from rmtdeq.network.steps import Dropout, LayerNorm, RMSNorm, Step

__all__ = [
    "DEQ",
    "INPUT",
    "PROBES",
    "Concatenation",
    "Dropout",
    "Layer",
    "LayerNorm",
    "Network",
    "RMSNorm",
    "Residual",
    "Response",
    "Sources",
    "Step",
    "contraction_range",
    "ordinary",
    "preactivation_scale",
    "require_network",
    "require_plain",
    "require_varying",
    "samples_alone",
    "weighted_sum",
]
