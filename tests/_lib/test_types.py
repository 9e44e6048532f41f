"""Samples of every type: what holds real numbers is taken, and means the same as an array."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import rmtdeq as rd

DEQ = rd.DEQ("tanh", 0.2, 0.8)
VALUES = np.array([[0.5, 0.25, -1.0], [1.0, -0.5, 0.125], [0.0, 0.75, 0.5]])

TENSORS = {
    "bfloat16": lambda x: x.to(torch.bfloat16),
    "float16": lambda x: x.half(),
    "float8": lambda x: x.to(torch.float8_e4m3fn),
    "gradients": lambda x: x.clone().requires_grad_(),
    "a negative bit": lambda x: torch._neg_view(-x),
    "a conjugate's imaginary part": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
@pytest.mark.parametrize("made", TENSORS.values(), ids=TENSORS)
def test_tensors_of_every_type(made, backend):
    found = rd.kernel(made(torch.from_numpy(VALUES)), DEQ, backend=backend)
    np.testing.assert_allclose(np.asarray(found), rd.kernel(VALUES, DEQ), rtol=0, atol=1e-12)


def test_tables_that_can_miss_values():
    frame = pd.DataFrame(VALUES).astype("Float64")
    np.testing.assert_array_equal(rd.kernel(frame, DEQ), rd.kernel(VALUES, DEQ))
    frame.iloc[1, 2] = pd.NA
    with pytest.raises(rd.InvalidInputError, match=r"holds 1 NaN"):
        rd.kernel(frame, DEQ)
    with pytest.raises(rd.InvalidInputError, match="real numbers"):
        rd.kernel(pd.DataFrame({"a": ["one", "two"]}), DEQ)


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e307, 5e-322])
def test_directions_at_both_ends_of_the_range(size):
    np.testing.assert_allclose(rd.on_sphere([[size, 0], [0, size]]), np.eye(2))


def test_spectra_of_tensors_leave_them_where_they_are(monkeypatch):
    """On a device samples are checked there: the host sees the spectrum alone."""
    moved, to_host = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(tuple(self.shape)) or to_host(self))
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 9)) / 3)
    for method in ("exact", "lanczos"):
        rd.empirical_spectrum(X, DEQ, method=method, backend="torch", top=2, progress=False)
    assert (20, 9) not in moved
