"""Arrays of other libraries go in and come back: torch, and any that has DLPack."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq._lib.arrays import as_given, is_foreign, taken

DEQ = rd.DEQ("tanh", 0.3, 0.8)


class Foreign:
    """An array that knows DLPack and nothing of numpy."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __len__(self):
        return len(self.values)


class Standard(Foreign):
    """One of the array API, whose namespace it names itself."""

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=lambda found: Standard(np.from_dlpack(found)))


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    """The library of `Foreign`, found by the name of its type's module."""
    library = SimpleNamespace(from_dlpack=lambda found: Foreign(np.from_dlpack(found)))
    monkeypatch.setattr(Foreign, "__module__", "foreign.core")
    monkeypatch.setitem(sys.modules, "foreign", library)


@pytest.fixture(name="X")
def _samples():
    return np.random.default_rng(0).standard_normal((7, 4)) / 2


LIBRARIES = {
    "torch": (torch.from_numpy, torch.Tensor, lambda found: found.numpy()),
    "dlpack": (Foreign, Foreign, lambda found: found.values),
    "array API": (Standard, Standard, lambda found: found.values),
    "numpy": (np.asarray, np.ndarray, np.asarray),
}
libraries = pytest.mark.parametrize(("made", "kind", "values"), LIBRARIES.values(), ids=LIBRARIES.keys())


@libraries
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_kernels_come_in_the_library_of_the_samples(X, made, kind, values, dtype):
    given = X.astype(dtype)
    expected = rd.kernel(given, DEQ, ("ck", "ntk"), Y=given[:3], tau0_squared=1.0)
    found = rd.kernel(made(given), DEQ, ("ck", "ntk"), Y=made(given[:3]), tau0_squared=1.0)
    for each, known in zip(found, expected, strict=True):
        assert type(each) is kind
        assert values(each).dtype == dtype
        np.testing.assert_array_equal(values(each), known)
    alone = rd.kernel(made(given), DEQ)
    assert type(alone) is kind
    np.testing.assert_array_equal(values(alone), rd.kernel(given, DEQ))


@libraries
def test_diagonals_and_the_kernel_of_scikit_learn_do_too(X, made, kind, values):
    expected = rd.kernel(X, DEQ, tau0_squared=1.0)
    kernel = rd.DEQKernel("tanh", 0.3, 0.8, kind="ck")
    found = (kernel(made(X)), kernel.fit_transform(made(X)), kernel.transform(made(X)), kernel(made(X), X))
    for each in found:
        assert type(each) is kind
        np.testing.assert_allclose(values(each), expected, rtol=0, atol=1e-14)
    for each in (kernel.diag(made(X)), rd.kernels.kernel_diagonal(made(X), DEQ, tau0_squared=1.0)):
        assert type(each) is kind
        np.testing.assert_allclose(values(each), np.diag(expected), rtol=0, atol=1e-14)
    for each, known in zip(kernel(made(X), eval_gradient=True), kernel(X, eval_gradient=True), strict=True):
        assert type(each) is kind
        np.testing.assert_array_equal(values(each), known)


def test_samples_are_not_copied_and_neither_are_results(X):
    given = Foreign(X)
    assert is_foreign(given)
    assert np.shares_memory(taken(given), X)
    assert np.shares_memory(as_given(X, given).values, X)
    assert np.shares_memory(as_given(X, torch.ones(1)).numpy(), X)
    assert taken(X) is X
    assert as_given(X, X) is X


def test_out_is_what_was_given(X):
    out = np.empty((7, 7))
    assert rd.kernel(Foreign(X), DEQ, out=out) is out


def test_other_functions_take_them_as_arrays(X):
    found = rd.empirical_spectrum(Foreign(X), DEQ).eigenvalues
    np.testing.assert_array_equal(found, rd.empirical_spectrum(X, DEQ).eigenvalues)
    np.testing.assert_array_equal(
        rd.DEQRegressor(ridge=0.1).fit(Foreign(X), X[:, 0]).predict(Foreign(X)),
        rd.DEQRegressor(ridge=0.1).fit(X, X[:, 0]).predict(X),
    )


def test_what_dlpack_cannot_hand_over_is_refused_with_a_remedy():
    class Unreadable(Foreign):
        def __dlpack_device__(self):
            raise BufferError("no such memory")

    with pytest.raises(rd.InvalidInputError, match="no such memory"):
        rd.kernel(Unreadable(np.ones((2, 2))), DEQ)

    class Readable(Unreadable):
        def __array__(self, dtype=None, copy=None):
            return self.values

    with pytest.raises(BufferError):
        Readable(np.ones(1)).__dlpack_device__()
    np.testing.assert_array_equal(taken(Readable(np.ones((2, 2)))), np.ones((2, 2)))
