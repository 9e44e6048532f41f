"""Distances between a sample of eigenvalues and a distribution with atoms, and between two spectra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rmtdeq._lib.types import FloatArray

Distribution = Callable[[FloatArray], FloatArray]


def kolmogorov_smirnov(sample: FloatArray, cdf: Distribution, atoms: tuple[tuple[float, float], ...] = ()) -> float:
    """Return ``sup |F_sample - F|``, the supremum taken on both sides of every jump.

    Parameters
    ----------
    sample : ndarray (n,)
    cdf : callable
        Right-continuous distribution function.
    atoms : tuple of (float, float)
        Position and mass of its jumps.
    """
    x = np.sort(sample)
    n = x.size
    points = np.concatenate([x, [at for at, _ in atoms]])
    right = cdf(points)
    left = right - sum((mass * (points == at) for at, mass in atoms), np.zeros_like(right))
    above = np.searchsorted(x, points, side="right") / n
    below = np.searchsorted(x, points, side="left") / n
    return float(max(abs(above - right).max(), abs(below - left).max()))


def wasserstein(sample: FloatArray, quantiles: Distribution) -> float:
    """Return the first Wasserstein distance, ``∫ |Q_sample(u) - Q(u)| du``, by the midpoint rule."""
    x = np.sort(sample)
    fine = 4
    levels = (np.arange(fine * x.size) + 0.5) / (fine * x.size)
    return float(np.mean(abs(np.repeat(x, fine) - quantiles(levels))))


def between_spectra(one: FloatArray, other: FloatArray) -> tuple[float, float, float]:
    """Return how far two spectra of one size are apart.

    Parameters
    ----------
    one, other : ndarray (n,)
        Eigenvalues, descending.

    Returns
    -------
    ks : float
        Kolmogorov-Smirnov distance.
    upper, whole : float
        Median ``|log(one/other)|`` over ranks 1 … n/2, and over all.
    """
    points = np.concatenate([one, other])
    below = [np.searchsorted(each[::-1], points, side="right") / each.size for each in (one, other)]
    least = np.finfo(float).tiny
    apart = abs(np.log(np.maximum(one, least) / np.maximum(other, least)))
    upper = apart[: max(1, apart.size // 2)]
    return float(abs(below[0] - below[1]).max()), float(np.median(upper)), float(np.median(apart))
