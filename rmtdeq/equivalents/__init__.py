"""Deterministic equivalents of the kernels, and the spectrum they predict."""

from rmtdeq.equivalents.assemble import EquivalentOperator, equivalent, equivalent_operator
from rmtdeq.equivalents.coefficients import Coefficients, KernelCoefficients, solve
from rmtdeq.equivalents.predict import SpectrumPrediction, predict_spectrum

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
