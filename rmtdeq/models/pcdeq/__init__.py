"""Positive concave deep equilibrium models, whose equilibrium exists, is unique, and is reached from anywhere.

Source: Gabor, Piotrowski, Cavalcante, ICML 2024 (arXiv 2402.04029).
"""

from rmtdeq.models.pcdeq.activation import ConcaveActivation, concave_activation
from rmtdeq.models.pcdeq.base import SOLVER, PcDEQ, PcEquilibrium
from rmtdeq.models.pcdeq.certificate import Certificate, thompson_metric
from rmtdeq.models.pcdeq.layers import PcDEQConv2d, PcDEQLinear
from rmtdeq.models.pcdeq.networks import conv_network, linear_network, three_block_network

__all__ = [
    "SOLVER",
    "Certificate",
    "ConcaveActivation",
    "PcDEQ",
    "PcDEQConv2d",
    "PcDEQLinear",
    "PcEquilibrium",
    "concave_activation",
    "conv_network",
    "linear_network",
    "thompson_metric",
    "three_block_network",
]
