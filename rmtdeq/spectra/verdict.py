"""How far a prediction can be relied on, in words, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory import SpectrumPrediction

LARGEST = 10
"""So many of the largest eigenvalues are shown and judged."""

_CLOSE, _NEAR = 0.03, 0.1
_WITHIN = 0.25


class Trust(StrEnum):
    """What of a prediction can be relied on."""

    ALL = "rely on all of it"
    ROUGHLY = "rely on all of it, roughly"
    LARGEST = "rely on the largest eigenvalues alone"
    BULK = "rely on the bulk alone"
    NONE = "rely on nothing of it"


@dataclass(frozen=True)
class Verdict:
    """What a level's prediction of a kernel was worth.

    Attributes
    ----------
    level : str
    trust : Trust
        From the KS distance of the bulk, where that was measured, and the errors of the largest eigenvalues.
    ks : float or None
        Kolmogorov-Smirnov distance of the bulk.
    worst : float
        Largest relative error of the largest eigenvalues, rank by rank.
    count : int
        How many of these there are.
    """

    level: str
    trust: Trust
    ks: float | None
    worst: float
    count: int

    @property
    def numbers(self) -> str:
        """The distance and the error in a few words."""
        bulk = "bulk not measured" if self.ks is None else f"KS distance {self.ks:.3f}"
        worst = f"{self.worst:.0%}" if self.worst >= 0.1 else f"{self.worst:.1%}"
        return f"{bulk}, {self.count} largest within {worst}"

    @property
    def text(self) -> str:
        """The verdict in a sentence."""
        return f"{self.trust} ({self.numbers})"


def judged(level: str, ks: float | None, predicted: FloatArray, measured: FloatArray, count: int = LARGEST) -> Verdict:
    """Return the verdict on eigenvalues predicted and measured, ascending both, and the distance of the bulk."""
    count = min(count, predicted.size, measured.size)
    wanted, seen = predicted[-count:], measured[-count:]
    worst = float((abs(wanted - seen) / np.maximum(abs(seen), 1e-300)).max())
    if worst > _WITHIN:
        trust = Trust.BULK if ks is not None and ks <= _NEAR else Trust.NONE
    elif ks is None or ks > _NEAR:
        trust = Trust.LARGEST
    else:
        trust = Trust.ALL if ks <= _CLOSE else Trust.ROUGHLY
    return Verdict(level, trust, ks, worst, count)


def of_data(prediction: SpectrumPrediction) -> str:
    """Return how many directions a mixture's classes have, and how squared norms spread in them, next to their mean."""
    model = prediction.model
    family = model.covariances
    energy = family.multiplicities @ family.eigenvalues + np.einsum("gaa->a", family.mean_products)
    # Of the squared norm within a class, relative; 2/d for a Gaussian of d equal directions.
    variance = float(model.probabilities @ (model.norm_variances * family.dimension / energy**2))
    directions = min(family.dimension, round(2 / max(variance, 1e-300)))
    return f"effective dimension {directions} of {family.dimension}, squared norms ± {np.sqrt(variance):.0%}"
