"""Random matrix theory of Gram matrices of Gaussian mixtures; it knows nothing of networks."""

from rmtdeq.rmt.covariances import CovarianceFamily, covariance_family
from rmtdeq.rmt.density import Bulk, Interval
from rmtdeq.rmt.distances import kolmogorov_smirnov, wasserstein
from rmtdeq.rmt.isolated import Outliers, outliers
from rmtdeq.rmt.model import GramModel
from rmtdeq.rmt.projection import indicator_resolvent
from rmtdeq.rmt.resolvent import resolvent_diagonal
from rmtdeq.rmt.support import bulk, point_masses

__all__ = [
    "Bulk",
    "CovarianceFamily",
    "GramModel",
    "Interval",
    "Outliers",
    "bulk",
    "covariance_family",
    "indicator_resolvent",
    "kolmogorov_smirnov",
    "outliers",
    "point_masses",
    "resolvent_diagonal",
    "wasserstein",
]
