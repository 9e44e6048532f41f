"""One question for networks of infinite and of finite width: how does the forward solve go?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray
from rmtdeq.network import Network
from rmtdeq.stability.diagnosis import ForetoldDiagnosis, MeasuredDiagnosis
from rmtdeq.stability.foretold import foretell

if TYPE_CHECKING:
    from rmtdeq.models import ImplicitModule


@overload
def diagnose(
    deq: Network,
    X: ArrayLike,
    *,
    tau0_squared: float | None = None,
    layer: int | None = None,
    recurrent: str | None = None,
) -> ForetoldDiagnosis: ...


@overload
def diagnose(deq: ImplicitModule, X: ArrayLike) -> MeasuredDiagnosis: ...


def diagnose(
    deq: Any,
    X: ArrayLike,
    *,
    tau0_squared: float | None = None,
    layer: int | None = None,
    recurrent: str | None = None,
) -> ForetoldDiagnosis | MeasuredDiagnosis:
    """Say when the forward solve of a DEQ converges and in how many steps, and how hard the backward solve is.

    Of a network it is foretold at infinite width, for Gaussian (or orthogonal) weights that are the same in all steps,
    z⁰ = 0 and the plain iteration, from the squared norms of the data alone and before anything is run.  Of a torch
    module it is measured.

    Parameters
    ----------
    deq : Network or models.ImplicitModule
    X : array_like (n, p), (n,) or a number
        Samples, one a row, or their squared norms.  A module takes what it takes as inputs.
    tau0_squared : float, optional
        Mean squared norm at which centred activations are centred; by default that of the data.
    layer : int, optional
        Which layer of a stack with several recurrent ones, from 0.  Each has an iteration of its own, on the features
        of the layers below at rest.
    recurrent : {"gaussian", "orthogonal"}, optional
        What the recurrent weights A are, as for `Network.to_torch`; Gaussian by default.  Orthogonal ones take the same
        steps to the same equilibria and have the same spectral radius, but a larger smallest singular value of 1 - J.

    Returns
    -------
    ForetoldDiagnosis or MeasuredDiagnosis

    Raises
    ------
    InvalidInputError
        Neither a network nor an implicit module; no recurrent layer, or several; samples of norm zero without a bias.
    IllPosedError
        There is no equilibrium, or the activation jumps.  A network that has an equilibrium but does not come to it is
        diagnosed all the same.

    Notes
    -----
    ``‖z^{k+1} - z^k‖² → E (φ(u^{k+1}) - φ(u^k))²`` with ``cov(u^k, u^l) = σ_a² E φ(u^{k-1})φ(u^{l-1}) + σ_b²‖x‖² +
    σ_c²``; in the end a factor σ_a² E φ'² a step, squared.  Finite networks follow it as long as the number of steps is
    small next to the root of the width; what they do beyond, and by how much they scatter, is foretold as well, by
    `ForetoldDiagnosis.iterations_at` and its like.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> diagnosis = rd.diagnose(rd.DEQ("relu", sigma_a2=0.5, sigma_b2=0.8, centered=False), [0.5, 1.0, 2.0])
    >>> diagnosis.iterations(1e-6)
    array([21, 21, 21])
    >>> round(diagnosis.limit, 6)
    2.0
    >>> diagnosis.iterations_at(1e-6, width=400).round(1)
    array([21.2, 21.2, 21.2])
    """
    if isinstance(deq, Network):
        return foretell(deq, _squared_norms(X), tau0_squared, layer, check.recurrent(recurrent or "gaussian"))
    # An implicit module is there only if torch has been loaded.
    if "torch" in sys.modules:
        from rmtdeq.models import ImplicitModule
        from rmtdeq.stability.measured import measure

        if isinstance(deq, ImplicitModule):
            if any(each is not None for each in (tau0_squared, layer, recurrent)):
                raise InvalidInputError(
                    "tau0_squared, layer and recurrent are of networks of infinite width; leave them out."
                )
            return measure(deq, X)
    raise InvalidInputError(
        f"deq must be a network, as in DEQ('tanh', sigma_a2=0.2, sigma_b2=0.8), or one of the torch modules that "
        f"iterate, as deq.to_torch makes them, not {deq!r}."
    )


def _squared_norms(X: ArrayLike) -> FloatArray:
    """Return the squared norms of samples, or those given."""
    array = check.real_array(X, "X").astype(np.float64)
    if array.ndim == 2:
        check.mean_squared_norm(check.samples(array))
        return np.einsum("ij,ij->i", array, array)
    if array.ndim > 2 or not array.size:
        raise InvalidInputError(
            f"X must be samples (n, p), one a row, or their squared norms (n,), not of shape {array.shape}."
        )
    if (array < 0).any():
        raise InvalidInputError(
            "X holds negative numbers, which are no squared norms; a single sample x is x[None, :]."
        )
    check.squared_norm(array.mean(), "the mean of the squared norms")
    return np.atleast_1d(array)
