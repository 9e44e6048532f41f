"""Tables of what Gaussian noise makes of an activation, for many nearly parallel pairs where it is bent away from zero.

Of scales and angle the dual of such a function is not analytic: kinks of φ(u) and φ(v) lie at one place where the
scales are equal, and at a distance that counts in units of the angle where they are not.  But what is left of φ, φ'
and φ² once noise is averaged over, E φ(m + sζ) and so on, are functions of two numbers alone: they are interpolated on
panels of m that are as narrow as the noise around kinks, and over octaves of s.  A pair is then one sum over the other
Gaussian (`noise_sums`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np

from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.duals import difference_form
from rmtdeq.activations.quadrature import hermite, legendre, merge_edges
from rmtdeq.kernels.chebyshev import chebyshev_points, chebyshev_polynomials, to_chebyshev
from rmtdeq.kernels.noise_sums import REACH, noise_averages, pair_sums

_POINTS = 24
"""Of a panel."""
_SPREADS = 22
"""Of an octave of noise."""
_INNER, _HERMITE, _OUTER = 20, 24, 12
_LAYER = np.array([0.0, 2.0, 4.0, 6.0, 8.5, 12.0, 18.0])
"""Panels on either side of a kink, in units of the smallest noise of an octave."""
_ROUNDING, _SAME, _RESOLVED = 1e-15, 1e-15, 1e-11
_GROWTH = 8.0
"""Of panels around zero."""
_MOST_OCTAVES = 40


class NoiseTable:
    """What noise makes of an activation, for scales within a range; threads share it.

    Parameters
    ----------
    activation : Activation
    low, high : float
        The range of σ.

    Attributes
    ----------
    edges : ndarray (panels + 1,)
        Panels on which the activation is a polynomial.
    exact : ndarray (panels, 2, points)
        Chebyshev coefficients of φ and φ' there.
    """

    def __init__(self, activation: Activation, low: float, high: float) -> None:
        self.activation, self.low, self.high = activation, low, high
        self.edges = _widest_panels(activation, low, 2 * (REACH + 1) * high)
        nodes = _points_of(self.edges)
        values = np.stack([activation(nodes), activation.slope(nodes)], axis=1)
        exact = values @ to_chebyshev(_POINTS)
        self.exact = np.ascontiguousarray(exact[..., : _needed(exact).max()])
        self._lock, self._octaves = Lock(), dict[int, Octave]()

    @property
    def resolved(self) -> bool:
        """Whether all digits are there, of noise that is large and of noise that is small."""
        return all(self.octave(number).resolved for number in (2, 6, 12))

    def interval(self, number: int) -> tuple[float, float]:
        """The noise of an octave, 0 the largest."""
        return self.high / 2.0 ** (number + 1), self.high / 2.0**number

    def octave(self, number: int) -> Octave:
        """What noise of an octave leaves."""
        with self._lock:
            if number not in self._octaves:
                self._octaves[number] = self._computed(*self.interval(number))
            return self._octaves[number]

    def _computed(self, low: float, high: float) -> Octave:
        edges = self._panels(low)
        spreads = np.exp(chebyshev_points(np.log(low), np.log(high), _SPREADS))
        # The second for noise that leaves no panel of the activation, on which it is a polynomial.
        rules = *legendre(_INNER), *hermite(_HERMITE)
        values = np.stack([noise_averages(m, spreads, self.edges, self.exact, *rules) for m in _points_of(edges)])
        found = np.swapaxes(values @ to_chebyshev(_POINTS), 2, 3) @ to_chebyshev(_SPREADS)
        coefficients = np.ascontiguousarray(np.moveaxis(found, 3, 1))
        noisy = coefficients @ chebyshev_polynomials(legendre(_OUTER)[0], _POINTS)
        shape = len(found), _SPREADS, -1
        return Octave(edges, noisy.reshape(shape), coefficients.reshape(shape), _are_resolved(found))

    def _panels(self, noise: float) -> FloatArray:
        """Edges of panels that hold what noise between some and twice as much makes of the activation."""
        layer = noise * np.concatenate([_LAYER, _LAYER[-1] * 2.0 ** np.arange(1, _MOST_OCTAVES)])
        reach = (REACH + 0.5) * self.high
        apart = [kink + side * layer for kink in self.activation.kinks for side in (-1, 1)]
        return merge_edges(self.edges, *apart, low=-reach, high=reach)

    def pairs(self, pairs: Pairs) -> NoisyPairs:
        """Return what finds distance and slope of some pairs at any angles."""
        return NoisyPairs(self, pairs)


@dataclass(frozen=True, eq=False)
class Octave:
    """Means of φ and φ' and the variance of φ(m + sζ) for s within an octave.

    Attributes
    ----------
    edges : ndarray (panels + 1,)
        Of m.
    noisy : ndarray (panels, spreads, 3 · nodes)
        Chebyshev coefficients in log s of the three at the nodes of panels.
    coefficients : ndarray (panels, spreads, 3 · points)
        Those in log s and m.
    resolved : bool
        Whether all digits are there.
    """

    edges: FloatArray
    noisy: FloatArray
    coefficients: FloatArray
    resolved: bool


def _widest_panels(activation: Activation, low: float, reach: float) -> FloatArray:
    """Edges of panels on which an activation and its slope are polynomials, as few as scales from `low` on allow."""
    # Small scales see the small values around zero, which need their own digits.
    small = low * _GROWTH ** np.arange(max(0, np.ceil(-np.log(low) / np.log(_GROWTH))))
    edges = merge_edges(activation.edges(reach), small, -small, low=-reach, high=reach)
    kept = [edges[0]]
    for edge, following in pairwise(edges[1:]):
        nearest = max(low, min(abs(kept[-1]), abs(following)) if kept[-1] * following > 0 else 0.0)
        wide = max(abs(kept[-1]), abs(following)) > 2 * _GROWTH * nearest
        if wide or edge in activation.kinks or not _is_polynomial(activation, np.array([kept[-1], following])):
            kept.append(edge)
    return np.array([*kept, edges[-1]])


def _is_polynomial(activation: Activation, edges: FloatArray) -> bool:
    nodes = _points_of(edges)
    values = np.stack([activation(nodes), activation.slope(nodes)], axis=1) @ to_chebyshev(_POINTS)
    return bool(abs(values[..., -4:]).max() <= _SAME * abs(values).max())


def _sizes(coefficients: FloatArray) -> FloatArray:
    """Of functions (axis 1) on every panel, or a hundredth of that elsewhere."""
    size = abs(coefficients).max(axis=tuple(range(2, coefficients.ndim)), keepdims=True)
    return np.maximum(size, size.max(axis=0) / 100)


def _needed(coefficients: FloatArray) -> IntArray:
    """How many Chebyshev coefficients of some functions (axis 1) on every panel are more than rounding."""
    counts = (abs(coefficients) > _ROUNDING * _sizes(coefficients)) * np.arange(1, coefficients.shape[2] + 1)
    return np.maximum(counts.max(axis=(1, 2)), 1)


def _are_resolved(coefficients: FloatArray) -> bool:
    """Say so of coefficients (panels, functions, degrees in m, degrees in log s)."""
    limit = _RESOLVED * _sizes(coefficients)
    return all((abs(each) <= limit).all() for each in (coefficients[:, :, -3:], coefficients[..., -3:]))


def _points_of(edges: FloatArray) -> FloatArray:
    """Chebyshev points of panels, (panels, points)."""
    return np.stack([chebyshev_points(left, right, _POINTS) for left, right in pairwise(edges)])


def noise_table(activation: Activation, low: float, high: float) -> NoiseTable | None:
    """Return the table for scales from `low` to `high`; None where it would not have all digits."""
    try:
        with np.errstate(all="ignore"):
            table = NoiseTable(activation, low, high)
            return table if table.resolved else None
    except InvalidInputError:  # it overflows so far out
        return None


class NoisyPairs:
    """Distance and slope of pairs as functions of their angles.

    Parameters
    ----------
    table : NoiseTable
    pairs : Pairs
    """

    def __init__(self, table: NoiseTable, pairs: Pairs) -> None:
        self._table = table
        # A pair has no order: the noise is that of the larger scale.
        order = np.argsort([pairs.sigma_u, pairs.sigma_v], axis=0)
        self._sigma = np.take_along_axis(np.stack([pairs.sigma_u, pairs.sigma_v]), order, axis=0)
        self._size = np.take_along_axis(np.stack([pairs.size_u, pairs.size_v]), order, axis=0)
        self._pairs = pairs

    def __call__(self, index: IntArray, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what `difference_form` does, of some pairs at these angles."""
        found = np.empty((2, len(index)))
        spreads = self._sigma[1, index] * np.sin(theta)
        with np.errstate(divide="ignore"):
            octaves = np.maximum(np.floor(np.log2(self._table.high / spreads)), 0)
        for number in np.unique(octaves):
            at = np.flatnonzero(octaves == number)
            if number >= _MOST_OCTAVES:
                found[:, at] = difference_form(self._table.activation, self._pairs.at(index[at], theta[at]))
                continue
            found[:, at] = self._sums(int(number), index[at], theta[at], spreads[at])
        return found[0], found[1]

    def _sums(self, number: int, index: IntArray, theta: FloatArray, spreads: FloatArray) -> FloatArray:
        table, octave = self._table, self._table.octave(number)
        low, high = np.log(table.interval(number))
        basis = chebyshev_polynomials((2 * np.log(spreads) - low - high) / (high - low), _SPREADS)
        of_pairs = self._sigma[:, index], self._size[:, index], theta, self._pairs.sign[index]
        noisy = octave.edges, octave.noisy, octave.coefficients, np.ascontiguousarray(basis.T)
        return np.asarray(pair_sums(*of_pairs, table.edges, table.exact, *noisy, *legendre(_OUTER)))
