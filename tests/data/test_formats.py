"""Files of every format are written here, byte by byte where that matters, and read back."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq.data.formats import CIFAR10_BATCHES, read_cifar10, read_idx, read_idx_array, read_npz, read_svhn


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def images_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels_of(n: int, low: int = 0, high: int = 10, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, n)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its strings, as in the original files of CIFAR-10."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self: Any, value: str | bytes) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    # Python 2 knew the modules of the numpy of its days.
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def cifar_rows(images: np.ndarray) -> np.ndarray:
    """The rows of the file: a red, a green and a blue plane."""
    return np.concatenate([images[..., channel].reshape(len(images), -1) for channel in range(3)], axis=1)


def write_cifar10(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Spread images over the five training files, in order; the test file gets the last two."""
    folder.mkdir(parents=True)
    parts = [*np.array_split(np.arange(len(images)), 5), np.arange(len(images) - 2, len(images))]
    for name, part in zip([*CIFAR10_BATCHES["train"], *CIFAR10_BATCHES["test"]], parts, strict=True):
        batch = {
            "batch_label": f"batch {name}",
            "labels": labels[part].tolist(),
            "data": cifar_rows(images[part]),
            "filenames": [f"{i}.png" for i in part],
        }
        (folder / name).write_bytes(python2_pickle(batch))


def archive_of(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="cifar-10-batches-py")


@pytest.fixture
def cifar10(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    images, labels = images_of((12, 32, 32, 3)), labels_of(12)
    write_cifar10(tmp_path / "cifar-10-batches-py", images, labels)
    return tmp_path / "cifar-10-batches-py", images, labels


class TestIdx:
    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_reads_back(self, tmp_path: Path, compress: Any) -> None:
        images, labels = images_of((7, 5, 4)), labels_of(7)
        (tmp_path / "images").write_bytes(compress(idx_bytes(images)))
        (tmp_path / "labels").write_bytes(compress(idx_bytes(labels.astype(np.uint8))))
        read_images, read_labels = read_idx(tmp_path / "images", str(tmp_path / "labels"))
        assert read_images.dtype == np.uint8
        assert read_labels.dtype == np.int64
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)

    @given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32))
    def test_every_shape(self, tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int) -> None:
        path = tmp_path_factory.getbasetemp() / "shape"
        array = images_of(tuple(shape), seed)
        path.write_bytes(idx_bytes(array))
        np.testing.assert_array_equal(read_idx_array(path, ndim=len(shape)), array)

    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_every_truncation_is_refused(self, tmp_path: Path, compress: Any) -> None:
        path = tmp_path / "train-images-idx3-ubyte"
        whole = compress(idx_bytes(images_of((3, 4, 4))))
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(InvalidInputError, match=r"train-images-idx3-ubyte.*get it again"):
                read_idx_array(path, ndim=3)

    def test_trailing_bytes_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "images"
        path.write_bytes(idx_bytes(images_of((3, 4, 4))) + b"\0")
        with pytest.raises(InvalidInputError, match=r"49 bytes of data where its header.*announces 48"):
            read_idx_array(path, ndim=3)

    def test_damage_within_gzip_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "images.gz"
        damaged = bytearray(gzip.compress(idx_bytes(images_of((3, 40, 40)))))
        damaged[len(damaged) // 2] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"images\.gz"):
            read_idx_array(path, ndim=3)

    def test_huge_header_takes_no_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "images"
        path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12)
        with pytest.raises(InvalidInputError, match=str(math.prod([2**32 - 1] * 3))):
            read_idx_array(path, ndim=3)

    @pytest.mark.parametrize("magic", [b"\0\0\x08\x01", b"\0\0\x0d\x03", b"\1\0\x08\x03", b"PK\3\4"])
    def test_wrong_magic_is_refused(self, tmp_path: Path, magic: bytes) -> None:
        path = tmp_path / "images"
        path.write_bytes(magic + idx_bytes(images_of((3, 4, 4)))[4:])
        with pytest.raises(InvalidInputError, match="does not begin as an idx file"):
            read_idx_array(path, ndim=3)

    def test_pair_that_does_not_match(self, tmp_path: Path) -> None:
        (tmp_path / "images").write_bytes(idx_bytes(images_of((3, 4, 4))))
        (tmp_path / "labels").write_bytes(idx_bytes(labels_of(4).astype(np.uint8)))
        with pytest.raises(InvalidInputError, match=r"3 images.*4 labels"):
            read_idx(tmp_path / "images", tmp_path / "labels")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataNotFoundError, match="absent does not exist"):
            read_idx(tmp_path / "absent", tmp_path / "absent")

    def test_unreadable_file(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"IsADirectoryError|PermissionError"):
            read_idx_array(tmp_path, ndim=3)


class TestNpz:
    @pytest.mark.parametrize("shape", [(6, 4, 4), (6, 4, 4, 3)])
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_reads_back(self, tmp_path: Path, save: Any, shape: tuple[int, ...]) -> None:
        train, test = images_of(shape), images_of(shape, 5)
        labels = labels_of(6)
        path = tmp_path / "data.npz"
        save(path, x_train=train, y_train=labels.astype(np.uint8), x_test=test, y_test=labels[:, None])
        for split, images in (("train", train), ("test", test)):
            read_images, read_labels = read_npz(path, split)  # type: ignore[arg-type]
            np.testing.assert_array_equal(read_images, images)
            np.testing.assert_array_equal(read_labels, labels)
            assert read_labels.dtype == np.int64

    def test_missing_arrays(self, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        np.savez(path, x_train=images_of((6, 4, 4)), y_train=labels_of(6))
        with pytest.raises(InvalidInputError, match=r"data\.npz lacks x_test and y_test"):
            read_npz(path, "test")

    def test_truncations_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        np.savez_compressed(path, x_train=images_of((6, 4, 4)), y_train=labels_of(6))
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(InvalidInputError, match=r"data\.npz"):
                read_npz(path)

    def test_damage_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        np.savez_compressed(path, x_train=images_of((6, 40, 40)), y_train=labels_of(6))
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"data\.npz"):
            read_npz(path)

    def test_single_array_is_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "data.npy", images_of((6, 4, 4)))
        with pytest.raises(InvalidInputError, match="single array"):
            read_npz(tmp_path / "data.npy")

    def test_pickled_objects_are_refused(self, tmp_path: Path) -> None:
        objects = np.empty(1, object)
        objects[0] = MaliciousObject(tmp_path / "struck")
        np.savez(tmp_path / "data.npz", x_train=objects, y_train=objects)
        with pytest.raises(InvalidInputError, match="allow_pickle"):
            read_npz(tmp_path / "data.npz")
        assert not (tmp_path / "struck").exists()

    @pytest.mark.parametrize(
        ("images", "labels", "words"),
        [
            (np.zeros((2, 4, 4)), np.zeros(2, int), "uint8 images"),
            (np.zeros((2, 16), np.uint8), np.zeros(2, int), "uint8 images"),
            (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, int), "uint8 images"),
            (np.zeros((2, 4, 4), np.uint8), np.zeros(2), "integer labels"),
            (np.zeros((2, 4, 4), np.uint8), np.zeros((2, 2), int), "integer labels"),
            (np.zeros((2, 4, 4), np.uint8), np.zeros(3, int), "2 images"),
            (np.zeros((0, 4, 4), np.uint8), np.zeros(0, int), "0 images"),
        ],
    )
    def test_wrong_arrays(self, tmp_path: Path, images: np.ndarray, labels: np.ndarray, words: str) -> None:
        np.savez(tmp_path / "data.npz", x_train=images, y_train=labels)
        with pytest.raises(InvalidInputError, match=words):
            read_npz(tmp_path / "data.npz")

    def test_unknown_split(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="split"):
            read_npz(tmp_path / "data.npz", "validation")  # type: ignore[arg-type]


class MaliciousObject:
    """An object whose pickle makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestCifar10:
    @pytest.mark.parametrize("archived", [False, True])
    def test_reads_back(self, tmp_path: Path, cifar10: tuple[Path, np.ndarray, np.ndarray], archived: bool) -> None:
        path, images, labels = cifar10
        if archived:
            archive_of(path, tmp_path / "cifar-10-python.tar.gz")
            path = tmp_path / "cifar-10-python.tar.gz"
        for split, rows in (("train", slice(None)), ("test", slice(-2, None))):
            read_images, read_labels = read_cifar10(path, split)  # type: ignore[arg-type]
            assert read_images.dtype == np.uint8
            np.testing.assert_array_equal(read_images, images[rows])
            np.testing.assert_array_equal(read_labels, labels[rows])

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("text", [str, str.encode])
    @pytest.mark.parametrize("listed", [False, True])
    def test_copies_written_by_python_3(self, tmp_path: Path, protocol: int, text: Any, listed: bool) -> None:
        images, labels = images_of((2, 32, 32, 3)), labels_of(2)
        batch = {text("data"): cifar_rows(images), text("labels"): labels.tolist() if listed else labels}
        (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol))
        read_images, read_labels = read_cifar10(tmp_path, "test")
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_malicious_pickle_does_nothing(self, tmp_path: Path, protocol: int) -> None:
        struck = tmp_path / "struck"
        (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": MaliciousObject(struck)}, protocol))
        with pytest.raises(InvalidInputError, match=r"test_batch.*asks for (posix|nt|os)\.mkdir.*get it again"):
            read_cifar10(tmp_path, "test")
        assert not struck.exists()

    @pytest.mark.parametrize(
        "name", ["builtins eval", "__builtin__ eval", "os system", "numpy load", "numpy.core.multiarray fromfile"]
    )
    def test_other_globals_are_refused(self, tmp_path: Path, name: str) -> None:
        module, attribute = name.split()
        (tmp_path / "test_batch").write_bytes(f"c{module}\n{attribute}\n.".encode())
        with pytest.raises(InvalidInputError, match=f"asks for [a-z_.]+{attribute}"):
            read_cifar10(tmp_path, "test")

    def test_other_codecs_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "test_batch").write_bytes(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
        with pytest.raises(InvalidInputError, match="codec 'rot13'"):
            read_cifar10(tmp_path, "test")

    def test_truncations_are_refused(self, cifar10: tuple[Path, np.ndarray, np.ndarray]) -> None:
        batch = cifar10[0] / "test_batch"
        whole = batch.read_bytes()
        for length in range(0, len(whole), 97):
            batch.write_bytes(whole[:length])
            with pytest.raises(InvalidInputError, match="test_batch"):
                read_cifar10(cifar10[0], "test")

    def test_truncated_archives_are_refused(self, tmp_path: Path, cifar10: tuple[Path, np.ndarray, np.ndarray]) -> None:
        path = tmp_path / "cifar-10-python.tar.gz"
        archive_of(cifar10[0], path)
        whole = path.read_bytes()
        for length in range(0, len(whole) * 3 // 4, len(whole) // 20):
            path.write_bytes(whole[:length])
            with pytest.raises(InvalidInputError, match=r"cifar-10-python\.tar\.gz"):
                read_cifar10(path, "train")

    @pytest.mark.parametrize("archived", [False, True])
    def test_missing_batches_are_named(
        self, tmp_path: Path, cifar10: tuple[Path, np.ndarray, np.ndarray], archived: bool
    ) -> None:
        path = cifar10[0]
        (path / "data_batch_3").unlink()
        if archived:
            archive_of(path, tmp_path / "cifar-10-python.tar.gz")
            path = tmp_path / "cifar-10-python.tar.gz"
        with pytest.raises(InvalidInputError, match="lacks data_batch_3 of the CIFAR-10 train set"):
            read_cifar10(path, "train")
        assert len(read_cifar10(path, "test")[0]) == 2

    @pytest.mark.parametrize(
        ("batch", "words"),
        [
            ({"data": np.zeros((2, 3072), np.uint8)}, "labels"),
            ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, r"\(N, 3072\)"),
            ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, "uint8"),
            ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 images"),
            ([1, 2], "AttributeError"),
        ],
    )
    def test_wrong_contents(self, tmp_path: Path, batch: Any, words: str) -> None:
        (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
        with pytest.raises(InvalidInputError, match=words):
            read_cifar10(tmp_path, "test")

    def test_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(DataNotFoundError, match="does not exist"):
            read_cifar10(tmp_path / "cifar-10-python.tar.gz", "train")


class TestSvhn:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_reads_back(self, tmp_path: Path, compressed: bool) -> None:
        images, labels = images_of((12, 32, 32, 3)), np.arange(12) % 10
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        path = tmp_path / "train_32x32.mat"
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": stored}, do_compression=compressed)
        read_images, read_labels = read_svhn(path, hashlib.md5(path.read_bytes()).hexdigest())
        assert read_images.dtype == np.uint8
        assert read_images.flags.c_contiguous
        np.testing.assert_array_equal(read_images, images)
        assert read_labels.dtype == np.int64
        np.testing.assert_array_equal(read_labels, labels)

    @pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?"])
    def test_other_files_are_refused(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        path = tmp_path / "train_32x32.mat"
        savemat(path, {"X": images_of((32, 32, 3, 4)), "y": np.ones((4, 1), np.uint8)})
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(InvalidInputError, match=rf"train_32x32\.mat.*MD5 sum is .*, not {md5}.*svhn\.npz"):
            read_svhn(path, md5)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataNotFoundError, match="does not exist"):
            read_svhn(tmp_path / "test_32x32.mat", "0" * 32)
