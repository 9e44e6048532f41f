"""Targets of a regression, from labels or numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import FloatArray, IntArray


def learning_targets(y: ArrayLike, n: int) -> tuple[FloatArray, IntArray | None]:
    """Return what is to be learnt.

    Parameters
    ----------
    y : array_like (n,) or (n, k)
        Labels of classes, whole numbers or texts; or targets, floating-point numbers, one column each.
    n : int
        Samples.

    Returns
    -------
    targets : ndarray (n, k)
        Of labels, their indicators.
    classes : ndarray (n,) of int, or None
        The labels as numbers; None for targets that are no classes.

    Raises
    ------
    InvalidInputError
        Another number of them, one class alone, the same target for all.
    """
    labels = _labels(y)
    if labels is not None:
        if len(labels) != n:
            raise InvalidInputError(f"y must hold one label for each of the {n} samples, not {len(labels)}.")
        names, classes = np.unique(labels, return_inverse=True)
        if len(names) < 2:
            raise InvalidInputError(
                f"All samples are of one class, {names[0]!r}; there are two to tell apart at least."
            )
        return np.eye(len(names))[classes], classes
    targets = check.real_array(y, "y")
    if targets.ndim not in (1, 2) or len(targets) != n or not targets.size:
        raise InvalidInputError(f"y must be of shape ({n},) or ({n}, k) for {n} samples, not {targets.shape}.")
    if not np.ptp(targets, axis=0).any():
        raise InvalidInputError("All samples have the same targets; there is nothing to learn.")
    return targets.reshape(n, -1).astype(float), None


def _labels(y: ArrayLike) -> np.ndarray[Any, Any] | None:
    """Return whole numbers, truth values or texts, which name classes; None for all else."""
    try:
        given = np.asarray(y)
    except ValueError:  # rows that are not equally long
        return None
    texts = given.dtype.kind == "O" and all(isinstance(each, str) for each in given.flat)
    return given if given.ndim == 1 and (given.dtype.kind in "iubU" or texts) else None
