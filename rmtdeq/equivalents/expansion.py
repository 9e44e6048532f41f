"""What the spectrum depends on: a kernel's expansion around its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._check import choice
from rmtdeq._errors import InvalidInputError
from rmtdeq._types import FloatArray, Kind
from rmtdeq.data import GaussianMixture
from rmtdeq.deq import DEQ
from rmtdeq.equivalents.coefficients import solve

LEVELS = ("paper",)
_CENTRED = 1e-10


@dataclass(frozen=True, eq=False)
class ClassExpansion:
    """A kernel's entries as functions of inner products and norm fluctuations, class by class.

    ``H_ij = S_ab w_i·w_j + …``: the off-diagonal model that `GramModel` describes, and the diagonal's excess
    over it.

    Attributes
    ----------
    gram : ndarray (K, K)
        S_ab, the slope in the inner product.
    shifts : ndarray (K,)
        λ_a.
    constant : ndarray (K, K)
        p times the entries' common part, inner products of the means left out.
    norm_linear : ndarray (K, K)
        √p times the slope in ψ_j, of samples of class a and b.
    norm_product : ndarray (K, K)
        Coefficient of ψ_i ψ_j.
    """

    gram: FloatArray
    shifts: FloatArray
    constant: FloatArray
    norm_linear: FloatArray
    norm_product: FloatArray

    def coupling(self, means: FloatArray) -> FloatArray:
        """L of `GramModel` in the basis [J/√p, ψ, y], (3K, 3K)."""
        k = self.shifts.size
        identity, zero = np.eye(k), np.zeros((k, k))
        return np.block(
            [
                [self.constant + self.gram * (means @ means.T), self.norm_linear, identity],
                [self.norm_linear.T, self.norm_product, zero],
                [identity, zero, zero],
            ]
        )


def expand(deq: DEQ, gmm: GaussianMixture, kind: Kind, level: str, tau0_squared: float | None = None) -> ClassExpansion:
    """Expand a kernel of a DEQ around the classes of a mixture.

    Parameters
    ----------
    deq, gmm, kind
    level : str
        ``"paper"``: first order around one point (τ0², τ0²), the same for all classes (arXiv 2402.02697).
    tau0_squared : float, optional
        That point; tr C°/p by default, with t_a = tr C_a°/√p as in the paper.  Any other value makes t_a the
        distance √p (E‖x_a‖² - τ0²) of the class from it.

    Raises
    ------
    InvalidInputError
        An activation with a mean, unknown level.
    """
    choice(level, "level", LEVELS)
    reference = gmm.tau0_squared if tau0_squared is None else tau0_squared
    if not reference > 0:
        raise InvalidInputError("The mixture has no variance at all; its kernel is not described by a bulk.")
    coefficients = solve(deq, reference, kind=kind if kind == "ck" else ("ck", kind))
    if not deq.centered and abs(coefficients.mean) > _CENTRED * np.sqrt(coefficients.gamma2):
        raise InvalidInputError(
            f"The first-order equivalent needs an activation without mean, and E φ(τ*ξ) = {coefficients.mean:.4g} for "
            f"{deq}; use DEQ(..., centered=True)."
        )
    at = coefficients.of(kind)
    p = gmm.dimension
    norms = gmm.variances if tau0_squared is None else gmm.squared_norms
    t = np.sqrt(p) * (norms - reference)
    ones = np.ones((gmm.classes, gmm.classes))
    return ClassExpansion(
        gram=at.linear * ones,
        shifts=np.full(gmm.classes, at.diagonal - reference * at.linear),
        constant=at.norm * np.outer(t, t) + at.pair * gmm.covariance_products,
        norm_linear=at.norm * np.outer(t, np.ones(gmm.classes)),
        norm_product=at.norm * ones,
    )
