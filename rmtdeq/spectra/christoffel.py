"""What the moments of a distribution leave open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray

_BREAKDOWN = 1e-12
_ENOUGH = 1e30


@dataclass(frozen=True, eq=False)
class ChristoffelFunction:
    """The largest mass at a point of all measures that have the same moments as a given one.

    By the inequalities of Chebyshev, Markov and Stieltjes their distribution functions differ there by so much at most.
    It is the reciprocal of the sum of squares of the orthonormal polynomials.

    Attributes
    ----------
    mass : float
        Of the measure.
    diagonal : ndarray (k,)
    beside : ndarray (k - 1,)
        Coefficients of the polynomials' recurrence: the Jacobi matrix.
    """

    mass: float
    diagonal: FloatArray
    beside: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the mass at each x."""
        flat = np.ravel(x)
        before, now, total = np.zeros(flat.size), np.ones(flat.size), np.ones(flat.size)
        for k, beside in enumerate(self.beside):
            last = self.beside[k - 1] if k else 0.0
            before, now = now, ((flat - self.diagonal[k]) * now - last * before) / beside
            # Where next to nothing is left, it is left at that: squares would become too large.
            going_on = total < _ENOUGH
            before, now = np.where(going_on, before, 0.0), np.where(going_on, now, 0.0)
            total += now**2
        return (self.mass / total).reshape(np.shape(x))


def christoffel(nodes: FloatArray, weights: FloatArray, degree: int) -> ChristoffelFunction:
    """Return the Christoffel function of a discrete measure, for polynomials below a degree.

    The recurrence is that of Lanczos iterations with the diagonal matrix of the nodes.
    """
    seen = weights > 0
    nodes, weights = nodes[seen], weights[seen]
    mass = float(weights.sum())
    count = min(degree, nodes.size)
    basis, diagonal, beside = np.empty((count, nodes.size)), np.empty(count), np.empty(count)
    vector = np.sqrt(weights / mass) if count else weights
    for k in range(count):
        basis[k] = vector
        image = nodes * vector
        diagonal[k] = image @ vector
        for _ in range(2):
            image = image - (basis[: k + 1] @ image) @ basis[: k + 1]
        beside[k] = np.linalg.norm(image)
        if beside[k] <= _BREAKDOWN * float(abs(nodes).max()):
            count = k + 1
            break
        vector = image / beside[k]
    return ChristoffelFunction(mass, diagonal[:count], beside[: max(count - 1, 0)])
