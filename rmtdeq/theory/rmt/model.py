"""Random matrices that a mixture of Gaussians makes: a Gram matrix, a shift of each class, a low-rank part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmtdeq._lib.types import ComplexArray, FloatArray, IntArray
from rmtdeq.theory.rmt.covariances import CovarianceFamily
from rmtdeq.theory.rmt.noncommuting import Head

_RANK = 1e-10
_DIRECTIONS = 5.0
_CHUNK = 500_000
_LITTLE = 1e-3


@dataclass(frozen=True, eq=False)
class GramModel:
    """``H = W̃ᵀW̃ + diag(λ) + U L Uᵀ`` with columns ``w̃_i = s_a ⊗ w_i``, ``w_i ~ N(0, C_a/p)`` for i in class a.

    Attributes
    ----------
    gram : ndarray (K, K)
        S_ab = s_a·s_b, positive semidefinite: the weight of w_i·w_j in the entry (i, j).
    shifts : ndarray (K,)
        λ_a.
    ratios : ndarray (K,)
        c_a = n_a/p.
    covariances : CovarianceFamily
        C_a and means μ_a.
    norm_variances : ndarray (K,)
        v_a = p Var ψ_a of the norm fluctuations ψ_i = ‖x_i‖² - E‖x_i‖².
    coupling : ndarray (3K, 3K)
        L in the basis U = [J/√p, ψ restricted to each class, y_a], ``y_a = W̃ᵀ(s_a ⊗ μ_a)``.

    Notes
    -----
    The special case of one common s_a = √α and λ is the Gram matrix of a mixture (Benaych-Georges and
    Couillet, ESAIM P&S 2016).
    """

    gram: FloatArray
    shifts: FloatArray
    ratios: FloatArray
    covariances: CovarianceFamily
    norm_variances: FloatArray
    coupling: FloatArray

    def __repr__(self) -> str:
        return f"GramModel({self.shifts.size} classes, p={self.covariances.dimension})"

    @property
    def probabilities(self) -> FloatArray:
        """Class probabilities n_a/n."""
        return self.ratios / self.ratios.sum()

    @cached_property
    def factors(self) -> FloatArray:
        """The vectors s_a as rows, (K, r), r the numerical rank of `gram`; leading directions first.

        Directions that move eigenvalues by less than rounding does, next to the shifts, are no part of the rank.
        """
        values, vectors = np.linalg.eigh(self.gram)
        spread = self.upper_bound - float(self.shifts.max())
        visible = float(abs(self.shifts).max()) * float(np.diag(self.gram).max()) / max(spread, 1e-300)
        least = min(_RANK * max(float(values[-1]), visible), float(values[-1]))
        keep = np.flatnonzero((values >= least) & (values > 0))[::-1]
        return vectors[:, keep] * np.sqrt(values[keep])

    @cached_property
    def upper_bound(self) -> float:
        """A bound of the support of the bulk from above.

        The deterministic equivalent is the law of a free Gaussian matrix, whose norm is at most
        ``‖E W̃W̃ᵀ‖^½ + ‖E W̃ᵀW̃‖^½``.
        """
        family, sizes = self.covariances, np.diag(self.gram)
        columns = family.multiplicities / family.dimension @ family.eigenvalues * sizes
        rows = family.eigenvalues @ (self.ratios * sizes)
        widest = float(rows.max(initial=0.0))
        if family.head is not None and family.head.shape[1]:
            total = np.tensordot(self.ratios * sizes, family.head, 1)
            widest = max(widest, float(np.linalg.eigvalsh(total)[-1]))
        return float(self.shifts.max() + (np.sqrt(widest) + np.sqrt(columns.max())) ** 2)

    @property
    def commuting(self) -> bool:
        """Whether the covariances commute; the Jacobian of `traces` is cheap then."""
        return self.covariances.head is None

    @property
    def large(self) -> bool:
        """Whether a point costs the inverse of a matrix that several threads invert faster than one."""
        return self._head is not None and self._head.large

    @cached_property
    def _blocks(self) -> list[_Blocks]:
        """The blocks of single coordinates: those beyond the head, and those of directions that the head leaves out."""
        family = self.covariances
        if self._head is None:
            return [_Blocks(self.factors, family, slice(None))]
        size, directions = self._head.matrices.shape[1], self._head.factors.shape[1]
        parts = [
            _Blocks(self.factors, family, slice(size, None)),
            _Blocks(self.factors[:, directions:], family, slice(0, size)),
        ]
        return [part for part in parts if part.multiplicities.size and part.gram.any()]

    @cached_property
    def _head(self) -> Head | None:
        """Where non-commuting covariances are treated exactly: their head, in the leading columns of `factors`."""
        if self.covariances.head is None:
            return None
        sizes = (self.factors**2).sum(axis=0)
        least = min(_DIRECTIONS * self.covariances.truncation, 0.99)
        return Head(self.covariances.head, self.factors[:, sizes > least * sizes.max()])

    @cached_property
    def _diagonals(self) -> _Blocks:
        """What the head would be without off-diagonal entries."""
        assert self._head is not None
        return _Blocks(self._head.factors, self.covariances, slice(0, self._head.matrices.shape[1]))

    def traces(self, q: ComplexArray, exact: bool = True) -> tuple[ComplexArray, ComplexArray]:
        """Return ``e_a = (1/p) tr[(s_a s_aᵀ ⊗ C_a) R̄]`` and its Jacobian in q.

        Parameters
        ----------
        q : ndarray (points, K)
            ``R̄ = (I + Σ_b c_b q_b (s_b s_bᵀ) ⊗ C_b)^{-1}``.
        exact : bool
            Where the covariances do not commute the exact Jacobian is dear; without this it is that of their diagonals.

        Returns
        -------
        e : ndarray (points, K)
        jacobian : ndarray (points, K, K)
            ``∂e_a/∂q_b``.
        """
        w = q * self.ratios
        e: ComplexArray = np.zeros(w.shape, dtype=complex)
        jacobian: ComplexArray = np.zeros((*w.shape, w.shape[1]), dtype=complex)
        for part in self._blocks:
            gradient, hessian = part.traces(w)
            e += gradient
            jacobian += hessian
        head = self._head
        if head is not None:
            gradient, hessian = head.traces(w, exact)
            if not exact:
                _, hessian = self._diagonals.traces(w)
            e += gradient
            jacobian += hessian
        p = self.covariances.dimension
        return np.asarray(e / p), np.asarray(jacobian * (self.ratios / p))

    def argument(self, q: ComplexArray) -> FloatArray:
        """Return the argument of det R̄^{-1} for points q (points, K), zero at q = 0 and continuous from there."""
        w = q * self.ratios
        total = np.zeros(w.shape[0])
        for part in self._blocks:
            total += part.argument(w)
        if self._head is not None:
            total += self._head.argument(w)
        return total

    def mean_form(self, q: ComplexArray) -> ComplexArray:
        """Return ``(s_a ⊗ μ_a)ᵀ (I - R̄)(s_b ⊗ μ_b)`` for points q (points, K), shape (points, K, K)."""
        family, w = self.covariances, q * self.ratios
        form = np.zeros((*w.shape, w.shape[1]), dtype=complex)
        for part in self._blocks:
            form += part.form(w)
        if self._head is not None and family.head_means is not None:
            form += self._head.form(family.head_means, w)
        return np.asarray((self.factors @ self.factors.T) * family.mean_products.sum(axis=0) - form)


class _Blocks:
    """Diagonal blocks of B, one for each of some coordinates, in some directions of the s_a.

    Blocks that differ little from the identity act through the first two moments of their eigenvalues: with
    ``T = Σ_a w_a d_a s_a s_aᵀ`` of norm at most ε, what is left out of the gradient of ``log det (I + T)`` is at most
    ε² of it.
    """

    def __init__(self, factors: FloatArray, family: CovarianceFamily, part: slice) -> None:
        self.gram = factors @ factors.T
        sizes = (family.eigenvalues[part] * np.diag(self.gram)).max(axis=1, initial=0.0)
        order = np.argsort(-sizes, kind="stable")
        self._common = factors.shape[1] == 1
        # Compiled code works through whole strips of blocks, and loads with the first model of several directions.
        beyond = 0 if self._common else _missing(order.size)
        self.eigenvalues, self.multiplicities, self.mean_products = (
            np.pad(each[part][order], [(0, beyond)] + [(0, 0)] * (each.ndim - 1))
            for each in (family.eigenvalues, family.multiplicities, family.mean_products)
        )

    def traces(self, w: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Gradient and Hessian of ``log det`` in w."""
        if self._common:
            return _common_traces(w, np.diag(self.gram), self.eigenvalues, self.multiplicities)
        from rmtdeq.theory.rmt.blocks import block_traces

        strips = self._strips(w)
        first, second = block_traces(w, self.gram, self.eigenvalues, self.multiplicities, strips)
        _, means, products = self._tails
        hessian = -products[strips]
        return first + means[strips] + np.einsum("gab,gb->ga", hessian, w), second + hessian

    def argument(self, w: ComplexArray) -> FloatArray:
        """The argument of det B."""
        if self._common:
            return np.asarray(np.angle(1 + (w * np.diag(self.gram)) @ self.eigenvalues.T) @ self.multiplicities)
        from rmtdeq.theory.rmt.blocks import block_arguments

        strips = self._strips(w)
        exact = block_arguments(w, self.gram, self.eigenvalues, self.multiplicities, strips)
        _, means, products = self._tails
        return exact + ((means[strips] * w).sum(axis=1) - np.einsum("ga,gab,gb->g", w, products[strips], w) / 2).imag

    def _strips(self, w: ComplexArray) -> IntArray:
        """How many strips of blocks differ from the identity by more than a little."""
        largest, _, _ = self._tails
        return np.asarray((abs(w) @ largest.T > _LITTLE).sum(axis=1))

    @cached_property
    def _tails(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """From every strip on: the largest d_a |s_a|², the sums of d_a |s_a|² and of d_a d_b (s_a·s_b)²."""
        from rmtdeq.theory.rmt.blocks import STRIP

        starts = np.arange(0, self.eigenvalues.shape[0], STRIP)
        values = self.eigenvalues * np.diag(self.gram)
        weighted = self.multiplicities[:, None] * values
        normal = self.gram**2 / np.maximum(np.outer(np.diag(self.gram), np.diag(self.gram)), 1e-300)
        products = np.add.reduceat(weighted[:, :, None] * values[:, None, :], starts) * normal
        largest = np.maximum.accumulate(np.maximum.reduceat(values, starts)[::-1])[::-1]
        return largest, _from_each_on(np.add.reduceat(weighted, starts)), _from_each_on(products)

    def form(self, w: ComplexArray) -> ComplexArray:
        """``(s_a ⊗ μ_a)ᵀ B^{-1} (s_b ⊗ μ_b)``."""
        if self._common:
            inverse = 1 / (1 + (w * np.diag(self.gram)) @ self.eigenvalues.T)
            return np.asarray(self.gram * np.einsum("gm,mab->gab", inverse, self.mean_products))
        from rmtdeq.theory.rmt.blocks import block_form

        return block_form(w, self.gram, self.eigenvalues, self.mean_products)


def _missing(blocks: int) -> int:
    """How many blocks, without eigenvalues, fill up strips of them."""
    from rmtdeq.theory.rmt.blocks import STRIP

    return -blocks % STRIP


def _from_each_on(parts: FloatArray) -> FloatArray:
    """Sums of parts from each on to the last, and of none."""
    return np.concatenate([np.cumsum(parts[::-1], axis=0)[::-1], np.zeros((1, *parts.shape[1:]))])


def _common_traces(
    w: ComplexArray, sizes: FloatArray, eigenvalues: FloatArray, multiplicities: FloatArray
) -> tuple[ComplexArray, ComplexArray]:
    """Traces where all classes share one direction, s_a·s_a given: every block is a number."""
    d, k = eigenvalues, w.shape[1]
    first = d * multiplicities[:, None]
    second = (first[:, :, None] * d[:, None, :]).reshape(d.shape[0], k * k)
    e = np.empty(w.shape, dtype=complex)
    jacobian = np.empty((*w.shape, k), dtype=complex)
    rows = max(1, _CHUNK // max(1, d.shape[0] * k**2))
    for start in range(0, w.shape[0], rows):
        part = slice(start, start + rows)
        inverse = 1 / (1 + (w[part] * sizes) @ d.T)
        e[part] = (inverse @ first) * sizes
        jacobian[part] = -((inverse**2) @ second).reshape(-1, k, k) * np.outer(sizes, sizes)
    return e, jacobian
