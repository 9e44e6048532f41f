"""The look-up, the draw and the transform, on small files in every place and format, and on the bundled samples."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.util
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

import rmtdeq as rd
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError, MemoryLimitError
from rmtdeq.data import dataset_names, datasets, load_dataset
from rmtdeq.data.datasets import DATASETS, cache_folder, load_images
from rmtdeq.data.shares import shares

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (30, 7, 11, 20, 5, 9, 13, 8, 6, 21)
"""Images of each class in the small data sets, deliberately uneven."""


def small(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images of the ten classes in mixed order, the brightness telling the class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(10), COUNTS))
    images = 20 * labels.reshape(-1, *[1] * len(shape)) + rng.integers(0, 60, (labels.size, *shape))
    return images.astype(np.uint8), labels


def write_npz(path: Path, seed: int = 0, shape: tuple[int, ...] = (28, 28)) -> tuple[np.ndarray, np.ndarray]:
    images, labels = small(shape, seed)
    test_images, test_labels = small(shape, seed + 100)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)
    return images, labels


def write_idx(folder: Path, seed: int = 0, suffix: str = "", prefix: str = "train") -> tuple[np.ndarray, np.ndarray]:
    images, labels = small((28, 28), seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels.astype(np.uint8))):
        content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        packed = gzip.compress(content) if suffix else content
        (folder / f"{prefix}-{name}{suffix}").write_bytes(packed)
    return images, labels


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's folders and the network out of the tests."""
    monkeypatch.delenv("RMTDEQ_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def refuse(url: str, destination: Path, md5: str) -> Path:
        raise AssertionError(f"a test would have downloaded {url}")

    monkeypatch.setattr(datasets, "fetch", refuse)


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """A small MNIST in the folder that RMTDEQ_DATA names."""
    monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path / "data"))
    return write_npz(tmp_path / "data" / "mnist.npz")


def origin(name: str, seeds: dict[str, int]) -> str:
    """Load a small data set and say which of the folders it came from."""
    X, _ = load_dataset(name, raw=True, n=None, seed=0)
    for place, seed in seeds.items():
        images, _ = small(DATASETS[name].shape, seed)
        if set(map(bytes, X)) == set(map(bytes, images.reshape(len(images), -1))):
            return place
    raise AssertionError("none of the folders")


class TestDraw:
    def test_classes_come_in_the_order_given(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        images, labels = mnist
        X, y = load_dataset("mnist", classes=(8, 3, 0), raw=True)
        assert y.dtype == np.int64
        assert y.tolist() == [0] * COUNTS[8] + [1] * COUNTS[3] + [2] * COUNTS[0]
        for k, label in enumerate((8, 3, 0)):
            original = images[labels == label].reshape(COUNTS[label], -1)
            assert sorted(map(bytes, X[y == k])) == sorted(map(bytes, original))

    def test_all_classes_are_sorted(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        X, y = load_dataset("mnist", raw=True)
        assert X.dtype == np.uint8
        assert X.shape == (sum(COUNTS), 784)
        np.testing.assert_array_equal(y, np.repeat(np.arange(10), COUNTS))

    @pytest.mark.parametrize("classes", [[3, 8], np.array([3, 8]), iter((3, 8)), (3.0, 8), range(3, 9, 5)])
    def test_every_kind_of_sequence(self, mnist: tuple[np.ndarray, np.ndarray], classes: Any) -> None:
        np.testing.assert_array_equal(
            load_dataset("mnist", classes=classes)[0], load_dataset("mnist", classes=(3, 8))[0]
        )

    def test_one_class(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        X, y = load_dataset("mnist", classes=(4,))
        assert X.shape == (COUNTS[4], 784)
        assert not y.any()

    def test_proportions(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        _, y = load_dataset("mnist", classes=(0, 3, 4), n=22)
        assert np.bincount(y).tolist() == [12, 8, 2]

    @given(st.lists(st.integers(1, 7000), min_size=1, max_size=12), st.floats(0, 1))
    def test_law_of_shares(self, sizes: list[int], fraction: float) -> None:
        total = sum(sizes)
        n = max(1, round(fraction * total))
        parts = shares(n, sizes)
        assert sum(parts) == n
        for share, size in zip(parts, sizes, strict=True):
            assert 0 <= share <= size
            assert abs(share * total - n * size) < total

    @given(st.integers(1, sum(COUNTS)), st.integers(0, 2**32), st.sets(st.integers(0, 9), min_size=1))
    def test_law_of_draws(self, n: int, seed: int, chosen: set[int]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            images, labels = small((4, 4))
            images.reshape(-1, 16)[:, :1] = np.arange(len(images))[:, None]  # makes every image unlike the others
            patch.setattr(datasets, "load_images", lambda *_, **__: (images, labels))
            classes = tuple(chosen)
            available = sum(COUNTS[label] for label in classes)
            if n > available:
                with pytest.raises(InvalidInputError, match=f"the {available} of"):
                    load_dataset("mnist", classes=classes, n=n, seed=seed)
                return
            X, y = load_dataset("mnist", classes=classes, n=n, seed=seed, raw=True)
            assert len(set(map(bytes, X))) == n, "drawn without replacement"
            assert (np.diff(y) >= 0).all()
            np.testing.assert_array_equal(np.array(classes)[y], labels[X[:, 0]])

    def test_seeds(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        first, again, other = (load_dataset("mnist", n=40, seed=seed)[0] for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        np.testing.assert_array_equal(load_dataset("mnist", n=40, seed=np.random.default_rng(3))[0], first)
        np.testing.assert_array_equal(load_dataset("mnist", n=40)[0], load_dataset("mnist", n=40, seed=0)[0])

    def test_all_is_the_largest_draw(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        whole, y = load_dataset("mnist", classes=(0, 1), seed=5)
        drawn, y_drawn = load_dataset("mnist", classes=(0, 1), n=37, seed=5)
        np.testing.assert_array_equal(whole, drawn)
        np.testing.assert_array_equal(y, y_drawn)

    def test_splits_differ(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        test_images, _ = small((28, 28), 100)
        X, _ = load_dataset("mnist", split="test", raw=True)
        assert set(map(bytes, X)) == set(map(bytes, test_images.reshape(-1, 784)))


class TestTransform:
    @pytest.mark.parametrize("classes", [None, (3, 8), (0,), (9, 1, 5)])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_mean_zero_and_norm_one(
        self, mnist: tuple[np.ndarray, np.ndarray], classes: tuple[int, ...] | None, split: Any
    ) -> None:
        X, _ = load_dataset("mnist", classes=classes, split=split)
        assert X.dtype == np.float64
        np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-15)
        np.testing.assert_allclose((X**2).sum(axis=1).mean(), 1, rtol=1e-13)

    def test_formula(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        raw, _ = load_dataset("mnist", classes=(3, 8), raw=True)
        pixels = raw / 255
        centred = pixels - pixels.mean(axis=0)
        expected = centred / np.sqrt((centred**2).sum(axis=1).mean())
        np.testing.assert_allclose(load_dataset("mnist", classes=(3, 8))[0], expected, atol=1e-14)

    @pytest.mark.parametrize("n", [1, 2, 13, 26])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_subsets_share_the_transform(self, mnist: tuple[np.ndarray, np.ndarray], n: int, seed: int) -> None:
        whole, _ = load_dataset("mnist", classes=(3, 8))
        rows, _ = load_dataset("mnist", classes=(3, 8), raw=True)
        of = {bytes(raw): row for raw, row in zip(rows, whole, strict=True)}
        X, y = load_dataset("mnist", classes=(3, 8), n=n, seed=seed)
        raw, y_raw = load_dataset("mnist", classes=(3, 8), n=n, seed=seed, raw=True)
        np.testing.assert_array_equal(y, y_raw)
        np.testing.assert_array_equal(X, [of[bytes(row)] for row in raw])

    def test_whole_sums_do_not_depend_on_the_blocks(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (3000, 5), dtype=np.uint8)
        mean, scale = datasets._mean_and_scale(pixels, np.arange(3000), "mnist")
        np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-15)
        np.testing.assert_allclose(scale**-2, pixels.var(axis=0).sum(), rtol=1e-13)

    def test_images_all_the_same(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "mnist.npz", x_train=np.full((3, 28, 28), 7, np.uint8), y_train=np.array([4, 4, 4]))
        with pytest.raises(InvalidInputError, match="all the same"):
            load_dataset("mnist", classes=(4,), data_dir=tmp_path)
        assert load_dataset("mnist", classes=(4,), data_dir=tmp_path, raw=True)[0].shape == (3, 784)

    def test_matrix_beyond_memory(self, mnist: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rmtdeq._lib.check.available_memory", lambda: 1000)
        with pytest.raises(MemoryLimitError, match="fewer with n"):
            load_dataset("mnist")


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("MNIST", {}, "'mnist', 'fashion-mnist', 'cifar10', 'svhn', 'fashion-sample', 'digits'"),
            (None, {}, "name must be one of"),
            ("mnist", {"split": "validation"}, "split must be one of 'train', 'test'"),
            ("mnist", {"classes": (3, 10)}, "no class 10"),
            ("fashion-mnist", {"classes": (10, 11)}, r"no class 10, 11; its classes are 0 \(T-shirt/top\)"),
            ("fashion-sample", {"classes": (0, 5)}, r"no class 0; its classes are 5 \(sandal\), 7 \(sneaker\)"),
            ("mnist", {"classes": (3, 3)}, "twice"),
            ("mnist", {"classes": ()}, "empty"),
            ("mnist", {"classes": 3}, r"such as \(3, 8\)"),
            ("mnist", {"classes": "38"}, r"such as \(3, 8\)"),
            ("mnist", {"classes": (-1, 3)}, "at least 0"),
            ("mnist", {"classes": (1.5, 3)}, "integer"),
            ("mnist", {"classes": (True, 3)}, "integer"),
            ("mnist", {"n": 0}, "n must be at least 1"),
            ("mnist", {"n": -5}, "n must be at least 1"),
            ("mnist", {"n": 2.5}, "integer"),
            ("mnist", {"n": "all"}, "integer"),
            ("mnist", {"n": 60_001}, "the 60000 of the train set of mnist"),
            ("cifar10", {"n": 10_001, "split": "test"}, "the 10000 of the test set of cifar10"),
            ("mnist", {"seed": "x"}, "seed"),
            ("mnist", {"seed": -1}, "seed"),
            ("mnist", {"data_dir": 3}, "data_dir must be the path"),
            ("digits", {"split": "test"}, "digits has no test set"),
            ("fashion-sample", {"split": "test"}, "fashion-sample has no test set"),
        ],
    )
    def test_bad_ones_are_refused_before_any_file_is_sought(
        self, name: Any, arguments: dict[str, Any], words: str
    ) -> None:
        start = time.perf_counter()
        with pytest.raises(InvalidInputError, match=words):
            load_dataset(name, **arguments)
        assert time.perf_counter() - start < 0.5

    def test_more_than_there_are(self, mnist: tuple[np.ndarray, np.ndarray]) -> None:
        with pytest.raises(InvalidInputError, match="the 26 of the train set of mnist in class 3, 8"):
            load_dataset("mnist", classes=(3, 8), n=27)

    def test_names(self) -> None:
        assert dataset_names() == ("mnist", "fashion-mnist", "cifar10", "svhn", "fashion-sample", "digits")


class TestLookUp:
    def test_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seeds = {"data_dir": 1, "environment": 2, "cache": 3}
        write_npz(tmp_path / "data_dir" / "mnist.npz", 1)
        write_npz(tmp_path / "environment" / "mnist.npz", 2)
        write_idx(cache_folder() / "mnist", 3, ".gz")
        assert origin("mnist", seeds) == "cache"
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path / "environment"))
        assert origin("mnist", seeds) == "environment"
        images, _ = load_images("mnist", data_dir=tmp_path / "data_dir")
        np.testing.assert_array_equal(images, small((28, 28), 1)[0])

    def test_goes_on_where_a_folder_lacks_the_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "data_dir").mkdir()
        write_idx(tmp_path / "environment", 2)
        (tmp_path / "environment" / "train-images-idx3-ubyte").unlink()
        write_idx(cache_folder() / "mnist", 3, ".gz")
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path / "environment"))
        images, _ = load_images("mnist", data_dir=tmp_path / "data_dir")
        np.testing.assert_array_equal(images, small((28, 28), 3)[0])

    def test_sub_folder_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path))
        write_npz(tmp_path / "mnist.npz", 1)
        assert origin("mnist", {"folder": 1, "sub-folder": 2}) == "folder"
        write_idx(tmp_path / "mnist", 2)
        assert origin("mnist", {"folder": 1, "sub-folder": 2}) == "sub-folder"

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("sub_folder", ["", "fashion-mnist"])
    @pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
    def test_original_idx_files(self, tmp_path: Path, suffix: str, sub_folder: str, split: Any, prefix: str) -> None:
        images, labels = write_idx(tmp_path / sub_folder, 4, suffix, prefix)
        read_images, read_labels = load_images("fashion-mnist", split=split, data_dir=str(tmp_path))
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)

    def test_one_file_gzipped_and_one_not(self, tmp_path: Path) -> None:
        images, _ = write_idx(tmp_path, 4, ".gz")
        labels = tmp_path / "train-labels-idx1-ubyte.gz"
        labels.with_suffix("").write_bytes(gzip.decompress(labels.read_bytes()))
        labels.unlink()
        np.testing.assert_array_equal(load_images("mnist", data_dir=tmp_path)[0], images)

    def test_files_of_a_namesake_are_passed_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _, labels = write_idx(tmp_path, 4, ".gz")
        content = gzip.decompress((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
        plain = hashlib.md5(content).hexdigest()
        files = [
            dataclasses.replace(file, md5_uncompressed=plain) if "train-labels" in file.name else file
            for file in DATASETS["mnist"].files
        ]
        described = dataclasses.replace(DATASETS["mnist"], files=tuple(files))
        monkeypatch.setattr(datasets, "DATASETS", MappingProxyType({**DATASETS, "mnist": described}))
        np.testing.assert_array_equal(load_images("mnist", data_dir=tmp_path)[1], labels)
        with pytest.raises(DataNotFoundError, match="train set of fashion-mnist is not on this machine"):
            load_images("fashion-mnist", data_dir=tmp_path, download=False)

    @pytest.mark.parametrize("place", ["", "cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
    def test_original_cifar10_folder(self, tmp_path: Path, place: str) -> None:
        images, labels = small((32, 32, 3))
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for i, part in enumerate(np.array_split(np.arange(len(images)), 5)):
            batch = {b"data": rows[part], b"labels": labels[part].tolist()}
            (tmp_path / place / f"data_batch_{i + 1}").write_bytes(pickle.dumps(batch))
        X, _ = load_dataset("cifar10", classes=(2, 7), data_dir=tmp_path)
        assert X.shape == (COUNTS[2] + COUNTS[7], 3072)
        np.testing.assert_allclose((X**2).sum(axis=1).mean(), 1)
        np.testing.assert_array_equal(load_images("cifar10", data_dir=tmp_path)[0], images)
        with pytest.raises(DataNotFoundError, match="test set of cifar10 is not on this machine"):
            load_dataset("cifar10", split="test", data_dir=tmp_path, download=False)

    @pytest.mark.parametrize(("split", "name"), [("train", "train_32x32.mat"), ("test", "svhn/test_32x32.mat")])
    def test_original_svhn_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Any, name: str) -> None:
        images, labels = small((32, 32, 3))
        (tmp_path / "svhn").mkdir()
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(tmp_path / name, {"X": images.transpose(1, 2, 3, 0), "y": stored})
        with pytest.raises(InvalidInputError, match="not the published file"):
            load_dataset("svhn", split=split, data_dir=tmp_path)
        sums = {Path(name).name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest()}
        published = DATASETS["svhn"].files
        files = tuple(dataclasses.replace(file, md5=sums.get(file.name, file.md5)) for file in published)
        described = dataclasses.replace(DATASETS["svhn"], files=files)
        monkeypatch.setattr(datasets, "DATASETS", MappingProxyType({**DATASETS, "svhn": described}))
        X, y = load_dataset("svhn", split=split, raw=True, data_dir=tmp_path)
        np.testing.assert_array_equal(np.bincount(y), COUNTS)
        assert set(map(bytes, X)) == set(map(bytes, images.reshape(len(images), -1)))

    def test_cifar10_npz(self, tmp_path: Path) -> None:
        write_npz(tmp_path / "cifar10" / "cifar10.npz", shape=(32, 32, 3))
        assert load_dataset("cifar10", n=10, data_dir=tmp_path)[0].shape == (10, 3072)

    def test_damaged_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "mnist.npz").write_bytes(b"PK damaged")
        with pytest.raises(InvalidInputError, match=r"mnist\.npz.*get it again"):
            load_dataset("mnist", data_dir=tmp_path)

    def test_images_of_another_size(self, tmp_path: Path) -> None:
        write_npz(tmp_path / "mnist.npz", shape=(14, 14))
        with pytest.raises(InvalidInputError, match=r"mnist\.npz holds images of shape \(14, 14\).*\(28, 28\)"):
            load_dataset("mnist", data_dir=tmp_path)

    def test_labels_of_another_set(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "mnist.npz", x_train=np.zeros((3, 28, 28), np.uint8), y_train=np.array([1, 26, -1]))
        with pytest.raises(InvalidInputError, match=r"mnist\.npz holds the labels -1, 26"):
            load_dataset("mnist", data_dir=tmp_path)

    def test_file_with_some_of_the_classes(self, tmp_path: Path) -> None:
        images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
        np.savez(tmp_path / "mnist.npz", x_train=images, y_train=np.repeat([3, 8], 3))
        with pytest.raises(InvalidInputError, match=r"no images of class 0, 1, 2, 4, 5, 6, 7, 9;.*among 3, 8"):
            load_dataset("mnist", data_dir=tmp_path)
        assert load_dataset("mnist", classes=(3, 8), data_dir=tmp_path)[0].shape == (6, 784)

    def test_folders_that_do_not_exist(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DataNotFoundError, match=r"data_dir names .*absent"):
            load_dataset("mnist", data_dir=tmp_path / "absent")
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path / "absent"))
        with pytest.raises(DataNotFoundError, match=r"RMTDEQ_DATA names .*absent"):
            load_dataset("mnist")

    def test_empty_variable_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RMTDEQ_DATA", "")
        with pytest.raises(DataNotFoundError, match="not set now"):
            load_dataset("mnist", download=False)

    def test_message_names_files_folder_and_addresses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path))
        with pytest.raises(FileNotFoundError) as caught:
            load_dataset("fashion-mnist", split="test", download=False)
        message = str(caught.value)
        assert str(tmp_path) in message
        assert "fashion-mnist.npz" in message
        for file in DATASETS["fashion-mnist"].files[2:]:
            assert file.name in message
            assert file.url in message
        assert "train-images" not in message


class TestCacheFolder:
    def test_xdg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        assert cache_folder() == tmp_path / "cache" / "rmtdeq"
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
        for value in ("", "relative/path"):
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            assert cache_folder() == tmp_path / "home" / ".cache" / "rmtdeq"

    def test_windows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert cache_folder() == tmp_path / "local" / "rmtdeq"
        monkeypatch.delenv("LOCALAPPDATA")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
        assert cache_folder() == tmp_path / "home" / "AppData" / "Local" / "rmtdeq"


class TestDownload:
    @pytest.fixture
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A folder that is served in place of the site of MNIST, with its files and their checksums."""
        from rmtdeq.data.download import fetch

        folder = tmp_path / "site"
        write_idx(folder, 1, ".gz", "train")
        write_idx(folder, 2, ".gz", "t10k")

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                """Keep the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        files = [
            dataclasses.replace(
                file,
                url=f"http://127.0.0.1:{server.server_port}/{file.name}",
                md5=hashlib.md5((folder / file.name).read_bytes()).hexdigest(),
            )
            for file in DATASETS["mnist"].files
        ]
        described = dataclasses.replace(DATASETS["mnist"], files=tuple(files))
        monkeypatch.setattr(datasets, "DATASETS", MappingProxyType({**DATASETS, "mnist": described}))
        monkeypatch.setattr(datasets, "fetch", fetch)
        monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
        yield folder
        server.shutdown()
        thread.join()
        server.server_close()

    def test_what_is_needed_goes_to_the_cache(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        X, _ = load_dataset("mnist", n=50)
        names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
        assert sorted(path.name for path in (cache_folder() / "mnist").iterdir()) == names
        monkeypatch.setattr(datasets, "fetch", None)  # from now on a download would be an error
        np.testing.assert_array_equal(load_dataset("mnist", n=50)[0], X)
        np.testing.assert_array_equal(load_dataset("mnist", n=50, download=False)[0], X)

    def test_goes_on_after_a_failure(self, site: Path) -> None:
        labels = site / "train-labels-idx1-ubyte.gz"
        labels.rename(site / "away")
        with pytest.raises(DataNotFoundError, match="404"):
            load_dataset("mnist")
        (site / "away").rename(labels)
        (site / "train-images-idx3-ubyte.gz").unlink()  # it came the first time
        assert load_dataset("mnist")[0].shape == (sum(COUNTS), 784)

    def test_wrong_checksum(self, site: Path) -> None:
        (site / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
        with pytest.raises(DataNotFoundError, match="MD5"):
            load_dataset("mnist")
        assert list((cache_folder() / "mnist").iterdir()) == []

    def test_offline_message_names_every_file_and_the_folder(
        self, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for path in site.iterdir():
            path.unlink()
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path))
        with pytest.raises(DataNotFoundError) as caught:
            load_dataset("mnist")
        message = str(caught.value)
        for file in datasets.DATASETS["mnist"].files[:2]:
            assert file.url in message
        assert f"RMTDEQ_DATA={tmp_path}" in message
        assert "download failed" in message
        # What to put where is said once.
        assert message.count("put ") == 1
        assert message.count("RMTDEQ_DATA") == 1
        assert message.endswith(".")


class TestBundled:
    @pytest.mark.parametrize(("name", "n", "p"), [("fashion-sample", 4000, 784), ("digits", 1797, 64)])
    def test_loads(self, name: str, n: int, p: int) -> None:
        X, y = load_dataset(name, download=False)
        assert X.shape == (n, p)
        assert np.unique(y).tolist() == list(range(len(DATASETS[name].classes)))
        np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-15)
        np.testing.assert_allclose((X**2).sum(axis=1).mean(), 1, rtol=1e-13)

    def test_fashion_sample_is_large_enough_for_its_purpose(self) -> None:
        _, labels = load_images("fashion-sample")
        values, counts = np.unique(labels, return_counts=True)
        assert values.tolist() == [5, 7]
        assert counts.tolist() == [2000, 2000]

    def test_digits_are_the_published_ones(self) -> None:
        images, labels = load_images("digits")
        assert images.max() == 16
        assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
        assert labels[:10].tolist() == list(range(10))

    def test_folders_do_not_matter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RMTDEQ_DATA", str(tmp_path / "absent"))
        assert load_dataset("digits", n=10)[0].shape == (10, 64)

    @pytest.mark.parametrize("name", ["digits", "fashion_sample"])
    def test_licence_lies_beside(self, name: str) -> None:
        folder = Path(datasets.__file__).parent
        assert (folder / f"{name}.npz").stat().st_size < 2.5e6
        assert len((folder / f"{name}.LICENSE").read_text()) > 200


class TestRegistry:
    @pytest.mark.parametrize("name", dataset_names())
    def test_entries_are_complete(self, name: str) -> None:
        dataset = DATASETS[name]
        assert dataset.name == name
        assert dataset.licence
        assert dataset.citation
        assert (dataset.format == "bundled") == (not dataset.files)
        for split in dataset.sizes:
            assert dataset.format == "bundled" or any(split in file.splits for file in dataset.files)
        for file in dataset.files:
            assert file.url.endswith(f"/{file.name}")
            for md5 in {file.md5, file.md5_uncompressed} - {None}:
                assert len(bytes.fromhex(str(md5))) == 16
        with pytest.raises(dataclasses.FrozenInstanceError):
            dataset.name = "other"  # type: ignore[misc]
        with pytest.raises(TypeError):
            dataset.classes[99] = "other"  # type: ignore[index]

    def test_idx_files_are_in_the_order_of_the_reader(self) -> None:
        for name in ("mnist", "fashion-mnist"):
            stems = [(file.name.split("-")[1], file.splits) for file in DATASETS[name].files]
            assert stems == [(kind, (split,)) for split in ("train", "test") for kind in ("images", "labels")]


def test_import_is_light() -> None:
    program = (
        "import sys, rmtdeq.data.datasets; "
        "print([m for m in ('scipy.io', 'urllib.request', 'torch', 'dask', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.stdout.strip() == "[]"


class TestScript:
    @pytest.fixture
    def main(self) -> Any:
        spec = importlib.util.spec_from_file_location(
            "make_fashion_sample", ROOT / "scripts" / "make_fashion_sample.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    def test_takes_the_first_of_each_class(self, tmp_path: Path, main: Any) -> None:
        images, labels = write_npz(tmp_path / "fashion-mnist.npz")
        main(["--data-dir", str(tmp_path), "--per-class", "4", "--out", str(tmp_path / "sample.npz")])
        with np.load(tmp_path / "sample.npz") as sample:
            for label in (5, 7):
                np.testing.assert_array_equal(
                    sample["x_train"][sample["y_train"] == label], images[labels == label][:4]
                )
            assert sample["x_train"].dtype == sample["y_train"].dtype == np.uint8
            assert sample["y_train"].size == 8

    def test_seed(self, tmp_path: Path, main: Any) -> None:
        write_npz(tmp_path / "fashion-mnist.npz")
        contents = []
        for seed in ("0", "0", "1"):
            main(["--data-dir", str(tmp_path), "--per-class", "4", "--seed", seed, "--out", str(tmp_path / "s.npz")])
            contents.append((tmp_path / "s.npz").read_bytes())
        assert contents[0] == contents[1] != contents[2]

    def test_too_many(self, tmp_path: Path, main: Any) -> None:
        write_npz(tmp_path / "fashion-mnist.npz")
        with pytest.raises(SystemExit):
            main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "s.npz")])


def test_classes_go_by_name_as_by_number() -> None:
    by_number = load_dataset("fashion-sample", classes=(7, 5), n=40)
    by_name = load_dataset("fashion-sample", classes=("Sneaker", "sandal"), n=40)
    for one, other in zip(by_number, by_name, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InvalidInputError, match="did you mean 'sandal'"):
        load_dataset("fashion-sample", classes=("sandals", 7))
    with pytest.raises(InvalidInputError, match="twice"):
        load_dataset("fashion-sample", classes=("sandal", 5))


def test_shuffled_rows_are_the_same_rows_in_another_order() -> None:
    X, y = load_dataset("fashion-sample", n=60, seed=2)
    Z, z = load_dataset("fashion-sample", n=60, seed=2, shuffle=True)
    assert (np.diff(y) >= 0).all()
    assert (np.diff(z) < 0).any()
    rows = [int(np.flatnonzero((each == X).all(axis=1))[0]) for each in Z]
    assert sorted(rows) == list(range(60))
    np.testing.assert_array_equal(y[rows], z)


def test_names_joined_by_a_comma_are_to_be_named_apart():
    with pytest.raises(rd.InvalidInputError, match="name them apart"):
        rd.load_dataset("fashion-sample", classes=["sandal,sneaker"])
    assert rd.class_names("fashion-sample") == ("sandal", "sneaker")
    with pytest.raises(rd.InvalidInputError, match="cifar10"):
        rd.class_names("cifar")
