"""A kernel's entry as a function of two squared norms and an inner product, with its second-order Taylor expansion.

An entry of a layer's conjugate kernel is F at a scalar fixed point: ``ρ = σ_a² F(s, t, ρ) + σ_b² x + σ_c²`` with
``F = E φ(ξ)φ(ζ)``, (ξ, ζ) Gaussian of variances s, t and covariance ρ, where s and t solve the same equation on the
diagonal.  The partial derivatives of F are expectations of derivatives of φ (by Price's theorem, ``∂F/∂ρ = E φ'φ'`` and
``∂F/∂s = ½ E φ''φ``), which Hermite coefficients give exactly; those of the entry follow by implicit differentiation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import choice, real_array
from rmtdeq._lib.check import kinds as check_kinds
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import KINDS, FloatArray, Kind
from rmtdeq.activations import Activation, moments
from rmtdeq.network import INPUT, Layer, Network, preactivation_scale, samples_alone, weighted_sum
from rmtdeq.network.wellposed import require_diagonal_contraction, require_finite_tangent
from rmtdeq.theory.pair_expectations import PairExpectations

_LEAST = 1e-150
"""Variances below have squares that underflow."""


@dataclass(frozen=True, eq=False)
class Jet:
    """A function of d variables at many points, with first and second derivatives.

    Attributes
    ----------
    value : ndarray (...)
    gradient : ndarray (..., d)
    hessian : ndarray (..., d, d)
    """

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray

    def __add__(self, other: Jet) -> Jet:
        return Jet(self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian)

    def __mul__(self, other: Jet) -> Jet:
        cross = self.gradient[..., :, None] * other.gradient[..., None, :]
        return Jet(
            self.value * other.value,
            self.value[..., None] * other.gradient + other.value[..., None] * self.gradient,
            self.value[..., None, None] * other.hessian
            + other.value[..., None, None] * self.hessian
            + cross
            + np.swapaxes(cross, -1, -2),
        )

    def scaled(self, factor: float) -> Jet:
        """Return a multiple."""
        return Jet(factor * self.value, factor * self.gradient, factor * self.hessian)

    __rmul__ = scaled

    def times(self, factors: FloatArray) -> Jet:
        """Return the function times a number at each point."""
        f = np.asarray(factors)
        return Jet(f * self.value, f[..., None] * self.gradient, f[..., None, None] * self.hessian)

    def power(self, exponent: float) -> Jet:
        """Return a power of a positive function."""
        value, outer = self.value**exponent, self.gradient[..., :, None] * self.gradient[..., None, :]
        slope = exponent * value / self.value
        bend = (exponent - 1) * slope / self.value
        return Jet(
            value,
            slope[..., None] * self.gradient,
            slope[..., None, None] * self.hessian + bend[..., None, None] * outer,
        )

    def plus(self, constant: float) -> Jet:
        """Return the function plus a constant."""
        return Jet(self.value + constant, self.gradient, self.hessian)

    def one_over_rest(self) -> Jet:
        """Return 1/(1 - f)."""
        inverse = 1 / (1 - self.value)
        outer = self.gradient[..., :, None] * self.gradient[..., None, :]
        square = (inverse**2)[..., None]
        return Jet(
            inverse,
            square * self.gradient,
            square[..., None] * (self.hessian + 2 * inverse[..., None, None] * outer),
        )


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
    tangents = {INPUT: _variable(squared_norms, 0, 1)}
    for number, (layer, at) in enumerate(zip(network.layers, _diagonals(network, squared_norms, kind), strict=True)):
        value, slope = _stacked([d.square for d in at]), None
        if kind != "ck":
            slope = _stacked([d.slope_square for d in at])
        tangents[number] = _entry(network, number, value, slope, tangents, kind).scaled(1 / layer.kept)
    return weighted_sum(tangents, network.sources[-1])


def _entry(network: Network, number: int, value: Jet, slope: Jet | None, below: dict[int, Jet], kind: Kind) -> Jet:
    """Return an entry of a layer's kernel, those below being known; of the conjugate kernel no slope is wanted."""
    if slope is None:
        return value
    layer, sources = network.layers[number], network.sources[number]
    if kind == "ntk-full" or not samples_alone(sources):
        value = value + slope * weighted_sum(below, sources).scaled(layer.sigma_b2).plus(layer.sigma_c2)
    return value * slope.scaled(layer.sigma_a2).one_over_rest()


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
    values = {INPUT: _variable(x.ravel(), 2, 3)}
    entries = dict(values)
    for number, (layer, at) in enumerate(zip(network.layers, _diagonals(network, norms, kind), strict=True)):
        scale = _stacked([d.scale for d in at])
        pairs = PairExpectations(layer, np.sqrt(scale.value), left, right)
        inner = [_embedded(scale, side, axis) for axis, side in enumerate((left, right))]
        source = weighted_sum(values, network.sources[number]).scaled(layer.sigma_b2).plus(layer.sigma_c2)
        r, arguments = _covariance(pairs, inner, source)
        values[number], slope = _Partials(pairs, r, 0).of(arguments), None
        if kind != "ck":
            slope = _Partials(pairs, r, 1).of(arguments)
            slope = slope * (inner[0] * inner[1]).power(-0.5) if layer.normalized else slope
        entries[number] = _entry(network, number, values[number], slope, entries, kind)
    result = weighted_sum(entries, network.sources[-1])
    return Jet(
        result.value.reshape(x.shape),
        result.gradient.reshape(*x.shape, 3),
        result.hessian.reshape(*x.shape, 3, 3),
    )


def _covariance(pairs: PairExpectations, inner: list[Jet], source: Jet) -> tuple[FloatArray, list[Jet]]:
    """Solve ``ρ = σ_a² F(s, t, ρ) + source``, differentiated once and twice.

    Returns the correlations, and F's arguments s, t and ρ, or where they are normalised 1, 1 and ρ/√(st), as functions
    of (u, v, x).
    """
    a2, normalized = pairs.layer.sigma_a2, pairs.layer.normalized
    rho = pairs.solve(source.value)
    r, nothing = rho / pairs.scale, np.zeros((rho.size, 3))
    one = Jet(np.ones_like(rho), nothing, nothing[:, :, None] * np.zeros(3))
    size = (inner[0] * inner[1]).power(-0.5) if normalized else one

    def arguments(covariance: Jet) -> list[Jet]:
        return [one, one, covariance * size] if normalized else [*inner, covariance]

    F = _Partials(pairs, r, 0)
    covariance = Jet(rho, one.gradient, one.hessian)
    gain = 1 / (1 - a2 * F.gradient[:, 2] * size.value)
    # Newton's method: a step is right in one derivative more.
    for _ in range(2):
        gap = F.of(arguments(covariance)).scaled(a2) + source + covariance.scaled(-1.0)
        covariance = covariance + gap.times(gain)
    return r, arguments(covariance)


def _require_pinned(network: Network) -> None:
    if network.centered:
        raise InvalidInputError("The scalar kernel is that of one activation: pass deq.pinned(tau0_squared).")


def _diagonals(network: Network, squared_norms: FloatArray, kind: Kind) -> Iterator[list[_Diagonal]]:
    """Of every layer, for samples of these squared norms."""
    known = {INPUT: [_Diagonal._jet(float(norm), 1.0, 0.0) for norm in squared_norms]}
    for number, layer in enumerate(network.layers):
        below = [
            weighted_sum({source: known[source][i] for source, _ in network.sources[number]}, network.sources[number])
            for i in range(len(squared_norms))
        ]
        at = [_Diagonal(layer, square, kind) for square in below]
        yield at
        known[number] = [d.square.scaled(1 / layer.kept) for d in at]


class _Diagonal:
    """Jets in a sample's squared norm: s, which solves ``s = σ_a² E φ(√s ξ)² + σ_b² q + σ_c²``; E φ², E φ'² there.

    Of normalised pre-activations φ is given ξ, and the derivative is that of φ(u/√s).

    Parameters
    ----------
    layer : Layer
        Uncentred.
    below : Jet
        q, the squared norm of the layer's input.
    kind : str
    """

    def __init__(self, layer: Layer, below: Jet, kind: Kind) -> None:
        norm = float(below.value)
        sigma = preactivation_scale(layer, norm).value
        if sigma**2 < _LEAST:
            raise InvalidInputError(
                f"{layer.title} at squared norm {norm:.4g} has preactivations of variance {sigma**2:.4g}, whose square "
                "is nothing in double precision; scale the samples, or raise sigma_b2."
            )
        phi, a2, b2 = layer.activation, layer.sigma_a2, layer.sigma_b2
        given = layer.scale_at(sigma)
        xi = phi.rule(given).nodes
        square = self._in_scale(phi, given, np.asarray(phi(given * xi), dtype=float) ** 2)
        if layer.normalized:
            square = square[0], 0.0, 0.0
        gain = a2 * square[1]
        where = f" at squared norm {norm:.4g}"
        require_diagonal_contraction(layer.title, gain, where)
        slope = b2 * float(below.gradient[0]) / (1 - gain)
        bend = (a2 * square[2] * slope**2 + b2 * float(below.hessian[0, 0])) / (1 - gain)
        self.scale = self._jet(sigma**2, slope, bend)
        self.square = self._along(square)
        if kind == "ck":
            return
        steepness = moments(phi, given).first_square * (given / sigma) ** 2
        require_finite_tangent(layer.title, a2 * steepness if layer.recurrent else 0.0, where)
        slopes = self._in_scale(phi, given, phi.slope(given * xi) ** 2)
        if layer.normalized:
            s = sigma**2
            slopes = slopes[0] / s, -slopes[0] / s**2, 2 * slopes[0] / s**3
        self.slope_square = self._along(slopes)

    @staticmethod
    def _in_scale(phi: Activation, sigma: float, values: FloatArray) -> tuple[float, float, float]:
        """``E f(σξ)`` with two derivatives in σ²: means of f'' and of its second derivative, by Stein's lemma."""
        rule = phi.rule(sigma)
        xi, s = rule.nodes, sigma**2
        mean = float(rule.weights @ values)
        weighted = rule.weights * (values - mean)
        return (
            mean,
            float(weighted @ (xi**2 - 1)) / (2 * s),
            float(weighted @ (xi**4 - 6 * xi**2 + 3)) / (4 * s**2),
        )

    def _along(self, f: tuple[float, float, float]) -> Jet:
        """Compose with s(u)."""
        slope, curvature = float(self.scale.gradient[0]), float(self.scale.hessian[0, 0])
        return self._jet(f[0], f[1] * slope, f[2] * slope**2 + f[1] * curvature)

    @staticmethod
    def _jet(value: float, slope: float, curvature: float) -> Jet:
        return Jet(np.array(value), np.array([slope]), np.array([[curvature]]))


def _stacked(jets: list[Jet]) -> Jet:
    return Jet(
        np.stack([f.value for f in jets]), np.stack([f.gradient for f in jets]), np.stack([f.hessian for f in jets])
    )


def _variable(at: FloatArray, axis: int, count: int) -> Jet:
    """Return one of several variables as a function of them."""
    gradient = np.zeros((at.size, count))
    gradient[:, axis] = 1.0
    return Jet(at, gradient, np.zeros((at.size, count, count)))


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
