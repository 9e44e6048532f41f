"""Equivalents whose coefficients are fitted to the pairs that occur."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.theory.rmt import between_spectra

KINDS = ("ck", "ntk", "ntk-full")
NETWORKS = {
    "tanh": rd.DEQ("tanh", 0.2, 0.8, centered=False),
    "relu": rd.DEQ("relu", 0.2, 0.8, centered=False),
    "centred swish": rd.DEQ("swish", 0.2, 0.8),
    "stack": rd.Network([rd.Layer("relu", sigma_b2=1.5, sigma_c2=0.1), rd.DEQ("erf", 0.3, 0.7, centered=False)]),
}


@pytest.fixture(scope="module")
def digits():
    """Samples to learn from and others, of norms 0.74 to 1.28."""
    X, y = rd.load_dataset("digits")
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return rd.DataMoments.from_data(X[500:], y[500:]), X[:500]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_ten_classes_have_the_spectrum_of_the_kernel(digits, name, kind):
    """The class-wise level is 0.3 off there."""
    moments, X = digits
    operator = rd.equivalent_operator(X, None, NETWORKS[name], moments, kind, "polynomial")
    exact = rd.kernel(X, NETWORKS[name], kind, tau0_squared=moments.mean_squared_norm)
    found, true = (np.linalg.eigvalsh(matrix)[::-1] for matrix in (operator.dense(), exact))
    np.testing.assert_allclose(np.diag(operator.dense()), np.diag(exact), rtol=1e-12)
    assert between_spectra(found, true)[0] < 0.02
    displacement = np.sqrt(np.mean((found - true) ** 2)) / np.diag(exact).mean()
    assert operator.displacement < 1e-3
    assert displacement < 4 * operator.displacement


@pytest.mark.parametrize(("power", "expected"), [(lambda u: u**2, 2), (lambda u: u**3, 3)], ids=["square", "cube"])
def test_a_kernel_that_is_a_polynomial_is_met(digits, power, expected):
    """E (u² v²) = uv-variances + 2 covariance²: of order two in the cosine, whatever the norms."""
    moments, X = digits
    network = rd.Network([rd.Layer(power, sigma_b2=1.0)])
    operator = rd.equivalent_operator(X, None, network, moments, level="polynomial")
    assert operator.polynomial.order == expected
    np.testing.assert_allclose(operator.dense(), rd.kernel(X, network), rtol=0, atol=1e-9)


def test_samples_of_one_norm_and_the_zero_sample():
    rng = np.random.default_rng(1)
    X = rd.data.on_sphere(rng.standard_normal((300, 8)), 1.0)
    moments = rd.DataMoments.from_data(X[:200])
    X = np.concatenate([X[200:], np.zeros((1, 8))])
    for kind in KINDS:
        found = rd.equivalent(X, None, NETWORKS["tanh"], moments, kind, "polynomial")
        exact = rd.kernel(X, NETWORKS["tanh"], kind, tau0_squared=moments.mean_squared_norm)
        assert np.linalg.norm(found - exact) < 5e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"diagonal": "class"}, "leave diagonal= out"),
        ({"X": np.ones((3, 5))}, "the moments are of 64"),
        ({"y": [0, 1]}, "one label for each"),
        ({"gmm": "digits"}, "gmm must be a GaussianMixture, not str"),
        ({"level": "classwise"}, "gmm must be a GaussianMixture, not DataMoments"),
        ({"level": "exact"}, "level"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(digits, change, remedy):
    moments, X = digits
    given = {"X": X, "y": None, "deq": NETWORKS["tanh"], "gmm": moments, "level": "polynomial"} | change
    with pytest.raises(rd.InvalidInputError, match=remedy):
        rd.equivalent(**given)


def test_classes_are_needed_class_by_class():
    gmm = rd.GaussianMixture(np.zeros((1, 5)), [1.0])
    with pytest.raises(rd.InvalidInputError, match="needs the classes"):
        rd.equivalent(np.ones((3, 5)), None, NETWORKS["tanh"], gmm)
