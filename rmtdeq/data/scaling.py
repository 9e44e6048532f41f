"""Samples in the scaling that the theory takes: centred, of mean squared norm 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray

_NEGLIGIBLE = 1e-14


def center_and_scale(X: ArrayLike, *, reference: ArrayLike | None = None) -> FloatArray:
    """Return samples centred and divided by one number, so that their mean squared norm is 1.

    Parameters
    ----------
    X : array_like (n, p)
        One sample a row.
    reference : array_like (m, p), optional
        The samples whose mean is taken off and whose mean squared norm becomes 1, as those of the training where X are
        those of the test; X itself by default.

    Returns
    -------
    ndarray (n, p), float64
        ``(X - mean) / scale``, in which distances have kept their ratios.  `load_dataset` returns samples in this
        scaling.

    Raises
    ------
    InvalidInputError
        NaN, other shapes, or samples of `reference` that are all the same.

    Examples
    --------
    >>> import numpy as np, rmtdeq as rd
    >>> pixels = np.random.default_rng(0).integers(0, 256, (50, 8))
    >>> X = rd.center_and_scale(pixels)
    >>> round(float((X**2).sum(axis=1).mean()), 12)
    1.0
    """
    X = check.samples(X).astype(float)
    known = X if reference is None else check.samples(reference, "reference").astype(float)
    if known.shape[1] != X.shape[1]:
        raise InvalidInputError(f"X has {X.shape[1]} features and reference {known.shape[1]}; they must agree.")
    # Brought to order one first, so that no square is beyond the range of the numbers.
    exponent = check.exponents(known)
    scaled = np.ldexp(known, -exponent)
    centre = scaled.mean(axis=0)
    spread = math.sqrt(np.mean(np.square(scaled - centre).sum(axis=1)))
    if spread <= _NEGLIGIBLE:
        raise InvalidInputError(
            f"The samples of {'X' if reference is None else 'reference'} are all the same, so they cannot be scaled."
        )
    with np.errstate(over="ignore"):
        result = (np.ldexp(X, -exponent) - centre) / spread
    if not np.isfinite(result).all():
        raise InvalidInputError(
            "X holds values so much larger than those of reference that no number holds their ratio."
        )
    return np.asarray(result)
