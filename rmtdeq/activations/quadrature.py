"""Gaussian quadrature on panels: composite Gauss-Legendre rules split where the integrand is not smooth.

Gauss-Hermite rules converge slowly at a kink and need many nodes for a pole near the real axis, so
expectations over N(0, 1) are taken on panels instead.  A panel is cut at every kink, and cut again until the
function is a polynomial there to rounding; products of such functions with the Gaussian weight are then
integrated to about fourteen digits by one rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Function

NODES = 32
"""Gauss-Legendre nodes in a panel."""

REACH = 13.0
"""Half-width of the range of integration over N(0, 1): exp(-REACH²/4) < 1e-18, so normalised Hermite
polynomials of any degree are integrated too."""

_RESOLVED_DEGREE = 20
_RESOLVED = 1e-13
_RESOLVED_ENDS = 1e-11
_NEAR_ENDS = np.array([-1 + 2e-6, 1 - 2e-6])
_NARROWEST = 1e-7
_MOST_PANELS = 1 << 18
SLOPE_TERMS = 24
"""Legendre coefficients that a slope is taken from: rounding of the last ones would be multiplied most."""
_SCALES = 2.0 ** np.arange(3, -5, -0.5)


@dataclass(frozen=True)
class Rule:
    """Nodes and weights with ``weights @ f(nodes) ≈ E f(ξ)``, ξ ~ N(0, 1)."""

    nodes: FloatArray
    weights: FloatArray


@lru_cache(maxsize=4)
def legendre(nodes: int = NODES) -> tuple[FloatArray, FloatArray]:
    """Return the Gauss-Legendre nodes and weights on [-1, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x.flags.writeable = w.flags.writeable = False
    return x, w


@lru_cache(maxsize=4)
def hermite(nodes: int) -> tuple[FloatArray, FloatArray]:
    """Return the Gauss-Hermite nodes and weights of the standard Gaussian."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    return x, w / np.sqrt(2 * np.pi)


@lru_cache(maxsize=1)
def _to_coefficients() -> FloatArray:
    """Matrix from the values at the Legendre nodes to the coefficients of the interpolant."""
    x, w = legendre()
    degrees = np.arange(NODES)
    vandermonde = np.polynomial.legendre.legvander(x, NODES - 1)
    return (degrees + 0.5)[:, None] * vandermonde.T * w


def panel_nodes(edges: FloatArray, nodes: int = NODES) -> tuple[FloatArray, FloatArray]:
    """Return Legendre nodes and weights, each (panels, nodes), on the panels between consecutive edges.

    Parameters
    ----------
    edges : ndarray (..., panels + 1)
        Ascending; equal neighbours make an empty panel of zero weight.
    """
    x, w = legendre(nodes)
    half = np.diff(edges, axis=-1)[..., None] / 2
    middle = (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    return middle + half * x, half * w


def merge_edges(*groups: FloatArray, low: float, high: float) -> FloatArray:
    """Return the sorted union of breakpoints within [low, high], both ends included."""
    points = np.unique(np.concatenate([np.ravel(g) for g in groups]))
    points = points[(points > low) & (points < high)]
    edges = np.concatenate([[low], points, [high]])
    keep = np.concatenate([[True], np.diff(edges) > 1e-14 * max(1.0, abs(low), abs(high))])
    keep[-1] = True
    return edges[keep]


def normal_density(x: FloatArray) -> FloatArray:
    """Return the density of N(0, 1)."""
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def gaussian_rule(breakpoints: FloatArray, width: float = 1.0) -> Rule:
    """Return a rule for expectations over N(0, 1) of functions smooth between the breakpoints.

    Parameters
    ----------
    breakpoints : ndarray
        Points where a panel must end, in units of the standard deviation; any order, any range.
    width : float
        Panels are no wider than this; 1 suits Hermite polynomials up to degree 100, 0.5 up to 600.
    """
    return _rule(merge_edges(_regular_edges(width), breakpoints, low=-REACH, high=REACH))


@lru_cache(maxsize=4)
def regular_rule(width: float) -> Rule:
    """Return the rule on panels of one width, zero an edge among theirs; the same object every time."""
    rule = _rule(_regular_edges(width))
    rule.nodes.flags.writeable = rule.weights.flags.writeable = False
    return rule


def _regular_edges(width: float) -> FloatArray:
    return np.linspace(-REACH, REACH, 2 * int(np.ceil(REACH / width)) + 1)


def _rule(edges: FloatArray) -> Rule:
    nodes, weights = panel_nodes(edges)
    nodes, weights = nodes.ravel(), weights.ravel()
    return Rule(nodes, weights * normal_density(nodes))


@lru_cache(maxsize=4)
def _differentiation(width: float) -> FloatArray:
    """Matrix from values at a panel's nodes to the slopes of their interpolant there."""
    slopes = np.polynomial.legendre.legder(_to_coefficients()[:SLOPE_TERMS], axis=0)
    return np.asarray(np.polynomial.legendre.legvander(legendre()[0], SLOPE_TERMS - 2) @ slopes * (2 / width))


def regular_slopes(values: FloatArray, width: float) -> FloatArray:
    """Return the slopes, at the nodes of the regular rule, of a function given by its values there."""
    return np.asarray(values.reshape(-1, NODES) @ _differentiation(width).T).ravel()


@lru_cache(maxsize=256)
def regular_scale(fn: Function, width: float) -> float:
    """Return a scale σ up to which u ↦ fn(σ u) is a polynomial to rounding on every panel of the regular rule.

    Zero where there is none; `fn` has no kinks, or one at zero.
    """
    nodes = regular_rule(width).nodes
    for sigma in _SCALES:
        try:
            values = _evaluate(fn, sigma * nodes).reshape(-1, NODES)
        except InvalidInputError:  # it overflows so far out
            continue
        inner = abs(sigma * nodes.reshape(-1, NODES)).min(axis=1) < 8
        # A constant added to the function, which centring takes off, does not count.
        values = values - np.median(values[inner])
        size = np.maximum(abs(values).max(axis=1), abs(values[inner]).max())
        tail = abs(values @ _to_coefficients().T[:, _RESOLVED_DEGREE:]).max(axis=1)
        if (tail <= _RESOLVED * size).all():
            return float(sigma)
    return 0.0


def _evaluate(fn: Function, u: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        try:
            found = np.asarray(fn(u.ravel()))
            if np.iscomplexobj(found):
                raise TypeError("its values are complex numbers")
            values = found.astype(np.float64)
        except Exception as error:
            raise InvalidInputError(
                f"The activation failed on an array of shape {u.ravel().shape}: {error!r}; "
                "it must be real and vectorised (numpy.vectorize helps)."
            ) from error
    if values.shape != (u.size,):
        raise InvalidInputError(
            f"The activation turned an array of shape {(u.size,)} into {values.shape}; it must act entrywise."
        )
    if not np.isfinite(values).all():
        where = u.ravel()[~np.isfinite(values)][0]
        raise InvalidInputError(
            f"The activation is NaN or infinite at u = {where:g}; it must be finite on the real line."
        )
    return values.reshape(u.shape)


def resolve(fn: Function, kinks: tuple[float, ...], reach: float) -> tuple[FloatArray, FloatArray]:
    """Cut [-reach, reach] into panels on each of which `fn` is a polynomial to rounding.

    Parameters
    ----------
    fn : callable
        Vectorised function of one variable.
    kinks : tuple of float
        Where `fn` or a derivative jumps.
    reach : float
        Half-width of the range.

    Returns
    -------
    edges : ndarray (panels + 1,)
    coefficients : ndarray (panels, NODES)
        Legendre coefficients of `fn` on each panel.

    Raises
    ------
    InvalidInputError
        `fn` is not finite, not vectorised, or not smooth at a point that `kinks` does not name.
    """
    # Neither these edges nor the middles of their panels are numbers at which one would put a kink: one that
    # happened to lie on an edge would go unnoticed.
    powers = 2.0 ** np.arange(int(np.ceil(np.log2(reach))) + 2)
    start = merge_edges(0.5177 * powers, -0.5613 * powers, np.asarray(kinks, dtype=float), low=-reach, high=reach)
    left, right = start[:-1], start[1:]
    scale = 0.0
    done_edges: list[FloatArray] = []
    done_coefficients: list[FloatArray] = []
    while left.size:
        if left.size > _MOST_PANELS:
            raise InvalidInputError(
                f"The activation varies too fast, or is computed in too low a precision, near u = {left[0]:.6g}: it "
                "must be smooth, and accurate to double precision."
            )
        x = np.append(legendre()[0], _NEAR_ENDS)
        values = _evaluate(fn, (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * x)
        values, near_ends = values[:, :NODES], values[:, NODES:]
        if scale == 0.0:
            inner = np.minimum(abs(left), abs(right)) < 8
            scale = max(float(abs(values[inner]).max()), np.finfo(float).tiny)
        # Without a constant, whose rounding the slopes would magnify.
        coefficients = (values - values[:, :1]) @ _to_coefficients().T
        coefficients[:, 0] += values[:, 0]
        size = np.maximum(abs(values).max(axis=1), scale)
        resolved = abs(coefficients[:, _RESOLVED_DEGREE:]).max(axis=1) <= _RESOLVED * size
        # A kink between the outermost node and the end of a panel shows only there.
        missed = abs(coefficients @ np.polynomial.legendre.legvander(_NEAR_ENDS, NODES - 1).T - near_ends)
        resolved &= missed.max(axis=1) <= _RESOLVED_ENDS * size
        done_edges.append(np.stack([left[resolved], right[resolved]], axis=1))
        done_coefficients.append(coefficients[resolved])
        left, right = left[~resolved], right[~resolved]
        middle = (left + right) / 2
        stuck = right - left < _NARROWEST * np.maximum(1.0, abs(middle))
        if stuck.any():
            where = round(float(middle[stuck][0]), 6) + 0.0
            raise InvalidInputError(
                f"The activation is not smooth near u = {where:g}: name every point where it or a derivative jumps, as "
                "in Activation(fn, kinks=(0.5,))."
            )
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    pairs = np.concatenate(done_edges)
    order = np.argsort(pairs[:, 0])
    edges = np.append(pairs[order, 0], pairs[order[-1], 1])
    return edges, np.concatenate(done_coefficients)[order]
