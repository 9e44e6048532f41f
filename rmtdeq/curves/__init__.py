"""Loss curves: those that a training leaves behind, and those that a kernel or its spectrum foretells."""

from rmtdeq.curves.prediction import LossCurve, predict_training
from rmtdeq.curves.run import TrainingRun

__all__ = ["LossCurve", "TrainingRun", "predict_training"]
