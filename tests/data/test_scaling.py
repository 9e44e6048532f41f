"""Samples in the scaling of the theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e3, 1e3), st.floats(1e-160, 1e160))
def test_the_mean_is_zero_and_the_mean_squared_norm_one_whatever_the_scale(seed, shift, scale):
    X = (np.random.default_rng(seed).standard_normal((40, 7)) + shift) * scale
    S = rd.center_and_scale(X)
    assert abs(S.mean(axis=0)).max() < 1e-11
    assert (S**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-12)


def test_distances_keep_their_ratios():
    X = np.random.default_rng(0).integers(0, 256, (20, 9)).astype(np.uint8)
    S = rd.center_and_scale(X)
    assert S.dtype == np.float64
    before, after = (np.linalg.norm(each[:, None] - each[None], axis=2) for each in (X.astype(float), S))
    ratios = after[before > 0] / before[before > 0]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


def test_test_samples_get_the_transform_of_the_training():
    X = np.random.default_rng(0).standard_normal((50, 4)) + 3
    together = rd.center_and_scale(X[:10], reference=X)
    np.testing.assert_array_equal(together, rd.center_and_scale(X)[:10])


def test_images_come_out_as_load_dataset_has_them():
    pixels, _ = rd.load_dataset("digits", raw=True)
    X, _ = rd.load_dataset("digits")
    np.testing.assert_allclose(rd.center_and_scale(pixels), X, atol=1e-15)


@pytest.mark.parametrize(
    ("X", "reference", "says"),
    [
        (np.ones((3, 2)), None, "all the same"),
        (np.zeros((3, 2)), None, "all the same"),
        (np.full((5, 2), 0.1), None, "all the same"),
        (np.eye(2), np.full((3, 2), 7.0), "reference are all the same"),
        (np.eye(2), np.eye(3), "features"),
        (np.ones(3), None, "matrix"),
        ([[np.nan, 1.0]], None, "NaN"),
    ],
    ids=str,
)
def test_what_cannot_be_scaled_is_refused(X, reference, says):
    with pytest.raises(rd.InvalidInputError, match=says):
        rd.center_and_scale(X, reference=reference)


@pytest.mark.parametrize("size", [1.7e308, 1e200, 1e-200, 1e-310])
def test_samples_of_any_size_are_scaled_alike(size):
    pattern = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]])
    scaled = rd.center_and_scale(size * pattern)
    np.testing.assert_allclose(scaled, rd.center_and_scale(pattern), rtol=1e-12)
    assert np.mean((scaled**2).sum(axis=1)) == pytest.approx(1, abs=1e-14)


def test_samples_beyond_all_comparison_with_the_reference_are_refused():
    with pytest.raises(rd.InvalidInputError, match="so much larger"):
        rd.center_and_scale([[1e300, 0.0]], reference=[[1e-300, 0.0], [0.0, 1e-300]])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.lists(st.floats(-100, 100), min_size=6, max_size=6))
def test_standardised_features_have_one_variance_whatever_their_units(seed, decades):
    X = np.random.default_rng(seed).standard_normal((40, 7))
    units = 10.0 ** np.array([*decades, 0])
    S = rd.standardize(X * units)
    np.testing.assert_allclose(S, rd.standardize(X), atol=1e-12)
    np.testing.assert_allclose(S.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(S.var(axis=0), 1 / 7, rtol=1e-12)


def test_constant_features_do_not_count_and_test_samples_get_the_units_of_the_training():
    X = np.random.default_rng(0).standard_normal((50, 4)) + 3
    X[:, 2] = 7
    S = rd.standardize(X)
    assert not S[:, 2].any()
    assert (S**2).sum(axis=1).mean() == pytest.approx(1)
    np.testing.assert_array_equal(rd.standardize(X[:10], reference=X), S[:10])
    with pytest.raises(rd.InvalidInputError, match="all the same"):
        rd.standardize(np.ones((3, 2)))
    with pytest.raises(rd.InvalidInputError, match="4 features and reference 3"):
        rd.standardize(X, reference=X[:, :3])
