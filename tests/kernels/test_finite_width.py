"""Kernels of finite networks: what they are made of, and that they tend to the infinite-width kernels like m^{-1/2}."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.models import OverparameterizedDEQ

KINDS = ("ck", "ntk", "ntk-full")
DEQS = {
    "tanh": rd.DEQ("tanh", 0.2, 0.8),
    "relu": rd.DEQ("relu", 0.4, 0.6),
    "swish, mean left in": rd.DEQ("swish", 0.3, 0.7, centered=False),
}


def inputs(n=8, p=20, seed=0, dtype=np.float64):
    return (np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p)).astype(dtype)


@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_features_are_the_equilibria_of_the_torch_module(deq):
    X = inputs()
    Z = rd.sample_features(X, deq, 50, seed=3)
    assert Z.shape == (8, 50)
    assert Z.dtype == np.float64
    module = deq.to_torch(20, 50, 3, tau0_squared=float((X**2).sum(axis=1).mean())).double()
    np.testing.assert_allclose(Z, module.solve(torch.from_numpy(X)).value.numpy(), atol=1e-12)
    np.testing.assert_allclose(rd.sample_features(X, deq, 50, seed=3, batch=3), Z, atol=1e-12)
    np.testing.assert_allclose(rd.finite_width_kernel(X, deq, 50, seed=3), Z @ Z.T, atol=1e-12)


@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_kernels_are_those_of_the_regression_module(deq):
    X = inputs()
    found = rd.finite_width_kernel(X, deq, 30, KINDS, seed=4, batch=5)
    for kind, kernel in zip(KINDS, found, strict=True):
        module = deq.to_regression(20, 30, 4, kind=kind, tau0_squared=float((X**2).sum(axis=1).mean())).double()
        np.testing.assert_allclose(kernel, module.tangent_kernel(torch.from_numpy(X)).numpy(), atol=1e-10)
        np.testing.assert_array_equal(kernel, kernel.T)
        assert np.linalg.eigvalsh(kernel)[0] > -1e-12
        np.testing.assert_allclose(kernel, rd.finite_width_kernel(X, deq, 30, kind, seed=4), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_samples_or_the_one_asked_for(dtype):
    X = inputs(dtype=dtype)
    for result in (rd.sample_features(X, DEQS["tanh"], 20), rd.finite_width_kernel(X, DEQS["tanh"], 20, "ntk")):
        assert result.dtype == dtype
    exact = rd.finite_width_kernel(inputs(), DEQS["tanh"], 20, "ntk")
    np.testing.assert_allclose(rd.finite_width_kernel(X, DEQS["tanh"], 20, "ntk", dtype="float64"), exact, atol=1e-6)


def slope(widths, errors):
    return np.polyfit(np.log(widths), np.log(errors), 1)[0]


def seeds(width, largest):
    """More draws of narrow networks, which cost little."""
    return range(max(3, min(16, largest // width)))


def errors_of(draw, limits, widths):
    """Root mean squared Frobenius distance of some kernels from their limits, (widths, kernels)."""
    largest = 4 * widths[-1]
    return np.array(
        [
            np.sqrt(
                np.mean(
                    [
                        [np.sum((a - b) ** 2) for a, b in zip(draw(width, seed), limits, strict=True)]
                        for seed in seeds(width, largest)
                    ],
                    axis=0,
                )
            )
            for width in widths
        ]
    )


# The distance is a root mean square over 32 x 33 / 2 entries and some seeds: its relative standard error is below 15 %
# for the few seeds of the widest networks, that of the slope below 0.03; three of them are left to chance.
def converge(deq, widths):
    X = inputs(n=32, p=32)
    limits = rd.kernel(X, deq, KINDS)
    errors = errors_of(lambda width, seed: rd.finite_width_kernel(X, deq, width, KINDS, seed=seed), limits, widths)
    assert (errors[-1] < 0.25 * np.array([np.linalg.norm(limit) for limit in limits])).all()
    for kind, column in zip(KINDS, errors.T, strict=True):
        assert slope(widths, column) == pytest.approx(-0.5, abs=0.1), kind


@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_kernels_tend_to_those_of_infinite_width(deq):
    converge(deq, [64, 128, 256, 768])


@pytest.mark.slow
@pytest.mark.parametrize("deq", DEQS.values(), ids=DEQS.keys())
def test_kernels_tend_to_those_of_infinite_width_up_to_8192(deq):
    converge(deq, [128, 256, 512, 1024, 2048, 4096, 8192])


def gram_of_section_1(widths):
    X = rd.on_sphere(inputs(n=32, p=32), np.sqrt(32))
    limit = rd.kernel(X / np.sqrt(32), rd.DEQ("relu", 0.16, 2.0, centered=False))

    def draw(width, seed):
        return (OverparameterizedDEQ(32, width, 0.08, seed).double().gram(torch.from_numpy(X)).numpy() / width,)

    return slope(widths, errors_of(draw, (limit,), widths)[:, 0])


def test_the_gram_matrix_of_the_over_parameterised_deq_tends_to_its_limit():
    assert gram_of_section_1([64, 128, 256, 512, 1024]) == pytest.approx(-0.5, abs=0.1)


@pytest.mark.slow
def test_the_gram_matrix_of_the_over_parameterised_deq_tends_to_its_limit_up_to_8192():
    assert gram_of_section_1([128, 256, 512, 1024, 2048, 4096, 8192]) == pytest.approx(-0.5, abs=0.1)


def test_ntk_and_ntk_full_are_told_apart():
    # Each kind tends to its own limit and to no other one.
    X, deq = inputs(n=20, p=20), DEQS["tanh"]
    limits = dict(zip(KINDS, rd.kernel(X, deq, KINDS), strict=True))
    for kind in KINDS:
        found = np.mean([rd.finite_width_kernel(X, deq, 500, kind, seed=seed) for seed in range(10)], axis=0)
        distances = {name: np.linalg.norm(found - limit) / np.linalg.norm(limit) for name, limit in limits.items()}
        assert distances[kind] < 0.08
        assert all(distance > 0.1 for name, distance in distances.items() if name != kind)


BAD = {
    "NaN": (lambda: rd.sample_features([[np.nan, 1.0]], DEQS["tanh"], 5), rd.InvalidInputError, "NaN"),
    "a vector": (lambda: rd.finite_width_kernel([1.0, 2.0], DEQS["tanh"], 5), rd.InvalidInputError, "one sample a row"),
    "kind": (lambda: rd.finite_width_kernel(inputs(), DEQS["tanh"], 5, "nngp"), rd.InvalidInputError, "kind"),
    "width": (lambda: rd.sample_features(inputs(), DEQS["tanh"], 0), rd.InvalidInputError, "width"),
    "too wide": (lambda: rd.sample_features(inputs(), DEQS["tanh"], 10**7), rd.MemoryLimitError, "smaller width"),
    "precision": (lambda: rd.sample_features(inputs(), DEQS["tanh"], 5, dtype="int8"), rd.InvalidInputError, "dtype"),
    "no DEQ": (lambda: rd.sample_features(inputs(), "tanh", 5), rd.InvalidInputError, "DEQ"),
    "no contraction": (lambda: rd.sample_features(inputs(), rd.DEQ("tanh", 5.0, 0.01), 5), rd.IllPosedError, "lower"),
    "batch": (lambda: rd.sample_features(inputs(), DEQS["tanh"], 5, batch=0), rd.InvalidInputError, "batch"),
    "device": (
        lambda: rd.sample_features(inputs(), DEQS["tanh"], 5, device="nonsense"),
        rd.InvalidInputError,
        "device",
    ),
    "solver": (
        lambda: rd.sample_features(inputs(), DEQS["tanh"], 5, solver="anderson"),
        rd.InvalidInputError,
        "Solver",
    ),
    "a callable": (
        lambda: rd.sample_features(inputs(), rd.DEQ(np.cos, 0.2, 0.8), 5),
        rd.InvalidInputError,
        "torch_activation",
    ),
}


@pytest.mark.parametrize(("make", "error", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_callable_works_with_its_twin():
    deq = rd.DEQ(np.sin, 0.2, 0.8)
    X = inputs()
    found = rd.finite_width_kernel(X, deq, 40, "ntk", torch_activation=torch.sin)
    named = rd.finite_width_kernel(X, rd.DEQ("sin", 0.2, 0.8), 40, "ntk")
    np.testing.assert_allclose(found, named, atol=1e-10)
