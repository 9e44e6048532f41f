"""Kernel ridge regression by conjugate gradients: products with the kernel alone, none of its n² entries changed.

The system (K + δ) a = y of every ridge is preconditioned by a Nyström approximation of K from some of the samples,
K ≈ U Λ Uᵀ of rank r: with it the few large eigenvalues, which make the system hard, are nearly one number (Frangella,
Tropp, Udell, SIAM J. Matrix Anal. Appl. 44, 2023).  Leave-one-out needs the diagonal of (K + δ)⁻¹ as well.  It is
estimated from random signs z, as the mean of z·(K + δ)⁻¹z, with the preconditioner, whose diagonal is known, to take
off what it has of the noise (Hutchinson's estimator with a control variate).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.learning.places import Host, Place
from rmtdeq.learning.ridge import RidgeFit, RidgeProblem, ridge_grid, smallest_resolved

_PROBES = 32
_TOLERANCE, _ROUGH = 1e-5, 3e-3
"""Of what is left of targets and of probes, relative."""

_MOST_STEPS = 1000
_LEAST_RANK, _MOST_RANK = 2048, 4096
_JITTER = 10.0
"""Units of rounding that are added to the Nyström samples' own kernel."""

_ROWS = 1024


@dataclass(frozen=True, eq=False)
class NystromFactors:
    """The leading eigenvalues and vectors of a kernel, from its columns for some of the samples.

    Attributes
    ----------
    values : ndarray (r,)
        Descending.
    vectors : ndarray (n, r), or tensor
        Orthonormal.
    """

    values: FloatArray
    vectors: Any

    @classmethod
    def of(cls, columns: Any, chosen: IntArray, precision: np.dtype[Any], place: Place) -> NystromFactors:
        """Decompose C W⁻¹ Cᵀ, with C (n, r) columns of the kernel and W its square for the `chosen` samples."""
        rounding = float(np.finfo(precision).eps)
        square = place.cast(columns[place.rows(chosen)], np.dtype(float))
        shift = _JITTER * rounding * float(square.diagonal().sum())
        place.add_to_diagonal(square, shift)
        # C L⁻ᵀ, of which the left singular vectors are wanted.
        factor = place.solve_lower(place.cholesky(square), place.cast(columns.T, np.dtype(float))).T
        found, turned = place.eigh(factor.T @ factor)
        values = place.take(found)
        # They ascend.
        kept = np.flatnonzero(values > len(values) * rounding * values[-1])[::-1]
        values = values[kept]
        vectors = factor @ (turned[:, place.rows(kept.copy())] / place.put(np.sqrt(values)))
        return cls(np.maximum(values - shift, 0.0), place.cast(vectors, precision))


@dataclass(frozen=True, eq=False)
class IterativePath:
    """Kernel ridge regression with any ridge, one product with the kernel for each step.

    Attributes
    ----------
    product : callable
        The kernel times vectors (n, b) in double precision, where these are, rows and columns scaled by the roots of
        the weights.
    factors : NystromFactors
    problem : RidgeProblem
    trace : float
    probes : ndarray (n, s)
        Random signs.
    precision : dtype
        Of the kernel's entries.
    place : Place
        Where vectors are.
    kept : Checkpoint, optional
        Where solutions are kept, and taken from where they are there.
    """

    product: Callable[[Any], Any]
    factors: NystromFactors
    problem: RidgeProblem
    trace: float
    probes: FloatArray
    precision: np.dtype[Any]
    place: Place
    kept: Checkpoint | None = None

    @property
    def smallest_ridge(self) -> float:
        """The least ridge with which the smallest eigenvalues are told from rounding, whatever they are."""
        return smallest_resolved(float(self.factors.values[0]), self.precision)

    def grid(self) -> FloatArray:
        """Return ridges to choose from where nothing is known of them; see `RidgePath.grid`."""
        return ridge_grid(self.trace, len(self.problem.roots), self.smallest_ridge)

    def fits(self, ridges: FloatArray, progress: bool = True) -> list[RidgeFit]:
        """Return the regressions with several ridges, from the largest on, each begun where the last one ended.

        Raises
        ------
        ConvergenceError
            A ridge so small that rounding keeps conjugate gradients from ending.
        """
        order = np.argsort(-np.asarray(ridges), kind="stable")
        columns = np.column_stack([self.problem.columns, self.probes])
        found: dict[int, RidgeFit] = {}
        start: FloatArray | None = None
        with Stage("ridges, by conjugate gradients", len(order), show=progress) as stage:
            for at in order:
                start = self._remembered(float(ridges[at]), columns, start)
                found[int(at)] = self._fit(float(ridges[at]), start)
                stage.update()
        return [found[at] for at in range(len(order))]

    def _remembered(self, ridge: float, B: FloatArray, start: FloatArray | None) -> FloatArray:
        if self.kept is None:
            return self._solved(ridge, B, start)
        name = f"ridge-{ridge:.17g}"
        known = self.kept.load(name)
        if known is None:
            known = {"solved": self._solved(ridge, B, start)}
            self.kept.save(name, known)
        return known["solved"]

    def _preconditioned(self, ridge: float, V: Any, rest: float) -> Any:
        """U ((Λ + δ)⁻¹ - rest) Uᵀ V + rest V."""
        U, place = self.factors.vectors, self.place
        weights = place.put(1 / (self.factors.values + ridge) - rest)
        inner = weights[:, None] * (U.T @ place.cast(V, self.precision))
        return place.cast(U @ place.cast(inner, self.precision), np.dtype(float)) + rest * V

    def _solved(self, ridge: float, targets: FloatArray, start: FloatArray | None) -> FloatArray:
        """Solve (K + δ) A = B by preconditioned conjugate gradients, column by column at the price of one."""
        place = self.place
        rest = 1 / (float(self.factors.values[-1]) + ridge)
        B = place.put(targets)
        A = 0 * B if start is None else place.put(start.copy())
        R = 1 * B if start is None else B - self.product(A) - ridge * A
        least = np.linalg.norm(targets, axis=0)
        least *= np.where(np.arange(len(least)) < len(least) - self.probes.shape[1], _TOLERANCE, _ROUGH)
        Z = self._preconditioned(ridge, R, rest)
        P, rho = 1 * Z, (R * Z).sum(0)
        for _ in range(_MOST_STEPS):
            columns = np.flatnonzero(np.sqrt(place.take((R * R).sum(0))) > least)
            if not len(columns):
                return place.take(A)
            going = place.rows(columns)
            Q = self.product(P[:, going]) + ridge * P[:, going]
            step = rho[going] / (P[:, going] * Q).sum(0)
            A[:, going] += step * P[:, going]
            R[:, going] -= step * Q
            Z = self._preconditioned(ridge, R[:, going], rest)
            now = (R[:, going] * Z).sum(0)
            P[:, going] = Z + (now / rho[going]) * P[:, going]
            rho[going] = now
        raise ConvergenceError(
            f"Conjugate gradients did not end in {_MOST_STEPS} steps with ridge = {ridge:g}; take a larger ridge, or "
            "dtype='float64'."
        )

    def _fit(self, ridge: float, solved: FloatArray) -> RidgeFit:
        split = solved.shape[1] - self.probes.shape[1]
        return self.problem.fit(ridge, solved[:, :split], self._diagonal(ridge, solved[:, split:]))

    def _diagonal(self, ridge: float, solved: FloatArray) -> FloatArray:
        """Estimate the diagonal of (K + δ)⁻¹ from its products with the probes."""
        probes, U, place = self.probes, self.factors.vectors, self.place
        known = 1 / (self.factors.values + ridge)
        samples = probes * solved
        # What the preconditioner leaves out gets the trace that there is.
        n, rank = U.shape
        rest = max((float(samples.mean(axis=1).sum()) - float(known.sum())) / (n - rank), 0.0) if n > rank else 0.0
        samples -= probes * place.take(self._preconditioned(ridge, place.put(probes), rest))
        exact, weights = np.full(n, rest), place.put(known - rest)
        for start in range(0, n, _ROWS):
            part = slice(start, start + _ROWS)
            exact[part] += place.take(place.cast(U[part], np.dtype(float)) ** 2 @ weights)
        # What is left of it is believed as far as it varies more between samples than by the probes (James and Stein).
        left = samples.mean(axis=1) / exact
        noise = float(np.mean(samples.var(axis=1, ddof=1) / exact**2)) / probes.shape[1]
        left *= max(0.0, 1 - noise / max(float(np.mean(left**2)), noise))
        # No entry is larger than 1/δ, or smaller than that of the largest diagonal alone.
        return np.clip(exact * (1 + left), 1 / (self.trace + ridge), 1 / ridge)


def iterative_path(
    product: Callable[[Any], Any],
    columns: Callable[[IntArray], Any],
    trace: float,
    problem: RidgeProblem,
    precision: np.dtype[Any],
    *,
    rank: int | None = None,
    seed: int = 0,
    place: Place | None = None,
    kept: Checkpoint | None = None,
) -> IterativePath:
    """Prepare kernel ridge regression by conjugate gradients.

    Parameters
    ----------
    product : callable
        The kernel (n, n) times vectors (n, b) in double precision.
    columns : callable
        Columns of the kernel, (n, r), for the numbers of some samples.
    trace : float
        Of the weighted kernel.
    problem : RidgeProblem
    precision : dtype
        Of the kernel's entries.
    rank : int, optional
        Samples of the preconditioner; by default a sixteenth of them, but 2048 at least and 4096 at most.
    seed : int
        Of those, and of the probes.
    place : Place, optional
        Where `product` and `columns` have their vectors; arrays of numpy by default.
    kept : Checkpoint, optional
        Of this problem.
    """
    place = Host() if place is None else place
    n = len(problem.roots)
    s = place.put(problem.roots)
    rng = np.random.default_rng(seed)
    r = min(n, max(_LEAST_RANK, min(math.ceil(n / 16), _MOST_RANK)) if rank is None else rank)
    chosen = np.sort(rng.choice(n, r, replace=False))
    weighted = place.cast(s[:, None] * columns(chosen) * s[place.rows(chosen)], precision)
    factors = NystromFactors.of(weighted, chosen, precision, place)
    probes = rng.choice([-1.0, 1.0], (n, _PROBES))

    def scaled(V: Any) -> Any:
        return s[:, None] * product(s[:, None] * V)

    return IterativePath(scaled, factors, problem, trace, probes, precision, place, kept)
