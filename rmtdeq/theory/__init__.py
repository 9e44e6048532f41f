"""Deterministic equivalents of the kernels, and the spectrum they predict."""

from rmtdeq._lib.jets import Jet
from rmtdeq.theory.coefficients import Coefficients, KernelCoefficients, solve
from rmtdeq.theory.dressed import PolynomialOperator
from rmtdeq.theory.equivalent import EquivalentOperator, equivalent, equivalent_operator
from rmtdeq.theory.prediction import GramPrediction, predict_spectrum
from rmtdeq.theory.scalar_kernel import DualActivation, ScalarKernel, dual_activation, scalar_kernel
from rmtdeq.theory.spectrum import ExpectedError, SpectrumPrediction

__all__ = [
    "Coefficients",
    "DualActivation",
    "EquivalentOperator",
    "ExpectedError",
    "GramPrediction",
    "Jet",
    "KernelCoefficients",
    "PolynomialOperator",
    "ScalarKernel",
    "SpectrumPrediction",
    "dual_activation",
    "equivalent",
    "equivalent_operator",
    "predict_spectrum",
    "scalar_kernel",
    "solve",
]
