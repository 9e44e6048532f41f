"""Activations that several rooms of the package are tested with."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
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

from rmtdeq.activations import Activation, activation

# A law holds however busy the machine is.
settings.register_profile("any clock", deadline=None)
settings.load_profile("any clock")

THINNED = {
    "test_an_experiment_writes_whole_files_with_finite_numbers": 3,
    "test_as_many_samples_as_the_rank_of_the_covariance_have_a_law": 3,
    "test_classes_of_very_different_size_have_a_law": 3,
    "test_closed_form_is_the_quadrature": 3,
    "test_coefficients_agree_with_30_digit_quadrature": 3,
    "test_density_distribution_quantiles_and_transform_agree": 2,
    "test_dual_lies_within_monte_carlo_confidence": 3,
    "test_entries_agree_with_an_independent_quadrature": 2,
    "test_every_activation_has_the_numbers_of_numba": 3,
    "test_every_conjugate_kernel_is_matched": 4,
    "test_few_samples_as_many_as_features_and_many_have_a_law": 3,
    "test_fitting_each_classs_norm_brings_the_kernels_nearer": 2,
    "test_flow_is_the_limit_of_small_steps": 3,
    "test_kernels_of_layers_are_the_recursion": 2,
    "test_layers_that_jump_at_every_angle": 3,
    "test_layouts_do_not_matter": 2,
    "test_no_loss_of_a_predicted_spectrum_rises": 5,
    "test_products_and_spectra": 2,
    "test_random_networks_come_to_rest_row_by_row": 3,
    "test_tangent_kernels_are_matched_or_told_to_be_out_of_reach": 5,
    "test_tangent_kernels_of_all_weights_are_matched": 3,
    "test_the_class_wise_equivalent_is_its_formula_written_out": 2,
    "test_the_law_has_the_distribution_known_at_single_points": 2,
    "test_the_predicted_spectrum_foretells_what_the_kernel_does": 3,
    "test_the_smallest_sizes": 3,
    "test_weights_stay_nonnegative_through_a_thousand_steps": 3,
}
"""Tests of which every so manieth case runs by default; the others, which repeat it, are slow."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what `THINNED` leaves out."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        name = getattr(item, "originalname", "")
        if name in THINNED and item.get_closest_marker("slow") is None:
            if seen[item.path, name] % THINNED[name]:
                item.add_marker(pytest.mark.slow)
            seen[item.path, name] += 1


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
