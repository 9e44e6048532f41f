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
    """Time two calls in turn; return the median of the ratios, and the medians of both.

    The threads of a BLAS go on spinning for some hundredths of a second after a product; neither call is charged for
    what the other left behind.
    """
    first(), second()
    times = []
    for _ in range(rounds):
        pair = []
        for call in (first, second):
            time.sleep(0.1)
            start = time.perf_counter()
            call()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    a, b = np.array(times).T
    return float(np.median(a / b)), float(np.median(a)), float(np.median(b))
