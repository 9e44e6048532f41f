"""What is computed once for all entries of a kernel: of every layer, what its samples need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations import jumps
from rmtdeq.activations.dual_forms import FoldedLinear
from rmtdeq.kernels.pairs import LayerOfPairs, entries_of_pairs, entry
from rmtdeq.kernels.samples import Samples
from rmtdeq.kernels.scales import Profile, ScaleTable, scale_table
from rmtdeq.network import Layer, Network, require_network

if TYPE_CHECKING:
    from rmtdeq.kernels.dual_tables import DualTable
    from rmtdeq.kernels.noise_tables import NoiseTable

_SMALLEST_NORM2, _LARGEST_NORM2 = 1e-200, 1e16
_SMALLEST_SINGLE = 1e-30
_FEW = 16
"""Pairs of samples whose quadratures take less time than a table."""

_one_makes_it = Lock()
"""Threads that share a plan wait for its tables."""


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """A layer on the samples of a kernel.

    Attributes
    ----------
    table : ScaleTable
        Of the layer, for the norms of all samples there are.
    rows, columns : Profile
        Per-sample quantities.
    """

    table: ScaleTable
    rows: Profile
    columns: Profile

    @property
    def layer(self) -> Layer:
        """Uncentred."""
        return self.table.layer

    @cached_property
    def used(self) -> ScaleTable:
        """What these samples need of the table."""
        return self.table.used(self.rows, self.columns)

    @property
    def duals(self) -> DualTable | NoiseTable | None:
        """The dual at the scales of the samples, where it has no closed form and can be tabulated."""
        with _one_makes_it:
            return self._duals

    @cached_property
    def _duals(self) -> DualTable | NoiseTable | None:
        phi = self.layer.activation
        sigma = np.concatenate([self.rows.sigma, self.columns.sigma])
        sigma = sigma[sigma > 0]
        if phi.dual_form is not None or jumps(phi) or not sigma.size:
            return None
        scales = float(sigma.min()), float(sigma.max())
        # Compiled code is loaded by those who need it.
        if any(phi.kinks):
            from rmtdeq.kernels.noise_tables import noise_table

            return noise_table(phi, *scales)
        from rmtdeq.kernels.dual_tables import dual_table

        return dual_table(phi, *scales)

    @property
    def by_quadrature(self) -> bool:
        """Whether pairs that are nearly parallel take quadratures, however many they are."""
        return self.layer.activation.dual_form is None and self.duals is None

    def of_pairs(self, i: IntArray, j: IntArray) -> LayerOfPairs:
        """Return what entries of some rows and columns are computed from."""
        duals = self.duals if i.size > _FEW else None
        return self.layer, self.rows.at(i), self.columns.at(j), duals.pairs if duals else None

    @property
    def fold(self) -> tuple[float, float, float] | None:
        """Linear part, fold and shift of a layer without recurrence whose entries have a closed form."""
        phi = self.layer.activation
        if self.layer.recurrent or not isinstance(phi.dual_form, FoldedLinear):
            return None
        return phi.dual_form.linear, phi.dual_form.absolute, phi.shift


@dataclass(frozen=True, eq=False)
class Plan:
    """A network on the samples of a kernel.

    Attributes
    ----------
    inputs : Samples
    layers : tuple of LayerPlan
    """

    inputs: Samples
    layers: tuple[LayerPlan, ...]

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.inputs.same

    @property
    def network(self) -> Network:
        """The layers, uncentred."""
        return Network([each.layer for each in self.layers])

    def pairs(self, i: IntArray, j: IntArray, kinds: Iterable[Kind]) -> dict[Kind, FloatArray]:
        """Return entries without a series: by closed forms, tables of the dual, and two-dimensional quadratures."""
        angles, inner = self.inputs.pairs(i, j)
        return entries_of_pairs([each.of_pairs(i, j) for each in self.layers], angles, inner, kinds)

    def diagonal(self, part: slice, kinds: Iterable[Kind]) -> dict[Kind, FloatArray]:
        """Return entries of samples with themselves."""
        square = self.inputs.diagonal(part)
        tangents = dict.fromkeys(kinds, square)
        for depth, each in enumerate(self.layers):
            square, slope = each.rows.square[part], each.rows.slope_square[part]
            tangents = {kind: entry(kind, each.layer, square, slope, below, depth) for kind, below in tangents.items()}
        return tangents


def make_plan(
    inputs: Samples,
    network: Network,
    kinds: Sequence[Kind],
    tau0_squared: float | None = None,
) -> Plan:
    """Check well-posedness on these samples and compute all per-sample quantities."""
    rows, columns = inputs.squared_norms()
    norms = rows if inputs.same else np.concatenate([rows, columns])
    if inputs.dtype == np.float32 and 0 < norms.max() < _SMALLEST_SINGLE:
        raise InvalidInputError(
            f"The largest squared norm is {norms.max():.3g}, whose products single precision does not hold: scale the "
            "data so that squared norms are of order one."
        )
    model = pinned(network, float(norms.max()), float(rows.mean()) if tau0_squared is None else tau0_squared)
    check.warn_of_scale(float(norms.mean()))
    return Plan(inputs, tuple(_planned(model, kinds, rows, columns)))


def pinned(network: Network, highest: float, tau0_squared: float) -> Network:
    """Check network and largest squared norm; return the network, activations centred where they are to be."""
    require_network(network)
    if highest == 0:
        raise InvalidInputError("Every sample is zero; the kernel needs at least one that is not.")
    if not _SMALLEST_NORM2 <= highest <= _LARGEST_NORM2:
        raise InvalidInputError(
            f"The largest squared norm is {highest:.3g}, and must lie between {_SMALLEST_NORM2:.0g} and "
            f"{_LARGEST_NORM2:.0g}: scale the data so that squared norms are of order one."
        )
    return network.pinned(tau0_squared)


def tabulate(network: Network, kinds: Sequence[Kind], squared_norms: FloatArray) -> tuple[ScaleTable, ...]:
    """Check that an uncentred network is well-posed at these squared norms, and tabulate what samples need."""
    return tuple(each.table for each in _planned(network, kinds, squared_norms, squared_norms))


def _planned(network: Network, kinds: Sequence[Kind], rows: FloatArray, columns: FloatArray) -> Iterator[LayerPlan]:
    """Tabulate layer by layer what samples of these squared norms need, and plan each on them."""
    for depth, layer in enumerate(network.layers):
        norms = rows if columns is rows else np.concatenate([rows, columns])
        table = scale_table(layer, float(norms.min()), float(norms.max()))
        table.check_tangent(kinds, first=depth == 0)
        planned = _layer_plan(table, rows, columns)
        yield planned
        rows, columns = planned.rows.square, planned.columns.square


def plan_with(tables: Sequence[ScaleTable], inputs: Samples, norms: tuple[FloatArray, FloatArray]) -> Plan:
    """Return the plan for samples whose squared norms, of rows and columns, lie within the tables."""
    return Plan(inputs, layers_at(tables, *norms))


def layers_at(tables: Sequence[ScaleTable], rows: FloatArray, columns: FloatArray) -> tuple[LayerPlan, ...]:
    """Return the layers on squared norms within the tables; `columns` is `rows` where they are the same samples."""
    layers: list[LayerPlan] = []
    for table in tables:
        layers.append(_layer_plan(table, rows, columns))
        rows, columns = layers[-1].rows.square, layers[-1].columns.square
    return tuple(layers)


def _layer_plan(table: ScaleTable, rows: FloatArray, columns: FloatArray) -> LayerPlan:
    """A layer on squared norms of rows and columns, which are one array where they are the same samples."""
    of_rows = table.profile(rows)
    return LayerPlan(table, of_rows, of_rows if columns is rows else table.profile(columns))
