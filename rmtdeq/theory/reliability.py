"""How a spectrum is carried to more samples, and how far it is off: what measured spectra tell of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory.freedom import grown_by_freedom
from rmtdeq.theory.growth import BlockSpectra, grown_by_rank, mean_logarithms
from rmtdeq.theory.rmt import between_spectra
from rmtdeq.theory.spectrum import ExpectedError

ENOUGH = 4
"""Blocks whose distances tell the noise."""

_COMPARED = 8
_NONE = 1e-300
_DECAY = np.array([0.3, 0.4, 0.3])
"""Powers of the size with which the noise of `ExpectedError`'s quantities falls, found on images: less than the half
that means of samples have, as more samples resolve smaller eigenvalues, which vary more."""
_OPTIMISM, _GROWTH = 1.2, 1.1
"""What weights chosen by the same error hide of it, and the power of the number of doublings with which it grows; both
found on images."""


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """A way to more samples between that by rank and that by degrees of freedom.

    Attributes
    ----------
    freedom : float
        Weight of `grown_by_freedom`; the rest is `grown_by_rank`'s.
    error : ndarray (3,)
        Of the spectrum of a block foretold from its halves, as `between_spectra` has it.
    """

    freedom: float
    error: FloatArray

    @classmethod
    def tried(cls, spectra: Sequence[FloatArray]) -> Extrapolation:
        """Weigh both by how well they foretell blocks from their halves: as the inverse fourth powers of their errors.

        Parameters
        ----------
        spectra : sequence of ndarray (blocks, size)
            Descending eigenvalues of kernels of blocks of samples, and of halves, quarters and eighths of these.
        """
        if len(spectra) < 4:
            # Of so few samples there are no eighths, and nothing is known.
            return cls(0.0, np.ones(3))
        m, whole = spectra[0].shape[1], np.exp(mean_logarithms(spectra[0]))
        parts, ranks = BlockSpectra(*spectra[1:4]), np.arange(m) + 0.5

        def error(logarithms: FloatArray) -> FloatArray:
            return np.array(between_spectra(np.exp(logarithms), whole))

        by_rank, by_freedom = (rule(parts, m, ranks) for rule in (grown_by_rank, grown_by_freedom))
        of_rank, of_freedom = (float(error(each).sum()) ** 4 for each in (by_rank, by_freedom))
        weight = of_rank / max(of_rank + of_freedom, _NONE)
        return cls(weight, error(_between(by_rank, by_freedom, weight)))

    def grown(self, blocks: BlockSpectra, n: int, ranks: FloatArray) -> FloatArray:
        """Return what `grown_by_rank` does, by this way."""
        by_rank = grown_by_rank(blocks, n, ranks)
        return _between(by_rank, grown_by_freedom(blocks, n, ranks), self.freedom) if self.freedom else by_rank


def _between(one: FloatArray, other: FloatArray, weight: float) -> FloatArray:
    return np.asarray((1 - weight) * one + weight * other)


def expected_error(spectra: Sequence[FloatArray], n: int, extrapolated: FloatArray | None = None) -> ExpectedError:
    """Return the error that a prediction for n samples expects of itself.

    Parameters
    ----------
    spectra : sequence of ndarray (blocks, size)
        Descending eigenvalues of kernels of disjoint blocks that it is made from, and of parts of these, by falling
        size.
    n : int
    extrapolated : ndarray (3,), optional
        Error of an extrapolation to twice as many samples, where the prediction is one.

    Notes
    -----
    The noise is the distance of blocks from one another, of all sizes of which there are several, carried to n.
    """
    blocks, m = spectra[0].shape
    # Two blocks differ by the noise of both; a measurement and the mean of all by that of one and of the mean.
    noise = np.sqrt((np.square(_distance(spectra, n)) + np.square(_distance(spectra, m)) / blocks) / 2)
    if extrapolated is not None:
        noise = np.hypot(noise, _OPTIMISM * extrapolated * np.log2(n / m) ** _GROWTH)
    return ExpectedError(*noise.tolist())


def _distance(spectra: Sequence[FloatArray], n: int) -> FloatArray:
    """Mean distance between two spectra of n samples."""
    several = [each for each in spectra if len(each) >= ENOUGH][:2]
    carried = []
    for each in several:
        pairs = combinations(each[:_COMPARED], 2)
        apart = np.mean([between_spectra(one, other) for one, other in pairs], axis=0)
        carried.append(apart * (each.shape[1] / n) ** _DECAY)
    # As many blocks as there are, less one, are as many draws of a distance.
    return np.asarray(np.average(carried, axis=0, weights=[len(each) - 1 for each in several]))
