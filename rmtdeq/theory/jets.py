"""A kernel's entry as a function of two squared norms and an inner product, with its second-order Taylor expansion.

An entry of a layer's conjugate kernel is F at a scalar fixed point: ``ρ = σ_a² F(s, t, ρ) + σ_b² x + σ_c²`` with
``F = E φ(ξ)φ(ζ)``, (ξ, ζ) Gaussian of variances s, t and covariance ρ, where s and t solve the same equation on the
diagonal.  The partial derivatives of F are expectations of derivatives of φ (by Price's theorem, ``∂F/∂ρ = E φ'φ'`` and
``∂F/∂s = ½ E φ''φ``), which Hermite coefficients give exactly; those of the entry follow by implicit differentiation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import choice, real_array
from rmtdeq._lib.check import kinds as check_kinds
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.jets import Curve, Jet, variable
from rmtdeq._lib.types import KINDS, FloatArray, Function, IntArray, Kind
from rmtdeq.kernels.pairs import entry
from rmtdeq.network import INPUT, Layer, Network, preactivation_scale, samples_alone, weighted_sum
from rmtdeq.network.wellposed import require_diagonal_contraction, require_finite_tangent
from rmtdeq.theory.pair_expectations import PairExpectations

_LEAST = 1e-150
"""Variances below have squares that underflow."""


def diagonal_jet(network: Network, squared_norms: FloatArray, kind: Kind = "ck") -> Jet:
    """Expand a kernel's diagonal in the squared norm of the sample.

    Parameters
    ----------
    network : Network
        Uncentred.
    squared_norms : ndarray (points,)
    kind : str

    Returns
    -------
    Jet
        In one variable, (points,).

    Raises
    ------
    IllPosedError
        No equilibrium, no contraction, or an infinite NTK.
    """
    _require_pinned(network)
    tangents = {INPUT: variable(squared_norms, 0, 1)}
    for number, (layer, at) in enumerate(zip(network.layers, _diagonals(network, squared_norms, kind), strict=True)):
        slope, sources = None if kind == "ck" else at.slope_square(), network.sources[number]
        below, first = weighted_sum(tangents, sources), samples_alone(sources)
        tangents[number] = entry(kind, layer, at.square, slope, below, first) / layer.kept
    return weighted_sum(tangents, network.sources[-1])


def entry_jet(network: Network, u: ArrayLike, v: ArrayLike, x: ArrayLike, kind: Kind = "ck") -> Jet:
    """Expand a kernel's entry in the squared norms u, v of two samples and their inner product x.

    Parameters
    ----------
    network : Network
        Uncentred; pin a centred one first (`Network.pinned`).
    u, v : array_like
        Squared norms, positive.
    x : array_like
        Inner products, below ``√(uv)`` in size; all three are broadcast against each other.
    kind : str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``.

    Returns
    -------
    Jet
        Of the broadcast shape.

    Raises
    ------
    InvalidInputError
        A centred network; inner products beyond the Cauchy-Schwarz bound.
    IllPosedError
        No equilibrium, no contraction, an infinite NTK, or samples so nearly parallel that the derivatives
        cannot be computed.

    """
    (kind,) = check_kinds(choice(kind, "kind", KINDS))
    _require_pinned(network)
    u, v, x = np.broadcast_arrays(real_array(u, "u"), real_array(v, "v"), real_array(x, "x"))
    if not u.size:
        raise InvalidInputError("The scalar kernel needs at least one point (u, v, x).")
    if not ((u > 0).all() and (v > 0).all() and (x * x < u * v).all()):
        raise InvalidInputError("Squared norms must be positive, and inner products smaller than √(uv).")
    norms, index = np.unique(np.concatenate([u.ravel(), v.ravel()]), return_inverse=True)
    left, right = index[: u.size], index[u.size :]
    values = {INPUT: variable(x.ravel(), 2, 3)}
    entries = dict(values)
    for number, (layer, at) in enumerate(zip(network.layers, _diagonals(network, norms, kind), strict=True)):
        sources = network.sources[number]
        pair = _Pair(layer, at, left, right, layer.sigma_b2 * weighted_sum(values, sources) + layer.sigma_c2)
        values[number], slope = pair.value, None if kind == "ck" else pair.slope()
        below, first = weighted_sum(entries, sources), samples_alone(sources)
        entries[number] = entry(kind, layer, values[number], slope, below, first)
    result = weighted_sum(entries, network.sources[-1])
    return Jet(
        result.value.reshape(x.shape),
        result.gradient.reshape(*x.shape, 3),
        result.hessian.reshape(*x.shape, 3, 3),
    )


class _Pair:
    """A layer's ``G = E z(ξ)z(ζ)``, where ``ρ = σ_a² G + source``, differentiated once and twice in (u, v, x).

    z is φ, times a number for each sample if there are steps after it, and is given its pre-activation, times one if
    there are steps before it: G is such a multiple of F(s, t, ρ), of the variances and covariance of what φ is given.
    """

    def __init__(self, layer: Layer, at: _Diagonal, left: IntArray, right: IntArray, source: Jet) -> None:
        def both(f: Jet) -> tuple[Jet, Jet]:
            return _embedded(f, left, 0), _embedded(f, right, 1)

        self._variances = both(at.given)
        self._size, self._gain = (u**0.5 * v**0.5 for u, v in map(both, (at.given / at.scale, at.gain)))
        self._pairs = PairExpectations(layer, np.sqrt(at.scale.value), left, right)
        a2, rho = layer.sigma_a2, self._pairs.covariance(source.value)
        self._r = rho / self._pairs.scale
        self._partials = _Partials(self._pairs, self._r, 0)
        gain = 1 / (1 - a2 * self._partials.gradient[:, 2] * (self._size * self._gain).value)
        self._rho = Jet(rho, np.zeros((rho.size, 3)), np.zeros((rho.size, 3, 3)))
        # Newton's method: a step is right in one derivative more.
        for _ in range(2):
            gap = a2 * self.value + source - self._rho
            self._rho = self._rho + gap.times(gain)

    @property
    def value(self) -> Jet:
        """G."""
        return self._of(self._partials) * self._gain

    def slope(self) -> Jet:
        """``E z'(ξ)z'(ζ)``."""
        return self._of(_Partials(self._pairs, self._r, 1)) * self._size * self._gain

    def _of(self, partials: _Partials) -> Jet:
        return partials.of([*self._variances, self._rho * self._size])


def _require_pinned(network: Network) -> None:
    if network.centered:
        raise InvalidInputError("The scalar kernel is that of one activation: pass deq.pinned(tau0_squared).")


def _diagonals(network: Network, squared_norms: FloatArray, kind: Kind) -> Iterator[_Diagonal]:
    """Of every layer, for samples of these squared norms."""
    known = {INPUT: variable(squared_norms)}
    for number, layer in enumerate(network.layers):
        at = _Diagonal(layer, weighted_sum(known, network.sources[number]), kind)
        yield at
        known[number] = at.square / layer.kept


class _Diagonal:
    """Jets in the squared norms of samples: s, which solves ``s = σ_a² E z² + σ_b² q + σ_c²``; E z², E (∂z/∂u)² there.

    z is what φ makes of a Gaussian pre-activation of variance s, with the steps before and after it.

    Parameters
    ----------
    layer : Layer
        Uncentred.
    below : Jet
        q, the squared norms of the layer's inputs.
    kind : str

    Attributes
    ----------
    scale, given : Jet
        s, and the variance of what φ is given.
    gain : Jet
        What steps after φ multiply squares by.
    square : Jet
        E z².
    """

    def __init__(self, layer: Layer, below: Jet, kind: Kind) -> None:
        self._layer, a2 = layer, layer.sigma_a2
        sigma = np.array([preactivation_scale(layer, float(norm)).value for norm in below.value])
        for norm, scale in zip(below.value, sigma, strict=True):
            if scale**2 < _LEAST:
                raise InvalidInputError(
                    f"{layer.title} at squared norm {norm:.4g} has preactivations of variance {scale**2:.4g}, whose "
                    "square is nothing in double precision; scale the samples, or raise sigma_b2."
                )
        self._arguments = [layer.argument(float(scale)) for scale in sigma]
        of_square = self._in_scale(lambda u: np.asarray(layer.activation(u), dtype=float))
        square = layer.passed(layer.given(variable(sigma**2)).of(of_square))
        gain = a2 * square.gradient[:, 0]
        for i, norm in enumerate(below.value):
            where = f" at squared norm {norm:.4g}"
            require_diagonal_contraction(layer.title, gain[i], where)
            if kind != "ck" and layer.recurrent:
                require_finite_tangent(layer.title, layer.steepness(float(sigma[i])), where)
        # s as a function of q, then of what q is one of.
        slope = layer.sigma_b2 / (1 - gain)
        self.scale = below.of((sigma**2, slope, a2 * square.hessian[:, 0, 0] * slope**2 / (1 - gain)))
        self.given = layer.given(self.scale)
        made = self.given.of(of_square)
        self.square = layer.passed(made)
        self.gain = self.square / made

    def slope_square(self) -> Jet:
        """E (∂z/∂u)²."""
        return self.given.of(self._in_scale(self._layer.activation.slope)) * (self.given / self.scale) * self.gain

    def _in_scale(self, f: Function) -> Curve:
        """``E f(√s ξ)²`` with two derivatives in s: means of (f²)'' and of its second derivative, by Stein's lemma."""
        found = []
        for scale in self._arguments:
            rule, s = self._layer.activation.rule(scale), scale**2
            xi, values = rule.nodes, f(scale * rule.nodes) ** 2
            mean = rule.weights @ values
            weighted = rule.weights * (values - mean)
            found.append((mean, weighted @ (xi**2 - 1) / (2 * s), weighted @ (xi**4 - 6 * xi**2 + 3) / (4 * s**2)))
        mean, slope, bend = np.transpose(found)
        return mean, slope, bend


def _embedded(f: Jet, index: np.ndarray, axis: int) -> Jet:
    """Take entries of a jet in one variable, as functions of (u, v, x) that depend on the one named by `axis`."""
    gradient, hessian = np.zeros((index.size, 3)), np.zeros((index.size, 3, 3))
    gradient[:, axis] = f.gradient[index, 0]
    hessian[:, axis, axis] = f.hessian[index, 0, 0]
    return Jet(f.value[index], gradient, hessian)


class _Partials:
    """``E[φ⁽ᵒ⁾(ξ) φ⁽ᵒ⁾(ζ)]`` as a function of (s, t, ρ): value, gradient and Hessian.

    A derivative in s takes two more derivatives of φ(ξ) and a factor ½, one in ρ one more on each side.
    """

    def __init__(self, pairs: PairExpectations, r: FloatArray, order: int) -> None:
        steps = ((2, 0), (0, 2), (1, 1))
        weights = (0.5, 0.5, 1.0)
        self.value = pairs.expectation(order, order, r)
        self.gradient = np.stack(
            [w * pairs.expectation(order + i, order + j, r) for (i, j), w in zip(steps, weights, strict=True)], axis=-1
        )
        self.hessian = np.empty((r.size, 3, 3))
        for a in range(3):
            for b in range(a + 1):
                i, j = steps[a][0] + steps[b][0], steps[a][1] + steps[b][1]
                value = weights[a] * weights[b] * pairs.expectation(order + i, order + j, r)
                self.hessian[:, a, b] = self.hessian[:, b, a] = value

    def of(self, arguments: list[Jet]) -> Jet:
        """Compose with s, t and ρ as functions of (u, v, x)."""
        jacobian = np.stack([f.gradient for f in arguments], axis=1)
        curvature = sum(self.gradient[:, a, None, None] * f.hessian for a, f in enumerate(arguments))
        return Jet(
            self.value,
            np.einsum("na,nai->ni", self.gradient, jacobian),
            np.einsum("nab,nai,nbj->nij", self.hessian, jacobian, jacobian) + curvature,
        )
