"""The inner loop of the kernels as a Triton kernel: a layer's fixed points and all outputs of a tile in one pass.

The algorithm is that of `series`: Mehler's series of an entry, as short as the tile's largest correlation allows, and
steps of third order; a closed form where the activation is linear but for a fold.  A program computes one tile of a
block, in double precision.  An entry that the series does not serve is left NaN in the outputs, and stays NaN in the
layers above; the next pass, with a longer series, takes up those.

The inner products are the library's: made here, by the tile's own tensor-core product, they took longer on an H100 than
a product of the library and its way through memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rmtdeq.kernels.series import ARCSINE

_VARIES = ["out_row", "out_column", "final_row", "final_column", "tiers", "top", "bottom", "left", "right"]
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


_TERMS = tl.constexpr(len(ARCSINE))


@triton.jit
def _fold(r, sigma_rows, sigma_columns, constants):  # type: ignore[no-untyped-def]
    """``E φ(u)φ(v)`` and ``E φ'(u)φ'(v)`` of φ(u) = linear·u + fold·|u| - shift; constants are loaded as doubles."""
    linear, fold, shift = tl.load(constants + 3), tl.load(constants + 4), tl.load(constants + 5)
    of_product, of_mean, quarter = tl.load(constants + 6), tl.load(constants + 7), tl.load(constants + 8)
    size = tl.abs(r)
    near = size < 0.5
    z = tl.where(near, r * r, 0.5 - 0.5 * size)
    p = tl.zeros_like(r) + tl.load(constants + 9)
    for k in tl.static_range(1, _TERMS):
        p = p * z + tl.load(constants + 9 + k)
    angle = tl.sqrt(z) * p
    angle = tl.where(near, angle, quarter - 2.0 * angle)
    angle = tl.where(r >= 0.0, angle, -angle)
    folded = fold * fold * of_product
    constant = shift * shift - shift * fold * of_mean * (sigma_rows[:, None] + sigma_columns[None, :])
    product = sigma_rows[:, None] * sigma_columns[None, :]
    value = product * (linear * linear * r + folded * (tl.sqrt(1.0 - r * r) + r * angle)) + constant
    return value, linear * linear + folded * angle


@triton.jit(do_not_specialize=_VARIES)
def solve_tiles(  # type: ignore[no-untyped-def]
    gram, below_ntk, below_full, gram_stride,
    ck, ntk, full, out_stride, out_row, out_column,
    final, final_stride, final_row, final_column,
    rows, columns, scale_rows, scale_columns, argument_rows, argument_columns, height, width,
    degrees, cutoffs, tiers,
    constants, counts,
    top, bottom, left, right,
    with_ck: tl.constexpr, with_ntk: tl.constexpr, with_full: tl.constexpr,
    closed: tl.constexpr, first: tl.constexpr,
    same: tl.constexpr, below: tl.constexpr, mirror: tl.constexpr, again: tl.constexpr,
    size: tl.constexpr, most_steps: tl.constexpr,
):  # fmt: skip
    """Compute one tile of a layer; program (a, b) that of the a-th rows and b-th columns.

    Parameters
    ----------
    gram, below_ntk, below_full : pointers (bottom - top, ·)
        Inner products, or the kernels of the layer below, from row `top` and column `left` on; NaN where they are not
        known.
    gram_stride : int
        From row to row.
    ck, ntk, full : pointers
        Outputs, of one stride from row to row, of those kernels that are wanted.
    out_stride, out_row, out_column : int
        The outputs begin with this row and column of the kernel.
    final, final_stride, final_row, final_column
        The same of a result of the last layer.
    rows, columns : pointers (degree + 1, height), (degree + 1, width)
        Hermite coefficients of all row and column samples.
    scale_rows, scale_columns : pointers (height,), (width,)
        σ.
    argument_rows, argument_columns : pointers (height,), (width,)
        Scales of what φ is given.
    degrees, cutoffs : pointers (tiers,)
        Degrees at which the series may stop, and the largest |r| that each serves.
    constants : pointer
        σ_a², σ_b², σ_c², what `_fold` needs of the layer, and what it always needs; arguments and literals would be
        rounded to single precision.
    counts : pointer (2,)
        Out: entries whose slope σ_a² E φ'φ' is 1 or more, and entries that the series does not serve, are added.
    top, bottom, left, right : int
        Rows and columns of the block.
    closed, first : bool
        Whether the layer has a closed form, and whether it is the first.
    same, below, mirror, again : bool
        Leave the diagonal alone; compute only what lies below it; write that above it, too; take up only what is NaN
        in `final`.
    """
    start_row, start_column = top + tl.program_id(0) * size, left + tl.program_id(1) * size
    if below and start_column >= min(start_row + size, bottom):
        return
    i, j = start_row + tl.arange(0, size), start_column + tl.arange(0, size)
    inside_rows, inside_columns = i < bottom, j < right
    wanted = inside_rows[:, None] & inside_columns[None, :]
    if below:
        wanted = wanted & (j[None, :] < i[:, None])
    elif same:
        wanted = wanted & (j[None, :] != i[:, None])
    if again:
        place = (i - final_row).to(tl.int64)[:, None] * final_stride + (j - final_column)[None, :]
        before = tl.load(final + place, mask=wanted, other=0.0)
        wanted = wanted & (before != before)
        if tl.max(wanted.to(tl.int32)) == 0:
            return

    in_gram = (i - top).to(tl.int64)[:, None] * gram_stride + (j - left)[None, :]
    inner = tl.load(gram + in_gram, mask=wanted, other=0.0).to(tl.float64)
    known = wanted & (inner == inner)
    a2, b2, c2 = tl.load(constants), tl.load(constants + 1), tl.load(constants + 2)
    sigma_rows = tl.load(scale_rows + i, mask=inside_rows, other=0.0)
    sigma_columns = tl.load(scale_columns + j, mask=inside_columns, other=0.0)
    inverse_rows = tl.where(sigma_rows > 0.0, 1.0 / tl.where(sigma_rows > 0.0, sigma_rows, 1.0), 0.0)
    inverse_columns = tl.where(sigma_columns > 0.0, 1.0 / tl.where(sigma_columns > 0.0, sigma_columns, 1.0), 0.0)
    inverse_scale = inverse_rows[:, None] * inverse_columns[None, :]
    x = tl.where(known, b2 * inner + c2, 0.0) * inverse_scale
    strongest = tl.load(cutoffs + tiers - 1)
    if closed:
        r = tl.minimum(tl.maximum(x, -1.0), 1.0)
        given_rows = tl.load(argument_rows + i, mask=inside_rows, other=0.0)
        given_columns = tl.load(argument_columns + j, mask=inside_columns, other=0.0)
        value, derivative = _fold(r, given_rows, given_columns, constants)
        derivative = derivative * ((given_rows * inverse_rows)[:, None] * (given_columns * inverse_columns)[None, :])
    else:
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
            moving = known & near & ((change > 1e-7) | (change != change))
            r = moved
            steps += 1
            still = tl.max(moving.to(tl.int32))
            if (still == 0) | (steps == most_steps):
                r = tl.where(moving, 2.0, r)
                strong = tl.abs(r)
                reach = tl.max(tl.where(known & (strong <= strongest), strong, 0.0))
                if (tier == tiers - 1) | (reach <= tl.load(cutoffs + tier)):
                    going = 0
                else:
                    tier += 1
                    steps = 0
        derivative = slope * inverse_scale

    served = known & (tl.abs(r) <= strongest)
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
        if first:
            tangent = value / gain
        else:
            under = tl.load(below_ntk + in_gram, mask=wanted, other=0.0)
            tangent = (value + (b2 * under + c2) * derivative) / gain
        entries = tl.where(served, tangent, nothing)
        _store(ntk, out_stride, out_row, out_column, entries, i, j, wanted, mirror)
    if with_full:
        under = tl.load(below_full + in_gram, mask=wanted, other=0.0).to(tl.float64)
        entries = tl.where(served, (value + (b2 * under + c2) * derivative) / gain, nothing)
        _store(full, out_stride, out_row, out_column, entries, i, j, wanted, mirror)
