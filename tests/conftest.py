"""Activations that several rooms of the package are tested with."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

# Each of several processes has a core: threads of libraries would only wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Beside another process OpenMP's threads, which spin while they wait for a core, take ten times as long to predict.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")

# Before anything imports Triton: without a card its kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from rmtdeq._lib import progress
from rmtdeq.activations import Activation, activation

# Where a plugin, as that of zarr, has loaded numpy before this file, its BLAS has not heard of the above.
if "PYTEST_XDIST_WORKER" in os.environ:
    threadpool_limits(1, "blas")

# A law holds however busy the machine is, of the same examples everywhere, and programs say the same.
progress.LATE = float("inf")
settings.register_profile("same everywhere", deadline=None, derandomize=True, database=None)
settings.load_profile("same everywhere")

THINNED = {
    "test_a_comparison_takes_fifteen_lines_at_most": 3,
    "test_a_device_without_room_takes_smaller_blocks_and_says_so": 2,
    "test_a_killed_worker_costs_time_and_not_the_result": 4,
    "test_a_reader_that_goes_away_is_no_error": 2,
    "test_a_seed_fixes_the_numbers": 2,
    "test_an_estimator_is_the_same_again": 2,
    "test_both_kernels_at_once_are_a_stated_compromise": 2,
    "test_closed_form_is_the_quadrature": 11,
    "test_coefficients_agree_with_30_digit_quadrature": 11,
    "test_common_covariances_are_predicted_in_the_basis_they_were_estimated_in": 3,
    "test_digits_are_learnt": 3,
    "test_entries_agree_with_an_independent_quadrature": 5,
    "test_even_activations_have_a_bulk_of_one_point": 2,
    "test_every_activation_has_the_numbers_of_numba": 6,
    "test_every_box_is_resolved": 2,
    "test_every_conjugate_kernel_is_matched": 11,
    "test_fitting_each_classs_norm_brings_the_kernels_nearer": 3,
    "test_flow_is_the_limit_of_small_steps": 3,
    "test_gaussian_processes_stay_where_there_is_a_kernel": 2,
    "test_gradients_of_many_samples_are_differences": 11,
    "test_it_ends_where_the_decomposition_does": 2,
    "test_it_is_the_error_on_new_samples": 2,
    "test_it_is_the_mean_of_draws": 2,
    "test_kernels_are_the_mean_of_wide_networks": 2,
    "test_kernels_are_the_recursion_of_dual_activations": 5,
    "test_kernels_by_tables_are_kernels_by_quadratures": 3,
    "test_kernels_of_degenerate_samples_are_kernels": 9,
    "test_kernels_tend_to_those_of_infinite_width": 2,
    "test_layers_that_jump_at_every_angle": 6,
    "test_many_quadratures_are_said_with_their_time_and_a_remedy": 2,
    "test_nearly_parallel_pairs_and_zeros": 2,
    "test_networks_take_as_many_steps_as_foretold": 3,
    "test_no_loss_of_a_predicted_spectrum_rises": 5,
    "test_no_solver_stops_at_another_point": 2,
    "test_orthogonal_weights_do_what_is_foretold_of_them": 2,
    "test_outliers_are_the_isolated_eigenvalues_of_a_sampled_matrix": 2,
    "test_products_and_spectra": 5,
    "test_random_networks_come_to_rest_row_by_row": 7,
    "test_rates_of_single_networks_scatter_as_foretold": 4,
    "test_second_derivatives_are_those_of_first_ones": 4,
    "test_single_precision_and_rounded_products": 2,
    "test_single_precision_is_single_precision": 2,
    "test_slope_is_the_derivative_of_the_product_in_the_covariance": 4,
    "test_tables_hold_what_closed_forms_say": 4,
    "test_tables_hold_what_quadratures_find": 3,
    "test_tables_of_noise_hold_what_closed_forms_say": 3,
    "test_tables_of_noise_hold_what_quadratures_find": 3,
    "test_tangent_kernels_are_matched_or_told_to_be_out_of_reach": 11,
    "test_tangent_kernels_of_all_weights_are_matched": 5,
    "test_the_predicted_spectrum_foretells_what_the_kernel_does": 3,
    "test_the_smallest_sizes": 3,
    "test_training_reaches_zero_and_records_its_course": 2,
    "test_what_diverges_at_finite_width_alone_is_named_too": 4,
    "test_what_diverges_is_named_and_comes_to_rest_with_the_remedy": 2,
    "test_wide_networks_have_the_conjugate_kernel": 3,
    "test_wide_networks_have_the_kernels_of_infinite_width": 5,
}
"""Tests of which every so manieth case runs by default; the others, which repeat it, are slow."""

PAIRS = {
    "test_every_way_of_storing_gives_the_same_matrix",
    "test_gradients_on_a_device_are_those_of_the_host",
    "test_values_are_the_kernels_entries",
}
"""Grids of which every pair of values of different parameters is among the cases that run by default."""

WHOLE = {
    "test_bad_input_is_refused_by_an_exception_of_the_package",
    "test_it_is_refused_at_once",
}
"""Grids whose cases have nothing in common."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what repeats: of a grid of parameters so many cases run that every value of each is among them."""
    cases: dict[tuple[pytest.Item | None, str], list[pytest.Item]] = {}
    for item in items:
        name = getattr(item, "originalname", "")
        if hasattr(item, "callspec") and name not in WHOLE and item.get_closest_marker("slow") is None:
            cases.setdefault((item.parent, name), []).append(item)
    for (_, name), grid in cases.items():
        kept = grid[:: THINNED[name]] if name in THINNED else covering(grid, 2 if name in PAIRS else 1)
        for item in grid:
            if item not in kept:
                item.add_marker(pytest.mark.slow)


def axes(item: pytest.Item) -> dict[str, tuple[int, ...]]:
    """Return which value of each list of parameters a case has; names that share a list are one parameter."""
    lists: dict[str, str] = {}
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0] if isinstance(mark.args[0], str) else ",".join(mark.args[0])
        lists |= dict.fromkeys((name.strip() for name in names.split(",")), names)
    found: dict[str, tuple[int, ...]] = {}
    for name, value in sorted(item.callspec.params.items()):
        # Values are the same objects in all cases; they need not be hashable.
        found[lists.get(name, name)] = (*found.get(lists.get(name, name), ()), id(value))
    return found


def covering(grid: list[pytest.Item], strength: int) -> list[pytest.Item]:
    """Return cases among which so many values of different parameters occur together wherever they do in a grid."""
    values = [sorted(axes(item).items()) for item in grid]
    together = [set(combinations(each, min(strength, len(each)))) for each in values]
    missing, kept = set().union(*together), []
    while missing:
        best = max(range(len(grid)), key=lambda case: len(together[case] & missing))
        kept.append(grid[best])
        missing -= together[best]
    return kept


REGISTERED = (
    "tanh",
    "erf",
    "relu",
    "leaky_relu(0.1)",
    "two_slopes(1.2, -0.3)",
    "elu",
    "selu",
    "swish",
    "mish",
    "gelu",
    "softplus",
    "sigmoid",
    "softsign",
    "sin",
    "sin(0.8, 1.3, 0.4)",
    "cos",
    "rbf(0.7)",
    "exp(0.5, 0.6)",
    "hard_tanh(1, 0.5)",
    "hard_sigmoid",
    "hard_swish",
    "relu6",
    "abs",
    "polynomial(0.1, 1, 0.2, -0.05)",
    "piecewise_linear([-1, 0, 1.5], [-0.3, -0.2, 1])",
    "spline([-1, 1.5], [-0.3, -0.2, 0.5, 0.4])",
)
"""Every registered name of a continuous activation, with parameters where it takes any."""

GROWING = ("monomial(2)", "hermite(3)")
"""Registered names of activations whose equilibria are for small samples only."""

JUMPING = ("steps([-0.5, 0.8], [-1, 0, 1.5])", "sign")
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


@pytest.fixture(params=REGISTERED + GROWING)
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
    return REGISTERED + GROWING + JUMPING


@pytest.fixture(autouse=True)
def no_figure_left_open():
    """Close what a test has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
