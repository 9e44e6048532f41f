"""Deterministic equivalents of the kernels, and the spectrum they predict."""

from rmtdeq.theory.coefficients import Coefficients, KernelCoefficients, solve
from rmtdeq.theory.dressed import PolynomialOperator
from rmtdeq.theory.equivalent import EquivalentOperator, equivalent, equivalent_operator
from rmtdeq.theory.prediction import GramPrediction, predict_spectrum
from rmtdeq.theory.spectrum import ExpectedError, SpectrumPrediction

__all__ = [
    "Coefficients",
    "EquivalentOperator",
    "ExpectedError",
    "GramPrediction",
    "KernelCoefficients",
    "PolynomialOperator",
    "SpectrumPrediction",
    "equivalent",
    "equivalent_operator",
    "predict_spectrum",
    "solve",
]
