"""A spectrum known through the Gauss quadrature of a block Krylov subspace (stochastic Lanczos quadrature)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib.solvers import KrylovSubspace, RitzPairs
from rmtdeq._lib.types import BoolArray, FloatArray
from rmtdeq.spectra.christoffel import ChristoffelFunction, christoffel

_ROUNDING = 1e-12
"""Of the largest eigenvalue: what is smaller cannot be told from zero."""

_CONVERGED = 1e-7
"""Of a Ritz value: what it may be off, to be called an eigenvalue."""

_CERTAIN = 0.9999
"""Of the mass of a Ritz value that has converged: what is certainly there."""

_GROUPS = 4
_GAP = 0.1
_UNIFORM = 12.0
"""The variance of a uniform distribution is its width squared, over this."""


@dataclass(frozen=True, eq=False)
class SpectralQuadrature:
    """The distribution of eigenvalues, as random probe vectors see it.

    For a probe z the masses ``(z·v)²`` of the eigenvectors v have a quadrature at the Ritz values; the average over
    probes is the spectrum's.  Nodes that have converged are eigenvalues: the distribution function jumps there.  The
    others come in groups of as many as there are probes: single ones say little of where the mass is.  Between two
    groups the distribution function is taken to rise evenly in log x, from the middle of one group's mass to that of
    the next, and between two jumps it keeps the mass of the nodes that are there.

    Attributes
    ----------
    nodes : ndarray (q,)
        Ascending.
    weights : ndarray (q,)
        Their masses, the average over probes; the sum is 1.
    resolved : ndarray (q,) of bool
        Which nodes are eigenvalues.
    count : int
        How many eigenvalues this is the distribution of.
    probes : int
        Of a Gaussian distribution, each with norm one in the space of these eigenvalues' vectors.
    open : ChristoffelFunction
        What the moments of the probes leave open.
    highest : float
        None of the eigenvalues is larger.
    rounding : float
        Eigenvalues below cannot be told from zero.
    """

    nodes: FloatArray
    weights: FloatArray
    resolved: BoolArray
    count: int
    probes: int
    open: ChristoffelFunction
    highest: float
    rounding: float

    def __repr__(self) -> str:
        return f"SpectralQuadrature({self.nodes.size} nodes, {self.probes} probes, of {self.count} eigenvalues)"

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Return the share of the eigenvalues up to x."""
        x = np.asarray(x, dtype=float)
        log_x, (at, cdf) = self._log(x), self._curve
        after = np.searchsorted(at, log_x, side="right")
        left, right = np.maximum(after - 1, 0), np.minimum(after, at.size - 1)
        # Jumps have two points at one place; between two places there is a slope.
        span = np.where(at[right] > at[left], at[right] - at[left], 1.0)
        inner = cdf[left] + (cdf[right] - cdf[left]) * np.clip((log_x - at[left]) / span, 0.0, 1.0)
        inner = np.where(after == 0, 0.0, np.where(after == at.size, 1.0, inner))
        return np.where(x < 0, 0.0, np.where(x >= self.highest, 1.0, inner))

    def cdf_error(self, x: ArrayLike) -> FloatArray:
        """Return its standard error where x is no eigenvalue: zero only outside the range of eigenvalues.

        A probe sees a share f of N eigenvalues with variance 2f(1 - f)/(N + 2); f is estimated by Laplace's rule of
        succession, so that what no probe has seen is not taken to be impossible.  Added in squares is what the moments
        of the probes leave open: their distribution function is taken to be anywhere between its bounds.
        """
        x = np.asarray(x, dtype=float)
        return np.where(self._within(x), self._error(self.cdf(x), self._missing(x)), 0.0)

    def masses(self, edges: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the mass between neighbouring edges, the lowest edge included, and its standard error."""
        edges = np.array(edges, dtype=float)
        edges[0] = np.nextafter(max(edges[0], -1.0), -np.inf)  # there is nothing below zero
        mass, within, missing = np.diff(self.cdf(edges)), self._within(edges), self._missing(edges)
        error = self._error(mass, np.hypot(missing[:-1], missing[1:]))
        return mass, np.where(within[:-1] | within[1:], error, 0.0)

    def quantiles(self, levels: ArrayLike) -> FloatArray:
        """Return the inverse of the distribution function."""
        at, cdf = self._curve
        log_x = np.interp(np.asarray(levels, dtype=float), cdf, at)
        return np.where(log_x <= self._log(np.zeros(())), 0.0, np.minimum(np.exp(log_x), self.highest))

    def _log(self, x: FloatArray) -> FloatArray:
        # Rounding can make the smallest nodes of a positive semi-definite matrix negative.
        return np.log(np.maximum(x, max(self.rounding, np.finfo(float).tiny)))

    @cached_property
    def _curve(self) -> tuple[FloatArray, FloatArray]:
        """Points of the distribution function, log x ascending; a jump has two."""
        log_x, cdf = self._log(self.nodes), np.append(0.0, np.cumsum(self.weights))
        points = []
        # Nodes between two jumps or gaps belong together; a jump is by itself.
        breaks = self.resolved[1:] | self.resolved[:-1] | self._gaps(cdf)
        for run in np.split(np.arange(log_x.size), np.flatnonzero(breaks) + 1):
            start, end = int(run[0]), int(run[-1]) + 1
            points.append((log_x[start], cdf[start]))
            size = self.probes if run.size >= _GROUPS * self.probes else 1
            # Counted from the top, where nodes have converged; the lowest group may be smaller.
            for after in range(end - (end - start - 1) // size * size, end + 1, size):
                group = slice(max(after - size, start), after)
                mass = float(self.weights[group].sum())
                if mass > 0 and not self.resolved[start]:
                    middle = float(self.weights[group] @ log_x[group]) / mass
                    points.append((middle, (cdf[group.start] + cdf[after]) / 2))
            points.append((log_x[end - 1], cdf[end]))
        at, below = np.array(points).T
        return np.maximum.accumulate(at), below / below[-1]

    def _gaps(self, cdf: FloatArray) -> BoolArray:
        """Between which nodes the moments leave room for little of what there is on both sides."""
        after = np.arange(1, self.nodes.size)
        near = cdf[np.minimum(after + self.probes, cdf.size - 1)] - cdf[np.maximum(after - self.probes, 0)]
        return self._missing((self.nodes[1:] + self.nodes[:-1]) / 2) < _GAP * near

    def _within(self, x: FloatArray) -> BoolArray:
        """Whether there may be eigenvalues on both sides."""
        return (x >= 0) & (x < self.highest)

    def _error(self, mass: FloatArray, missing: FloatArray) -> FloatArray:
        """Standard error of a mass, of which so much may be on the other side of an edge."""
        share = (self.count * mass + 1) / (self.count + 2)
        return np.sqrt(2 * share * (1 - share) / (self.probes * (self.count + 2)) + missing**2 / _UNIFORM)

    def _missing(self, x: FloatArray) -> FloatArray:
        """How much of the mass may be on the other side of x."""
        return np.where(self._within(x), self.open(np.where(self._within(x), x, 0.0)), 0.0)


def quadrature_of(subspace: KrylovSubspace, steps: int, n: int, most: int) -> SpectralQuadrature:
    """Return the quadrature of a matrix of size n, from a subspace begun with the probes.

    Taking eigenvectors out of the probes leaves the quadrature of the rest, with less variance than that of the whole;
    so it is with the largest that have converged, at most `most`.  Only whole eigenspaces are taken out: of one of more
    dimensions than there are probes the subspace holds what the probes see of it, and nothing would be left of it.
    """
    pairs, probes = subspace.ritz(), subspace.start.shape[0]
    tolerance = tolerance_of(pairs)
    resolved = pairs.residuals <= tolerance
    known = _whole(pairs, tolerance, resolved, probes, min(most, pairs.values.size - 1))
    weights = (subspace.start.T @ pairs.coordinates[:probes]) ** 2
    rest = slice(0, pairs.values.size - known)
    # In relation to what a probe has in the space of the rest.
    weights = (weights / weights[:, rest].sum(axis=1, keepdims=True)).mean(axis=0)
    nodes = np.maximum(pairs.values, 0.0)
    return SpectralQuadrature(
        nodes[rest],
        weights[rest],
        resolved[rest],
        n - known,
        probes,
        christoffel(nodes, np.where(resolved, 1 - _CERTAIN, 1.0) * weights, steps),
        float(pairs.values[-max(known, 1)]),
        _ROUNDING * float(pairs.values[-1]),
    )


def tolerance_of(pairs: RitzPairs) -> FloatArray:
    """What a Ritz value may be off, and what tells eigenvalues apart."""
    return _CONVERGED * abs(pairs.values) + _ROUNDING * float(abs(pairs.values).max(initial=0.0))


def _whole(pairs: RitzPairs, tolerance: FloatArray, resolved: BoolArray, probes: int, most: int) -> int:
    """How many of the largest Ritz pairs, at most so many, are all of their eigenspaces."""
    if most <= 0:
        return 0
    top = slice(pairs.values.size - most, None)
    whole = (resolved[top] & (pairs.copies(top, np.maximum(tolerance, pairs.residuals)) < probes))[::-1]
    known = most if whole.all() else int(np.argmin(whole))
    while known and pairs.values[-known] - pairs.values[-known - 1] <= tolerance[-known]:
        known -= 1
    return known
