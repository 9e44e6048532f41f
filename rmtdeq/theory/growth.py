"""From the eigenvalues of kernels on some samples to those on n samples.

As samples are added the k-th largest eigenvalue grows in proportion, and the smallest stay where they are: eigenvalues
keep their rank at the head and their share of the ranks at the tail.  What an eigenvalue of the same place did from
half of the samples to all of them, by its logarithm, it is taken to go on doing.  This is an extrapolation and no law:
it holds for the smooth spectra of images, and less where a bulk has a hard edge, as a low-dimensional mixture's; how
well it does from a quarter to a half tells.
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
        Ascending from 0.5, of the largest eigenvalue, to n - 0.5.

    Returns
    -------
    ndarray (r,)
        Descending.
    """
    m = blocks.size
    whole, halves = blocks.logarithms()
    if n == m:
        return _at(whole, ranks)
    doublings = np.log(n / m) / np.log(m / (m // 2))

    def carried(now: FloatArray, before: FloatArray) -> FloatArray:
        return _at(whole, now) + doublings * (_at(whole, now) - _at(halves, before))

    low, high = np.log(_HEAD)
    weight = np.clip((high - np.log(ranks / m)) / (high - low), 0.0, 1.0)
    # As smooth as the two that it joins.
    weight *= weight * (3 - 2 * weight)
    now = _same_place(ranks, n, m)
    result = weight * carried(ranks, ranks) + (1 - weight) * carried(now, _same_place(now, m, m // 2))
    return _rearranged(result, ranks)


def _rearranged(logarithms: FloatArray, ranks: FloatArray) -> FloatArray:
    """The same values, each for as many ranks as before, descending."""
    order = np.argsort(-logarithms, kind="stable")
    widths = np.gradient(ranks)[order]
    return np.interp(ranks, ranks[0] + np.cumsum(widths) - (widths + widths[0]) / 2, logarithms[order])


def _same_place(ranks: FloatArray, n: int, m: int) -> FloatArray:
    """The ranks among m that answer to ranks among n: the first to the first, the last to the last."""
    return np.minimum((2 * ranks) ** (np.log(2 * m) / np.log(2 * n)) / 2, m - 0.5)


def _at(logarithms: FloatArray, ranks: FloatArray) -> FloatArray:
    """The logarithm of an eigenvalue at ranks between the whole ones, those of the ends beyond them."""
    return np.interp(np.log(ranks), np.log(np.arange(logarithms.size) + 0.5), logarithms)
