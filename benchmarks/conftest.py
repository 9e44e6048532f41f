"""Benchmarks: ratios against a rival in the same run; none of them can fail on a slow machine."""

import pytest
import rivals


@pytest.fixture
def deq():
    import rmtdeq as rd

    return rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)


@pytest.fixture
def paired():
    """Return a function that times two calls in turn."""
    return rivals.paired
