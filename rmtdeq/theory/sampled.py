"""The spectrum of a kernel on data of which only a choice of samples is known: no expansion, any data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmtdeq._lib.progress import Stage
from rmtdeq._lib.tridiagonal import eigenvalues, projections
from rmtdeq._lib.types import SAMPLED, FloatArray, Kind
from rmtdeq.data import DataMoments
from rmtdeq.kernels import kernel
from rmtdeq.network import Network
from rmtdeq.theory.growth import BlockSpectra, at_ranks, mean_logarithms, rank_grid
from rmtdeq.theory.reliability import ENOUGH, Extrapolation, expected_error
from rmtdeq.theory.rmt import Outliers, TabulatedLaw
from rmtdeq.theory.spectrum import SpectrumPrediction

LEAST = 4
"""Samples of which there are quarters."""

_BLOCK = 8192
"""Samples whose kernel is decomposed at most; as many are kept if asked for."""
_LARGEST = 100
_SHARE = 0.1
_STEP = 1e-12


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
    Up to as many samples as are kept, or 8192, the prediction is the mean over blocks of n of them; beyond, it is
    carried to n by rank and by degrees of freedom, each as it foretells blocks from their halves.  There one block of
    all that are kept does better than several smaller ones.  The largest eigenvalues are given as outliers, whether or
    not there is a gap.
    """
    pinned = deq.pinned(centre)
    kept = len(moments.samples)
    m = min(n, _BLOCK, kept)
    with Stage("predicting the spectrum"):
        blocks = [
            kernel(moments.samples[at : at + m].astype(float), pinned, kind=tuple(kinds))
            for at in range(0, kept - m + 1, m)
        ]
    # What has to be compiled for the first kernel would make the rest look long.
    with Stage("predicting the spectrum", len(kinds) * (kept // m)) as stage:
        return [
            _prediction(deq, moments, n, kind, matrices, stage)
            for kind, matrices in zip(kinds, zip(*blocks, strict=True), strict=True)
        ]


def _prediction(
    deq: Network, moments: DataMoments, n: int, kind: Kind, matrices: Sequence[FloatArray], stage: Stage
) -> SpectrumPrediction:
    m = len(matrices[0])
    spectra, alignments = _measured(matrices, _indicators(moments, m), n > m, stage)
    ranks = rank_grid(n)
    if n == m:
        logarithms, extrapolated = at_ranks(mean_logarithms(spectra[0]), ranks), None
    else:
        way = Extrapolation.tried(spectra)
        logarithms, extrapolated = way.grown(BlockSpectra(*spectra[:3]), n, ranks), way.error
    law, outliers = _spectrum(ranks, logarithms, n, alignments)
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
        expected_error(spectra, n, extrapolated),
    )


def _measured(
    matrices: Sequence[FloatArray], indicators: FloatArray, grows: bool, stage: Stage
) -> tuple[list[FloatArray], FloatArray]:
    """Spectra, descending, of kernels of blocks and of parts of them, by falling size, and alignments of the first.

    Of blocks that are as large as they have to be, parts tell the noise alone, and small ones it is cheap to have many
    of tell it best.
    """
    m = len(matrices[0])
    top = max(1, min(_LARGEST, int(_SHARE * m)))
    parts = (2, 4, 8) if grows else (4, 8) if len(matrices) < ENOUGH else ()
    found: dict[int, list[FloatArray]] = {m: [], **{m // part: [] for part in parts if part <= m}}
    alignments: FloatArray | None = None
    for matrix in matrices:
        if alignments is None:
            values, products = projections(matrix, indicators, top)
            alignments = products**2
        else:
            values = eigenvalues(matrix)
        found[m].append(values[::-1])
        for size in list(found)[1:]:
            blocks = (slice(at, at + size) for at in range(0, m - size + 1, size))
            found[size] += [eigenvalues(matrix[block, block])[::-1] for block in blocks]
        stage.update()
    assert alignments is not None
    return [np.array(each) for each in found.values()], alignments


def _indicators(moments: DataMoments, m: int) -> FloatArray:
    """The classes' unit indicators in the first block, (m, K)."""
    members = np.eye(moments.classes)[moments.labels[:m]]
    return np.asarray(members / np.sqrt(np.maximum(members.sum(axis=0), 1.0)))


def _spectrum(
    ranks: FloatArray, logarithms: FloatArray, n: int, alignments: FloatArray
) -> tuple[TabulatedLaw, Outliers]:
    """The largest eigenvalues among n, as many as there are alignments, and the law of the others."""
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
