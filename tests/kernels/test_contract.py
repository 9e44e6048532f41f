"""The laws of kernels and of products, over every engine and every store: a new one is a line in a list below."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.kernels.computation import BACKENDS

CARD = torch.cuda.is_available()
DEVICE = "cuda" if CARD else None

ENGINES = {
    "numba": {"backend": "numba"},
    "numpy": {"backend": "numpy"},
    "torch": {"backend": "torch", "device": DEVICE},
    "triton": {"backend": "triton", "device": DEVICE},
}
STORES = {
    "dense": {},
    "float32": {},
    "memory-mapped": {},
    "matrix-free": {},
    "device": {"backend": "torch", "device": DEVICE},
    "tiles on a device": {"backend": "torch", "device": DEVICE, "method": "matrix-free"},
}
if not find_spec("triton"):
    del ENGINES["triton"]

NETWORKS = {
    "tanh DEQ": rd.DEQ("tanh", 0.3, 0.8),
    "biased ReLU DEQ": rd.DEQ("relu", 0.3, 0.8, centered=False, sigma_c2=0.1),
    "dense, equilibrium, dense": rd.Network(
        [rd.Layer("relu", sigma_b2=1.5), rd.DEQ("swish", 0.3, 0.8), rd.Layer("abs", sigma_c2=0.2)]
    ),
    "branches, normalised": rd.Network(
        [
            rd.Layer("relu", sigma_b2=1.5),
            rd.Residual([rd.Layer("tanh", normalized=True), rd.DEQ("erf", 0.3, 0.8)], 0.5),
            rd.Layer("relu", sigma_c2=0.2),
        ]
    ),
}
KINDS = ("ck", "ntk", "ntk-full")


def test_every_engine_is_tested():
    assert {*ENGINES, "triton"} == set(BACKENDS) - {"auto", "dask"}


@pytest.fixture(params=ENGINES)
def engine(request):
    """Keywords that choose an engine."""
    return ENGINES[request.param]


@pytest.fixture(params=NETWORKS)
def network(request):
    """An uncentred network, so that blocks of a kernel fit together."""
    return NETWORKS[request.param].pinned(1.0)


@pytest.fixture(scope="module")
def samples():
    """Samples of different norms; equal, opposite, nearly parallel and zero ones among them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 100)) / 10
    X[1], X[2], X[3], X[4] = X[0], -X[0], X[0] + 1e-5 * X[5], 0
    return X


@pytest.fixture(scope="module")
def known(samples):
    """The kernels by numpy, computed once."""
    return {name: rd.kernel(samples, each.pinned(1.0), KINDS, backend="numpy") for name, each in NETWORKS.items()}


def test_an_engine_has_the_kernels_of_numpy_symmetric_and_positive(engine, samples, known):
    for name, each in NETWORKS.items():
        for found, expected in zip(rd.kernel(samples, each.pinned(1.0), KINDS, **engine), known[name], strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * expected.max())
            np.testing.assert_array_equal(found, found.T)
            assert np.linalg.eigvalsh(found).min() > -1e-12 * np.trace(found)


def test_an_engine_has_blocks_that_fit_together(engine, network, samples):
    whole = rd.kernel(samples, network, "ntk", **engine)
    np.testing.assert_allclose(
        rd.kernel(samples[:7], network, "ntk", Y=samples, **engine), whole[:7], rtol=0, atol=1e-12
    )


def test_an_engine_in_single_precision(engine, samples, known):
    found = rd.kernel(samples, NETWORKS["tanh DEQ"].pinned(1.0), "ck", dtype="float32", **engine)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, known["tanh DEQ"][0], rtol=0, atol=2e-6)


def test_an_engine_refuses_what_is_ill_posed(engine, samples):
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        rd.kernel(samples, rd.DEQ("relu", 2.5, 0.8, centered=False), **engine)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_multiplies_as_the_matrix_does_and_after_it_is_closed(store, kind, samples):
    # Parallel samples, of which engines are tried above, would cost their quadratures at every product.
    X, network = samples[4:], NETWORKS["dense, equilibrium, dense"].pinned(1.0)
    expected = rd.kernel(X, network, kind, backend="numpy")
    op = rd.kernel_operator(X, network, kind, **{"method": store, **STORES[store]})
    V = np.random.default_rng(1).standard_normal((len(X), 3))
    bound = (1e-6 if store == "float32" else 1e-11) * np.linalg.norm(expected, 2) * np.linalg.norm(V, 2)
    for _ in range(2):
        np.testing.assert_allclose(op @ V, expected @ V, rtol=0, atol=bound)
        np.testing.assert_allclose(op.rmatvec(V[:, 0]), expected @ V[:, 0], rtol=0, atol=bound)
        op.close()
    assert op.method == "matrix-free"
