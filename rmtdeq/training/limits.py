"""What the two papers' models tend to as their width grows."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.kernels import kernel
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
from rmtdeq.network import DEQ


def population_gram(model: OverparameterizedDEQ | ImplicitReLU, X: ArrayLike) -> FloatArray:
    """Return the Gram matrix that convergence theorems speak of, at infinite width.

    Parameters
    ----------
    model : OverparameterizedDEQ or ImplicitReLU
    X : array_like (n, p)
        In the model's scaling.

    Returns
    -------
    ndarray (n, n)
        For `OverparameterizedDEQ` the limit K of ZᵀZ/m, Z the equilibria (arXiv 2205.13814); for `ImplicitReLU`
        G_∞ = E ReLU(w·x_i) ReLU(w·x_j), the limit of ΦᵀΦ (arXiv 2110.05645).

    Raises
    ------
    InvalidInputError
        Another model; samples that are none.
    """
    require_theorem(model)
    X = check.samples(X).astype(float)
    if isinstance(model, OverparameterizedDEQ):
        return _kernels(model, X, ("ck",))[0]
    return kernel(X, DEQ("relu", 0.0, 1.0, centered=False), "ck")


def require_theorem(model: object) -> None:
    """Raise unless `model` is one that the papers' theorems are about."""
    if not isinstance(model, (OverparameterizedDEQ, ImplicitReLU)):
        raise InvalidInputError(
            f"There is a convergence theorem for OverparameterizedDEQ and ImplicitReLU, not for {type(model).__name__};"
            " the limits of a DEQ are kernel(X, deq, kind)."
        )


def population_tangent_kernel(model: OverparameterizedDEQ, X: ArrayLike) -> FloatArray:
    """Return what the tangent kernel of an over-parameterised DEQ of this width is, up to O(√m).

    Parameters
    ----------
    model : OverparameterizedDEQ
        With σ_w² > 0.
    X : array_like (n, p)
        Squared norms p.

    Returns
    -------
    ndarray (n, n)
        The matrix m (G + s_a² G∘E) + s_a² E∘XXᵀ, where G is the limit of ZᵀZ/m and E that of the gradients' inner
        products in the pre-activations, both read off the kernels of ``DEQ("relu", 2σ_w², 2)``; `read_out_scale` is
        s_a.

    Raises
    ------
    InvalidInputError
        Another model, or σ_w² = 0.
    """
    if not isinstance(model, OverparameterizedDEQ) or not model.sigma_w2:
        raise InvalidInputError("The tangent kernel's limit is known for an OverparameterizedDEQ with sigma_w2 > 0.")
    X = check.samples(X).astype(float)
    deq = _equivalent_deq(model)
    ck, ntk, full = _kernels(model, X, ("ck", "ntk", "ntk-full"))
    scale = model.read_out_scale**2
    recurrent, inputs = (ntk - ck) / deq.sigma_a2, (full - ntk) / deq.sigma_b2
    return np.asarray(model.width * (ck + scale * recurrent) + scale * model.in_features * inputs)


def _kernels(model: OverparameterizedDEQ, X: FloatArray, kinds: tuple[Kind, ...]) -> tuple[FloatArray, ...]:
    """The kernels of the DEQ whose equilibria, times √m, are the model's; its samples are smaller by √p."""
    scaled = X / np.sqrt(model.in_features)
    check.warn_of_scale(float(np.einsum("ij,ij->", scaled, scaled)) / len(X), type(model).__name__)
    with warnings.catch_warnings():  # told above, in the model's own scaling
        warnings.filterwarnings("ignore", "The samples' squared norms", UserWarning)
        return kernel(scaled, _equivalent_deq(model), kinds)


def _equivalent_deq(model: OverparameterizedDEQ) -> DEQ:
    """The DEQ whose equilibria, times √m, are the model's."""
    return DEQ("relu", 2 * model.sigma_w2, 2.0, centered=False)
