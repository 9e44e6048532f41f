"""Kernel ridge regression, one decomposition of the kernel for all ridges.

Minimised is Σ_i w_i |y_i - b - f(x_i)|² + δ‖f‖² over the functions f = Σ_j a_j K(·, x_j) and constants b.  With s = √w,
A = diag(s) K diag(s) + δ and P = A⁻¹ - A⁻¹ s sᵀ A⁻¹ / (sᵀ A⁻¹ s), or P = A⁻¹ without a constant,

    a = s · P (s · y),    y_i - (prediction of y_i from the others) = [P (s · y)]_i / (s_i P_ii),

the latter without any of the n refits (Allen's PRESS; with a constant Cawley and Talbot, Neural Networks 17, 2004).
Generalised cross-validation puts the mean of P_ii in the place of each (Golub, Heath, Wahba 1979).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.arrays import is_tensor
from rmtdeq._lib.errors import IllPosedError, InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.learning.places import place_of

_ROUNDING = 4.0
"""Eigenvalues below so many units of rounding of the largest are not told from zero."""

_SMALLEST = 1e-6
_A_DECADE = 2
_ROWS = 256


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Kernel ridge regression with one ridge.

    Attributes
    ----------
    ridge : float
        δ.
    coefficients : ndarray (n, k)
        a, one column a target: predictions are ``K(x, X) @ coefficients + intercept``.
    intercept : ndarray (k,)
        b.
    residuals : ndarray (n, k)
        Of each sample's targets under the regression on all others, exactly.
    loo_error : float
        Mean square of these, weighted: the leave-one-out estimate of the mean squared error.
    gcv_error : float
        The same by generalised cross-validation.
    """

    ridge: float
    coefficients: FloatArray
    intercept: FloatArray
    residuals: FloatArray
    loo_error: float
    gcv_error: float


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Kernel ridge regression with any ridge, from the eigenvalues and vectors of one kernel.

    Attributes
    ----------
    eigenvalues : ndarray (n,)
        Of diag(s) K diag(s), ascending, s the roots of the weights.
    vectors : ndarray (n, n)
        Its eigenvectors, one a column.
    problem : RidgeProblem
    """

    eigenvalues: FloatArray
    vectors: FloatArray
    problem: RidgeProblem

    @property
    def smallest_ridge(self) -> float:
        """The least ridge with which the smallest eigenvalue is told from rounding; zero where it is by itself."""
        lowest, highest = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        return max(0.0, smallest_resolved(highest, self.eigenvalues.dtype) - lowest)

    def grid(self) -> FloatArray:
        """Return ridges to choose from where nothing is known of them.

        Returns
        -------
        ndarray (m,), descending
            Two a decade, from the trace of the kernel, which leaves nothing but the constant, to a millionth of its
            mean diagonal, which interpolates, or to what rounding leaves.
        """
        return ridge_grid(float(self.eigenvalues.sum()), len(self.eigenvalues), self.smallest_ridge)

    def fit(self, ridge: float) -> RidgeFit:
        """Return the regression with one ridge, in some n² k operations.

        Raises
        ------
        InvalidInputError
            A ridge below zero.
        IllPosedError
            A kernel that is singular but for rounding, and a ridge too small to change that.
        """
        return self.fits([ridge])[0]

    def fits(self, ridges: Iterable[float]) -> list[RidgeFit]:
        """Return the regressions with several ridges, what they share computed once.

        Raises
        ------
        InvalidInputError, IllPosedError
            As for `fit`.
        """
        asked = [_ridge(ridge) for ridge in ridges]
        for ridge in asked:
            if ridge < self.smallest_ridge:
                raise_singular(ridge, self.smallest_ridge)
        inverses = 1 / (self.eigenvalues + np.array(asked, dtype=self.eigenvalues.dtype)[:, None])
        rows = self.vectors.T
        projected = rows @ self.problem.columns
        diagonals = np.zeros(inverses.shape)
        n = len(self.eigenvalues)
        for part in np.array_split(np.arange(n), -(-n // _ROWS)):
            diagonals += inverses[:, part] @ np.square(rows[part[0] : part[-1] + 1])
        return [
            self.problem.fit(ridge, self.vectors @ (inverse[:, None] * projected), diagonal)
            for ridge, inverse, diagonal in zip(asked, inverses, diagonals, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class RidgeProblem:
    """What is to be learnt, apart from the kernel.

    Attributes
    ----------
    targets : ndarray (n, k)
        Less `mean`.
    mean : ndarray (k,)
        What was taken off the targets: their weighted mean, or zero where there is no constant.
    roots : ndarray (n,)
        s, the roots of the weights.
    constant : bool
        Whether a constant is learnt.
    """

    targets: FloatArray
    mean: FloatArray
    roots: FloatArray
    constant: bool

    @property
    def columns(self) -> FloatArray:
        """What A is to be solved for: s · y and, last, s."""
        return np.column_stack([self.roots[:, None] * self.targets, self.roots])

    def fit(self, ridge: float, solved: FloatArray, diagonal: FloatArray) -> RidgeFit:
        """Return the regression, from A⁻¹ times `columns` and the diagonal of A⁻¹."""
        s, total = self.roots, float(self.roots @ self.roots)
        solved, diagonal = solved.astype(float), diagonal.astype(float)
        projected, ones = solved[:, :-1], solved[:, -1]
        intercept = self.mean
        if self.constant:
            scale = float(s @ ones)
            shift = (s @ projected) / scale
            projected = projected - np.outer(ones, shift)
            diagonal = diagonal - ones**2 / scale
            intercept = intercept + shift
        residuals = projected / (diagonal * s)[:, None]
        n, k = projected.shape
        return RidgeFit(
            ridge,
            s[:, None] * projected,
            intercept,
            residuals,
            float(np.square(s[:, None] * residuals).sum()) / (total * k),
            n**2 * float(np.square(projected).sum()) / (total * k * float(diagonal.sum()) ** 2),
        )


def ridge_path(K: Any, y: ArrayLike, *, weights: ArrayLike | None = None, intercept: bool = True) -> RidgePath:
    """Decompose a kernel for kernel ridge regression with any number of ridges.

    Parameters
    ----------
    K : ndarray or tensor (n, n), float64 or float32, C-contiguous
        The kernel of the training samples, **overwritten**: there is room for it and its eigenvectors.  A tensor is
        decomposed on its device.
    y : array_like (n,) or (n, k)
        Targets.
    weights : array_like (n,), optional
        Positive; one by default.  Rows and columns of the kernel, and the targets, are scaled by their roots.
    intercept : bool
        Learn a constant beside the function; the ridge leaves it alone.

    Returns
    -------
    RidgePath

    Raises
    ------
    InvalidInputError
        Shapes that do not agree, NaN, weights that are not positive; a constant to be learnt from one sample.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> from rmtdeq.learning import ridge_path
    >>> X, y = rd.load_dataset("digits", n=200, seed=0)
    >>> path = ridge_path(rd.kernel(X, rd.DEQ("relu"), kind="ntk"), np.eye(10)[y])
    >>> best = min(map(path.fit, path.grid()), key=lambda fit: fit.loo_error)
    >>> left_out = np.eye(10)[y] - best.residuals
    >>> bool((left_out.argmax(axis=1) == y).mean() > 0.9)
    True
    """
    problem, place = _problem(K, y, weights, intercept), place_of(K)
    values, vectors = place.eigh(_weighted(K, problem.roots))
    return RidgePath(place.take(values), place.take(vectors), problem)


def ridge_fit(
    K: Any, y: ArrayLike, ridge: float, *, weights: ArrayLike | None = None, intercept: bool = True
) -> RidgeFit:
    """Solve kernel ridge regression with one ridge, by Cholesky's decomposition in the place of the kernel.

    Parameters
    ----------
    K, y, weights, intercept
        As for `ridge_path`; K is **overwritten**, and nothing else has n² entries.
    ridge : float
        δ >= 0, in the units of the kernel; zero interpolates.

    Returns
    -------
    RidgeFit
        What ``ridge_path(K, y).fit(ridge)`` is, in a fraction of the time.

    Raises
    ------
    InvalidInputError
        As for `ridge_path`, or a ridge below zero.
    IllPosedError
        A kernel that is singular but for rounding, and a ridge too small to change that.
    """
    ridge, problem, place = _ridge(ridge), _problem(K, y, weights, intercept), place_of(K)
    A = _weighted(K, problem.roots)
    least = smallest_resolved(float(A.diagonal().sum()), _precision(A))
    place.add_to_diagonal(A, ridge)
    smallest, solved, diagonal = place.solved(A, problem.columns)
    if not smallest > least:
        raise_singular(ridge, least)
    return problem.fit(ridge, solved, diagonal)


def _problem(K: Any, y: ArrayLike, weights: ArrayLike | None, intercept: bool) -> RidgeProblem:
    n = len(K)
    array = isinstance(K, np.ndarray)
    if not (array or is_tensor(K)) or K.shape != (n, n) or _name(K) not in ("float32", "float64"):
        raise InvalidInputError("K must be a square array of float64 or float32, as rmtdeq.kernel returns it.")
    if array and not (K.flags.writeable and K.flags.c_contiguous):
        raise InvalidInputError("K is overwritten and must be writeable and C-contiguous; pass K.copy().")
    sums = place_of(K).take(K.sum(1))
    check.finite(int(np.count_nonzero(~np.isfinite(sums))), "K")
    return ridge_problem(n, y, weights, intercept)


def _name(K: Any) -> str:
    return str(K.dtype).removeprefix("torch.")


def _precision(K: Any) -> np.dtype[Any]:
    return np.dtype(_name(K))


def ridge_problem(n: int, y: ArrayLike, weights: ArrayLike | None, intercept: bool) -> RidgeProblem:
    """Check targets and weights of n samples; parameters as for `ridge_path`."""
    targets = check.targets(y, n)
    if intercept and n < 2:
        raise InvalidInputError("An intercept is learnt from two samples at least; pass intercept=False.")
    w = np.ones(n) if weights is None else check.real_array(weights, "weights", ndim=1).astype(float)
    if len(w) != n or not (w > 0).all():
        raise InvalidInputError(f"weights must be positive, one for each of {n} samples; leave out those of weight 0.")
    targets = targets.reshape(n, -1)
    mean = np.average(targets, axis=0, weights=w) if intercept else np.zeros(targets.shape[1])
    return RidgeProblem(targets - mean, mean, np.sqrt(w), intercept)


def _weighted(K: Any, roots: FloatArray) -> Any:
    if not (roots == 1).all():
        s = place_of(K).put(roots.astype(_precision(K)))
        K *= s
        K *= s[:, None]
    return K


def ridge_grid(trace: float, n: int, smallest: float) -> FloatArray:
    """Return two ridges a decade, from the trace of a kernel to a millionth of its mean diagonal, descending.

    None is below twice the `smallest` that rounding leaves.
    """
    highest = check.number(trace, "The trace of K", low=0, open_low=True)
    lowest = max(_SMALLEST * highest / n, 2 * smallest)
    return np.geomspace(highest, lowest, max(2, round(_A_DECADE * math.log10(highest / lowest)) + 1))


def smallest_resolved(largest: float, dtype: np.dtype[Any]) -> float:
    """Return the eigenvalue that rounding leaves nothing of, beside the largest."""
    return _ROUNDING * float(np.finfo(dtype).eps) * largest


def _ridge(ridge: float) -> float:
    return check.number(ridge, "ridge", low=0)


def raise_singular(ridge: float, least: float) -> None:
    """Raise for a ridge below the least one that tells the smallest eigenvalue from rounding."""
    raise IllPosedError(
        f"With ridge = {ridge:g} the kernel of these samples is singular but for rounding: some are nearly the same; "
        f"take a ridge of {2 * least:.1e} at least, or double precision."
    )
