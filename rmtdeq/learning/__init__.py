"""Kernel ridge regression and ensembles of trained networks; errors left out, and how they fall with the samples."""

from rmtdeq.learning.calibration import inverse_temperature
from rmtdeq.learning.curve import Band, LearningCurve, learning_curve
from rmtdeq.learning.ensemble import EnsemblePrediction, predict_ensemble
from rmtdeq.learning.power_law import PowerLaw
from rmtdeq.learning.ridge import RidgeFit, RidgePath, ridge_fit, ridge_path

__all__ = [
    "Band",
    "EnsemblePrediction",
    "LearningCurve",
    "PowerLaw",
    "RidgeFit",
    "RidgePath",
    "inverse_temperature",
    "learning_curve",
    "predict_ensemble",
    "ridge_fit",
    "ridge_path",
]
