"""How far a prediction can be relied on, in words, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory import SpectrumPrediction

LARGEST = 10
"""So many of the largest eigenvalues are shown and judged."""

_CLOSE, _NEAR = 0.03, 0.1
_WITHIN, _ROUGH = 0.2, 0.3
"""Relative error of an eigenvalue that is still called near, and roughly right."""

_TOO_GOOD = 1e-6
"""Relative errors of the largest eigenvalues that no other samples have."""


class Trust(StrEnum):
    """What of a prediction can be relied on."""

    ALL = "rely on all of it"
    ROUGHLY = "rely on all of it, roughly"
    FIRST = "rely on the bulk and the first eigenvalues"
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
    errors : tuple of float
        Relative errors of the ten largest eigenvalues, rank by rank from the largest.
    """

    level: str
    trust: Trust
    ks: float | None
    errors: tuple[float, ...]

    @property
    def near(self) -> int:
        """How many of the largest eigenvalues are near, one after the other."""
        return _leading(self.errors)

    @property
    def numbers(self) -> str:
        """The distance and the errors in a few words."""
        parts = ["bulk not measured" if self.ks is None else f"KS distance {self.ks:.3f}"]
        counts = dict.fromkeys((self.near, len(self.errors)))
        parts += [
            f"{f'{count} ' if count > 1 else ''}largest within {_percent(max(self.errors[:count]))}"
            for count in counts
            if count
        ]
        return ", ".join(parts)

    @property
    def text(self) -> str:
        """The verdict in a sentence."""
        return f"{self.trust} ({self.numbers})"


def _percent(error: float) -> str:
    return f"{error:.0%}" if error >= 0.1 else f"{error:.1%}"


def _leading(errors: Sequence[float]) -> int:
    return next((rank for rank, error in enumerate(errors) if error > _WITHIN), len(errors))


def judged(level: str, ks: float | None, predicted: FloatArray, measured: FloatArray) -> Verdict:
    """Return the verdict on eigenvalues predicted and measured, ascending both, and the distance of the bulk."""
    count = min(LARGEST, predicted.size, measured.size)
    wanted, seen = predicted[: -count - 1 : -1], measured[: -count - 1 : -1]
    errors = tuple((abs(wanted - seen) / np.maximum(abs(seen), 1e-300)).tolist())
    if not _leading(errors):
        trust = Trust.BULK if ks is not None and ks <= _NEAR else Trust.NONE
    elif ks is None or ks > _NEAR:
        trust = Trust.LARGEST
    elif max(errors) > _ROUGH:
        trust = Trust.FIRST
    else:
        trust = Trust.ALL if ks <= _CLOSE and max(errors) <= _WITHIN else Trust.ROUGHLY
    return Verdict(level, trust, ks, errors)


def repeats(verdict: Verdict, prediction: SpectrumPrediction) -> bool:
    """Return whether a prediction from samples is that of the very samples measured."""
    return prediction.gapless and max(verdict.errors, default=1.0) < _TOO_GOOD


def of_data(prediction: SpectrumPrediction) -> str:
    """Return how many directions the data have, and how their squared norms spread."""
    directions = min(prediction.dimension, round(prediction.effective_dimension))
    return f"effective dimension {directions} of {prediction.dimension}, squared norms ± {prediction.norm_spread:.0%}"
