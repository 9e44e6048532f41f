"""The kernels' deterministic equivalents on data, as matrices and as operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.linear import SymmetricOperator
from rmtdeq._lib.types import LEVELS, SAMPLED, FloatArray, IntArray, Kind
from rmtdeq.data import DataMoments, GaussianMixture
from rmtdeq.data.mixture import require_mixture
from rmtdeq.kernels import kernel, kernel_diagonal
from rmtdeq.network import Network
from rmtdeq.theory.dressed import LEAST, Polar, PolynomialOperator, dressed
from rmtdeq.theory.expansion import ClassExpansion, expand

DIAGONALS = ("sample", "class")

_FITTED = 1000
"""Samples, of those that moments keep, to whose pairs a polynomial is fitted."""


class EquivalentOperator(SymmetricOperator):
    """``S_ab X Xᵀ + V C Vᵀ + diag`` as a scipy LinearOperator: a product costs O(n p) for each direction of S.

    V holds the class indicators, the norm fluctuations ψ and their squares, class by class.  Made by
    `equivalent_operator`.
    """

    def __init__(
        self, X: FloatArray, y: IntArray, expansion: ClassExpansion, gmm: GaussianMixture, diagonal: str
    ) -> None:
        n, p = X.shape
        classes = gmm.classes
        super().__init__(dtype=np.dtype(np.float64), shape=(n, n))
        indicator = np.zeros((n, classes))
        indicator[np.arange(n), y] = 1.0
        psi = (X * X).sum(axis=1) - gmm.squared_norms[y]
        values, vectors = np.linalg.eigh(expansion.gram)
        keep = values > 1e-14 * values[-1]
        self._X = X
        # X Xᵀ weighted by S_ab: one term for each direction of S.
        self._loadings = (vectors[:, keep] * np.sqrt(values[keep]))[y]
        squares = (psi**2)[:, None] * indicator
        self._low_rank = np.hstack([indicator / np.sqrt(p), psi[:, None] * indicator, squares])
        square, zero = np.sqrt(p) * expansion.norm_square, np.zeros((classes, classes))
        self._middle = np.block(
            [
                [expansion.constant, expansion.norm_linear, square.T],
                [expansion.norm_linear.T, expansion.norm_product, zero],
                [square, zero, zero],
            ]
        )
        self._shift = expansion.shifts[y]
        if expansion.diagonal is not None:
            powers = psi[:, None] ** np.arange(3 if diagonal == "sample" else 1)
            wanted = np.einsum("ik,ik->i", expansion.diagonal[y, : powers.shape[1]], powers)
            low_rank = np.einsum("ik,ik->i", self._low_rank @ self._middle, self._low_rank)
            self._shift = wanted - low_rank - (self._loadings**2).sum(axis=1) * (X * X).sum(axis=1)

    def _matmat(self, V: FloatArray) -> FloatArray:
        V = np.asarray(V, dtype=float).reshape(self.shape[0], -1)
        result = self._shift[:, None] * V + self._low_rank @ (self._middle @ (self._low_rank.T @ V))
        for loading in self._loadings.T:
            result += loading[:, None] * (self._X @ (self._X.T @ (loading[:, None] * V)))
        return result

    def dense(self) -> FloatArray:
        """Return the matrix, (n, n)."""
        result = self._low_rank @ self._middle @ self._low_rank.T
        result += (self._loadings @ self._loadings.T) * (self._X @ self._X.T)
        index = np.arange(self.shape[0])
        result[index, index] += self._shift
        return result


def equivalent_operator(
    X: ArrayLike,
    y: ArrayLike | None,
    deq: Network,
    gmm: GaussianMixture | DataMoments,
    kind: str | Sequence[str] = "ck",
    level: str = "classwise",
    *,
    tau0_squared: float | None = None,
    diagonal: str = "sample",
) -> Any:
    """Return the deterministic equivalent of a kernel as a linear operator; nothing of size n x n is formed.

    Parameters and errors as for `equivalent`.

    Returns
    -------
    EquivalentOperator, or PolynomialOperator, or a tuple of them, one for each kind
        A scipy LinearOperator (n, n), symmetric: a Gram matrix and a low-rank part, or a polynomial of the Gram
        matrix's entries.
    """
    X = check.samples(X).astype(np.float64, copy=False)
    check.choice(level, "level", (*LEVELS, SAMPLED))
    if level == SAMPLED:
        kinds = check.kinds(kind)
        if diagonal != DIAGONALS[0]:
            raise InvalidInputError(f"At level {SAMPLED!r} the diagonal is the kernel's own; leave diagonal= out.")
        return check.as_asked(kind, _polynomials(X, y, deq, gmm, kinds, tau0_squared))
    require_mixture(gmm)
    assert isinstance(gmm, GaussianMixture)
    if y is None:
        raise InvalidInputError(f"Level {level!r} needs the classes of the samples, y; level {SAMPLED!r} does not.")
    y = check.labels(y, X.shape[0], gmm.classes)
    if X.shape[1] != gmm.dimension:
        raise InvalidInputError(f"X has {X.shape[1]} features, the mixture has {gmm.dimension}.")
    kinds = check.kinds(kind)
    check.choice(diagonal, "diagonal", DIAGONALS)
    expansions = (expand(deq, gmm, name, level, tau0_squared) for name in kinds)
    return check.as_asked(kind, (EquivalentOperator(X, y, each, gmm, diagonal) for each in expansions))


def _polynomials(
    X: FloatArray,
    y: ArrayLike | None,
    deq: Network,
    gmm: GaussianMixture | DataMoments,
    kinds: tuple[Kind, ...],
    tau0_squared: float | None,
) -> Iterator[PolynomialOperator]:
    """Fit the kernels of the samples that are known of the data, and carry them over to X."""
    if y is not None:
        check.labels(y, X.shape[0])
    moments = gmm if isinstance(gmm, DataMoments) else DataMoments.from_mixture(gmm, kept=_FITTED)
    if X.shape[1] != moments.dimension:
        raise InvalidInputError(f"X has {X.shape[1]} features, the moments are of {moments.dimension}.")
    centre = moments.mean_squared_norm if tau0_squared is None else tau0_squared
    others = moments.samples[:_FITTED].astype(float)
    fitted = kernel(others, deq, kinds, tau0_squared=centre, progress=False)
    diagonals = kernel_diagonal(X, deq, kinds, tau0_squared=centre)
    for matrix, diagonal in zip(fitted, diagonals, strict=True):
        some = np.flatnonzero(others.any(axis=1) & (np.diag(matrix) > 0))
        if some.size < LEAST:
            raise InvalidInputError(f"A polynomial is fitted to pairs of {LEAST} samples or more that are not zero.")
        known = Polar.of(others[some], np.diag(matrix)[some])
        polynomial = dressed(known, matrix[np.ix_(some, some)], len(X), np.random.default_rng(0))
        yield PolynomialOperator(Polar.of(X, diagonal), polynomial)


def equivalent(
    X: ArrayLike,
    y: ArrayLike | None,
    deq: Network,
    gmm: GaussianMixture | DataMoments,
    kind: str | Sequence[str] = "ck",
    level: str = "classwise",
    *,
    tau0_squared: float | None = None,
    diagonal: str = "sample",
    memory_limit: float | None = None,
) -> Any:
    """Return the deterministic equivalent of a kernel on data from a mixture, or on any data.

    Parameters
    ----------
    X : array_like (n, p)
    y : array_like (n,), or None
        Labels 0 … K-1 of the mixture's classes.  Level ``"polynomial"`` makes nothing of them.
    deq : DEQ or Network
    gmm : GaussianMixture, or DataMoments at level "polynomial"
        What is known of the data.
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.
    level : str
        ``"classwise"``: second order in inner products and norms around each pair of classes; any activation.
        ``"paper"``: first order around one point for all classes; activations without mean.
        ``"polynomial"``: of the order that it takes in the cosines between samples, fitted to pairs of other samples,
        those of the moments or drawn from the mixture; any data, any activation.
    tau0_squared : float, optional
        Class-wise and polynomial: where a centred activation is centred, `gmm.mean_squared_norm` by default, which is
        where `kernel` centres on samples of the mixture.  Paper: the point of expansion, tr C°/p by default.
    diagonal : str
        Class-wise: ``"sample"``, the kernel's diagonal to second order in the norm of each sample, or ``"class"``,
        one value for each class, which is further from the kernel (for ReLU several times).
    memory_limit : float, optional
        Bytes that the result may take.

    Returns
    -------
    ndarray (n, n), or a tuple of them, one for each kind
        Its operator-norm distance from the kernel falls like p^{-1/2} or faster; at level ``"polynomial"`` it is what
        the order leaves (`theory.PolynomialOperator.displacement`).

    Raises
    ------
    InvalidInputError
        X, y and the mixture do not fit together; a class without variance (class-wise); an activation with a mean
        (paper).
    IllPosedError
        No contraction, or an infinite NTK.
    MemoryLimitError
        The result does not fit; `equivalent_operator` never stores it.

    Notes
    -----
    Class-wise, for i in class a and j ≠ i in class b, with G the kernel's entry as a function of both squared norms
    u, v and the inner product x, and its derivatives at (E‖x_a‖², E‖x_b‖², μ_a·μ_b/p):
    ``G + G_x (x_i·x_j - μ_a·μ_b/p) + ½ G_xx tr(C_a C_b)/p² + G_u ψ_i + G_v ψ_j + ½ G_uu ψ_i² + ½ G_vv ψ_j²
    + G_uv ψ_i ψ_j``, ψ_i = ‖x_i‖² - E‖x_i‖².

    Paper: ``α1 XXᵀ + V C Vᵀ + (γ² - τ0² α1) I`` with V = [J/√p, ψ], C = [[α2 ttᵀ + α3 T, α2 t], [α2 tᵀ, α2]]
    (arXiv 2402.02697; X has one sample a row here, one a column there).  The NTK has β and κ² in the place of α and
    γ².

    Polynomial: ``√(K_ii K_jj) Σ_l T_l(t_ij) q(ν_i)ᵀ C_l q(ν_j)`` off the diagonal and the kernel's own on it, t_ij the
    cosine of two samples, ν the logarithm of a norm, T_l and q Chebyshev polynomials over what occurs, C_l by least
    squares.  The order is the least of 1, 2, 3, 4, 6, 8 and 12 with which √n times the root mean squared error of the
    entries, on pairs left out of the fit, is below a thousandth of the mean diagonal entry: it bounds the root mean
    squared displacement of the eigenvalues (Hoffman, Wielandt 1953).
    """
    kinds = check.kinds(kind)
    operators = equivalent_operator(X, y, deq, gmm, kinds, level, tau0_squared=tau0_squared, diagonal=diagonal)
    size = (2 + len(kinds)) * 8 * operators[0].shape[0] ** 2
    check.memory(size, memory_limit, "The dense equivalent", "use equivalent_operator instead")
    return check.as_asked(kind, (operator.dense() for operator in operators))
