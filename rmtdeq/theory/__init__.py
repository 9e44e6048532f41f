"""Deterministic equivalents of the kernels, and the spectrum they predict."""

from rmtdeq.theory.coefficients import Coefficients, KernelCoefficients, solve
from rmtdeq.theory.equivalent import EquivalentOperator, equivalent, equivalent_operator
from rmtdeq.theory.prediction import SpectrumPrediction, predict_spectrum

__all__ = [
    "Coefficients",
    "EquivalentOperator",
    "KernelCoefficients",
    "SpectrumPrediction",
    "equivalent",
    "equivalent_operator",
    "predict_spectrum",
    "solve",
]
