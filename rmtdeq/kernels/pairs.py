"""Kernel entries of pairs of samples that Mehler's series does not serve, which are nearly parallel or opposite.

The unknown of a pair is t = (1 - r)/2, r the correlation of the pre-activations u and ±v.  With the normalised features
φ(u)/ψ_u, ψ² = E φ², and the shares a² = σ_a² ψ²/σ² and x² = σ_b² ‖x‖²/σ² of a pre-activation's variance that come from
the recurrence and from the input (a bias being one more feature), the equation is

    2t = (a_u x_v - a_v x_u)²/(1 + a_u a_v + x_u x_v) + a_u a_v E(φ(u)/ψ_u ∓ φ(±v)/ψ_v)²/2 + x_u x_v (1 ∓ cos α),

α the angle of the inputs.  No term is negative and none is a difference, so that angles and slopes keep their digits
however near the samples are to parallel or opposite, and however far apart their norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.types import FloatArray, IntArray, Kind
from rmtdeq.activations import jumps
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.duals import difference_form
from rmtdeq.kernels.branches import side_by_side
from rmtdeq.kernels.samples import Angles
from rmtdeq.kernels.scales import Profile
from rmtdeq.network import INPUT, PROBES, Layer, Sources, samples_alone

_MAX_STEPS = 100
_SETTLED = 4e-16
_AGREE = 1e-31
"""Squared distance of normalised features that is the rounding of equal ones."""
_ROUNDING = 1e-9
"""Steps as small as this, relative to t, that do not become smaller any more are rounding."""


Curves = Callable[[IntArray, FloatArray], tuple[FloatArray, FloatArray]]
"""What `difference_form` returns, as a function of the numbers of some pairs and their angles."""

LayerOfPairs = tuple[Layer, Profile, Profile, Callable[[Pairs], Curves] | None]
"""An uncentred layer, what it needs of the first and the second sample of every pair, and what is known of its dual."""


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of features of pairs of samples, or of the samples themselves.

    Attributes
    ----------
    sizes : tuple of ndarray (pairs,)
        Norms of the first and the second, √K(x, x).
    angles : Angles
    entries : dict of ndarray (pairs,)
        Of the kernels, by kind.
    """

    sizes: tuple[FloatArray, FloatArray]
    angles: Angles
    entries: dict[Kind, FloatArray]

    def weighted(self, weight: float) -> Features:
        """Return the features times √weight."""
        root = np.sqrt(weight)
        entries = {kind: weight * each for kind, each in self.entries.items()}
        return Features((root * self.sizes[0], root * self.sizes[1]), self.angles, entries)

    def beside(self, other: Features) -> Features:
        """Return both side by side."""
        angles = self.angles.beside(self.sizes, other.angles, other.sizes)
        u, v = (np.hypot(one, two) for one, two in zip(self.sizes, other.sizes, strict=True))
        return Features((u, v), angles, {kind: each + other.entries[kind] for kind, each in self.entries.items()})


def entries_of_pairs(layers: Sequence[LayerOfPairs], wiring: Sequence[Sources], samples: Features) -> Features:
    """Return what the last features of a network are for pairs of samples.

    Parameters
    ----------
    layers : sequence of tuple
    wiring : sequence of tuple
        Of every layer and of the network; see `Network.sources`.
    samples : Features
        With the inner products as entries of all kinds that are wanted.

    Raises
    ------
    ConvergenceError
        The bracketed Newton iteration did not settle (the kernel map is no contraction for some pair).
    """
    known = {INPUT: samples}

    def given(sources: Sources) -> Features:
        return side_by_side((known[source] for source, _ in sources), (weight for _, weight in sources))

    for number, ((layer, u, v, dual), sources) in enumerate(zip(layers, wiring, strict=False)):
        below, first = given(sources), samples_alone(sources)
        value, slope, angles = solve_pairs(layer, u, v, below.angles, dual)
        entries = {kind: entry(kind, layer, value, slope, each, first) for kind, each in below.entries.items()}
        sizes = np.sqrt(u.square / layer.kept), np.sqrt(v.square / layer.kept)
        known[number] = Features(sizes, angles.dropped(layer.kept), entries)
    return given(wiring[-1])


class Variances(Protocol):
    """Those of a layer, numbers or tensors."""

    @property
    def sigma_a2(self) -> Any:
        """Of the recurrent weights."""

    @property
    def sigma_b2(self) -> Any:
        """Of the input weights."""

    @property
    def sigma_c2(self) -> Any:
        """Of the bias."""

    @property
    def recurrent(self) -> bool:
        """Whether the layer has an equilibrium to come to."""


def entry(kind: Kind, layer: Variances, value: Any, slope: Any, below: Any, first: bool) -> Any:
    """Return an entry of a layer's kernel, given G, E φ'φ', and the same kernel's entry below: arrays or tensors.

    Input weights and bias of layers that come `first` are fixed for "ntk".
    """
    if kind == "ck":
        return value
    # Without recurrence no slope counts, not even an infinite one.
    gain = 1 - layer.sigma_a2 * slope if layer.recurrent else 1.0
    fixed = kind == "ntk" and first
    return (value if fixed else value + (layer.sigma_b2 * below + layer.sigma_c2) * slope) / gain


def solve_pairs(
    layer: Layer, u: Profile, v: Profile, angles: Angles, dual: Callable[[Pairs], Curves] | None = None
) -> tuple[FloatArray, FloatArray, Angles]:
    """Return G, E φ'φ' and the angles of a layer's features for pairs of samples, each of shape (pairs,).

    Parameters
    ----------
    layer : Layer
        Uncentred.
    u, v : Profile
        Of the first and the second sample of each pair.
    angles : Angles
        Between the inputs.
    dual : callable, optional
        From pairs to distance and slope as functions of the angle; by default `difference_form`, one by one.
    """
    if layer.bias:
        angles = angles.with_bias(u.squared_norms, v.squared_norms, layer.bias)
    # Equal samples need no equation: their entry is the one on the diagonal.
    value, slope = u.square.copy(), np.sqrt(u.slope_square * v.slope_square)
    equal = (angles.cosine > 0) & (angles.versine == 0) & (u.squared_norms == v.squared_norms)
    # A function that is zero almost surely at some scale has no products with others.
    silent = ~equal & (u.square * v.square == 0)
    value[silent] = slope[silent] = 0.0
    cosine, versine = np.where(silent, 0.0, 1.0), np.where(silent, 1.0, 0.0)
    rest = np.flatnonzero(~equal & ~silent)
    if rest.size:
        value[rest], slope[rest], found = _solve(layer, u.at(rest), v.at(rest), angles.at(rest), dual)
        cosine[rest], versine[rest] = found.cosine, found.versine
    return value, slope, Angles(cosine, versine)


def _angles_of_features(
    layer: Layer, pairs: Pairs, t: FloatArray, distance: FloatArray, dual: Callable[[Pairs], Curves]
) -> Angles:
    """Return the angles between φ(u) and φ(v), whose normalised forms are so far apart, in squares, less the sign."""
    sign, phi = pairs.sign.copy(), layer.activation
    turned = np.flatnonzero((sign < 0) & (distance > 2))
    if turned.size and np.array_equal(phi(PROBES), phi(-PROBES)):
        # An even function makes opposite samples parallel, and does not tell v from -v.
        sign[turned] = 1.0
        distance = distance.copy()
        distance[turned] = dual(replace(pairs, sign=sign))(turned, _angle(t[turned]))[0]
    # Of features that agree it is rounding, of either sign, which must not tell them apart.
    distance = np.where(distance > _AGREE, distance, 0.0)
    versine = np.where(distance <= 2, distance / 2, np.maximum(2 - distance / 2, 0.0))
    return Angles(np.clip(sign * (1 - distance / 2), -1.0, 1.0), versine)


def by_difference_form(activation: Activation, pairs: Pairs) -> Curves:
    """Return the distances and slopes of pairs by quadratures, or a closed form."""
    return lambda index, theta: difference_form(activation, pairs.at(index, theta))


@dataclass(frozen=True)
class _Equation:
    """2t = constant + weight·(squared distance of the normalised features), pair by pair."""

    constant: FloatArray
    weight: FloatArray


def _equation(layer: Layer, u: Profile, v: Profile, angles: Angles, sign: FloatArray) -> _Equation:
    # A sample without a pre-activation has no share of it.
    scale_u, scale_v = (np.where(each.sigma > 0, each.sigma, 1.0) for each in (u, v))
    a_u, a_v = np.sqrt(layer.sigma_a2 * u.square) / scale_u, np.sqrt(layer.sigma_a2 * v.square) / scale_v
    x_u, x_v = np.sqrt(_input(layer, u)) / scale_u, np.sqrt(_input(layer, v)) / scale_v
    apart = np.where(sign * angles.cosine > 0, angles.versine, 2 - angles.versine)
    mixed = (a_u * x_v - a_v * x_u) ** 2 / (1 + a_u * a_v + x_u * x_v)
    return _Equation(mixed + x_u * x_v * apart, a_u * a_v / 2)


def _ratio(samples: Profile) -> FloatArray:
    """What steps before and after φ multiply its slope by."""
    steep = samples.scale * samples.gain
    return np.divide(steep, samples.sigma, out=np.ones_like(samples.sigma), where=samples.sigma > 0)


def _input(layer: Layer, samples: Profile) -> FloatArray:
    """The part of the pre-activation's variance that comes from input and bias."""
    return layer.sigma_b2 * samples.squared_norms + layer.sigma_c2


def _angle(t: FloatArray) -> FloatArray:
    return np.asarray(2 * np.arcsin(np.sqrt(t)))


def _solve(
    layer: Layer, u: Profile, v: Profile, angles: Angles, dual: Callable[[Pairs], Curves] | None
) -> tuple[FloatArray, FloatArray, Angles]:
    """Newton's method within a bracket: t less the right-hand side is convex, so that it comes from above."""
    inner = np.sqrt(_input(layer, u) * _input(layer, v)) * angles.cosine
    # The sign of r is that of the right-hand side at r = 0, where E φ(u)φ(v) is the product of the means.
    sign = np.where(layer.sigma_a2 * u.mean * v.mean + inner >= 0, 1.0, -1.0)
    equation = _equation(layer, u, v, angles, sign)
    sizes = np.sqrt(u.square), np.sqrt(v.square)
    pairs = Pairs(u.scale, v.scale, sizes[0] / u.gain, sizes[1] / v.gain, np.zeros_like(sign), sign)
    # Of φ's slopes those of the features in the pre-activations.
    steep = _ratio(u) * _ratio(v)
    if dual is None or not (pairs.sigma_u * pairs.sigma_v).all():
        dual = partial(by_difference_form, layer.activation)
    curves = dual(pairs)
    jumping = jumps(layer.activation)
    slopes = np.sqrt(u.slope_square * v.slope_square)
    gain = np.clip(1 - layer.sigma_a2 * slopes, 0.05, 1.0) if not jumping else 0.05
    t = np.minimum(equation.constant / (2 * gain), 0.5)
    low, high = np.zeros_like(t), np.full_like(t, 0.5)
    distance, slope = np.zeros_like(t), slopes.copy()
    before, gap_before, moved = np.full_like(t, np.nan), np.full_like(t, np.nan), np.full_like(t, np.inf)
    active = np.arange(t.size)
    for _ in range(_MAX_STEPS):
        at = t[active]
        d, e = curves(active, _angle(at))
        e = e * steep[active]
        distance[active], slope[active] = d, e
        gap = at - (equation.constant[active] + equation.weight[active] * d) / 2
        low[active] = np.where(gap <= 0, np.maximum(at, low[active]), low[active])
        high[active] = np.where(gap >= 0, np.minimum(at, high[active]), high[active])
        steepness = 1 - layer.sigma_a2 * np.where(np.isfinite(e), e, 0.0)
        if jumping and layer.sigma_a2:
            # The slope is infinite at t = 0 and not known without a closed form: a secant.
            run = at - before[active]
            steepness = np.divide(gap - gap_before[active], run, out=np.zeros_like(run), where=abs(run) > 0)
            before[active], gap_before[active] = at, gap
        step = np.divide(gap, steepness, out=np.full_like(gap, np.nan), where=steepness > 0)
        inside = (at - step >= low[active]) & (at - step <= high[active])
        # Halfway between the angles.
        middle = ((np.sqrt(low[active]) + np.sqrt(high[active])) / 2) ** 2
        new = np.where(gap == 0, at, np.where(inside, at - step, middle))
        size = abs(new - at)
        rounding = (size <= _ROUNDING * at) & (size >= moved[active] / 2)
        going = (size > _SETTLED * at) & ~rounding
        moved[active], t[active] = size, new
        active = active[going]
        if not active.size:
            value = sign * sizes[0] * sizes[1] * (1 - distance / 2)
            return value, slope, _angles_of_features(layer, pairs, t, distance, dual)
    raise ConvergenceError(
        f"{active.size} pair(s) of nearly parallel samples did not settle: the kernel map of {layer.title} is hardly a "
        "contraction there; lower sigma_a2."
    )
