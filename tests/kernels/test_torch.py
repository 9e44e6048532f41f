"""Kernels by torch: the numbers of the other engines, arrays for arrays and tensors for tensors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.kernels.engines import torch_engine as worker
from rmtdeq.kernels.engines.torch_tables import DeviceTables
from rmtdeq.kernels.outputs import device_outputs

KINDS = ("ck", "ntk", "ntk-full")


@pytest.fixture(scope="module")
def samples(gaussian):
    X = gaussian(90, 30, seed=3)
    X[:20] *= np.linspace(0.4, 2.0, 20)[:, None]
    X[80], X[81], X[82] = X[5], -X[6], X[7] + 1e-6 * X[8]
    return X


def test_every_activation_has_the_numbers_of_numba(phi, spec, samples, monkeypatch):
    monkeypatch.setattr(worker, "_HOST_TILE", (16, 33, 512)[len(spec) % 3])
    deq = rd.DEQ(phi, 0.15, 0.8)
    for Y in (None, samples[:37]):
        exact, found = (rd.kernel(samples, deq, KINDS, Y=Y, backend=name) for name in ("numba", "torch"))
        for one, other in zip(exact, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-9 * abs(one).max())
            if Y is None:
                np.testing.assert_array_equal(other, other.T)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tensors_for_tensors(samples, dtype):
    deq = rd.DEQ("relu", 0.4, 0.8)
    x = torch.from_numpy(samples).to(dtype).requires_grad_()
    exact = rd.kernel(samples, deq, KINDS)
    for found, one in zip(rd.kernel(x, deq, KINDS, backend="torch"), exact, strict=True):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == dtype
        assert not found.requires_grad
        assert torch.equal(found, found.T)
        bound = 1e-12 if dtype == torch.float64 else 1e-6
        np.testing.assert_allclose(found.numpy(), one, rtol=0, atol=bound * one.max())
    assert isinstance(rd.kernel(x, deq, "ck", Y=x[:4], backend="torch"), torch.Tensor)
    assert isinstance(rd.kernel(samples, deq, "ck", backend="torch"), np.ndarray)
    out = np.empty((len(samples), len(samples)))
    assert rd.kernel(x.double(), deq, backend="torch", out=out) is out
    np.testing.assert_allclose(out, exact[0], atol=1e-6)


@pytest.mark.parametrize("allowed", ["medium", "high", "highest"])
def test_products_are_never_less_precise_than_their_type(samples, allowed):
    deq, before = rd.DEQ("tanh", 0.4, 0.8), torch.get_float32_matmul_precision()
    exact = rd.kernel(samples, deq)
    try:
        torch.set_float32_matmul_precision(allowed)
        with torch.autocast("cpu", torch.bfloat16):
            found = rd.kernel(samples.astype(np.float32), deq, backend="torch")
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6 * exact.max())


def test_no_contraction_is_an_error_and_not_a_number(gaussian):
    X = gaussian(30, 4)
    for backend in ("numba", "torch"):
        with pytest.raises(rd.IllPosedError):
            rd.kernel(X, rd.DEQ("relu", 2.1, 0.8, centered=False), "ntk", backend=backend)


def test_results_that_do_not_fit_on_the_device_are_kept_on_the_host(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))
    # What other tests have left to torch's own store is free, too.
    monkeypatch.setattr(torch.cuda, "memory_reserved", torch.cuda.memory_allocated)
    found = device_outputs(("ck",), (50, 60), np.dtype(np.float32), torch.device("cuda"), None)
    assert found["ck"].device.type == "cpu"
    assert found["ck"].shape == (50, 60)
    assert "do not fit on cuda" in caplog.text
    with pytest.raises(rd.MemoryLimitError, match="kernel_operator"):
        device_outputs(("ck",), (50, 60), np.dtype(np.float32), torch.device("cuda"), 100.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "nonsense"}, "cannot be used"),
        ({"device": "cpu:7x", "backend": "torch"}, "cannot be used"),
        ({"device": "meta", "backend": "numba"}, "take backend='torch'"),
        ({"device": 3.5, "backend": "torch"}, "cannot be used"),
        ({"backend": "triton4"}, "backend"),
    ],
)
def test_other_places_are_refused(samples, arguments, message):
    with pytest.raises(rd.InvalidInputError, match=message):
        rd.kernel(samples, rd.DEQ("tanh", 0.4, 0.8), **arguments)


def test_a_missing_gpu_is_said(samples):
    with pytest.raises(rd.InvalidInputError, match="device='cuda:99' cannot be used"):
        rd.kernel(samples, rd.DEQ("tanh", 0.4, 0.8), device="cuda:99")


def test_without_torch_the_rest_works_and_the_message_says_how_to_get_it():
    script = """
import sys
sys.modules["torch"] = None
import numpy as np, rmtdeq as rd
X = np.eye(3)
print(rd.kernel(X, rd.DEQ("tanh", 0.2, 0.8))[0, 0] > 0)
try:
    rd.kernel(X, rd.DEQ("tanh", 0.2, 0.8), backend="torch")
except rd.MissingDependencyError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("True\n")
    assert 'pip install "rmtdeq[torch]"' in run.stdout


def test_an_operator_moves_its_samples_once(samples, monkeypatch):
    moved, real = [], DeviceTables.to
    monkeypatch.setattr(DeviceTables, "to", lambda self, array: moved.append(array.shape) or real(self, array))
    operator = rd.kernel_operator(samples, rd.DEQ("relu", 0.4, 0.8), "ntk", backend="torch", method="matrix-free")
    exact = rd.kernel(samples, rd.DEQ("relu", 0.4, 0.8), "ntk")
    v = np.random.default_rng(0).standard_normal(len(samples))
    for _ in range(3):
        np.testing.assert_allclose(operator @ v, exact @ v, rtol=0, atol=1e-10)
    assert moved.count(samples.shape) == 1
