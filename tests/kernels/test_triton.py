"""Kernels by Triton, in its interpreter or on a GPU where there is one: the numbers of the other engines."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.kernels import computation, matrix
from rmtdeq.kernels.blocks import Block
from rmtdeq.kernels.engines import torch_engine as worker
from rmtdeq.kernels.engines import triton_engine as fused
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.plan import make_plan

KINDS = ("ck", "ntk", "ntk-full")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def samples(gaussian):
    X = gaussian(40, 30, seed=3)
    X[:20] *= np.linspace(0.4, 1.8, 20)[:, None]
    return X


def tiles_of(monkeypatch, size):
    monkeypatch.setattr(fused, "_TILE", size)


def differences(found, exact):
    """Largest errors of kernels relative to their largest entries."""
    return [
        float(abs(np.asarray(one) - other).max() / abs(other).max()) for one, other in zip(found, exact, strict=True)
    ]


def test_every_activation_has_the_numbers_of_numba(phi, spec, samples, monkeypatch):
    tiles_of(monkeypatch, 64)  # one tile is what takes the interpreter least; the ragged ones are tried below
    deq, Y = rd.DEQ(phi, 0.15, 0.8), None if len(spec) % 2 else samples[:13]
    exact = rd.kernel(samples, deq, KINDS, Y=Y)
    found = rd.kernel(samples, deq, KINDS, Y=Y, backend="triton", device=DEVICE)
    assert max(differences(found, exact)) < 1e-9
    if Y is None:
        for one in found:
            np.testing.assert_array_equal(one, one.T)


@pytest.mark.parametrize(("tile", "block"), [(16, 24), (64, 512)])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_ragged_tiles_and_blocks(gaussian, n, block, tile, monkeypatch):
    tiles_of(monkeypatch, tile)
    monkeypatch.setattr(worker, "_HOST_TILE", block)
    X, deq = gaussian(n, 150, seed=n), rd.DEQ("tanh", 0.4, 0.8)
    for kinds in (("ck",), ("ntk-full", "ck"), ("ntk",))[n % 2 : n + 1]:
        for Y in (None, gaussian(5, 150, seed=50)):
            exact = rd.kernel(X, deq, kinds, Y=Y)
            assert max(differences(rd.kernel(X, deq, kinds, Y=Y, backend="triton", device=DEVICE), exact)) < 1e-12
            tensors = rd.kernel(torch.from_numpy(X).to(DEVICE), deq, kinds, Y=Y, backend="triton")
            assert all(tensor.device.type == DEVICE for tensor in tensors)
            assert max(differences([tensor.cpu() for tensor in tensors], exact)) < 1e-12


@pytest.mark.parametrize(("name", "as_tensor"), [("relu", True), ("tanh", False)])
def test_nearly_parallel_pairs_and_zeros(samples, make, name, as_tensor):
    X = samples.copy()
    X[30], X[31], X[32], X[33] = X[5], -X[6], X[7] + 1e-6 * X[8], 0
    deq = rd.DEQ(make(name), 0.3, 0.8)
    exact = rd.kernel(X, deq, KINDS)
    found = rd.kernel(torch.from_numpy(X).to(DEVICE) if as_tensor else X, deq, KINDS, backend="triton", device=DEVICE)
    assert max(differences([torch.as_tensor(one).cpu() for one in found], exact)) < 1e-9


@pytest.mark.parametrize("products", ["full", "tf32", "bfloat16"])
def test_single_precision_and_rounded_products(samples, products):
    """Engines differ by the rounding of sums; the kernel moves with the samples by what is stated."""
    deq = rd.DEQ("swish", 0.3, 0.8)
    single, exact = samples.astype(np.float32), rd.kernel(samples, deq, KINDS)
    by_numba = rd.kernel(single, deq, KINDS, products=products)
    for backend in ("torch", "triton"):
        found = rd.kernel(single, deq, KINDS, products=products, backend=backend, device=DEVICE)
        assert all(one.dtype == np.float32 for one in found)
        assert max(differences(found, by_numba)) < 1e-6
    lost = {"full": 1e-6, "tf32": 2**-11, "bfloat16": 2**-8}[products]
    # A kernel entry has twice the relative error of the norms, and a gain of the model.
    assert max(differences(by_numba, exact)) < 6 * lost
    if products != "full":
        assert max(differences(by_numba, exact)) > lost / 30


def test_explicit_networks(samples):
    net = rd.design(rd.DEQ("relu", 0.2, 0.8), tau0_squared=1.0, kind="ntk")
    exact = net.kernel(samples, KINDS)
    assert max(differences(net.kernel(samples, KINDS, backend="triton", device=DEVICE), exact)) < 1e-9


@pytest.mark.parametrize("backend", ["numba", "torch", "triton"])
def test_pairs_without_a_solution_are_counted(gaussian, backend):
    """A plan for a weak recurrence, worked out with a strong one."""
    X = gaussian(20, 30)
    how = computation.Computation(backend, None if backend == "numba" else DEVICE)
    place = computation.placement(X, None, how)
    plan = make_plan(place.inputs, rd.DEQ("tanh", 0.2, 0.8, centered=False), ("ck",))
    (weak,) = plan.layers
    strong = replace(weak, table=replace(weak.table, layer=replace(weak.layer, sigma_a2=20.0)))
    stronger = replace(plan, at=replace(plan.at, layers=(strong,)))
    with pytest.raises(rd.IllPosedError, match=r"slope 1 or more for \d+ pair"):
        matrix.fill_matrix(engine_of(stronger, place), {"ck": np.empty((20, 20))})


@pytest.mark.parametrize("method", ["device", pytest.param("matrix-free", marks=pytest.mark.slow), "dense"])
def test_operators(samples, method):
    deq, V = rd.DEQ("tanh", 0.4, 0.8), np.random.default_rng(0).standard_normal((len(samples), 3))
    op = rd.kernel_operator(samples, deq, "ntk", backend="triton", device=DEVICE, method=method)
    np.testing.assert_allclose(op @ V, rd.kernel(samples, deq, "ntk") @ V, rtol=0, atol=1e-11)


COMPILE = """
import os, sys
os.environ.pop("TRITON_INTERPRET", None)
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rmtdeq.kernels.engines import triton_engine as fused
from rmtdeq.kernels.engines import torch_engine as worker
from rmtdeq.kernels.engines.triton_tiles import solve_tiles

TYPES = {"constants": "*fp64", "counts": "*i32", "degrees": "*i32", "cutoffs": "*fp64", "rows": "*fp64"}
TYPES |= {"columns": "*fp64", "scale_rows": "*fp64", "scale_columns": "*fp64"}

def compiled(capability, real, **flags):
    constants = {
        "with_ck": True, "with_ntk": True, "with_full": True, "closed": False, "first": True, "same": True,
        "below": True, "mirror": True, "again": False, "size": fused._TILE, "most_steps": 60,
    } | flags
    pointers = dict.fromkeys(("gram", "below_ntk", "below_full", "ck", "ntk", "full", "final"), real)
    names = solve_tiles.arg_names
    signature = {
        name: "constexpr" if name in constants else TYPES.get(name) or pointers.get(name, "i32") for name in names
    }
    source = ASTSource(solve_tiles, signature, {(names.index(name),): value for name, value in constants.items()})
    options = {"num_warps": fused._WARPS, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

for capability in (80, 90, 100):
    for real in ("*fp64", "*fp32"):
        some = {"below": False, "mirror": False, "with_ck": False}
        for flags in ({}, {"again": True}, some, {"first": False}, {"closed": True}):
            found = compiled(capability, real, **flags)
            assert len(found.asm["cubin"]) > 1000
            assert found.metadata.shared < 100_000
print("compiled")
"""


@pytest.mark.slow
def test_machine_code_for_three_generations_of_cards_without_a_card():
    """What runs in the interpreter also compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip() == "compiled"


def test_auto_says_which_engine_it_takes(samples, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "rmtdeq")
    many = np.zeros((1024, 2))
    assert computation._choice("cpu", many, None) == "numba"
    assert computation._choice("mps", many, None) == "torch"
    assert computation._choice("cuda:1", many, None) == "triton"
    assert "by triton on cuda:1" in caplog.text
    assert computation._choice("cuda", many, samples) == "torch"
    assert "too few" in caplog.text
    monkeypatch.setattr(computation.importlib.util, "find_spec", lambda name: None)
    assert computation._choice("cuda", many, None) == "torch"
    assert "rmtdeq[triton]" in caplog.text


def test_without_triton_or_interpreter_the_message_says_what_is_missing():
    script = """
import sys
import numpy as np, rmtdeq as rd
X, deq = np.eye(3), rd.DEQ("tanh", 0.2, 0.8)
try:
    rd.kernel(X, deq, backend="triton")
except rd.InvalidInputError as error:
    print(error)
sys.modules["triton"] = None
print(rd.kernel(X, deq)[0, 0] > 0, rd.kernel(X, deq, backend="torch")[0, 0] > 0)
try:
    rd.kernel(X, deq, backend="triton")
except rd.MissingDependencyError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    first, second, third = run.stdout.strip().splitlines()
    assert "needs a GPU" in first
    assert "TRITON_INTERPRET=1" in first
    assert second == "True True"
    assert 'pip install "rmtdeq[triton]"' in third


@pytest.mark.parametrize("origin", [(0, 0), (8, 8), (8, 0)])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_blocks_anywhere_and_their_mirror_images(gaussian, backend, origin):
    """A block below the diagonal, in outputs that begin elsewhere."""
    X, deq = gaussian(30, 40), rd.DEQ("tanh", 0.3, 0.8)
    exact = rd.kernel(X, deq)
    place = computation.placement(X, None, computation.Computation(backend, DEVICE))
    engine = engine_of(make_plan(place.inputs, deq, ("ck",)), place)
    out = torch.full((30, 30), -1.0, dtype=torch.float64, device=DEVICE)
    engine.worker().fill(Block(12, 20, 9, 15), {"ck": out}, origin, mirror=True)
    whole = np.full((40, 40), -1.0)
    whole[origin[0] : origin[0] + 30, origin[1] : origin[1] + 30] = out.cpu().numpy()
    found = whole[:30, :30]
    for i in range(30):
        for j in range(30):
            inside = (12 <= i < 20 and 9 <= j < 15 and j <= i) or (12 <= j < 20 and 9 <= i < 15 and i <= j)
            assert found[i, j] == pytest.approx(exact[i, j] if inside else -1.0, abs=1e-12)
