"""The inner loop of the kernels as a Triton kernel: fixed points and all outputs of a tile in one pass.

The algorithm is that of `series`: Mehler's series of an entry, as short as the tile's largest correlation allows, and
steps of third order.  A program computes one tile of a block, in double precision.  An entry that the series does not
serve is left NaN in the outputs; the next launch, with a longer series, takes up those.

The inner products are the library's: made here, by the tile's own tensor-core product, they took longer on an H100 than
a product of the library and its way through memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

_VARIES = ["out_row", "out_column", "tiers", "top", "bottom", "first", "last"]
"""Integers that are not worth a compilation of their own when they are 1 or a multiple of 16."""


@triton.jit
def _horner(r, rows, columns, height, width, i, j, degree):  # type: ignore[no-untyped-def]
    """The series at r, its slope and half its curvature; the coefficient of r^k is an outer product."""
    inside_rows, inside_columns = i < height, j < width
    value = (
        tl.load(rows + degree * height + i, mask=inside_rows, other=0.0)[:, None]
        * tl.load(columns + degree * width + j, mask=inside_columns, other=0.0)[None, :]
    )
    slope = tl.zeros_like(r)
    bend = tl.zeros_like(r)
    for step in range(degree):
        k = degree - 1 - step
        bend = slope + bend * r
        slope = value + slope * r
        value = value * r + (
            tl.load(rows + k * height + i, mask=inside_rows, other=0.0)[:, None]
            * tl.load(columns + k * width + j, mask=inside_columns, other=0.0)[None, :]
        )
    return value, slope, bend


@triton.jit
def _store(out, stride, row, column, entries, i, j, wanted, mirror: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write wanted entries (i, j), and with `mirror` (j, i) too, of a kernel that `out` has from (row, column) on."""
    entries = entries.to(out.dtype.element_ty)
    tl.store(out + (i - row).to(tl.int64)[:, None] * stride + (j - column)[None, :], entries, mask=wanted)
    if mirror:
        across, asked = tl.trans(entries), tl.trans(wanted.to(tl.int32)) != 0
        tl.store(out + (j - row).to(tl.int64)[:, None] * stride + (i - column)[None, :], across, mask=asked)


@triton.jit(do_not_specialize=_VARIES)
def solve_tiles(  # type: ignore[no-untyped-def]
    gram, carried, gram_stride, carried_stride,
    ck, ntk, full, out_stride, out_row, out_column,
    rows, columns, scale_rows, scale_columns, height, width,
    degrees, cutoffs, tiers,
    constants, counts,
    top, bottom, first, last,
    with_ck: tl.constexpr, with_ntk: tl.constexpr, with_full: tl.constexpr,
    carries: tl.constexpr, same: tl.constexpr, below: tl.constexpr, mirror: tl.constexpr, again: tl.constexpr,
    size: tl.constexpr, most_steps: tl.constexpr,
):  # fmt: skip
    """Compute one tile; program (a, b) that of the a-th rows and b-th columns.

    Parameters
    ----------
    gram, carried : pointers (bottom - top, ·)
        Inner products from row `top` and column `first` on; what `full` takes the slope times, if that is something
        else (`carries`).
    gram_stride, carried_stride : int
        From row to row.
    ck, ntk, full : pointers
        Outputs, of one stride from row to row, of those kernels that are wanted.
    out_stride, out_row, out_column : int
        The outputs begin with this row and column of the kernel.
    rows, columns : pointers (degree + 1, height), (degree + 1, width)
        Hermite coefficients of all row and column samples.
    scale_rows, scale_columns : pointers (height,), (width,)
        1/σ, zero where σ is zero.
    degrees, cutoffs : pointers (tiers,)
        Degrees at which the series may stop, and the largest |r| that each serves.
    constants : pointer (2,)
        σ_a² and σ_b²; an argument would be rounded to single precision.
    counts : pointer (2,)
        Out: entries whose slope σ_a² E φ'φ' is 1 or more, and entries that the series does not serve, are added.
    top, bottom, first, last : int
        Rows and columns of the block.
    same, below, mirror, again : bool
        Leave the diagonal alone; compute only what lies below it; write that above it, too; take up NaN only.
    """
    start_row, start_column = top + tl.program_id(0) * size, first + tl.program_id(1) * size
    if below and start_column >= min(start_row + size, bottom):
        return
    i, j = start_row + tl.arange(0, size), start_column + tl.arange(0, size)
    inside_rows, inside_columns = i < bottom, j < last
    wanted = inside_rows[:, None] & inside_columns[None, :]
    if below:
        wanted = wanted & (j[None, :] < i[:, None])
    elif same:
        wanted = wanted & (j[None, :] != i[:, None])
    if again:
        place = (i - out_row).to(tl.int64)[:, None] * out_stride + (j - out_column)[None, :]
        if with_ck:
            before = tl.load(ck + place, mask=wanted, other=0.0)
        elif with_ntk:
            before = tl.load(ntk + place, mask=wanted, other=0.0)
        else:
            before = tl.load(full + place, mask=wanted, other=0.0)
        wanted = wanted & (before != before)
        if tl.max(wanted.to(tl.int32)) == 0:
            return

    in_gram = (i - top).to(tl.int64)[:, None] * gram_stride + (j - first)[None, :]
    inner = tl.load(gram + in_gram, mask=wanted, other=0.0).to(tl.float64)
    a2, b2 = tl.load(constants), tl.load(constants + 1)
    inverse_scale = (
        tl.load(scale_rows + i, mask=inside_rows, other=0.0)[:, None]
        * tl.load(scale_columns + j, mask=inside_columns, other=0.0)[None, :]
    )
    x = tl.where(wanted, b2 * inner, 0.0) * inverse_scale
    g = a2 * inverse_scale
    constant = (
        tl.load(rows + i, mask=inside_rows, other=0.0)[:, None]
        * tl.load(columns + j, mask=inside_columns, other=0.0)[None, :]
    )
    linear = (
        tl.load(rows + height + i, mask=inside_rows, other=0.0)[:, None]
        * tl.load(columns + width + j, mask=inside_columns, other=0.0)[None, :]
    )
    r = (x + g * constant) / (1.0 - g * linear)
    r = tl.where(r == r, tl.minimum(tl.maximum(r, -1.0), 1.0), 0.0)

    strongest = tl.load(cutoffs + tiers - 1)
    value, slope = tl.zeros_like(r), tl.zeros_like(r)
    tier, steps, going = 0, 0, 1
    while going == 1:
        degree = tl.load(degrees + tier)
        value, slope, bend = _horner(r, rows, columns, height, width, i, j, degree)
        inverse = 1.0 / (1.0 - g * slope)
        q = g * bend * inverse
        d = (x + g * value - r) * inverse
        t = q * d
        d = tl.where(tl.abs(t) < 0.25, d * (1.0 + t), d)
        moved = tl.minimum(tl.maximum(r + d, -1.0), 1.0)
        d = moved - r
        # By Taylor's formula, where the step has led.
        value = value + d * (slope + bend * d)
        slope = slope + 2.0 * bend * d
        change = tl.abs(d) * (1.0 + tl.abs(q))
        near = tl.minimum(tl.abs(r), tl.abs(moved)) <= strongest
        moving = wanted & near & ((change > 1e-7) | (change != change))
        r = moved
        steps += 1
        still = tl.max(moving.to(tl.int32))
        if (still == 0) | (steps == most_steps):
            r = tl.where(moving, 2.0, r)
            strong = tl.abs(r)
            reach = tl.max(tl.where(wanted & (strong <= strongest), strong, 0.0))
            if (tier == tiers - 1) | (reach <= tl.load(cutoffs + tier)):
                going = 0
            else:
                tier += 1
                steps = 0

    served = wanted & (tl.abs(r) <= strongest)
    derivative = slope * inverse_scale
    gain = 1.0 - a2 * derivative
    bad = tl.sum((served & (gain <= 0.0)).to(tl.int32))
    remaining = tl.sum((wanted & (served == 0)).to(tl.int32))
    if bad > 0:
        tl.atomic_add(counts, bad)
    if remaining > 0:
        tl.atomic_add(counts + 1, remaining)
    nothing = float("nan")
    if with_ck:
        entries = tl.where(served, value, nothing)
        _store(ck, out_stride, out_row, out_column, entries, i, j, wanted, mirror)
    if with_ntk:
        entries = tl.where(served, value / gain, nothing)
        _store(ntk, out_stride, out_row, out_column, entries, i, j, wanted, mirror)
    if with_full:
        if carries:
            at = (i - top).to(tl.int64)[:, None] * carried_stride + (j - first)[None, :]
            inner = tl.load(carried + at, mask=wanted, other=0.0).to(tl.float64)
        entries = tl.where(served, (value + b2 * inner * derivative) / gain, nothing)
        _store(full, out_stride, out_row, out_column, entries, i, j, wanted, mirror)
