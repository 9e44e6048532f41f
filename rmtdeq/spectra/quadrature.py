"""A spectrum known through the Gauss quadrature of a block Krylov subspace (stochastic Lanczos quadrature)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._types import FloatArray
from rmtdeq.solvers import KrylovSubspace

_FLOOR = 1e-12
_CONVERGED = 1e-7
_GROUPS = 4


@dataclass(frozen=True, eq=False)
class SpectralQuadrature:
    """The distribution of eigenvalues, as random probe vectors see it.

    For a probe z the masses ``(z·v)²`` of the eigenvectors v have a quadrature at the Ritz values; the average over
    probes is the spectrum's.  Nodes of a block come in groups of as many as there are probes: single ones say little of
    where the mass is.  Between two groups the distribution function is taken to rise evenly in log x, from the middle
    of one group's mass to that of the next.

    Attributes
    ----------
    nodes : ndarray (q,)
        Ascending.
    weights : ndarray (probes, q)
        Each row has sum 1.
    count : int
        How many eigenvalues this is the distribution of: all but the largest.
    coarser : SpectralQuadrature or None
        The same after three quarters of the steps, which shows how far the quadrature has converged.
    """

    nodes: FloatArray
    weights: FloatArray
    count: int
    coarser: SpectralQuadrature | None = None

    def __repr__(self) -> str:
        return f"SpectralQuadrature({self.nodes.size} nodes, {len(self.weights)} probes, of {self.count} eigenvalues)"

    def cdf(self, x: FloatArray) -> FloatArray:
        """Return the distribution function."""
        return np.interp(self._log(x), *self._curve(self.weights.mean(axis=0)), left=0.0, right=1.0)

    def cdf_error(self, x: FloatArray) -> FloatArray:
        """Return its standard error: over probes, and what the last quarter of the steps has changed."""
        return self._error(self._each(x), None if self.coarser is None else self.coarser._each(x))

    def masses(self, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the mass between neighbouring edges, and its standard error."""
        mass = np.diff(self._each(edges), axis=1)
        coarser = None if self.coarser is None else np.diff(self.coarser._each(edges), axis=1)
        return mass.mean(axis=0), self._error(mass, coarser)

    def quantiles(self, levels: FloatArray) -> FloatArray:
        """Return the inverse of the distribution function."""
        log_x, cdf = self._curve(self.weights.mean(axis=0))
        return np.exp(np.interp(levels, cdf, log_x))

    def _each(self, x: FloatArray) -> FloatArray:
        """Distribution functions of the probes, (probes, x)."""
        at = self._log(x)
        return np.array([np.interp(at, *self._curve(weights), left=0.0, right=1.0) for weights in self.weights])

    def _log(self, x: FloatArray) -> FloatArray:
        # Rounding can make the smallest nodes of a positive semi-definite matrix negative.
        return np.log(np.maximum(x, max(_FLOOR * abs(self.nodes[-1]), np.finfo(float).tiny)))

    def _curve(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points of the distribution function, log x ascending."""
        log_x, size = self._log(self.nodes), self._together
        # Counted from the top, where nodes have converged; the lowest group may be smaller.
        starts = np.unique(np.append(np.arange(log_x.size % size, log_x.size, size), 0))
        share = self.weights.mean(axis=0)
        middle_x = np.add.reduceat(share * log_x, starts) / np.add.reduceat(share, starts)
        mass = np.add.reduceat(weights, starts)
        return (
            np.concatenate([log_x[:1], middle_x, log_x[-1:]]),
            np.concatenate([[0.0], np.cumsum(mass) - mass / 2, [1.0]]),
        )

    @property
    def _together(self) -> int:
        """How many nodes are taken together: they come in groups of as many as there are probes."""
        probes = self.weights.shape[0]
        return probes if self.nodes.size >= _GROUPS * probes else 1

    def _error(self, values: FloatArray, coarser: FloatArray | None) -> FloatArray:
        count = values.shape[0]
        variance = values.var(axis=0, ddof=1) / count if count > 1 else np.zeros(values.shape[1:])
        changed = 0.0 if coarser is None else values.mean(axis=0) - coarser.mean(axis=0)
        return np.sqrt(variance + changed**2)


def quadrature_of(subspace: KrylovSubspace, coarser_dimension: int, n: int, most: int) -> SpectralQuadrature:
    """Return the quadrature of a matrix of size n, from a subspace begun with the probes.

    Taking eigenvectors out of the probes leaves the quadrature of the rest, with less variance than that of the whole;
    so it is with the largest that have converged, at most `most`.
    """
    pairs = subspace.ritz()
    converged = pairs.residuals[::-1] <= _CONVERGED * np.maximum(pairs.values[::-1], 0.0)
    # The null space of a singular matrix is not taken out: it may hold more vectors than were found.
    converged &= pairs.values[::-1] > _CONVERGED * pairs.values[-1]
    known = min(most, int(np.argmin(converged)) if not converged.all() else converged.size - 1)
    coarser = None
    if coarser_dimension > max(known, subspace.start.shape[0]):
        coarser = _quadrature(subspace, coarser_dimension, known, n - known, None)
    return _quadrature(subspace, subspace.dimension, known, n - known, coarser)


def _quadrature(
    subspace: KrylovSubspace, dimension: int, known: int, count: int, coarser: SpectralQuadrature | None
) -> SpectralQuadrature:
    pairs, rest = subspace.ritz(dimension), slice(0, dimension - known)
    weights = (subspace.start.T @ pairs.coordinates[: subspace.start.shape[0], rest]) ** 2
    return SpectralQuadrature(pairs.values[rest], weights / weights.sum(axis=1, keepdims=True), count, coarser)
