"""How spectral radii of networks of finite width differ from the law, and scatter about it.

Eigenvalues of a finite matrix end a little beyond their disk, and the disk itself scatters.

At the equilibrium a network has the means Z = Σ φ(u_i)²/m and q = Σ φ'(u_i)²/m of its own, of m pre-activations of the
variance s = σ_a² Z + σ_b²‖x‖² + σ_c².  With ε and η the deviations of such means of independent u_i,

    δZ = ε + (dE φ²/ds) δs,   δs = σ_a² δZ,   δq = η + (dE φ'²/ds) δs,

so that they are correlated Gaussians of order m^{-1/2}; and the rate, σ_a √q, deviates by δq/2q of itself.  Orthogonal
A keeps ‖A z‖ for the part y = σ_a A z of u: of ε and η only what is left after a regression on Σ y_i² counts (derived
here).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf, log_ndtr

from rmtdeq._lib.types import FloatArray, Recurrent
from rmtdeq.activations import moments
from rmtdeq.network import Layer

_DIFFERENCE = 1e-3


_AT = np.linspace(-6.0, 14.0, 2001)
"""Places s of r² = 1 + s/√m."""


def _above(density: FloatArray) -> FloatArray:
    """Return the integral from every place on."""
    parts = (density[1:] + density[:-1]) / 2 * np.diff(_AT)
    return np.append(np.cumsum(parts[::-1])[::-1], 0.0)


def _real(x: FloatArray) -> FloatArray:
    """Return the density of real eigenvalues at 1 + x/√m (Forrester and Nagao, Phys. Rev. Lett. 99, 2007)."""
    return ((1 - erf(math.sqrt(2) * x)) / 2 + np.exp(-(x**2)) * (1 + erf(x)) / math.sqrt(8)) / math.sqrt(2 * math.pi)


_MISSED = -log_ndtr(_AT)
_PAIRS, _REALS = _above(_MISSED), _above(_real(_AT / 2))


def outermost(m: float) -> tuple[float, float]:
    """Return mean and standard deviation of the outermost eigenvalue of a real Gaussian matrix, less and by its edge.

    Squared moduli of eigenvalues of complex matrices are independent Gamma variables (Kostlan, Linear Algebra Appl.
    162, 1992): that none is beyond ``r² = 1 + s/√m`` has the probability ``Π_k P(k, m r²)``, with Gaussians in their
    place ``exp(√m ∫_s^∞ log Φ + ½ log Φ(s))``.  Those of real matrices come in pairs, half as many: the root of it (as
    in the limit: Rider and Sinclair, Ann. Appl. Probab. 24, 2014).  Real ones, of either sign, are counted as if
    independent.
    """
    root = math.sqrt(max(m, 1.0))
    share = np.diff(np.exp(-0.5 * (root * _PAIRS + 0.5 * _MISSED) - _REALS))
    between = np.sqrt(np.maximum(1 + (_AT[1:] + _AT[:-1]) / (2 * root), 0.0)) - 1
    mean = float(share @ between / share.sum())
    return mean, math.sqrt(float(share @ (between - mean) ** 2 / share.sum()))


def rate_scatter(layer: Layer, source: float, scale: float, recurrent: Recurrent = "gaussian") -> float:
    """Return the standard deviation of σ_a √q, relative to it and times the root of the width.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    source : float
        σ_b²‖x‖² + σ_c².
    scale : float
        Standard deviation of u at the equilibrium.
    recurrent : {"gaussian", "orthogonal"}
        What A is.
    """
    rule = layer.activation.rule(scale)
    weights = rule.weights / rule.weights.sum()
    u = scale * rule.nodes
    values = np.stack([np.asarray(layer.activation(u), dtype=float), layer.activation.slope(u)]) ** 2
    means = values @ weights
    covariance = (weights * values) @ values.T - np.outer(means, means)
    slopes = _slopes(layer, scale)
    if recurrent == "orthogonal":
        # Σ y_i²/m of the variance 2 v²/m, v that of y, has the covariance 2 v² dE f/ds with Σ f(u_i)/m.
        covariance = covariance - 2 * (scale**2 - source) ** 2 * np.outer(slopes, slopes)
    own = np.array([layer.sigma_a2 * slopes[1] / (1 - layer.sigma_a2 * slopes[0]), 1.0])
    return 0.5 * math.sqrt(max(float(own @ covariance @ own), 0.0)) / float(means[1]) if means[1] else 0.0


def _slopes(layer: Layer, scale: float) -> FloatArray:
    """Return the derivatives of E φ² and E φ'² in the variance of u."""
    sides = (moments(layer.activation, scale * math.sqrt(1 + side * _DIFFERENCE)) for side in (-1, 1))
    low, high = (np.array([each.square, each.first_square]) for each in sides)
    return (high - low) / (2 * _DIFFERENCE * scale**2)
