"""E[(φ(v) - φ(u))²] of two Gaussians that may be as near to each other as one likes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.activations import Activation, Pairs
from rmtdeq.activations.duals import difference_form, second_moment
from rmtdeq.activations.hermite import hermite_coefficients, moments

_DEGREE_SMOOTH, _DEGREE = 96, 256


def mean_square_increment(
    activation: Activation, sigma_u: FloatArray, sigma_v: FloatArray, gap: FloatArray
) -> FloatArray:
    """Return ``E[(φ(v) - φ(u))²]``, its digits kept however near v is to u.

    Parameters
    ----------
    activation : Activation
    sigma_u, sigma_v : ndarray (pairs,)
        Standard deviations of u and v, positive.
    gap : ndarray (pairs,)
        Standard deviation of v - u, from ``|σ_v - σ_u|`` to ``σ_u + σ_v``.

    Returns
    -------
    ndarray (pairs,)

    Notes
    -----
    With the Hermite coefficients h_k(σ) of φ and r = 1 - λ the correlation, the increment is
    ``Σ_k (h_k(σ_v) - h_k(σ_u))² + 2 Σ_k h_k(σ_u) h_k(σ_v) (1 - r^k)``, where λ comes from the gap and nothing cancels.
    What the coefficients beyond the series hold is known as a whole, ``T0 = E φ² - Σ h_k²`` and ``T1 = σ² E φ'² - Σ k
    h_k²``: their part is at most 2 T0 and tends to 2 λ T1 as v nears u.  Where φ has kinks and a closed form, that is
    taken.
    """
    # Rounding alone may lead out of the range.
    versine = np.clip((gap**2 - (sigma_v - sigma_u) ** 2) / (2 * sigma_u * sigma_v), 0.0, 2.0)
    if activation.kinks and activation.dual_form is not None:
        return _closed_form(activation, sigma_u, sigma_v, versine)
    return np.array([_series(activation, *map(float, pair)) for pair in zip(sigma_u, sigma_v, versine, strict=True)])


def _closed_form(activation: Activation, sigma_u: FloatArray, sigma_v: FloatArray, versine: FloatArray) -> FloatArray:
    """The distance of normalised features, in units of their sizes, and that of the sizes."""
    size_u, size_v = np.sqrt(second_moment(activation, sigma_u)), np.sqrt(second_moment(activation, sigma_v))
    opposite = versine > 1
    theta = 2 * np.arcsin(np.sqrt(np.where(opposite, 2 - versine, versine) / 2))
    sign = np.where(opposite, -1.0, 1.0)
    # Of a function that is zero almost surely nothing can be normalised.
    unit_u, unit_v = (np.where(each > 0, each, 1.0) for each in (size_u, size_v))
    distance, _ = difference_form(activation, Pairs(sigma_u, sigma_v, unit_u, unit_v, theta, sign))
    between = np.where(opposite, size_u + size_v, size_v - size_u)
    return np.asarray(between**2 + sign * size_u * size_v * distance)


def _series(activation: Activation, sigma_u: float, sigma_v: float, versine: float) -> float:
    h_u, h_v = _coefficients(activation, sigma_u)[0], _coefficients(activation, sigma_v)
    k = np.arange(h_u.size)
    lost = -np.expm1(k * np.log1p(-versine)) if versine < 0.5 else 1 - (1 - versine) ** k
    within = float(((h_v[0] - h_u) ** 2).sum() + 2 * (h_u * h_v[0]) @ lost)
    return within + 2 * max(0.0, min(h_v[1], versine * h_v[2]))


@lru_cache(maxsize=256)
def _coefficients(activation: Activation, sigma: float) -> tuple[FloatArray, float, float]:
    """The Hermite coefficients, and T0 and T1, what is beyond them; an iteration asks for those of a scale again."""
    h = hermite_coefficients(activation, sigma, _DEGREE if activation.kinks else _DEGREE_SMOOTH)
    known = moments(activation, sigma)
    of_slope = sigma**2 * known.first_square - float(np.arange(h.size) @ h**2)
    return h, known.square - float(h @ h), of_slope
