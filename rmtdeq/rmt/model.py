"""Random matrices that a mixture of Gaussians makes: a Gram matrix, a shift of each class, a low-rank part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmtdeq._types import ComplexArray, FloatArray
from rmtdeq.rmt.covariances import CovarianceFamily
from rmtdeq.rmt.noncommuting import head_form, head_traces

_RANK = 1e-10
_DIRECTIONS = 5.0
_CHUNK = 500_000


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

    @property
    def probabilities(self) -> FloatArray:
        """Class probabilities n_a/n."""
        return self.ratios / self.ratios.sum()

    @cached_property
    def factors(self) -> FloatArray:
        """The vectors s_a as rows, (K, r), r the numerical rank of `gram`."""
        values, vectors = np.linalg.eigh(self.gram)
        keep = values > _RANK * max(float(values[-1]), 1e-300)
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

    @cached_property
    def _head_factors(self) -> FloatArray:
        """The leading columns of `factors`: those that non-commuting covariances are corrected in."""
        sizes = (self.factors**2).sum(axis=0)
        return self.factors[:, sizes > _DIRECTIONS * self.covariances.truncation * sizes.max()]

    def traces(self, q: ComplexArray, exact: bool = True) -> tuple[ComplexArray, ComplexArray]:
        """Return ``e_a = (1/p) tr[(s_a s_aᵀ ⊗ C_a) R̄]`` and its Jacobian in q.

        Parameters
        ----------
        q : ndarray (points, K)
            ``R̄ = (I + Σ_b c_b q_b (s_b s_bᵀ) ⊗ C_b)^{-1}``.
        exact : bool
            Where the covariances do not commute the exact Jacobian is dear; without this it is that of their
            commuting part.

        Returns
        -------
        e : ndarray (points, K)
        jacobian : ndarray (points, K, K)
            ``∂e_a/∂q_b``.
        """
        family, p = self.covariances, self.covariances.dimension
        w = q * self.ratios
        if self.factors.shape[1] == 1:
            e, jacobian = self._common_traces(w)
        else:
            # Compiled code loads with the first model of several directions.
            from rmtdeq.rmt.blocks import block_traces

            gram = self.factors @ self.factors.T
            e, jacobian = block_traces(w, gram, family.eigenvalues, family.multiplicities / p)
        if family.head is not None:
            gradient, hessian = head_traces(family.head, self._head_factors, w, exact)
            e, jacobian = e + gradient / p, jacobian + hessian / p
        return e, jacobian * self.ratios

    def _common_traces(self, w: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """One direction common to all classes: every block is a number."""
        d, k = self.covariances.eigenvalues, w.shape[1]
        s = self.factors[:, 0] ** 2
        first = d * (self.covariances.multiplicities / self.covariances.dimension)[:, None]
        second = (first[:, :, None] * d[:, None, :]).reshape(d.shape[0], k * k)
        e = np.empty(w.shape, dtype=complex)
        jacobian = np.empty((*w.shape, k), dtype=complex)
        rows = max(1, _CHUNK // max(1, d.shape[0] * k**2))
        for start in range(0, w.shape[0], rows):
            part = slice(start, start + rows)
            inverse = 1 / (1 + (w[part] * s) @ d.T)
            e[part] = (inverse @ first) * s
            jacobian[part] = -((inverse**2) @ second).reshape(-1, k, k) * np.outer(s, s)
        return e, jacobian

    def mean_form(self, q: ComplexArray) -> ComplexArray:
        """Return ``(s_a ⊗ μ_a)ᵀ (I - R̄)(s_b ⊗ μ_b)`` for points q (points, K), shape (points, K, K)."""
        from rmtdeq.rmt.blocks import block_form

        family, gram, w = self.covariances, self.factors @ self.factors.T, q * self.ratios
        result = gram * family.mean_products.sum(axis=0)
        result = result - block_form(w, gram, family.eigenvalues, family.mean_products)
        if family.head is not None and family.head_means is not None:
            result = result - head_form(family.head, family.head_means, self._head_factors, w)
        return np.asarray(result)
