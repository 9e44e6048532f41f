"""Random matrices that a mixture of Gaussians makes: a Gram matrix, a shift of each class, a low-rank part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmtdeq._types import ComplexArray, FloatArray
from rmtdeq.rmt.covariances import CovarianceFamily
from rmtdeq.rmt.noncommuting import log_det_derivatives, mean_form

_RANK = 1e-10
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

    def upper_bound(self) -> float:
        """A bound of the support of the bulk from above."""
        spread = (1 + np.sqrt(self.ratios.sum())) ** 2
        return float(self.shifts.max() + np.diag(self.gram).max() * self.covariances.largest * spread)

    def traces(self, q: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Return ``e_a = (1/p) tr[(s_a s_aᵀ ⊗ C_a) R̄]`` and its Jacobian in q.

        Parameters
        ----------
        q : ndarray (points, K)
            ``R̄ = (I + Σ_b c_b q_b (s_b s_bᵀ) ⊗ C_b)^{-1}``.

        Returns
        -------
        e : ndarray (points, K)
        jacobian : ndarray (points, K, K)
            ``∂e_a/∂q_b``.
        """
        family, p = self.covariances, self.covariances.dimension
        e = np.zeros(q.shape, dtype=q.dtype)
        jacobian = np.zeros((*q.shape, q.shape[1]), dtype=q.dtype)
        d, k = family.eigenvalues, q.shape[1]
        if family.matrices is None and self.factors.shape[1] > 1:
            # Compiled code loads with the first model of several directions.
            from rmtdeq.rmt.blocks import block_traces

            gram = self.factors @ self.factors.T
            e, jacobian = block_traces(q * self.ratios, gram, d, family.multiplicities / p)
            return e, jacobian * self.ratios
        first = d * (family.multiplicities / p)[:, None]
        second = (first[:, :, None] * d[:, None, :]).reshape(d.shape[0], k * k)
        rows = max(1, _CHUNK // max(1, d.shape[0] * k**2))
        for start in range(0, q.shape[0], rows):
            part = slice(start, start + rows)
            if family.matrices is not None:
                products = self._group_products(q[part])
                w = q[part] * self.ratios
                gradient, hessian = log_det_derivatives(family, self.factors, w, products)
                e[part], jacobian[part] = gradient / p, hessian / p
            else:
                # One common direction: every block is a number.
                s = self.factors[:, 0] ** 2
                inverse = 1 / (1 + (q[part] * (self.ratios * s)) @ d.T)
                e[part] = (inverse @ first) * s
                jacobian[part] = -((inverse**2) @ second).reshape(-1, k, k) * np.outer(s, s)
        return e, (jacobian * self.ratios).astype(complex)

    def _group_products(self, q: ComplexArray) -> ComplexArray:
        """``s_aᵀ B_m^{-1} s_b`` for every point and group, B_m the block of R̄^{-1} on a group's coordinates."""
        d, s = self.covariances.eigenvalues, self.factors
        w = q * self.ratios
        if s.shape[1] == 1:
            inverse = 1 / (1 + (w * s[:, 0] ** 2) @ d.T)
            return np.asarray(np.multiply.outer(inverse, np.outer(s[:, 0], s[:, 0])))
        # P = S (I + D S)^{-1} = (I + S D)^{-1} S, D = diag(w_a d_a).  Near an atom of its own a class has a huge w_a;
        # only the column a of I + S D grows with it, which costs the solution no digits.
        gram = s @ s.T
        block = np.eye(gram.shape[0]) + gram * (w[:, None, None, :] * d[:, None, :])
        return np.asarray(np.linalg.solve(block, np.broadcast_to(gram, block.shape)))

    def mean_form(self, q: ComplexArray) -> ComplexArray:
        """Return ``(s_a ⊗ μ_a)ᵀ (I - R̄)(s_b ⊗ μ_b)`` for points q (points, K), shape (points, K, K)."""
        family, s = self.covariances, self.factors
        if family.matrices is not None:
            return mean_form(family, s, q * self.ratios)
        gap = s @ s.T - self._group_products(q)
        return np.asarray(np.einsum("gmab,mab->gab", gap, family.mean_products))
