"""The inner loop of gradients: entries taken through all layers and back, strip by strip (numba).

Going up, a strip of 64 entries of a row leaves in every layer its value F = E φ(ξ)φ(ζ), its slope ∂F/∂ρ = E φ'φ', and
the partial derivatives of both; going down, the gradient of the entries becomes one of the inner products, of the
variances s, t of the pre-activations and of the layers' variances.  By Price's theorem ``∂F/∂s = ½ E φ''φ``.

Layers that are linear but for a fold have closed forms in 1 - r, r the correlation of the pre-activations, which keeps
its digits from layer to layer however near samples are to parallel; others have Mehler's series.  As in
`rmtdeq.kernels.engines.numba_tiles`, all that a strip has in a layer lies in one flat array at constant distances.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.kernels.engines.numba_tiles import angle

STRIP = 64
LEAST_VERSINE = 1e-14
"""1 - |r| that stands for none in what is infinite for parallel samples."""

_MOST_STEPS = 60
_SETTLED, _SETTLED_FOLD = 1e-8, 1e-8
"""Steps of Newton's method, relative to r or 1 - r, after which what is left is rounding."""

# Sections of a layer's flat array: of columns, of entries, and sums of columns.
(
    _SIGMA, _INVERSE, _SIZE, _PER_SIZE, _NORM, _BELOW, _UNDER, _SOURCE, _VERSINE, _R, _MOVE, _TURNED, _THETA, _SINE,
    _VALUE, _SLOPE, _RECIPROCAL, _TANGENT, _BY_ROW, _BY_COLUMN, _BEND, _BEND_ROW, _BEND_COLUMN, _COLUMN_SUM, _LOST,
) = (STRIP * k for k in range(25))  # fmt: skip
_SECTIONS = 25
# Sections of what goes down.
_OF_VALUE, _OF_TANGENT = 0, STRIP


_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": _FAST, "nogil": True}


class Series(NamedTuple):
    """Mehler's series of the layers without a fold, up to some degree, and what they need for ∂/∂s.

    Attributes
    ----------
    slots : ndarray (layers,)
        Which of the series is the layer's; -1 where it has a fold.
    rows, row_slopes : ndarray (series, n, degree + 1)
        Hermite coefficients h_k of samples, and those of ½φ'', √((k + 1)(k + 2)) h_{k+2}/(2s).
    columns, column_slopes : ndarray (series, degree + 1, m)
    degrees : ndarray (tiers,)
        Multiples of four, ascending.
    cutoffs : ndarray (layers, tiers)
        The largest |r| that each serves.
    """

    slots: IntArray
    rows: FloatArray
    row_slopes: FloatArray
    columns: FloatArray
    column_slopes: FloatArray
    degrees: IntArray
    cutoffs: FloatArray


class Layers(NamedTuple):
    """What is known of samples and layers, apart from series.

    Attributes
    ----------
    rows, columns : ndarray (layers, 3, n), (layers, 3, m)
        Of a sample in a layer: σ, √E φ², and the norm of its input.
    silent : float
        σ of samples that have no pre-activation.
    variances : ndarray (layers, 3)
        σ_a², σ_b², σ_c².
    folds : ndarray (layers, 3)
        φ(u) = linear·u + fold·|u| - shift.
    """

    rows: FloatArray
    columns: FloatArray
    silent: float
    variances: FloatArray
    folds: FloatArray


@compiled(**_OPTIONS)
def _products(b, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    """Find what input and bias have of the covariance."""
    for j in range(STRIP):
        b[_SOURCE + j] = sigma_b2 * b[_BELOW + j] + sigma_c2


@compiled(**_OPTIONS)
def _first_turned(b, norm):  # type: ignore[no-untyped-def]
    """Find 1 - cos of the samples' angles."""
    for j in range(STRIP):
        size = norm * b[_NORM + j]
        b[_TURNED + j] = min(max(1.0 - b[_BELOW + j] / size, 0.0), 2.0) if size > 0.0 else 1.0


@compiled(**_OPTIONS)
def _versine(b, under, row, sigma_a2, sigma_b2, sigma_c2, silent):  # type: ignore[no-untyped-def]
    """Find 1 - r that input and bias, and features that were parallel, leave of the pre-activations."""
    sigma, size, norm = row[0], row[1], row[2]
    root_a, root_b, root_c = sqrt(sigma_a2), sqrt(sigma_b2), sqrt(sigma_c2)
    a, x, bias = root_a * size, root_b * norm, root_c
    inverse = 1.0 / sigma if sigma > silent else 0.0
    for j in range(STRIP):
        other_a, other_x = root_a * b[_SIZE + j], root_b * b[_NORM + j]
        both = x * other_x
        # Lagrange's identity for σ_u σ_v less the product of the parts' sizes.
        first, second, third = a * other_x - x * other_a, bias * (x - other_x), bias * (a - other_a)
        apart = first * first + second * second + third * third
        scale = inverse * b[_INVERSE + j]
        apart = apart / (sigma * b[_SIGMA + j] + a * other_a + both + sigma_c2)
        known = (apart + both * under[j]) * scale
        b[_SOURCE + j] = min(max(known, 0.0), 2.0) if scale > 0.0 else 1.0
        b[_VERSINE + j] = b[_SOURCE + j]


@compiled(**_OPTIONS)
def _fold(b, row, linear, fold, shift):  # type: ignore[no-untyped-def]
    """Find angle, slope, and 1 - cos of the features' angle from 1 - r; see `dual_forms.FoldedLinear`."""
    sigma, size = row[0], row[1]
    squares, folded = linear * linear + fold * fold, fold * fold * (2.0 / pi)
    spread, mean = squares - folded, fold * sqrt(2.0 / pi)
    per_size = 1.0 / size if size > 0.0 else 0.0
    u = sigma * per_size
    for j in range(STRIP):
        versine = b[_VERSINE + j]
        r, theta = 1.0 - versine, angle(versine)
        sine = sqrt(versine * (2.0 - versine))
        v = b[_SIGMA + j] * b[_PER_SIZE + j]
        apart = u - v
        constant = mean * apart - shift * (per_size - b[_PER_SIZE + j])
        loss = squares * versine - folded * (sine - theta * r)
        turned = 0.5 * (spread * apart * apart + constant * constant) + u * v * loss
        b[_TURNED + j] = min(max(turned, 0.0), 2.0)
        b[_THETA + j], b[_SINE + j] = theta, sine
        b[_SLOPE + j] = squares - folded * theta


@compiled(**_OPTIONS)
def _fold_step(b, row, sigma_a2):  # type: ignore[no-untyped-def]
    """One step of Newton's method for 1 - r, whose equation is convex; say whether it moved nothing."""
    per = sigma_a2 * row[1] / row[0]
    moving = 0.0
    for j in range(STRIP):
        before = b[_VERSINE + j]
        share = per * b[_SIZE + j] / b[_SIGMA + j]
        gap = before - b[_SOURCE + j] - share * b[_TURNED + j]
        step = gap / (1.0 - sigma_a2 * b[_SLOPE + j])
        after = min(max(before - step, 0.0), 2.0)
        b[_VERSINE + j] = after
        moving += 1.0 if abs(after - before) > _SETTLED_FOLD * after + 1e-300 else 0.0
    return moving == 0.0


@compiled(**_OPTIONS)
def _fold_partials(b, row, sigma_a2, linear, fold, shift):  # type: ignore[no-untyped-def]
    """Find the value and its partial derivatives."""
    sigma, size = row[0], row[1]
    inverse = 1.0 / sigma
    folded, mean = fold * fold * (2.0 / pi), fold * sqrt(2.0 / pi)
    for j in range(STRIP):
        other, per = b[_SIGMA + j], 1.0 / b[_SIGMA + j]
        half = 0.5 * folded * b[_SINE + j]
        b[_VALUE + j] = size * b[_SIZE + j] * (1.0 - b[_TURNED + j])
        b[_BY_ROW + j] = half * other * inverse - 0.5 * shift * mean * inverse
        b[_BY_COLUMN + j] = half * sigma * per - 0.5 * shift * mean * per
        b[_RECIPROCAL + j] = 1.0 / (1.0 - sigma_a2 * b[_SLOPE + j])


@compiled(**_OPTIONS)
def _fold_bends(b, row, fold):  # type: ignore[no-untyped-def]
    """Find the partial derivatives of the slope, those of parallel samples kept finite."""
    inverse = 1.0 / row[0]
    folded = fold * fold * (2.0 / pi)
    for j in range(STRIP):
        per = 1.0 / b[_SIGMA + j]
        versine = min(max(b[_VERSINE + j], LEAST_VERSINE), 2.0 - LEAST_VERSINE)
        steep = folded / sqrt(versine * (2.0 - versine))
        r = 1.0 - versine
        b[_BEND + j] = steep * inverse * per
        b[_BEND_ROW + j] = -0.5 * steep * r * inverse * inverse
        b[_BEND_COLUMN + j] = -0.5 * steep * r * per * per


@compiled(**_OPTIONS)
def _start(b, row, sigma_a2, mean):  # type: ignore[no-untyped-def]
    """Find r that input and bias leave, with what means add to it."""
    inverse = 1.0 / row[0]
    for j in range(STRIP):
        r = (b[_SOURCE + j] + sigma_a2 * mean[j]) * inverse * b[_INVERSE + j]
        b[_R + j] = min(max(r, -1.0), 1.0)


@compiled(**_OPTIONS)
def _four_values(b, y, h):  # type: ignore[no-untyped-def]
    """Four steps of Horner's rule for the series and its derivative in r."""
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    for j in range(STRIP):
        r, v, s = b[_R + j], b[_VALUE + j], b[_SLOPE + j]
        s, v = s * r + v, v * r + h3 * y[3 * STRIP + j]
        s, v = s * r + v, v * r + h2 * y[2 * STRIP + j]
        s, v = s * r + v, v * r + h1 * y[STRIP + j]
        s, v = s * r + v, v * r + h0 * y[j]
        b[_VALUE + j], b[_SLOPE + j] = v, s


@compiled(**_OPTIONS)
def _four_partials(b, y, z, h, g):  # type: ignore[no-untyped-def]
    """Four steps of Horner's rule for the derivatives in s and t."""
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    g0, g1, g2, g3 = g[0], g[1], g[2], g[3]
    for j in range(STRIP):
        r, s, t = b[_R + j], b[_BY_ROW + j], b[_BY_COLUMN + j]
        s, t = s * r + g3 * y[3 * STRIP + j], t * r + h3 * z[3 * STRIP + j]
        s, t = s * r + g2 * y[2 * STRIP + j], t * r + h2 * z[2 * STRIP + j]
        s, t = s * r + g1 * y[STRIP + j], t * r + h1 * z[STRIP + j]
        s, t = s * r + g0 * y[j], t * r + h0 * z[j]
        b[_BY_ROW + j], b[_BY_COLUMN + j] = s, t


@compiled(**_OPTIONS)
def _four_bends(b, y, z, h, g):  # type: ignore[no-untyped-def]
    """Four steps of Horner's rule for the derivatives in s and t, all derivatives in r of them, and the second one."""
    for k in range(3, -1, -1):
        hk, gk = h[k], g[k]
        yk, zk = y[STRIP * k : STRIP * (k + 1)], z[STRIP * k : STRIP * (k + 1)]
        for j in range(STRIP):
            r = b[_R + j]
            b[_BEND + j] = b[_BEND + j] * r + b[_SLOPE + j]
            b[_SLOPE + j] = b[_SLOPE + j] * r + b[_VALUE + j]
            b[_VALUE + j] = b[_VALUE + j] * r + hk * yk[j]
            b[_BEND_ROW + j] = b[_BEND_ROW + j] * r + b[_BY_ROW + j]
            b[_BY_ROW + j] = b[_BY_ROW + j] * r + gk * yk[j]
            b[_BEND_COLUMN + j] = b[_BEND_COLUMN + j] * r + b[_BY_COLUMN + j]
            b[_BY_COLUMN + j] = b[_BY_COLUMN + j] * r + hk * zk[j]


@compiled(**_OPTIONS)
def _tier(b, cutoffs):  # type: ignore[no-untyped-def]
    """Return the first series that serves all entries which the last one does."""
    top, last = 0.0, cutoffs[-1]
    for j in range(STRIP):
        size = abs(b[_R + j])
        top = max(top, size if size <= last else 0.0)
    tier = 0
    while tier < cutoffs.size - 1 and cutoffs[tier] < top:
        tier += 1
    return tier


@compiled(**_OPTIONS)
def _series_step(b, row, sigma_a2, last):  # type: ignore[no-untyped-def]
    """One step of Newton's method for r; say whether it moved nothing that the series serves."""
    inverse = 1.0 / row[0]
    moving = 0.0
    for j in range(STRIP):
        scale = inverse * b[_INVERSE + j]
        before = b[_R + j]
        gap = before - (b[_SOURCE + j] + sigma_a2 * b[_VALUE + j]) * scale
        after = min(max(before - gap / (1.0 - sigma_a2 * scale * b[_SLOPE + j]), -1.0), 1.0)
        b[_R + j] = after
        b[_MOVE + j] = abs(after - before)
        moving += 1.0 if abs(after - before) > _SETTLED and min(abs(after), abs(before)) <= last else 0.0
    return moving == 0.0


@compiled(**_OPTIONS)
def _clear(b, section, count):  # type: ignore[no-untyped-def]
    for j in range(STRIP * count):
        b[section + j] = 0.0


@compiled(**_OPTIONS)
def _sum_values(b, y, h, degree):  # type: ignore[no-untyped-def]
    _clear(b, _VALUE, 2)
    for k in range(degree - 4, -1, -4):
        _four_values(b, y[STRIP * k : STRIP * (k + 4)], h[k : k + 4])


@compiled(**_OPTIONS)
def _sum_partials(b, y, z, h, g, degree, bends):  # type: ignore[no-untyped-def]
    _clear(b, _BY_ROW, 5)
    if bends:
        _clear(b, _VALUE, 2)
    for k in range(degree - 4, -1, -4):
        u, v = y[STRIP * k : STRIP * (k + 4)], z[STRIP * k : STRIP * (k + 4)]
        if bends:
            _four_bends(b, u, v, h[k : k + 4], g[k : k + 4])
        else:
            _four_partials(b, u, v, h[k : k + 4], g[k : k + 4])


@compiled(**_OPTIONS)
def _finish_series(b, row, sigma_a2, last, unsettled):  # type: ignore[no-untyped-def]
    """Turn derivatives in r into those in the covariance, and mark what the series does not serve."""
    inverse, per_size = 1.0 / row[0], 1.0 / row[1] if row[1] > 0.0 else 0.0
    for j in range(STRIP):
        scale = inverse * b[_INVERSE + j]
        slope = b[_SLOPE + j] * scale
        lost = abs(b[_R + j]) > last or (unsettled and b[_MOVE + j] > _SETTLED) or sigma_a2 * slope >= 1.0
        b[_LOST + j] = 1.0 if lost else b[_LOST + j]
        b[_SLOPE + j] = slope
        b[_RECIPROCAL + j] = 1.0 if lost else 1.0 / (1.0 - sigma_a2 * slope)
        b[_BEND + j] = 2.0 * b[_BEND + j] * scale * scale
        b[_BEND_ROW + j] = b[_BEND_ROW + j] * scale
        b[_BEND_COLUMN + j] = b[_BEND_COLUMN + j] * scale
        b[_TURNED + j] = min(max(1.0 - b[_VALUE + j] * per_size * b[_PER_SIZE + j], 0.0), 2.0)


@compiled(**_OPTIONS)
def _tangent(b, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    for j in range(STRIP):
        after = sigma_b2 * b[_UNDER + j] + sigma_c2
        b[_TANGENT + j] = (b[_VALUE + j] + after * b[_SLOPE + j]) * b[_RECIPROCAL + j]


@compiled(**_OPTIONS)
def _first_tangent(b):  # type: ignore[no-untyped-def]
    for j in range(STRIP):
        b[_TANGENT + j] = b[_VALUE + j] * b[_RECIPROCAL + j]


@compiled(**_OPTIONS)
def _hand_on(b, above):  # type: ignore[no-untyped-def]
    """Give value, tangent kernel and marks to the layer above."""
    for j in range(STRIP):
        above[_BELOW + j], above[_UNDER + j], above[_LOST + j] = b[_VALUE + j], b[_TANGENT + j], b[_LOST + j]


@compiled(**_OPTIONS)
def _down(b, c, sigma_a2, sigma_b2):  # type: ignore[no-untyped-def]
    """Take the gradient of a layer's values to those below; return sums of the row, and of the layer's variances."""
    of_row, of_a2, of_b2, of_c2 = 0.0, 0.0, 0.0, 0.0
    for j in range(STRIP):
        v = c[_OF_VALUE + j]
        source = v * b[_SLOPE + j] * b[_RECIPROCAL + j]
        # The covariance is a fixed point, which moves with the variances, too.
        through = v + sigma_a2 * source
        of_row += through * b[_BY_ROW + j]
        b[_COLUMN_SUM + j] += through * b[_BY_COLUMN + j]
        of_a2 += source * b[_VALUE + j]
        of_b2 += source * b[_BELOW + j]
        of_c2 += source
        c[_OF_VALUE + j] = sigma_b2 * source
    return of_row, of_a2, of_b2, of_c2


@compiled(**_OPTIONS)
def _down_tangent(b, c, sigma_a2, sigma_b2, sigma_c2, fixed):  # type: ignore[no-untyped-def]
    """The same for a tangent kernel; `fixed` where this layer's input weights and bias are."""
    of_row, of_a2, of_b2, of_c2 = 0.0, 0.0, 0.0, 0.0
    trained = 0.0 if fixed else 1.0
    for j in range(STRIP):
        t = c[_OF_TANGENT + j] * b[_RECIPROCAL + j]
        v = c[_OF_VALUE + j] + t
        after = trained * (sigma_b2 * b[_UNDER + j] + sigma_c2)
        of_slope = t * (after + sigma_a2 * b[_TANGENT + j])
        of_after = trained * t * b[_SLOPE + j]
        source = (v * b[_SLOPE + j] + of_slope * b[_BEND + j]) * b[_RECIPROCAL + j]
        through = v + sigma_a2 * source
        of_row += through * b[_BY_ROW + j] + of_slope * b[_BEND_ROW + j]
        b[_COLUMN_SUM + j] += through * b[_BY_COLUMN + j] + of_slope * b[_BEND_COLUMN + j]
        of_a2 += source * b[_VALUE + j] + t * b[_SLOPE + j] * b[_TANGENT + j]
        of_b2 += source * b[_BELOW + j] + of_after * b[_UNDER + j]
        of_c2 += source + of_after
        c[_OF_VALUE + j] = sigma_b2 * source
        c[_OF_TANGENT + j] = sigma_b2 * of_after
    return of_row, of_a2, of_b2, of_c2


@compiled(**_OPTIONS)
def _up(state, i, y, z, means, layers, series, tangent, fixed):  # type: ignore[no-untyped-def]
    """Take a strip of row i from inner products to the last layer."""
    depth = state.shape[0]
    for layer in range(depth):
        b, row = state[layer], layers.rows[layer, :, i]
        a2, b2, c2 = layers.variances[layer, 0], layers.variances[layer, 1], layers.variances[layer, 2]
        slot = series.slots[layer]
        if slot < 0:
            linear, fold, shift = layers.folds[layer, 0], layers.folds[layer, 1], layers.folds[layer, 2]
            if layer == 0:
                _first_turned(b, row[2])
                _versine(b, b[_TURNED:], row, a2, b2, c2, layers.silent)
            else:
                _versine(b, state[layer - 1, _TURNED:], row, a2, b2, c2, layers.silent)
            _fold(b, row, linear, fold, shift)
            if a2 > 0.0:
                for _ in range(_MOST_STEPS):
                    settled = _fold_step(b, row, a2)
                    _fold(b, row, linear, fold, shift)
                    if settled:
                        break
            _fold_partials(b, row, a2, linear, fold, shift)
            if tangent:
                _fold_bends(b, row, fold)
        else:
            h, g, cutoffs = series.rows[slot, i], series.row_slopes[slot, i], series.cutoffs[layer]
            last, unsettled = cutoffs[-1], False
            _products(b, b2, c2)
            if a2 > 0.0:
                for j in range(STRIP):
                    means[j] = h[0] * y[slot, j]
                _start(b, row, a2, means)
                unsettled = True
                for _ in range(_MOST_STEPS):
                    _sum_values(b, y[slot], h, series.degrees[_tier(b, cutoffs)])
                    if _series_step(b, row, a2, last):
                        unsettled = False
                        break
            else:
                _start(b, row, 0.0, means)
            degree = series.degrees[_tier(b, cutoffs)]
            if not tangent:
                _sum_values(b, y[slot], h, degree)
            _sum_partials(b, y[slot], z[slot], h, g, degree, tangent)
            _finish_series(b, row, a2, last, unsettled)
        if tangent:
            if fixed and layer == 0:
                _first_tangent(b)
            else:
                _tangent(b, b2, c2)
        if layer + 1 < depth:
            _hand_on(b, state[layer + 1])


@compiled(**_OPTIONS)
def _load(state, y, z, begin, width, layers, series):  # type: ignore[no-untyped-def]
    """Look up what the columns of a strip have, one sample without anything beyond them."""
    for layer in range(state.shape[0]):
        b, columns = state[layer], layers.columns[layer]
        for j in range(STRIP):
            sigma, size, norm = 1.0, 1.0, 1.0
            if j < width:
                sigma, size, norm = columns[0, begin + j], columns[1, begin + j], columns[2, begin + j]
            b[_SIGMA + j] = sigma
            b[_INVERSE + j] = 1.0 / sigma if sigma > layers.silent or series.slots[layer] >= 0 else 0.0
            b[_SIZE + j], b[_NORM + j] = size, norm
            b[_PER_SIZE + j] = 1.0 / size if size > 0.0 else 0.0
            b[_COLUMN_SUM + j] = b[_LOST + j] = 0.0
    terms = series.columns.shape[1]
    for slot in range(series.columns.shape[0]):
        for k in range(terms):
            for j in range(width):
                y[slot, STRIP * k + j] = series.columns[slot, k, begin + j]
                z[slot, STRIP * k + j] = series.column_slopes[slot, k, begin + j]
            for j in range(width, STRIP):
                y[slot, STRIP * k + j] = z[slot, STRIP * k + j] = 0.0


@compiled(**_OPTIONS)
def pull_block(
    gram: FloatArray,
    weights: FloatArray,
    top: int,
    left: int,
    below: bool,
    tangent: bool,
    fixed: bool,
    layers: Layers,
    series: Series,
    of_rows: FloatArray,
    of_columns: FloatArray,
    of_variances: FloatArray,
    lost: np.ndarray[Any, Any],
) -> int:
    """Turn the gradient of a block of entries into that of what they depend on.

    Parameters
    ----------
    gram : ndarray (height, width)
        Inner products.
    weights : ndarray (height, width)
        In: the gradient of the entries.  Out: that of the inner products, zero where `lost`.
    top, left : int
        Where the block begins.
    below : bool
        Only entries below the diagonal count.
    tangent, fixed : bool
        Whether it is a tangent kernel, with the first layer's input weights and bias fixed.
    layers : Layers
    series : Series
    of_rows, of_columns : ndarray (layers, height), (layers, width)
        What is added to: gradients of the variances of pre-activations.
    of_variances : ndarray (layers, 3)
        The same of the layers' variances.
    lost : ndarray (height, width) of uint8
        Out: 1 where some layer's series does not serve.

    Returns
    -------
    int
        Number of those.
    """
    depth, terms = layers.rows.shape[0], series.columns.shape[1]
    state = np.zeros((depth, _SECTIONS * STRIP))
    y, z = np.zeros((series.columns.shape[0], terms * STRIP)), np.zeros((series.columns.shape[0], terms * STRIP))
    c, means = np.zeros(2 * STRIP), np.zeros(STRIP)
    count = 0
    for first in range(0, gram.shape[1], STRIP):
        width = min(STRIP, gram.shape[1] - first)
        start = max(0, left + first + 1 - top) if below else 0
        if start >= gram.shape[0]:
            weights[:, first : first + width] = 0.0
            continue
        weights[:start, first : first + width] = 0.0
        _load(state, y, z, left + first, width, layers, series)
        bottom = state[0]
        for a in range(start, gram.shape[0]):
            i = top + a
            end = min(width, i - left - first) if below else width
            for j in range(end):
                bottom[_BELOW + j] = bottom[_UNDER + j] = gram[a, first + j]
                c[_OF_VALUE + j] = weights[a, first + j]
            for j in range(end, STRIP):
                bottom[_BELOW + j] = bottom[_UNDER + j] = c[_OF_VALUE + j] = 0.0
            _clear(bottom, _LOST, 1)
            _up(state, i, y, z, means, layers, series, tangent, fixed)
            marks, any_lost = state[depth - 1], 0.0
            for j in range(STRIP):
                any_lost += marks[_LOST + j]
            if any_lost > 0.0:
                for j in range(STRIP):
                    if marks[_LOST + j] > 0.0 and j < end:
                        lost[a, first + j] = 1
                        count += 1
                    c[_OF_VALUE + j] = 0.0 if marks[_LOST + j] > 0.0 else c[_OF_VALUE + j]
            if tangent:
                for j in range(STRIP):
                    c[_OF_TANGENT + j] = c[_OF_VALUE + j]
                    c[_OF_VALUE + j] = 0.0
            for layer in range(depth - 1, -1, -1):
                a2, b2, c2 = layers.variances[layer, 0], layers.variances[layer, 1], layers.variances[layer, 2]
                if tangent:
                    sums = _down_tangent(state[layer], c, a2, b2, c2, fixed and layer == 0)
                else:
                    sums = _down(state[layer], c, a2, b2)
                of_rows[layer, a] += sums[0]
                of_variances[layer, 0] += sums[1]
                of_variances[layer, 1] += sums[2]
                of_variances[layer, 2] += sums[3]
            if tangent:
                # The tangent kernel begins with the inner products, too.
                for j in range(STRIP):
                    c[_OF_VALUE + j] += c[_OF_TANGENT + j]
            for j in range(end):
                weights[a, first + j] = c[_OF_VALUE + j]
            for j in range(end, width):
                weights[a, first + j] = 0.0
        for layer in range(depth):
            for j in range(width):
                of_columns[layer, first + j] += state[layer, _COLUMN_SUM + j]
    return count
