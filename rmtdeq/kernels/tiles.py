"""The inner loop of the kernels: every off-diagonal entry's fixed point, tile by tile (numba).

The unknown of an entry is the correlation r of its two pre-activations:
``r σ_i σ_j = σ_a² Σ_k h_k(σ_i) h_k(σ_j) r^k + σ_b² x_i·x_j``.  Newton's method needs the series and its
derivative, which are what the CK and the NTK are made of.  The loops over the entries of a strip hold plain
arithmetic only, so that the compiler turns them into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from rmtdeq._types import FloatArray, IntArray

TILE = 64
_MAX_STEPS = 60
_STEP = 1e-8  # Newton's next error is of the order of the square of its last step.

_FAST = {"reassoc", "contract", "arcp", "nsz"}
_SERIAL: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": _FAST, "nogil": True}


@numba.njit(**_SERIAL)
def _evaluate(  # type: ignore[no-untyped-def]
    hermite_x, hermite_y, i, first, degree, r, value, slope
):
    """Horner's rule for the series and its derivative, the loop over entries innermost.

    Four degrees a pass, so that the running sums stay in registers; `degree` is a multiple of four.
    """
    last = first + r.size
    h0, y0 = hermite_x[degree, i], hermite_y[degree, first:last]
    for j in range(r.size):
        value[j] = h0 * y0[j]
        slope[j] = 0.0
    for k in range(degree - 1, 0, -4):
        h0, y0 = hermite_x[k, i], hermite_y[k, first:last]
        h1, y1 = hermite_x[k - 1, i], hermite_y[k - 1, first:last]
        h2, y2 = hermite_x[k - 2, i], hermite_y[k - 2, first:last]
        h3, y3 = hermite_x[k - 3, i], hermite_y[k - 3, first:last]
        for j in range(r.size):
            q, v, s = r[j], value[j], slope[j]
            s, v = s * q + v, v * q + h0 * y0[j]
            s, v = s * q + v, v * q + h1 * y1[j]
            s, v = s * q + v, v * q + h2 * y2[j]
            s, v = s * q + v, v * q + h3 * y3[j]
            value[j], slope[j] = v, s


@numba.njit(**_SERIAL)
def _solve_strip(  # type: ignore[no-untyped-def]
    x, scale, r, value, slope, hermite_x, hermite_y, i, first, skip, sigma_a2, degrees, cutoffs
):
    """Newton's method for one row of a tile; entry `skip`, if not negative, is held at zero."""
    strongest = cutoffs[-1]
    last = first + r.size
    h0, y0 = hermite_x[0, i], hermite_y[0, first:last]
    h1, y1 = hermite_x[1, i], hermite_y[1, first:last]
    for j in range(r.size):
        dead = 1.0 if scale[j] == 0.0 else 0.0
        guess = (x[j] + sigma_a2 * h0 * y0[j]) / (scale[j] - sigma_a2 * h1 * y1[j] + dead)
        r[j] = min(max(guess, -1.0), 1.0)
    tier = 0
    while True:
        if skip >= 0:
            r[skip] = 0.0
        top = 0.0
        for j in range(r.size):
            top = max(top, min(abs(r[j]), strongest))
        while tier < degrees.size - 1 and cutoffs[tier] < top:
            tier += 1
        largest = 0.0
        for _ in range(_MAX_STEPS):
            _evaluate(hermite_x, hermite_y, i, first, degrees[tier], r, value, slope)
            largest = 0.0
            for j in range(r.size):
                dead = 1.0 if scale[j] == 0.0 else 0.0
                step = (r[j] * scale[j] - sigma_a2 * value[j] - x[j]) / (scale[j] - sigma_a2 * slope[j] + dead)
                moved = min(max(r[j] - step, -1.0), 1.0)
                # Entries that stay beyond the series are not waited for: they are computed elsewhere.
                value[j] = abs(moved - r[j]) if min(abs(r[j]), abs(moved)) <= strongest else 0.0
                largest = max(largest, value[j])
                r[j] = moved
            if largest < _STEP:
                break
        if largest >= _STEP:
            for j in range(r.size):
                r[j] = 2.0 if value[j] >= _STEP else r[j]
        if skip >= 0:
            r[skip] = 0.0
        top = 0.0
        for j in range(r.size):
            top = max(top, min(abs(r[j]), strongest))
        if tier == degrees.size - 1 or top <= cutoffs[tier]:
            break
    _evaluate(hermite_x, hermite_y, i, first, degrees[tier], r, value, slope)


@numba.njit(**_SERIAL)
def _store(out, entries, done, clean, row, column):  # type: ignore[no-untyped-def]
    """Write a tile's finished entries at (row, column)."""
    for a in range(entries.shape[0]):
        target = out[row + a, column : column + entries.shape[1]]
        source, mask = entries[a], done[a]
        if clean:
            for j in range(source.size):
                target[j] = source[j]
        else:
            for j in range(source.size):
                if mask[j]:
                    target[j] = source[j]


@numba.njit(**_SERIAL)
def _finish(  # type: ignore[no-untyped-def]
    carried, scale, r, value, slope, skip, sigma_a2, strongest, left, g, t, f, done
):
    """Turn the solved series of a strip into kernel entries; return how many are done, and how many are bad."""
    count = bad = 0.0
    for j in range(r.size):
        dead = 1.0 if scale[j] == 0.0 else 0.0
        derivative = slope[j] * (1.0 - dead) / (scale[j] + dead)
        gain = 1.0 - sigma_a2 * derivative
        g[j] = value[j]
        t[j] = value[j] / gain
        f[j] = (value[j] + carried[j] * derivative) / gain
        served = 1.0 if abs(r[j]) <= strongest else 0.0
        served = served if left[j] == 1 else 0.0
        count += served
        bad += served if gain <= 0.0 else 0.0
        done[j] = 1 if served == 1.0 else 0
    if skip >= 0 and done[skip]:
        done[skip] = 0
        count -= 1.0
        left[skip] = 0
    for j in range(r.size):
        left[j] -= done[j]
    return count, bad


@numba.njit(parallel=True, **_SERIAL)
def solve_tiles(
    gram: FloatArray,
    carried: FloatArray,
    ck: FloatArray,
    ntk: FloatArray,
    full: FloatArray,
    wants: tuple[bool, bool, bool],
    rows: IntArray,
    columns: IntArray,
    offset: int,
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
) -> int:
    """Turn inner products into kernel entries.

    Parameters
    ----------
    gram : ndarray (rows of the block, m)
        Inner products x_i·y_j of rows offset … offset + len(gram) with all columns.
    carried : ndarray (rows of the block, m)
        What `full` takes the slope times: `gram` itself, or the tangent kernel of the layer before.
    ck, ntk, full : ndarray
        Outputs: the block of rows where `mirror` is off, else the whole square matrix.  One of them may share
        memory with `gram`: each tile is read before it is written.
    wants : tuple of bool
        Which outputs to fill.
    rows, columns : ndarray (tiles,)
        First row (within the block) and first column of each tile.
    offset : int
        Index of the block's first row among the samples.
    same : bool
        Rows and columns are the same samples: the diagonal is left alone.
    mirror : bool
        Only entries below the diagonal are computed, and written on both sides of it.
    hermite_x, hermite_y : ndarray (degree + 1, ·)
        Hermite coefficients of all row and column samples.
    sigma_x, sigma_y : ndarray
        Their pre-activation scales.
    degrees, cutoffs : ndarray
        Degrees at which the series may stop, and the largest |r| that each serves.
    left : ndarray (rows of the block, m) of uint8
        In: entries to be done are 1, others 0.  Out: 1 where the series does not serve.

    Returns
    -------
    int
        Number of entries whose slope σ_a² E φ'φ' is 1 or more.
    """
    bad = 0.0
    for tile in numba.prange(rows.size):
        first_row, first = rows[tile], columns[tile]
        height = min(TILE, gram.shape[0] - first_row)
        width = min(TILE, gram.shape[1] - first)
        work = np.empty((6, TILE))
        g, t, f = np.empty((TILE, TILE)), np.empty((TILE, TILE)), np.empty((TILE, TILE))
        done = np.zeros((TILE, TILE), dtype=np.uint8)
        total = 0.0
        for a in range(height):
            local = first_row + a
            i = local + offset
            strip = min(width, i - first) if mirror else width
            if strip <= 0:
                continue
            mask = left[local, first : first + strip]
            if mask.max() == 0:
                continue
            x, scale, r, value, slope, after = (
                work[0, :strip],
                work[1, :strip],
                work[2, :strip],
                work[3, :strip],
                work[4, :strip],
                work[5, :strip],
            )
            tangent = carried[local, first : first + strip]
            inner, sigma, sigma_i = gram[local, first : first + strip], sigma_y[first : first + strip], sigma_x[i]
            for j in range(strip):
                x[j] = sigma_b2 * inner[j]
                after[j] = sigma_b2 * tangent[j]
                scale[j] = sigma_i * sigma[j]
            skip = i - first if same and first <= i < first + strip else -1
            _solve_strip(x, scale, r, value, slope, hermite_x, hermite_y, i, first, skip, sigma_a2, degrees, cutoffs)
            count, flat = _finish(
                after, scale, r, value, slope, skip, sigma_a2, cutoffs[-1], mask, g[a], t[a], f[a], done[a]
            )
            total += count
            bad += flat
        clean = total == height * width
        row = first_row + offset if mirror else first_row
        done = done[:height, :width]
        for wanted, out, entries in ((wants[0], ck, g), (wants[1], ntk, t), (wants[2], full, f)):
            if wanted:
                entries = entries[:height, :width]
                _store(out, entries, done, clean, row, first)
                if mirror:
                    _store(out, entries.T, done.T, clean, first, row)
    return int(bad)
