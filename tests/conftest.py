"""Activations that several rooms of the package are tested with."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

# Each of several processes has a core: threads of libraries would only wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Before anything imports Triton: without a card its kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from hypothesis import settings

from rmtdeq.gauss import Activation, activation

# A law holds however busy the machine is.
settings.register_profile("any clock", deadline=None)
settings.load_profile("any clock")

REGISTERED = (
    "tanh",
    "erf",
    "relu",
    "leaky_relu(0.1)",
    "two_slopes(1.2, -0.3)",
    "elu",
    "swish",
    "gelu",
    "softplus",
    "sigmoid",
    "sin",
    "hard_tanh(1, 0.5)",
    "abs",
    "polynomial(0.1, 1, 0.2, -0.05)",
    "piecewise_linear([-1, 0, 1.5], [-0.3, -0.2, 1])",
)
"""Every registered name of a continuous activation, with parameters where it takes any."""

JUMPING = ("steps([-0.5, 0.8], [-1, 0, 1.5])",)
"""Registered names of activations that jump."""

CALLABLES = {
    "bent sine": (
        lambda u: np.sin(u) + np.maximum(u - 0.4, 0.0),
        lambda u: np.cos(u) + (u > 0.4),
        (0.4,),
    ),
    "two kinks": (
        lambda u: np.tanh(np.maximum(u, -0.7)) + 0.3 * abs(u - 1.1),
        lambda u: np.where(u > -0.7, 1 - np.tanh(u) ** 2, 0.0) + 0.3 * np.sign(u - 1.1),
        (-0.7, 1.1),
    ),
}
"""Callables with kinks off the origin: the function, its derivative and the kinks."""


def make(spec: str) -> Activation:
    """Return the activation that a name of either list stands for; a callable without its derivative."""
    if spec in CALLABLES:
        fn, _, kinks = CALLABLES[spec]
        return Activation(fn, kinks=kinks)
    return activation(spec)


def slope_of(spec: str):
    """Return the derivative of what `make` returns, written down by hand for the callables."""
    return CALLABLES[spec][1] if spec in CALLABLES else activation(spec).slope


@pytest.fixture(params=REGISTERED)
def registered_spec(request: pytest.FixtureRequest) -> str:
    """Every registered name, one test for each."""
    return request.param


@pytest.fixture(params=[*REGISTERED, *CALLABLES])
def spec(request: pytest.FixtureRequest) -> str:
    """Every registered name and every callable, one test for each."""
    return request.param


@pytest.fixture
def phi(spec: str) -> Activation:
    """Return the activation of `spec`."""
    return make(spec)


@pytest.fixture(name="make", scope="session")
def _make():
    """Return the function from a name of either list to its activation."""
    return make


@pytest.fixture(name="slope_of", scope="session")
def _slope_of():
    """Return the function from a name of either list to the derivative of its activation."""
    return slope_of


@pytest.fixture(scope="session")
def seconds():
    """Return a context that fails if its body takes longer than so many seconds, on the clock and of the processor.

    Beside other work the clock runs on; a body that sleeps or waits uses no processor, and is not meant.
    """

    @contextmanager
    def limit(most: float):
        start = time.perf_counter(), time.process_time()
        yield
        assert min(time.perf_counter() - start[0], time.process_time() - start[1]) < most

    return limit


@pytest.fixture(scope="session")
def registered_names() -> tuple[str, ...]:
    """Return the names of the registered activations, as tested."""
    return REGISTERED + JUMPING


@pytest.fixture(autouse=True)
def no_figure_left_open():
    """Close what a test has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
