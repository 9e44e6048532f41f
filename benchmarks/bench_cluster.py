"""Two Dask workers against one process with the same two cores: the kernel, its product, a spectrum."""

from contextlib import closing

import numpy as np
import pytest
import rivals
from distributed import Client, LocalCluster

import rmtdeq as rd

CLUSTERS = {
    "threads": {"n_workers": 1, "threads_per_worker": 2, "processes": False},
    "processes": {"n_workers": 2, "threads_per_worker": 1},
}
STEPS = 12


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(request):
    with LocalCluster(**CLUSTERS[request.param], dashboard_address=":0") as started, Client(started):
        yield request.param


@pytest.mark.parametrize("n", [4000, 12_000])
@pytest.mark.filterwarnings("default")
def test_against_one_process(benchmark, cluster, deq, n):
    X = rivals.samples(n, 784)
    V = np.random.default_rng(1).standard_normal((n, 8))
    spectrum = {"kind": "ntk", "method": "slq", "steps": STEPS, "top": 4}

    # A new operator each time: what is timed is the kernel's tiles, kept by the workers, and then their products.
    def theirs():
        with closing(rd.kernel_operator(X, deq, "ntk", backend="dask", method="cluster")) as op:
            return op @ V[:, :1]

    def ours():
        with closing(rd.kernel_operator(X, deq, "ntk", backend="numba", method="dense")) as op:
            return op @ V[:, :1]

    np.testing.assert_allclose(theirs(), ours(), rtol=0, atol=1e-9 * n)
    ratios = {"kernel": rivals.paired(theirs, ours, rounds=3)}
    with (
        closing(rd.kernel_operator(X, deq, "ntk", backend="dask", method="cluster")) as far,
        closing(rd.kernel_operator(X, deq, "ntk", backend="numba", method="dense")) as near,
    ):
        np.testing.assert_allclose(far @ V, near @ V, rtol=0, atol=1e-9 * n)
        ratios["product with 8 vectors"] = rivals.paired(lambda: far @ V, lambda: near @ V, rounds=9)
    ratios[f"spectrum, {STEPS} steps"] = rivals.paired(
        lambda: rd.empirical_spectrum(X, deq, backend="dask", storage="cluster", **spectrum),
        lambda: rd.empirical_spectrum(X, deq, backend="numba", **spectrum),
        rounds=3,
    )
    benchmark.pedantic(theirs, rounds=1)
    for name, (ratio, seconds, alone) in ratios.items():
        benchmark.extra_info[f"{name}: time / time of one process"] = round(ratio, 2)
        print(f"\nn = {n}, {cluster}, {name}: {seconds:.3f} s, one process {alone:.3f} s, ratio {ratio:.2f}")
