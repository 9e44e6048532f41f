"""A kernel's entry as a power series in the inner product of two samples of given norms.

A layer composes the series of ``F = E φ(u)φ(v)`` around the correlation at which it is entered with that of the
covariance ρ, which solves ``ρ = σ_a² F(ρ) + σ_b² x + σ_c²``: Newton's method on power series doubles the number of
coefficients that are right in each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels.pairs import entry
from rmtdeq.network import INPUT, Layer, Network, preactivation_scale, samples_alone, weighted_sum
from rmtdeq.network.wellposed import require_contraction, require_diagonal_contraction, require_finite_tangent
from rmtdeq.theory.pair_expectations import PairExpectations


@dataclass(frozen=True, eq=False)
class PowerSeries:
    """A power series in one variable, up to some power.

    Attributes
    ----------
    coefficients : ndarray (terms,)
        From the constant on.
    """

    coefficients: FloatArray

    def __add__(self, other: PowerSeries | float) -> PowerSeries:
        if isinstance(other, PowerSeries):
            return PowerSeries(self.coefficients + other.coefficients)
        return PowerSeries(np.append(self.coefficients[:1] + other, self.coefficients[1:]))

    def __rsub__(self, other: float) -> PowerSeries:
        return -1.0 * self + other

    def __mul__(self, other: PowerSeries | float) -> PowerSeries:
        if isinstance(other, PowerSeries):
            return PowerSeries(np.convolve(self.coefficients, other.coefficients)[: self.coefficients.size])
        return PowerSeries(self.coefficients * other)

    __rmul__ = __mul__

    def __truediv__(self, other: PowerSeries | float) -> PowerSeries:
        return self * (other._reciprocal() if isinstance(other, PowerSeries) else 1 / other)

    def _reciprocal(self) -> PowerSeries:
        c = self.coefficients
        found = np.zeros_like(c)
        found[0] = 1 / c[0]
        for k in range(1, c.size):
            found[k] = -(c[1 : k + 1] @ found[k - 1 :: -1][:k]) / c[0]
        return PowerSeries(found)

    def varying(self) -> PowerSeries:
        """Return the series without its constant."""
        return PowerSeries(np.append(0.0, self.coefficients[1:]))

    def into(self, outer: FloatArray) -> PowerSeries:
        """Return the series whose coefficients are given at this one, which has no constant (Horner's rule)."""
        zero = PowerSeries(np.zeros_like(self.coefficients))
        return reduce(lambda found, c: found * self + float(c), outer[::-1], zero)


def taylor_coefficients(network: Network, u: float, v: float, at: float, degree: int, kind: Kind) -> FloatArray:
    """Expand an entry at squared norms u and v in powers of x - `at`, x the inner product.

    Parameters
    ----------
    network : Network
        Uncentred.
    u, v : float
        Positive.
    at : float
        Below √(uv) in size.
    degree : int
        Of the last power.
    kind : str

    Returns
    -------
    ndarray (degree + 1,)

    Raises
    ------
    IllPosedError
        No equilibrium, no contraction, an infinite NTK, or pre-activations so nearly parallel that the series of φ does
        not end.
    """
    unit = float(np.sqrt(u * v))
    variable = PowerSeries(np.append([at, unit], np.zeros(degree))[: degree + 1])
    norms, values, entries = {INPUT: np.array([u, v])}, {INPUT: variable}, {INPUT: variable}
    for number, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=False)):
        sigma = np.array([_scale(layer, float(norm), kind) for norm in weighted_sum(norms, sources)])
        value, slope = _through(layer, sigma, layer.sigma_b2 * weighted_sum(values, sources) + layer.sigma_c2)
        values[number] = value
        entries[number] = entry(kind, layer, value, slope, weighted_sum(entries, sources), samples_alone(sources))
        norms[number] = np.array([layer.response(float(s)).square for s in sigma]) / layer.kept
    return weighted_sum(entries, network.sources[-1]).coefficients / unit ** np.arange(degree + 1.0)


def _scale(layer: Layer, norm: float, kind: Kind) -> float:
    sigma = preactivation_scale(layer, norm).value
    at, where = layer.response(sigma), f" at squared norm {norm:.4g}"
    require_diagonal_contraction(layer.title, layer.sigma_a2 * at.square_slope, where)
    if kind != "ck" and layer.recurrent:
        require_finite_tangent(layer.title, layer.sigma_a2 * at.slope_square, where)
    return sigma


def _through(layer: Layer, sigma: FloatArray, source: PowerSeries) -> tuple[PowerSeries, PowerSeries]:
    """Return the series of ``G = E z(u)z(v)`` and of ``E z'(u)z'(v)`` where ``ρ = σ_a² G + source``."""
    terms, size, a2 = source.coefficients.size, float(sigma.prod()), layer.sigma_a2
    pairs = PairExpectations(layer, sigma, np.array([0]), np.array([1]))
    r = float(pairs.covariance(source.coefficients[:1])[0]) / size
    outer = pairs.gain[0] * pairs.taylor(r, terms)
    slopes = outer[1:] * np.arange(1, terms + 1) / size
    require_contraction(layer.title, a2 * float(slopes[0]))
    # Without its constant, in units of the correlation.
    moved = source.varying() * (1 / size)
    known, right = moved, 1
    while layer.recurrent and right < terms:
        # All that is known is right up to some power, and twice as far after a step.
        gap = known + -1.0 * (known.into(outer).varying() * (a2 / size) + moved)
        known = (known + -1.0 * (gap / (1.0 - a2 * known.into(slopes)))).varying()
        right *= 2
    return known.into(outer), known.into(slopes)
