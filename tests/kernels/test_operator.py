"""Kernels as linear operators do what the matrices do, however they are stored."""

from __future__ import annotations

import itertools
import logging
import re

import numba
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

import rmtdeq as rd
from rmtdeq.kernels import blocks as fill
from rmtdeq.kernels import operator, pairs
from rmtdeq.kernels.plan import LayerPlan
from rmtdeq.kernels.stores import choice as storage
from rmtdeq.kernels.stores import host as host_matrix
from rmtdeq.kernels.stores import panels
from rmtdeq.kernels.stores.choice import METHODS

KINDS = ("ck", "ntk", "ntk-full")
STORED = ("dense", "float32", "memory-mapped")


@pytest.fixture(scope="module")
def samples(gaussian):
    X = gaussian(130, 12, seed=8)
    X[:3] = X[3:6]
    X[6] = X[7] + 1e-6 * X[8]
    X[9] = 0
    return X


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and panels so small that a hundred samples have many, ragged ones among them."""
    for module in (fill, host_matrix, panels):
        monkeypatch.setattr(module, "HEIGHT", 16)
        monkeypatch.setattr(module, "WIDTH", 24)
    monkeypatch.setattr(panels, "PANEL_BYTES", 16 * 130 * 8)


@pytest.mark.parametrize(
    ("name", "kind", "backend"),
    [
        ("tanh", "ntk", "auto"),
        ("relu", "ck", "numpy"),
        ("tanh", "ntk-full", "torch"),
        *(("relu", kind, "auto") for kind in KINDS),
    ],
)
def test_products_are_those_of_the_matrix(make, samples, name, kind, backend):
    deq, V = rd.DEQ(make(name), 0.4, 0.8), np.random.default_rng(0).standard_normal((130, 4))
    dense = rd.kernel(samples, deq, kind)
    op = rd.kernel_operator(samples, deq, kind, backend=backend)
    assert isinstance(op, LinearOperator)
    assert op.shape == (130, 130)
    assert op.dtype == np.float64
    size = 1e-12 * np.linalg.norm(dense, 2) * np.linalg.norm(V)
    for product, exact in (
        (op @ V, dense @ V),
        (op @ V[:, 0], dense @ V[:, 0]),
        (op.matmat(V[:, :1]), dense @ V[:, :1]),
        (op.T @ V, dense @ V),
        (op.H @ V, dense @ V),
        (op.rmatvec(V[:, 1]), dense @ V[:, 1]),
        ((2 * op) @ V, 2 * dense @ V),
        (op @ V.astype(np.float32), dense @ V.astype(np.float32)),
        (op @ (V + 1j * V[::-1]), dense @ (V + 1j * V[::-1])),
    ):
        assert product.shape == exact.shape
        assert abs(product - exact).max() < size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_every_way_of_storing_gives_the_same_matrix(make, samples, small_blocks, name, kind, method):
    deq, dense = rd.DEQ(make(name), 0.4, 0.8), rd.kernel(samples, rd.DEQ(make(name), 0.4, 0.8), kind)
    op = rd.kernel_operator(samples, deq, kind, method=method, backend="torch" if method == "device" else "auto")
    assert op.method == (method if method != "auto" else "dense")
    found = op @ np.eye(130)
    tolerance = 1e-6 if method == "float32" else 1e-12
    np.testing.assert_allclose(found, dense, atol=tolerance * dense.max())
    np.testing.assert_array_equal(found, found.T)
    # Again, with what has been kept: longer series, the panels.
    np.testing.assert_array_equal(op @ np.eye(130), found)


@pytest.mark.parametrize("method", METHODS[1:])
def test_number_of_threads_does_not_show(samples, small_blocks, method):
    V, before, results = np.random.default_rng(0).standard_normal((130, 3)), numba.get_num_threads(), []
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            backend = "torch" if method == "device" else "auto"
            op = rd.kernel_operator(samples, rd.DEQ("relu", 0.4, 0.8), "ntk", method=method, backend=backend)
            results.append(op @ V)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_allclose(results[0], results[-1], atol=1e-12 * abs(results[0]).max())


@pytest.mark.parametrize(("n", "dtype"), [(1, np.float64), (255, np.float32), (257, np.float64), (40_000, np.float64)])
def test_panels_cover_the_lower_half_once(n, dtype):
    layout = panels.Layout(n, np.dtype(dtype))
    blocks = [block for panel in layout.panels for block in panel]
    assert sum(block.size for block in blocks) * layout.dtype.itemsize == layout.bytes
    squares = [block for block in blocks if block.left == block.top]
    assert all(block.right <= block.top for block in blocks if block not in squares)
    # All that lies below the diagonal, the squares counted in half.
    assert 2 * sum(block.size for block in blocks) - sum(block.size for block in squares) == n**2
    for panel in layout.panels[:-1]:
        assert sum(block.size for block in panel) * layout.dtype.itemsize >= panels.PANEL_BYTES


def test_auto_takes_the_first_that_fits_and_says_so(samples, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "rmtdeq")
    deq = rd.DEQ("tanh", 0.4, 0.8)
    double, single = (panels.Layout(130, np.dtype(name)).bytes for name in ("f8", "f4"))
    scratch = fill.scratch_bytes(8)

    def chosen(limit, free=1 << 40, **options):
        caplog.clear()
        monkeypatch.setattr(storage, "free_space", lambda folder: free)
        op = rd.kernel_operator(samples, deq, memory_limit=scratch + limit, **options)
        (record,) = caplog.records
        assert str(130) in record.getMessage()
        return op.method, record.levelname

    assert chosen(double) == ("dense", "INFO")
    assert chosen(double - 1) == ("float32", "WARNING")
    assert chosen(double - 1, dtype="float64") == ("memory-mapped", "INFO")
    assert chosen(single - 1) == ("memory-mapped", "INFO")
    assert chosen(single - 1, free=single) == ("matrix-free", "INFO")
    monkeypatch.setattr(storage, "in_memory", lambda folder: True)
    assert chosen(single - 1) == ("matrix-free", "INFO")


@pytest.mark.parametrize("method", ["dense", "float32"])
def test_what_does_not_fit_is_refused_before_any_work(samples, method):
    with pytest.raises(rd.MemoryLimitError, match="memory-mapped"):
        rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), method=method, memory_limit=1000)


def test_full_disk_is_noticed_before_any_work(samples, monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "free_space", lambda folder: 1000)
    for options in ({"method": "memory-mapped"}, {"folder": tmp_path}):
        with pytest.raises(rd.MemoryLimitError, match="matrix-free"):
            rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), **options)


def test_files_that_are_there_need_no_room(samples, monkeypatch, tmp_path):
    rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), folder=tmp_path).compute()
    monkeypatch.setattr(storage, "free_space", lambda folder: panels.Layout(130, np.dtype(float)).bytes // 5)
    op = rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), folder=tmp_path)
    assert op.method == "memory-mapped"
    op @ np.ones(130)


def test_interrupted_panels_are_gone_on_with(samples, small_blocks, tmp_path, monkeypatch):
    deq, computed = rd.DEQ("relu", 0.4, 0.8), []
    fill = host_matrix.HostMatrix._fill

    def interrupted(op, blocks, entries):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append(blocks[0])
        fill(op, blocks, entries)

    monkeypatch.setattr(host_matrix.HostMatrix, "_fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rd.kernel_operator(samples, deq, "ntk", folder=tmp_path).compute()
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert not list(tmp_path.glob(".*"))
    computed.clear()
    monkeypatch.setattr(host_matrix.HostMatrix, "_fill", lambda op, *what: (computed.append(what[0]), fill(op, *what)))
    op = rd.kernel_operator(samples, deq, "ntk", folder=tmp_path)
    found = op @ np.eye(130)
    assert len(computed) == len(list(tmp_path.glob("*.npy"))) - 3 > 0
    np.testing.assert_array_equal(found, rd.kernel_operator(samples, deq, "ntk") @ np.eye(130))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("samples", lambda X: {"X": 2 * X}),
        ("activation", lambda X: {"deq": rd.DEQ("relu", 0.4, 0.8)}),
        ("sigma_a2", lambda X: {"deq": rd.DEQ("tanh", 0.3, 0.8)}),
        ("kernel", lambda X: {"kind": "ck"}),
        ("precision", lambda X: {"dtype": "float32"}),
    ],
)
def test_files_of_another_kernel_are_refused(samples, tmp_path, what, change):
    given = {"X": samples, "deq": rd.DEQ("tanh", 0.4, 0.8), "kind": "ntk", "folder": tmp_path}
    rd.kernel_operator(**given).compute()
    with pytest.raises(rd.InvalidInputError, match=what):
        rd.kernel_operator(**given | change(samples))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY nonsense", None])
def test_broken_files_are_named(samples, tmp_path, content):
    given = {"X": samples, "deq": rd.DEQ("tanh", 0.4, 0.8), "folder": tmp_path}
    rd.kernel_operator(**given).compute()
    (panel,) = tmp_path.glob("panel-00000-*.npy")
    if content is None:
        np.save(panel, np.zeros((2, 2)))
    else:
        panel.write_bytes(content)
    with pytest.raises(rd.InvalidInputError, match="panel-00000"):
        rd.kernel_operator(**given)


@pytest.mark.parametrize("damage", [0.0, np.nan, -1e3])
def test_one_damaged_entry_is_noticed(samples, tmp_path, damage):
    given = {"X": samples, "deq": rd.DEQ("tanh", 0.4, 0.8), "folder": tmp_path}
    rd.kernel_operator(**given).compute()
    (panel,) = tmp_path.glob("panel-00000-*.npy")
    entries = np.load(panel, mmap_mode="r+")
    entries[123] = damage
    entries.flush()
    with pytest.raises(rd.InvalidInputError, match="damaged"):
        rd.kernel_operator(**given)
    panel.unlink()
    rd.kernel_operator(**given) @ np.ones(130)


def test_a_folder_with_other_files_is_refused(samples, tmp_path):
    deq = rd.DEQ("tanh", 0.4, 0.8)
    rd.kernel_operator(samples, deq, folder=tmp_path / "one").compute()
    (tmp_path / "one" / "kernel.json").unlink()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "notes.txt").write_text("mine")
    for folder in ("one", "two"):
        with pytest.raises(rd.InvalidInputError, match="not empty"):
            rd.kernel_operator(1.1 * samples, deq, folder=tmp_path / folder)


def test_temporary_files_go_with_the_operator(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(operator.tempfile, "tempdir", str(tmp_path))
    op = rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), method="memory-mapped").compute()
    assert list(tmp_path.rglob("*.npy"))
    op.close()
    assert not list(tmp_path.iterdir())


def test_extreme_eigenvalues_are_found_without_the_matrix(samples):
    deq = rd.DEQ("tanh", 0.4, 0.8)
    exact = np.linalg.eigvalsh(rd.kernel(samples, deq, "ntk"))
    op = rd.kernel_operator(samples, deq, "ntk", method="matrix-free")
    found = eigsh(op, k=3, v0=np.ones(130), return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), exact[-3:], rtol=1e-10)


@pytest.mark.parametrize("method", ["dense", "memory-mapped", "matrix-free"])
def test_single_precision_operator(samples, method):
    deq, v = rd.DEQ("tanh", 0.4, 0.8), np.random.default_rng(1).standard_normal(130).astype(np.float32)
    op = rd.kernel_operator(samples, deq, dtype=np.float32, method=method)
    assert op.dtype == op.entries_dtype == np.float32
    product = op @ v
    assert product.dtype == np.float32
    np.testing.assert_allclose(product, rd.kernel(samples, deq) @ v, atol=3e-6 * np.linalg.norm(v))


def test_lower_precision_of_the_entries_is_not_that_of_the_results(samples):
    op = rd.kernel_operator(samples, rd.DEQ("tanh", 0.4, 0.8), method="float32")
    assert (op.dtype, op.entries_dtype, (op @ np.ones(130)).dtype) == (np.float64, np.float32, np.float64)


def test_centring_is_that_of_the_kernel(samples):
    deq, v = rd.DEQ("relu", 0.4, 0.8), np.ones(130)
    for tau0_squared in (None, 0.5):
        product = rd.kernel_operator(samples, deq, tau0_squared=tau0_squared) @ v
        np.testing.assert_allclose(product, rd.kernel(samples, deq, tau0_squared=tau0_squared) @ v, atol=1e-11)


def test_single_sample_is_a_number():
    op = rd.kernel_operator([[0.6, 0.8]], rd.DEQ("tanh", 0.2, 0.8))
    assert op @ np.array([2.0]) == pytest.approx(2 * rd.kernel([[0.6, 0.8]], rd.DEQ("tanh", 0.2, 0.8))[0], rel=1e-15)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "nngp"},
        {"kind": ("ck", "ck")},
        {"kind": None},
        {"backend": "fortran"},
        {"device": "cuda:0"},
        {"dtype": "int32"},
        {"tau0_squared": -1.0},
        {"method": "sparse"},
        {"memory_limit": -1},
        {"folder": "x", "method": "dense"},
        {"folder": 3},
        {"folder": ""},
        {"dtype": "float64", "method": "float32"},
        {"method": "device"},
        {"products": "half"},
        {"products": "tf32", "dtype": "float64"},
        {"group": object()},
    ],
)
def test_arguments_that_make_no_sense_are_refused(samples, arguments, seconds):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=next(iter(arguments))):
        rd.kernel_operator(samples, rd.DEQ("tanh", 0.2, 0.8), **arguments)


@pytest.mark.parametrize("shape", [(129,), (131, 2), (2, 130)])
def test_vectors_of_another_length_are_refused(samples, shape):
    with pytest.raises(ValueError, match="dimension mismatch"):
        rd.kernel_operator(samples, rd.DEQ("tanh", 0.2, 0.8)) @ np.ones(shape)


@pytest.mark.parametrize("backend", ["numba", "torch", "dask"])
@pytest.mark.parametrize("method", ["auto", "matrix-free"])
def test_samples_may_be_changed_after_the_operator_is_made(gaussian, backend, method):
    X, deq, v = gaussian(50, 20), rd.DEQ("tanh", 0.3, 0.8), np.ones(50)
    exact = rd.kernel(X, deq, "ntk") @ v
    op = rd.kernel_operator(X, deq, "ntk", backend=backend, method=method)
    X *= 2
    np.testing.assert_allclose(op @ v, exact, rtol=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_many_quadratures_are_said_with_their_time_and_a_remedy(gaussian, monkeypatch, caplog, symmetric):
    monkeypatch.setattr(fill, "_MANY", 20)
    clock = itertools.count()
    monkeypatch.setattr(fill, "_TIMED", 16)
    monkeypatch.setattr(fill, "perf_counter", lambda: 1.6 * next(clock))  # 0.1 s for each of the first 16
    Y = None if symmetric else gaussian(100, 2, seed=1)
    monkeypatch.setattr(LayerPlan, "by_quadrature", True)
    rd.kernel(gaussian(120, 2), rd.DEQ("tanh", 0.3, 0.8), Y=Y, backend="numpy")
    (said,) = [record.getMessage() for record in caplog.records if "nearly parallel" in record.getMessage()]
    pairs = int(re.search(r"entries (\d+) pairs", said).group(1))
    assert pairs > 16
    assert f"(100 ms), the whole kernel about {fill._duration(0.1 * pairs)}." in said
    assert "rmtdeq.center_and_scale(X)" in said


def test_the_time_of_the_whole_kernel_is_that_of_its_blocks(gaussian, monkeypatch, caplog, small_blocks):
    monkeypatch.setattr(fill, "_MANY", 20)
    clock = itertools.count()
    monkeypatch.setattr(fill, "perf_counter", lambda: 1e3 * next(clock))
    X = np.outer(np.linspace(1, 2, 60), np.ones(4)) + 1e-3 * gaussian(60, 4)  # nearly parallel, every pair of them
    monkeypatch.setattr(
        pairs, "solve_pairs", lambda layer, u, v, angles, dual: (u.square, u.square, angles)
    )  # which does take long
    monkeypatch.setattr(LayerPlan, "by_quadrature", True)
    rd.kernel(X, rd.DEQ("tanh", 0.3, 0.8), backend="numpy")
    (said,) = [record.getMessage() for record in caplog.records if "nearly parallel" in record.getMessage()]
    first = 16 * 15 // 2
    assert f"of 16 x 16 entries {first} pairs" in said
    assert f"about {1e3 / 64 * 60 * 59 / 2 / 3600:.0f} hours" in said


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_nearly_parallel_pairs_with_a_closed_form_or_a_table_are_not_worth_a_word(name, gaussian, monkeypatch, caplog):
    monkeypatch.setattr(fill, "_MANY", 20)
    rd.kernel(gaussian(120, 2), rd.DEQ(name, 0.3, 0.8), Y=gaussian(100, 2, seed=1))
    assert "nearly parallel" not in caplog.text


@pytest.mark.parametrize(("seconds", "shown"), [(119, "119 s"), (130, "2 minutes"), (7300, "2 hours")])
def test_long_times_are_said_in_larger_units(seconds, shown):
    assert fill._duration(seconds) == shown
