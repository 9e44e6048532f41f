"""Activations that several rooms of the package are tested with."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.gauss import Activation, activation

REGISTERED = (
    "tanh",
    "erf",
    "relu",
    "leaky_relu(0.1)",
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
"""Every registered name, with parameters where it takes any."""

CALLABLES = {
    "bent sine": (lambda u: np.sin(u) + np.maximum(u - 0.4, 0.0), (0.4,)),
    "two kinks": (lambda u: np.tanh(np.maximum(u, -0.7)) + 0.3 * abs(u - 1.1), (-0.7, 1.1)),
}
"""Callables with kinks off the origin and no derivative given."""


def make(spec: str) -> Activation:
    """Return the activation that a name of either list stands for."""
    if spec in CALLABLES:
        fn, kinks = CALLABLES[spec]
        return Activation(fn, kinks=kinks)
    return activation(spec)


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
