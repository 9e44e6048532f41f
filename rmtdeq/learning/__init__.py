"""Kernel ridge regression: its solution for many ridges at once, and what leaving samples out says of each."""

from rmtdeq.learning.calibration import inverse_temperature
from rmtdeq.learning.ridge import RidgeFit, RidgePath, ridge_fit, ridge_path

__all__ = ["RidgeFit", "RidgePath", "inverse_temperature", "ridge_fit", "ridge_path"]
