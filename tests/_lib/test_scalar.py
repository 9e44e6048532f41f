"""The smallest fixed point: it is one, and a scan finds none below it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtdeq._lib.solvers import Status, smallest_fixed_point

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
starts = st.floats(-3, 3).map(lambda power: 10.0**power)


def check(function, start):
    """Check that what is found is a fixed point, and that up to it the function stays above the diagonal."""
    found = smallest_fixed_point(function, start)
    assert found.converged
    assert found.value >= start
    assert function(found.value) == pytest.approx(found.value, rel=1e-13, abs=0)
    assert found.residual < 1e-13
    below = start + (found.value - start) * np.linspace(0, 1 - 1e-6, 4001)
    assert all(function(x) - x > -1e-14 * x for x in below)
    return found


@LAWS
@given(start=starts, slope=st.floats(0, 0.999))
def test_of_a_contraction_it_is_the_only_one(start, slope):
    found = check(lambda x: slope * x + start, start)
    assert found.value == pytest.approx(start / (1 - slope), rel=1e-12)


@LAWS
@given(start=starts, height=st.floats(0.1, 100), at=st.floats(1.1, 50), width=st.floats(0.05, 2))
def test_below_a_steep_step_it_is_the_first_of_several(start, height, at, width):
    # In units of the start: 1 + h S((x - at)/w) has slopes up to h/4w, and one or three fixed points.
    def function(x):
        return start * (1 + height / (1 + math.exp(-max(-600.0, (x / start - at) / width))))

    check(function, start)


@LAWS
@given(start=starts, root=st.floats(1.05, 1e3), beyond=st.floats(1.3, 10))
def test_of_two_fixed_points_it_is_the_lower_one(start, root, beyond):
    # Convex, with slope below 1 at the lower and above 1 at the upper one: no contraction.
    low, high = start * root, start * root * beyond
    found = check(lambda x: x + (x - low) * (x - high) / (2 * high), start)
    assert found.value == pytest.approx(low, rel=1e-9)


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("start", [1e-3, 1.0, 50.0])
def test_two_fixed_points_next_to_each_other_are_not_stepped_over(start, apart):
    low, high = 3 * start * (1 - apart / 2), 3 * start * (1 + apart / 2)
    found = check(lambda x: x + 0.1 * (x - low) * (x - high) / start, start)
    assert found.value == pytest.approx(low, rel=1e-9)


def test_a_start_that_is_a_fixed_point_is_the_smallest():
    found = smallest_fixed_point(lambda x: 2.0, 2.0)
    assert (found.value, found.status, found.residual) == (2.0, Status.CONVERGED, 0.0)


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 1.0, lambda x: 1.5 * x + 1.0, lambda x: 1.0 + x * x, lambda x: math.inf, lambda x: math.nan],
    ids=["slope one", "slope above one", "square", "infinite", "no number"],
)
def test_where_there_is_none_the_status_says_so(function):
    found = smallest_fixed_point(function, 1.0)
    assert found.status is Status.NO_FIXED_POINT
    assert not found.converged
    assert found.iterations < 200


@LAWS
@given(start=starts, slope=st.floats(0.1, 3), offset=st.floats(0, 5))
def test_iterating_from_the_start_comes_to_the_point_found(start, slope, offset):
    # Increasing and bounded: the iteration rises to the smallest fixed point, contraction or not.
    def function(x):
        return start * (1 + slope * math.tanh(x / start + offset) ** 3)

    found, x = check(function, start), start
    for _ in range(20_000):
        x, before = function(x), x
        if x == before:
            break
    assert x <= found.value * (1 + 1e-9)
    assert x == pytest.approx(found.value, rel=1e-4)
