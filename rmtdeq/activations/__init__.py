"""Gaussian expectations of activations: quadrature, Hermite coefficients, dual activations."""

from rmtdeq.activations.activations import Activation
from rmtdeq.activations.duals import Dual, dual, mehler
from rmtdeq.activations.hermite import Moments, hermite_coefficients, jumps, mean_and_variance, moments
from rmtdeq.activations.registry import activation, activation_names

__all__ = [
    "Activation",
    "Dual",
    "Moments",
    "activation",
    "activation_names",
    "dual",
    "hermite_coefficients",
    "jumps",
    "mean_and_variance",
    "mehler",
    "moments",
]
