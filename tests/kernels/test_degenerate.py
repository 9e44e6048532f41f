"""Samples that are zero, equal, opposite, tiny or huge: kernels are numbers, symmetric, and positive semidefinite."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd

GROWING = ("polynomial", "monomial", "hermite", "exp")
"""Those whose features grow faster than the samples."""


def samples(size, seed=0):
    """Return samples of root mean squared norm `size`, degenerate ones among them."""
    X = np.random.default_rng(seed).standard_normal((9, 6)) / np.sqrt(6)
    X[1], X[2], X[3], X[4], X[5] = X[0], -X[0], 0.0, 1e-5 * X[0], X[0] * (1 + 1e-15)
    X[6] = X[7] + 1e-9
    return size * X


def check(network, X, kinds):
    for kernel in rd.kernel(X, network, kinds, backend="numpy", progress=False):
        assert np.isfinite(kernel).all()
        np.testing.assert_array_equal(kernel, kernel.T)
        np.testing.assert_allclose(kernel[0], kernel[1], rtol=0, atol=1e-12 * kernel.max())
        assert np.linalg.eigvalsh(kernel)[0] > -1e-11 * abs(kernel).max()


@pytest.mark.parametrize("size", [1e-40, 1e-6, 1.0, 1e4])
def test_kernels_of_degenerate_samples_are_kernels(registered_spec, size):
    if registered_spec.startswith(GROWING) and size > 1:
        size = 0.9
    deep = rd.Network([rd.Layer(registered_spec, sigma_b2=1.5), rd.Layer(registered_spec, sigma_c2=0.1)])
    check(deep, samples(size), ("ck", "ntk", "ntk-full"))


@pytest.mark.parametrize("size", [1e-40, 1.0, 1e4])
@pytest.mark.parametrize("spec", ["sign", "steps([-0.5, 0, 0.8], [-2, -1, 0.5, 1.5])"])
def test_kernels_of_jumps_are_kernels(spec, size):
    check(rd.Network([rd.Layer(spec), rd.Layer("erf"), rd.Layer(spec)]), samples(size), ("ck",))


def test_features_that_are_all_zero_are_refused():
    with pytest.raises(rd.InvalidInputError, match="zero for every sample"):
        rd.kernel(samples(1e-40), rd.Network(["steps([-0.5, 0.8], [-1, 0, 1.5])", "erf"]))


def test_features_beyond_doubles_are_refused():
    with pytest.raises(rd.InvalidInputError, match="no numbers in double precision"):
        rd.kernel(samples(30.0), rd.Network(["exp"]))
    with pytest.raises(rd.InvalidInputError, match="no numbers in double precision"):
        rd.kernel(samples(1e3), rd.Network([rd.Layer("monomial(12)")] * 4))


def test_an_exponential_that_feeds_itself_has_no_equilibrium():
    with pytest.raises(rd.IllPosedError, match="no equilibrium"):
        rd.kernel(samples(2.0), rd.DEQ("exp", 0.9, 1.0, centered=False))
