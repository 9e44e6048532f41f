"""Expectations of a function that is a polynomial on panels, over noise and over pairs of Gaussians (numba)."""

from __future__ import annotations

from math import ceil, cos, exp, pi, sqrt

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.types import FloatArray

REACH = 9.0
"""Standard deviations beyond which a Gaussian has no weight."""
_WIDEST = 2.0
"""Panel that resolves the Gaussian's density."""


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def noise_averages(
    places: FloatArray,
    spreads: FloatArray,
    edges: FloatArray,
    exact: FloatArray,
    nodes: FloatArray,
    across: FloatArray,
    of_noise: FloatArray,
    likely: FloatArray,
) -> FloatArray:
    """E φ(m + sζ), E φ'(m + sζ) and Var φ(m + sζ), ζ standard normal: (3, spreads, places).

    Parameters
    ----------
    places : ndarray (places,)
        m.
    spreads : ndarray (spreads,)
        s.
    edges : ndarray (panels + 1,)
    exact : ndarray (panels, 2, points)
        Chebyshev coefficients of φ and φ'.
    nodes, across : ndarray (nodes,)
        Legendre rule.
    of_noise, likely : ndarray
        Gauss-Hermite rule, for noise that does not lead out of a panel.
    """
    result = np.empty((3, spreads.size, places.size))
    size = nodes.size
    most = (edges.size + int(2 * REACH / _WIDEST) + 3) * size
    zeta, weight, found = np.empty(most), np.empty(most), np.zeros((2, most))
    cuts, scratch = np.empty(edges.size + 2), np.empty((3, max(size, of_noise.size)))
    for i in range(spreads.size):
        s = spreads[i]
        for j in range(places.size):
            m = places[j]
            first, last = _panel(edges, m - REACH * s), _panel(edges, m + REACH * s)
            if first == last:
                used = of_noise.size
                zeta[:used], weight[:used] = of_noise, likely
                _values(found[:, :used], exact[first], edges[first], edges[first + 1], m, s, of_noise, scratch)
            else:
                cuts[0], cuts[last - first + 1] = -REACH, REACH
                for panel in range(first, last):
                    cuts[panel - first + 1] = (edges[panel + 1] - m) / s
                used = 0
                for panel in range(first, last + 1):
                    left, right = cuts[panel - first], cuts[panel - first + 1]
                    pieces = ceil((right - left) / _WIDEST)
                    for piece in range(pieces):
                        half = (right - left) / (2 * pieces)
                        here = zeta[used : used + size]
                        for k in range(size):
                            here[k] = left + half * (2 * piece + 1 + nodes[k])
                            weight[used + k] = half * across[k] * _density(here[k])
                        at = found[:, used : used + size]
                        _values(at, exact[panel], edges[panel], edges[panel + 1], m, s, here, scratch)
                        used += size
            mean, steep, variance = 0.0, 0.0, 0.0
            for k in range(used):
                mean += weight[k] * found[0, k]
                steep += weight[k] * found[1, k]
            for k in range(used):
                variance += weight[k] * (found[0, k] - mean) ** 2
            result[0, i, j], result[1, i, j], result[2, i, j] = mean, steep, variance
    return result


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def pair_sums(
    sigma: FloatArray,
    size: FloatArray,
    theta: FloatArray,
    sign: FloatArray,
    edges: FloatArray,
    exact: FloatArray,
    noisy_edges: FloatArray,
    noisy: FloatArray,
    coefficients: FloatArray,
    basis: FloatArray,
    nodes: FloatArray,
    across: FloatArray,
) -> FloatArray:
    """``E[(φ(u)/size_u - sign φ(v)/size_v)²]`` and ``E[φ'(u) φ'(v)]`` of some pairs, (2, pairs).

    Given ξ, u = σ_u ξ is known, and v is sign σ_v cos θ ξ and noise of σ_v sin θ: the square is that of what remains of
    the difference once the noise is averaged over, and the variance of what the noise makes of φ(v).

    Parameters
    ----------
    sigma, size : ndarray (2, pairs)
        Of u and of v.
    theta, sign : ndarray (pairs,)
    edges, exact : ndarray
        As in `noise_averages`.
    noisy_edges : ndarray (noisy panels + 1,)
    noisy : ndarray (noisy panels, spreads, 3 · nodes)
        Chebyshev coefficients in log s of what `noise_averages` returns, at the nodes of panels.
    coefficients : ndarray (noisy panels, spreads, 3 · points)
        Those in log s and m, for panels within which edges of φ(u) lie.
    basis : ndarray (pairs, spreads)
        Chebyshev polynomials of log s.
    nodes, across : ndarray (nodes,)
        Legendre rule.
    """
    result, count = np.zeros((2, theta.size)), nodes.size
    of_u, of_v, xi, scratch = np.empty((2, count)), np.empty((3, count)), np.empty(count), np.empty((3, count))
    cuts, curve, values = np.empty(edges.size + 2), np.empty(coefficients.shape[2]), np.empty(noisy.shape[2])
    for i in range(theta.size):
        sigma_u, drift = sigma[0, i], sign[i] * sigma[1, i] * cos(theta[i])
        unit_u, unit_v, square, slope = 1 / size[0, i], sign[i] / size[1, i], 0.0, 0.0
        for q in range(noisy_edges.size - 1):
            begin, end = noisy_edges[q] / drift, noisy_edges[q + 1] / drift
            cuts[0], stop = max(min(begin, end), -REACH), min(max(begin, end), REACH)
            if cuts[0] >= stop:
                continue
            first, last = _panel(edges, sigma_u * cuts[0]), _panel(edges, sigma_u * stop)
            for p in range(first, last):
                cuts[p - first + 1] = min(max(edges[p + 1] / sigma_u, cuts[0]), stop)
            cuts[last - first + 1] = stop
            whole = first == last and stop - cuts[0] <= _WIDEST and abs(begin) <= REACH and abs(end) <= REACH
            if whole:
                _combined(values, basis[i], noisy[q])
            else:
                _combined(curve, basis[i], coefficients[q])
            for p in range(first, last + 1):
                left, right = cuts[p - first], cuts[p - first + 1]
                pieces = ceil((right - left) / _WIDEST)
                for piece in range(pieces):
                    half = (right - left) / (2 * pieces)
                    # In the order of v.
                    turn = half if drift > 0 else -half
                    for k in range(count):
                        xi[k] = left + half * (2 * piece + 1) + turn * nodes[k]
                    _values(of_u, exact[p], edges[p], edges[p + 1], 0.0, sigma_u, xi, scratch)
                    known = values.reshape((3, -1))
                    if not whole:
                        known, own = of_v, curve.reshape((3, -1))
                        _values(of_v, own, noisy_edges[q], noisy_edges[q + 1], 0.0, drift, xi, scratch)
                    for k in range(count):
                        weight = half * across[k] * _density(xi[k])
                        gap = of_u[0, k] * unit_u - known[0, k] * unit_v
                        square += weight * (gap * gap + known[2, k] * unit_v * unit_v)
                        slope += weight * of_u[1, k] * known[1, k]
        result[0, i], result[1, i] = square, slope
    return result


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def _combined(sums: FloatArray, factors: FloatArray, terms: FloatArray) -> None:
    """Fill in factors @ terms: BLAS would call threads for so little."""
    sums[:] = 0.0
    for k in range(factors.size):
        for column in range(sums.size):
            sums[column] += factors[k] * terms[k, column]


@compiled(nogil=True, inline="always")
def _density(x: float) -> float:
    return exp(-0.5 * x * x) / sqrt(2 * pi)


@compiled(nogil=True, inline="always")
def _panel(edges: FloatArray, x: float) -> int:
    """Number of the panel that holds x."""
    return min(max(int(np.searchsorted(edges, x, side="right")) - 1, 0), edges.size - 2)


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def _values(
    values: FloatArray,
    coefficients: FloatArray,
    left: float,
    right: float,
    middle: float,
    scale: float,
    at: FloatArray,
    scratch: FloatArray,
) -> None:
    """Fill in the values, (functions, ·), of some functions of a panel at middle + scale·at: all points in one loop."""
    size = at.size
    x, before, here = scratch[0], scratch[1], scratch[2]
    width = right - left
    values[:] = 0.0
    for k in range(size):
        x[k] = ((middle - left) + (middle - right) + 2 * scale * at[k]) / width
        before[k], here[k] = x[k], 1.0
    for degree in range(coefficients.shape[1]):
        for function in range(coefficients.shape[0]):
            factor = coefficients[function, degree]
            for k in range(size):
                values[function, k] += factor * here[k]
        for k in range(size):
            following = 2 * x[k] * here[k] - before[k]
            before[k], here[k] = here[k], following
