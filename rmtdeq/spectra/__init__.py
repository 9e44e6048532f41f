"""Measured spectra, and their comparison with predictions."""

from rmtdeq.spectra.comparison import SpectrumComparison, compare
from rmtdeq.spectra.empirical import EmpiricalSpectrum, empirical_spectrum

__all__ = ["EmpiricalSpectrum", "SpectrumComparison", "compare", "empirical_spectrum"]
