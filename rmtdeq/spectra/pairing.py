"""Which measured eigenvalue stands for which predicted outlier: by position and, where classes are known, direction."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from rmtdeq._lib.types import FloatArray, IntArray
from rmtdeq.theory import SpectrumPrediction

UNPAIRED = -1

_FARTHEST = float(np.log(2.0))
"""Positions that differ by more than a factor of two are no further apart than this: direction decides."""

_STRANGERS = 0.8
"""Directions that have next to nothing in common cost more, positions alone never do."""

_A_RANK = 0.05


def paired(
    values: FloatArray, prediction: SpectrumPrediction, missing: int, alignments: FloatArray | None = None
) -> IntArray:
    """Return the index of the measured eigenvalue that stands for each predicted outlier, or `UNPAIRED`.

    An outlier's rank is known from its share of the bulk; eigenvalues whose rank differs by no more than the number of
    outliers (a perturbation of that rank moves ranks no further) are candidates.  Pairs are those of the least sum of
    costs: the difference of the logarithms, and what the two eigenvectors' alignments with the classes lack in common,
    where either is more than a random vector has.  An outlier is unpaired where a pair would cost more than strangers
    do, where it is below zero, and where it is below all that were measured.  Where no gap is predicted between
    outliers and bulk, they are paired by rank.

    Parameters
    ----------
    values : ndarray (m,)
        The m largest measured eigenvalues, ascending.
    prediction : SpectrumPrediction
    missing : int
        How many smaller ones were not measured.
    alignments : ndarray (v, K), optional
        Of the last v of them.
    """
    r, m = prediction.outliers.size, values.size
    if prediction.gapless:
        # That is a prediction of ranks.
        return np.maximum(m - r + np.arange(r), UNPAIRED)
    ranks = _ranks(values, prediction, missing)
    found = np.full(r, UNPAIRED)
    if not r:
        return found
    place = np.arange(m)
    window = abs(place - ranks[:, None]) <= (0 if alignments is None else r)
    columns = np.flatnonzero(window.any(axis=0))
    positive = (prediction.outliers[:, None] > 0) & (values[columns] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = abs(np.log(prediction.outliers[:, None] / values[columns]))
    cost = np.minimum(apart, _FARTHEST) + _A_RANK * abs(columns - ranks[:, None])
    if alignments is not None:
        cost += _strangeness(prediction, alignments, columns - (m - len(alignments)))
    allowed = window[:, columns] & positive & (ranks >= 0)[:, None]
    alone = np.full((r, r), _STRANGERS)
    rows, chosen = linear_sum_assignment(np.hstack([np.where(allowed, cost, 2 * r * (1 + _STRANGERS + m)), alone]))
    within = chosen < columns.size
    found[rows[within]] = columns[chosen[within]]
    return found


def _strangeness(prediction: SpectrumPrediction, alignments: FloatArray, places: IntArray) -> FloatArray:
    """From 0, half of the alignments in common, to 1, nothing of them, (r, columns); 0 where neither says anything."""
    classes = alignments.shape[1]
    # A random unit vector has K/n of its square within the classes, with this deviation.
    telling = (classes + 4 * np.sqrt(2 * classes)) / prediction.n
    known = places >= 0
    seen, wanted = alignments[places[known]], prediction.alignments
    sums = wanted.sum(axis=1)[:, None], seen.sum(axis=1)
    distance = abs(wanted[:, None] - seen).sum(axis=2) / np.maximum(sums[0] + sums[1], 1e-300)
    result = np.zeros((len(wanted), places.size))
    result[:, known] = np.where(np.maximum(*sums) > telling, np.maximum(2 * distance - 1, 0.0), 0.0)
    return result


def _ranks(values: FloatArray, prediction: SpectrumPrediction, missing: int) -> IntArray:
    """Index of the measured eigenvalue that has each outlier's rank; negative if not measured."""
    r = prediction.outliers.size
    below = prediction.cdf(prediction.outliers)
    # Below an outlier lie its share of the bulk and the outliers before it.
    ranks = np.rint((prediction.n - r) * below).astype(np.int64) + np.arange(r) - missing
    within = (below > 0) & (below < 1)
    taken = set(ranks[~within].tolist())
    for i in np.flatnonzero(within)[::-1]:
        window = [k for k in range(ranks[i] - r, ranks[i] + r + 1) if 0 <= k < values.size and k not in taken]
        if window:
            ranks[i] = min(window, key=lambda k: abs(values[k] - prediction.outliers[i]))
        taken.add(int(ranks[i]))
    return ranks
