"""The inner loop of the kernels in plain numpy: the algorithm of `tiles`, a block of rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._types import FloatArray, IntArray

_MAX_STEPS = 60
_STEP = 1e-8
_ROWS = 256


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
    left: np.ndarray[Any, Any],
) -> int:
    """Turn inner products into kernel entries; see `rmtdeq.kernels.tiles.solve_tiles` for the arguments.

    The tiles are ignored, and the longest series is used for every entry.
    """
    bad = 0
    width = gram.shape[1]
    for start in range(0, gram.shape[0], _ROWS):
        local = slice(start, min(start + _ROWS, gram.shape[0]))
        i = np.arange(local.start, local.stop) + offset
        todo = left[local] == 1
        if same and not mirror:
            todo &= i[:, None] != np.arange(width)
        if not todo.any():
            left[local] = 0
            continue
        x = sigma_b2 * gram[local].astype(np.float64)
        after = sigma_b2 * carried[local].astype(np.float64)
        scale = sigma_x[i, None] * sigma_y[:width]
        dead = scale == 0
        r = np.zeros(x.shape)
        h_x, h_y = hermite_x[: degrees[-1] + 1, i], hermite_y[: degrees[-1] + 1, :width]
        for _ in range(_MAX_STEPS):
            value, slope = _series(h_x, h_y, r)
            step = (r * scale - sigma_a2 * value - x) / (scale - sigma_a2 * slope + dead)
            moved = np.clip(r - step, -1.0, 1.0)
            moving = todo & (np.minimum(abs(r), abs(moved)) <= cutoffs[-1]) & (abs(moved - r) >= _STEP)
            r = moved
            if not moving.any():
                break
        r[moving] = 2.0  # not settled: for the exact method
        value, slope = _series(h_x, h_y, r)
        derivative = np.divide(slope, scale, out=np.zeros_like(slope), where=~dead)
        gain = 1 - sigma_a2 * derivative
        done = todo & (abs(r) <= cutoffs[-1])
        bad += int((done & (gain <= 0)).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            entries = (value, value / gain, (value + after * derivative) / gain)
        a, j = np.nonzero(done)
        row = i[a] if mirror else a + start
        for wanted, out, entry in zip(wants, (ck, ntk, full), entries, strict=True):
            if wanted:
                out[row, j] = entry[a, j]
                if mirror:
                    out[j, row] = entry[a, j]
        left[local] = todo & ~done
    return bad


def _series(h_x: FloatArray, h_y: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mehler's series and its derivative in r, by Horner's rule."""
    value, slope = np.zeros_like(r), np.zeros_like(r)
    for a, b in zip(h_x[::-1], h_y[::-1], strict=True):
        slope *= r
        slope += value
        value *= r
        value += np.outer(a, b)
    return value, slope
