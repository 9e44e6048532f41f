"""The kernels' deterministic equivalents on data, as matrices and as operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.linear import SymmetricOperator
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.data import GaussianMixture
from rmtdeq.data.mixture import require_mixture
from rmtdeq.network import Network
from rmtdeq.theory.expansion import ClassExpansion, expand

DIAGONALS = ("sample", "class")


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
    y: ArrayLike,
    deq: Network,
    gmm: GaussianMixture,
    kind: str | Sequence[str] = "ck",
    level: str = "classwise",
    *,
    tau0_squared: float | None = None,
    diagonal: str = "sample",
) -> Any:
    """Return the deterministic equivalent of a kernel as a Gram matrix and a low-rank part.

    Parameters and errors as for `equivalent`; nothing of size n x n is formed.

    Returns
    -------
    EquivalentOperator, or a tuple of them, one for each kind
        A scipy LinearOperator (n, n), symmetric.
    """
    X = check.samples(X).astype(np.float64, copy=False)
    require_mixture(gmm)
    y = check.labels(y, X.shape[0], gmm.classes)
    if X.shape[1] != gmm.dimension:
        raise InvalidInputError(f"X has {X.shape[1]} features, the mixture has {gmm.dimension}.")
    kinds = check.kinds(kind)
    check.choice(diagonal, "diagonal", DIAGONALS)
    expansions = (expand(deq, gmm, name, level, tau0_squared) for name in kinds)
    return check.as_asked(kind, (EquivalentOperator(X, y, each, gmm, diagonal) for each in expansions))


def equivalent(
    X: ArrayLike,
    y: ArrayLike,
    deq: Network,
    gmm: GaussianMixture,
    kind: str | Sequence[str] = "ck",
    level: str = "classwise",
    *,
    tau0_squared: float | None = None,
    diagonal: str = "sample",
    memory_limit: float | None = None,
) -> Any:
    """Return the deterministic equivalent of a kernel on data from a mixture.

    Parameters
    ----------
    X : array_like (n, p)
    y : array_like (n,)
        Labels 0 … K-1 of the mixture's classes.
    deq : DEQ or Network
    gmm : GaussianMixture
    kind : str or tuple of str
        ``"ck"``, ``"ntk"`` or ``"ntk-full"``, or several.
    level : str
        ``"classwise"``: second order in inner products and norms around each pair of classes; any activation.
        ``"paper"``: first order around one point for all classes; activations without mean.
    tau0_squared : float, optional
        Class-wise: where a centred activation is centred, `gmm.mean_squared_norm` by default, which is where
        `kernel` centres on samples of the mixture.  Paper: the point of expansion, tr C°/p by default.
    diagonal : str
        Class-wise only: ``"sample"``, the kernel's diagonal to second order in the norm of each sample, or ``"class"``,
        one value for each class, which is further from the kernel (for ReLU several times).
    memory_limit : float, optional
        Bytes that the result may take.

    Returns
    -------
    ndarray (n, n), or a tuple of them, one for each kind
        Its operator-norm distance from the kernel falls like p^{-1/2} or faster.

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
    """
    kinds = check.kinds(kind)
    operators = equivalent_operator(X, y, deq, gmm, kinds, level, tau0_squared=tau0_squared, diagonal=diagonal)
    size = (2 + len(kinds)) * 8 * operators[0].shape[0] ** 2
    check.memory(size, memory_limit, "The dense equivalent", "use equivalent_operator instead")
    return check.as_asked(kind, (operator.dense() for operator in operators))
