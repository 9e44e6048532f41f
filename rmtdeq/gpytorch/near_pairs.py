"""Gradients of entries that Mehler's series does not serve: nearly parallel samples, where φ is bent sharply.

`rmtdeq.kernels.pairs` has E φφ and E φ'φ' there, as functions of two scales and an angle, to almost all digits.  They
are analytic in the logarithms of all three, so that differences of sixth order give their derivatives.  Where φ is bent
away from zero they change with the ratio of the scales within a share of the angle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.gpytorch.descent import PairAdjoints, Partials, descend
from rmtdeq.kernels.pairs import Curves, by_difference_form, solve_pairs
from rmtdeq.kernels.plan import LayerPlan, Plan, tabulated_dual
from rmtdeq.kernels.samples import Angles, beside
from rmtdeq.kernels.scales import Profile, ScaleTable, scale_table
from rmtdeq.network import Layer

_STEP, _LEAST_STEP, _SHARE = 0.02, 1e-4, 0.05
_STENCIL = ((-3, -1 / 60), (-2, 3 / 20), (-1, -3 / 4), (1, 3 / 4), (2, -3 / 20), (3, 1 / 60))
_MARGIN = 0.07
"""More than three steps."""
_LEAST_ANGLE = 1.5e-7


class NearPairs:
    """Pulls gradients of single entries back.

    Parameters
    ----------
    plan : Plan
    kind : str
    """

    def __init__(self, plan: Plan, kind: Kind) -> None:
        self._plan, self._kind = plan, kind

    @cached_property
    def _duals(self) -> list[_Dual]:
        return [_Dual(each) for each in self._plan.layers]

    def pull(self, i: IntArray, j: IntArray, weights: FloatArray) -> PairAdjoints:
        """Return the gradients of ``Σ weights_k K_{i_k j_k}``."""
        plan, kind = self._plan, self._kind
        angles, inner = plan.inputs.pairs(i, j)
        partials = []
        for each, dual in zip(plan.layers, self._duals, strict=True):
            at, angles = dual.partials(each.rows.at(i), each.columns.at(j), angles, kind != "ck")
            partials.append(at)
        return descend([each.layer for each in plan.layers], kind, inner, partials, weights)


class _Dual:
    """The dual of a layer's activation around the scales of its samples."""

    def __init__(self, plan: LayerPlan) -> None:
        self._layer, self._phi = plan.layer, plan.layer.activation
        sigma = np.concatenate([plan.rows.sigma, plan.columns.sigma])
        sigma = sigma[sigma > 0]
        low, high = float(sigma.min()) * np.exp(-_MARGIN), float(sigma.max()) * np.exp(_MARGIN)
        # φ itself at any scale.
        self._squares: ScaleTable = scale_table(Layer(self._phi, 0.0, 1.0, 0.0), low**2, high**2)
        self._curves = _curves(self._phi, low, high)

    def partials(self, u: Profile, v: Profile, angles: Angles, bends: bool) -> tuple[Partials, Angles]:
        """Return value, slope and derivatives at some pairs, and the angles of the features."""
        layer = self._layer
        value, slope, features = solve_pairs(layer, u, v, angles, self._curves)
        angle = self._angle(u, v, angles, features)
        s, t, size = u.sigma**2, v.sigma**2, u.sigma * v.sigma
        rho = size * np.cos(angle)
        of_both = self._derivatives(u.sigma, v.sigma, angle, np.full_like(angle, _STEP), 1.0)
        apart = self._derivatives(u.sigma, v.sigma, angle, self._steps(angle), -1.0)
        of_u, of_v = (of_both + apart) / 2, (of_both - apart) / 2
        by_row, by_column = (of_u[0] - rho * slope) / (2 * s), (of_v[0] - rho * slope) / (2 * t)
        if not bends:
            return Partials(value, slope, by_row, by_column), features
        near = np.clip(angle, _LEAST_ANGLE, np.pi - _LEAST_ANGLE)
        bend = -self._by_angle(u.sigma, v.sigma, near) / (np.sin(near) * size)
        bend_row, bend_column = (of_u[1] - rho * bend) / (2 * s), (of_v[1] - rho * bend) / (2 * t)
        return Partials(value, slope, by_row, by_column, bend, bend_row, bend_column), features

    def _angle(self, u: Profile, v: Profile, angles: Angles, features: Angles) -> FloatArray:
        """The angles of the pre-activations, whose parts' are known."""
        a2, b2, c2 = self._layer.sigma_a2, self._layer.sigma_b2, self._layer.sigma_c2
        (a, x), (other_a, other_x) = ((np.sqrt(a2 * at.square), np.sqrt(b2 * at.squared_norms)) for at in (u, v))
        versine = beside((a, other_a), features.near, (x, other_x), angles.near)
        bias = np.full_like(a, np.sqrt(c2))
        versine = beside((np.hypot(a, x), np.hypot(other_a, other_x)), versine, (bias, bias), 0.0)
        return np.asarray(2 * np.arcsin(np.sqrt(np.clip(versine / 2, 0.0, 1.0))))

    def _at(self, sigma_u: FloatArray, sigma_v: FloatArray, angle: FloatArray) -> FloatArray:
        """E φφ and E φ'φ', (2, pairs)."""
        sign = np.where(angle > np.pi / 2, -1.0, 1.0)
        theta = np.minimum(angle, np.pi - angle)
        size_u, size_v = (np.sqrt(self._squares.profile(sigma**2).square) for sigma in (sigma_u, sigma_v))
        pairs = Pairs(sigma_u, sigma_v, size_u, size_v, theta, sign)
        distance, slope = self._curves(pairs)(np.arange(theta.size), theta)
        return np.stack([sign * size_u * size_v * (1 - distance / 2), slope])

    def _steps(self, angle: FloatArray) -> FloatArray:
        """Steps of one scale against the other."""
        if not any(self._phi.kinks):
            return np.full_like(angle, _STEP)
        return np.asarray(np.clip(_SHARE * np.minimum(angle, np.pi - angle), _LEAST_STEP, _STEP))

    def _derivatives(
        self, sigma_u: FloatArray, sigma_v: FloatArray, angle: FloatArray, steps: FloatArray, sign: float
    ) -> FloatArray:
        """Those along the logarithm of the first scale and `sign` times that of the second, at one angle."""
        found = np.zeros((2, angle.size))
        for k, weight in _STENCIL:
            found += weight / steps * self._at(sigma_u * np.exp(k * steps), sigma_v * np.exp(sign * k * steps), angle)
        return found

    def _by_angle(self, sigma_u: FloatArray, sigma_v: FloatArray, angle: FloatArray) -> FloatArray:
        """The derivative of the slope in the angle, from steps in proportion to its distance from 0 or π."""
        far = angle > np.pi / 2
        theta = np.where(far, np.pi - angle, angle)
        found = np.zeros_like(angle)
        for k, weight in _STENCIL:
            moved = theta * np.exp(k * _STEP)
            found += weight / _STEP * self._at(sigma_u, sigma_v, np.where(far, np.pi - moved, moved))[1]
        return np.where(far, -found, found) / theta


def _curves(phi: Activation, low: float, high: float) -> Callable[[Pairs], Curves]:
    """The dual's distance and slope: a closed form, a table, or quadratures."""
    table = tabulated_dual(phi, low, high)
    return table.pairs if table else partial(by_difference_form, phi)
