"""Dual activations: E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of a pair of correlated Gaussians, exactly.

The closed form where the activation has one, a two-dimensional quadrature otherwise.  The kernels use Mehler's
series (`hermite`) wherever it has converged and come here for pairs that are nearly parallel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.check import real_array
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.hermite import hermite_coefficients
from rmtdeq.activations.quadrature import REACH, gaussian_rule, normal_density, panel_nodes

_INNER_NODES = 20


@dataclass(frozen=True)
class Dual:
    """Expectations over a pair of correlated Gaussians (u, v).

    Attributes
    ----------
    product : ndarray
        ``E[φ(u) φ(v)]``.
    slope : ndarray
        ``E[φ'(u) φ'(v)]``, the derivative of `product` in the covariance of u and v.
    """

    product: FloatArray
    slope: FloatArray


def dual(activation: Activation, variance_u: ArrayLike, variance_v: ArrayLike, covariance: ArrayLike) -> Dual:
    """Return the dual activation at the given variances and covariance.

    Parameters
    ----------
    activation : Activation
    variance_u, variance_v, covariance : array_like
        Entries of the 2×2 covariance matrix of (u, v), broadcast against each other.

    Returns
    -------
    Dual
        Arrays of the broadcast shape.

    Raises
    ------
    InvalidInputError
        A negative variance, or a covariance beyond the Cauchy-Schwarz bound.
    """
    s, t, rho = np.broadcast_arrays(
        real_array(variance_u, "variance_u"),
        real_array(variance_v, "variance_v"),
        real_array(covariance, "covariance"),
    )
    size = np.sqrt(np.maximum(s, 0) * np.maximum(t, 0))
    if (s < 0).any() or (t < 0).any() or (abs(rho) > size * (1 + 1e-12)).any():
        raise InvalidInputError("[[variance_u, covariance], [covariance, variance_v]] is not positive semidefinite.")
    r = np.clip(np.divide(rho, size, out=np.zeros(s.shape), where=size > 0), -1.0, 1.0)
    sign = np.where(r < 0, -1.0, 1.0)
    sigma_u, sigma_v, theta = np.sqrt(s), np.sqrt(t), np.arccos(abs(r))
    size_u, size_v = np.sqrt(second_moment(activation, sigma_u)), np.sqrt(second_moment(activation, sigma_v))
    # Of a function that is zero almost surely nothing can be normalised; its products are zero.
    units = (np.where(each > 0, each, 1.0) for each in (size_u, size_v))
    flat = [np.ravel(each) for each in (sigma_u, sigma_v, *units, theta, sign)]
    distance, slope = (each.reshape(s.shape) for each in difference_form(activation, Pairs(*flat)))
    return Dual(sign * size_u * size_v * (1 - distance / 2), slope)


def second_moment(activation: Activation, sigma: FloatArray) -> FloatArray:
    """Return ``E φ(σξ)²`` for every σ, by quadrature."""
    flat, inverse = np.unique(np.ravel(sigma), return_inverse=True)
    values = np.empty_like(flat)
    for i, scale in enumerate(flat):
        rule = activation.rule(float(scale))
        values[i] = rule.weights @ np.asarray(activation(scale * rule.nodes), dtype=float) ** 2
    return values[inverse].reshape(np.shape(sigma))


def difference_form(activation: Activation, pairs: Pairs) -> tuple[FloatArray, FloatArray]:
    """Return ``E[(φ(u)/size_u - sign φ(v)/size_v)²]`` and ``E[φ'(u) φ'(v)]``, without cancellation for any pair.

    Without a closed form the slope is that of φ between its jumps.
    """
    if activation.dual_form is not None and (pairs.sigma_u > 0).all() and (pairs.sigma_v > 0).all():
        return activation.dual_form(pairs, activation.shift)
    columns = (pairs.sigma_u, pairs.sigma_v, pairs.size_u, pairs.size_v, pairs.theta, pairs.sign)
    found = np.array([_quadrature(activation, *map(float, pair)) for pair in zip(*columns, strict=True)])
    found = found.reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _quadrature(
    activation: Activation, sigma_u: float, sigma_v: float, size_u: float, size_v: float, theta: float, sign: float
) -> tuple[float, float]:
    """Two-dimensional quadrature for one pair: u = σ_u ξ, v = sign σ_v (ξ cos θ + ζ sin θ).

    The inner integral over ζ is split where v crosses a panel edge of φ.  As a function of ξ it changes over a
    width sin θ around the kinks of φ(σ_v ξ cos θ), so the outer panels are graded towards them.
    """
    r, s = np.cos(theta), np.sin(theta)
    scale_v, size_v = sign * sigma_v, sign * size_v
    kinks = np.asarray(activation.kinks, dtype=float)
    outer = [activation.edges(REACH * sigma_u) / sigma_u] if sigma_u > 0 else []
    if sigma_v > 0 and r > 1e-3:
        outer.append(activation.edges(REACH * sigma_v / r) / (scale_v * r))
        grading = s * 2.0 ** np.arange(-1, 60)
        grading = np.concatenate([-grading[grading < 1], [0.0], grading[grading < 1]])
        outer.append(np.ravel(kinks[:, None] / (scale_v * r) + grading))
    rule = gaussian_rule(np.concatenate([np.ravel(o) for o in outer]) if outer else np.array([0.0]))
    keep = rule.weights > 1e-22
    xi, weights = rule.nodes[keep], rule.weights[keep]
    value_u = np.asarray(activation(sigma_u * xi), dtype=float) / size_u
    slope_u = activation.slope(sigma_u * xi)
    if s == 0 or sigma_v == 0:
        v = scale_v * r * xi
        apart = value_u - np.asarray(activation(v), dtype=float) / size_v
        return float(weights @ apart**2), float(weights @ (slope_u * activation.slope(v)))
    reach = 10.0
    regular = np.linspace(-reach, reach, 11)
    edges = activation.edges(sigma_v * (REACH + reach)) / scale_v
    # Those far beyond count as beyond.
    crossings = np.clip(edges - r * xi[:, None], -2 * reach * s, 2 * reach * s) / s
    crossings = crossings[:, ((crossings > -reach) & (crossings < reach)).any(axis=0)]
    edges = np.concatenate([np.broadcast_to(regular, (xi.size, regular.size)), crossings], axis=1)
    edges = np.sort(np.clip(edges, -reach, reach), axis=1)
    difference, slope = 0.0, 0.0
    # Rows in blocks: the inner grid of every outer node at once would not fit into the cache.
    for rows in np.array_split(np.arange(xi.size), max(1, xi.size * edges.shape[1] * _INNER_NODES // 400_000)):
        zeta, inner = panel_nodes(edges[rows], _INNER_NODES)
        inner = inner * normal_density(zeta)
        v = scale_v * (r * xi[rows, None, None] + s * zeta)
        gap = value_u[rows, None, None] - np.asarray(activation(v), dtype=float) / size_v
        difference += float(weights[rows] @ np.einsum("ipk,ipk->i", inner, gap * gap))
        slope += float((weights[rows] * slope_u[rows]) @ np.einsum("ipk,ipk->i", inner, activation.slope(v)))
    return difference, slope


def mehler(activation: Activation, sigma_u: float, sigma_v: float, r: FloatArray, degree: int) -> Dual:
    """Return the dual activation by Mehler's series up to `degree`: exact for polynomials of that degree."""
    h_u = hermite_coefficients(activation, sigma_u, degree)
    h_v = hermite_coefficients(activation, sigma_v, degree)
    series = np.polynomial.Polynomial(h_u * h_v)
    return Dual(series(r), series.deriv()(r) / (sigma_u * sigma_v))
