"""What one neuron is like at the equilibrium of an infinitely wide recurrent layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.network import Layer

_REACH = 5.0
"""Pre-activations further out, in standard deviations, are one in a million: no network has them."""


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Functions of a neuron's pre-activation u, at the nodes of a quadrature.

    Attributes
    ----------
    weights : ndarray (nodes,)
        Of expectations over u.
    slope : ndarray (nodes,)
        σ_a φ'(u).
    z : ndarray (nodes,)
        φ(u) in units of √E φ².
    y, y_square : ndarray (nodes,)
        E[y | u] and E[y² | u] of y = u - σ_b B x - σ_c c, in units of σ_a √E φ² = √E y².
    """

    weights: FloatArray
    slope: FloatArray
    z: FloatArray
    y: FloatArray
    y_square: FloatArray

    @classmethod
    def of(cls, layer: Layer, source: float, scale: float) -> Equilibrium:
        """Return it for an uncentred layer, source = σ_b²‖x‖² + σ_c², u of standard deviation `scale`."""
        phi = layer.activation
        rule = phi.rule(scale)
        kept = abs(rule.nodes) <= _REACH
        xi, weights = rule.nodes[kept], rule.weights[kept] / rule.weights[kept].sum()
        u, s = scale * xi, scale**2
        value = np.asarray(phi(u), dtype=float)
        size, known = float(np.sqrt(weights @ value**2)), source / s
        unit = np.sqrt(layer.sigma_a2) * size
        y, y_square = (1 - known) * u, ((1 - known) * u) ** 2 + s * known * (1 - known)
        return cls(weights, np.sqrt(layer.sigma_a2) * phi.slope(u), value / size, y / unit, y_square / unit**2)

    def mean(self, values: FloatArray) -> float:
        """Return an expectation over u."""
        return float(self.weights @ values)
