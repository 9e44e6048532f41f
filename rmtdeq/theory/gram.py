"""Random matrices that a mixture and a kernel's expansion around its classes make."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from rmtdeq.data import GaussianMixture
from rmtdeq.theory.expansion import ClassExpansion
from rmtdeq.theory.rmt import GramModel, covariance_family


@lru_cache(maxsize=4)
def standard_model(gmm: GaussianMixture, n: int, truncation: float) -> GramModel:
    """Return the model of WᵀW for n samples, without shifts or low-rank part."""
    k = gmm.classes
    covariances, means = list(gmm.covariances), gmm.means
    if gmm.principal is not None:
        vectors, values = gmm.principal
        covariances, means = list(values), means @ vectors
    return GramModel(
        gram=np.ones((k, k)),
        shifts=np.zeros(k),
        ratios=gmm.class_sizes(n) / gmm.dimension,
        covariances=covariance_family(covariances, means, gmm.weights, truncation),
        norm_variances=gmm.norm_variances,
        coupling=np.zeros((3 * k, 3 * k)),
    )


def gram_model(expansion: ClassExpansion, gmm: GaussianMixture, n: int, truncation: float) -> GramModel:
    """Return the model of a kernel's equivalent on n samples."""
    return replace(
        standard_model(gmm, n, truncation),
        gram=expansion.gram,
        shifts=expansion.shifts,
        coupling=expansion.coupling(gmm),
    )
