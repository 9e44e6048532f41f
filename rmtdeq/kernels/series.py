"""What the engines sum: Mehler's series of every layer, and what else they know of samples and layers."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from rmtdeq._lib.types import BoolArray, FloatArray, IntArray
from rmtdeq.kernels.plan import Plan
from rmtdeq.kernels.scales import SHORT, Profile, degrees_up_to
from rmtdeq.network import INPUT, samples_alone

CLOSED = 0.999
"""Largest |r| that keeps all digits of the angle.  Layers with a fold hand on 1 - r, which keeps them at r = 1, too."""

ARCSINE = (
    0.03187962140081284, -0.016187392271599133, 0.019513468251252168, 0.006529302004736769, 0.012170138592391726,
    0.013884842826402081, 0.01735977964134998, 0.022371749733164054, 0.030381959697685138, 0.044642856805998938,
    0.075000000003852017, 0.1666666666666494, 1.0,
)  # fmt: skip
"""Coefficients of arcsin(√z)/√z on [0, 1/4], the highest first, to 2e-17."""

_DEGREES = (SHORT, 96, 512)
_POINTS_PER_PAIR, _POINTS_PER_CLOSED_PAIR = 500, 2
"""Hermite coefficients at points of the table that take the time of an exact entry.

The first by a quadrature; a table of the dual takes, itself, the time of any series.
"""


class Coefficients(NamedTuple):
    """Mehler's series of every pair of samples in the layers that need one, up to some degree.

    Attributes
    ----------
    slots : ndarray (layers,)
        Which of the series is the layer's; -1 where it has a closed form.
    rows : ndarray (series, n, degree + 1)
        Hermite coefficients of row samples, one sample's together in memory.
    columns : ndarray (series, degree + 1, m)
        Those of column samples.
    degrees : ndarray (tiers,)
        Where the series may stop: the first at twelve, the others at multiples of four, or of eight in recurrent
        layers.
    cutoffs : ndarray (layers, tiers)
        The largest |r| that each serves.
    odd : ndarray (layers,) of bool
        Whether the even terms are rounding, as those of odd activations are.
    """

    slots: IntArray
    rows: FloatArray
    columns: FloatArray
    degrees: IntArray
    cutoffs: FloatArray
    odd: BoolArray


class Branches(NamedTuple):
    """What layers are given, where it is not just the features below.

    Nodes are the samples, number 0, and the layers' features, dropout included.

    Attributes
    ----------
    weights : ndarray (layers + 1, layers + 1)
        Of the nodes' kernels, for every layer and, last, for the result.
    first : ndarray (layers,) of bool
        Layers that are given the samples alone.
    kept : ndarray (layers,)
        Share of the features that dropout keeps.
    near : ndarray (layers + 1,) of bool
        Nodes whose angles a layer with a closed form needs, and which have them from a rounded cosine.
    row_sizes, column_sizes : ndarray (layers + 1, n), (layers + 1, m)
        Norms √K(x, x) of the nodes.
    """

    weights: FloatArray
    first: BoolArray
    kept: FloatArray
    near: BoolArray
    row_sizes: FloatArray
    column_sizes: FloatArray


class Scales(NamedTuple):
    """Samples and layers, apart from the series.

    Attributes
    ----------
    rows, columns : ndarray (layers, n), (layers, m)
        Scales σ of the pre-activations.
    row_arguments, column_arguments : ndarray (layers, n), (layers, m)
        Those of what φ is given, times the factor of what it makes, which for a fold is the same: σ but for steps.
    row_sizes, column_sizes : ndarray (layers, n), (layers, m)
        √E z², of the features.
    variances : ndarray (layers, 3)
        σ_a², σ_b², σ_c².
    folds : ndarray (layers, 3)
        Of layers with a closed form, φ(u) = linear·u + fold·|u| - shift.
    """

    rows: FloatArray
    columns: FloatArray
    row_arguments: FloatArray
    column_arguments: FloatArray
    row_sizes: FloatArray
    column_sizes: FloatArray
    variances: FloatArray
    folds: FloatArray


class Position(NamedTuple):
    """Where a block of entries is.

    Attributes
    ----------
    row, column : int
        Where its samples begin.
    out_row, out_column : int
        Where its entries begin in the outputs.
    same : bool
        Rows and columns are the same samples: the diagonal is left alone.
    mirror : bool
        Only entries below the diagonal are computed, and written on both sides of it.
    """

    row: int
    column: int
    out_row: int
    out_column: int
    same: bool
    mirror: bool


def scales_of(plan: Plan) -> Scales:
    """Return what the engines know of samples and layers."""
    layers = plan.layers
    rows = _of_samples([each.rows for each in layers])
    columns = rows if plan.same else _of_samples([each.columns for each in layers])
    variances = [(each.layer.sigma_a2, each.layer.sigma_b2, each.layer.sigma_c2) for each in layers]
    folds = [(0.0, 0.0, 0.0) if each.fold is None else each.fold for each in layers]
    of_samples = rows[0], columns[0], rows[1], columns[1], rows[2], columns[2]
    return Scales(*of_samples, np.array(variances), np.array(folds))


def _of_samples(profiles: Sequence[Profile]) -> FloatArray:
    """Scales, scales of arguments and sizes of every layer, (3, layers, n)."""
    found = np.array([(each.sigma, each.scale * each.gain, np.sqrt(each.square)) for each in profiles])
    return np.ascontiguousarray(np.swapaxes(found, 0, 1))


def branches_of(plan: Plan, scales: Scales) -> Branches | None:
    """Return what layers are given; None where they are one on another, without dropout."""
    network, depth = plan.network, len(plan.layers)
    if network.sequential and not any(layer.kept < 1 for layer in network.layers):
        return None
    weights = np.zeros((depth + 1, depth + 1))
    for target, sources in zip(weights, network.sources, strict=True):
        for source, weight in sources:
            target[source - INPUT] = weight
    kept = np.array([layer.kept for layer in network.layers])
    closed = np.array([each.fold is not None for each in plan.layers])
    rows, columns = (
        np.vstack([np.sqrt(norms), sizes / np.sqrt(kept)[:, None]])
        for norms, sizes in ((plan.at.rows, scales.row_sizes), (plan.at.columns, scales.column_sizes))
    )
    return Branches(
        weights=weights,
        first=np.array([samples_alone(sources) for sources in network.sources[:-1]]),
        kept=kept,
        near=(weights[:-1][closed] > 0).any(axis=0) & ~np.append(False, closed),
        row_sizes=rows,
        column_sizes=columns,
    )


class SeriesBank:
    """The series of a plan, from short to long, each computed once for all threads when some entry needs it.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._lock = plan, Lock()
        self._known: list[Coefficients] = []

    def __call__(self, length: int) -> Coefficients | None:
        """Return the series number `length`, or None where the one before is the longest that pays."""
        with self._lock:
            if length == len(self._known):
                if length == len(_DEGREES) or (length and not self._pays(length)):
                    return None
                self._known.append(self._computed(_DEGREES[length]))
            return self._known[length]

    def _pays(self, length: int) -> bool:
        """Whether longer series take less time than the entries that they may serve do without them."""
        n, m = self._plan.inputs.shape
        last = self._known[-1].cutoffs[:, -1]
        short = [each for each, served in zip(self._plan.layers, last, strict=True) if each.fold is None and served < 1]
        saved = sum(
            _POINTS_PER_PAIR if each.layer.activation.dual_form is None else _POINTS_PER_CLOSED_PAIR for each in short
        )
        points = sum(each.used.arguments.size for each in self._plan.layers if each.fold is None)
        return bool(short) and n * m * saved >= points * _DEGREES[length]

    def _computed(self, degree: int) -> Coefficients:
        plan = self._plan
        n, m = plan.inputs.shape
        summed = [each for each in plan.layers if each.fold is None]
        slots = np.cumsum([each.fold is None for each in plan.layers]) - 1
        slots[[each.fold is not None for each in plan.layers]] = -1
        of_rows = [each.used.coefficients(degree, each.rows) for each in summed]
        columns = of_rows if plan.same else [each.used.coefficients(degree, each.columns) for each in summed]
        rows = np.empty((len(summed), n, degree + 1))
        for target, source in zip(rows, of_rows, strict=True):
            target[:] = source.T
        degrees = degrees_up_to(degree)
        closed = np.full(degrees.shape, CLOSED)
        cutoffs = [closed if each.fold is not None else each.used.cutoffs(degree)[1] for each in plan.layers]
        stacked = np.array(columns) if summed else np.empty((0, degree + 1, m))
        odd = np.array([each.fold is None and each.used.odd for each in plan.layers])
        return Coefficients(slots, rows, stacked, degrees, np.array(cutoffs), odd)
