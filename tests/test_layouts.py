"""Layout and type of the input do not matter if the numbers are the same; the smallest sizes work; so do forks."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd

DEQ = rd.DEQ("relu", 0.3, 0.8)
# Halves and quarters: every type below holds them, integers after scaling.
GRID = np.random.default_rng(0).integers(-4, 5, (24, 7)) / 4.0


def strided(X):
    """Return X as a view of every second row and column of something larger."""
    wide = np.full((2 * X.shape[0], 2 * X.shape[1]), np.nan, X.dtype)
    wide[::2, ::2] = X
    return wide[::2, ::2]


def read_only(X):
    """Return a copy that cannot be written to."""
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "big-endian": lambda X: X.astype(">f8"),
    "float16": lambda X: X.astype(np.float16),
    "long double": lambda X: X.astype(np.longdouble),
    "nested lists": lambda X: X.tolist(),
    "transposed": lambda X: X.T.copy().T,
}

CALLS = {
    "kernel": lambda X: rd.kernel(X, DEQ, "ntk"),
    "rectangular kernel": lambda X: rd.kernel(X, DEQ, "ntk", Y=X[:5]),
    "operator": lambda X: rd.kernel_operator(X, DEQ, "ntk") @ np.ones(24),
    "torch": lambda X: rd.kernel(X, DEQ, "ntk", backend="torch"),
    "dask": lambda X: rd.kernel(X, DEQ, "ntk", backend="dask").compute(),
    "spectrum": lambda X: rd.empirical_spectrum(X, DEQ).eigenvalues,
    "mixture": lambda X: rd.GaussianMixture.from_data(X, np.arange(24) % 2).squared_norms,
    "sphere": lambda X: rd.on_sphere(X[np.abs(X).sum(axis=1) > 0] if isinstance(X, np.ndarray) else X),
    "features": lambda X: rd.sample_features(X, DEQ, width=9, dtype="float64"),
    "finite width": lambda X: rd.finite_width_kernel(X, DEQ, width=9, kind="ntk", dtype="float64"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(call, layout):
    before = GRID.copy()
    given = LAYOUTS[layout](GRID)
    np.testing.assert_allclose(CALLS[call](given), CALLS[call](GRID), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(GRID, before)


@pytest.mark.parametrize("dtype", ["i1", "i8", ">i4", "u2", "?"])
def test_integers_are_numbers(dtype):
    X = (np.abs(4 * GRID) % 2).astype(dtype)
    np.testing.assert_array_equal(rd.kernel(X, DEQ, "ntk"), rd.kernel(X.astype(float), DEQ, "ntk"))


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch", "triton", "dask"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (2, 2)])
def test_the_smallest_sizes(shape, backend):
    X = np.linspace(0.5, 1.5, shape[0] * shape[1]).reshape(shape)
    found = np.asarray(rd.kernel(X, DEQ, "ntk", backend=backend))
    np.testing.assert_allclose(found, rd.kernel(X, DEQ, "ntk"), rtol=0, atol=1e-13)
    assert rd.empirical_spectrum(X, DEQ, backend=backend).eigenvalues.shape == (shape[0],)


def test_as_many_classes_as_samples_and_one_feature():
    gmm = rd.GaussianMixture(np.eye(6), [1.0] * 6)
    X, y = gmm.sample(6, seed=0)
    pred = rd.predict_spectrum(DEQ, gmm, 6)
    assert np.isfinite(pred.outliers).all()
    rd.compare(rd.empirical_spectrum(X, DEQ), pred, y).summary()
    assert rd.equivalent(X, y, DEQ, gmm).shape == (6, 6)
    line = rd.GaussianMixture([[0.0], [1.0]], [1.0, 1.0])
    assert rd.kernel(line.sample(5, seed=0)[0], DEQ).shape == (5, 5)


def _kernel(_: int) -> np.ndarray:
    return rd.kernel(GRID, DEQ, "ntk", progress=False)


def test_threads_that_call_at_once():
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(_kernel, range(20)):
            np.testing.assert_array_equal(found, _kernel(0))


FORK = """
import multiprocessing, sys, warnings
import numpy as np, rmtdeq as rd
warnings.simplefilter("ignore")  # of forking a process with threads, which is what is tried here
X = np.random.default_rng(0).standard_normal((400, 50)) / 50**0.5
deq = rd.DEQ("tanh", 0.3, 0.8)

def kernel(_):
    return rd.kernel(X, deq, "ntk", progress=False)

if __name__ == "__main__":
    if sys.argv[2] == "after":
        exact = kernel(0)
        if sys.argv[3] == "torch":
            import torch
            torch.ones(300, 300) @ torch.ones(300, 300)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        found = pool.map(kernel, range(4))
    print(all(abs(each - kernel(0)).max() < 1e-14 for each in found))
"""


# Workers of a cluster are spawned, too, and there every kernel is tried by default.
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(each, marks=pytest.mark.slow if each == "spawn" else ())
        for each in sorted(set(multiprocessing.get_all_start_methods()) & {"fork", "spawn"})
    ],
)
@pytest.mark.parametrize(
    ("moment", "library"),
    [
        pytest.param("before", "none", marks=pytest.mark.slow),
        pytest.param("after", "none", marks=pytest.mark.slow),
        ("after", "torch"),
    ],
)
def test_processes_that_are_forked_or_spawned(tmp_path, method, moment, library):
    script = tmp_path / "script.py"
    script.write_text(FORK)
    call = [sys.executable, str(script), method, moment, library]
    environment = os.environ | {"PYTHONPATH": str(Path(rd.__file__).parents[1])}
    run = subprocess.run(call, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert run.stdout.strip() == "True", run.stderr


def test_dask_and_torch_and_numba_in_one_process():
    import torch

    exact = rd.kernel(GRID, DEQ, "ntk")
    for _ in range(3):
        np.testing.assert_allclose(rd.kernel(GRID, DEQ, "ntk", backend="dask").compute(), exact, atol=1e-13)
        torch.ones(200, 200) @ torch.ones(200, 200)
        np.testing.assert_allclose(rd.kernel(GRID, DEQ, "ntk", backend="torch"), exact, atol=1e-13)
        np.testing.assert_array_equal(rd.kernel(GRID, DEQ, "ntk"), exact)
