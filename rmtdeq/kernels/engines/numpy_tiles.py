"""The inner loop of the kernels in plain numpy: the algorithm of `tiles`, a block at a time."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from rmtdeq._lib.types import BoolArray, FloatArray
from rmtdeq.kernels.branches import Node, side_by_side
from rmtdeq.kernels.series import CLOSED, Branches, Coefficients, Position, Scales

_MAX_STEPS = 60
_STEP = 1e-8


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
    size_x, size_y = scales.row_sizes[:, rows, None], scales.column_sizes[:, columns]
    versine: FloatArray | None = None  # 1 - r of the features below, from layers that hand it on
    value: FloatArray = gram.astype(np.float64)
    tangent: FloatArray = value
    full: FloatArray = value
    nodes: list[Node] = []
    if branches is not None:
        nodes_x, nodes_y = branches.row_sizes[:, rows, None], branches.column_sizes[:, columns]
        near = 1 - _known(value, nodes_x[0] * nodes_y[0])
        done &= ~branches.near[0] | (np.minimum(near, 2 - near) >= 1 - CLOSED)
        nodes.append(Node((value, value, value), (nodes_x[0], nodes_y[0]), near))
    for layer, (a2, b2, c2) in enumerate(scales.variances):
        scale = scales.rows[layer, rows, None] * scales.columns[layer, columns]
        if branches is not None:
            given = side_by_side(nodes, branches.weights[layer])
            (value, tangent, full), versine = given.entries, given.near
            below = given.sizes
        elif layer:
            below = size_x[layer - 1], size_y[layer - 1]
        x, slot = b2 * value + c2, coefficients.slots[layer]
        if slot < 0:
            if versine is None:
                r = _known(x, scale)
                versine = 1 - r
            else:
                versine = _versine_of_features(versine, scale, *below, b2, c2)
                # Nearly parallel pairs have their digits, nearly opposite ones have not.
                r = np.minimum(1 - versine, 0.0)
            arguments = scales.row_arguments[layer, rows, None], scales.column_arguments[layer, columns]
            sizes = size_x[layer], size_y[layer]
            value, slope, versine = _folded(versine, *arguments, *sizes, *scales.folds[layer])
            derivative: FloatArray = slope * _ratio(arguments[0] * arguments[1], scale)
            strongest = CLOSED
        else:
            versine = None
            h_x, h_y = coefficients.rows[slot, rows].T, coefficients.columns[slot, :, columns]
            strongest = coefficients.cutoffs[layer, -1]
            r = _known(x, scale) if a2 == 0 else _solved(x, scale, a2, h_x, h_y, done, strongest)
            value, slope = _series(h_x, h_y, r)
            derivative = _ratio(slope, scale)
        gain = 1 - a2 * derivative
        done &= abs(r) <= strongest
        bad |= done & (gain <= 0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            first = layer == 0 if branches is None else branches.first[layer]
            tangent = (value if first else value + (b2 * tangent + c2) * derivative) / gain
            full = (value + (b2 * full + c2) * derivative) / gain
        # Entries that are left to others go on as nothing.
        value, tangent, full = (np.where(done, each, 0.0) for each in (value, tangent, full))
        if branches is not None:
            near = 1 - _known(value, size_x[layer] * size_y[layer]) if versine is None else versine
            done &= ~branches.near[layer + 1] | (np.minimum(near, 2 - near) >= 1 - CLOSED)
            near = branches.kept[layer] * near + (1 - branches.kept[layer])
            nodes.append(Node((value, tangent, full), (nodes_x[layer + 1], nodes_y[layer + 1]), near))
    if branches is not None:
        value, tangent, full = side_by_side(nodes, branches.weights[-1]).entries
    a, b = np.nonzero(done)
    for wanted, out, entry in zip(wants, outputs, (value, tangent, full), strict=True):
        if wanted:
            out[position.out_row + a, position.out_column + b] = entry[a, b]
            if position.mirror:
                out[column + b + position.out_row - row, row + a + position.out_column - column] = entry[a, b]
    left[:] = todo & ~done
    return int((done & bad).sum()), int(left.sum(dtype=np.int64))


def _ratio(x: FloatArray, y: FloatArray) -> FloatArray:
    """x/y, zero where y is."""
    return np.divide(x, y, out=np.zeros(np.broadcast_shapes(x.shape, y.shape)), where=y > 0)


def _known(x: FloatArray, scale: FloatArray) -> FloatArray:
    """Correlations of pre-activations without recurrence."""
    return np.clip(_ratio(x, scale), -1.0, 1.0)


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


def _versine_of_features(
    versine: FloatArray, scale: FloatArray, size_x: FloatArray, size_y: FloatArray, b2: float, c2: float
) -> FloatArray:
    """Return 1 - r of pre-activations from that of the features below, without a difference of large terms."""
    both, apart, bias = size_x * size_y, size_x - size_y, c2 / b2
    inverse = np.divide(b2, scale, out=np.zeros_like(scale), where=scale > 0)
    size = scale / b2 + (scale == 0)
    return np.minimum((both * versine + bias * apart**2 / (size + bias + both)) * inverse, 2.0)


def _folded(
    versine: FloatArray,
    sigma_x: FloatArray,
    sigma_y: FloatArray,
    size_x: FloatArray,
    size_y: FloatArray,
    linear: float,
    fold: float,
    shift: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``E φ(u)φ(v)``, ``E φ'(u)φ'(v)`` and 1 - r of the features, of φ(u) = linear·u + fold·|u| - shift."""
    squares, folded = linear**2 + fold**2, fold**2 * (2 / pi)
    inverse_x, inverse_y = (np.divide(1.0, each, out=np.zeros_like(each), where=each > 0) for each in (size_x, size_y))
    theta, r = 2 * np.arcsin(np.sqrt(versine / 2)), 1 - versine
    u, v = sigma_x * inverse_x, sigma_y * inverse_y
    constant = fold * sqrt(2 / pi) * (u - v) - shift * (inverse_x - inverse_y)
    loss = squares * versine - folded * (np.sqrt(versine * (2 - versine)) - theta * r)
    turned = ((squares - folded) * (u - v) ** 2 + constant**2) / 2 + u * v * loss
    turned = np.clip(turned, 0.0, 2.0)
    return size_x * size_y * (1 - turned), squares - folded * theta, turned
