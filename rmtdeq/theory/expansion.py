"""What the spectrum depends on: a kernel's expansion around its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.check import choice, squared_norm
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import LEVELS, FloatArray, Kind
from rmtdeq.data import GaussianMixture
from rmtdeq.network import Network, require_network
from rmtdeq.theory.coefficients import largest_mean, solve
from rmtdeq.theory.jets import diagonal_jet, entry_jet

_CENTRED = 1e-10
_DEGENERATE = 1e-12


@dataclass(frozen=True, eq=False)
class ClassExpansion:
    """A kernel's entries as functions of inner products and norm fluctuations, class by class.

    Off the diagonal, for i in class a and j in class b,
    ``H_ij = S_ab x_i·x_j + constant_ab/p + slope_ab ψ_j/√p + slope_ba ψ_i/√p + product_ab ψ_i ψ_j + square_ab ψ_i²
    + square_ba ψ_j²``.

    Attributes
    ----------
    gram : ndarray (K, K)
        S_ab, the slope in the inner product.
    shifts : ndarray (K,)
        λ_a, the diagonal's mean excess over the same expression at i = j.
    constant : ndarray (K, K)
        p times the entries' common part.
    norm_linear : ndarray (K, K)
        √p times the slope in ψ_j, of samples of class a and b.
    norm_product : ndarray (K, K)
        Coefficient of ψ_i ψ_j.
    norm_square : ndarray (K, K)
        Coefficient of ψ_i².
    diagonal : ndarray (K, 3) or None
        The diagonal at the mean norm of each class, its slope in ψ_i and half its curvature; None where it is the
        expression at i = j plus λ_a.
    """

    gram: FloatArray
    shifts: FloatArray
    constant: FloatArray
    norm_linear: FloatArray
    norm_product: FloatArray
    norm_square: FloatArray
    diagonal: FloatArray | None

    def coupling(self, gmm: GaussianMixture) -> FloatArray:
        """L of `GramModel` in the basis [J/√p, ψ, y], (3K, 3K); ψ² is replaced by its mean."""
        k = self.shifts.size
        identity, zero = np.eye(k), np.zeros((k, k))
        bent = self.norm_square * gmm.norm_variances[:, None]
        return np.block(
            [
                [self.constant + self.gram * (gmm.means @ gmm.means.T) + bent + bent.T, self.norm_linear, identity],
                [self.norm_linear.T, self.norm_product, zero],
                [identity, zero, zero],
            ]
        )


def expand(
    deq: Network, gmm: GaussianMixture, kind: Kind, level: str = "classwise", tau0_squared: float | None = None
) -> ClassExpansion:
    """Expand a kernel of a network around the classes of a mixture.

    Parameters
    ----------
    deq, gmm, kind
    level : str
        ``"classwise"``: second order around each pair of classes.  ``"paper"``: first order around one point
        (τ0², τ0²), the same for all classes (arXiv 2402.02697).
    tau0_squared : float, optional
        Class-wise: where a centred activation is centred, the mean squared norm of the mixture by default.  Paper:
        the point, tr C°/p by default, with t_a = tr C_a°/√p; any other value makes t_a the distance
        √p (E‖x_a‖² - τ0²) of the class from it.

    Raises
    ------
    InvalidInputError
        Unknown level; an activation with a mean (paper) or a class without variance (class-wise).
    """
    require_network(deq)
    return _EXPANSIONS[choice(level, "level", LEVELS)](deq, gmm, kind, tau0_squared)


def require_without_mean(deq: Network, tau0_squared: float) -> None:
    """Raise unless the first-order theory holds for a network: none of its activations has a mean."""
    mean = largest_mean(deq, tau0_squared)
    if mean > _CENTRED:
        raise InvalidInputError(
            f"The first-order equivalent needs activations without mean, and E φ(τ*ξ) is {mean:.4g} of √E φ² for "
            f"{deq}; use DEQ(..., centered=True), on the command line without --uncentered."
        )


def _around_classes(deq: Network, gmm: GaussianMixture, kind: Kind, tau0_squared: float | None) -> ClassExpansion:
    norms, p = gmm.squared_norms, gmm.dimension
    if not (gmm.variances > _DEGENERATE * norms).all():
        a = int(np.argmin(gmm.variances))
        raise InvalidInputError(
            f"Class {a} of the mixture has no variance; the expansion around its mean needs some: add a small multiple "
            "of the identity to its covariance."
        )
    centre = gmm.mean_squared_norm if tau0_squared is None else tau0_squared
    pinned = deq.pinned(squared_norm(centre, "tau0_squared"))
    mean_products = gmm.means @ gmm.means.T / p
    at = entry_jet(pinned, norms[:, None], norms[None, :], mean_products, kind)
    u, v, x = range(3)
    gram, curvature = at.gradient[..., x], at.hessian[..., x, x]
    pairs, variances = gmm.covariance_products / p, gmm.norm_variances / p
    constant = at.value - gram * mean_products + 0.5 * curvature * pairs
    square, product = 0.5 * at.hessian[..., u, u], at.hessian[..., u, v]
    own = diagonal_jet(pinned, norms, kind)
    diagonal = np.stack([own.value, own.gradient[:, 0], 0.5 * own.hessian[:, 0, 0]], axis=1)
    along = np.einsum("aa->a", constant + gram * norms + (2 * square + product) * variances)
    return ClassExpansion(
        gram=gram,
        shifts=diagonal[:, 0] + diagonal[:, 2] * variances - along,
        constant=p * constant,
        norm_linear=np.sqrt(p) * at.gradient[..., v],
        norm_product=product,
        norm_square=square,
        diagonal=diagonal,
    )


def _around_one_point(deq: Network, gmm: GaussianMixture, kind: Kind, tau0_squared: float | None) -> ClassExpansion:
    reference = gmm.tau0_squared if tau0_squared is None else tau0_squared
    if not reference > 0:
        raise InvalidInputError("The mixture has no variance at all; its kernel is not described by a bulk.")
    require_without_mean(deq, reference)
    coefficients = solve(deq, reference, kind=kind if kind == "ck" else ("ck", kind))
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
        norm_square=np.zeros_like(ones),
        diagonal=None,
    )


_EXPANSIONS = {"classwise": _around_classes, "paper": _around_one_point}
