"""Samples on a sphere, as convergence theorems ask for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, Seed

_PARALLEL = 1e-9
_NUDGE = 1e-3
_ROUNDS = 20


def on_sphere(X: ArrayLike, norm: float = 1.0, seed: Seed = 0) -> FloatArray:
    """Scale every sample to one norm, and turn those that are parallel to an earlier one a little.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row.
    norm : float
        1 for `ImplicitReLU`, √p for `OverparameterizedDEQ`.
    seed : int, Generator or None
        Of the directions in which parallel samples are turned, by an angle of 0.001.

    Returns
    -------
    ndarray (n, p), float64

    Raises
    ------
    InvalidInputError
        A row is zero; there is one feature only, so that all samples are parallel.
    """
    X = check.samples(X).astype(float)
    radius = check.number(norm, "norm", low=0, open_low=True)
    rng = check.generator(seed)
    zero = ~X.any(axis=1)
    if zero.any():
        raise InvalidInputError(f"Row {int(np.argmax(zero))} of X is zero and has no direction; leave it out.")
    # Brought to order one first, so that no square is beyond the range of the numbers.
    unit = np.ldexp(X, -check.exponents(X, axis=1))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for _ in range(_ROUNDS):
        # Each pair is met once, and the later of the two is turned.
        nearness = np.abs(unit @ unit.T)
        again = (np.tril(nearness, -1) >= 1 - _PARALLEL).any(axis=1)
        if not again.any():
            return np.asarray(radius * unit)
        turn = rng.standard_normal((int(again.sum()), unit.shape[1]))
        turn -= np.sum(turn * unit[again], axis=1, keepdims=True) * unit[again]
        turned = unit[again] + _NUDGE * turn / np.maximum(np.linalg.norm(turn, axis=1, keepdims=True), 1e-300)
        unit[again] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    raise InvalidInputError(
        f"Among the samples there are parallel ones that cannot be told apart in {X.shape[1]} features."
    )
