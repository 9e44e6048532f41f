"""Expectations over two correlated Gaussians in polar coordinates, for many pairs of scales and one angle at once.

With u = σ_u ρ cos(β + θ/2) and v = σ_v ρ cos(β - θ/2) what happens at u = 0 and at v = 0 lies on rays, however nearly
parallel u and v are: between them functions that are smooth but for zero need few nodes, and the same ones for every
pair of scales.  Panels double in size from the rays and from the origin on, where such functions vary fastest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function
from rmtdeq.activations.activations import Activation
from rmtdeq.activations.quadrature import panel_nodes

_AGREE = 2e-14
_ANGLES = (1e-3, 0.4)


@dataclass(frozen=True)
class PolarRule:
    """Nodes for functions of u and v that are polynomials on panels which double from zero on.

    Attributes
    ----------
    first : float
        Size, in u, of the panels next to zero.
    widest : float
        Largest width of a radial panel.
    nodes : int
        In a panel.
    reach : float
        Radius of the plane that counts.
    """

    first: float
    widest: float
    nodes: int
    reach: float

    def products(self, fn: Function, sigma_u: FloatArray, sigma_v: FloatArray, theta: float) -> tuple[FloatArray, ...]:
        """Return ``E[fn(u) fn(v)]`` and ``E[fn(u) fn(-v)]``, u and v at an angle θ, each (scales of u, scales of v)."""
        same, opposite = np.zeros((2, len(sigma_u), len(sigma_v)))
        highest = max(float(sigma_u.max()), float(sigma_v.max()))
        # Scales that are the same need one evaluation.
        alike = sigma_u is sigma_v
        for radii, weights, finest in self._rings(highest):
            for span, narrow in ((np.pi - theta, False), (theta, True))[: 1 + (theta > 0)]:
                along, turned = self._arc(span, finest)
                of_v = np.sin(along)
                size = len(along) * len(radii)
                # The sine of the other one's angle is the same row of nodes backwards.
                weight = (weights[:, None] * turned / (2 * np.pi)).ravel()
                at = (radii[:, None] * of_v).ravel()
                above, below = _values(fn, sigma_v, at)
                if alike:
                    above_u, below_u = above, below
                else:
                    above_u, below_u = _values(fn, sigma_u, at)
                back = np.arange(size).reshape(len(radii), -1)[:, ::-1].ravel()
                above_u, below_u = above_u[:, back] * weight, below_u[:, back] * weight
                agree = above_u @ above.T + below_u @ below.T
                differ = above_u @ below.T + below_u @ above.T
                same += differ if narrow else agree
                opposite += agree if narrow else differ
        return same, opposite

    def _rings(self, highest: float) -> Iterator[tuple[FloatArray, FloatArray, float]]:
        """Radii of every panel, their weights, and the angle that is the first panel's at its outer edge."""
        edges = [0.0, min(self.first / highest, self.widest)]
        while edges[-1] < self.reach:
            edges.append(min(2 * edges[-1], edges[-1] + self.widest, self.reach))
        for low, high in pairwise(edges):
            radii, weights = (each.ravel() for each in panel_nodes(np.array([low, high]), self.nodes))
            yield radii, weights * radii * np.exp(-0.5 * radii**2), self.first / (highest * high)

    def _arc(self, span: float, finest: float) -> tuple[FloatArray, FloatArray]:
        """Angles and weights between two rays, the same seen from both."""
        edges = [0.0]
        while (step := max(finest, edges[-1])) + edges[-1] < span / 2:
            edges.append(edges[-1] + step)
        half = np.array(edges)
        if len(edges) > 1 or span > 1:
            half = np.append(half, span / 2)
        edges = np.concatenate([half, (span - half)[::-1]])
        along, weights = panel_nodes(np.unique(edges), self.nodes)
        return along.ravel(), weights.ravel()


def _values(fn: Function, sigma: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    u = np.outer(sigma, at)
    shape = u.shape
    return np.asarray(fn(u.ravel())).reshape(shape), np.asarray(fn(-u.ravel())).reshape(shape)


_RULES = tuple(
    PolarRule(first, widest, nodes, reach)
    for first, widest, nodes, reach in (
        (4.0, 3.0, 12, 9.5),
        (2.0, 2.0, 12, 9.5),
        (2.0, 2.0, 16, 10.0),
        (1.0, 1.5, 16, 11.0),
        (0.5, 1.0, 20, 12.0),
        (0.25, 1.0, 24, 13.0),
    )
)


@lru_cache(maxsize=64)
def polar_rule(activation: Activation, low: float, high: float) -> PolarRule | None:
    """Return the rule that integrates products of an activation, and of its slope, at scales between two; or None."""
    if any(activation.kinks):
        return None
    sigma = np.array([low, high])

    def found(rule: PolarRule) -> FloatArray:
        return np.array(
            [rule.products(fn, sigma, sigma, theta) for fn in (activation, activation.slope) for theta in _ANGLES]
        )

    try:
        with np.errstate(all="ignore"):
            values = [found(_RULES[0])]
            for rule, finer in pairwise(_RULES):
                values.append(found(finer))
                of_u = np.sqrt(abs(values[-1][:, 0].diagonal(axis1=1, axis2=2)))
                error = abs(values[-1] - values[-2]) / (of_u[:, None, :, None] * of_u[:, None, None, :])
                if (error <= _AGREE).all():
                    return rule
    except InvalidInputError:
        pass
    return None
