"""Kernel ridge regression and ensembles of trained networks; errors left out, and how they fall with the samples."""

from rmtdeq.learning.calibration import inverse_temperature
from rmtdeq.learning.curve import Band, LearningCurve, learning_curve
from rmtdeq.learning.ensemble import EnsemblePrediction, predict_ensemble
from rmtdeq.learning.freedom import FreedomLaw, degrees_of_freedom
from rmtdeq.learning.iterative import IterativePath, iterative_path
from rmtdeq.learning.nystrom import NystromPath, nystrom_path
from rmtdeq.learning.prediction import LearningPrediction, predict_learning
from rmtdeq.learning.regression import Solver
from rmtdeq.learning.ridge import RidgeFit, RidgePath, RidgeProblem, ridge_fit, ridge_path, ridge_problem
from rmtdeq.learning.suggestion import Candidate, Suggestion, suggest

__all__ = [
    "Band",
    "Candidate",
    "EnsemblePrediction",
    "FreedomLaw",
    "IterativePath",
    "LearningCurve",
    "LearningPrediction",
    "NystromPath",
    "RidgeFit",
    "RidgePath",
    "RidgeProblem",
    "Solver",
    "Suggestion",
    "degrees_of_freedom",
    "inverse_temperature",
    "iterative_path",
    "learning_curve",
    "nystrom_path",
    "predict_ensemble",
    "predict_learning",
    "ridge_fit",
    "ridge_path",
    "ridge_problem",
    "suggest",
]
