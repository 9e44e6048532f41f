"""Kernels on a device whose memory gives out, and shared among processes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.kernels.engines import torch_engine as worker
from rmtdeq.kernels.engines.torch_engine import DeviceWorker
from rmtdeq.kernels.engines.triton_engine import FusedWorker
from rmtdeq.kernels.stores import choice as storage
from rmtdeq.kernels.stores.choice import Wish, choose

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def small_device(monkeypatch, most):
    """Let blocks of more than so many entries run out of memory."""
    for of in (DeviceWorker, FusedWorker):
        fill = of._fill

        def limited(self, block, *rest, fill=fill):
            if block.size > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            fill(self, block, *rest)

        monkeypatch.setattr(of, "_fill", limited)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_device_without_room_takes_smaller_blocks_and_says_so(gaussian, backend, monkeypatch, caplog):
    X, deq = gaussian(150, 40), rd.DEQ("tanh", 0.3, 0.8)
    exact = rd.kernel(X, deq, ("ck", "ntk"))
    small_device(monkeypatch, 80 * 80)
    for Y in (None, X[:70]):
        caplog.clear()
        found = rd.kernel(X, deq, ("ck", "ntk"), Y=Y, backend=backend, device=DEVICE)
        assert "no room for 150 x" in caplog.text
        for one, other in zip(found, exact, strict=True):
            np.testing.assert_allclose(one, other[:, : one.shape[1]], rtol=0, atol=1e-12)
    small_device(monkeypatch, 1000)
    with pytest.raises(rd.MemoryLimitError, match="no room for 64 x 64 entries"):
        rd.kernel(X, deq, backend=backend, device=DEVICE)


def test_a_matrix_that_does_not_fit_on_the_card_is_kept_elsewhere_and_that_is_said(monkeypatch, caplog):
    card = torch.device("cuda", 0)
    wish = Wish(1000, np.dtype(float), True, card)
    monkeypatch.setattr(storage, "_free_on", lambda device, limit: 8e6)
    assert choose("auto", wish, None, None) == "device"
    monkeypatch.setattr(storage, "_free_on", lambda device, limit: 7.9e6)
    assert choose("auto", wish, None, None) == "dense"
    assert "takes more than the 0.00736 GiB free on cuda:0" in caplog.text
    with pytest.raises(rd.MemoryLimitError, match="free on cuda:0"):
        choose("device", wish, None, None)
    # Two cards have room enough; one of the host's ways of storing is nothing that they could share.
    assert choose("auto", Wish(1000, np.dtype(float), True, card, 2), None, None) == "device"
    assert choose("auto", Wish(2000, np.dtype(float), True, card, 2), None, None) == "matrix-free"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["device", "matrix-free"])
@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
def test_products_on_the_device(gaussian, monkeypatch, kind, method, dtype):
    monkeypatch.setattr(worker, "_HOST_TILE", 48)
    monkeypatch.setattr(worker, "_DEVICE_TILE", 48)
    X, deq = gaussian(130, 20), rd.DEQ("relu", 0.3, 0.8)
    V = np.random.default_rng(0).standard_normal((130, 5))
    exact = rd.kernel(X, deq, kind) @ V
    op = rd.kernel_operator(X, deq, kind, backend="torch", device=DEVICE, method=method, dtype=dtype)
    bound = 1e-12 if dtype == "float64" else 3e-6
    for _ in range(2):
        np.testing.assert_allclose(op @ V, exact, rtol=0, atol=bound * abs(exact).max())
    op.close()
    assert op.method == "matrix-free"
    np.testing.assert_allclose(op @ V, exact, rtol=0, atol=bound * abs(exact).max())


SHARED = """
import os, sys
import numpy as np, torch, rmtdeq as rd
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
group = torch.distributed.group.WORLD
X = np.random.default_rng(0).standard_normal((101, 30)) / 30**0.5
deq = rd.DEQ("tanh", 0.3, 0.8)
# Vectors that differ between the processes are those of the first.
V = np.random.default_rng(rank).standard_normal((101, 3))
found = {}
for method in ("device", "matrix-free"):
    op = rd.kernel_operator(X, deq, "ntk", backend="torch", method=method, group=group)
    found[method] = op @ V
    if method == "device":
        assert op._store._entries.shape[0] == (50, 51)[rank]
spectrum = rd.empirical_spectrum(
    X, deq, "ntk", method="slq", top=4, steps=6, block=4, backend="torch", group=group, progress=False
)
try:
    rd.kernel_operator((1 + rank) * X, deq, "ntk", backend="torch", group=group)
except rd.InvalidInputError as error:
    assert "different samples" in str(error)
else:
    raise AssertionError("different samples were taken for the same")
np.savez(f"{folder}/{rank}.npz", top=spectrum.eigenvalues, density=spectrum.density([0.5, 1.0]), **found)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
# All is said and written: threads of gloo that outlive the group can abort an interpreter that tidies up.
os._exit(0)
"""


def test_two_processes_share_a_matrix(gaussian, tmp_path):
    runs = [
        subprocess.Popen([sys.executable, "-c", SHARED, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors[-2000:]
    X, deq = np.random.default_rng(0).standard_normal((101, 30)) / 30**0.5, rd.DEQ("tanh", 0.3, 0.8)
    K, V = rd.kernel(X, deq, "ntk"), np.random.default_rng(0).standard_normal((101, 3))
    top = np.linalg.eigvalsh(K)[-4:]
    alone = rd.empirical_spectrum(X, deq, "ntk", method="slq", top=4, steps=6, block=4)
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        for method in ("device", "matrix-free"):
            np.testing.assert_allclose(found[method], K @ V, rtol=0, atol=1e-11)
        np.testing.assert_allclose(found["top"], top, rtol=1e-12)
        np.testing.assert_allclose(found["density"], alone.density([0.5, 1.0]), rtol=1e-8)


def test_spectra_on_the_device(gaussian):
    X, deq = gaussian(90, 40), rd.DEQ("relu", 0.3, 0.8)
    exact = rd.empirical_spectrum(X, deq, "ntk")
    for given in (X, torch.from_numpy(X).to(DEVICE)):
        for top in (None, 5):
            found = rd.empirical_spectrum(given, deq, "ntk", top=top, backend="torch", device=DEVICE)
            np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, rtol=0, atol=1e-12 * exact.eigenvalues[-1])
            last = exact.vectors[:, -3:]
            np.testing.assert_allclose(abs((found.vectors[:, -3:] * last).sum(axis=0)), 1, atol=1e-9)
        found = rd.empirical_spectrum(given, deq, "ntk", method="lanczos", top=5, backend="torch", storage="device")
        np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues[-5:], rtol=1e-12)


def test_eigenvalues_go_to_the_host_where_the_device_has_no_room(gaussian, monkeypatch, caplog):
    def no_room(_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    X, deq = gaussian(40, 40), rd.DEQ("relu", 0.3, 0.8)
    monkeypatch.setattr(torch.linalg, "eigh", no_room)
    found = rd.empirical_spectrum(X, deq, backend="torch", device=DEVICE)
    assert "computing on the host" in caplog.text
    np.testing.assert_allclose(found.eigenvalues, rd.empirical_spectrum(X, deq).eigenvalues, atol=1e-12)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda X: X.to_sparse(), r"X.to_dense\(\)"),
        (lambda X: X.to_sparse_csr(), r"X.to_dense\(\)"),
        (lambda X: X.to("meta"), "no entries"),
        (lambda X: torch.quantize_per_tensor(X, 0.1, 0, torch.quint8), r"X.dequantize\(\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse", "ignore:torch.quantize_per_tensor")
def test_tensors_without_plain_entries_are_refused(gaussian, backend, made, message):
    X = made(torch.from_numpy(gaussian(6, 4)).float())
    with pytest.raises(rd.InvalidInputError, match=message):
        rd.kernel(X, rd.DEQ("tanh", 0.3, 0.8), backend=backend)


def test_samples_that_require_gradients_are_taken_as_they_are_and_that_is_said(gaussian, caplog):
    X, deq = torch.from_numpy(gaussian(6, 4)), rd.DEQ("tanh", 0.3, 0.8)
    found = rd.kernel(X.clone().requires_grad_(), deq, backend="torch")
    assert "no gradient" in caplog.text
    assert torch.equal(found, rd.kernel(X, deq, backend="torch"))


@pytest.mark.parametrize("options", [{}, {"top": 2}, {"method": "lanczos", "top": 2}, {"method": "slq", "steps": 8}])
def test_samples_on_a_device_stay_there(gaussian, monkeypatch, options):
    X, deq, moved = gaussian(30, 7), rd.DEQ("tanh", 0.3, 0.8), []
    expected = rd.empirical_spectrum(X, deq, progress=False, **options)

    def counted(own):
        def call(self, *args, **rest):
            moved.append(tuple(self.shape))
            return own(self, *args, **rest)

        return call

    for name in ("cpu", "numpy", "tolist", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    T = torch.from_numpy(X).to(DEVICE)
    found = rd.empirical_spectrum(T, deq, backend="torch", progress=False, **options)
    assert moved  # results come to the host
    assert (30, 7) not in moved
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=0, atol=1e-10)
    with pytest.raises(rd.InvalidInputError, match="1 NaN"):
        rd.empirical_spectrum(torch.where(T[0, 0] == T, torch.nan, T), deq, backend="torch", **options)
