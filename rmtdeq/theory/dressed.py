"""A kernel as a polynomial in the cosines of the samples, its coefficients fitted where samples are.

An entry depends on two norms and a cosine alone.  Divided by the roots of both diagonal entries it is a smooth function
of the cosine, and a smoother one of the logarithms of the norms:

    K_ij ≈ √(K_ii K_jj) Σ_l T_l(t_ij) q(ν_i)ᵀ C_l q(ν_j),

T_l Chebyshev polynomials over the cosines t, q those over ν = log ‖x‖, C_l symmetric; the diagonal is the kernel's.
Fitted to the pairs that occur ("dressed"), and not expanded around a point, a few orders serve data of any effective
dimension.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.linear import SymmetricOperator
from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.kernels.chebyshev import chebyshev_polynomials

logger = logging.getLogger(__name__)

LEAST = 4
"""Samples to whose pairs a polynomial can be fitted."""

_ORDERS = (1, 2, 3, 4, 6, 8, 12)
_MOST_POWERS = 4
"""Of the logarithm of a norm."""

_ONE_NORM = 1e-6
"""Logarithms of norms that differ by less differ by rounding, as of samples kept in single precision."""

_BOUND = 1e-3
_FITTED, _EXTREME, _HELD_OUT = 20_000, 2_000, 10_000
"""Pairs: drawn, those of the largest and smallest cosines, and drawn to tell the error."""

_BEYOND = 0.1
"""What smaller cosines other samples may have, over the range of those seen."""

_ROWS = 256


@dataclass(frozen=True, eq=False)
class Polar:
    """Samples by direction and norm.

    Attributes
    ----------
    directions : ndarray (n, p)
        Of norm one; zero for the zero sample.
    logarithms : ndarray (n,)
        Of the norms; of the smallest positive one for the zero sample.
    roots : ndarray (n,)
        √K_ii.
    """

    directions: FloatArray
    logarithms: FloatArray
    roots: FloatArray

    @classmethod
    def of(cls, X: FloatArray, diagonal: FloatArray) -> Polar:
        """Split samples (n, p), with the diagonal of their kernel."""
        norms = np.linalg.norm(X, axis=1)
        safe = np.where(norms > 0, norms, norms[norms > 0].min(initial=np.inf))
        return cls(X / safe[:, None], np.log(safe), np.sqrt(diagonal))


@dataclass(frozen=True, eq=False)
class DressedPolynomial:
    """A polynomial in a cosine and in the logarithms of two norms.

    Attributes
    ----------
    cosines, logarithms : tuple of float
        The ranges that it was fitted on; beyond them it stays as it is at their ends.
    coefficients : ndarray (order + 1, powers, powers)
        C_l, symmetric.
    error : float
        Root mean squared error of K_ij/√(K_ii K_jj) on pairs that it was not fitted to.
    """

    cosines: tuple[float, float]
    logarithms: tuple[float, float]
    coefficients: FloatArray
    error: float

    @property
    def order(self) -> int:
        """The highest power of the cosine."""
        return len(self.coefficients) - 1

    def powers(self, logarithms: FloatArray) -> FloatArray:
        """q(ν), (n, powers)."""
        return _polynomials(logarithms, self.logarithms, self.coefficients.shape[1]).T

    def __call__(self, cosines: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return values at cosines (m, n), q(ν) of rows (m, powers) and columns (n, powers) given; Clenshaw's rule."""
        x = _scaled(cosines, self.cosines)
        value, before = np.zeros_like(x), np.zeros_like(x)
        for middle in self.coefficients[:0:-1]:
            value, before = 2 * x * value - before + left @ middle @ right.T, value
        return np.asarray(x * value - before + left @ self.coefficients[0] @ right.T)


def dressed(samples: Polar, kernel: FloatArray, n: int, rng: np.random.Generator) -> DressedPolynomial:
    """Fit a polynomial to a kernel of some samples.

    Parameters
    ----------
    samples : Polar
    kernel : ndarray (m, m)
    n : int
        Samples that it is for.  The order is the least for which Hoffman and Wielandt's bound on the root mean squared
        displacement of n eigenvalues, √n times that of the entries, is a thousandth of the mean diagonal entry; or that
        with the least error.
    rng : Generator
        Of the pairs.
    """
    gram = samples.directions @ samples.directions.T
    pairs = np.stack(np.triu_indices(len(gram), 1))
    order = rng.permutation(pairs.shape[1])
    held, drawn = np.split(order, [min(_HELD_OUT, order.size // 4)])
    drawn = drawn[:_FITTED]
    by_cosine = np.argsort(gram[pairs[0], pairs[1]])
    used = np.union1d(drawn, np.concatenate([by_cosine[:_EXTREME], by_cosine[-_EXTREME:]]))
    least = float(gram[pairs[0], pairs[1]].min())
    cosines = (max(-1.0, least - _BEYOND * (1 - least)), 1.0)
    logarithms = (float(samples.logarithms.min()), float(samples.logarithms.max()))
    one_norm = logarithms[1] - logarithms[0] < _ONE_NORM

    def values(at: IntArray) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        i, j = pairs[:, at]
        return i, j, gram[i, j], kernel[i, j] / (samples.roots[i] * samples.roots[j])

    fitted, left_out = values(used), values(held)
    best: DressedPolynomial | None = None
    for degree in _ORDERS:
        powers = 1 if one_norm else min(2 + degree // 2, _MOST_POWERS + 1)
        found = _fitted(fitted, left_out, samples.logarithms, cosines, logarithms, degree, powers)
        if best is None or found.error < best.error:
            best = found
        if np.sqrt(n) * best.error <= _BOUND:
            break
    assert best is not None
    logger.info("A polynomial of order %d, entries off by %.1e.", best.order, best.error)
    return best


def _fitted(
    used: tuple[IntArray, IntArray, FloatArray, FloatArray],
    held: tuple[IntArray, IntArray, FloatArray, FloatArray],
    norms: FloatArray,
    cosines: tuple[float, float],
    logarithms: tuple[float, float],
    degree: int,
    powers: int,
) -> DressedPolynomial:
    """Fit by least squares to pairs (i, j, cosine, value), and measure the error on others."""
    a, b = np.triu_indices(powers)
    of_norms = _polynomials(norms, logarithms, powers)

    def terms(pairs: tuple[IntArray, IntArray, FloatArray, FloatArray]) -> FloatArray:
        i, j, t, _ = pairs
        symmetric = of_norms[a][:, i] * of_norms[b][:, j] + of_norms[b][:, i] * of_norms[a][:, j]
        in_cosines = _polynomials(t, cosines, degree + 1)
        return np.asarray((in_cosines[:, None] * symmetric[None]).reshape(-1, t.size).T)

    triangle = np.asarray(np.linalg.qr(np.column_stack([terms(used), used[3]]), mode="r"))
    solution, *_ = np.linalg.lstsq(triangle[:, :-1], triangle[:, -1], rcond=None)
    coefficients = np.zeros((degree + 1, powers, powers))
    coefficients[:, a, b] = solution.reshape(degree + 1, -1)
    coefficients = coefficients + coefficients.transpose(0, 2, 1)
    error = float(np.sqrt(np.mean(np.square(terms(held) @ solution - held[3]))))
    return DressedPolynomial(cosines, logarithms, coefficients, error)


def _scaled(values: FloatArray, ends: tuple[float, float]) -> FloatArray:
    """Carry a range to [-1, 1]; what lies beyond goes to its ends."""
    low, high = ends
    if low == high:
        return np.zeros_like(values)
    return np.clip((2 * values - low - high) / (high - low), -1.0, 1.0)


def _polynomials(values: FloatArray, ends: tuple[float, float], count: int) -> FloatArray:
    """The first Chebyshev polynomials over a range, (count, values)."""
    return chebyshev_polynomials(_scaled(values, ends), max(count, 2))[:count]


class PolynomialOperator(SymmetricOperator):
    """``√(K_ii K_jj) Σ_l T_l(t_ij) q(ν_i)ᵀ C_l q(ν_j)`` off the diagonal and the kernel's own on it.

    Nothing of size n x n is kept: a product costs the Gram matrix.  Made by `equivalent_operator`.

    Attributes
    ----------
    polynomial : DressedPolynomial
    """

    def __init__(self, samples: Polar, polynomial: DressedPolynomial) -> None:
        n = len(samples.roots)
        super().__init__(dtype=np.dtype(np.float64), shape=(n, n))
        self.polynomial = polynomial
        self._samples = samples
        self._powers = polynomial.powers(samples.logarithms)

    @property
    def displacement(self) -> float:
        """Of the eigenvalues, root mean squared, over the mean diagonal entry: about this at most.

        √n times the error of the polynomial (Hoffman, Wielandt), which pairs beyond the fitted norms are not part of.
        """
        return float(np.sqrt(self.shape[0]) * self.polynomial.error)

    def _rows(self) -> Iterator[tuple[slice, FloatArray]]:
        """The matrix, some rows at a time."""
        directions, roots = self._samples.directions, self._samples.roots
        for top in range(0, self.shape[0], _ROWS):
            part = slice(top, min(top + _ROWS, self.shape[0]))
            rows = self.polynomial(directions[part] @ directions.T, self._powers[part], self._powers)
            rows *= roots[part, None] * roots
            at = np.arange(part.start, part.stop)
            rows[at - top, at] = roots[part] ** 2
            yield part, rows

    def _matmat(self, V: FloatArray) -> FloatArray:
        V = np.asarray(V, dtype=float).reshape(self.shape[0], -1)
        return np.concatenate([rows @ V for _, rows in self._rows()])

    def dense(self) -> FloatArray:
        """Return the matrix, (n, n)."""
        result = np.empty(self.shape)
        for part, rows in self._rows():
            result[part] = rows
        return (result + result.T) / 2
