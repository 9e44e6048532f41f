"""The spectrum of a kernel on data of which only a choice of samples is known: no expansion, any data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import SAMPLED, FloatArray, Kind
from rmtdeq.data import DataMoments
from rmtdeq.kernels import kernel
from rmtdeq.network import Network
from rmtdeq.theory.growth import BlockSpectra, grown_logarithms, rank_grid
from rmtdeq.theory.rmt import Outliers, TabulatedLaw, between_spectra
from rmtdeq.theory.spectrum import ExpectedError, SpectrumPrediction

LEAST = 4
"""Samples of which there are quarters."""

_BLOCK = 4096
_LARGEST = 100
_FEW = 512
_SHARE = 0.1
_STEP = 1e-12
_COMPARED = 6
"""Blocks that are compared with one another."""


def sampled_predictions(
    deq: Network, moments: DataMoments, n: int, kinds: Sequence[Kind], centre: float
) -> list[SpectrumPrediction]:
    """Predict the spectra of the kernels on n samples from those of the samples kept.

    Parameters
    ----------
    deq : Network
    moments : DataMoments
    n : int
    kinds : sequence of str
    centre : float
        Where a centred activation is centred.

    Notes
    -----
    Up to 4096 samples, as many as are kept by default, the prediction is the mean over blocks of n of them; beyond,
    that of `grown_logarithms`.  The largest eigenvalues are given as outliers, whether or not there is a gap.
    """
    pinned = deq.pinned(centre)
    kept = len(moments.samples)
    m = min(n, _BLOCK, kept)
    with Stage("predicting the spectrum", len(kinds) * (kept // m)) as stage:
        blocks = [
            kernel(moments.samples[at : at + m].astype(float), pinned, kind=tuple(kinds))
            for at in range(0, kept - m + 1, m)
        ]
        return [
            _prediction(deq, moments, n, kind, matrices, stage)
            for kind, matrices in zip(kinds, zip(*blocks, strict=True), strict=True)
        ]


def _prediction(
    deq: Network, moments: DataMoments, n: int, kind: Kind, matrices: Sequence[FloatArray], stage: Stage
) -> SpectrumPrediction:
    m = len(matrices[0])
    measured = _Measured.of(matrices, stage)
    alignments = _alignments(matrices[0], _indicators(moments, m), max(1, min(_LARGEST, int(_SHARE * m))))
    law, outliers = _spectrum(measured, n, alignments)
    return SpectrumPrediction(
        deq,
        kind,
        SAMPLED,
        n,
        moments.dimension,
        moments.effective_dimension,
        moments.norm_spread,
        law,
        outliers,
        measured.expected_error(n),
    )


@dataclass(frozen=True, eq=False)
class _Measured:
    """Eigenvalues, descending, of the kernels of blocks of samples, (blocks, m), of their halves and their quarters."""

    whole: FloatArray
    halves: FloatArray
    quarters: FloatArray

    @classmethod
    def of(cls, matrices: Sequence[FloatArray], stage: Stage) -> _Measured:
        """Measure the kernels of blocks, and count them."""
        m = len(matrices[0])
        found = []
        for each in matrices:
            found.append([_spectra(each, size) for size in (m, m // 2, m // 4)])
            stage.update()
        return cls(*map(np.concatenate, zip(*found, strict=True)))

    @property
    def blocks(self) -> BlockSpectra:
        return BlockSpectra(self.whole, self.halves)

    def expected_error(self, n: int) -> ExpectedError:
        """The scatter between blocks, scaled to n samples, and how well halves and quarters foretell a whole block."""
        alike = [each for each in (self.whole, self.halves, self.quarters) if len(each) > 1]
        scatter = np.sqrt(np.mean([_scatter(each, n) for each in alike], axis=0))
        m = self.blocks.size
        foretold = grown_logarithms(BlockSpectra(self.halves, self.quarters), m, np.arange(m) + 0.5)
        carried = np.array(between_spectra(np.exp(foretold), np.exp(self.blocks.logarithms()[0])))
        return ExpectedError(*np.hypot(scatter, carried * np.log2(n / m)).tolist())


def _scatter(spectra: FloatArray, n: int) -> FloatArray:
    """Mean square of the distances between spectra of blocks, as of one of n samples from the mean of all."""
    blocks, size = spectra.shape
    pairs = combinations(range(min(blocks, _COMPARED)), 2)
    distances = np.mean([np.square(between_spectra(spectra[i], spectra[j])) for i, j in pairs], axis=0)
    # Two blocks differ by the noise of both; a measurement and the mean of all by that of one and of the mean.
    return np.asarray(distances * (size / n + 1 / blocks) / 2)


def _spectra(matrix: FloatArray, size: int) -> FloatArray:
    """Eigenvalues, descending, of the blocks of a size along the diagonal."""
    parts = (slice(at, at + size) for at in range(0, len(matrix) - size + 1, size))
    return np.array([np.linalg.eigvalsh(matrix[part, part])[::-1] for part in parts])


def _indicators(moments: DataMoments, m: int) -> FloatArray:
    """The classes' unit indicators in the first block, (m, K)."""
    members = np.eye(moments.classes)[moments.labels[:m]]
    return np.asarray(members / np.sqrt(np.maximum(members.sum(axis=0), 1.0)))


def _alignments(matrix: FloatArray, indicators: FloatArray, top: int) -> FloatArray:
    """Squared projections on indicators of the `top` largest eigenvectors, ascending."""
    m = len(matrix)
    if m > _FEW:
        # A few of many, by iterations that begin where they always begin.
        _, vectors = eigsh(matrix, top, v0=np.ones(m))
    else:
        _, vectors = eigh(matrix, subset_by_index=[m - top, m - 1], check_finite=False)
    return np.asarray((vectors.T @ indicators) ** 2)


def _spectrum(measured: _Measured, n: int, alignments: FloatArray) -> tuple[TabulatedLaw, Outliers]:
    """The largest eigenvalues among n, as many as there are alignments, and the law of the others."""
    ranks = rank_grid(n)
    logarithms = grown_logarithms(measured.blocks, n, ranks)
    top = len(alignments)
    largest = np.exp(np.interp(np.arange(top)[::-1] + 0.5, ranks, logarithms))
    rest = ranks > top
    levels, quantiles = (1 - (ranks[rest] - top) / (n - top))[::-1], logarithms[rest][::-1]
    # The law goes on to its ends as it arrives half a rank before them.
    ends = (
        quantiles[0] - (quantiles[1] - quantiles[0]) * levels[0] / (levels[1] - levels[0]),
        quantiles[-1] + (quantiles[-1] - quantiles[-2]) * (1 - levels[-1]) / (levels[-1] - levels[-2]),
    )
    every = np.concatenate([ends[:1], quantiles, ends[1:]])
    # Strictly ascending: copies of a sample bring equal eigenvalues.
    every = np.maximum.accumulate(every) + _STEP * np.arange(every.size)
    return TabulatedLaw(np.concatenate([[0.0], levels, [1.0]]), every), Outliers(largest, alignments)
