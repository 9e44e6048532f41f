"""From the eigenvalues of kernels on some samples to those on n samples, by degrees of freedom.

With the effective ridge κ,

    1/κ = tr (K + δ)⁻¹,    D(κ) = tr K (K + δ)⁻¹ = n - δ/κ,

D as a function of κ is that of the kernel's operator, Σ λ_k/(λ_k + κ) over its eigenvalues λ_k, whatever n is, where
samples are alike (Simon, Dickens, Karkada, DeWeese, arXiv 2110.03922).  Images are not alike: on n of them log κ at D
is off by what depends on the share D/n and little on n; see `Shortfall`.  With that taken off, degrees of freedom are
those of some positive λ_k to three digits (measured: ten classes of images, tanh and ReLU), so that a smooth density of
these tells them beyond the samples at hand; with that of n samples put on, they are those of the kernel on n samples.

A spectrum is found that has them, the smoothest.  At the head, where directions are resolved, the eigenvalue of a rank
grows by as much with every sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory.growth import (
    BlockSpectra,
    at_ranks,
    mean_logarithms,
    positive,
    rearranged,
    smooth_step,
)
from rmtdeq.theory.smoothest import OperatorLaw, smoothest_spectrum

_HEAD = (0.04, 0.15)
"""Shares of a block's ranks up to which eigenvalues are the head's, and from which they are not at all."""
_FIRST = 20.0
"""Degrees of freedom from which on, at most, they are looked at; where the head goes further, from there."""
_RESOLVED = 0.9
"""Share of a block's samples up to which a block tells the operator's."""
_SMALL = 0.1
_MIDDLE = (0.15, 0.97)
"""Shares of the samples between which what they lack is told apart from noise."""
_FADING = 0.8
"""What a doubling leaves of the logarithm of that by which the doubling before it changed more; found on images."""
_LEAST = 1e-4
_STEEPEST = 0.4
_DOUBLINGS = 14
_RIDGES = 400
_BELOW, _ABOVE = 1e-4, 1e3
"""Ridges, next to the smallest and the largest eigenvalue."""
_GRID = 200
_LAST = 5.0
"""Up to how many degrees of freedom less than n a spectrum is to have them."""
_EXACT = 0.128
"""How exactly log κ is known, over the root of the number of a block's samples,"""
_LACKING = 0.02
"""and next to what the samples lack."""


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

    def effective(self, shares: FloatArray) -> FloatArray:
        """Return the logarithms of the κ at which D/n are these shares."""
        return np.interp(logit(shares), self.odds[::-1], self.kappa[::-1])


@dataclass(frozen=True, eq=False)
class Shortfall:
    """By how much log κ at D degrees of freedom is smaller on n samples than on very many: h_n(D/n).

    A doubling of n takes h_n(s) - h_2n(s/2) away, which two sizes tell, and h is the sum of what all doublings to come
    take.  On images it is more, at the same share, with every doubling, and by a factor that comes nearer to one.

    Attributes
    ----------
    odds : ndarray (r,)
        log(s/(1 - s)), ascending.
    taken : ndarray (r,)
        What the doubling from half a block to a whole one took.
    growth : float
        Logarithm of that by which it took more than the doubling before.
    """

    odds: FloatArray
    taken: FloatArray
    growth: float

    @classmethod
    def between(cls, whole: DegreesOfFreedom, half: DegreesOfFreedom, quarter: DegreesOfFreedom) -> Shortfall:
        """Compare sizes."""
        end = np.log(2 * half.n)
        odds = np.linspace(logit(_SMALL), end, _RIDGES)
        shares = expit(odds)
        late, early = (
            less.effective(shares) - more.effective(shares * less.n / more.n)
            for more, less in ((whole, half), (half, quarter))
        )
        middle = (shares > _MIDDLE[0]) & (shares < _MIDDLE[1])
        ratios = np.log(np.maximum(-late[middle], _LEAST) / np.maximum(-early[middle], _LEAST))
        growth = float(np.average(ratios, weights=shares[middle]))
        return cls(odds, -late, min(max(growth, 0.0), _STEEPEST))

    def at(self, shares: FloatArray, doublings: float) -> FloatArray:
        """Return h at shares D/n, of as many doublings of a block as lead to n."""
        halved = np.asarray(shares) / 2.0 ** np.arange(_DOUBLINGS)[:, None]
        # In proportion to the share where that is small, and what is measured noise.
        taken = np.interp(logit(np.maximum(halved, _SMALL)), self.odds, self.taken) * np.minimum(halved / _SMALL, 1.0)
        later = doublings + 1 + np.arange(_DOUBLINGS)
        return np.asarray(np.exp(self.growth * _FADING * (1 - _FADING**later) / (1 - _FADING)) @ taken)


def grown_by_freedom(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Return the logarithms of the eigenvalues that the kernel on n samples has at some ranks.

    Parameters and result as of `grown_by_rank`.
    """
    m = blocks.size
    parts = [DegreesOfFreedom.of_blocks(each) for each in (blocks.whole, blocks.halves, blocks.quarters)]
    whole, doublings = parts[0], float(np.log2(n / m))
    shortfall = Shortfall.between(*parts)
    first = min(_FIRST, _HEAD[0] * m)
    resolved = np.geomspace(first, _RESOLVED * m, _GRID)
    law = OperatorLaw.fitted(whole.effective(resolved / m) + shortfall.at(resolved / m, 0.0), resolved, n)

    shares = expit(np.linspace(logit(first / n), -logit(min(_LAST, n / 8) / n), _GRID))
    lacking = shortfall.at(shares, doublings)
    ridges = law.effective(shares * n) - lacking + np.log(n) + np.log1p(-shares)
    errors = np.hypot(_EXACT / np.sqrt(m), _LACKING * lacking)
    result = smoothest_spectrum(shares, ridges, errors, n, ranks)
    of_head = 1 - smooth_step(np.log(ranks / m), *np.log(_HEAD))
    return rearranged(of_head * _head(blocks, n, ranks) + (1 - of_head) * result, ranks, n)


def _head(blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
    """Logarithms of eigenvalues that grow by as much with every sample as with those of the second half of a block."""
    m, half = blocks.size, blocks.halves.shape[1]
    told = np.minimum(ranks, half)
    now, before = (np.exp(at_ranks(mean_logarithms(each), told)) for each in (blocks.whole, blocks.halves))
    return np.asarray(np.log(now + (n - m) / (m - half) * np.maximum(now - before, 0.0)))
