"""The integrals over angles that closed forms of piecewise linear and piecewise constant duals are made of (numba)."""

from __future__ import annotations

from math import cos, exp, expm1, pi, sin

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.types import BoolArray, FloatArray


@compiled(nogil=True)
def panel_sums(
    theta: FloatArray,
    h: FloatArray,
    k: FloatArray,
    less_u: BoolArray,
    less_v: BoolArray,
    span: FloatArray,
    panels: FloatArray,
    nodes: FloatArray,
    across: FloatArray,
) -> FloatArray:
    """The two integrals of `dual_forms._density_integrals`, each for one pair of knots: (2, pairs of knots).

    On so many panels and one below them, of one ratio, from where the integrand begins; or of one width where there is
    no such place.
    """
    result = np.zeros((2, theta.size))
    for i in range(theta.size):
        count, right, last = int(panels[i]), 0.0, sin(theta[i] / 2)
        for panel in range(1, count + 2):
            left = right
            right = theta[i] * (exp(span[i] * ((panel - 1) / count - 1)) if span[i] > 0 else panel / (count + 1))
            half, middle = (right - left) / 2, (right + left) / 2
            for q in range(nodes.size):
                tau = middle + half * nodes[q]
                s, c = sin(tau / 2), cos(tau / 2)
                density = _density_less(s, c, h[i], k[i], less_u[i], less_v[i]) * half * across[q] / (2 * pi)
                result[0, i] += density
                # cos τ - cos θ
                result[1, i] += density * 2 * (last - s) * (last + s)
    return result


@compiled(nogil=True)
def _density_less(s: float, c: float, h: float, k: float, less_u: bool, less_v: bool) -> float:
    """2π f(h, k) less its values at h = 0 (`less_u`), at k = 0 (`less_v`), or at either and plus both.

    At the angle of whose half s is the sine and c the cosine.
    """
    square = (2 * s * c) ** 2
    if not (less_u or less_v):
        return exp(-0.5 * ((h - k) ** 2 / square + h * k / c**2))
    of_h, of_k, mixed = -0.5 * h * h / square, -0.5 * k * k / square, h * k * (1 - 2 * s * s) / square
    rest, change = 0.0, mixed
    if less_u and less_v:
        base = of_h + of_k
        rest = expm1(of_h) * expm1(of_k)
    elif less_v:
        base, change = of_h, of_k + mixed
    else:
        base, change = of_k, of_h + mixed
    # exp(a + b) - exp(a), from the rounded exponentials where b is large.
    if abs(change) < 1:
        return rest + exp(base) * expm1(change)
    return rest + exp(-0.5 * ((h - k) ** 2 / square + h * k / c**2)) - exp(base)
