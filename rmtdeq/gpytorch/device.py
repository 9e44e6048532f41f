"""The gradients of `adjoints` by torch, on the device where samples and entries are: some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.gpytorch.adjoints import TERMS, Adjoints, layers_of, of_columns, of_rows, samples_back, series_of
from rmtdeq.gpytorch.descent import Partials, descend
from rmtdeq.gpytorch.near_pairs import NearPairs
from rmtdeq.gpytorch.tiles import LEAST_VERSINE
from rmtdeq.kernels.plan import Plan
from rmtdeq.network import Layer

_AT_ONCE = 1 << 22
"""Entries whose partial derivatives are held at a time."""

_MOST_STEPS, _SETTLED = 60, 1e-8


def pull_back_there(plan: Plan, kind: Kind, weights: Tensor) -> Adjoints:
    """Return what `adjoints.pull_back` does, in tensors.

    Parameters
    ----------
    plan : Plan
        Of samples on a device, in double precision.
    kind : str
    weights : Tensor (n, m)
        There.
    """
    X, Y = plan.inputs.X, plan.inputs.Y
    of_X, of_Y = torch.zeros_like(X), torch.zeros_like(X if Y is None else Y)
    depth, (n, m) = len(plan.layers), plan.inputs.shape
    scales = X.new_zeros(depth, n), X.new_zeros(depth, m)
    variances = np.zeros((depth, 3))
    pairs = _Pairs(plan, kind)
    size = max(1, _AT_ONCE // (m * depth))
    for top in range(0, n, size):
        rows = slice(top, min(top + size, n))
        given = weights[rows]
        if plan.same:
            # Entries below the diagonal, for both sides of it.
            given = torch.tril(given + weights[:, rows].mT, top - 1)
        inner, by_rows, by_columns, more = pairs.pull(rows, given)
        columns = slice(0, rows.stop if plan.same else m)
        of_X[rows] += inner @ (X if Y is None else Y)[columns]
        of_Y[columns] += inner.mT @ X[rows]
        scales[0][:, rows] += by_rows
        scales[1][:, columns] += by_columns
        variances += more
    if plan.same:
        scales = scales[0] + scales[1], scales[1]
        of_X = of_X + of_Y
    diagonal = weights.diagonal().cpu().numpy() if plan.same else None
    of_norms, more = samples_back(of_rows(plan.layers), kind, scales[0].cpu().numpy(), diagonal)
    of_X = of_X + 2 * torch.from_numpy(of_norms).to(X)[:, None] * X
    if Y is None:
        return Adjoints(of_X, None, variances + more)
    of_norms, rest = samples_back(of_columns(plan.layers), kind, scales[1].cpu().numpy(), None)
    of_Y = of_Y + 2 * torch.from_numpy(of_norms).to(X)[:, None] * Y
    return Adjoints(of_X, of_Y, variances + more + rest)


Pulled = tuple[Tensor, Tensor, Tensor, FloatArray]
"""Gradients of inner products, of the variances of pre-activations of rows and columns, and of the layers'."""


class _Pairs:
    """Pulls the gradients of some rows back.

    Parameters
    ----------
    plan : Plan
    kind : str
    """

    def __init__(self, plan: Plan, kind: Kind) -> None:
        self._plan, self._kind = plan, kind
        self._layers = [each.layer for each in plan.layers]
        known = layers_of(plan)
        self._folds, self._silent = known.folds, known.silent
        self._rows, self._columns = self._there(known.rows), self._there(known.columns)
        self._series: list[list[_Series | None]] = []

    def _there(self, array: FloatArray) -> Tensor:
        return torch.from_numpy(array).to(self._plan.inputs.X.device)

    def _bank(self, number: int) -> list[_Series | None]:
        """The series of every layer, None where it has a fold."""
        if number == len(self._series):
            found = series_of(self._plan, TERMS[number])
            h, g, y, z = map(self._there, (found.rows, found.row_slopes, found.columns, found.column_slopes))
            self._series.append(
                [
                    None if slot < 0 else _Series(h[slot], g[slot], y[slot], z[slot], found.degrees, cutoffs)
                    for slot, cutoffs in zip(found.slots, found.cutoffs, strict=True)
                ]
            )
        return self._series[number]

    @cached_property
    def _near(self) -> NearPairs:
        return NearPairs(self._plan, self._kind)

    def pull(self, rows: slice, weights: Tensor) -> Pulled:
        """Return the gradients of ``Σ weights_ij K_ij`` over some rows, and all columns or those before their end."""
        columns = slice(0, rows.stop if self._plan.same else weights.shape[1])
        weights = weights[:, columns]
        Y = self._plan.inputs.X if self._plan.same else self._plan.inputs.Y
        inner = self._plan.inputs.X[rows] @ Y[columns].mT
        found: list[Pulled] = []
        for number in range(len(TERMS)):
            series = self._bank(number)
            partials, lost = self._partials(series, rows, columns, inner)
            served = weights if lost is None else weights.masked_fill(lost, 0.0)
            at = descend(self._layers, self._kind, inner, partials, served)
            part = (
                at.inner,
                torch.stack([each.sum(-1) for each in at.rows]),
                torch.stack([each.sum(-2) for each in at.columns]),
                np.array([[float(each) for each in of] for of in at.variances]),
            )
            found.append(part)
            if lost is None or not bool((lost & (weights != 0)).any()):
                return _sum(found)
            weights = weights.masked_fill(~lost, 0.0)
        return self._with_near(_sum(found), rows, weights)

    def _with_near(self, found: Pulled, rows: slice, weights: Tensor) -> Pulled:
        """Add what no series serves, which the host computes."""
        inner, by_rows, by_columns, variances = found
        i, j = weights.nonzero(as_tuple=True)
        at = self._near.pull(i.cpu().numpy() + rows.start, j.cpu().numpy(), weights[i, j].cpu().numpy())
        inner = inner.index_put((i, j), self._there(at.inner), accumulate=True)
        by_rows.index_add_(1, i, self._there(np.array(at.rows)))
        by_columns.index_add_(1, j, self._there(np.array(at.columns)))
        return inner, by_rows, by_columns, variances + np.array(at.variances)

    def _partials(
        self, series: list[_Series | None], rows: slice, columns: slice, inner: Tensor
    ) -> tuple[list[Partials], Tensor | None]:
        """Partial derivatives in every layer, and which entries some series does not serve."""
        below, lost, found = inner, None, []
        turned: Tensor | None = None
        for depth, layer in enumerate(self._layers):
            u, v = self._rows[depth][:, rows, None], self._columns[depth][:, None, columns]
            known = series[depth]
            if known is None:
                if turned is None:
                    turned = _turned(below, u[2] * v[2])
                at, turned = _folded(layer, u, v, turned, self._folds[depth], self._silent, self._kind)
            else:
                at, missing = known.at(rows, columns).partials(layer, u[0] * v[0], below, self._kind)
                lost = missing if lost is None else lost | missing
                turned = _turned(at.value, u[1] * v[1])
            found.append(at)
            below = at.value
        return found, lost


def _sum(parts: list[Pulled]) -> Pulled:
    inner, by_rows, by_columns, variances = (sum(of[1:], start=of[0]) for of in zip(*parts, strict=True))
    return inner, by_rows, by_columns, variances


def _turned(inner: Tensor, size: Tensor) -> Tensor:
    """1 - cos of the angles of vectors with these inner products and products of norms."""
    return torch.where(size > 0, 1 - inner / size, 1.0).clamp(0.0, 2.0)


def _folded(
    layer: Layer, u: Tensor, v: Tensor, under: Tensor, fold: FloatArray, silent: float, kind: Kind
) -> tuple[Partials, Tensor]:
    """A layer with a fold; `under` is 1 - cos of the angles of its inputs, returned that of its features."""
    (sigma, size, norm), (other, other_size, other_norm) = u, v
    a2, b2, c2 = layer.sigma_a2, layer.sigma_b2, layer.sigma_c2
    linear, absolute, shift = map(float, fold)
    product, sizes, both = sigma * other, size * other_size, b2 * norm * other_norm
    # Lagrange's identity for σ_u σ_v less the product of the parts' sizes.
    apart = a2 * b2 * (size * other_norm - norm * other_size) ** 2
    apart = apart + c2 * (b2 * (norm - other_norm) ** 2 + a2 * (size - other_size) ** 2)
    apart = apart / (product + a2 * sizes + both + c2)
    heard = (sigma > silent) & (other > silent)
    source = torch.where(heard, (apart + both * under) / product, 1.0).clamp(0.0, 2.0)
    squares, folded, mean = linear**2 + absolute**2, absolute**2 * (2 / pi), absolute * sqrt(2 / pi)
    per_size, per_other = (torch.where(each > 0, 1 / each, 0.0) for each in (size, other_size))
    unit, other_unit = sigma * per_size, other * per_other
    parallel = (squares - folded) * (unit - other_unit) ** 2
    parallel = parallel + (mean * (unit - other_unit) - shift * (per_size - per_other)) ** 2
    versine, settled = source, not layer.recurrent
    for _ in range(_MOST_STEPS):
        theta = 2 * torch.atan2(versine.sqrt(), (2 - versine).sqrt())
        sine = (versine * (2 - versine)).sqrt()
        loss = squares * versine - folded * (sine - theta * (1 - versine))
        turned = (0.5 * parallel + unit * other_unit * loss).clamp(0.0, 2.0)
        slope = squares - folded * theta
        if settled:
            break
        gap = versine - source - a2 * (sizes / product) * turned
        after = (versine - gap / (1 - a2 * slope)).clamp(0.0, 2.0)
        settled = bool(((after - versine).abs() <= _SETTLED * after).all())
        versine = after
    half = 0.5 * folded * sine
    by_row, by_column = (
        half * other / sigma - 0.5 * shift * mean / sigma,
        half * sigma / other - 0.5 * shift * mean / other,
    )
    value = sizes * (1 - turned)
    if kind == "ck":
        return Partials(value, slope, by_row, by_column), turned
    near = versine.clamp(LEAST_VERSINE, 2 - LEAST_VERSINE)
    steep = folded / (near * (2 - near)).sqrt()
    r = 1 - near
    bends = steep / product, -0.5 * steep * r / sigma**2, -0.5 * steep * r / other**2
    return Partials(value, slope, by_row, by_column, *bends), turned


@dataclass(frozen=True, eq=False)
class _Series:
    """Mehler's series of a layer; see `tiles.Series`."""

    rows: Tensor
    row_slopes: Tensor
    columns: Tensor
    column_slopes: Tensor
    degrees: IntArray
    cutoffs: FloatArray

    def at(self, rows: slice, columns: slice) -> _Series:
        """Return that of some rows and columns."""
        return replace(
            self,
            rows=self.rows[rows],
            row_slopes=self.row_slopes[rows],
            columns=self.columns[:, columns],
            column_slopes=self.column_slopes[:, columns],
        )

    def _terms(self, r: Tensor) -> int:
        """Terms that serve all entries which any number does."""
        size = r.abs()
        top = float(torch.where(size <= self.cutoffs[-1], size, 0.0).max())
        tier = min(int(np.searchsorted(self.cutoffs, top)), self.cutoffs.size - 1)
        return int(self.degrees[tier])

    def partials(self, layer: Layer, product: Tensor, below: Tensor, kind: Kind) -> tuple[Partials, Tensor]:
        """Partial derivatives, and which entries the series does not serve."""
        a2, last = layer.sigma_a2, float(self.cutoffs[-1])
        source = layer.sigma_b2 * below + layer.sigma_c2
        start = source + a2 * self.rows[:, :1] * self.columns[:1] if layer.recurrent else source
        r = (start / product).clamp(-1.0, 1.0)
        moved = torch.zeros_like(r)
        for _ in range(_MOST_STEPS if layer.recurrent else 0):
            value, slope = self._sum(self.rows, self.columns, r, 2)
            after = r - (r - (source + a2 * value) / product) / (1 - a2 * slope / product)
            after = after.clamp(-1.0, 1.0)
            moved, r = (after - r).abs(), after
            if not bool(((moved > _SETTLED) & (r.abs() <= last)).any()):
                break
        bends = kind != "ck"
        value, slope, *rest = self._sum(self.rows, self.columns, r, 3 if bends else 2)
        by_row, *of_row = self._sum(self.row_slopes, self.columns, r, 2 if bends else 1)
        by_column, *of_column = self._sum(self.rows, self.column_slopes, r, 2 if bends else 1)
        slope = slope / product
        lost = (r.abs() > last) | (moved > _SETTLED) | (a2 * slope >= 1)
        slope = slope.masked_fill(lost, 0.0)
        if not bends:
            return Partials(value, slope, by_row, by_column), lost
        found = 2 * rest[0] / product**2, of_row[0] / product, of_column[0] / product
        return Partials(value, slope, by_row, by_column, *found), lost

    def _sum(self, left: Tensor, right: Tensor, r: Tensor, count: int) -> list[Tensor]:
        """Horner's rule for a series in r, its derivative and half the second one."""
        found = [torch.zeros_like(r) for _ in range(count)]
        for k in range(self._terms(r) - 1, -1, -1):
            for order in range(count - 1, 0, -1):
                found[order].mul_(r).add_(found[order - 1])
            found[0].mul_(r).addcmul_(left[:, k, None], right[k])
        return found
