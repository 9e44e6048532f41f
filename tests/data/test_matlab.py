"""Matrices of MATLAB files as scipy writes and reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from rmtdeq.data.matlab import read_matrices

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 3, 4), (4, 1, 2, 3), (0, 3)])
def test_what_scipy_writes(shape, dtype, compressed):
    file, stored = io.BytesIO(), (100 * RNG.random(shape)).astype(dtype)
    others = {"a text": "abc", "c": 1 + 2j, "cells": np.array([1, "a"], dtype=object)}
    savemat(
        file,
        {"X": stored} | {name.replace(" ", "_"): value for name, value in others.items()},
        do_compression=compressed,
    )
    found = read_matrices(file.getvalue(), ("X", "y"))
    assert list(found) == ["X"]
    np.testing.assert_array_equal(found["X"], loadmat(file)["X"])
    np.testing.assert_array_equal(found["X"], stored)


@pytest.mark.parametrize("value", [np.ones((2, 2)) * 1j, "abc", np.array([1, "a"], dtype=object)])
def test_other_matrices_are_refused(value):
    file = io.BytesIO()
    savemat(file, {"X": value})
    with pytest.raises(ValueError, match="no matrix of real numbers"):
        read_matrices(file.getvalue(), ("X",))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_is_refused_or_lacks_the_matrix(compressed):
    file = io.BytesIO()
    savemat(file, {"X": RNG.random((3, 4))}, do_compression=compressed)
    whole = file.getvalue()
    for length in range(len(whole)):
        try:
            assert read_matrices(whole[:length], ("X",)) == {}
        except ValueError:
            continue
