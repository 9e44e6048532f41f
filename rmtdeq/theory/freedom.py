"""From the eigenvalues of kernels on some samples to those on n samples, by degrees of freedom.

With the effective ridge κ,

    1/κ = tr (K + δ)⁻¹,    D(κ) = tr K (K + δ)⁻¹ = n - δ/κ,

D as a function of κ does not depend on n where samples are many: n = Σ λ_k/(λ_k + κ) + δ/κ over the eigenvalues λ_k of
the kernel's operator (Simon, Dickens, Karkada, DeWeese, arXiv 2110.03922).  Where they are few it differs from that by
a term in 1/n, found on images, so that two sizes tell a third.  Where κ is smaller than the samples at hand can tell,
log κ at a share D/n of the samples goes on as it went, by its first and second difference in log n, the second fading.

A spectrum of n samples has to fit the degrees of freedom that were so found, and is as much sharper than they are as
that of a block is.  At the head, where directions are resolved, the eigenvalue of a rank grows by as much with every
sample; at the tail, where near copies of samples are, eigenvalues go on by rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory.growth import (
    BlockSpectra,
    at_ranks,
    grown_by_rank,
    mean_logarithms,
    positive,
    rank_widths,
    rearranged,
    smooth_step,
)

_HEAD = (0.1, 0.4)
"""Shares of a block's ranks up to which eigenvalues are the head's, and from which they are not at all."""
_TAIL = (0.8, 0.95)
"""Shares of all ranks from which they begin to be the tail's, and are."""
_KNOWN = 0.8
"""Up to this share of the samples of half a block two sizes tell the degrees of freedom of a third."""
_FADING = 0.7
"""What a doubling leaves of the second difference."""
_RIDGES = 400
_BELOW, _ABOVE = 1e-4, 1e3
"""Ridges, next to the smallest and the largest eigenvalue."""


@dataclass(frozen=True, eq=False)
class DegreesOfFreedom:
    """Degrees of freedom D(κ) of a spectrum of n eigenvalues.

    Attributes
    ----------
    n : float
    kappa : ndarray (r,)
        Logarithms of the effective ridge, ascending.
    odds : ndarray (r,)
        log(D/(n - D)) there, descending.
    """

    n: float
    kappa: FloatArray
    odds: FloatArray

    @classmethod
    def of(cls, values: FloatArray, weights: FloatArray) -> DegreesOfFreedom:
        """Take eigenvalues, each for as many as its weight."""
        ridges = np.geomspace(_BELOW * values.min(), _ABOVE * values.max(), _RIDGES)
        inverses = np.array([weights @ (1 / (values + ridge)) for ridge in ridges])
        degrees = np.array([weights @ (values / (values + ridge)) for ridge in ridges])
        return cls(float(weights.sum()), -np.log(inverses), np.log(degrees / (ridges * inverses)))

    @classmethod
    def of_blocks(cls, spectra: FloatArray) -> DegreesOfFreedom:
        """Take the mean of spectra (blocks, n)."""
        values = positive(spectra).ravel()
        return cls.of(values, np.full(values.size, 1 / len(spectra)))

    def at(self, kappa: FloatArray) -> FloatArray:
        """Return D at logarithms of κ."""
        return np.asarray(self.n * expit(np.interp(kappa, self.kappa, self.odds)))

    def effective(self, shares: FloatArray) -> FloatArray:
        """Return the logarithms of the κ at which D/n are these shares."""
        return np.interp(np.log(shares) - np.log1p(-shares), self.odds[::-1], self.kappa[::-1])

    def ridges(self, shares: FloatArray) -> FloatArray:
        """Return the logarithms of the ridges δ there."""
        return _ridges(self.effective(shares), shares, self.n)


def grown_by_freedom(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Return the logarithms of the eigenvalues that the kernel on n samples has at some ranks.

    Parameters and result as of `grown_by_rank`.
    """
    m, shares = blocks.size, ranks / n
    whole = mean_logarithms(blocks.whole)
    wanted = _ridges(_effective(blocks, n, ranks), shares, n)
    own = (np.arange(m) + 0.5) / m
    sharper = whole - DegreesOfFreedom.of_blocks(blocks.whole).ridges(own)
    of_head, of_tail = 1 - smooth_step(np.log(ranks / m), *np.log(_HEAD)), smooth_step(shares, *_TAIL)
    of_middle = (1 - of_head) * (1 - of_tail)
    result = (
        of_head * _head(blocks, n, ranks)
        + of_middle * (wanted + np.interp(shares, own, sharper))
        + (1 - of_head) * of_tail * grown_by_rank(blocks, n, ranks)
    )
    # What the parts come to together is not quite what was wanted.  Once is enough: what is sharp cannot be told from
    # degrees of freedom, which are smooth, and to insist would let the spectrum swing.
    found = DegreesOfFreedom.of(np.exp(result), rank_widths(ranks, n)).ridges(shares)
    return rearranged(result + of_middle * (wanted - found), ranks, n)


def _head(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Logarithms of eigenvalues that grow by as much with every sample as with those of the second half of a block."""
    m, half = blocks.size, blocks.halves.shape[1]
    told = np.minimum(ranks, half)
    now, before = (np.exp(at_ranks(mean_logarithms(each), told)) for each in (blocks.whole, blocks.halves))
    return np.asarray(np.log(now + (n - m) / (m - half) * np.maximum(now - before, 0.0)))


def _effective(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Logarithms of κ at which D is each of the ranks."""
    parts = (blocks.whole, blocks.halves, blocks.quarters)
    m, half, quarter = (each.shape[1] for each in parts)
    whole, halves, quarters = map(DegreesOfFreedom.of_blocks, parts)
    now, before, first = (each.effective(ranks / n) for each in (whole, halves, quarters))
    late, early = (now - before) / np.log2(m / half), (before - first) / np.log2(half / quarter)
    doublings = np.log2(n / m)
    faded = (doublings - np.sqrt(_FADING) * (1 - _FADING**doublings) / -np.log(_FADING)) / (1 - _FADING)
    kappa = now + doublings * late + faded * (late - early)

    # Where half of a block has samples to spare D is known, and where it is not log κ is off by less and less.
    (low,), (high,) = halves.effective(np.array([_KNOWN])), whole.effective(np.array([0.5 / m]))
    known = np.linspace(high, low, _RIDGES)
    degrees = whole.at(known) + (whole.at(known) - halves.at(known)) * (1 / m - 1 / n) / (1 / half - 1 / m)
    degrees = np.log(np.maximum.accumulate(degrees))
    places = np.log(ranks)
    apart = np.interp(places, degrees, known) - kappa
    last = float(np.interp(degrees[-1], places, apart))
    beyond = np.clip((places - degrees[-1]) / (np.log(n) - degrees[-1]), 0.0, 1.0)
    return np.asarray(kappa + np.where(beyond > 0, last * (1 - beyond), apart))


def _ridges(kappa: FloatArray, shares: FloatArray, n: float) -> FloatArray:
    """log δ, of δ = κ (n - D)."""
    return np.asarray(kappa + np.log(n) + np.log1p(-shares))
