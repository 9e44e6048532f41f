"""How far predicted eigenvalues are off, rank by rank, and what that does to learning with the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.theory.rmt import between_spectra

RIDGES = np.logspace(-5, 0, 6)
"""δ/n of the effective degrees of freedom."""


@dataclass(frozen=True, eq=False)
class RankErrors:
    """Errors of a whole predicted spectrum.

    Attributes
    ----------
    upper, whole : float
        Median ``|log(predicted/measured)|`` over ranks 1 … n/2, and over all n.
    ridges : ndarray (6,)
        δ/n, from 1e-5 to 1.
    freedom : ndarray (6,)
        Effective degrees of freedom tr K(K + δ)^{-1} as measured: what a kernel ridge regression of ridge δ fits.
    freedom_errors : ndarray (6,)
        ``|predicted - measured| / measured`` of these.
    """

    upper: float
    whole: float
    ridges: FloatArray
    freedom: FloatArray
    freedom_errors: FloatArray

    @classmethod
    def between(cls, predicted: FloatArray, measured: FloatArray) -> RankErrors:
        """Compare all n eigenvalues, ascending both."""
        _, upper, whole = between_spectra(predicted[::-1], measured[::-1])
        wanted, seen = (_freedom(values, RIDGES * values.size) for values in (predicted, measured))
        return cls(upper, whole, RIDGES, seen, abs(wanted - seen) / seen)

    def __str__(self) -> str:
        worst = int(np.argmax(self.freedom_errors))
        return (
            f"median error of the eigenvalues, by logarithm: {self.upper:.3f} over ranks 1 ... n/2, {self.whole:.3f} "
            f"over all\n  degrees of freedom tr K(K + δ)^-1, δ/n = 1e-5 ... 1: errors "
            f"{' '.join(f'{each:.1%}' for each in self.freedom_errors)}, the largest at {self.ridges[worst]:.0e}"
        )


def _freedom(values: FloatArray, ridges: FloatArray) -> FloatArray:
    # What is predicted below zero adds nothing.
    kept = np.maximum(values, 0.0)[:, None]
    return np.asarray((kept / (kept + ridges)).sum(axis=0))
