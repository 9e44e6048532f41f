"""Kernels and predictions of neural-tangents, as `benchmarks/neural_tangents_cases.py` stored them, are ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd

RECORD = json.loads((Path(__file__).parent / "data" / "neural_tangents.json").read_text(encoding="utf-8"))
EXACT, ROUNDED = 1e-10, 1e-6
"""Relative to the diagonal; the second of what is not exact there: quadratures, and opposite or parallel samples, the
first and the last, whose angle they take from a rounded cosine."""


def name(case):
    bias = "no bias" if case["b_std"] is None else f"b_std {case['b_std']:g}"
    return f"{case['activation']}, {case['depth']} x W_std {case['W_std']:.3g}, {bias}, {case.get('parameterization')}"


def network(case):
    """Return the network: variances are the squares of their standard deviations."""
    layer = rd.Layer(case["activation"], sigma_b2=case["W_std"] ** 2, sigma_c2=(case["b_std"] or 0.0) ** 2)
    return rd.Network([layer] * case["depth"])


def samples(given):
    """Return samples: they divide inner products by the number of features."""
    X = np.array(given)
    return X / np.sqrt(X.shape[1])


def test_there_are_cases_enough():
    cases = RECORD["kernels"]
    assert len(cases) >= 60
    assert len({case["activation"] for case in cases}) >= 15
    assert {case["parameterization"] for case in cases} == {"ntk", "standard"}
    assert max(case["depth"] for case in cases) == 20
    assert RECORD["versions"]["neural-tangents"] == "0.6.5"


@pytest.mark.parametrize("case", RECORD["kernels"], ids=name)
@pytest.mark.filterwarnings("ignore:The samples' squared norms")
def test_kernels_are_the_same(case):
    X = samples(case["X"])
    kinds = ("ck", "ntk-full") if "ntk" in case else ("ck",)
    found = list(rd.kernel(X, network(case), kinds, backend="numpy", progress=False))
    if case["parameterization"] == "standard" and "ntk" in case:
        # Gradients in weights of variance W_std²/n, n the width; in those of the read-out, of 1/n.
        found[1] = X.shape[1] * (found[0] + (found[1] - found[0]) / case["W_std"] ** 2)
    for kernel, theirs in zip(found, ("nngp", "ntk"), strict=False):
        bound = np.full(kernel.shape, ROUNDED if case["activation"] == "tanh" else EXACT)
        bound[0, -1] = ROUNDED
        upper, size = np.triu_indices(len(X)), np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
        assert (abs(kernel[upper] - case[theirs]) < (bound * size)[upper]).all()


def layer(activation, W_std=1.0, b_std=0.0, **more):
    """Return a layer of weights and its activation."""
    return rd.Layer(activation, sigma_b2=W_std**2, sigma_c2=b_std**2, **more)


def weights(W_std):
    """Return weights that no activation follows: a factor of what goes on."""
    return rd.Concatenation([()], weights=[W_std**2])


BRANCHED = {
    "normalized": [layer("relu", 1.3, 0.2, normalized=True), layer("erf", 0.9, 0.1, normalized=True)],
    "dropout": [layer("relu", 1.3, 0.2, dropout=0.3), layer("erf", 0.9, 0.1, dropout=0.2)],
    # Biases that are added on the way are those of all activations that come after.
    "residual": [
        weights(1.2),
        rd.Residual(layer("relu", 1.0, 0.1), 0.8**2),
        rd.Residual(layer("erf", 1.0, np.hypot(0.1, 0.3)), 1.1**2),
        layer("gelu", 1.0, np.hypot(0.1, 0.3)),
    ],
    "residual, five blocks of ReLU": [*[rd.Residual("relu", 0.7**2)] * 5, "relu"],
    "residual, normalized": [
        weights(1.2),
        rd.Residual(layer("relu", 1.0, 0.1, normalized=True), 0.8**2),
        layer("erf", 1.0, np.hypot(0.1, 0.3), normalized=True),
    ],
    "sum": [
        rd.Concatenation([(), layer("relu", 1.1), layer("erf", 0.6, 0.1)], weights=(1.0, 0.7**2, 1.2**2)),
        layer("relu", 1.0, np.hypot(0.2, 0.3)),
    ],
    "concatenation": [
        rd.Concatenation([layer("relu", 1.1, 0.1), [layer("erf", 0.9, 0.2), layer("gelu", 1.3)]], weights=(0.25, 0.75)),
        layer("relu", 1.4, 0.1),
    ],
}
"""Our networks, by the names of theirs."""


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("case", RECORD["branched"], ids=lambda case: case["network"])
def test_branches_normalisation_and_dropout_are_the_same(case, backend):
    X = samples(case["X"])
    found = rd.kernel(X, rd.Network(BRANCHED[case["network"]]), ("ck", "ntk-full"), backend=backend, progress=False)
    upper = np.triu_indices(len(X))
    for kernel, theirs in zip(found, ("nngp", "ntk"), strict=True):
        size = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
        bound = np.full(kernel.shape, EXACT)
        bound[0, -1] = ROUNDED
        assert (abs(kernel[upper] - case[theirs]) < (bound * size)[upper]).all()


@pytest.mark.parametrize("case", RECORD["predictions"], ids=lambda case: f"{name(case)}, {case['get']}")
def test_predictions_are_the_same(case):
    X, X_test = samples(case["X"]), samples(case["X_test"])
    y = np.sin(np.array(case["X"])[:, :2])
    # Theirs is the flow of the mean squared error over all samples and outputs.
    times = [np.inf if t is None else t / y.size for t in case["times"]]
    kind = {"ntk": "ntk-full", "nngp": "ck"}[case["get"]]
    for one, mean, covariance in zip(
        rd.predict_ensemble(network(case), X, y, X_test, times, kind=kind),
        case["mean"],
        case["covariance"],
        strict=True,
    ):
        np.testing.assert_allclose(one.mean, mean, rtol=0, atol=1e-8)
        np.testing.assert_allclose(one.covariance, covariance, rtol=0, atol=1e-8)
