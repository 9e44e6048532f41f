"""Random matrix theory of Gram matrices of Gaussian mixtures; it knows nothing of networks."""

from rmtdeq.theory.rmt.covariances import CovarianceFamily, covariance_family
from rmtdeq.theory.rmt.density import Bulk, Interval, TabulatedLaw
from rmtdeq.theory.rmt.distances import between_spectra, kolmogorov_smirnov, wasserstein
from rmtdeq.theory.rmt.isolated import Outliers, outliers
from rmtdeq.theory.rmt.model import GramModel
from rmtdeq.theory.rmt.projection import indicator_resolvent
from rmtdeq.theory.rmt.regression import DecisionLaw, decision_law
from rmtdeq.theory.rmt.resolvent import resolvent_diagonal
from rmtdeq.theory.rmt.support import bulk, point_masses

__all__ = [
    "Bulk",
    "CovarianceFamily",
    "DecisionLaw",
    "GramModel",
    "Interval",
    "Outliers",
    "TabulatedLaw",
    "between_spectra",
    "bulk",
    "covariance_family",
    "decision_law",
    "indicator_resolvent",
    "kolmogorov_smirnov",
    "outliers",
    "point_masses",
    "resolvent_diagonal",
    "wasserstein",
]
