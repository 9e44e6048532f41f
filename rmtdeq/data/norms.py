"""A Gaussian mixture with its classes split by the norms of their samples."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rmtdeq._lib.types import FloatArray
from rmtdeq.data.mixture import GaussianMixture


class NormClasses(GaussianMixture):
    """A mixture of which every class stands for samples of one norm.

    Made by `by_norm`.
    """

    @cached_property
    def norm_variances(self) -> FloatArray:
        """None is left within a class, (K,)."""
        return np.zeros(self.classes)


def by_norm(gmm: GaussianMixture, nodes: int = 3) -> NormClasses:
    """Split every class into some whose samples have one norm each.

    Parameters
    ----------
    gmm : GaussianMixture
    nodes : int
        Into how many.

    Returns
    -------
    NormClasses
        nodes·K classes, those of each class one after another: the same means, and covariances times a factor that
        stands for the share of ‖x‖² about the mean.

    Notes
    -----
    Gauss's quadrature for a gamma distribution of the variance that ‖x‖² has (Golub and Welsch 1969).
    """
    covariances, means = list(gmm.covariances), gmm.means
    if gmm.principal is not None:
        vectors, values = gmm.principal
        covariances, means = list(values), means @ vectors
    shapes = gmm.variances**2 * gmm.dimension / np.maximum(gmm.norm_variances, 1e-300)
    rules = [_gamma(min(shape, 1e12), nodes) for shape in shapes]
    return NormClasses(
        np.repeat(means, nodes, axis=0),
        [
            covariance * factor
            for covariance, (factors, _) in zip(covariances, rules, strict=True)
            for factor in factors
        ],
        np.concatenate([weight * shares for weight, (_, shares) in zip(gmm.weights, rules, strict=True)]),
    )


def _gamma(shape: float, nodes: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights for a gamma distribution of mean one."""
    k = np.arange(nodes)
    beside = np.sqrt(k[1:] * (k[1:] + shape - 1))
    positions, vectors = np.linalg.eigh(np.diag(2 * k + shape) + np.diag(beside, 1) + np.diag(beside, -1))
    return positions / shape, np.square(vectors[0])
