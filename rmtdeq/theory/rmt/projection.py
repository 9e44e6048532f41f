"""The resolvent of a Gram model in the few directions that its low-rank part knows of.

With U = [J/√p, class-wise ψ, y_a] the deterministic equivalent of Uᵀ(H₀ - z)^{-1}U is a matrix A(z) of order 3K, and
the low-rank part U L Uᵀ enters by Woodbury's identity.
"""

from __future__ import annotations

import numpy as np

from rmtdeq._lib.types import ComplexArray, FloatArray
from rmtdeq.theory.rmt.model import GramModel
from rmtdeq.theory.rmt.resolvent import resolvent_diagonal

_RANK = 1e-12


def coupling_basis(model: GramModel) -> tuple[FloatArray, FloatArray]:
    """Return F and the diagonal of Λ^{-1}, where L = F Λ Fᵀ: (3K, rank) and (rank,)."""
    values, vectors = np.linalg.eigh((model.coupling + model.coupling.T) / 2)
    keep = abs(values) > _RANK * max(float(abs(values).max()), 1e-300)
    return vectors[:, keep], 1 / values[keep]


def projected_resolvent(model: GramModel, q: ComplexArray) -> ComplexArray:
    """Return A(z), (points, 3K, 3K), where the diagonal of the resolvent is q (points, K)."""
    return projected_blocks(model, q, model.mean_form(q))


def projected_blocks(model: GramModel, q: ComplexArray, form: ComplexArray) -> ComplexArray:
    """Return A(z), or its derivative, from the diagonal of the resolvent and the form of the means."""
    c, v = model.ratios, model.norm_variances
    k = c.size
    matrix = np.zeros((q.shape[0], 3 * k, 3 * k), dtype=complex)
    index = np.arange(k)
    matrix[:, index, index] = c * q
    matrix[:, k + index, k + index] = c * v * q
    matrix[:, 2 * k :, 2 * k :] = form
    return matrix


def indicator_resolvent(model: GramModel, z: ComplexArray) -> ComplexArray:
    """Return the deterministic equivalent of j_aᵀ(H - z)^{-1}j_b, j_a the unit indicator of class a.

    Parameters
    ----------
    model : GramModel
    z : ndarray (points,)
        In the upper half plane.

    Returns
    -------
    ndarray (points, K, K)

    Raises
    ------
    ConvergenceError
        The mixture equations could not be solved at some point.
    """
    A = projected_resolvent(model, resolvent_diagonal(model, z))
    basis, inverse = coupling_basis(model)
    if inverse.size:
        inner = basis.T @ A @ basis + np.diag(inverse)
        A = A - A @ basis @ np.linalg.solve(inner, basis.T @ A)
    k, sizes = model.shifts.size, np.sqrt(model.ratios)
    return np.asarray(A[:, :k, :k] / (sizes[:, None] * sizes))
