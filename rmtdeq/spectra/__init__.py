"""Measured spectra, and their comparison with predictions."""

from rmtdeq.spectra.comparison import SpectrumComparison, compare
from rmtdeq.spectra.empirical import EmpiricalSpectrum, empirical_spectrum
from rmtdeq.spectra.rank_errors import RankErrors

__all__ = ["EmpiricalSpectrum", "RankErrors", "SpectrumComparison", "compare", "empirical_spectrum"]
