"""The steps of the plain iteration in networks of finite width: their changes, and how many it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from rmtdeq._lib.types import FloatArray
from rmtdeq.stability.growth import growth, growth_scatter
from rmtdeq.stability.singular_values import RadiusLaw

_MOST = 5000
"""Steps that are looked at; a network that takes more is not at rest."""
_CLASSES = 40
"""So many networks stand for all, from those that come to rest early to those that do late."""
_TINY = 1e-300
_END = 1e-10
"""Relative change up to which a rate is measured."""


@dataclass(frozen=True, eq=False)
class FiniteSteps:
    """What the iteration of n samples is like in networks of one width, for 5000 steps.

    Attributes
    ----------
    changes : ndarray (steps, n)
        Means of log(‖z^k - z^{k-1}‖/‖z^k‖), k = 1 …
    scatter : ndarray (steps, n)
        Their standard deviations.
    """

    changes: FloatArray
    scatter: FloatArray

    @classmethod
    def of(
        cls, relative: FloatArray, rates: FloatArray, laws: Sequence[RadiusLaw], shares: FloatArray, width: int
    ) -> FiniteSteps:
        """Return it from what is foretold at infinite width.

        Parameters
        ----------
        relative : ndarray (steps, n)
            Relative changes; those of later steps shrink by the rates.
        rates : ndarray (n,)
        laws : sequence of q RadiusLaw
        shares : ndarray (q, n)
            Of the laws in each sample.
        width : int
        """
        steps = np.arange(1.0, _MOST + 1)
        begun = min(len(relative), _MOST)
        relative, rates = np.maximum(relative[:begun], _TINY), np.maximum(rates, _TINY)
        later = np.log(relative[-1]) + np.outer(steps[begun:] - begun, np.log(rates))
        changes = np.vstack([np.log(relative), later])

        def each(value: Callable[[RadiusLaw], FloatArray]) -> FloatArray:
            return np.stack([value(law) for law in laws], axis=1) @ shares

        def grown(law: RadiusLaw) -> FloatArray:
            # Where an eigenvalue outside the disk decides, the disk's have died away.
            return growth(steps, law.share * width) if law.bulk > abs(law.isolated) else np.zeros_like(steps)

        def scatter(law: RadiusLaw) -> FloatArray:
            return np.hypot(law.scatter / math.sqrt(width) * steps, growth_scatter(steps, law.share * width))

        return cls(changes + each(grown), each(scatter))

    def counts(self, tolerance: float) -> FloatArray:
        """Return the steps to a relative change in networks that stand for all, (networks, n), NaN beyond 5000."""
        found = []
        for quantile in ndtri((np.arange(_CLASSES) + 0.5) / _CLASSES):
            reached = self.changes + quantile * self.scatter <= math.log(tolerance)
            found.append(np.where(reached.any(axis=0), 1.0 + reached.argmax(axis=0), np.nan))
        return np.stack(found)

    def rates(self) -> FloatArray:
        """Return the mean factor a step over the second half of the steps to a relative change of 1e-10, (n,)."""
        reached = self.changes <= math.log(_END)
        last = np.where(reached.any(axis=0), reached.argmax(axis=0), len(self.changes) - 1)
        half, samples = last // 2, np.arange(last.size)
        fallen = self.changes[last, samples] - self.changes[half, samples]
        return np.asarray(np.exp(fallen / np.maximum(last - half, 1)))
