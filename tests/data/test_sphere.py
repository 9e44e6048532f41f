"""Samples on a sphere."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd


def test_norms_are_one_and_directions_stay():
    X = np.random.default_rng(0).standard_normal((30, 7))
    S = rd.on_sphere(X, 3.0)
    np.testing.assert_allclose(np.linalg.norm(S, axis=1), 3.0, rtol=1e-14)
    np.testing.assert_allclose(S / 3, X / np.linalg.norm(X, axis=1, keepdims=True), atol=1e-15)


def test_parallel_samples_are_turned_a_little():
    x = np.random.default_rng(1).standard_normal((1, 7))
    X = np.concatenate([x, 2 * x, -x, np.eye(7)[:1], x])
    S = rd.on_sphere(X, seed=5)
    cosines = abs(S @ S.T) - np.eye(5)
    assert cosines.max() < 1 - 1e-8
    assert (cosines[0, [1, 2, 4]] > 1 - 1e-5).all()
    np.testing.assert_allclose(np.linalg.norm(S, axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(S[[0, 3]], X[[0, 3]] / np.linalg.norm(X[[0, 3]], axis=1, keepdims=True), atol=1e-15)
    np.testing.assert_array_equal(S, rd.on_sphere(X, seed=5))
    assert not np.array_equal(S, rd.on_sphere(X, seed=6))


def test_samples_are_not_changed_in_place():
    X = np.ones((2, 3)) * [[1.0], [2.0]]
    before = X.copy()
    rd.on_sphere(X)
    np.testing.assert_array_equal(X, before)


BAD = {
    "zero row": (lambda: rd.on_sphere(np.zeros((2, 3))), "zero"),
    "NaN": (lambda: rd.on_sphere([[np.nan, 1.0]]), "NaN"),
    "norm": (lambda: rd.on_sphere(np.eye(3), 0.0), "norm"),
    "one feature": (lambda: rd.on_sphere([[1.0], [2.0]]), "parallel"),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, match):
    with pytest.raises(rd.InvalidInputError, match=match):
        make()


@pytest.mark.parametrize("size", [1e200, 1.7e308, 1e-200, 1e-310, 5e-324])
def test_norms_whose_squares_are_beyond_the_numbers(size):
    X = np.array([[size, 0.0], [0.0, size], [size, size], [1.0, 0.5]])
    expected = [[1, 0], [0, 1], [0.5**0.5, 0.5**0.5], [0.8**0.5, 0.2**0.5]]
    np.testing.assert_allclose(rd.on_sphere(X), expected, rtol=1e-15)
