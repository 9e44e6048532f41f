"""The kernels on data: what they are, that every way to compute them agrees, and what is refused."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd
from rmtdeq.kernels import blocks as fill
from rmtdeq.kernels.engines import choice as engines
from rmtdeq.kernels.engines import numba_tiles as tiles
from rmtdeq.kernels.engines import torch_engine as worker

KINDS = ("ck", "ntk", "ntk-full")
SPECS = ("tanh", "relu", "gelu", "hard_tanh(1, 0.5)", "bent sine")


@pytest.fixture(scope="module")
def mixed(gaussian):
    """Samples of norms from 0.3 to 2.5 with duplicates, a near-duplicate, parallel and opposite rows."""
    X = gaussian(140, 20, seed=5)
    X[:20] *= np.linspace(0.3, 2.5, 20)[:, None]
    X[130:133] = X[3:6]
    X[133] = X[6] + 1e-5 * X[9]
    X[136], X[137] = 1.7 * X[40], -X[41]
    return X


def finite_width(deq, slope, X, width, seed, readouts=3):
    """All three kernels of one network: its fixed point and its gradients by implicit differentiation."""
    rng = np.random.default_rng(seed)
    A = np.sqrt(deq.sigma_a2 / width) * rng.standard_normal((width, width))
    drive = np.sqrt(deq.sigma_b2) * rng.standard_normal((width, X.shape[1])) @ X.T
    w = rng.standard_normal((readouts, width, 1))
    z, q = np.zeros_like(drive), np.zeros((readouts, *drive.shape))
    for _ in range(40):  # contracts by a factor of 0.6 or less: 1e-9
        z = deq.activation(A @ z + drive)
    D = slope(A @ z + drive)
    for _ in range(40):
        q = D * (w + A.T @ q)
    features = z.T @ z / width
    adjoint = np.einsum("rmi,rmj->ij", q, q) / (width * readouts)
    tangent = features + deq.sigma_a2 * adjoint * features
    return features, tangent, tangent + deq.sigma_b2 * adjoint * (X @ X.T)


@pytest.mark.parametrize(
    ("name", "sigma_a2"), [("tanh", 0.4), ("relu", 0.3), pytest.param("bent sine", 0.2, marks=pytest.mark.slow)]
)
def test_kernels_are_the_mean_of_wide_networks(make, slope_of, name, sigma_a2):
    # 144 networks of width 300: the standard error is up to 1.5 % of the diagonal, and the bias, O(1/width), below
    # 0.3 %.  Six standard errors of a mean of 144 are passed once in 6e7, over all 54 comparisons once in 1e6.
    X = np.array([[1.0, 0, 0], [0.9, 0.3, 0], [-0.3, 0.7, 0.5]])
    deq = rd.DEQ(make(name), sigma_a2, 0.8).pinned(1.0)
    samples = np.array([finite_width(deq, slope_of(name), X, 300, seed) for seed in range(144)])
    error = samples.std(axis=0, ddof=1) / 12
    exact = np.array(rd.kernel(X, deq, KINDS))
    assert (abs(samples.mean(axis=0) - exact) < 6 * error).all()
    assert (error.diagonal(axis1=1, axis2=2) < 0.015 * exact.diagonal(axis1=1, axis2=2)).all()


def test_identities_between_the_kernels(make, mixed):
    # ntk = G/(1 - σ_a² Ė) and ntk-full - ntk = σ_b² x·x' Ė/(1 - σ_a² Ė): eliminate Ė.
    G, T, F = rd.kernel(mixed, rd.DEQ(make("elu"), 0.4, 0.8), KINDS)
    np.testing.assert_allclose((F - T) * G * 0.4, 0.8 * (mixed @ mixed.T) * (T - G), atol=1e-12)


def test_without_recurrence_the_kernel_is_the_dual_of_the_inner_products(make, gaussian):
    X = gaussian(10, 4)
    deq = rd.DEQ(make("relu"), 0.0, 2.0, centered=False)
    G, T, F = rd.kernel(X, deq, KINDS)
    norms = np.linalg.norm(X, axis=1)
    theta = np.arccos(np.clip(X @ X.T / np.outer(norms, norms), -1, 1))
    exact = np.outer(norms, norms) / np.pi * (np.sin(theta) + (np.pi - theta) * np.cos(theta))
    np.testing.assert_allclose(G, exact, atol=1e-14)
    np.testing.assert_array_equal(T, G)
    np.testing.assert_allclose(F, G + 2 * (X @ X.T) * (np.pi - theta) / (2 * np.pi), atol=1e-7)  # arccos at duplicates


def test_cubic_activations_have_their_finite_series(gaussian):
    # φ = u + c u³: E φφ = K + 3cK(K_ii + K_jj) + c²(9 K_ii K_jj K + 6K³), by Isserlis' theorem.
    X, c, a2, b2 = gaussian(30, 8), 0.05, 0.2, 0.5
    inner = X @ X.T
    K = b2 * inner
    for _ in range(400):
        s = K.diagonal()[:, None]
        G = K + 3 * c * K * (s + s.T) + c * c * (9 * s * s.T * K + 6 * K**3)
        K = a2 * G + b2 * inner
    slopes = 1 + 3 * c * (s + s.T) + c * c * (9 * s * s.T + 18 * K**2)
    deq = rd.DEQ(f"polynomial(0, 1, 0, {c})", a2, b2, centered=False)
    for found, exact in zip(rd.kernel(X, deq, ("ck", "ntk")), (G, G / (1 - a2 * slopes)), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-13)


def test_linear_activations_give_scaled_inner_products(gaussian):
    # φ = 2u: G = 4K, K = σ_b² x·x'/(1 - 4σ_a²), Ė = 4.
    X = gaussian(20, 5)
    G, T, F = rd.kernel(X, rd.DEQ("polynomial(0, 2)", 0.1, 0.9), KINDS)
    inner = X @ X.T
    np.testing.assert_allclose(G, 4 * 0.9 / 0.6 * inner, atol=1e-13)
    np.testing.assert_allclose(T, G / 0.6, atol=1e-13)
    np.testing.assert_allclose(F, (G + 4 * 0.9 * inner) / 0.6, atol=1e-13)


@pytest.mark.parametrize("name", SPECS)
def test_kernels_are_symmetric_and_positive(make, mixed, name):
    X = mixed if name != "bent sine" else mixed[20:130]
    for matrix in rd.kernel(X, rd.DEQ(make(name), 0.4, 0.8), KINDS):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > -1e-12 * np.trace(matrix)


@pytest.mark.parametrize("spread", ["mixed norms", "equal norms"])
@pytest.mark.parametrize("name", SPECS)
def test_backends_agree(make, mixed, gaussian, name, spread):
    X = mixed if name != "bent sine" else mixed[40:90]
    if spread == "equal norms":
        X = gaussian(70, 20)
        X /= np.linalg.norm(X, axis=1)[:, None]
    deq = rd.DEQ(make(name), 0.4, 0.8)
    plain = rd.kernel(X, deq, KINDS, backend="numpy")
    for backend in ("numba", "torch"):
        for one, other in zip(rd.kernel(X, deq, KINDS, backend=backend), plain, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-12 * one.max())
    Y = gaussian(30, X.shape[1], seed=6)
    plain = rd.kernel(X, deq, KINDS, Y=Y, backend="numpy")
    for backend in ("auto", "torch"):
        for one, other in zip(rd.kernel(X, deq, KINDS, Y=Y, backend=backend), plain, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-12 * one.max())


def test_kinds_in_one_pass_are_kinds_one_at_a_time(mixed):
    deq = rd.DEQ("relu", 0.4, 0.8)
    together = rd.kernel(mixed, deq, KINDS)
    for kind, matrix in zip(KINDS, together, strict=True):
        np.testing.assert_allclose(rd.kernel(mixed, deq, kind), matrix, rtol=1e-13, atol=1e-15)
    back = rd.kernel(mixed, deq, KINDS[::-1])
    for one, other in zip(back[::-1], together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
    assert isinstance(rd.kernel(mixed[:3], deq, ("ntk",)), tuple)
    assert isinstance(rd.kernel(mixed[:3], deq, "ntk"), np.ndarray)


def test_rectangle_is_a_block_of_the_square(mixed):
    deq = rd.DEQ("relu", 0.4, 0.8).pinned(np.einsum("ij,ij->i", mixed, mixed).mean())
    squares = rd.kernel(mixed, deq, KINDS)
    rectangles = rd.kernel(mixed[:70], deq, KINDS, Y=mixed[50:])
    for square, rectangle in zip(squares, rectangles, strict=True):
        np.testing.assert_allclose(rectangle, square[:70, 50:], atol=2e-12 * square.max())


def test_centring_happens_at_the_given_or_the_mean_squared_norm(mixed):
    deq = rd.DEQ("relu", 0.4, 0.8)
    mean = np.einsum("ij,ij->i", mixed, mixed).mean()
    default = rd.kernel(mixed, deq)
    np.testing.assert_allclose(rd.kernel(mixed, deq, tau0_squared=mean), default, atol=1e-15)
    np.testing.assert_allclose(rd.kernel(mixed, deq.pinned(mean)), default, atol=1e-15)
    assert abs(rd.kernel(mixed, deq, tau0_squared=2 * mean) - default).max() > 1e-3


def test_kernel_depends_on_inner_products_alone_and_follows_the_order_of_samples(mixed):
    deq, rng = rd.DEQ("tanh", 0.4, 0.8), np.random.default_rng(0)
    order, rotation = rng.permutation(len(mixed)), np.linalg.qr(rng.standard_normal((20, 20)))[0]
    for plain, moved in zip(rd.kernel(mixed, deq, KINDS), rd.kernel(mixed[order] @ rotation, deq, KINDS), strict=True):
        np.testing.assert_allclose(moved, plain[order][:, order], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 129])
def test_any_number_of_samples_is_a_part_of_more(mixed, n):
    deq = rd.DEQ("elu", 0.3, 0.8).pinned(1.0)
    whole, part = rd.kernel(mixed[20:], deq, "ntk")[:n, :n], rd.kernel(mixed[20 : 20 + n], deq, "ntk")
    n = min(n, 120)
    np.testing.assert_allclose(part[:n, :n], whole[:n, :n], atol=1e-12)


def test_single_sample_is_a_matrix_of_one():
    deq, x = rd.DEQ("tanh", 0.3, 0.8), np.array([[0.6, 0.8]])
    coef = rd.solve(deq, 1.0, KINDS)
    for kind, matrix in zip(KINDS, rd.kernel(x, deq, KINDS), strict=True):
        assert matrix.shape == (1, 1)
        assert matrix[0, 0] == pytest.approx(coef.of(kind).diagonal, rel=1e-14)


@pytest.mark.parametrize("name", ["tanh", "relu"])
@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
def test_blocks_do_not_show(make, mixed, monkeypatch, name, backend):
    deq = rd.DEQ(make(name), 0.4, 0.8)
    whole, across = rd.kernel(mixed, deq, KINDS), rd.kernel(mixed[:90], deq, "ntk", Y=mixed)
    for height, width in ((37, 53), (100, 100)):
        monkeypatch.setattr(fill, "HEIGHT", height)
        monkeypatch.setattr(fill, "WIDTH", width)
        monkeypatch.setattr(worker, "_HOST_TILE", height)
        for one, other in zip(whole, rd.kernel(mixed, deq, KINDS, backend=backend), strict=True):
            np.testing.assert_array_equal(other, other.T)
            np.testing.assert_allclose(other, one, atol=2e-12 * one.max())
        np.testing.assert_allclose(rd.kernel(mixed[:90], deq, "ntk", Y=mixed), across, atol=2e-12 * across.max())


@pytest.mark.parametrize("name", SPECS[:4])
def test_single_precision_is_single_precision(make, mixed, name):
    # The product X Xᵀ and the results are rounded to 6e-8; the kernels amplify that by a factor of a few.
    deq = rd.DEQ(make(name), 0.4, 0.8)
    for X, dtype in ((mixed, np.float32), (mixed.astype(np.float32), None)):
        for double, single in zip(rd.kernel(mixed, deq, KINDS), rd.kernel(X, deq, KINDS, dtype=dtype), strict=True):
            assert single.dtype == np.float32
            np.testing.assert_array_equal(single, single.T)
            np.testing.assert_allclose(single, double, atol=1e-6 * double.max())
    assert rd.kernel(mixed[:3].astype(np.float32), deq, dtype="float64").dtype == np.float64


def test_number_of_threads_does_not_show(mixed):
    deq, before = rd.DEQ("relu", 0.4, 0.8), numba.get_num_threads()
    results = []
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            results.append(rd.kernel(mixed, deq, KINDS))
    finally:
        numba.set_num_threads(before)
    for one, other in zip(results[0], results[-1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_are_written_where_they_are_wanted(mixed, tmp_path, dtype):
    deq, shape = rd.DEQ("relu", 0.4, 0.8), (len(mixed), len(mixed))
    expected = rd.kernel(mixed, deq, KINDS, dtype=dtype)
    arrays = [
        np.full(shape, np.nan, dtype),
        np.memmap(tmp_path / "a", dtype, "w+", shape=shape),
        np.empty(shape, dtype),
    ]
    returned = rd.kernel(mixed, deq, KINDS, dtype=dtype, out=arrays)
    for given_one, back, matrix in zip(arrays, returned, expected, strict=True):
        assert back is given_one
        np.testing.assert_array_equal(given_one, matrix)
    single = np.empty((len(mixed), 7), dtype)
    assert rd.kernel(mixed, deq, "ntk", Y=mixed[:7], dtype=dtype, out=single) is single
    np.testing.assert_array_equal(single, rd.kernel(mixed, deq, "ntk", Y=mixed[:7], dtype=dtype))


def test_inputs_of_every_layout_and_type_are_taken_and_left_alone(mixed):
    deq, X = rd.DEQ("gelu", 0.4, 0.8), mixed[:30]
    expected, before = rd.kernel(X, deq), X.copy()
    wide = np.zeros((60, 40))
    wide[::2, ::2] = X
    for same in (np.asfortranarray(X), wide[::2, ::2], X.tolist(), X.astype(np.longdouble)):
        np.testing.assert_allclose(rd.kernel(same, deq), expected, atol=1e-14)
    np.testing.assert_array_equal(X, before)
    X.flags.writeable = False
    np.testing.assert_array_equal(rd.kernel(X, deq), expected)
    X.flags.writeable = True
    whole = np.arange(-4, 8).reshape(4, 3)
    np.testing.assert_array_equal(rd.kernel(whole, deq), rd.kernel(whole.astype(float), deq))


@pytest.mark.parametrize("Y", [None, 100])
def test_an_interrupted_file_says_how_much_of_it_is_good(mixed, tmp_path, monkeypatch, Y):
    monkeypatch.setattr(fill, "HEIGHT", 16)
    monkeypatch.setattr(fill, "WIDTH", 32)
    deq, n = rd.DEQ("tanh", 0.4, 0.8).pinned(1.0), len(mixed)
    others = None if Y is None else mixed[:Y]
    shape = (n, Y or n)
    file = np.memmap(tmp_path / "kernel", np.float64, "w+", shape=shape)
    worker_fill, done = fill.HostWorker.fill, []

    def interrupted(*arguments, **options):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(1)
        worker_fill(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fill.HostWorker, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt) as stopped:
            rd.kernel(mixed, deq, Y=others, out=file)
    (note,) = stopped.value.__notes__
    rows = int(next(word for word in note.split() if word.isdigit()))
    assert 16 <= rows < n
    again = np.memmap(tmp_path / "kernel", np.float64, "r", shape=shape)
    whole = rd.kernel(mixed, deq, Y=others)
    columns = rows if Y is None else Y
    np.testing.assert_array_equal(again[:rows, :columns], whole[:rows, :columns])
    assert (again[rows:] == 0).any()


def test_machine_code_is_made_once_for_each_precision(mixed, tmp_path):
    """Whatever the outputs and inputs are, no call compiles anew."""
    deq, X = rd.DEQ("relu", 0.4, 0.8), mixed[:70]
    for dtype in (np.float64, np.float32):
        rd.kernel(X, deq, KINDS, dtype=dtype)
        before = len(tiles.solve_block.signatures)
        file = np.memmap(tmp_path / "k", dtype, "w+", shape=(70, 70))
        rd.kernel(X, deq, "ck", dtype=dtype, out=file)
        rd.kernel(np.asfortranarray(X), deq, "ntk-full", dtype=dtype, Y=X[:5])
        for method in ("dense", "memory-mapped", "matrix-free"):
            rd.kernel_operator(X, deq, "ntk", dtype=dtype, method=method) @ np.ones(70)
        rd.design(deq, 1.0).kernel(X, KINDS)
        assert len(tiles.solve_block.signatures) <= max(before, 2)


@pytest.mark.parametrize("misses", [0, 1])
def test_compiling_is_said_and_loading_is_not_however_long_it_takes(monkeypatch, caplog, misses):
    """Numba counts what it did not find in its cache; the clock of a busy machine says nothing."""

    class Engine:
        stats = SimpleNamespace(cache_misses=Counter({"signature": misses}))

        def __call__(self, *arguments):
            return real(*arguments)

    caplog.set_level("INFO", "rmtdeq")
    real, clock = tiles.solve_block, itertools.count(step=60.0)
    monkeypatch.setattr(tiles, "solve_block", Engine())
    monkeypatch.setattr(engines, "perf_counter", lambda: next(clock))
    engines._load_machine_code.__wrapped__(np.dtype(float), False)
    assert ("Compiled the kernel engine" in caplog.text) == bool(misses)


def test_nothing_is_printed_where_nobody_looks(mixed, capfd):
    rd.kernel(mixed, rd.DEQ("tanh", 0.4, 0.8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tanh", "relu", "elu", "gelu", "hard_tanh(1, 0.5)", "abs"])
@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
def test_zero_rows_of_an_activation_through_zero_are_zero(make, gaussian, name, backend):
    X = gaussian(9, 4)
    X[[2, 5]] = 0
    centered = name in ("tanh", "hard_tanh(1, 0.5)")
    for matrix in rd.kernel(X, rd.DEQ(make(name), 0.4, 0.8, centered=centered), KINDS, backend=backend):
        assert not matrix[[2, 5]].any()
        assert not matrix[:, [2, 5]].any()
        assert (np.delete(matrix.diagonal(), [2, 5]) > 0).all()


@pytest.mark.parametrize(
    ("name", "centered"), [("softplus", False), ("sigmoid", False), ("relu", True), ("gelu", True)]
)
def test_zero_rows_of_other_activations_are_fixed_points(make, reference, gaussian, name, centered):
    X = gaussian(5, 4)
    X[3] = 0
    deq = rd.DEQ(make(name), 0.4, 0.8, centered=centered).pinned(1.0)
    ref, kernels = reference(deq, name), rd.kernel(X, deq, KINDS)
    for i, j in ((3, 3), (3, 0), (3, 4)):
        found = np.array([m[i, j] for m in kernels])
        assert (abs(found - ref.entry(X[i], X[j])) < 1e-12 * ref.scale(X[i], X[j])).all()


@pytest.mark.parametrize("name", ["tanh", "relu", "elu", "hard_tanh(1, 0.5)"])
def test_samples_of_small_norm_keep_their_relative_accuracy(make, reference, gaussian, name):
    X = gaussian(4, 4) * np.array([1.0, 1e-3, 1e-6, 1e-9])[:, None]
    deq = rd.DEQ(make(name), 0.4, 0.8, centered=False)
    ref, kernels = reference(deq, name), rd.kernel(X, deq, KINDS)
    for i, j in ((1, 0), (2, 1), (3, 0), (3, 2), (3, 3)):
        found = np.array([m[i, j] for m in kernels])
        assert (abs(found - ref.entry(X[i], X[j])) < 1e-11 * ref.scale(X[i], X[j])).all()


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 99), st.floats(0.0, 0.9), st.floats(-3, 2))
def test_homogeneous_activations_scale_with_the_data(n, p, seed, sigma_a2, log_scale):
    X, scale = np.random.default_rng(seed).standard_normal((n, p)), 10.0**log_scale
    deq = rd.DEQ("relu", sigma_a2, 0.8, centered=False)
    plain, scaled = rd.kernel(X, deq, "ntk"), rd.kernel(scale * X, deq, "ntk")
    diagonal = np.sqrt(plain.diagonal())
    assert (abs(scaled / scale**2 - plain) <= 1e-7 * np.outer(diagonal, diagonal)).all()  # 1-D data have antipodes


X0 = np.random.default_rng(0).standard_normal((6, 4)) / 2
TANH = rd.DEQ("tanh", 0.2, 0.8)
BAD_DATA = {
    "nan": np.where(np.eye(6, 4) > 0, np.nan, X0),
    "inf": np.where(np.eye(6, 4) > 0, np.inf, X0),
    "1-D": X0[0],
    "3-D": X0[None],
    "number": 3.0,
    "no rows": X0[:0],
    "no columns": X0[:, :0],
    "strings": X0.astype(str),
    "complex": X0 + 0j,
    "objects": X0.astype(object),
    "dates": X0.astype("M8[s]"),
    "huge": X0 * 1e200,
    "large": X0 * 1e30,
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_are_no_data_are_refused_in_under_a_second(name, seconds):
    for call in (
        lambda: rd.kernel(BAD_DATA[name], TANH),
        lambda: rd.kernel(X0, TANH, Y=BAD_DATA[name]),
        lambda: rd.kernel_operator(BAD_DATA[name], TANH),
    ):
        with seconds(1.0), pytest.raises(rd.InvalidInputError):
            call()


def test_messages_say_what_to_do():
    for call, words in (
        (lambda: rd.kernel(BAD_DATA["nan"], TANH), "remove or impute"),
        (lambda: rd.kernel(BAD_DATA["1-D"], TANH), r"x\[None, :\]"),
        (lambda: rd.kernel(BAD_DATA["large"], TANH), "scale the data"),
        (lambda: rd.kernel(X0, TANH, Y=X0[:, :3]), "X has 4 features and Y has 3"),
        (lambda: rd.kernel(0 * X0, TANH), "Every sample is zero"),
        (lambda: rd.kernel(1e-160 * X0, TANH), r"Every sample is zero|scale the data"),
        (lambda: rd.kernel(1e-120 * X0, TANH), "scale the data"),
    ):
        with pytest.raises(rd.InvalidInputError, match=words):
            call()


READ_ONLY = np.empty((6, 6))
READ_ONLY.flags.writeable = False
SHARED = np.empty((6, 6))


@pytest.mark.parametrize(
    ("word", "arguments"),
    [
        ("backend", {"backend": "cuda"}),
        ("backend", {"backend": None}),
        ("device", {"device": "tpu"}),
        ("dtype", {"dtype": "float16"}),
        ("dtype", {"dtype": complex}),
        ("dtype", {"dtype": "no type"}),
        ("dtype", {"dtype": int}),
        ("kind", {"kind": "nngp"}),
        ("kind", {"kind": ()}),
        ("kind", {"kind": ("ck", "ck")}),
        ("out", {"out": np.empty((5, 6))}),
        ("out", {"out": np.empty((6, 6), np.float32)}),
        ("out", {"out": np.empty((6, 6), order="F")}),
        ("out", {"out": READ_ONLY}),
        ("out", {"out": [[0.0] * 6] * 6}),
        ("out", {"out": 5}),
        ("out", {"out": (np.empty((6, 6)),), "kind": ("ck", "ntk")}),
        ("share memory", {"out": (SHARED, SHARED), "kind": ("ck", "ntk")}),
        ("memory_limit", {"memory_limit": -1}),
        ("memory_limit", {"memory_limit": "much"}),
        ("tau0_squared", {"tau0_squared": 0.0}),
        ("tau0_squared", {"tau0_squared": np.nan}),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(word, arguments, seconds):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=word):
        rd.kernel(X0, TANH, **arguments)


@pytest.mark.parametrize("deq", ["tanh", None, np.tanh])
def test_what_is_no_model_is_refused(deq):
    with pytest.raises(rd.InvalidInputError, match="deq must be a DEQ"):
        rd.kernel(X0, deq)


def test_results_beyond_the_memory_are_refused_before_any_work(seconds):
    with seconds(1.0), pytest.raises(rd.MemoryLimitError, match=r"6 x 6 .*memory_limit.*kernel_operator"):
        rd.kernel(X0, TANH, memory_limit=6 * 6 * 8)
    many = np.broadcast_to(X0[:1], (10**6, 4))
    with seconds(1.0), pytest.raises(rd.MemoryLimitError, match=r"available memory.*kernel_operator.*out="):
        rd.kernel(many, TANH, KINDS)


def test_infinite_tangent_kernels_are_refused_and_the_conjugate_kernel_is_served(seconds):
    deq = rd.DEQ(lambda u: np.sin(3 * u), 0.5, 0.8)
    for call in (lambda: rd.kernel(X0, deq, "ntk"), lambda: rd.kernel_operator(X0, deq, "ntk-full")):
        with seconds(1.0), pytest.raises(rd.IllPosedError, match=r"NTK .* is infinite.*lower sigma_a2"):
            call()
    assert np.isfinite(rd.kernel(X0, deq)).all()


def test_one_sample_may_make_the_tangent_kernel_infinite():
    # For the sine E φ'² = (1 + exp(-2K_ii))/2: samples of norm one are served, one of small norm is not.
    deq = rd.DEQ("sin", 1.2, 0.8, centered=False)
    X = X0 / np.linalg.norm(X0, axis=1)[:, None]
    assert np.isfinite(rd.kernel(X, deq, "ntk")).all()
    with pytest.raises(rd.IllPosedError, match=r"NTK .* is infinite.*on these data.*lower sigma_a2"):
        rd.kernel(np.vstack([X, 0.05 * X[:1]]), deq, "ntk")
    assert np.isfinite(rd.kernel(np.vstack([X, 0.05 * X[:1]]), deq)).all()


def test_samples_without_an_equilibrium_are_refused(seconds):
    with seconds(1.0), pytest.raises(rd.IllPosedError, match=r"no equilibrium.*lower sigma_a2"):
        rd.kernel(X0, rd.DEQ("relu", 2.5, 0.8, centered=False))


def test_sign_has_the_arc_sine_kernel(gaussian):
    # G = (2/π) arcsin(K/K_ii), with K_ii = σ_a² + σ_b² ‖x‖²; φ jumps, so that the tangent kernels are infinite.
    X = gaussian(6, 4)
    deq = rd.DEQ(rd.Activation(np.sign, kinks=(0.0,)), 0.2, 0.8)
    G = rd.kernel(X, deq)
    s = 0.2 + 0.8 * np.einsum("ij,ij->i", X, X)
    r = (0.2 * G + 0.8 * X @ X.T) / np.sqrt(np.outer(s, s))
    np.testing.assert_allclose(G, 2 / np.pi * np.arcsin(np.clip(r, -1, 1)), atol=1e-7)  # arcsin at r = 1
    with pytest.raises(rd.IllPosedError, match="infinite"):
        rd.kernel(X, deq, "ntk")


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch", "triton"])
def test_a_constant_centred_away_leaves_nothing(gaussian, backend):
    X = gaussian(6, 5)
    where = {"backend": backend, "device": "cuda" if backend == "triton" and torch.cuda.is_available() else None}
    for kernel in rd.kernel(X, rd.DEQ("polynomial(1)", 0.2, 0.8), ("ck", "ntk", "ntk-full"), **where):
        np.testing.assert_array_equal(kernel, np.zeros((6, 6)))
    constant = rd.kernel(X, rd.DEQ("polynomial(1)", 0.2, 0.8, centered=False), **where)
    np.testing.assert_allclose(constant, np.ones((6, 6)), atol=1e-14)


def test_what_would_be_silently_wrong_is_refused(gaussian):
    X, deq = gaussian(12, 12), rd.DEQ("tanh", 0.3, 0.8)
    with pytest.raises(rd.InvalidInputError, match="shares memory with the samples"):
        rd.kernel(X, deq, out=X)
    with pytest.raises(rd.InvalidInputError, match="single precision"):
        rd.kernel((1e-25 * X).astype(np.float32), deq)
    with pytest.raises(rd.InvalidInputError, match="single precision"):
        rd.kernel(1e-25 * X, deq, products="tf32")
    with pytest.raises(rd.InvalidInputError, match="masked"):
        rd.kernel(np.ma.masked_array(X, mask=X > 0.5), deq)
    assert rd.kernel(1e-25 * X, deq)[0, 0] > 0


@pytest.mark.parametrize("scale", [28.0, 1 / 28])
def test_samples_far_from_order_one_are_warned_of(scale):
    X = rd.center_and_scale(np.random.default_rng(0).standard_normal((20, 8)))
    deq = rd.DEQ("tanh", 0.2, 0.8)
    for call in (rd.kernel, rd.kernel_operator, rd.empirical_spectrum):
        with pytest.warns(UserWarning, match="center_and_scale"):
            call(scale * X, deq)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(X, deq)
            call(2 * X, deq)
