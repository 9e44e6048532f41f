"""From the gradient of a kernel's entries to that of samples and variances: pairs block by block, norms in arrays.

An entry depends on the inner product of two samples and on their norms, layer by layer on the covariance of two
pre-activations and on their variances s, t.  What all pairs have of an inner product goes on to the samples block by
block, as a product; what they have of s and t is summed for each sample and goes down the layers afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from rmtdeq._lib.threads import share_out, threads
from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations import Activation
from rmtdeq.activations.dual_forms import FoldedLinear
from rmtdeq.gpytorch.near_pairs import NearPairs
from rmtdeq.gpytorch.tiles import Layers, Series, pull_block
from rmtdeq.kernels.blocks import HEIGHT, WIDTH, Block, blocks, blocks_below
from rmtdeq.kernels.pairs import entry
from rmtdeq.kernels.plan import LayerPlan, Plan
from rmtdeq.kernels.scales import Profile, ScaleTable, Segment

SILENT = 1e-15
"""σ that stands for none: a sample of nothing is orthogonal to all."""

TERMS = (96, 512)
"""Of Mehler's series, the short and the long one."""

_TIERS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_TOLERANCE = 1e-10
_WINDOW = 8
_RADII = np.concatenate([np.linspace(0.0, 0.95, 39), 1 - np.logspace(-1.5, -6, 60), [1.0]])
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Adjoints:
    """Gradients of a function of a kernel's entries.

    Attributes
    ----------
    X, Y : ndarray (n, p), (m, p)
        In the samples; Y is None where they are the same.
    variances : ndarray (layers, 3)
        In σ_a², σ_b², σ_c² of every layer.
    """

    X: FloatArray
    Y: FloatArray | None
    variances: FloatArray


def pull_back(plan: Plan, kind: Kind, weights: FloatArray) -> Adjoints:
    """Return the gradients of ``Σ_ij weights_ij K_ij``.

    Parameters
    ----------
    plan : Plan
        On the host, in double precision.
    kind : str
    weights : ndarray (n, m)
    """
    pairs = _Pairs(plan, kind, weights)
    pairs.run()
    X, of_X, variances = plan.inputs.X, pairs.of_X, pairs.of_variances
    diagonal = np.diagonal(weights) if plan.same else None
    of_norms, more = samples_back(of_rows(plan.layers), kind, pairs.of_rows, diagonal)
    of_X += 2 * of_norms[:, None] * X
    if plan.same:
        return Adjoints(of_X, None, variances + more)
    of_norms, rest = samples_back(of_columns(plan.layers), kind, pairs.of_columns, None)
    return Adjoints(of_X, pairs.of_Y + 2 * of_norms[:, None] * plan.inputs.Y, variances + more + rest)


SampleLayers = Sequence[tuple[ScaleTable, Profile]]
"""What samples have in every layer."""


def of_rows(layers: Sequence[LayerPlan]) -> SampleLayers:
    """Return what row samples have in every layer."""
    return [(each.table, each.rows) for each in layers]


def of_columns(layers: Sequence[LayerPlan]) -> SampleLayers:
    """Return what column samples have in every layer."""
    return [(each.table, each.columns) for each in layers]


def diagonal_of(layers: SampleLayers, kind: Kind) -> list[FloatArray]:
    """Return the kernel's entries of samples with themselves after every layer, from their squared norms on."""
    found = [layers[0][1].squared_norms]
    for depth, (table, at) in enumerate(layers):
        found.append(entry(kind, table.layer, at.square, at.slope_square, found[-1], depth == 0))
    return found


def samples_back(
    layers: SampleLayers, kind: Kind, of_scales: FloatArray | None, weights: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Take gradients of the variances of pre-activations, and of the diagonal, down all layers.

    Parameters
    ----------
    layers : sequence of tuple
    kind : str
    of_scales : ndarray (layers, n), optional
        Gradients that pairs have of the variances of pre-activations.
    weights : ndarray (n,), optional
        Those of the diagonal.

    Returns
    -------
    of_norms : ndarray (n,)
        Gradient of the squared norms.
    of_variances : ndarray (layers, 3)
    """
    nothing = np.zeros_like(layers[0][1].sigma)
    whole = nothing if weights is None else weights
    tangent = kind != "ck" and weights is not None
    tangents = diagonal_of(layers, kind) if tangent else []
    of_value, of_tangent = (nothing, whole) if tangent else (whole, nothing)
    of_variances = np.zeros((len(layers), 3))
    for depth in range(len(layers) - 1, -1, -1):
        table, at = layers[depth]
        layer = table.layer
        sounds = at.sigma > SILENT
        s = np.where(sounds, at.sigma, 1.0) ** 2
        log_sigma = 0.5 * np.log(s)
        growth = table.interpolate(lambda segment: segment.growth, log_sigma)
        of_square = growth * at.square / s
        of_s = nothing if of_scales is None else of_scales[depth]
        if tangent:
            trained = 0.0 if kind == "ntk" and depth == 0 else 1.0
            recurrent = layer.sigma_a2 if layer.recurrent else 0.0
            below, above = tangents[depth], tangents[depth + 1]
            # Without recurrence, and with input weights fixed, no slope counts, not even an infinite one.
            slope = at.slope_square if trained or recurrent else nothing
            t = of_tangent / (1 - recurrent * slope)
            of_value = of_value + t
            of_slope = t * (trained * (layer.sigma_b2 * below + layer.sigma_c2) + recurrent * above)
            of_after = trained * t * slope
            of_variances[depth] += np.array([t * slope * above, of_after * below, of_after]).sum(axis=1)
            of_tangent = layer.sigma_b2 * of_after
            if trained or recurrent:
                of_s = of_s + of_slope * _of_slope_square(table, log_sigma)
        of_s = of_s + of_value * of_square
        moved = np.where(sounds, of_s / (1 - layer.sigma_a2 * of_square), 0.0)
        of_variances[depth] += np.array([moved * at.square, moved * at.squared_norms, moved]).sum(axis=1)
        of_value = layer.sigma_b2 * moved
    return of_value + of_tangent, of_variances


def _of_slope_square(table: ScaleTable, log_sigma: FloatArray) -> FloatArray | float:
    """Derivative of ``E φ'(√s ξ)²`` in s, by Stein's lemma."""
    phi = table.layer.activation
    if isinstance(phi.dual_form, FoldedLinear):
        return 0.0

    def at_points(segment: Segment) -> FloatArray:
        return np.array([_slope_growth(phi, float(sigma)) for sigma in segment.sigma])

    return table.interpolate(at_points, log_sigma)


def _slope_growth(phi: Activation, sigma: float) -> float:
    rule = phi.rule(sigma)
    squares = phi.slope(sigma * rule.nodes) ** 2
    spread = (squares - rule.weights @ squares) * (rule.nodes**2 - 1)
    return float(rule.weights @ spread) / (2 * sigma**2)


class _Pairs:
    """What all pairs add to the gradients; threads share it."""

    def __init__(self, plan: Plan, kind: Kind, weights: FloatArray) -> None:
        n, m = plan.inputs.shape
        p, depth = plan.inputs.X.shape[1], len(plan.layers)
        self._plan, self._weights = plan, weights
        self._tangent, self._fixed = kind != "ck", kind == "ntk"
        self._lock = Lock()
        self._layers = layers_of(plan)
        self._series = [series_of(plan, TERMS[0])]
        self._near = NearPairs(plan, kind)
        self.of_X, self.of_rows = np.zeros((n, p)), np.zeros((depth, n))
        self.of_Y, self.of_columns = self.of_X, self.of_rows
        if not plan.same:
            self.of_Y, self.of_columns = np.zeros((m, p)), np.zeros((depth, m))
        self.of_variances = np.zeros((depth, 3))

    def run(self) -> None:
        """Go through all blocks."""
        n, m = self._plan.inputs.shape
        todo = blocks_below(n) if self._plan.same else blocks(n, m)
        share_out(todo, self._work, threads(len(todo)))

    def _work(self, _: int) -> Callable[[Block], None]:
        gram, weights, lost = np.empty(HEIGHT * WIDTH), np.empty(HEIGHT * WIDTH), np.empty(HEIGHT * WIDTH, np.uint8)

        def work(block: Block) -> None:
            part, shape = slice(block.size), block.shape
            self._fill(block, gram[part].reshape(shape), weights[part].reshape(shape), lost[part].reshape(shape))

        return work

    def _fill(self, block: Block, gram: FloatArray, weights: FloatArray, lost: np.ndarray[Any, Any]) -> None:
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        given = self._weights
        self._plan.inputs.fill(rows, columns, gram)
        if self._plan.same:
            np.add(given[rows, columns], given[columns, rows].T, out=weights)
        else:
            weights[:] = given[rows, columns]
        if not self._summed:
            self._pull(block, gram, weights, lost, self._bank(0))
            return
        for number in range(len(TERMS)):
            before = weights.copy()
            lost[:] = 0
            if not self._pull(block, gram, weights, lost, self._bank(number)):
                return
            np.multiply(before, lost, out=weights)
        self._pull_exactly(block, weights, np.argwhere(lost))

    @property
    def _summed(self) -> bool:
        return bool(self._series[0].rows.shape[0])

    def _bank(self, number: int) -> Series:
        with self._lock:
            if number == len(self._series):
                self._series.append(series_of(self._plan, TERMS[number]))
            return self._series[number]

    def _pull(
        self, block: Block, gram: FloatArray, weights: FloatArray, lost: np.ndarray[Any, Any], series: Series
    ) -> int:
        """Pull a block back by series; afterwards `weights` are the gradient of the inner products."""
        height, width = block.shape
        depth = len(self._plan.layers)
        scales = np.zeros((depth, height)), np.zeros((depth, width))
        variances = np.zeros((depth, 3))
        count: int = pull_block(
            gram, weights, block.top, block.left, self._plan.same, self._tangent, self._fixed, self._layers, series,
            *scales, variances, lost,
        )  # fmt: skip
        rows, columns = slice(block.top, block.bottom), slice(block.left, block.right)
        X, Y = self._plan.inputs.X, self._plan.inputs.Y
        of_rows = weights @ (X if Y is None else Y)[columns]
        of_columns = weights.T @ X[rows]
        with self._lock:
            self.of_X[rows] += of_rows
            self.of_Y[columns] += of_columns
            self.of_rows[:, rows] += scales[0]
            self.of_columns[:, columns] += scales[1]
            self.of_variances += variances
        return count

    def _pull_exactly(self, block: Block, weights: FloatArray, entries: IntArray) -> None:
        """Pull entries back that no series serves, some at a time."""
        X, Y = self._plan.inputs.X, self._plan.inputs.Y
        Y = X if Y is None else Y
        for chunk in np.split(entries, range(_CHUNK, len(entries), _CHUNK)):
            i, j = chunk[:, 0] + block.top, chunk[:, 1] + block.left
            found = self._near.pull(i, j, weights[chunk[:, 0], chunk[:, 1]])
            with self._lock:
                np.add.at(self.of_X, i, found.inner[:, None] * Y[j])
                np.add.at(self.of_Y, j, found.inner[:, None] * X[i])
                for depth, (of_i, of_j) in enumerate(zip(found.rows, found.columns, strict=True)):
                    np.add.at(self.of_rows[depth], i, of_i)
                    np.add.at(self.of_columns[depth], j, of_j)
                self.of_variances += found.variances


def layers_of(plan: Plan) -> Layers:
    """Return what the tiles know of samples and layers, apart from series."""
    variances = [(each.layer.sigma_a2, each.layer.sigma_b2, each.layer.sigma_c2) for each in plan.layers]
    rows, columns = (
        np.array([[np.maximum(at.sigma, SILENT), np.sqrt(at.square), np.sqrt(at.squared_norms)] for _, at in side])
        for side in (of_rows(plan.layers), of_columns(plan.layers))
    )
    folds = [each.folded_line or (0.0, 0.0, 0.0) for each in plan.layers]
    return Layers(rows, columns, SILENT, np.array(variances), np.array(folds))


def series_of(plan: Plan, terms: int) -> Series:
    """Return Mehler's series of the layers that have no fold."""
    slots = np.full(len(plan.layers), -1)
    summed = [number for number, each in enumerate(plan.layers) if each.folded_line is None]
    slots[summed] = np.arange(len(summed))
    degrees = np.array([each for each in _TIERS if each <= terms])
    cutoffs = np.ones((len(plan.layers), degrees.size))
    n, m = plan.inputs.shape
    rows, columns = np.empty((2, len(summed), n, terms)), np.empty((2, len(summed), terms, m))
    for slot, number in enumerate(summed):
        each = plan.layers[number]
        cutoffs[number] = _cutoffs(each.used, terms, degrees)
        of_row = _coefficients(each.used, each.rows, terms)
        rows[:, slot] = np.swapaxes(of_row, 1, 2)
        columns[:, slot] = of_row if plan.same else _coefficients(each.used, each.columns, terms)
    return Series(slots, rows[0], rows[1], columns[0], columns[1], degrees, cutoffs)


def _coefficients(table: ScaleTable, at: Profile, terms: int) -> FloatArray:
    """Hermite coefficients of φ and of ½φ'', (2, terms, n)."""
    h = table.coefficients(terms + 1, at)
    # Of a sample of nothing there is a slope alone.
    silent = at.sigma <= SILENT
    if silent.any():
        h[1, silent] = SILENT * float(table.layer.activation.slope(np.zeros(1))[0])
    k = np.arange(terms)[:, None]
    bends = np.sqrt((k + 1) * (k + 2)) * h[2:] / (2 * np.where(silent, 1.0, at.sigma) ** 2)
    return np.stack([h[:terms], bends])


def _cutoffs(table: ScaleTable, terms: int, degrees: IntArray) -> FloatArray:
    """Largest |r| for which so many terms of the series, and of its derivatives of second order, are all that count."""
    squares = np.concatenate([each.hermite(terms + 1) for each in table.segments], axis=1).max(axis=1) ** 2
    k = np.arange(terms)
    size = (k + 1.0) ** 2 * np.max([squares[:-2], squares[1:-1], squares[2:]], axis=0)
    with np.errstate(under="ignore"):
        powers = _RADII[:, None] ** np.maximum(k - 2, 0)
    # What lies beyond goes on falling as it has since half way.
    last, before = size[-_WINDOW:].max(), size[terms // 2 - _WINDOW : terms // 2].max()
    rate = min((last / before) ** (2 / terms), 1.0) if before > 0 else 1.0
    beyond = last * powers[:, -1] / np.maximum(1 - _RADII * rate, 1e-6)
    missing = np.cumsum((size * powers)[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros(degrees.size)
    for tier, degree in enumerate(degrees):
        rest = (missing[:, degree] if degree < terms else 0.0) + beyond
        served = rest <= _TOLERANCE
        found[tier] = _RADII[served.size - 1 - np.argmax(served[::-1])] if served.any() else -1.0
    return found
