"""Expectations over two correlated Gaussians as inner products of smoothed functions, for many scales and one angle.

Standard Gaussians x and y at an angle θ are x = cω + sη and y = cω + sη' with c² = cos θ and independent ω, η and η':
E f(x) g(y) is the expectation over ω of the product of what the noise makes of f and of g (the Ornstein-Uhlenbeck
semigroup).  A function that is smooth but for zero is given by its values on panels that double in size from zero on,
the same ones for all scales; the noise is one matrix, and there is one for every angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil, cos, exp, pi, sin, sqrt

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function
from rmtdeq.activations.activations import Activation
from rmtdeq.activations.quadrature import hermite, legendre, normal_density, panel_nodes

_NODES = 20
_REACH = 10.0
_NOISE = 2.0
"""Widest panel across the noise, in its standard deviations."""
_AGREE, _SLOPES_AGREE = 3e-14, 2e-12
"""The second where slopes come from an interpolant."""


@dataclass(frozen=True, eq=False)
class Smoothing:
    """Panels of x > 0 that double in size up to a width.

    Functions are given by the halves of f(x) ± f(-x) at the nodes: a pair of arrays (nodes, functions).

    Attributes
    ----------
    edges : ndarray (panels + 1,)
    widest : float
        Largest width of a panel.
    kinked : bool
        Whether functions are smooth on either side of zero alone.
    """

    edges: FloatArray
    widest: float
    kinked: bool

    @property
    def nodes(self) -> FloatArray:
        """Where functions are evaluated."""
        return panel_nodes(self.edges, _NODES)[0].ravel()

    @property
    def weights(self) -> FloatArray:
        """Of the nodes: E f is the sum over weights times even half."""
        nodes, weights = (each.ravel() for each in panel_nodes(self.edges, _NODES))
        return np.asarray(2 * weights * normal_density(nodes))

    def halves(self, fn: Function, sigma: FloatArray) -> FloatArray:
        """Return even and odd half of fn(σ x) for every σ: (2, nodes, scales)."""
        u = np.outer(self.nodes, sigma)
        above, below = (np.asarray(fn(sign * u.ravel()), dtype=float).reshape(u.shape) for sign in (1.0, -1.0))
        return np.stack([above + below, above - below]) / 2

    def products(self, halves: FloatArray, theta: float) -> FloatArray:
        """Return ``E f(x) g(y)`` and ``E f(x) g(-y)``, x and y at an angle θ > 0: (2, functions, functions)."""
        even, odd = (each.T @ each for each in self._smoothed(halves, theta))
        return np.stack([even + odd, even - odd])

    def _smoothed(self, halves: FloatArray, theta: float) -> FloatArray:
        """The halves of what is left of functions of cω + sη once the noise is averaged over, weighted."""
        noise = sqrt(2) * sin(theta / 2)
        first = noise if self.kinked else max(noise, float(self.edges[1]))
        omega, weights = (each.ravel() for each in panel_nodes(_doubling(first, self.widest), _NODES))
        weights = np.sqrt(2 * weights * normal_density(omega))
        same, turned = (
            _average(sign * sqrt(cos(theta)) * omega, noise, self.edges, *legendre(_NODES), *hermite(_NODES // 2 + 2))
            for sign in (1.0, -1.0)
        )
        return np.stack([(same + turned) @ halves[0], (same - turned) @ halves[1]]) * weights[:, None]


def _doubling(first: float, widest: float) -> FloatArray:
    edges = [0.0, min(first, widest)]
    while edges[-1] < _REACH:
        edges.append(min(2 * edges[-1], edges[-1] + widest, _REACH))
    return np.array(edges)


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def _average(
    middles: FloatArray,
    noise: float,
    edges: FloatArray,
    nodes: FloatArray,
    across: FloatArray,
    of_noise: FloatArray,
    likely: FloatArray,
) -> FloatArray:
    """Matrix from the values on the panels, zero for x < 0, to averages over Gaussian noise around some points.

    Panels as narrow as the noise are their own nodes; on wider ones the interpolant is integrated, piece by piece if
    the noise leads out of the panel.
    """
    count = nodes.size
    matrix = np.zeros((middles.size, (edges.size - 1) * count))
    norm = 1 / (sqrt(2 * pi) * noise)
    to_legendre = np.empty((count, count))
    for k in range(count):
        last, value = 0.0, 1.0
        for degree in range(count):
            to_legendre[degree, k] = (degree + 0.5) * value * across[k]
            last, value = value, ((2 * degree + 1) * nodes[k] * value - degree * last) / (degree + 1)
    most = (ceil(2 * _REACH / _NOISE) + 1) * count
    x, before, here = np.empty(most), np.empty(most), np.empty(most)
    for row in range(middles.size):
        middle = middles[row]
        for panel in range(edges.size - 1):
            left, right = edges[panel], edges[panel + 1]
            # Seen from the middle: the noise may be as small as the rounding of both.
            begin, end = max(left - middle, -_REACH * noise), min(right - middle, _REACH * noise)
            if begin >= end:
                continue
            out = matrix[row, panel * count : (panel + 1) * count]
            width = right - left
            if width <= _NOISE * noise:
                for k in range(count):
                    z = (left - middle + width / 2 * (1 + nodes[k])) / noise
                    out[k] = width / 2 * across[k] * norm * exp(-0.5 * z * z)
                continue
            center = 2 * (middle - left) / width - 1
            if left - middle <= -_REACH * noise and right - middle >= _REACH * noise:
                size = of_noise.size
                for q in range(size):
                    x[q], here[q] = center + 2 * noise * of_noise[q] / width, likely[q]
            else:
                pieces = ceil((end - begin) / (_NOISE * noise))
                half = (end - begin) / (2 * pieces)
                size = pieces * count
                for piece in range(pieces):
                    for k in range(count):
                        away = begin + half * (2 * piece + 1 + nodes[k])
                        x[piece * count + k] = center + 2 * away / width
                        here[piece * count + k] = half * across[k] * norm * exp(-0.5 * (away / noise) ** 2)
            before[:size] = 0.0
            for degree in range(count):
                moment = 0.0
                for q in range(size):
                    moment += here[q]
                for k in range(count):
                    out[k] += moment * to_legendre[degree, k]
                up, down = (2 * degree + 1) / (degree + 1), degree / (degree + 1)
                for q in range(size):
                    following = up * x[q] * here[q] - down * before[q]
                    before[q] = here[q]
                    here[q] = following
    return matrix


@lru_cache(maxsize=64)
def smoothing(activation: Activation, low: float, high: float) -> Smoothing | None:
    """Return the panels that hold an activation and its slope at all scales from `low` to `high`; None if none do."""
    if any(activation.kinks):
        return None
    sigma = np.array([low, sqrt(low * high), high])

    def found(panels: Smoothing) -> FloatArray:
        halves = [panels.halves(fn, sigma) for fn in (activation, activation.slope)]
        return np.array([panels.products(each, theta) for each in halves for theta in (0.1 / (1 + high), 1e-2, 0.4)])

    kinked, agree = bool(activation.kinks), _AGREE if activation.derivative is not None else _SLOPES_AGREE
    candidates = [Smoothing(_doubling(size / high, size), size, kinked) for size in (1.0, 0.5, 0.25, 0.125)]
    try:
        with np.errstate(all="ignore"):
            values = found(candidates[0])
            for panels, finer in pairwise(candidates):
                coarse, values = values, found(finer)
                size = np.sqrt(abs(values[:, 0].diagonal(axis1=1, axis2=2)))
                if (abs(values - coarse) <= agree * (size[:, None, :, None] * size[:, None, None, :])).all():
                    return panels
    except InvalidInputError:
        pass
    return None
