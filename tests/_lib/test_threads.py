"""No call leaves a library with another number of threads, whatever comes of it and whoever calls beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numba
import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

import rmtdeq as rd
from rmtdeq._lib import threads
from rmtdeq.kernels import blocks as fill

DEQ = rd.DEQ("tanh", 0.3, 0.8)


def numbers():
    """Threads of every BLAS and OpenMP that is loaded, of numba and of torch."""
    libraries = {each["filepath"]: each["num_threads"] for each in ThreadpoolController().info()}
    return libraries | {"numba": numba.get_num_threads(), "torch": torch.get_num_threads()}


@pytest.fixture(params=[None, 1], ids=["as they were", "limited by the caller"])
def settled(request, gaussian_samples):
    """Return samples, and check the numbers of threads after the test."""
    with threadpool_limits(request.param, user_api="blas") if request.param else nullcontext():
        before = numbers()
        yield gaussian_samples
        after = numbers()
        assert {library: after[library] for library in before} == before


def calls(X):
    rd.kernel(X, DEQ, ("ck", "ntk"), progress=False)
    rd.kernel_operator(X, DEQ, "ntk") @ np.ones(len(X))
    rd.empirical_spectrum(X, DEQ, method="slq", top=2, steps=4, progress=False)
    rd.kernel(X, DEQ, backend="torch", progress=False)


@pytest.fixture(scope="module")
def gaussian_samples():
    X = np.random.default_rng(0).standard_normal((600, 20)) / np.sqrt(20)
    calls(X)  # load what there is to load
    numbers()  # and let numba start its threads, which asking for their number does
    return X


def test_kernels_and_products(settled):
    calls(settled)


@pytest.mark.parametrize("callers", [2, 7])
def test_calls_beside_each_other(settled, callers):
    with ThreadPoolExecutor(callers) as pool:
        kernels = list(pool.map(lambda _: rd.kernel(settled, DEQ, progress=False), range(3 * callers)))
    for kernel in kernels[1:]:
        np.testing.assert_array_equal(kernel, kernels[0])


def test_threads_of_a_dask_worker(settled):
    from distributed import Client

    workers = {"n_workers": 1, "threads_per_worker": 4, "processes": False, "dashboard_address": ":0"}
    with Client(**workers):
        rd.kernel(settled, DEQ, backend="dask").compute()
        rd.kernel_operator(settled, DEQ, backend="dask") @ np.ones(len(settled))


def test_errors_and_interrupts(settled, monkeypatch):
    real, caller = fill.HostWorker.fill, threading.get_ident()

    def interrupted(self, *arguments, **options):
        # Whichever thread is first: the caller may have had no block yet.
        signal.pthread_kill(caller, signal.SIGINT)
        real(self, *arguments, **options)

    monkeypatch.setattr(fill.HostWorker, "fill", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            rd.kernel(settled, DEQ, progress=False)
    finally:
        signal.signal(signal.SIGINT, handler)
    monkeypatch.setattr(fill.HostWorker, "fill", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rd.kernel(settled, DEQ, progress=False)
    with pytest.raises(rd.IllPosedError):
        rd.kernel(settled, rd.DEQ("relu", 3.0, 0.8, centered=False), progress=False)


def test_the_limit_is_lifted_by_the_last_in_any_thread(settled):
    """The first to come is not the last to leave."""
    limit, first_is_in, second_is_in = threads._OneBlasThread(), threading.Event(), threading.Event()
    seen = []

    def first():
        with limit:
            first_is_in.set()
            second_is_in.wait()

    def second():
        first_is_in.wait()
        with limit:
            second_is_in.set()
            thread.join()
            seen.extend(each["num_threads"] for each in ThreadpoolController().select(user_api="blas").info())

    thread = threading.Thread(target=first)
    thread.start()
    other = threading.Thread(target=second)
    other.start()
    other.join()
    assert set(seen) == {1}


def test_within_another_share_of_work_there_is_one_thread():
    with threads.alone():
        with threads.alone():
            assert threads.threads() == 1
        assert threads.threads() == 1
    assert threads.threads() == numba.get_num_threads()


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_programs_wait_patiently_unless_told_otherwise(given):
    code = "import os; from rmtdeq.cli import main; main(['solve']); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == (given or "PASSIVE")
