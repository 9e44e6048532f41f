"""Kernels as linear operators do what the matrices do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

import rmtdeq as rd
from rmtdeq.kernels import operator

KINDS = ("ck", "ntk", "ntk-full")


@pytest.fixture(scope="module")
def samples(gaussian):
    X = gaussian(130, 12, seed=8)
    X[:3] = X[3:6]
    X[6] = X[7] + 1e-6 * X[8]
    X[9] = 0
    return X


@pytest.mark.parametrize(
    ("name", "kind", "backend"),
    [("tanh", "ntk", "auto"), ("relu", "ck", "numpy"), *(("relu", kind, "auto") for kind in KINDS)],
)
def test_products_are_those_of_the_matrix(make, samples, name, kind, backend):
    deq, V = rd.DEQ(make(name), 0.4, 0.8), np.random.default_rng(0).standard_normal((130, 4))
    dense = rd.kernel(samples, deq, kind)
    op = rd.kernel_operator(samples, deq, kind, backend=backend)
    assert isinstance(op, LinearOperator)
    assert op.shape == (130, 130)
    assert op.dtype == np.float64
    size = 1e-12 * np.linalg.norm(dense, 2) * np.linalg.norm(V)
    for product, exact in (
        (op @ V, dense @ V),
        (op @ V[:, 0], dense @ V[:, 0]),
        (op.matvec(V[:, :1]), dense @ V[:, :1]),
        (op.T @ V, dense @ V),
        (op.H @ V, dense @ V),
        (op.rmatvec(V[:, 1]), dense @ V[:, 1]),
        ((2 * op) @ V, 2 * dense @ V),
        (op @ V.astype(np.float32), dense @ V.astype(np.float32)),
        (op @ (V + 1j * V[::-1]), dense @ (V + 1j * V[::-1])),
    ):
        assert product.shape == exact.shape
        assert abs(product - exact).max() < size


def test_rows_at_a_time_do_not_show(samples, monkeypatch):
    deq, V = rd.DEQ("relu", 0.4, 0.8), np.eye(130)
    dense = rd.kernel(samples, deq, "ntk")
    monkeypatch.setattr(operator, "_ROWS_BYTES", 130 * 8 * 33)
    op = rd.kernel_operator(samples, deq, "ntk")
    np.testing.assert_allclose(op @ V, dense, atol=1e-12 * dense.max())
    np.testing.assert_allclose(op @ V, dense, atol=1e-12 * dense.max())  # with the longer series it has kept


def test_extreme_eigenvalues_are_found_without_the_matrix(samples):
    deq = rd.DEQ("tanh", 0.4, 0.8)
    exact = np.linalg.eigvalsh(rd.kernel(samples, deq, "ntk"))
    found = eigsh(rd.kernel_operator(samples, deq, "ntk"), k=3, v0=np.ones(130), return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), exact[-3:], rtol=1e-10)


def test_single_precision_operator(samples):
    deq, v = rd.DEQ("tanh", 0.4, 0.8), np.random.default_rng(1).standard_normal(130).astype(np.float32)
    op = rd.kernel_operator(samples, deq, dtype=np.float32)
    assert op.dtype == np.float32
    product = op @ v
    assert product.dtype == np.float32
    np.testing.assert_allclose(product, rd.kernel(samples, deq) @ v, atol=3e-6 * np.linalg.norm(v))


def test_centring_is_that_of_the_kernel(samples):
    deq, v = rd.DEQ("relu", 0.4, 0.8), np.ones(130)
    for tau0_squared in (None, 0.5):
        product = rd.kernel_operator(samples, deq, tau0_squared=tau0_squared) @ v
        np.testing.assert_allclose(product, rd.kernel(samples, deq, tau0_squared=tau0_squared) @ v, atol=1e-11)


def test_single_sample_is_a_number():
    op = rd.kernel_operator([[0.6, 0.8]], rd.DEQ("tanh", 0.2, 0.8))
    assert op @ np.array([2.0]) == pytest.approx(2 * rd.kernel([[0.6, 0.8]], rd.DEQ("tanh", 0.2, 0.8))[0], rel=1e-15)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "nngp"},
        {"kind": ("ck", "ntk")},
        {"kind": None},
        {"backend": "fortran"},
        {"device": "cuda:0"},
        {"dtype": "int32"},
        {"tau0_squared": -1.0},
    ],
)
def test_arguments_that_make_no_sense_are_refused(samples, arguments, seconds):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=next(iter(arguments))):
        rd.kernel_operator(samples, rd.DEQ("tanh", 0.2, 0.8), **arguments)


@pytest.mark.parametrize("shape", [(129,), (131, 2), (2, 130)])
def test_vectors_of_another_length_are_refused(samples, shape):
    with pytest.raises(ValueError, match="dimension mismatch"):
        rd.kernel_operator(samples, rd.DEQ("tanh", 0.2, 0.8)) @ np.ones(shape)
