"""The inner loop of the kernels in plain numpy: the algorithm of `tiles`, a block at a time."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from rmtdeq._lib.types import BoolArray, FloatArray
from rmtdeq.kernels.series import CLOSED, Coefficients, Position, Scales

_MAX_STEPS = 60
_STEP = 1e-8


def solve_block(
    gram: FloatArray,
    outputs: tuple[FloatArray, FloatArray, FloatArray],
    wants: tuple[bool, bool, bool],
    position: Position,
    coefficients: Coefficients,
    scales: Scales,
    left: np.ndarray[Any, Any],
    again: bool,
) -> tuple[int, int]:
    """Turn a block of inner products into kernel entries; see `numba_tiles.solve_block`.

    The longest series is used for every entry.
    """
    row, column = position.row, position.column
    rows, columns = slice(row, row + gram.shape[0]), slice(column, column + gram.shape[1])
    i, j = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
    todo = left == 1 if again else np.ones(gram.shape, dtype=bool)
    if position.mirror:
        todo &= j < i
    elif position.same:
        todo &= j != i
    if not todo.any():
        left[:] = 0
        return 0, 0
    done, bad = todo.copy(), np.zeros(gram.shape, dtype=bool)
    value: FloatArray = gram.astype(np.float64)
    tangent = full = value
    for layer, (a2, b2, c2) in enumerate(scales.variances):
        scale = scales.rows[layer, rows, None] * scales.columns[layer, columns]
        x, slot = b2 * value + c2, coefficients.slots[layer]
        if slot < 0:
            r = _known(x, scale)
            sigmas = scales.rows[layer, rows, None], scales.columns[layer, columns]
            value, derivative = _folded(r, *sigmas, *scales.folds[layer])
            strongest = CLOSED
        else:
            h_x, h_y = coefficients.rows[slot, rows].T, coefficients.columns[slot, :, columns]
            strongest = coefficients.cutoffs[layer, -1]
            r = _known(x, scale) if a2 == 0 else _solved(x, scale, a2, h_x, h_y, done, strongest)
            value, slope = _series(h_x, h_y, r)
            derivative = np.divide(slope, scale, out=np.zeros_like(slope), where=scale > 0)
        gain = 1 - a2 * derivative
        done &= abs(r) <= strongest
        bad |= done & (gain <= 0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            tangent = (value + (b2 * tangent + c2) * derivative if layer else value) / gain
            full = (value + (b2 * full + c2) * derivative) / gain
        # Entries that are left to others go on as nothing.
        value, tangent, full = (np.where(done, each, 0.0) for each in (value, tangent, full))
    a, b = np.nonzero(done)
    for wanted, out, entry in zip(wants, outputs, (value, tangent, full), strict=True):
        if wanted:
            out[position.out_row + a, position.out_column + b] = entry[a, b]
            if position.mirror:
                out[column + b + position.out_row - row, row + a + position.out_column - column] = entry[a, b]
    left[:] = todo & ~done
    return int((done & bad).sum()), int(left.sum(dtype=np.int64))


def _known(x: FloatArray, scale: FloatArray) -> FloatArray:
    """Correlations of pre-activations without recurrence."""
    return np.clip(np.divide(x, scale, out=np.zeros_like(x), where=scale > 0), -1.0, 1.0)


def _solved(
    x: FloatArray, scale: FloatArray, a2: float, h_x: FloatArray, h_y: FloatArray, todo: BoolArray, strongest: float
) -> FloatArray:
    """Solve ``r σ_i σ_j = σ_a² Σ_k h_k h_k r^k + x`` by Newton's method; 2 where that does not settle."""
    r, dead = np.zeros(x.shape), scale == 0
    for _ in range(_MAX_STEPS):
        value, slope = _series(h_x, h_y, r)
        step = (r * scale - a2 * value - x) / (scale - a2 * slope + dead)
        moved = np.clip(r - step, -1.0, 1.0)
        moving = todo & (np.minimum(abs(r), abs(moved)) <= strongest) & (abs(moved - r) >= _STEP)
        r = moved
        if not moving.any():
            break
    r[moving] = 2.0
    return r


def _series(h_x: FloatArray, h_y: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mehler's series and its derivative in r, by Horner's rule."""
    value, slope = np.zeros_like(r), np.zeros_like(r)
    for a, b in zip(h_x[::-1], h_y[::-1], strict=True):
        slope *= r
        slope += value
        value *= r
        value += np.outer(a, b)
    return value, slope


def _folded(
    r: FloatArray, sigma_x: FloatArray, sigma_y: FloatArray, linear: float, fold: float, shift: float
) -> tuple[FloatArray, FloatArray]:
    """``E φ(u)φ(v)`` and ``E φ'(u)φ'(v)`` of φ(u) = linear·u + fold·|u| - shift."""
    angle, folded = np.arcsin(r), fold**2 * (2 / pi)
    even = folded * (np.sqrt(1 - r * r) + r * angle)
    constant = shift**2 - shift * fold * sqrt(2 / pi) * (sigma_x + sigma_y)
    return sigma_x * sigma_y * (linear**2 * r + even) + constant, linear**2 + folded * angle
