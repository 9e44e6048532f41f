"""From the eigenvalues of kernels on some samples to those on n samples.

For eigenvalues λ_k of the kernel's integral operator, ``D(κ) = Σ λ_k/(λ_k + κ)`` are the degrees of freedom at the
resolution κ.  A kernel matrix K on n samples with a ridge δ resolves κ = 1/tr(K + δ)^{-1}, where

    n = D(κ) + δ/κ,        tr K(K + δ)^{-1} = D(κ)

(the deterministic equivalent behind kernel ridge regression).  D does not depend on n: it is read from the eigenvalues
of any kernel matrix, and gives the degrees of freedom, so the eigenvalues, of a larger one as far down as the smaller
one resolves.  What lies below, where single neighbours count and no equivalent holds, is carried on as it went from
half of the samples to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray

_PER_DECADE = 24
_BEYOND = 1e3
_UNRESOLVED = 1e-3
_BLEND = (0.3, 0.6)
_LEAST = 1e-16
_DENSE = 512
_POINTS = 1500


@dataclass(frozen=True, eq=False)
class BlockSpectra:
    """Eigenvalues of a kernel on disjoint blocks of samples, and on their halves.

    Attributes
    ----------
    whole : ndarray (blocks, m)
        Of each block, descending.
    halves : ndarray (halves, m // 2)
        Likewise; the samples are the same.
    """

    whole: FloatArray
    halves: FloatArray

    @property
    def size(self) -> int:
        """Samples in a block, m."""
        return int(self.whole.shape[1])

    def logarithms(self) -> tuple[FloatArray, FloatArray]:
        """Mean logarithm of the eigenvalue of each rank, of blocks (m,) and halves (m // 2,)."""
        # Copies of a sample bring eigenvalues that are zero.
        least = _LEAST * float(self.whole.max())
        whole, halves = (np.log(np.maximum(each, least)).mean(axis=0) for each in (self.whole, self.halves))
        return whole, halves


def degrees_of_freedom(spectra: FloatArray, ridges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the resolution κ and the degrees of freedom D(κ) that kernels of one size have with ridges.

    Parameters
    ----------
    spectra : ndarray (blocks, m)
        Eigenvalues.
    ridges : ndarray (d,)

    Returns
    -------
    kappa, dimension : ndarray (d,)
    """
    trace = np.mean([(1 / (values[:, None] + ridges)).sum(axis=0) for values in spectra], axis=0)
    return 1 / trace, spectra.shape[1] - ridges * trace


def rank_grid(n: int) -> FloatArray:
    """Return ranks from 0.5 to n - 0.5, ascending: all of a small matrix, the dense ends of a large one."""
    if n <= 2 * _DENSE + _POINTS:
        return np.arange(n) + 0.5
    middle = np.geomspace(_DENSE, n / 2, _POINTS // 2)
    return np.unique(np.concatenate([np.arange(_DENSE) + 0.5, middle, n - middle, n - np.arange(_DENSE) - 0.5]))


def grown_logarithms(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Return the logarithms of the eigenvalues that the kernel on n samples has at some ranks.

    Parameters
    ----------
    blocks : BlockSpectra
    n : int
        At least the size of a block.
    ranks : ndarray (r,)
        From 0.5, of the largest eigenvalue, to n - 0.5.
    """
    m = blocks.size
    whole, halves = blocks.logarithms()
    if n == m:
        return _at(whole, ranks)
    now = _same_place(ranks, n, m)
    before = _same_place(now, m, m // 2)
    carried = _at(whole, now) + (_at(whole, now) - _at(halves, before)) * np.log(n / m) / np.log(m / (m // 2))
    resolved = _at(whole, now) + _resolved_shift(blocks.whole, n, ranks, now)
    place = np.log(ranks / m)
    low, high = np.log(_BLEND)
    weight = np.clip((high - place) / (high - low), 0.0, 1.0)
    weight = weight * weight * (3 - 2 * weight)
    return np.minimum.accumulate(weight * resolved + (1 - weight) * carried)


def _resolved_shift(spectra: FloatArray, n: int, ranks: FloatArray, now: FloatArray) -> FloatArray:
    """By how much the logarithm of an eigenvalue is above that at the place `now` among m, from D."""
    m = spectra.shape[1]
    largest = float(spectra.max())
    least = max(float(spectra.min()), _LEAST * largest)
    ridges = np.geomspace(least / _BEYOND, largest * _BEYOND, int(_PER_DECADE * np.log10(largest / least * _BEYOND**2)))
    kappa, dimension = degrees_of_freedom(spectra, ridges)
    keep = dimension < m * (1 - _UNRESOLVED)
    kappa, dimension = kappa[keep], dimension[keep]

    def ridge(size: int, at: FloatArray) -> FloatArray:
        """Logarithm of the ridge at which a matrix has a number of degrees of freedom."""
        return np.interp(
            -np.log(at / (size - at)), -np.log(dimension / (size - dimension)), np.log(kappa * (size - dimension))
        )

    return ridge(n, ranks) - ridge(m, now)


def _same_place(ranks: FloatArray, n: int, m: int) -> FloatArray:
    """The ranks among m that answer to ranks among n: the first to the first, the last to the last."""
    power = np.log(2 * m) / np.log(2 * n)
    return np.minimum((2 * ranks) ** power / 2, m - 0.5)


def _at(logarithms: FloatArray, ranks: FloatArray) -> FloatArray:
    """The logarithm of an eigenvalue at ranks between the whole ones."""
    return np.interp(np.log(ranks), np.log(np.arange(logarithms.size) + 0.5), logarithms)
