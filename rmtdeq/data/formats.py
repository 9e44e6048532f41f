"""Readers for image data sets in the files people have them in: idx, npz, CIFAR-10 pickles and SVHN matrices.

Each reader returns the images as uint8, (N, h, w) or (N, h, w, 3), with the labels as the file gives them, int64 (N,).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmtdeq._lib.check import choice
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError, RmtdeqError

__all__ = [
    "CIFAR10_BATCHES",
    "SPLITS",
    "Images",
    "Labels",
    "Split",
    "read_arrays",
    "read_cifar10",
    "read_idx",
    "read_idx_array",
    "read_npz",
    "read_svhn",
    "uncompressed",
]

Images: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.int64]
Split: TypeAlias = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")

CIFAR10_BATCHES: Mapping[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}
"""The pickles that make up each part of CIFAR-10."""

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_UINT8 = 8
_REMEDY = "the file is damaged or of another kind: delete it and get it again"
_NPY_MAGIC, _ZIP_MAGIC = b"\x93NUMPY", b"PK"


def read_idx(images: str | Path, labels: str | Path) -> tuple[Images, Labels]:
    """Read a pair of idx files, the format of MNIST and Fashion-MNIST, gzipped or not.

    Parameters
    ----------
    images, labels : path
        Files such as ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz``. Whether a file is
        gzipped is told from its first bytes, not from its name.

    Returns
    -------
    images : ndarray of uint8, shape (N, h, w)
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    InvalidInputError
        A file is damaged, or the two do not belong together.
    DataNotFoundError
        A file does not exist.

    Notes
    -----
    The format is described at https://yann.lecun.com/exdb/mnist/.
    """
    return _pair(read_idx_array(images, ndim=3), read_idx_array(labels, ndim=1), Path(images))


def read_idx_array(path: str | Path, *, ndim: int) -> Images:
    """Read one idx file of unsigned bytes with `ndim` dimensions, gzipped or not.

    Parameters
    ----------
    path : path
        The file.
    ndim : int
        How many dimensions it must have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    InvalidInputError
        The header is not that of such a file, or the file is longer or shorter than its header says.
    DataNotFoundError
        The file does not exist.
    """
    path = Path(path)
    content = uncompressed(path)
    start = 4 + 4 * ndim
    expected = bytes([0, 0, _IDX_UINT8, ndim])
    if len(content) < start or content[:4] != expected:
        raise InvalidInputError(
            f"{path} does not begin as an idx file of unsigned bytes with {ndim} dimension(s) does "
            f"({content[:4].hex() or 'nothing'} instead of {expected.hex()}); {_REMEDY}."
        )
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise InvalidInputError(
            f"{path} holds {len(content) - start} bytes of data where its header, of shape {shape}, "
            f"announces {math.prod(shape)}; {_REMEDY}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def uncompressed(path: str | Path) -> bytes:
    """Return what a file holds, or what it holds in gzipped form.

    Raises
    ------
    InvalidInputError
        The file cannot be read, or the gzipped data are damaged.
    DataNotFoundError
        The file does not exist.
    """
    path = Path(path)
    with _naming(path, "a gzipped or plain file"):
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content


def read_npz(path: str | Path, split: Split = "train") -> tuple[Images, Labels]:
    """Read one part of an npz file with the arrays x_train, y_train, x_test, y_test.

    Parameters
    ----------
    path : path
        The file; only the two arrays of `split` are read, and no pickled objects.
    split : {"train", "test"}
        Which part.

    Returns
    -------
    images : ndarray of uint8, shape (N, h, w) or (N, h, w, 3)
    labels : ndarray of int64, shape (N,)
        Labels stored as a column (N, 1) are flattened.

    Raises
    ------
    InvalidInputError
        The file is damaged, or lacks these arrays, or they have other shapes or types.
    DataNotFoundError
        The file does not exist.
    """
    path = Path(path)
    choice(split, "split", SPLITS)
    with _naming(path, "an npz file"), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InvalidInputError(f"{path} holds a single array; an npz file with x_{split} and y_{split} is needed.")
        missing = [name for name in (f"x_{split}", f"y_{split}") if name not in archive.files]
        if missing:
            raise InvalidInputError(
                f"{path} lacks {' and '.join(missing)} (it holds {', '.join(archive.files) or 'nothing'}); "
                f"save it with numpy.savez_compressed(file, x_{split}=images, y_{split}=labels)."
            )
        images, labels = archive[f"x_{split}"], archive[f"y_{split}"]
    return _pair(images, labels, path)


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a user's own npy or npz file, without pickled objects.

    Returns
    -------
    dict of ndarray
        By name; the array of an npy file is called X.

    Raises
    ------
    InvalidInputError
        The file is damaged or of another kind, or holds Python objects.
    DataNotFoundError
        The file does not exist.
    """
    path = Path(path)
    # It may be the only copy: nothing here tells anyone to delete it.
    with _naming(path, "a file of numpy", "write it again with numpy.save"), path.open("rb") as file:
        if not file.read(len(_NPY_MAGIC)).startswith((_NPY_MAGIC, _ZIP_MAGIC)):
            raise InvalidInputError(
                f"{path} holds no arrays of numpy: samples are read from .npy, .npz, .csv, .tsv, .txt and .parquet."
            )
        file.seek(0)
        try:
            found = np.load(file, allow_pickle=False)
            arrays = {"X": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            # numpy's own message tells how to load them, which would run whatever the file says.
            raise InvalidInputError(
                f"{path} holds Python objects, not numbers; save numbers alone (labels may be texts, y.astype(str))."
            ) from None
    if not arrays:
        raise InvalidInputError(f"{path} holds no array.")
    return arrays


def read_cifar10(path: str | Path, split: Split = "train") -> tuple[Images, Labels]:
    """Read one part of CIFAR-10 from its Python pickles.

    Parameters
    ----------
    path : path
        The folder with the files ``data_batch_1`` ... ``data_batch_5`` and ``test_batch``, or the archive
        ``cifar-10-python.tar.gz``, which is read without being unpacked.
    split : {"train", "test"}
        Which part.

    Returns
    -------
    images : ndarray of uint8, shape (N, 32, 32, 3)
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    InvalidInputError
        A file is damaged or missing, or a pickle asks for anything but a numpy array and builtin containers.
    DataNotFoundError
        The folder or archive does not exist.

    Notes
    -----
    A pickle can run any code when it is opened; these are opened by an unpickler that refuses all but what
    arrays, lists, dictionaries and strings need. The format is described at
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    path = Path(path)
    choice(split, "split", SPLITS)
    names = CIFAR10_BATCHES[split]
    contents = _files(path, names) if path.is_dir() else _members(path, names)
    missing = [name for name in names if name not in contents]
    if missing:
        raise InvalidInputError(f"{path} lacks {', '.join(missing)} of the CIFAR-10 {split} set; get it again, whole.")
    batches = [_cifar_batch(contents[name], path / name) for name in names]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def read_svhn(path: str | Path, md5: str) -> tuple[Images, Labels]:
    """Read a MATLAB file of the cropped digits of SVHN.

    Parameters
    ----------
    path : path
        ``train_32x32.mat`` or ``test_32x32.mat``, with X (32, 32, 3, N) and y (N, 1) in 1..10.
    md5 : str
        The MD5 sum of the published file: scipy's reader brings the process down with it on some damaged files.

    Returns
    -------
    images : ndarray of uint8, shape (N, 32, 32, 3)
    labels : ndarray of int64, shape (N,)
        The digits; the file's label 10 is the digit 0.

    Raises
    ------
    InvalidInputError
        The file is not the published one.
    DataNotFoundError
        The file does not exist.

    Notes
    -----
    The format is described at http://ufldl.stanford.edu/housenumbers/.
    """
    path = Path(path)
    with _naming(path, "a MATLAB file"):
        content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise InvalidInputError(
            f"{path} is not the published file (its MD5 sum is {found}, not {md5}): delete it and get it again, or "
            "save images and labels of your own as svhn.npz."
        )
    from scipy.io import loadmat

    stored = loadmat(BytesIO(content), variable_names=("X", "y"))
    return _pair(np.ascontiguousarray(stored["X"].transpose(3, 0, 1, 2)), stored["y"] % 10, path)


@contextmanager
def _naming(path: Path, kind: str, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into one error that names the file."""
    try:
        yield
    except RmtdeqError:
        raise
    except MemoryError as error:
        raise InvalidInputError(f"{path} announces more than fits into memory; {remedy}.") from error
    except FileNotFoundError as error:
        raise DataNotFoundError(f"{path} does not exist; correct the path or put the file there.") from error
    except Exception as error:  # zip, zlib and pickle decoders raise almost every kind there is
        raise InvalidInputError(
            f"{path} cannot be read as {kind} ({type(error).__name__}: {error}); {remedy}."
        ) from error


def _pair(images: NDArray[Any], labels: NDArray[Any], path: Path) -> tuple[Images, Labels]:
    """Return images and labels if they are what a reader promises."""
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise InvalidInputError(
            f"{path} must hold uint8 images of shape (N, h, w) or (N, h, w, 3), not {images.dtype} of shape "
            f"{images.shape}."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InvalidInputError(
            f"{path} must come with integer labels of shape (N,), not {labels.dtype} of shape {labels.shape}."
        )
    if images.size == 0 or len(images) != len(labels):
        raise InvalidInputError(
            f"{path} holds {len(images)} images of shape {images.shape[1:]} for {len(labels)} labels; {_REMEDY}."
        )
    return images, labels.astype(np.int64)


def _files(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the contents of those of the named files that a folder holds."""
    with _naming(path, "a folder of CIFAR-10 pickles"):
        return {name: (path / name).read_bytes() for name in names if (path / name).is_file()}


def _members(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the contents of the named files in a .tar.gz."""
    contents: dict[str, bytes] = {}
    # A stream is decompressed once; asking for members by name would go over the archive again for each.
    with _naming(path, "a .tar.gz archive"), tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            file = archive.extractfile(member) if name in names else None
            if file is not None:
                contents[name] = file.read()
            if len(contents) == len(names):
                break
    return contents


def _cifar_batch(content: bytes, path: Path) -> tuple[Images, Labels]:
    """Return images and labels of one pickle."""
    with _naming(path, "a CIFAR-10 pickle"):
        # Python 2 wrote the original files, with byte strings for keys; later copies have text.
        stored = _ArrayUnpickler(BytesIO(content), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in stored.items()}
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    if pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise InvalidInputError(f"{path} must hold data of shape (N, 3072), not {pixels.shape}; {_REMEDY}.")
    # A row holds the red, the green and the blue plane, one after the other.
    return _pair(np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels, path)


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler for numpy arrays in builtin containers: any other global is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = _admitted_globals()
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no CIFAR-10 file needs and which may run foreign code"
            )
        return admitted[module, name]


def _admitted_globals() -> dict[tuple[str, str], Any]:
    """Return what a pickled array may name."""
    # The functions that rebuild an array moved between numpy's versions; an array at hand names today's.
    array = np.empty(1, np.uint8)
    reconstruct, from_buffer = array.__reduce__()[0], array.__reduce_ex__(5)[0]
    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
        ("numpy._core.numeric", "_frombuffer"): from_buffer,
        ("_codecs", "encode"): _encode,
    }


def _encode(text: str, encoding: str | bytes) -> bytes:
    """Stand in for `_codecs.encode`, with the one codec that Python 3 names to write bytes in old protocols."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}, which no CIFAR-10 file needs")
    return text.encode("latin1")
