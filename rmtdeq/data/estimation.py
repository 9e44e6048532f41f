"""Covariances of classes, estimated from their samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray

COVARIANCES = ("full", "common", "diagonal", "scalar")
MATRICES = COVARIANCES[:2]


@Stage("estimating the mixture")
def covariances_of(
    parts: Sequence[FloatArray], covariance: str, shrinkage: float | str
) -> tuple[list[FloatArray], tuple[FloatArray, FloatArray] | None]:
    """Return the unbiased covariances of classes, shrunk, and their common eigenvectors and eigenvalues (K, p) if any.

    Each part holds the samples of one class, less their mean.
    """
    matrices = check.choice(covariance, "covariance", COVARIANCES) in MATRICES
    share = shrinkage if shrinkage == "auto" else check.number(shrinkage, "shrinkage", low=0, high=1)
    if share and not matrices:
        raise InvalidInputError(f"shrinkage= is for the covariances {' and '.join(MATRICES)}, not {covariance!r}.")
    if not matrices:
        variances = [(part**2).sum(axis=0) / (len(part) - 1) for part in parts]
        return (variances if covariance == "diagonal" else [np.asarray(v.mean()) for v in variances]), None
    if covariance == "full":
        shares = [best_shrinkage(part) if isinstance(share, str) else share for part in parts]
        found = [part.T @ part / (len(part) - 1) for part in parts]
        return [_shrunk(c, s) for c, s in zip(found, shares, strict=True)], None
    # Each class's covariance counts as often as the class has samples.
    weighted = np.concatenate([part * np.sqrt(len(part) / (len(part) - 1)) for part in parts])
    _, basis = np.linalg.eigh(weighted.T @ weighted / len(weighted))
    values = np.array([((part @ basis) ** 2).sum(axis=0) / (len(part) - 1) for part in parts])
    # One basis for all asks for one share.
    one = best_shrinkage(np.concatenate(parts)) if isinstance(share, str) else share
    values = (1 - one) * values + one * values.mean(axis=1, keepdims=True)
    return [(basis * v) @ basis.T for v in values], (basis, values)


def best_shrinkage(centred: FloatArray) -> float:
    """Return the share of the mean variance that brings samples' covariance nearest to the population's.

    Estimated as by Ledoit and Wolf (Journal of Multivariate Analysis 88, 2004): one where the samples cannot tell the
    covariance from a multiple of the identity, near zero where there are many more of them than features.
    """
    n, p = centred.shape
    covariance = centred.T @ centred / n
    squares = float((covariance**2).sum())
    spread = squares - float(np.trace(covariance)) ** 2 / p
    noise = float(np.square((centred**2).sum(axis=1)).sum()) / n**2 - squares / n
    return 1.0 if spread <= 0 else float(np.clip(noise / spread, 0.0, 1.0))


def _shrunk(covariance: FloatArray, share: float) -> FloatArray:
    if share == 0:
        return covariance
    p = len(covariance)
    return (1 - share) * covariance + share * float(np.trace(covariance)) / p * np.eye(p)
