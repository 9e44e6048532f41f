"""Kernels on Dask workers: the numbers of one process, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, scheduler
from distributed.comm import CommClosedError

import rmtdeq as rd
from rmtdeq._lib import cluster as reached
from rmtdeq.kernels import pieces as cut
from rmtdeq.kernels.stores import cluster as stored

KINDS = ("ck", "ntk", "ntk-full")


@pytest.fixture(scope="module")
def workers():
    """Two processes of one thread each."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def few_pieces(monkeypatch):
    """Four pieces of samples where there would be eight: ten tiles, each of which costs the scheduler milliseconds."""
    monkeypatch.setattr(cut, "_FEWEST", 4)


@pytest.fixture
def samples(gaussian):
    X = gaussian(150, 40, seed=5)
    X[:30] *= np.linspace(0.3, 2.0, 30)[:, None]
    X[100], X[101], X[102] = X[5], X[7] + 1e-6 * X[8], 0
    return X


@pytest.mark.parametrize("name", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("columns", [None, 37])
def test_arrays_have_the_numbers_of_one_process(workers, make, samples, name, columns):
    deq, Y = rd.DEQ(make(name), 0.3, 0.8), None if columns is None else samples[:columns]
    exact = rd.kernel(samples, deq, KINDS, Y=Y)
    found = rd.kernel(samples, deq, KINDS, Y=Y, backend="dask")
    for one, other in zip(found, exact, strict=True):
        assert isinstance(one, da.Array)
        assert one.shape == other.shape
        computed = one.compute()
        np.testing.assert_allclose(computed, other, rtol=0, atol=1e-12 * abs(other).max())
        if Y is None:
            np.testing.assert_array_equal(computed, computed.T)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_samples(workers, gaussian, n):
    X, deq = gaussian(n, 5), rd.DEQ("tanh", 0.3, 0.8)
    np.testing.assert_allclose(rd.kernel(X, deq, backend="dask").compute(), rd.kernel(X, deq), atol=1e-13)


def test_dask_arrays_and_single_precision(workers, samples, tmp_path):
    deq, exact = rd.DEQ("relu", 0.3, 0.8), rd.kernel(samples, rd.DEQ("relu", 0.3, 0.8), "ntk")
    given = da.from_array(samples, chunks=(40, 13))
    found = rd.kernel(given, deq, "ntk", backend="dask")
    np.testing.assert_allclose(found.compute(), exact, rtol=0, atol=1e-12 * exact.max())
    found.to_zarr(str(tmp_path / "kernel.zarr"))
    np.testing.assert_allclose(da.from_zarr(str(tmp_path / "kernel.zarr")).compute(), exact, rtol=0, atol=1e-12)
    single = rd.kernel(given.astype("f4"), deq, "ntk", backend="dask")
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.compute(), exact, rtol=0, atol=1e-6 * exact.max())
    rounded = rd.kernel(samples, deq, "ntk", backend="dask", products="bfloat16").compute()
    np.testing.assert_allclose(rounded, rd.kernel(samples, deq, "ntk", products="bfloat16"), rtol=0, atol=1e-5)


def test_a_network_of_layers_on_a_cluster(workers, samples):
    """Centred where all samples are, not those of a tile."""
    network = rd.Network([rd.Layer("relu", sigma_b2=1.5, sigma_c2=0.1), rd.DEQ("swish", 0.3, 0.8)])
    exact = rd.kernel(samples, network, "ntk")
    found = rd.kernel(samples, network, "ntk", backend="dask").compute()
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * exact.max())
    op = rd.kernel_operator(samples, network, "ntk", backend="dask", method="cluster")
    v = np.random.default_rng(0).standard_normal(len(samples))
    np.testing.assert_allclose(op @ v, exact @ v, rtol=0, atol=1e-10 * exact.max())


@pytest.mark.parametrize("method", ["cluster", "matrix-free"])
@pytest.mark.parametrize("kind", KINDS)
def test_products_and_spectra(workers, samples, kind, method):
    deq, V = rd.DEQ("relu", 0.3, 0.8), np.random.default_rng(0).standard_normal((150, 3))
    exact = rd.kernel(samples, deq, kind)
    op = rd.kernel_operator(samples, deq, kind, backend="dask", method=method)
    assert op.method == method
    np.testing.assert_allclose(op @ V, exact @ V, rtol=0, atol=1e-11)
    op.close()
    np.testing.assert_allclose(op @ V, exact @ V, rtol=0, atol=1e-11)
    options = {"method": "slq", "top": 4, "steps": 8}
    alone = rd.empirical_spectrum(samples, deq, kind, **options)
    found = rd.empirical_spectrum(samples, deq, kind, backend="dask", storage=method, **options)
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, rtol=1e-9)
    edges = [0.0, 0.1, 0.5, 1.0, 100.0]
    np.testing.assert_allclose(found.masses(edges)[0], alone.masses(edges)[0], atol=1e-9)


def test_all_eigenvalues(workers, samples):
    deq = rd.DEQ("tanh", 0.3, 0.8)
    found = rd.empirical_spectrum(samples, deq, backend="dask")
    np.testing.assert_allclose(found.eigenvalues, rd.empirical_spectrum(samples, deq).eigenvalues, atol=1e-12)


def test_steps_of_lanczos_are_kept(workers, samples, tmp_path):
    deq, options = rd.DEQ("tanh", 0.3, 0.8), {"method": "slq", "top": 3, "steps": 6, "backend": "dask"}
    found = rd.empirical_spectrum(samples, deq, checkpoint=tmp_path, **options)
    again = rd.empirical_spectrum(samples, deq, checkpoint=tmp_path, **options)
    np.testing.assert_array_equal(found.eigenvalues, again.eigenvalues)
    with pytest.raises(rd.InvalidInputError, match="another computation"):
        rd.empirical_spectrum(1.1 * samples, deq, checkpoint=tmp_path, **options)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_killed_worker_costs_time_and_not_the_result(workers, gaussian, monkeypatch, copies):
    # With one copy samples are lost with the worker, as they are where Dask's memory manager let go of the second.
    monkeypatch.setattr(cut, "SIDE", 100)
    monkeypatch.setattr(cut, "_COPIES", copies)
    monkeypatch.setattr(stored, "_PAUSE", 0.5)
    X, deq = gaussian(700, 60), rd.DEQ("tanh", 0.3, 0.8)
    V = np.random.default_rng(0).standard_normal((700, 4))
    exact = rd.kernel(X, deq, "ntk") @ V
    while len(reached.workers_of(workers)) < 2:
        time.sleep(0.05)
    victim = next(iter(workers.run(os.getpid).values()))
    doomed = [victim]

    class Deadly(stored.Stage):
        """Kills the worker when the first tile has been computed."""

        def update(self, count=1):
            while doomed:
                os.kill(doomed.pop(), signal.SIGKILL)
            super().update(count)

    monkeypatch.setattr(stored, "Stage", Deadly)
    op = rd.kernel_operator(X, deq, "ntk", backend="dask")
    first = op @ V
    assert victim not in workers.run(os.getpid).values()
    second = op @ V
    np.testing.assert_allclose(first, exact, rtol=0, atol=1e-12 * abs(exact).max() * 700)
    np.testing.assert_allclose(second, exact, rtol=0, atol=1e-12 * abs(exact).max() * 700)


def test_lost_work_is_an_exception_of_the_package():
    with pytest.raises(rd.ClusterError, match="memory for each"), reached.cluster_errors():
        raise CommClosedError("gone")


@pytest.fixture
def alone():
    """A cluster in this process, and its client."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_closed_client_is_named(alone, samples):
    deq = rd.DEQ("tanh", 0.3, 0.8)
    with alone.as_current():
        op = rd.kernel_operator(samples, deq, backend="dask")
        assert np.isfinite(op @ samples[:, 0]).all()
    alone.close()
    with pytest.raises(rd.ClusterError, match="client is closed"):
        op @ samples[:, 0]


@pytest.fixture
def slow_news(monkeypatch):
    """Clusters hear of their workers a tenth of a second later than the scheduler."""
    batched = scheduler.BatchedSend
    monkeypatch.setattr(
        scheduler, "BatchedSend", lambda interval, **more: batched("100ms" if interval == "5ms" else interval, **more)
    )


def test_a_cluster_without_workers_is_named_and_can_be_closed(slow_news, alone, samples, monkeypatch):
    monkeypatch.setattr(reached, "_PATIENCE", 0.2)
    alone.cluster.scale(0)
    alone.sync(alone.cluster._correct_state)
    with alone.as_current(), pytest.raises(rd.ClusterError, match="no workers"):
        rd.kernel(samples, rd.DEQ("tanh", 0.3, 0.8), backend="dask")


def test_a_worker_that_comes_late_is_waited_for(alone, samples):
    deq = rd.DEQ("tanh", 0.3, 0.8)
    alone.cluster.scale(0)
    alone.sync(alone.cluster._correct_state)
    assert not reached.workers_of(alone)
    late = threading.Timer(0.3, alone.cluster.scale, [1])
    late.start()
    with alone.as_current():
        np.testing.assert_allclose(np.asarray(rd.kernel(samples, deq, backend="dask")), rd.kernel(samples, deq))
    late.join()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, deq: rd.kernel(np.where(X > 0.4, np.nan, X), deq, backend="dask"), "NaN"),
        (lambda X, deq: rd.kernel(da.from_array(np.where(X > 0.4, np.nan, X)), deq, backend="dask"), "NaN"),
        (lambda X, deq: rd.kernel(X[0], deq, backend="dask"), "matrix"),
        (lambda X, deq: rd.kernel(da.from_array(X)[0], deq, backend="dask"), "matrix"),
        (lambda X, deq: rd.kernel(da.from_array(X)[da.from_array(X)[:, 0] > 0], deq, backend="dask"), "known shape"),
        (lambda X, deq: rd.kernel(X, deq, Y=X[:, :3], backend="dask"), "features"),
        (lambda X, deq: rd.kernel(X, deq, backend="dask", out=np.empty((150, 150))), "to_zarr"),
        (lambda X, deq: rd.kernel(X, deq, backend="dask", products="half"), "products"),
        (lambda X, deq: rd.kernel(X, deq, backend="dask", dtype="int8"), "dtype"),
        (lambda X, deq: rd.kernel(0 * X, deq, backend="dask"), "zero"),
        (lambda X, deq: rd.kernel(X, "tanh", backend="dask"), "DEQ"),
        (lambda X, deq: rd.kernel_operator(X, deq, backend="dask", method="dense"), "matrix-free"),
        (lambda X, deq: rd.kernel_operator(X, deq, backend="dask", folder="x"), "folder"),
        (lambda X, deq: rd.kernel_operator(X, deq, method="cluster"), "dask"),
        (lambda X, deq: rd.kernel(X, deq, backend="dask", device="nonsense"), "worker of the cluster says"),
    ],
)
def test_what_makes_no_sense_is_refused(workers, gaussian, call, message):
    with pytest.raises(rd.InvalidInputError, match=message):
        call(gaussian(150, 40), rd.DEQ("tanh", 0.3, 0.8))


def test_a_local_cluster_is_started_where_there_is_none_and_dask_is_asked_for_by_name(samples, monkeypatch):
    script = """
import numpy as np, rmtdeq as rd
X, deq = np.random.default_rng(0).standard_normal((40, 30)) / 30**0.5, rd.DEQ("tanh", 0.2, 0.8)
found = rd.kernel(X, deq, backend="dask")
print(abs(np.asarray(found) - rd.kernel(X, deq)).max() < 1e-12)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
    assert run.stderr == ""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(rd.MissingDependencyError, match=r'pip install "rmtdeq\[dask\]"'):
        rd.kernel(samples, rd.DEQ("tanh", 0.3, 0.8), backend="dask")


def test_the_command_line_uses_a_scheduler(workers, tmp_path, capsys, monkeypatch):
    from rmtdeq.cli import main

    monkeypatch.setattr(reached, "_PATIENCE", 2.0)
    address = workers.scheduler_info()["address"]
    arguments = ["compare", "--dataset", "fashion-sample", "--n", "200", "--kind", "ck", "--level", "paper"]
    assert main([*arguments, "--backend", "dask", "--scheduler", address]) == 0
    by_dask = capsys.readouterr().out
    assert main(arguments) == 0
    assert capsys.readouterr().out == by_dask
    for wrong in (["--scheduler", address], ["--backend", "dask", "--scheduler", "tcp://127.0.0.1:9"]):
        assert main([*arguments, *wrong]) != 0
    said = capsys.readouterr().err
    assert "--backend dask" in said
    assert "No Dask scheduler answers" in said


def test_the_memory_limit_is_heeded(workers, samples):
    deq = rd.DEQ("relu", 0.3, 0.8)
    block, half = 38 * 38 * 8, 150 * (150 + 38) // 2 * 8
    for kind, needed in (("ck", block), (("ck", "ntk"), 2 * block)):
        rd.kernel(samples, deq, kind, backend="dask", memory_limit=needed)
        with pytest.raises(rd.MemoryLimitError, match=r"block .*38 x 38 .*memory_limit"):
            rd.kernel(samples, deq, kind, backend="dask", memory_limit=needed - 1)
    options = {"backend": "dask", "progress": False}
    assert rd.kernel_operator(samples, deq, memory_limit=half, **options).method == "cluster"
    assert rd.kernel_operator(samples, deq, memory_limit=half - 1, **options).method == "matrix-free"
    with pytest.raises(rd.MemoryLimitError, match="memory_limit"):
        rd.kernel_operator(samples, deq, method="cluster", memory_limit=half - 1, **options)
    with pytest.raises(rd.MemoryLimitError, match="memory_limit"):
        rd.empirical_spectrum(samples, deq, method="lanczos", storage="cluster", memory_limit=half - 1, **options)
    with pytest.raises(rd.MemoryLimitError, match="memory_limit"):
        rd.empirical_spectrum(samples, deq, memory_limit=half, **options)
    for call in (rd.kernel, rd.kernel_operator):
        with pytest.raises(rd.InvalidInputError, match="memory_limit"):
            call(samples, deq, memory_limit=-1, **options)
