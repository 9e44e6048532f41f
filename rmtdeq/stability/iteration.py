"""The plain iteration of an infinitely wide recurrent layer, step by step.

The states are z⁰ = 0, z^k = φ(u^k)/√m.  With one and the same Gaussian A in all steps the u^k are jointly Gaussian,
``cov(u^k, u^l) = σ_a² E φ(u^{k-1})φ(u^{l-1}) + σ_b²‖x‖² + σ_c²``.  Hence u^k - u^l has the variance
σ_a²‖z^{k-1} - z^{l-1}‖², and differences of states have a recursion of their own in which nothing cancels:
``‖z^k - z^l‖² = E (φ(u^k) - φ(u^l))²``.  It holds for orthogonal A, too, which keeps all inner products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.activations.duals import second_moment
from rmtdeq.activations.increments import mean_square_increment
from rmtdeq.network import Layer

_AT_REST = 1e-12
_MOST_STEPS = 1000
_SETTLED, _AFTER = 1e-6, 250


@dataclass(frozen=True, eq=False)
class Course:
    """An iteration of n samples; lengths are absolute.

    Attributes
    ----------
    sizes, changes : ndarray (steps, n)
        ‖z^k‖ and ‖z^k - z^{k-1}‖, k = 1 … steps.
    errors : ndarray (steps + 1, n)
        ‖z^k - z*‖, k = 0 … steps.
    """

    sizes: FloatArray
    changes: FloatArray
    errors: FloatArray


def forward_course(layer: Layer, sources: FloatArray, scales: FloatArray) -> Course:
    """Follow the iteration until all is at rest; for 250 steps if all shrinks evenly then, for 1000 at most.

    Parameters
    ----------
    layer : Layer
        Recurrent and uncentred.
    sources : ndarray (n,)
        σ_b²‖x‖² + σ_c² of each sample, the variance of u¹.
    scales : ndarray (n,)
        Standard deviation of u at the equilibrium.
    """
    phi, sigma_a = layer.activation, np.sqrt(layer.sigma_a2)
    rest = np.sqrt(second_moment(phi, scales))
    sigma = np.sqrt(sources)
    sizes = [np.sqrt(second_moment(phi, sigma))]
    changes, errors = [sizes[0]], [rest]
    while True:
        errors.append(np.sqrt(mean_square_increment(phi, sigma, scales, sigma_a * errors[-1])))
        at_rest = (np.maximum(changes[-1], errors[-1]) <= _AT_REST * rest).all()
        if at_rest or len(sizes) == _MOST_STEPS or (len(sizes) >= _AFTER and _even(changes)):
            return Course(np.stack(sizes), np.stack(changes), np.stack(errors))
        # Rounding makes no difference any more, and a scale met before has its expectations at hand.
        new = np.sqrt(layer.sigma_a2 * sizes[-1] ** 2 + sources)
        new = np.where(abs(new - scales) <= 1e-14 * scales, scales, new)
        changes.append(np.sqrt(mean_square_increment(phi, sigma, new, sigma_a * changes[-1])))
        sigma = new
        sizes.append(np.sqrt(second_moment(phi, sigma)))


def _even(changes: list[FloatArray]) -> bool:
    """Say whether the last three changes are in one proportion."""
    first, second, third = changes[-3:]
    return bool((abs(third * first - second**2) <= _SETTLED * second**2).all())
