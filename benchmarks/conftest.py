"""Benchmarks: ratios against a rival in the same run; none of them can fail on a slow machine."""

import time

import numpy as np
import pytest


@pytest.fixture
def deq():
    import rmtdeq as rd

    return rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)


@pytest.fixture(name="paired")
def _paired():
    """Return a function that times two calls in turn."""
    return paired


def paired(first, second, rounds=7):
    """Time two calls in turn; return the median of the ratios, and the medians of both."""
    first(), second()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        first()
        middle = time.perf_counter()
        second()
        times.append((middle - start, time.perf_counter() - middle))
    a, b = np.array(times).T
    return float(np.median(a / b)), float(np.median(a)), float(np.median(b))
