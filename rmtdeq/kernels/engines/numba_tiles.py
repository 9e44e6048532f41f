"""The inner loop of the kernels: off-diagonal entries, strip by strip through all layers (numba).

The unknown of an entry of a layer is the correlation r of its two pre-activations:
``r σ_i σ_j = σ_a² Σ_k h_k(σ_i) h_k(σ_j) r^k + σ_b² k_ij + σ_c²``, k_ij the inner product of the samples or the entry of
the layer below.  Without recurrence it is known, and what is left is the series; or, where the activation is linear but
for a fold, a closed form.  Else a step needs the series, its derivative (what the CK and the NTK are made of) and its
second derivative, which makes the step one of third order and gives value and derivative at its end without another
evaluation.  Where samples are nearly orthogonal the series up to degree 4 is so near that one step with the series up
to degree 12 is all there is to do.

A strip is 64 entries of a row.  All that a strip works on lies in one flat array at constant distances, and its loops
hold plain arithmetic over a constant number of entries, so that the compiler turns them into vector instructions
without asking whether arrays overlap.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from rmtdeq._lib.compiled import compiled
from rmtdeq._lib.types import FloatArray
from rmtdeq.kernels.angular import FAR, TERMS, Angular
from rmtdeq.kernels.series import ARCSINE, CLOSED, Branches, Coefficients, Position, Scales

STRIP = 64
_PITCH = STRIP + 8
"""From row to row of a tile: at a power of two the entries of a column would share few lines of the cache."""
_MAX_STEPS = 60
_STEP = 1e-7  # What is left after a step is of the order of its square, for the derivative.

# Sections of the flat array; four that lie together are what is kept of a node of a network with branches.
(
    _X, _BELOW, _R, _VALUE, _TANGENT, _FULL, _VERSINE, _SLOPE, _BEND, _MOVE, _GAIN, _RECIPROCAL, _LOST, _BAD,
) = (STRIP * k for k in range(14))  # fmt: skip
_SECTIONS = 14
_ENTRIES, _NODE = 3 * STRIP, 4 * STRIP
# And of what a layer knows of the columns: 1/σ, the scale of what φ is given, √E φ², the terms of the series.
_INVERSE, _SIGMA, _SIZE, _SERIES = (STRIP * k for k in range(4))
_Y0, _Y1, _Y2, _Y3, _Y4, _Y5, _Y6, _Y7, _Y8, _Y9, _Y10, _Y11, _Y12 = (_SERIES + STRIP * k for k in range(13))

_C12, _C11, _C10, _C9, _C8, _C7, _C6, _C5, _C4, _C3, _C2, _C1, _ = ARCSINE

_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": _FAST, "nogil": True}


@compiled(**_OPTIONS)
def _move(x, r, v, s, c, scale, sigma_a2):  # type: ignore[no-untyped-def]
    """One step for the entry j at r, where the series is v, its slope s and half its curvature c.

    With g = σ_a²/(σ_i σ_j) the equation at r + d is f - (1 - g s) d + g c d² = 0; value, slope and the reciprocal of
    the gain 1 - g s at the new position come from Taylor's formula and a step of Newton's method for the reciprocal.
    """
    g = sigma_a2 * scale
    inverse = 1.0 / (1.0 - g * s)
    q = g * c * inverse
    d = ((sigma_a2 * v + x) * scale - r) * inverse
    t = q * d
    d = d * (1.0 + t) if abs(t) < 0.25 else d
    moved = min(max(r + d, -1.0), 1.0)
    d = moved - r
    s1 = s + 2.0 * c * d
    gain = 1.0 - g * s1
    return moved, d * (1.0 + abs(q)), v + d * (s + c * d), s1, gain, inverse * (2.0 - gain * inverse)


@compiled(**_OPTIONS)
def _line(x, c1, scale, sigma_a2):  # type: ignore[no-untyped-def]
    """The root where the series is c1 r, and what further terms are multiplied by in the equation for r."""
    g = sigma_a2 * scale
    inverse = 1.0 / (1.0 - g * c1)
    return x * scale * inverse, g * inverse


@compiled(**_OPTIONS)
def _start(b, of, h, at, inverse_sigma, variances):  # type: ignore[no-untyped-def]
    """The root of the series' quartic part, and there the series up to degree 12.

    Of two loops each has a short way from what it reads to what it writes, so that the core works at several turns of
    one at once.
    """
    h0, h1, h2, h3, h4, h5, h6 = h[at], h[at + 1], h[at + 2], h[at + 3], h[at + 4], h[at + 5], h[at + 6]
    h7, h8, h9, h10, h11, h12 = h[at + 7], h[at + 8], h[at + 9], h[at + 10], h[at + 11], h[at + 12]
    sigma_a2, sigma_b2, sigma_c2 = variances
    for j in range(STRIP):
        x = sigma_b2 * b[_VALUE + j] + sigma_c2
        b[_X + j] = x
        x += sigma_a2 * h0 * of[_Y0 + j]
        linear, g = _line(x, h1 * of[_Y1 + j], inverse_sigma * of[_INVERSE + j], sigma_a2)
        k2, k3, k4 = g * h2 * of[_Y2 + j], g * h3 * of[_Y3 + j], g * h4 * of[_Y4 + j]
        r = linear + (k2 + k3 * linear) * linear * linear
        r = linear + (k2 + (k3 + k4 * r) * r) * r * r
        # Far from zero this may have led astray; NaN is not within either.
        b[_R + j] = r if abs(r) <= 1.0 else min(max(linear, -1.0), 1.0)
    for j in range(STRIP):
        r = b[_R + j]
        s = h12 * of[_Y12 + j]
        v, c = s * r + h11 * of[_Y11 + j], 0.0
        c, s, v = s, s * r + v, v * r + h10 * of[_Y10 + j]
        c, s, v = c * r + s, s * r + v, v * r + h9 * of[_Y9 + j]
        c, s, v = c * r + s, s * r + v, v * r + h8 * of[_Y8 + j]
        c, s, v = c * r + s, s * r + v, v * r + h7 * of[_Y7 + j]
        c, s, v = c * r + s, s * r + v, v * r + h6 * of[_Y6 + j]
        c, s, v = c * r + s, s * r + v, v * r + h5 * of[_Y5 + j]
        c, s, v = c * r + s, s * r + v, v * r + h4 * of[_Y4 + j]
        c, s, v = c * r + s, s * r + v, v * r + h3 * of[_Y3 + j]
        c, s, v = c * r + s, s * r + v, v * r + h2 * of[_Y2 + j]
        c, s, v = c * r + s, s * r + v, v * r + h1 * of[_Y1 + j]
        c, s, v = c * r + s, s * r + v, v * r + h0 * of[_Y0 + j]
        b[_VALUE + j], b[_SLOPE + j], b[_BEND + j] = v, s, c


@compiled(**_OPTIONS)
def _start_odd(b, of, h, at, inverse_sigma, variances):  # type: ignore[no-untyped-def]
    """The same where the series has odd terms alone, r Σ c_{2m+1} r^{2m}; the root has the quintic term, too."""
    h1, h3, h5, h7, h9, h11 = h[at + 1], h[at + 3], h[at + 5], h[at + 7], h[at + 9], h[at + 11]
    sigma_a2, sigma_b2, sigma_c2 = variances
    for j in range(STRIP):
        x = sigma_b2 * b[_VALUE + j] + sigma_c2
        b[_X + j] = x
        linear, g = _line(x, h1 * of[_Y1 + j], inverse_sigma * of[_INVERSE + j], sigma_a2)
        k3, k5 = g * h3 * of[_Y3 + j], g * h5 * of[_Y5 + j]
        q = linear * linear
        r = linear + (k3 + k5 * q) * q * linear
        q = r * r
        r = linear + (k3 + k5 * q) * q * r
        b[_R + j] = r if abs(r) <= 1.0 else min(max(linear, -1.0), 1.0)
    for j in range(STRIP):
        r = b[_R + j]
        q = r * r
        s = h11 * of[_Y11 + j]
        v, c = s * q + h9 * of[_Y9 + j], 0.0
        c, s, v = s, s * q + v, v * q + h7 * of[_Y7 + j]
        c, s, v = c * q + s, s * q + v, v * q + h5 * of[_Y5 + j]
        c, s, v = c * q + s, s * q + v, v * q + h3 * of[_Y3 + j]
        c, s, v = c * q + s, s * q + v, v * q + h1 * of[_Y1 + j]
        # From derivatives in r² to those in r.
        b[_VALUE + j], b[_SLOPE + j], b[_BEND + j] = v * r, v + 2.0 * q * s, r * (3.0 * s + 4.0 * q * c)


@compiled(**_OPTIONS)
def _eight_degrees(b, y, h):  # type: ignore[no-untyped-def]
    """Eight steps of Horner's rule; the slices make every distance a constant."""
    h0, h1, h2, h3, h4, h5, h6, h7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    for j in range(STRIP):
        r, v, s, c = b[_R + j], b[_VALUE + j], b[_SLOPE + j], b[_BEND + j]
        c, s, v = c * r + s, s * r + v, v * r + h7 * y[7 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h6 * y[6 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h5 * y[5 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h4 * y[4 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h3 * y[3 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h2 * y[2 * STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h1 * y[STRIP + j]
        c, s, v = c * r + s, s * r + v, v * r + h0 * y[j]
        b[_VALUE + j], b[_SLOPE + j], b[_BEND + j] = v, s, c


@compiled(**_OPTIONS)
def _evaluate(b, of, h, at, degree):  # type: ignore[no-untyped-def]
    """Horner's rule for the series, its slope and half its curvature; `degree` is a multiple of eight."""
    y = of[_SERIES:]
    top, last = h[at + degree], y[STRIP * degree : STRIP * degree + STRIP]
    for j in range(STRIP):
        b[_VALUE + j] = top * last[j]
        b[_SLOPE + j] = 0.0
        b[_BEND + j] = 0.0
    for k in range(degree - 8, -1, -8):
        _eight_degrees(b, y[STRIP * k : STRIP * (k + 8)], h[at + k : at + k + 8])


@compiled(**_OPTIONS)
def _step(b, of, inverse_sigma, sigma_a2, nearest, strongest):  # type: ignore[no-untyped-def]
    """One step for the whole strip; say whether every entry is settled, at most `nearest`, and of positive gain.

    Entries that stay beyond the series are not waited for.
    """
    done = 0.0
    for j in range(STRIP):
        before, scale = b[_R + j], inverse_sigma * of[_INVERSE + j]
        r, d, v, s, gain, inverse = _move(
            b[_X + j], before, b[_VALUE + j], b[_SLOPE + j], b[_BEND + j], scale, sigma_a2
        )
        b[_R + j], b[_VALUE + j], b[_SLOPE + j], b[_GAIN + j], b[_RECIPROCAL + j] = r, v, s, gain, inverse
        b[_MOVE + j] = d if min(abs(before), abs(r)) <= strongest else 0.0
        done += 1.0 if (abs(d) <= _STEP) & (abs(r) <= nearest) & (gain > 0.0) else 0.0
    return done == STRIP


@compiled(**_OPTIONS)
def _all_within(b, section, limit):  # type: ignore[no-untyped-def]
    """Say whether every entry is at most `limit` in size; NaN is not."""
    count = 0.0
    for j in range(STRIP):
        count += 1.0 if abs(b[section + j]) <= limit else 0.0
    return count == STRIP


@compiled(**_OPTIONS)
def _largest(b, most):  # type: ignore[no-untyped-def]
    """Return the largest |r|, counted as `most` where it is larger."""
    largest = 0.0
    for j in range(STRIP):
        largest = max(largest, min(abs(b[_R + j]), most))
    return largest


@compiled(**_OPTIONS)
def _solve_strip(b, of, h, at, odd, inverse_sigma, variances, degrees, cutoffs, layer):  # type: ignore[no-untyped-def]
    """Solve the strip's equations; say whether all entries have a solution that the series serves.

    Those that it does not serve end beyond the last cutoff.
    """
    nearest, strongest = cutoffs[layer, 0], cutoffs[layer, -1]
    if odd:
        _start_odd(b, of, h, at, inverse_sigma, variances)
    else:
        _start(b, of, h, at, inverse_sigma, variances)
    if _step(b, of, inverse_sigma, variances[0], nearest, strongest):
        return True
    tier = 1
    while True:
        top = _largest(b, strongest)
        while tier < degrees.size - 1 and cutoffs[layer, tier] < top:
            tier += 1
        settled = False
        for _ in range(_MAX_STEPS):
            _evaluate(b, of, h, at, degrees[tier])
            _step(b, of, inverse_sigma, variances[0], nearest, strongest)
            settled = _all_within(b, _MOVE, _STEP)
            if settled:
                break
        if not settled:
            for j in range(STRIP):
                b[_R + j] = b[_R + j] if abs(b[_MOVE + j]) <= _STEP else 2.0
        if tier == degrees.size - 1 or _largest(b, strongest) <= cutoffs[layer, tier]:
            return _all_positive(b) and _all_within(b, _R, strongest)


@compiled(**_OPTIONS)
def _copy(source, target):  # type: ignore[no-untyped-def]
    for j in range(STRIP):
        target[j] = source[j]


@compiled(**_OPTIONS)
def _four_degrees(b, y, h):  # type: ignore[no-untyped-def]
    """Four steps of Horner's rule for the series and its slope."""
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    for j in range(STRIP):
        r, v, s = b[_R + j], b[_VALUE + j], b[_SLOPE + j]
        s, v = s * r + v, v * r + h3 * y[3 * STRIP + j]
        s, v = s * r + v, v * r + h2 * y[2 * STRIP + j]
        s, v = s * r + v, v * r + h1 * y[STRIP + j]
        s, v = s * r + v, v * r + h0 * y[j]
        b[_VALUE + j], b[_SLOPE + j] = v, s


@compiled(**_OPTIONS)
def _sum_twelve(b, of, h, at, inverse_sigma, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    """Sum the series up to degree 12 of a layer without recurrence, and its slope."""
    h0, h1, h2, h3, h4, h5, h6 = h[at], h[at + 1], h[at + 2], h[at + 3], h[at + 4], h[at + 5], h[at + 6]
    h7, h8, h9, h10, h11, h12 = h[at + 7], h[at + 8], h[at + 9], h[at + 10], h[at + 11], h[at + 12]
    for j in range(STRIP):
        r = (sigma_b2 * b[_VALUE + j] + sigma_c2) * (inverse_sigma * of[_INVERSE + j])
        r = min(max(r, -1.0), 1.0)
        s = h12 * of[_Y12 + j]
        v = s * r + h11 * of[_Y11 + j]
        s, v = s * r + v, v * r + h10 * of[_Y10 + j]
        s, v = s * r + v, v * r + h9 * of[_Y9 + j]
        s, v = s * r + v, v * r + h8 * of[_Y8 + j]
        s, v = s * r + v, v * r + h7 * of[_Y7 + j]
        s, v = s * r + v, v * r + h6 * of[_Y6 + j]
        s, v = s * r + v, v * r + h5 * of[_Y5 + j]
        s, v = s * r + v, v * r + h4 * of[_Y4 + j]
        s, v = s * r + v, v * r + h3 * of[_Y3 + j]
        s, v = s * r + v, v * r + h2 * of[_Y2 + j]
        s, v = s * r + v, v * r + h1 * of[_Y1 + j]
        s, v = s * r + v, v * r + h0 * of[_Y0 + j]
        b[_R + j], b[_VALUE + j], b[_SLOPE + j] = r, v, s


@compiled(**_OPTIONS)
def _sum_strip(b, of, h, at, inverse_sigma, sigma_b2, sigma_c2, degrees, cutoffs, layer):  # type: ignore[no-untyped-def]
    """Sum the series of a layer without recurrence; say whether it serves all entries.

    Those that it does not serve have |r| beyond the last cutoff.
    """
    _sum_twelve(b, of, h, at, inverse_sigma, sigma_b2, sigma_c2)
    if _all_within(b, _R, cutoffs[layer, 0]):
        return True
    top = _largest(b, cutoffs[layer, -1])
    tier = 1
    while tier < degrees.size - 1 and cutoffs[layer, tier] < top:
        tier += 1
    degree, y = degrees[tier], of[_SERIES:]
    highest, last = h[at + degree], y[STRIP * degree : STRIP * degree + STRIP]
    for j in range(STRIP):
        b[_VALUE + j], b[_SLOPE + j] = highest * last[j], 0.0
    for k in range(degree - 4, -1, -4):
        _four_degrees(b, y[STRIP * k : STRIP * (k + 4)], h[at + k : at + k + 4])
    return _all_within(b, _R, cutoffs[layer, -1])


@compiled(**_OPTIONS)
def _versine_of_products(b, of, inverse_sigma, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    """Find 1 - r of the pre-activations from their covariance."""
    for j in range(STRIP):
        r = (sigma_b2 * b[_VALUE + j] + sigma_c2) * (inverse_sigma * of[_INVERSE + j])
        r = min(max(r, -1.0), 1.0)
        b[_R + j], b[_VERSINE + j] = r, 1.0 - r


@compiled(**_OPTIONS)
def _versine_of_features(b, of, inverse_sigma, below, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    """Find 1 - r of the pre-activations from that of the features below, without a difference of large terms."""
    bias = sigma_c2 / sigma_b2
    for j in range(STRIP):
        both, apart = below * b[_BELOW + j], below - b[_BELOW + j]
        inverse = sigma_b2 * (inverse_sigma * of[_INVERSE + j])
        size = 1.0 / inverse if inverse > 0.0 else 1.0
        versine = (both * b[_VERSINE + j] + bias * apart * apart / (size + bias + both)) * inverse
        b[_VERSINE + j] = min(versine, 2.0)
        # Nearly parallel pairs have their digits, nearly opposite ones have not.
        b[_R + j] = min(1.0 - versine, 0.0)


@compiled(**_OPTIONS)
def angle(versine):  # type: ignore[no-untyped-def]
    """Return the angle of which 1 - cos is given, with all its digits."""
    half, r = 0.5 * versine, 1.0 - versine
    near, far = half < 0.25, half > 0.75
    z = half if near else (1.0 - half if far else r * r)
    # arcsin(√z)/√z
    p = (_C12 * z + _C11) * z + _C10
    p = ((p * z + _C9) * z + _C8) * z + _C7
    p = ((p * z + _C6) * z + _C5) * z + _C4
    p = ((p * z + _C3) * z + _C2) * z + _C1
    arc = sqrt(z) * (p * z + 1.0)
    middle = pi / 2 - (arc if r >= 0.0 else -arc)
    return 2.0 * arc if near else (pi - 2.0 * arc if far else middle)


@compiled(**_OPTIONS)
def _fold_strip(b, of, sigma, size, linear, fold, shift):  # type: ignore[no-untyped-def]
    """Evaluate a layer without recurrence and φ(u) = linear·u + fold·|u| - shift; leave 1 - r of its features.

    Twice that is the squared distance of the normalised features; see `dual_forms.FoldedLinear`.
    """
    squares, folded = linear * linear + fold * fold, fold * fold * (2.0 / pi)
    spread, mean = squares - folded, fold * sqrt(2.0 / pi)
    inverse_size = 1.0 / size if size > 0.0 else 0.0
    u = sigma * inverse_size
    for j in range(STRIP):
        versine = b[_VERSINE + j]
        r, theta = 1.0 - versine, angle(versine)
        other = of[_SIZE + j]
        inverse_other = 1.0 / other if other > 0.0 else 0.0
        v = of[_SIGMA + j] * inverse_other
        apart = u - v
        constant = mean * apart - shift * (inverse_size - inverse_other)
        loss = squares * versine - folded * (sqrt(versine * (2.0 - versine)) - theta * r)
        turned = 0.5 * (spread * apart * apart + constant * constant) + u * v * loss
        turned = min(max(turned, 0.0), 2.0)
        b[_VERSINE + j] = turned
        b[_VALUE + j] = size * other * (1.0 - turned)
        b[_SLOPE + j] = sigma * of[_SIGMA + j] * (squares - folded * theta)


@compiled(**_OPTIONS)
def _tangent(b, of, section, inverse_sigma, sigma_b2, sigma_c2):  # type: ignore[no-untyped-def]
    """Carry a tangent kernel through a layer."""
    for j in range(STRIP):
        derivative = b[_SLOPE + j] * (inverse_sigma * of[_INVERSE + j])
        after = sigma_b2 * b[section + j] + sigma_c2
        b[section + j] = (b[_VALUE + j] + after * derivative) * b[_RECIPROCAL + j]


@compiled(**_OPTIONS)
def _first_tangent(b):  # type: ignore[no-untyped-def]
    """Start the tangent kernel with input weights fixed."""
    for j in range(STRIP):
        b[_TANGENT + j] = b[_VALUE + j] * b[_RECIPROCAL + j]


@compiled(**_OPTIONS)
def _none_lost(b):  # type: ignore[no-untyped-def]
    """Mark no entry as lost, or bad."""
    for j in range(STRIP):
        b[_LOST + j] = b[_BAD + j] = 0.0


@compiled(**_OPTIONS)
def _part_with(b, strongest):  # type: ignore[no-untyped-def]
    """Mark entries that a layer does not serve, which go on as zero, and those whose equation has no solution."""
    for j in range(STRIP):
        lost = 0.0 if abs(b[_R + j]) <= strongest else 1.0
        b[_LOST + j] = max(b[_LOST + j], lost)
        b[_VALUE + j] = b[_VALUE + j] if b[_LOST + j] == 0.0 else 0.0
        b[_BAD + j] = b[_BAD + j] if b[_GAIN + j] > 0.0 or b[_LOST + j] == 1.0 else 1.0


@compiled(**_OPTIONS)
def _no_gain(b):  # type: ignore[no-untyped-def]
    """Set what only a recurrence changes."""
    for j in range(STRIP):
        b[_GAIN + j] = b[_RECIPROCAL + j] = 1.0


@compiled(**_OPTIONS)
def _all_positive(b):  # type: ignore[no-untyped-def]
    """Say whether 1 - σ_a² E φ'φ' is positive for all."""
    positive = 0.0
    for j in range(STRIP):
        positive += 1.0 if b[_GAIN + j] > 0.0 else 0.0
    return positive == STRIP


@compiled(**_OPTIONS)
def _keep(b, node, kept):  # type: ignore[no-untyped-def]
    """Keep a node of a network with branches, of which dropout keeps a share."""
    for j in range(_NODE):
        node[j] = b[_VALUE + j]
    for j in range(_ENTRIES, _NODE):
        node[j] = kept * node[j] + (1.0 - kept)


@compiled(**_OPTIONS)
def _versine_of_values(b, size, sizes):  # type: ignore[no-untyped-def]
    """Find 1 - r of features from their inner product; say whether all keep their digits."""
    apart = 0.0
    for j in range(STRIP):
        both = size * sizes[j]
        r = min(max(b[_VALUE + j] / both, -1.0), 1.0) if both > 0.0 else 0.0
        b[_VERSINE + j] = 1.0 - r
        apart += 1.0 if abs(r) <= CLOSED else 0.0
    return apart == STRIP


@compiled(**_OPTIONS)
def _lose_near(b):  # type: ignore[no-untyped-def]
    """Mark entries whose angle has lost its digits."""
    for j in range(STRIP):
        near = min(b[_VERSINE + j], 2.0 - b[_VERSINE + j])
        b[_LOST + j] = b[_LOST + j] if near >= 1.0 - CLOSED else 1.0


@compiled(**_OPTIONS)
def _gather(b, nodes, weights, row_sizes, column_sizes):  # type: ignore[no-untyped-def]
    """Put nodes side by side, each with a weight; return their norm for the row, and leave those of the columns."""
    size = 0.0
    for j in range(_NODE):
        b[_VALUE + j] = 0.0
    for j in range(STRIP):
        b[_BELOW + j] = 0.0
    for s in range(weights.size):
        weight = weights[s]
        if weight == 0.0:
            continue
        root, node = sqrt(weight), nodes[s]
        own = root * row_sizes[s]
        total = sqrt(size * size + own * own)
        for j in range(_ENTRIES):
            b[_VALUE + j] += weight * node[j]
        for j in range(STRIP):
            below, other = b[_BELOW + j], root * column_sizes[s, j]
            beside = sqrt(below * below + other * other)
            size_of_all, both, apart = total * beside, size * below + own * other, size * other - own * below
            sums = size_of_all + both
            turned = size * below * b[_VERSINE + j] + own * other * node[_ENTRIES + j]
            turned += apart * apart / sums if sums > 0.0 else 0.0
            b[_VERSINE + j] = turned / size_of_all if size_of_all > 0.0 else 1.0
            b[_BELOW + j] = beside
        size = total
    return size


@compiled(inline="always", **_OPTIONS)
def _through_layers(b, nodes, of_columns, of_nodes, h, i, coefficients, scales, branches, wants):  # type: ignore[no-untyped-def]
    """Take a strip of row i from the inner products to the last layer; say whether every layer serves every entry."""
    whole, unit, depth, n = True, False, scales.rows.shape[0], scales.rows.shape[1]
    # Looked up once: every look counts a reference up and down, which other cores have to see.
    terms, degrees, cutoffs = coefficients.rows.shape[2], coefficients.degrees, coefficients.cutoffs
    slots, all_odd, sigmas, variances = coefficients.slots, coefficients.odd, scales.rows, scales.variances
    below = 0.0
    if branches is not None:
        if not _versine_of_values(b, branches.row_sizes[0, i], of_nodes[0]) and branches.near[0]:
            _none_lost(b)
            _lose_near(b)
            whole = False
        _keep(b, nodes[0], 1.0)
    for layer in range(depth):
        a2, b2, c2 = variances[layer, 0], variances[layer, 1], variances[layer, 2]
        if branches is not None:
            below = _gather(b, nodes, branches.weights[layer, : layer + 1], branches.row_sizes[:, i], of_nodes)
        of = of_columns[layer]
        sigma, slot = sigmas[layer, i], slots[layer]
        inverse_sigma = 1.0 / sigma if sigma > 0.0 else 0.0
        if slot < 0:
            if branches is not None:
                _versine_of_features(b, of, inverse_sigma, below, b2, c2)
            elif layer and slots[layer - 1] < 0:
                _copy(of_columns[layer - 1, _SIZE:], b[_BELOW:])
                _versine_of_features(b, of, inverse_sigma, scales.row_sizes[layer - 1, i], b2, c2)
            else:
                _versine_of_products(b, of, inverse_sigma, b2, c2)
            folded, strongest = scales.folds[layer], CLOSED
            size = scales.row_sizes[layer, i]
            _fold_strip(b, of, scales.row_arguments[layer, i], size, folded[0], folded[1], folded[2])
            sound = _all_within(b, _R, strongest)
        else:
            at, strongest = (slot * n + i) * terms, cutoffs[layer, -1]
            if a2 == 0.0:
                sound = _sum_strip(b, of, h, at, inverse_sigma, b2, c2, degrees, cutoffs, layer)
            else:
                odd = all_odd[layer]
                sound = _solve_strip(b, of, h, at, odd, inverse_sigma, (a2, b2, c2), degrees, cutoffs, layer)
        if a2 == 0.0 and not unit:
            _no_gain(b)
        unit = a2 == 0.0
        first = layer == 0
        if branches is not None:
            first = branches.first[layer]
        if not sound:
            if whole:
                _none_lost(b)
            whole = False
        if not whole:
            _part_with(b, strongest)
        if wants[1] and first:
            _first_tangent(b)
        elif wants[1]:
            _tangent(b, of, _TANGENT, inverse_sigma, b2, c2)
        if wants[2]:
            _tangent(b, of, _FULL, inverse_sigma, b2, c2)
        if branches is not None:
            apart = slot < 0 or _versine_of_values(b, scales.row_sizes[layer, i], of[_SIZE:])
            if branches.near[layer + 1] and not apart:
                if whole:
                    _none_lost(b)
                _lose_near(b)
                whole = False
            _keep(b, nodes[layer + 1], branches.kept[layer])
    if branches is not None:
        _gather(b, nodes, branches.weights[depth], branches.row_sizes[:, i], of_nodes)
    return whole


@compiled(**_OPTIONS)
def _eight_terms(b, c):  # type: ignore[no-untyped-def]
    """Eight steps of Clenshaw's rule, from the last coefficient on."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    for j in range(STRIP):
        x, p, q = b[_X + j], b[_SLOPE + j], b[_BEND + j]
        q = x * p - q + c7
        p = x * q - p + c6
        q = x * p - q + c5
        p = x * q - p + c4
        q = x * p - q + c3
        p = x * q - p + c2
        q = x * p - q + c1
        p = x * q - p + c0
        b[_SLOPE + j], b[_BEND + j] = p, q


@compiled(**_OPTIONS)
def _by_cosine(b, of, section, c, scale):  # type: ignore[no-untyped-def]
    """Sum powers of r for samples far from parallel, and those of their square, so that two sums go side by side."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for j in range(STRIP):
        x = b[_R + j] * (1.0 / FAR)
        y = x * x
        even = ((c14 * y + c12) * y + c10) * y + c8
        odd = ((c15 * y + c13) * y + c11) * y + c9
        even = (((even * y + c6) * y + c4) * y + c2) * y + c0
        odd = (((odd * y + c7) * y + c5) * y + c3) * y + c1
        b[_SLOPE + j] = odd * x + even
    for j in range(STRIP):
        b[section + j] = scale * of[_SIGMA + j] * b[_SLOPE + j]


@compiled(**_OPTIONS)
def _by_angle(b, of, angular, sigma, sigma_b2, wants):  # type: ignore[no-untyped-def]
    """Evaluate kernels of homogeneous layers; say whether every entry's angle has its digits."""
    _versine_of_products(b, of, 1.0 / sigma if sigma > 0.0 else 0.0, sigma_b2, 0.0)
    if _all_within(b, _R, FAR):
        for k, section in enumerate((_VALUE, _TANGENT, _FULL)):
            if wants[k]:
                _by_cosine(b, of, section, angular.far[k], sigma / sigma_b2)
        return True
    coefficients = angular.whole
    for j in range(STRIP):
        b[_X + j] = angle(b[_VERSINE + j]) * (4.0 / pi) - 2.0
    scale = sigma / sigma_b2
    for k, section in enumerate((_VALUE, _TANGENT, _FULL)):
        if wants[k]:
            for j in range(STRIP):
                b[_SLOPE + j] = b[_BEND + j] = 0.0
            for step in range(coefficients.shape[1] - TERMS, -1, -TERMS):
                _eight_terms(b, coefficients[k, step : step + TERMS])
            # The argument is doubled.
            for j in range(STRIP):
                b[section + j] = scale * of[_SIGMA + j] * (b[_SLOPE + j] - 0.5 * b[_X + j] * b[_BEND + j])
    if _all_within(b, _R, CLOSED):
        return True
    _none_lost(b)
    _lose_near(b)
    return False


@compiled(**_OPTIONS)
def _store(out, tile, row, column, height, width):  # type: ignore[no-untyped-def]
    """Write a whole tile at (row, column)."""
    for a in range(height):
        target, source = out[row + a, column : column + width], tile[_PITCH * a : _PITCH * a + width]
        for j in range(width):
            target[j] = source[j]


@compiled(**_OPTIONS)
def _store_transposed(out, tile, row, column, height, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        target, source = out[row + j, column : column + height], tile[j:]
        for a in range(height):
            target[a] = source[_PITCH * a]


@compiled(**_OPTIONS)
def _store_some(out, tile, done, row, column, height, width, mirror, down, across):  # type: ignore[no-untyped-def]
    """Write a tile's finished entries at (row, column), and with `mirror` their transpose at (down, across)."""
    for a in range(height):
        for j in range(width):
            if done[a, j]:
                out[row + a, column + j] = tile[_PITCH * a + j]
                if mirror:
                    out[down + j, across + a] = tile[_PITCH * a + j]


@compiled(**_OPTIONS)
def solve_block(
    gram: FloatArray,
    outputs: tuple[FloatArray, FloatArray, FloatArray],
    wants: tuple[bool, bool, bool],
    position: Position,
    coefficients: Coefficients,
    scales: Scales,
    branches: Branches | None,
    left: np.ndarray[Any, Any],
    again: bool,
    angular: Angular | None = None,
) -> tuple[int, int]:
    """Turn a block of inner products into kernel entries.

    Parameters
    ----------
    gram : ndarray (height, width)
        Inner products x_i·y_j.
    outputs : tuple of ndarray
        CK, NTK and full NTK.
    wants : tuple of bool
        Which outputs to fill.
    position : Position
        Where the block is in the kernel and in the outputs.
    coefficients : Coefficients
        The series of all layers.
    scales : Scales
        What else is known of samples and layers.
    branches : Branches or None
        What layers are given where they are not one on another; compiled apart where it is None.
    left : ndarray (height, width) of uint8
        Out: 1 where some layer's series does not serve.  In: with `again`, 1 where entries are to be done; else 0.
    again : bool
    angular : Angular, optional
        Of kernels that are functions of the angle.

    Returns
    -------
    bad : int
        Number of entries whose slope σ_a² E φ'φ' is 1 or more in some layer.
    remaining : int
        Number of ones in `left`.
    """
    row, column, same, mirror = position.row, position.column, position.same, position.mirror
    out_row, out_column = position.out_row, position.out_column
    depth, terms = scales.rows.shape[0], coefficients.degrees[-1] + 1
    a2, b2, c2 = scales.variances[0, 0], scales.variances[0, 1], scales.variances[0, 2]
    b = np.zeros(_SECTIONS * STRIP)
    of_columns = np.zeros((depth, _SERIES + (terms * STRIP if coefficients.columns.shape[0] else 0)))
    kept = depth + 1 if branches is not None else 0
    nodes, of_nodes = np.zeros((kept, _NODE)), np.zeros((kept, STRIP))
    sections = (_VALUE, _TANGENT, _FULL)
    # One recurrent layer is what is computed most: what its rows share is looked up once.
    single = depth == 1 and a2 > 0.0 and branches is None
    only, h = of_columns[0], coefficients.rows.ravel()
    sigma_x, odd = scales.rows[0], coefficients.odd[0]
    degrees, cutoffs = coefficients.degrees, coefficients.cutoffs
    tiles = np.empty((3, STRIP * _PITCH))
    done = np.empty((STRIP, STRIP), dtype=np.uint8)
    bad, remaining = 0, 0
    for first in range(0, gram.shape[1], STRIP):
        width = min(STRIP, gram.shape[1] - first)
        begin = column + first
        of_columns[:] = 0.0
        for layer in range(depth):
            of, slot = of_columns[layer], coefficients.slots[layer]
            for j in range(width):
                sigma = scales.columns[layer, begin + j]
                of[_INVERSE + j] = 1.0 / sigma if sigma > 0.0 else 0.0
                of[_SIGMA + j] = scales.column_arguments[layer, begin + j]
                of[_SIZE + j] = scales.column_sizes[layer, begin + j]
            for k in range(terms if slot >= 0 else 0):
                source = coefficients.columns[slot, k, begin : begin + width]
                target = of[_SERIES + STRIP * k : _SERIES + STRIP * (k + 1)]
                for j in range(width):
                    target[j] = source[j]
        if branches is not None:
            for node in range(kept):
                of_nodes[node] = 0.0
                of_nodes[node, :width] = branches.column_sizes[node, begin : begin + width]
        for top in range(0, gram.shape[0], STRIP):
            height = min(STRIP, gram.shape[0] - top)
            if mirror and begin >= row + top + height:
                continue
            if again and left[top : top + height, first : first + width].max() == 0:
                continue
            clean = not again
            for a in range(height):
                local = top + a
                i = row + local
                # The diagonal, and with `mirror` what lies beyond it, is not computed.
                end = width
                if mirror:
                    end = max(0, min(width, i - begin))
                skip = i - begin if same else -1
                inner = gram[local, first : first + end]
                if end < STRIP:
                    b[_VALUE : _VALUE + STRIP] = 0.0
                for j in range(end):
                    b[_VALUE + j] = inner[j]
                if 0 <= skip < STRIP:
                    b[_VALUE + skip] = 0.0
                # Of networks with branches any layer may be given the samples.
                if wants[2] or branches is not None:
                    _copy(b[_VALUE:], b[_FULL:])
                if branches is not None:
                    _copy(b[_VALUE:], b[_TANGENT:])
                if single:
                    inverse_sigma = 1.0 / sigma_x[i] if sigma_x[i] > 0.0 else 0.0
                    served = _solve_strip(b, only, h, i * terms, odd, inverse_sigma, (a2, b2, c2), degrees, cutoffs, 0)
                    if not served:
                        _none_lost(b)
                        _part_with(b, cutoffs[0, -1])
                    if wants[1]:
                        _first_tangent(b)
                    if wants[2]:
                        _tangent(b, only, _FULL, inverse_sigma, b2, c2)
                elif angular is not None:
                    served = _by_angle(b, only, angular, sigma_x[i], b2, wants)
                else:
                    served = _through_layers(
                        b, nodes, of_columns, of_nodes, h, i, coefficients, scales, branches, wants
                    )
                for k in range(3):
                    if wants[k]:
                        _copy(b[sections[k] :], tiles[k, _PITCH * a :])
                # Rarely: entries that are not all to be written.
                if served and end == width and not 0 <= skip < width and not again:
                    done[a] = 1
                    continue
                clean = False
                for j in range(STRIP):
                    asked = j < end and j != skip and (not again or left[local, first + j] == 1)
                    found = asked and (served or b[_LOST + j] == 0.0)
                    done[a, j] = 1 if found else 0
                    if found and not served and b[_BAD + j] == 1.0:
                        bad += 1
                    if j < width:
                        left[local, first + j] = 1 if asked and not found else 0
                        remaining += 1 if asked and not found else 0
            # Entry (i, j) has its mirror image where the outputs have the kernel's (j, i).
            down, across = begin + out_row - row, row + top + out_column - column
            for k in range(3):
                if wants[k] and clean:
                    _store(outputs[k], tiles[k], out_row + top, out_column + first, height, width)
                    if mirror:
                        _store_transposed(outputs[k], tiles[k], down, across, height, width)
                elif wants[k]:
                    _store_some(
                        outputs[k],
                        tiles[k],
                        done,
                        out_row + top,
                        out_column + first,
                        height,
                        width,
                        mirror,
                        down,
                        across,
                    )
    return bad, remaining
