"""Gradients of entries down all layers, of arrays or tensors: what `tiles` does strip by strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmtdeq._lib.types import Kind
from rmtdeq.kernels.pairs import entry
from rmtdeq.network import Layer


@dataclass(frozen=True, eq=False)
class Partials:
    """A layer's value and slope at some pairs, and their derivatives in s, t and the covariance; arrays or tensors.

    Attributes
    ----------
    value, slope : (…)
        F = E φ(ξ)φ(ζ), and ∂F/∂ρ = E φ'φ'.
    by_row, by_column : (…)
        ∂F/∂s, ∂F/∂t.
    bend, bend_row, bend_column : (…), or numbers where no tangent kernel is wanted
        The same derivatives of the slope.
    """

    value: Any
    slope: Any
    by_row: Any
    by_column: Any
    bend: Any = 0.0
    bend_row: Any = 0.0
    bend_column: Any = 0.0


@dataclass(frozen=True, eq=False)
class PairAdjoints:
    """What some pairs add to the gradients; arrays or tensors.

    Attributes
    ----------
    inner : (…)
        Of the inner products.
    rows, columns : list of (…)
        Of the variances of pre-activations, layer by layer.
    variances : list of tuple
        Of σ_a², σ_b², σ_c² of every layer.
    """

    inner: Any
    rows: list[Any]
    columns: list[Any]
    variances: list[tuple[Any, Any, Any]]


def descend(
    layers: Sequence[Layer], kind: Kind, inner: Any, partials: Sequence[Partials], weights: Any
) -> PairAdjoints:
    """Return the gradients of ``Σ weights·K``, K the entries of pairs with these inner products."""
    values, tangents = [inner], [inner]
    for depth, (layer, at) in enumerate(zip(layers, partials, strict=True)):
        tangents.append(entry(kind, layer, at.value, at.slope, tangents[-1], depth == 0))
        values.append(at.value)
    nothing = 0.0 * weights
    of_value, of_tangent = (weights, nothing) if kind == "ck" else (nothing, weights)
    rows, columns, variances = [], [], []
    for depth in range(len(layers) - 1, -1, -1):
        layer, at = layers[depth], partials[depth]
        a2 = layer.sigma_a2
        gain = 1 / (1 - a2 * at.slope) if layer.recurrent else 1.0
        of_slope = of_after = t = nothing
        if kind != "ck":
            trained = 0.0 if kind == "ntk" and depth == 0 else 1.0
            t = of_tangent * gain
            of_value = of_value + t
            of_slope = t * (trained * (layer.sigma_b2 * tangents[depth] + layer.sigma_c2) + a2 * tangents[depth + 1])
            of_after = trained * t * at.slope
        # The covariance is a fixed point, which moves with the variances, too.
        source = (of_value * at.slope + of_slope * at.bend) * gain
        through = of_value + a2 * source
        rows.append(through * at.by_row + of_slope * at.bend_row)
        columns.append(through * at.by_column + of_slope * at.bend_column)
        variances.append(
            (
                (source * at.value + t * at.slope * tangents[depth + 1]).sum(),
                (source * values[depth] + of_after * tangents[depth]).sum(),
                (source + of_after).sum(),
            )
        )
        of_value, of_tangent = layer.sigma_b2 * source, layer.sigma_b2 * of_after
    return PairAdjoints(of_value + of_tangent, rows[::-1], columns[::-1], variances[::-1])
