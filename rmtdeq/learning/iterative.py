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

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq._lib.errors import ConvergenceError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray, IntArray
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
    vectors : ndarray (n, r)
        Orthonormal.
    """

    values: FloatArray
    vectors: FloatArray

    @classmethod
    def of(cls, columns: FloatArray, chosen: IntArray) -> NystromFactors:
        """Decompose C W⁻¹ Cᵀ, with C (n, r) columns of the kernel and W its square for the `chosen` samples."""
        square = columns[chosen].astype(float)
        shift = _JITTER * np.finfo(columns.dtype).eps * float(np.trace(square))
        square[np.diag_indices_from(square)] += shift
        root = cholesky(square, lower=True, overwrite_a=True, check_finite=False)
        # C L⁻ᵀ, of which the left singular vectors are wanted.
        factor = solve_triangular(root, columns.T, lower=True, check_finite=False).T
        values, turned = np.linalg.eigh(factor.T @ factor)
        keep = values > len(values) * np.finfo(columns.dtype).eps * values[-1]
        values, turned = values[keep][::-1], turned[:, keep][:, ::-1]
        vectors = factor @ (turned / np.sqrt(values))
        return cls(np.maximum(values - shift, 0.0), vectors.astype(columns.dtype))


@dataclass(frozen=True, eq=False)
class IterativePath:
    """Kernel ridge regression with any ridge, one product with the kernel for each step.

    Attributes
    ----------
    product : callable
        The kernel times vectors (n, b), rows and columns scaled by the roots of the weights.
    factors : NystromFactors
    problem : RidgeProblem
    trace : float
    probes : ndarray (n, s)
        Random signs.
    precision : dtype
        Of the kernel's entries.
    kept : Checkpoint, optional
        Where solutions are kept, and taken from where they are there.
    """

    product: Callable[[FloatArray], FloatArray]
    factors: NystromFactors
    problem: RidgeProblem
    trace: float
    probes: FloatArray
    precision: np.dtype[np.floating]
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

    def _preconditioned(self, ridge: float, V: FloatArray, rest: float) -> FloatArray:
        """U ((Λ + δ)⁻¹ - rest) Uᵀ V + rest V."""
        U = self.factors.vectors
        weights = 1 / (self.factors.values + ridge) - rest
        return np.asarray(U @ (weights[:, None] * (U.T @ V.astype(U.dtype))).astype(U.dtype) + rest * V)

    def _solved(self, ridge: float, B: FloatArray, start: FloatArray | None) -> FloatArray:
        """Solve (K + δ) A = B by preconditioned conjugate gradients, column by column at the price of one."""
        rest = 1 / (float(self.factors.values[-1]) + ridge)
        A = np.zeros_like(B) if start is None else start.copy()
        R = B.copy() if start is None else B - self.product(A) - ridge * A
        least = np.linalg.norm(B, axis=0)
        least *= np.where(np.arange(len(least)) < len(least) - self.probes.shape[1], _TOLERANCE, _ROUGH)
        Z = self._preconditioned(ridge, R, rest)
        P, rho = Z.copy(), np.einsum("ij,ij->j", R, Z)
        for _ in range(_MOST_STEPS):
            going = np.linalg.norm(R, axis=0) > least
            if not going.any():
                return A
            Q = self.product(P[:, going]) + ridge * P[:, going]
            step = rho[going] / np.einsum("ij,ij->j", P[:, going], Q)
            A[:, going] += step * P[:, going]
            R[:, going] -= step * Q
            Z = self._preconditioned(ridge, R[:, going], rest)
            now = np.einsum("ij,ij->j", R[:, going], Z)
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
        probes, U, known = self.probes, self.factors.vectors, 1 / (self.factors.values + ridge)
        samples = probes * solved
        # What the preconditioner leaves out gets the trace that there is.
        n, rank = U.shape
        rest = max((float(samples.mean(axis=1).sum()) - float(known.sum())) / (n - rank), 0.0) if n > rank else 0.0
        samples -= probes * self._preconditioned(ridge, probes, rest)
        exact = np.full(n, rest)
        for part in np.array_split(np.arange(n), -(-n // _ROWS)):
            exact[part] += np.square(U[part].astype(float)) @ (known - rest)
        # What is left of it is believed as far as it varies more between samples than by the probes (James and Stein).
        left = samples.mean(axis=1) / exact
        noise = float(np.mean(samples.var(axis=1, ddof=1) / exact**2)) / probes.shape[1]
        left *= max(0.0, 1 - noise / max(float(np.mean(left**2)), noise))
        # No entry is larger than 1/δ, or smaller than that of the largest diagonal alone.
        return np.clip(exact * (1 + left), 1 / (self.trace + ridge), 1 / ridge)


def iterative_path(
    product: Callable[[FloatArray], FloatArray],
    columns: Callable[[IntArray], FloatArray],
    trace: float,
    problem: RidgeProblem,
    precision: np.dtype[np.floating],
    *,
    rank: int | None = None,
    seed: int = 0,
    kept: Checkpoint | None = None,
) -> IterativePath:
    """Prepare kernel ridge regression by conjugate gradients.

    Parameters
    ----------
    product : callable
        The kernel (n, n) times vectors (n, b).
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
    kept : Checkpoint, optional
        Of this problem.
    """
    s = problem.roots
    n = len(s)
    rng = np.random.default_rng(seed)
    r = min(n, max(_LEAST_RANK, min(math.ceil(n / 16), _MOST_RANK)) if rank is None else rank)
    chosen = np.sort(rng.choice(n, r, replace=False))
    factors = NystromFactors.of((s[:, None] * columns(chosen) * s[chosen]).astype(precision, copy=False), chosen)
    probes = rng.choice([-1.0, 1.0], (n, _PROBES))

    def weighted(V: FloatArray) -> FloatArray:
        return np.asarray(s[:, None] * product(s[:, None] * V))

    return IterativePath(weighted, factors, problem, trace, probes, precision, kept)
