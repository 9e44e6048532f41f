"""What trainings leave behind, and the loss curves that a kernel or its spectrum foretells."""

from rmtdeq.curves.classification import ClassificationRun
from rmtdeq.curves.prediction import LossCurve, predict_training
from rmtdeq.curves.run import TrainingRun

__all__ = ["ClassificationRun", "LossCurve", "TrainingRun", "predict_training"]
