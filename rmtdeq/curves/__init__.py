"""What trainings leave behind, and the loss curves that a kernel or its spectrum foretells."""

from rmtdeq.curves.classification import ClassificationRun
from rmtdeq.curves.prediction import LossCurve, learning_rate, predict_training
from rmtdeq.curves.run import TrainingRun

__all__ = ["ClassificationRun", "LossCurve", "TrainingRun", "learning_rate", "predict_training"]
