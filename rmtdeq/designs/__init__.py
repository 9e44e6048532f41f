"""Explicit networks with the kernels of a deep equilibrium model."""

from rmtdeq.designs.designer import design
from rmtdeq.designs.families import FAMILIES
from rmtdeq.designs.fidelity import KernelComparison, compare_kernels
from rmtdeq.designs.network import DesignStatus, Distance, ExplicitNetwork, NormMatch, SphereMatch

__all__ = [
    "FAMILIES",
    "DesignStatus",
    "Distance",
    "ExplicitNetwork",
    "KernelComparison",
    "NormMatch",
    "SphereMatch",
    "compare_kernels",
    "design",
]
