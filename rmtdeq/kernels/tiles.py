"""The inner loop of the kernels: every off-diagonal entry's fixed point, strip by strip (numba).

The unknown of an entry is the correlation r of its two pre-activations:
``r σ_i σ_j = σ_a² Σ_k h_k(σ_i) h_k(σ_j) r^k + σ_b² x_i·x_j``.  Newton's method needs the series and its derivative,
which are what the CK and the NTK are made of; with the second derivative at hand the last step needs no further
evaluation.

A strip is 64 entries of a row.  All that a strip works on lies in one flat array at constant distances, and its loops
hold plain arithmetic over a constant number of entries, so that the compiler turns them into vector instructions
without asking whether arrays overlap.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from rmtdeq._types import FloatArray, IntArray

STRIP = 64
_MAX_STEPS = 60
_STEP = 3e-8  # What is left after a step is of the order of its square.

# Sections of the flat array.
_X, _SIGMA, _R, _VALUE, _SLOPE, _BEND, _MOVE, _AFTER, _TANGENT, _FULL = (STRIP * k for k in range(10))
_SECTIONS = 10

_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": _FAST, "nogil": True}


@numba.njit(**_OPTIONS)
def _start(b, y, h, sigma, sigma_a2):  # type: ignore[no-untyped-def]
    """From the root of the series' cubic part, one step of Newton's method with the series up to degree 8."""
    h0, h1, h2, h3, h4, h5, h6, h7, h8 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
    for j in range(STRIP):
        c0, c1, c2 = h0 * y[j], h1 * y[STRIP + j], h2 * y[2 * STRIP + j]
        c3, c4, c5 = h3 * y[3 * STRIP + j], h4 * y[4 * STRIP + j], h5 * y[5 * STRIP + j]
        c6, c7, c8 = h6 * y[6 * STRIP + j], h7 * y[7 * STRIP + j], h8 * y[8 * STRIP + j]
        x = b[_X + j]
        scale = sigma * b[_SIGMA + j]
        dead = 1.0 if scale == 0.0 else 0.0
        inverse = (1.0 - dead) / (scale - sigma_a2 * c1 + dead)
        linear = (x + sigma_a2 * c0) * inverse
        k2, k3 = sigma_a2 * c2 * inverse, sigma_a2 * c3 * inverse
        r = linear + (k2 + k3 * linear) * linear * linear
        r = linear + (k2 + k3 * r) * r * r
        v, s = c8 * r + c7, c8
        s, v = s * r + v, v * r + c6
        s, v = s * r + v, v * r + c5
        s, v = s * r + v, v * r + c4
        s, v = s * r + v, v * r + c3
        s, v = s * r + v, v * r + c2
        s, v = s * r + v, v * r + c1
        s, v = s * r + v, v * r + c0
        r = r + (sigma_a2 * v + x - r * scale) * (1.0 - dead) / (scale - sigma_a2 * s + dead)
        # Far from zero the cubic may have led astray; NaN is not within either.
        b[_R + j] = r if abs(r) <= 1.0 else min(max(linear, -1.0), 1.0)


@numba.njit(**_OPTIONS)
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


@numba.njit(**_OPTIONS)
def _evaluate(b, y, h, degree):  # type: ignore[no-untyped-def]
    """Horner's rule for the series, its slope and half its curvature; `degree` is a multiple of eight."""
    top, last = h[degree], y[STRIP * degree : STRIP * degree + STRIP]
    for j in range(STRIP):
        b[_VALUE + j] = top * last[j]
        b[_SLOPE + j] = 0.0
        b[_BEND + j] = 0.0
    for k in range(degree - 8, -1, -8):
        _eight_degrees(b, y[STRIP * k : STRIP * (k + 8)], h[k : k + 8])


@numba.njit(**_OPTIONS)
def _step(b, sigma, sigma_a2, strongest):  # type: ignore[no-untyped-def]
    """One step of Newton's method, its value and slope at the new place by Taylor's formula."""
    for j in range(STRIP):
        r, v, s, c = b[_R + j], b[_VALUE + j], b[_SLOPE + j], b[_BEND + j]
        scale = sigma * b[_SIGMA + j]
        dead = 1.0 if scale == 0.0 else 0.0
        d = (sigma_a2 * v + b[_X + j] - r * scale) * (1.0 - dead) / (scale - sigma_a2 * s + dead)
        moved = min(max(r + d, -1.0), 1.0)
        d = moved - r
        # Entries that stay beyond the series are not waited for: they are computed elsewhere.
        b[_MOVE + j] = d if min(abs(r), abs(moved)) <= strongest else 0.0
        b[_VALUE + j] = v + d * (s + c * d)
        b[_SLOPE + j] = s + 2.0 * c * d
        b[_R + j] = moved


@numba.njit(**_OPTIONS)
def _all_within(b, section, limit):  # type: ignore[no-untyped-def]
    """Say whether every entry is at most `limit` in size; NaN is not."""
    count = 0.0
    for j in range(STRIP):
        count += 1.0 if abs(b[section + j]) <= limit else 0.0
    return count == STRIP


@numba.njit(**_OPTIONS)
def _largest(b, most):  # type: ignore[no-untyped-def]
    """Return the largest |r|, counted as `most` where it is larger."""
    largest = 0.0
    for j in range(STRIP):
        largest = max(largest, min(abs(b[_R + j]), most))
    return largest


@numba.njit(**_OPTIONS)
def _solve_strip(b, y, h, sigma, sigma_a2, degrees, cutoffs):  # type: ignore[no-untyped-def]
    """Solve the strip's equations; entries that the series does not serve end beyond the last cutoff."""
    strongest = cutoffs[-1]
    _start(b, y, h, sigma, sigma_a2)
    tier = 0
    while True:
        top = _largest(b, strongest)
        while tier < degrees.size - 1 and cutoffs[tier] < top:
            tier += 1
        settled = False
        for _ in range(_MAX_STEPS):
            _evaluate(b, y, h, degrees[tier])
            _step(b, sigma, sigma_a2, strongest)
            settled = _all_within(b, _MOVE, _STEP)
            if settled:
                break
        if not settled:
            for j in range(STRIP):
                b[_R + j] = b[_R + j] if abs(b[_MOVE + j]) <= _STEP else 2.0
        if tier == degrees.size - 1 or _largest(b, strongest) <= cutoffs[tier]:
            return


@numba.njit(**_OPTIONS)
def _finish(b, sigma, sigma_a2):  # type: ignore[no-untyped-def]
    """Turn solved series into entries; say whether 1 - σ_a² E φ'φ' is positive for all."""
    positive = 0.0
    for j in range(STRIP):
        scale = sigma * b[_SIGMA + j]
        dead = 1.0 if scale == 0.0 else 0.0
        derivative = b[_SLOPE + j] * (1.0 - dead) / (scale + dead)
        gain = 1.0 - sigma_a2 * derivative
        positive += 1.0 if gain > 0.0 else 0.0
        inverse = 1.0 / gain
        b[_BEND + j] = gain
        b[_TANGENT + j] = b[_VALUE + j] * inverse
        b[_FULL + j] = (b[_VALUE + j] + b[_AFTER + j] * derivative) * inverse
    return positive == STRIP


@numba.njit(**_OPTIONS)
def _keep(b, section, tile, a):  # type: ignore[no-untyped-def]
    target, source = tile[STRIP * a : STRIP * a + STRIP], b[section : section + STRIP]
    for j in range(STRIP):
        target[j] = source[j]


@numba.njit(**_OPTIONS)
def _store(out, tile, row, column, height, width):  # type: ignore[no-untyped-def]
    """Write a whole tile at (row, column)."""
    for a in range(height):
        target, source = out[row + a, column : column + width], tile[STRIP * a : STRIP * a + width]
        for j in range(width):
            target[j] = source[j]


@numba.njit(**_OPTIONS)
def _store_transposed(out, tile, row, column, height, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        target, source = out[row + j, column : column + height], tile[j:]
        for a in range(height):
            target[a] = source[STRIP * a]


@numba.njit(**_OPTIONS)
def _store_some(out, tile, done, row, column, height, width, mirror, across):  # type: ignore[no-untyped-def]
    """Write a tile's finished entries at (row, column), and with `mirror` also at (column, across)."""
    for a in range(height):
        for j in range(width):
            if done[a, j]:
                out[row + a, column + j] = tile[STRIP * a + j]
                if mirror:
                    out[column + j, across + a] = tile[STRIP * a + j]


@numba.njit(**_OPTIONS)
def solve_block(
    gram: FloatArray,
    carried: FloatArray,
    ck: FloatArray,
    ntk: FloatArray,
    full: FloatArray,
    wants: tuple[bool, bool, bool],
    row: int,
    column: int,
    out_row: int,
    same: bool,
    mirror: bool,
    hermite_x: FloatArray,
    hermite_y: FloatArray,
    sigma_x: FloatArray,
    sigma_y: FloatArray,
    sigma_a2: float,
    sigma_b2: float,
    degrees: IntArray,
    cutoffs: FloatArray,
    left: IntArray,
    again: bool,
) -> int:
    """Turn a block of inner products into kernel entries.

    Parameters
    ----------
    gram : ndarray (height, width)
        Inner products x_i·y_j of the samples from `row` and `column` on.
    carried : ndarray (height, width)
        What `full` takes the slope times: `gram` itself, or the tangent kernel of the layer before.
    ck, ntk, full : ndarray
        Outputs, to be written from (`out_row`, `column`) on.
    wants : tuple of bool
        Which outputs to fill.
    row, column : int
        Where the block's samples begin.
    out_row : int
        The outputs' row of the block's first.
    same : bool
        Rows and columns are the same samples: the diagonal is left alone.
    mirror : bool
        Only entries below the diagonal are computed, and written on both sides of it.
    hermite_x, hermite_y : ndarray (degree + 1, ·)
        Hermite coefficients of all row and column samples.
    sigma_x, sigma_y : ndarray
        Their pre-activation scales.
    degrees, cutoffs : ndarray
        Degrees at which the series may stop, multiples of eight, and the largest |r| that each serves.
    left : ndarray (height, width) of uint8
        Out: 1 where the series does not serve.  In: with `again`, 1 where entries are to be done; else 0.
    again : bool

    Returns
    -------
    int
        Number of entries whose slope σ_a² E φ'φ' is 1 or more.
    """
    strongest = cutoffs[-1]
    terms = degrees[-1] + 1
    b, y, h = np.zeros(_SECTIONS * STRIP), np.zeros(terms * STRIP), np.empty(terms)
    outputs, sections = (ck, ntk, full), (_VALUE, _TANGENT, _FULL)
    tiles = np.empty((3, STRIP * STRIP))
    done = np.empty((STRIP, STRIP), dtype=np.uint8)
    bad = 0
    for first in range(0, gram.shape[1], STRIP):
        width = min(STRIP, gram.shape[1] - first)
        b[_SIGMA : _SIGMA + STRIP] = 1.0
        for j in range(width):
            b[_SIGMA + j] = sigma_y[column + first + j]
        y[:] = 0.0
        for k in range(terms):
            for j in range(width):
                y[STRIP * k + j] = hermite_y[k, column + first + j]
        for top in range(0, gram.shape[0], STRIP):
            height = min(STRIP, gram.shape[0] - top)
            if mirror and column + first >= row + top + height:
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
                    end = max(0, min(width, i - column - first))
                skip = i - column - first if same else -1
                b[_X : _X + STRIP] = 0.0
                inner, tangent = gram[local, first : first + end], carried[local, first : first + end]
                for j in range(end):
                    b[_X + j] = sigma_b2 * inner[j]
                if wants[2]:
                    for j in range(end):
                        b[_AFTER + j] = sigma_b2 * tangent[j]
                if 0 <= skip < STRIP:
                    b[_X + skip] = 0.0
                for k in range(terms):
                    h[k] = hermite_x[k, i]
                _solve_strip(b, y, h, sigma_x[i], sigma_a2, degrees, cutoffs)
                sound = _finish(b, sigma_x[i], sigma_a2)
                for k in range(3):
                    if wants[k]:
                        _keep(b, sections[k], tiles[k], a)
                # Rarely: entries that are not all to be written.
                whole = end == width and not 0 <= skip < width and not again
                if whole and sound and _all_within(b, _R, strongest):
                    done[a] = 1
                    continue
                clean = False
                for j in range(STRIP):
                    asked = j < end and j != skip and (not again or left[local, first + j] == 1)
                    served = asked and abs(b[_R + j]) <= strongest
                    done[a, j] = 1 if served else 0
                    if served and b[_BEND + j] <= 0.0:
                        bad += 1
                    if j < width:
                        left[local, first + j] = 1 if asked and not served else 0
            across = row + top
            for k in range(3):
                if wants[k] and clean:
                    _store(outputs[k], tiles[k], out_row + top, column + first, height, width)
                    if mirror:
                        _store_transposed(outputs[k], tiles[k], column + first, across, height, width)
                elif wants[k]:
                    _store_some(
                        outputs[k], tiles[k], done, out_row + top, column + first, height, width, mirror, across
                    )
    return bad
