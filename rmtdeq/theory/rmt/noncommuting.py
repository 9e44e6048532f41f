"""Traces of resolvents of covariances that do not commute, on their leading coordinates.

With ``B = I + Σ_a w_a (s_a s_aᵀ) ⊗ C_a`` the traces wanted are the derivatives of ``log det B`` in w.  In the basis of
the mean covariance B is nearly diagonal in the coordinates.  It is treated exactly on the *head*, the leading
coordinates in the leading directions of the s_a; elsewhere entries between different coordinates are dropped, which
leaves a block for each coordinate.  What remains are covariances again (a pinching of them), so that their equations
have one solution in the upper half plane like any others.

Near an atom of a class its w_a is huge, and B^{-1} tiny on the range of its covariance but not elsewhere.  So that no
digits are lost, B is written in an eigenbasis of the term that dominates and divided by its size in each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.linalg import qr

from rmtdeq._lib.threads import share_out, threads
from rmtdeq._lib.types import ComplexArray, FloatArray, IntArray

_CHUNK = 50_000
"""Entries of the matrices that are treated at a time, as many as a cache holds."""
_LARGE = 1e6
_ZERO = 1e-14
_SMALL = 16
_HALVED, _BLOCKED = 27, 300
"""Orders beyond which matrices are inverted by halves, and beyond which they keep all threads of BLAS busy."""


@dataclass(frozen=True, eq=False)
class Head:
    """The leading coordinates in the leading directions.

    Attributes
    ----------
    matrices : ndarray (K, d, d)
        The covariances there.
    factors : ndarray (K, r)
        The vectors s_a.
    """

    matrices: FloatArray
    factors: FloatArray

    @property
    def order(self) -> int:
        """Order r·d of the matrix B."""
        return self.matrices.shape[1] * self.factors.shape[1]

    @property
    def large(self) -> bool:
        """Whether the inverse of B keeps all threads of BLAS busy."""
        return self.order > _BLOCKED

    def traces(self, w: ComplexArray, jacobian: bool) -> tuple[ComplexArray, ComplexArray]:
        """Return gradient and Hessian in w of ``log det B``.

        Parameters
        ----------
        w : ndarray (points, K)
        jacobian : bool
            Without it the Hessian is zero: it costs K times as much as the gradient.

        Returns
        -------
        gradient : ndarray (points, K)
        hessian : ndarray (points, K, K)
        """
        points, k = w.shape
        gradient = np.zeros((points, k), dtype=complex)
        hessian = np.zeros((points, k, k), dtype=complex)

        def fill(part: IntArray, frame: _Frame) -> None:
            lengths, inverse = frame.inverse(w[part])
            scaled = inverse * _outer(1 / lengths)
            gradient[part] = _of_pairs(frame.rows @ _pairs(scaled.reshape(part.size, -1)))
            if jacobian:
                hessian[part] = [-_traces_of_products(frame.terms, matrix) for matrix in scaled]

        self._in_frames(w, fill)
        return gradient, hessian

    def form(self, means: FloatArray, w: ComplexArray) -> ComplexArray:
        """``(s_a ⊗ μ_a)ᵀ B^{-1} (s_b ⊗ μ_b)``, (points, K, K), for means (K, d)."""
        k = means.shape[0]
        result = np.empty((w.shape[0], k, k), dtype=complex)
        lifted = np.einsum("ai,ak->aik", self.factors, means).reshape(k, -1)

        def fill(part: IntArray, frame: _Frame) -> None:
            lengths, inverse = frame.inverse(w[part])
            rotated = (lifted @ frame.basis) / lengths[:, None, :]
            result[part] = np.matmul(np.matmul(rotated, inverse), rotated.transpose(0, 2, 1))

        self._in_frames(w, fill)
        return result

    def argument(self, w: ComplexArray) -> FloatArray:
        """Return the argument of det B, (points,), zero at w = 0 and continuous from there, Im w > 0."""
        result = np.empty(w.shape[0])

        def fill(part: IntArray, frame: _Frame) -> None:
            result[part] = _argument(frame.scaled(w[part])[1])

        self._in_frames(w, fill)
        return result

    def _in_frames(self, w: ComplexArray, work: Callable[[IntArray, _Frame], None]) -> None:
        """Share chunks of points out among threads, each chunk with the frame that B is written in there."""
        pieces = list(self._pieces(w))
        # Of large matrices one is enough for all threads, of BLAS, and for the memory.
        workers = threads(len(pieces)) if len(pieces) > 1 and not self.large else 1
        share_out(pieces, lambda _: lambda piece: work(piece[0], piece[1]()), workers)

    def _pieces(self, w: ComplexArray) -> Iterator[tuple[IntArray, Callable[[], _Frame]]]:
        """Sort points by the terms that dominate B there, in chunks."""
        loads = abs(w) * self._norms
        huge = (loads > _LARGE).sum(axis=1)
        plain = np.flatnonzero(huge == 0)
        rows = max(1, _CHUNK // self.order**2)
        for start in range(0, plain.size, rows):
            yield plain[start : start + rows], lambda: self._plain
        for a in range(w.shape[1]):
            mine = np.flatnonzero((huge == 1) & (loads[:, a] > _LARGE))
            for start in range(0, mine.size, rows):
                yield mine[start : start + rows], partial(self._dominated, a)
        for g in np.flatnonzero(huge > 1):
            yield np.array([g]), partial(self._sorted, w[g])

    @cached_property
    def _norms(self) -> FloatArray:
        return np.asarray(self._eigenvalues[:, -1] * (self.factors**2).sum(axis=1))

    @cached_property
    def _eigenvectors(self) -> tuple[FloatArray, FloatArray]:
        values, vectors = np.linalg.eigh(self.matrices)
        least = _ZERO * values.shape[1] * values[:, -1:]
        return np.where(values > least, values, 0.0), vectors

    @property
    def _eigenvalues(self) -> FloatArray:
        return self._eigenvectors[0]

    @cached_property
    def _roots(self) -> list[FloatArray]:
        """``s_a ⊗ F_a`` with ``F_a F_aᵀ = C_a``, (r d, rank of C_a)."""
        return [
            np.kron(factor[:, None], (vectors * np.sqrt(values))[:, values > 0])
            for factor, values, vectors in zip(self.factors, *self._eigenvectors, strict=True)
        ]

    @cached_property
    def _plain(self) -> _Frame:
        terms = [np.kron(np.outer(s, s), matrix) for s, matrix in zip(self.factors, self.matrices, strict=True)]
        return _Frame(np.eye(self.order), np.array(terms))

    @cached_property
    def _dominating(self) -> dict[int, _Frame]:
        return {}

    def _dominated(self, a: int) -> _Frame:
        """An eigenbasis of term a, in which it is diagonal to the last digit."""
        if a not in self._dominating:
            values, vectors = (part[a] for part in self._eigenvectors)
            directions, _ = np.linalg.qr(np.column_stack([self.factors[a], np.eye(self.factors.shape[1])]))
            frame = self._rotated(np.kron(directions, vectors))
            own = np.zeros(self.order)
            own[: values.size] = values * (self.factors[a] ** 2).sum()
            frame.terms[a] = np.diag(own)
            self._dominating[a] = frame
        return self._dominating[a]

    def _sorted(self, w: ComplexArray) -> _Frame:
        """Directions by what all terms have of them."""
        weighted = np.hstack([root * np.sqrt(abs(at)) for root, at in zip(self._roots, w, strict=True)])
        return self._rotated(qr(weighted, mode="full", pivoting=True)[0])

    def _rotated(self, basis: FloatArray) -> _Frame:
        rows = [basis.T @ root for root in self._roots]
        return _Frame(basis, np.array([row @ row.T for row in rows]))


@dataclass(frozen=True, eq=False)
class _Frame:
    """An orthonormal basis V and the terms ``Vᵀ (s_a s_aᵀ ⊗ C_a) V``, (K, rd, rd)."""

    basis: FloatArray
    terms: FloatArray

    def inverse(self, w: ComplexArray) -> tuple[FloatArray, ComplexArray]:
        """Return D (points, rd) and M (points, rd, rd) with ``B^{-1} = V D^{-1} M D^{-1} Vᵀ``.

        D is the root of B's size in each direction, so that M is well conditioned in a basis that suits.
        """
        lengths, matrix = self.scaled(w)
        return lengths, _inverses(matrix)

    def scaled(self, w: ComplexArray) -> tuple[FloatArray, ComplexArray]:
        """Return D and ``D^{-1} Vᵀ B V D^{-1}``."""
        order = self.terms.shape[1]
        lengths = np.sqrt(1 + abs(w) @ np.einsum("akk->ak", self.terms))
        matrix = _of_pairs(self.rows.T @ _pairs(w)).reshape(-1, order, order)
        matrix[:, np.arange(order), np.arange(order)] += 1
        matrix *= _outer(1 / lengths)
        return lengths, matrix

    @property
    def rows(self) -> FloatArray:
        """The terms, each as one row."""
        return self.terms.reshape(self.terms.shape[0], -1)


def _pairs(values: ComplexArray) -> FloatArray:
    """Real and imaginary parts (…, 2) of complex numbers: what is real need not be made complex to meet them."""
    return np.ascontiguousarray(values).view(float).reshape(*values.shape, 2)


def _of_pairs(parts: FloatArray) -> ComplexArray:
    """Complex numbers from their parts (…, 2)."""
    return np.ascontiguousarray(parts).view(complex)[..., 0]


def _outer(lengths: FloatArray) -> FloatArray:
    """Products of every two of some numbers (points, k): (points, k, k)."""
    return lengths[:, :, None] * lengths[:, None, :]


def _inverses(matrices: ComplexArray) -> ComplexArray:
    """Return the inverses of symmetric matrices (points, order, order) with Im ≥ 0, from those of halves of them.

    That takes half as many operations, and lets other threads go on; LAPACK's own for symmetric ones would not.
    """
    order = matrices.shape[1]
    if not _HALVED < order <= _BLOCKED:
        return np.asarray(np.linalg.inv(matrices))
    half = order // 2
    result = np.empty_like(matrices)
    leading = _inverses(matrices[:, :half, :half])
    side = matrices[:, half:, :half]
    across = side @ leading
    complement = _inverses(matrices[:, half:, half:] - across @ side.transpose(0, 2, 1))
    below = complement @ across
    result[:, :half, :half] = leading + across.transpose(0, 2, 1) @ below
    result[:, half:, :half] = -below
    result[:, :half, half:] = -below.transpose(0, 2, 1)
    result[:, half:, half:] = complement
    return result


def _traces_of_products(terms: FloatArray, matrix: ComplexArray) -> ComplexArray:
    """Return ``tr T_a M T_b M`` of real terms (K, order, order) and a symmetric matrix."""
    count, order, _ = terms.shape
    stacked = terms.reshape(-1, order)
    products = (stacked @ matrix.real + 1j * (stacked @ matrix.imag)).reshape(count, order, order)
    return np.asarray(products.reshape(count, -1) @ products.transpose(0, 2, 1).reshape(count, -1).T)


def _argument(matrix: ComplexArray) -> FloatArray:
    """Arguments of determinants of symmetric matrices (points, order, order) with Im ≥ 0, as those of eigenvalues.

    Theirs lie between 0 and π, and so do those of Schur complements, which have Im ≥ 0 again.
    """
    order = matrix.shape[1]
    if order <= _SMALL:
        return np.asarray(np.angle(np.linalg.eigvals(matrix)).sum(axis=1))
    half = order // 2
    leading, side = matrix[:, :half, :half], matrix[:, :half, half:]
    complement = matrix[:, half:, half:] - side.transpose(0, 2, 1) @ np.linalg.solve(leading, side)
    return _argument(leading) + _argument(complement)
