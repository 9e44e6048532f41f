"""The inner loop of the kernels in plain numpy: the algorithm of `tiles`, a block at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmtdeq._types import FloatArray, IntArray

_MAX_STEPS = 60
_STEP = 1e-8


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
    out_column: int,
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
    again: bool,
) -> tuple[int, int]:
    """Turn a block of inner products into kernel entries; see `rmtdeq.kernels.tiles.solve_block` for the arguments.

    The longest series is used for every entry.
    """
    height, width = gram.shape
    rows, columns = slice(row, row + height), slice(column, column + width)
    i, j = np.arange(row, row + height)[:, None], np.arange(column, column + width)
    todo = left == 1 if again else np.ones(gram.shape, dtype=bool)
    if mirror:
        todo &= j < i
    elif same:
        todo &= j != i
    if not todo.any():
        left[:] = 0
        return 0, 0
    x = sigma_b2 * gram.astype(np.float64)
    after = sigma_b2 * carried.astype(np.float64)
    scale = sigma_x[rows, None] * sigma_y[columns]
    dead = scale == 0
    r = np.zeros(x.shape)
    h_x, h_y = hermite_x.T[: degrees[-1] + 1, rows], hermite_y[: degrees[-1] + 1, columns]
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
    with np.errstate(divide="ignore", invalid="ignore"):
        entries = (value, value / gain, (value + after * derivative) / gain)
    a, b = np.nonzero(done)
    for wanted, out, entry in zip(wants, (ck, ntk, full), entries, strict=True):
        if wanted:
            out[out_row + a, out_column + b] = entry[a, b]
            if mirror:
                out[column + b + out_row - row, row + a + out_column - column] = entry[a, b]
    left[:] = todo & ~done
    return int((done & (gain <= 0)).sum()), int(left.sum(dtype=np.int64))


def _series(h_x: FloatArray, h_y: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mehler's series and its derivative in r, by Horner's rule."""
    value, slope = np.zeros_like(r), np.zeros_like(r)
    for a, b in zip(h_x[::-1], h_y[::-1], strict=True):
        slope *= r
        slope += value
        value *= r
        value += np.outer(a, b)
    return value, slope
