"""The fixed points of a tile's entries by Mehler's series, on tensors: the algorithm of `tiles`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_STEPS = 60
_STEP = 1e-7  # What is left after a step is of the order of its square, for the derivative.
_CHUNK = 1 << 14

Coefficient = Callable[[int], Tensor]
"""The coefficients of r^k of all entries, by k."""


@dataclass(frozen=True, eq=False)
class Solved:
    """Correlations r of entries, their series and its slope in r there; r = 2 where the series does not serve."""

    r: Tensor
    value: Tensor
    slope: Tensor


def evaluate(r: Tensor, coefficient: Coefficient, degree: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the series at r, its slope and half its curvature, by Horner's rule."""
    value = coefficient(degree)
    slope, bend = torch.zeros_like(r), torch.zeros_like(r)
    for k in range(degree - 1, -1, -1):
        bend = torch.addcmul(slope, bend, r)
        slope = torch.addcmul(value, slope, r)
        value = torch.addcmul(coefficient(k), value, r)
    return value, slope, bend


def _move(
    x: Tensor, r: Tensor, value: Tensor, slope: Tensor, bend: Tensor, g: Tensor, inverse_scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a step of third order; return r, the step and, by Taylor's formula, value and slope there.

    With g = σ_a²/(σ_i σ_j) the equation at r + d is f - (1 - g s) d + g c d² = 0.
    """
    inverse = 1 / (1 - g * slope)
    q = g * bend * inverse
    d = (torch.addcmul(x * inverse_scale, g, value) - r) * inverse
    t = q * d
    d = torch.where(t.abs() < 0.25, d * (1 + t), d)
    moved = (r + d).clamp(-1.0, 1.0)
    d = moved - r
    return moved, d * (1 + q.abs()), value + d * (slope + bend * d), slope + 2 * bend * d


def solve(
    x: Tensor,
    inverse_scale: Tensor,
    sigma_a2: float,
    coefficient: Coefficient,
    degrees: Sequence[int],
    cutoffs: Sequence[float],
) -> Solved:
    """Solve r = (σ_a² Σ_k c_k r^k + x)/(σ_i σ_j) for all entries.

    Parameters
    ----------
    x : Tensor
        σ_b² x_i·x_j.
    inverse_scale : Tensor
        1/(σ_i σ_j), zero where a scale is zero.
    sigma_a2 : float
    coefficient : callable
        Of the series, up to the last of `degrees`.
    degrees, cutoffs : sequence
        Degrees at which the series may stop, and the largest |r| that each serves.
    """
    g = sigma_a2 * inverse_scale
    r = ((x * inverse_scale + g * coefficient(0)) / (1 - g * coefficient(1))).nan_to_num(0.0).clamp(-1.0, 1.0)
    strongest = cutoffs[-1]
    tier, settled = 0, False
    while True:
        for _ in range(_MAX_STEPS):
            value, slope, bend = evaluate(r, coefficient, degrees[tier])
            before = r
            r, step, value, slope = _move(x, r, value, slope, bend, g, inverse_scale)
            moving = (torch.minimum(before.abs(), r.abs()) <= strongest) & ~(step.abs() <= _STEP)
            settled = not bool(moving.any())
            if settled:
                break
        if not settled:
            r = torch.where(moving, 2.0, r)
        top = float(torch.where(r.abs() <= strongest, r.abs(), 0.0).max())
        if tier == len(degrees) - 1 or top <= cutoffs[tier]:
            return Solved(torch.where(r.abs() <= strongest, r, 2.0), value, slope)
        while tier < len(degrees) - 1 and cutoffs[tier] < top:
            tier += 1


def versine_of_features(
    versine: Tensor, inverse_scale: Tensor, size_rows: Tensor, size_columns: Tensor, b2: float, c2: float
) -> Tensor:
    """Return 1 - r of pre-activations from that of the features below, without a difference of large terms."""
    both, apart, bias = size_rows * size_columns, size_rows - size_columns, c2 / b2
    inverse = b2 * inverse_scale
    size = torch.where(inverse > 0, 1 / inverse, 1.0)
    return ((both * versine + bias * apart**2 / (size + bias + both)) * inverse).clamp(max=2.0)


def fold_tile(
    versine: Tensor,
    sigma_rows: Tensor,
    sigma_columns: Tensor,
    size_rows: Tensor,
    size_columns: Tensor,
    linear: float,
    fold: float,
    shift: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return E φ(u)φ(v), E φ'(u)φ'(v) and 1 - r of the features, of φ(u) = linear·u + fold·|u| - shift."""
    squares, folded = linear**2 + fold**2, fold**2 * (2 / math.pi)
    inverse_rows, inverse_columns = (torch.where(each > 0, 1 / each, 0.0) for each in (size_rows, size_columns))
    theta, r = 2 * torch.asin(torch.sqrt(versine / 2)), 1 - versine
    u, v = sigma_rows * inverse_rows, sigma_columns * inverse_columns
    constant = fold * math.sqrt(2 / math.pi) * (u - v) - shift * (inverse_rows - inverse_columns)
    loss = squares * versine - folded * (torch.sqrt(versine * (2 - versine)) - theta * r)
    turned = (((squares - folded) * (u - v) ** 2 + constant**2) / 2 + u * v * loss).clamp(0.0, 2.0)
    return size_rows * size_columns * (1 - turned), squares - folded * theta, turned


def solve_tile(
    x: Tensor,
    rows: Tensor,
    columns: Tensor,
    scale_rows: Tensor,
    scale_columns: Tensor,
    sigma_a2: float,
    degrees: Sequence[int],
    cutoffs: Sequence[float],
) -> Solved:
    """Solve all entries of a tile: those that the shortest series serves together, the others gathered.

    Parameters
    ----------
    x : Tensor (h, w)
    rows, columns : Tensor (degree + 1, h), (degree + 1, w)
        Hermite coefficients.
    scale_rows, scale_columns : Tensor (h,), (w,)
        1/σ, zero where σ is zero.
    """
    inverse_scale = torch.outer(scale_rows, scale_columns)

    def outer(k: int) -> Tensor:
        return torch.outer(rows[k], columns[k])

    first = solve(x, inverse_scale, sigma_a2, outer, degrees[:1], cutoffs[:1])
    if len(degrees) == 1:
        return first
    far = (first.r.abs() > cutoffs[0]).flatten().nonzero().squeeze(1)
    if not len(far):
        return first
    r, value, slope = (each.flatten() for each in (first.r, first.value, first.slope))
    for part, found in solve_some(x, far, rows, columns, scale_rows, scale_columns, sigma_a2, degrees[1:], cutoffs[1:]):
        r[part], value[part], slope[part] = found.r, found.value, found.slope
    return Solved(*(each.reshape(x.shape) for each in (r, value, slope)))


def solve_some(
    x: Tensor,
    numbers: Tensor,
    rows: Tensor,
    columns: Tensor,
    scale_rows: Tensor,
    scale_columns: Tensor,
    sigma_a2: float,
    degrees: Sequence[int],
    cutoffs: Sequence[float],
) -> Iterator[tuple[Tensor, Solved]]:
    """Solve the entries of a tile with these numbers, counted row by row, some at a time; see `solve_tile`."""
    for part in numbers.split(_CHUNK):
        i, j = part // x.shape[1], part % x.shape[1]
        terms = rows[:, i] * columns[:, j]
        yield part, solve(x[i, j], scale_rows[i] * scale_columns[j], sigma_a2, terms.__getitem__, degrees, cutoffs)
