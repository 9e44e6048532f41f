"""Probabilities of classes from decision values."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from rmtdeq._lib.types import FloatArray, IntArray

_LOWEST, _HIGHEST = 1e-3, 1e6


def inverse_temperature(
    values: FloatArray, classes: IntArray, weights: FloatArray | None = None, prior: float = 1.0
) -> float:
    """Return the β with which softmax(β · values) has the least log loss.

    Parameters
    ----------
    values : ndarray (n, k)
        Decision values that the samples have had no part in, as by leave-one-out.
    classes : ndarray (n,) of int
        The true ones, 0 ... k-1.
    weights : ndarray (n,), optional
    prior : float
        Samples of each class that are taken to have any other's values: each class is true with probability
        prior/(n + prior k) at least (Platt 1999), without which no β were large enough for classes that are told apart
        without an error.  What is then expected to be told wrong is more by as much.

    Returns
    -------
    float
        Positive, so that the order of the classes is that of the values.

    Notes
    -----
    Guo, Pleiss, Sun, Weinberger, *On calibration of modern neural networks* (ICML 2017).
    """
    n, k = values.shape
    expected = (n * np.eye(k)[classes] + prior) / (n + prior * k)
    spread = float(values.std(axis=1).mean())
    if not spread:
        return 1.0

    def slope(log_beta: float) -> float:
        """Derivative of the log loss in β, which rises with β: the loss is convex."""
        excess = softmax(np.exp(log_beta) * values, axis=1) - expected
        return float(np.average((excess * values).sum(axis=1), weights=weights))

    low, high = np.log(_LOWEST / spread), np.log(_HIGHEST / spread)
    if slope(low) >= 0:
        return float(np.exp(low))
    return float(np.exp(brentq(slope, low, high) if slope(high) > 0 else high))
