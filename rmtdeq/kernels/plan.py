"""What is computed once for all entries of a kernel: of every layer, what its samples need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations import Activation, jumps
from rmtdeq.activations.dual_forms import FoldedLinear
from rmtdeq.kernels.pairs import Features, LayerOfPairs, entries_of_pairs, entry
from rmtdeq.kernels.samples import Angles, Samples
from rmtdeq.kernels.scales import Profile, ScaleTable, scale_table
from rmtdeq.network import INPUT, Layer, Network, Sources, require_network, samples_alone, weighted_sum

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
        sigma = np.concatenate([self.rows.scale, self.columns.scale])
        sigma = sigma[sigma > 0]
        return tabulated_dual(self.layer.activation, float(sigma.min()), float(sigma.max())) if sigma.size else None

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
        line = None if self.layer.recurrent else self.folded_line
        # What sample by sample multiplies a fold, and is no fold of another scale if it is shifted.
        return None if line and line[2] and self.layer.after else line

    @property
    def folded_line(self) -> tuple[float, float, float] | None:
        """The same of any layer whose activation is linear but for a fold."""
        phi = self.layer.activation
        if not isinstance(phi.dual_form, FoldedLinear):
            return None
        return phi.dual_form.linear, phi.dual_form.absolute, phi.shift


def tabulated_dual(phi: Activation, low: float, high: float) -> DualTable | NoiseTable | None:
    """Return a table of a dual for these scales, where it has no closed form and can be tabulated."""
    if phi.dual_form is not None or jumps(phi):
        return None
    # Compiled code is loaded by those who need it.
    if any(phi.kinks):
        from rmtdeq.kernels.noise_tables import noise_table

        return noise_table(phi, low, high)
    from rmtdeq.kernels.dual_tables import dual_table

    return dual_table(phi, low, high)


def weighted_sums(known: Mapping[int, Mapping[Any, Any]], sources: Sources) -> dict[Any, Any]:
    """Return the weighted sums of what is known of some layers, arrays or tensors, name by name."""
    return {name: weighted_sum({i: known[i][name] for i, _ in sources}, sources) for name in known[INPUT]}


@dataclass(frozen=True, eq=False)
class NetworkPlan:
    """A network on samples of some squared norms.

    Attributes
    ----------
    network : Network
        Uncentred.
    layers : tuple of LayerPlan
    rows, columns : ndarray (n,), (m,)
        Squared norms of the samples.
    """

    network: Network
    layers: tuple[LayerPlan, ...]
    rows: FloatArray
    columns: FloatArray

    @property
    def tables(self) -> NetworkTables:
        """What other samples, whose squared norms lie among these, need as well."""
        return NetworkTables(self.network, tuple(each.table for each in self.layers))

    def pairs(
        self, i: IntArray, j: IntArray, angles: Angles, entries: dict[Kind, FloatArray]
    ) -> dict[Kind, FloatArray]:
        """Return entries without a series: by closed forms, tables of the dual, and two-dimensional quadratures.

        Parameters
        ----------
        i, j : ndarray of int (pairs,)
            Rows and columns.
        angles : Angles
            Between the samples.
        entries : dict of ndarray (pairs,)
            Their inner products, for all kinds that are wanted.
        """
        samples = Features((np.sqrt(self.rows[i]), np.sqrt(self.columns[j])), angles, entries)
        return entries_of_pairs([each.of_pairs(i, j) for each in self.layers], self.network.sources, samples).entries

    def diagonal(self, part: slice, kinds: Iterable[Kind]) -> dict[Kind, FloatArray]:
        """Return entries of samples with themselves."""
        known = {INPUT: dict.fromkeys(kinds, self.rows[part])}
        for number, (each, sources) in enumerate(zip(self.layers, self.network.sources, strict=False)):
            square, slope, first = each.rows.square[part], each.rows.slope_square[part], samples_alone(sources)
            known[number] = {
                kind: entry(kind, each.layer, square, slope, below, first) / each.layer.kept
                for kind, below in weighted_sums(known, sources).items()
            }
        return weighted_sums(known, self.network.sources[-1])


@dataclass(frozen=True, eq=False)
class Plan:
    """A network on the samples of a kernel.

    Attributes
    ----------
    inputs : Samples
    at : NetworkPlan
    """

    inputs: Samples
    at: NetworkPlan

    @property
    def same(self) -> bool:
        """Whether rows and columns are the same samples."""
        return self.inputs.same

    @property
    def network(self) -> Network:
        """The layers, uncentred, and how they are wired."""
        return self.at.network

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """Those of the network."""
        return self.at.layers

    def pairs(self, i: IntArray, j: IntArray, kinds: Iterable[Kind]) -> dict[Kind, FloatArray]:
        """Return entries of rows i and columns j without a series."""
        angles, inner = self.inputs.pairs(i, j)
        return self.at.pairs(i, j, angles, dict.fromkeys(kinds, inner))

    def diagonal(self, part: slice, kinds: Iterable[Kind]) -> dict[Kind, FloatArray]:
        """Return entries of samples with themselves."""
        return self.at.diagonal(part, kinds)


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
    return Plan(inputs, _planned(model, kinds, rows, columns))


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


@dataclass(frozen=True, eq=False)
class NetworkTables:
    """A network's tables, for samples whose squared norms lie within some range.

    Attributes
    ----------
    network : Network
        Uncentred.
    layers : tuple of ScaleTable
    """

    network: Network
    layers: tuple[ScaleTable, ...]

    def at(self, rows: FloatArray, columns: FloatArray) -> NetworkPlan:
        """Plan the network on squared norms; `columns` is `rows` where they are the same samples."""
        return _along(self.network, rows, columns, lambda number, norms: self.layers[number])


def tabulate(network: Network, kinds: Sequence[Kind], squared_norms: FloatArray) -> NetworkTables:
    """Check that an uncentred network is well-posed at these squared norms, and tabulate what samples need."""
    return _planned(network, kinds, squared_norms, squared_norms).tables


def plan_with(tables: NetworkTables, inputs: Samples, norms: tuple[FloatArray, FloatArray]) -> Plan:
    """Return the plan for samples whose squared norms, of rows and columns, lie within the tables."""
    return Plan(inputs, tables.at(*norms))


def _planned(network: Network, kinds: Sequence[Kind], rows: FloatArray, columns: FloatArray) -> NetworkPlan:
    """Tabulate layer by layer what samples of these squared norms need, and plan each on them."""

    def table(number: int, norms: FloatArray) -> ScaleTable:
        found = scale_table(network.layers[number], float(norms.min()), float(norms.max()))
        found.check_tangent(kinds, first=samples_alone(network.sources[number]))
        return found

    return _along(network, rows, columns, table)


def _along(
    network: Network, rows: FloatArray, columns: FloatArray, table: Callable[[int, FloatArray], ScaleTable]
) -> NetworkPlan:
    """Plan layer after layer, each on what it is given, with the table that a function has for it."""
    known = {INPUT: {"rows": rows} if columns is rows else {"rows": rows, "columns": columns}}
    layers: list[LayerPlan] = []
    for number, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=False)):
        given = weighted_sums(known, sources)
        norms = np.concatenate(list(given.values()))
        of_rows = (found := table(number, norms)).profile(given["rows"])
        planned = LayerPlan(found, of_rows, found.profile(given["columns"]) if "columns" in given else of_rows)
        layers.append(planned)
        known[number] = {name: getattr(planned, name).square / layer.kept for name in given}
    return NetworkPlan(network, tuple(layers), rows, columns)
