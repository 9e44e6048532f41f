"""From the eigenvalues of kernels on some samples to those on n samples, rank by rank.

As samples are added the k-th largest eigenvalue grows in proportion, and the smallest stay where they are: eigenvalues
keep their rank at the head and their share of the ranks at the tail.  What an eigenvalue of the same place did from
half of the samples to all of them, by its logarithm, it is taken to go on doing.  This is an extrapolation and no law:
it holds for smooth spectra, and less where a bulk has a hard edge, as a low-dimensional mixture's, or where a step
moves along the ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray

_HEAD = (0.04, 0.1)
"""Shares of the ranks up to which places are ranks, and from which they are not."""
_LEAST = 1e-16
_DENSE = 512
_POINTS = 1500


@dataclass(frozen=True, eq=False)
class BlockSpectra:
    """Eigenvalues of a kernel on disjoint blocks of samples, on their halves and on their quarters.

    Attributes
    ----------
    whole : ndarray (blocks, m)
        Of each block, descending.
    halves : ndarray (halves, m // 2)
        Likewise; the samples are the same.
    quarters : ndarray (quarters, m // 4)
    """

    whole: FloatArray
    halves: FloatArray
    quarters: FloatArray

    @property
    def size(self) -> int:
        """Samples in a block, m."""
        return int(self.whole.shape[1])


def rank_grid(n: int) -> FloatArray:
    """Return ranks from 0.5 to n - 0.5, ascending: all of a small matrix, the dense ends of a large one."""
    if n <= 2 * _DENSE + _POINTS:
        return np.arange(n) + 0.5
    middle = np.geomspace(_DENSE, n / 2, _POINTS // 2)
    return np.unique(np.concatenate([np.arange(_DENSE) + 0.5, middle, n - middle, n - np.arange(_DENSE) - 0.5]))


def rank_widths(ranks: FloatArray, n: int) -> FloatArray:
    """Return how many of n ranks each of these stands for."""
    return np.diff(np.concatenate([[0.0], (ranks[1:] + ranks[:-1]) / 2, [float(n)]]))


def positive(spectra: FloatArray) -> FloatArray:
    """Return the same without the zeros that copies of a sample bring."""
    return np.maximum(spectra, _LEAST * float(spectra.max()))


def mean_logarithms(spectra: FloatArray) -> FloatArray:
    """Return the mean logarithm of the eigenvalue of each rank, (m,), of spectra (blocks, m)."""
    return np.asarray(np.log(positive(spectra)).mean(axis=0))


def at_ranks(logarithms: FloatArray, ranks: FloatArray) -> FloatArray:
    """Return the logarithm of an eigenvalue at ranks between the whole ones, those of the ends beyond them."""
    return np.interp(np.log(ranks), np.log(np.arange(logarithms.size) + 0.5), logarithms)


def smooth_step(x: FloatArray, low: float, high: float) -> FloatArray:
    """Return what rises from 0 to 1 between two places, as smooth there as elsewhere."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def rearranged(logarithms: FloatArray, ranks: FloatArray, n: int) -> FloatArray:
    """Return the same values, each for as many ranks as before, descending."""
    order = np.argsort(-logarithms, kind="stable")
    widths = rank_widths(ranks, n)[order]
    return np.interp(ranks, ranks[0] + np.cumsum(widths) - (widths + widths[0]) / 2, logarithms[order])


def grown_by_rank(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Return the logarithms of the eigenvalues that the kernel on n samples has at some ranks.

    Parameters
    ----------
    blocks : BlockSpectra
    n : int
        More than the size of a block.
    ranks : ndarray (r,)
        Ascending from 0.5, of the largest eigenvalue, to n - 0.5.

    Returns
    -------
    ndarray (r,)
        Descending.
    """
    m = blocks.size
    whole, halves = mean_logarithms(blocks.whole), mean_logarithms(blocks.halves)
    doublings = np.log(n / m) / np.log(m / (m // 2))

    def carried(now: FloatArray, before: FloatArray) -> FloatArray:
        return at_ranks(whole, now) + doublings * (at_ranks(whole, now) - at_ranks(halves, before))

    weight = smooth_step(np.log(ranks / m), *np.log(_HEAD))
    now = _same_place(ranks, n, m)
    result = (1 - weight) * carried(ranks, ranks) + weight * carried(now, _same_place(now, m, m // 2))
    return rearranged(result, ranks, n)


def _same_place(ranks: FloatArray, n: int, m: int) -> FloatArray:
    """The ranks among m that answer to ranks among n: the first to the first, the last to the last."""
    return np.minimum((2 * ranks) ** (np.log(2 * m) / np.log(2 * n)) / 2, m - 0.5)
