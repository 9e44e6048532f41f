"""Image data sets as data matrices: found on this machine or downloaded, centred, of mean squared norm 1."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from rmtdeq._lib import check
from rmtdeq._lib.errors import DataNotFoundError, InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import Seed
from rmtdeq.data import formats
from rmtdeq.data.catalog import DATASETS, DataFile, Dataset
from rmtdeq.data.download import fetch
from rmtdeq.data.formats import Images, Labels, Split
from rmtdeq.data.openml import from_openml, is_openml
from rmtdeq.data.scaling import center_and_scale
from rmtdeq.data.shares import drawn

__all__ = ["DATASETS", "DataFile", "Dataset", "cache_folder", "dataset_names", "load_dataset", "load_images"]

_ENVIRONMENT = "RMTDEQ_DATA"


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(DATASETS)


def class_names(name: str) -> tuple[str, ...]:
    """Return what the classes of a data set are called, in the order of their labels.

    Raises
    ------
    InvalidInputError
        There is no such data set.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> rd.class_names("fashion-sample")
    ('sandal', 'sneaker')
    """
    meanings = _dataset(name, "train").classes
    return tuple(meanings[label] for label in sorted(meanings))


def cache_folder() -> Path:
    """Return the folder that downloads are kept in; it need not exist.

    Returns
    -------
    Path
        ``rmtdeq`` within ``$XDG_CACHE_HOME`` or ``~/.cache``; on Windows within ``%LOCALAPPDATA%``.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
        usual = Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        usual = Path.home() / ".cache"
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else usual) / "rmtdeq"


@overload
def load_dataset(
    name: str,
    *,
    classes: Iterable[int | str] | None = ...,
    n: int | None = ...,
    split: Split = ...,
    seed: Seed = ...,
    data_dir: str | os.PathLike[str] | None = ...,
    download: bool = ...,
    raw: Literal[False] = ...,
    shuffle: bool = ...,
) -> tuple[NDArray[np.float64], Labels]: ...


@overload
def load_dataset(
    name: str,
    *,
    classes: Iterable[int | str] | None = ...,
    n: int | None = ...,
    split: Split = ...,
    seed: Seed = ...,
    data_dir: str | os.PathLike[str] | None = ...,
    download: bool = ...,
    raw: Literal[True],
    shuffle: bool = ...,
) -> tuple[NDArray[np.uint8], Labels]: ...


@Stage("reading images")
def load_dataset(
    name: str,
    *,
    classes: Iterable[int | str] | None = None,
    n: int | None = None,
    split: Split = "train",
    seed: Seed = 0,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    raw: bool = False,
    shuffle: bool = False,
) -> tuple[NDArray[Any], Labels]:
    """Return images of chosen classes as a data matrix, centred and of mean squared norm 1.

    Parameters
    ----------
    name : str
        One of `dataset_names`. ``"fashion-sample"`` and ``"digits"`` come with the package. ``"openml:NAME"``, or
        ``"openml:NAME@VERSION"``: a table of OpenML with labels, through scikit-learn, in whose features' own units.
    classes : iterable of int or str, optional
        The classes wanted, as the data set numbers or names them: ``(3, 5)``, ``("cat", "dog")``; default: all, sorted.
    n : int, optional
        How many images, drawn without replacement, from each class in proportion to its size (rounded so that they
        sum to n; with few images a class may get none); default: all of these classes.
    split : {"train", "test"}
        Which part of the data set.
    seed : int, Generator or None
        Seed of the draw.
    data_dir : path, optional
        A folder to search first; not for those that come with the package, which are read from there.
    download : bool
        Whether to download what is not found.
    raw : bool
        Return the pixels as they are stored instead.
    shuffle : bool
        Mix the classes; by default the rows come class after class.

    Returns
    -------
    X : ndarray, shape (n, p)
        One flattened image a row (row by row, and for colours red, green, blue of each pixel in turn): float64, or
        uint8 with `raw`. The rows are in the order of the classes, shuffled within each by the seed, unless `shuffle`.
    y : ndarray of int64, shape (n,)
        Labels 0..K-1, in the order of `classes`.

    Raises
    ------
    InvalidInputError
        An argument makes no sense, there are fewer than n images, or a file is damaged.
    DataNotFoundError
        The data set is not on this machine and cannot be downloaded.
    MemoryLimitError
        The matrix does not fit into memory.

    Notes
    -----
    The transform is x -> s (x - m), with m the mean of all images of the chosen classes in this split and s such that
    the mean over the same images of the squared norm of the result is 1; whether pixels run to 255 or to 1 makes no
    difference. It does not depend on n or the seed: every draw is a part of the same matrix, which n=None returns
    whole. Each split has its own m and s; for one transform of both, take `raw` pixels.

    Files are looked for in `data_dir`, in the folder named by the environment variable RMTDEQ_DATA, and in
    `cache_folder`, in each first in the sub-folder called `name`, then in the folder itself: ``name.npz`` with x_train,
    y_train, x_test, y_test, or the original files, gzipped or not. Downloads come from the
    addresses in `DATASETS`, which also gives licences and citations; they are verified and go to the cache.

    Examples
    --------
    >>> from rmtdeq.data import load_dataset
    >>> X, y = load_dataset("fashion-sample", n=1000)
    >>> X.shape
    (1000, 784)
    """
    if is_openml(name):
        return _of_openml(name, classes, n, split, seed, data_dir, raw, shuffle)
    dataset = _dataset(name, split)
    wanted = tuple(sorted(dataset.classes)) if classes is None else class_labels(name, classes)
    if n is not None:
        n = check.integer(n, "n", low=1)
        _enough(n, dataset.sizes[split], f"the {split} set of {name}")
    rng = check.generator(seed)
    raw, download = check.flag(raw, "raw"), check.flag(download, "download")
    images, labels = load_images(name, split=split, data_dir=data_dir, download=download)
    members = [np.flatnonzero(labels == label) for label in wanted]
    absent = [label for label, rows in zip(wanted, members, strict=True) if not rows.size]
    if absent:
        raise InvalidInputError(
            f"The {split} set of {name} on this machine holds no images of class {_listed(absent)}; name the classes "
            f"wanted, among {_listed(np.unique(labels))}, in classes."
        )
    available = sum(rows.size for rows in members)
    if n is None:
        n = available
    _enough(n, available, f"the {split} set of {name} in class {_listed(wanted)}")
    rows, sizes = drawn(n, members, rng)
    y = np.repeat(np.arange(len(wanted), dtype=np.int64), sizes)
    if check.flag(shuffle, "shuffle"):
        order = rng.permutation(n)
        rows, y = rows[order], y[order]
    pixels = images.reshape(len(images), -1)
    if raw:
        return pixels[rows], y
    check.memory(8 * n * pixels.shape[1], None, f"A matrix of {n} images", "ask for fewer with n")
    mean, scale = _mean_and_scale(pixels, np.concatenate(members), name)
    X = pixels[rows].astype(np.float64)
    X -= mean
    X *= scale
    return X, y


def _of_openml(
    name: str,
    classes: Iterable[int | str] | None,
    n: int | None,
    split: str,
    seed: Seed,
    data_dir: str | os.PathLike[str] | None,
    raw: bool,
    shuffle: bool,
) -> tuple[NDArray[Any], Labels]:
    """Return samples of a table of OpenML, drawn and scaled as images are."""
    if check.choice(split, "split", formats.SPLITS) != "train":
        raise InvalidInputError(f"{name} is one table; take split='train' and divide it.")
    rng = check.generator(seed)
    raw, shuffle = check.flag(raw, "raw"), check.flag(shuffle, "shuffle")
    table = from_openml(name, data_dir)
    if classes is not None:
        if isinstance(classes, (str, bytes)):
            raise InvalidInputError(f"classes must be a sequence such as (3, 8), not {classes!r}.")
        table = table.of_classes(tuple(classes))
    count = len(table.X) if n is None else check.integer(n, "n", low=1)
    if count > len(table.X):
        raise InvalidInputError(f"n={count} samples are more than the {len(table.X)} of {name}; ask for fewer.")
    rows, _ = drawn(count, [np.flatnonzero(table.y == a) for a in range(len(table.class_names))], rng)
    if shuffle:
        rows = rng.permutation(rows)
    X = table.X if raw else center_and_scale(table.X)
    return X[rows], table.y[rows].astype(np.int64)


def load_images(
    name: str,
    *,
    split: Split = "train",
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> tuple[Images, Labels]:
    """Return one part of a data set as it is stored.

    Parameters
    ----------
    name, split, data_dir, download
        As for `load_dataset`.

    Returns
    -------
    images : ndarray of uint8, shape (N, h, w) or (N, h, w, 3)
    labels : ndarray of int64, shape (N,)
        The original labels.

    Raises
    ------
    InvalidInputError
        An argument makes no sense, or a file is damaged.
    DataNotFoundError
        The data set is not on this machine and cannot be downloaded.
    """
    dataset = _dataset(name, split)
    if dataset.format == "bundled":
        resource = resources.files("rmtdeq.data").joinpath(f"{name.replace('-', '_')}.npz")
        with resources.as_file(resource) as path:
            images, labels = formats.read_npz(path, split)
    else:
        paths = _on_this_machine(dataset, split, data_dir)
        if paths is None and not download:
            raise DataNotFoundError(f"{_where_to_put(dataset, split)}, or let download=True get it.")
        paths = paths or _downloaded(dataset, split)
        path = paths[0]
        images, labels = _read(dataset, split, paths)
    if images.shape[1:] != dataset.shape:
        raise InvalidInputError(
            f"{path} holds images of shape {images.shape[1:]}, those of {name} are {dataset.shape}; "
            "give the file another name, or put the right one in its place."
        )
    foreign = sorted(set(np.unique(labels).tolist()) - set(dataset.classes))
    if foreign:
        raise InvalidInputError(
            f"{path} holds the labels {_listed(foreign)}, those of {name} are {_listed(dataset.classes)}; "
            "give the file another name, or put the right one in its place."
        )
    return images, labels


def _dataset(name: str, split: str) -> Dataset:
    """Return the description of a data set that has this split."""
    dataset = DATASETS[check.choice(name, "name", DATASETS)]
    check.choice(split, "split", formats.SPLITS)
    if split not in dataset.sizes:
        raise InvalidInputError(f"{name} has no {split} set; take split={next(iter(dataset.sizes))!r} and divide it.")
    return dataset


def class_labels(name: str, classes: Iterable[int | str]) -> tuple[int, ...]:
    """Return the labels of classes of a data set that are named by number or by name.

    Raises
    ------
    InvalidInputError
        No such data set or class, none, or one twice.
    """
    dataset = _dataset(name, "train")
    if not np.iterable(classes) or isinstance(classes, (str, bytes)):
        raise InvalidInputError(f"classes must be a sequence such as (3, 8), not {classes!r}.")
    known = ", ".join(
        str(label) if meaning == str(label) else f"{label} ({meaning})" for label, meaning in dataset.classes.items()
    )
    by_name = {meaning.lower(): label for label, meaning in dataset.classes.items()}

    def label_of(given: int | str) -> int:
        if isinstance(given, str):
            if given.lower() not in by_name:
                several = "," in given and all(each.strip().lower() in by_name for each in given.split(","))
                meant = " (name them apart, without a comma)" if several else check.suggestion(given, by_name)
                raise InvalidInputError(f"{dataset.name} has no class {given!r}{meant}; its classes are {known}.")
            return by_name[given.lower()]
        return check.integer(given, "a label in classes", low=0)

    wanted = tuple(label_of(given) for given in classes)
    unknown = [label for label in wanted if label not in dataset.classes]
    if unknown:
        raise InvalidInputError(f"{dataset.name} has no class {_listed(unknown)}; its classes are {known}.")
    if not wanted:
        raise InvalidInputError(f"classes is empty; the classes of {dataset.name} are {known}.")
    if len(set(wanted)) != len(wanted):
        raise InvalidInputError(f"classes names a label twice: {_listed(wanted)}.")
    return wanted


def _enough(n: int, available: int, what: str) -> None:
    if n > available:
        raise InvalidInputError(f"n={n} images are more than the {available} of {what}; ask for at most {available}.")


def _listed(labels: Iterable[Any]) -> str:
    return ", ".join(str(label) for label in labels)


def _mean_and_scale(pixels: Images, rows: NDArray[np.intp], name: str) -> tuple[NDArray[np.float64], float]:
    """Return the mean of the rows, and the factor that brings the mean squared distance from it to 1."""
    # Sums of bytes in whole numbers are exact, so nothing cancels, and no float copy of all images is needed.
    first = np.zeros(pixels.shape[1], np.int64)
    second = 0
    for start in range(0, rows.size, 1024):
        block = pixels[rows[start : start + 1024]].astype(np.int64)
        first += block.sum(axis=0)
        second += int(np.square(block).sum())
    spread = rows.size * second - sum(total * total for total in first.tolist())
    if spread == 0:
        raise InvalidInputError(
            f"The chosen images of {name} are all the same, so they cannot be scaled; use raw=True."
        )
    return first / rows.size, rows.size / math.sqrt(spread)


def _on_this_machine(
    dataset: Dataset, split: Split, data_dir: str | os.PathLike[str] | None
) -> tuple[Path, ...] | None:
    """Return the first complete set of files, in the order of the look-up."""
    named = [("data_dir", data_dir), (f"The environment variable {_ENVIRONMENT}", os.environ.get(_ENVIRONMENT) or None)]
    for source, value in named:
        if value is None:
            continue
        if not isinstance(value, (str, os.PathLike)):
            raise InvalidInputError(f"{source} must be the path of a folder, not {value!r}.")
        folder = Path(value).expanduser()
        if not folder.is_dir():
            raise DataNotFoundError(f"{source} names {folder}, which is not a folder; make it or correct the path.")
        paths = _in_folder(dataset, split, folder)
        if paths is not None:
            return paths
    return _in_folder(dataset, split, cache_folder())


def _in_folder(dataset: Dataset, split: Split, folder: Path) -> tuple[Path, ...] | None:
    """Return the files of one split if the folder, or its sub-folder named as the data set, holds them all."""
    for base in (folder / dataset.name, folder):
        for paths in _possible_files(dataset, split, base):
            if all(_is_there(path, split) for path in paths) and not _belongs_to_another(dataset, paths):
                return paths
    return None


def _possible_files(dataset: Dataset, split: Split, base: Path) -> tuple[tuple[Path, ...], ...]:
    """Return the sets of files any one of which makes up the split, the preferred first."""
    originals = tuple(base / file.name for file in dataset.files if split in file.splits)
    packed: tuple[tuple[Path, ...], ...] = ((base / f"{dataset.name}.npz",),)
    if dataset.format == "idx":
        plain = (path.with_suffix("") for path in originals)
        either = tuple(p if p.is_file() else z for p, z in zip(plain, originals, strict=True))
        return (*packed, either)
    if dataset.format == "cifar10":
        return (*packed, (base / "cifar-10-batches-py",), (base,), originals)
    return (*packed, originals)


def _is_there(path: Path, split: Split) -> bool:
    """Say whether a path is a file, or a folder with the pickles of CIFAR-10."""
    return path.is_file() or (path.is_dir() and all((path / name).is_file() for name in formats.CIFAR10_BATCHES[split]))


def _belongs_to_another(dataset: Dataset, paths: tuple[Path, ...]) -> bool:
    """Say whether these files are those of another data set, as MNIST and Fashion-MNIST call theirs the same."""
    if dataset.format != "idx" or len(paths) != 2:
        return False
    labels = hashlib.md5(formats.uncompressed(paths[1]), usedforsecurity=False).hexdigest()
    others = (file for other in DATASETS.values() if other is not dataset for file in other.files)
    return any(labels == file.md5_uncompressed for file in others)


def _downloaded(dataset: Dataset, split: Split) -> tuple[Path, ...]:
    """Download the files of one split to the cache, but for those already there."""
    folder = cache_folder() / dataset.name
    paths = []
    for file in dataset.files:
        if split in file.splits:
            path = folder / file.name
            try:
                paths.append(path if path.is_file() else fetch(file.url, path, file.md5))
            except DataNotFoundError as error:
                raise DataNotFoundError(f"{_where_to_put(dataset, split)}. Its download failed: {error}") from error
    return tuple(paths)


def _read(dataset: Dataset, split: Split, paths: tuple[Path, ...]) -> tuple[Images, Labels]:
    """Read the files that the look-up or the download gave."""
    if paths[0].suffix == ".npz":
        return formats.read_npz(paths[0], split)
    if dataset.format == "idx":
        return formats.read_idx(*paths)
    if dataset.format == "cifar10":
        return formats.read_cifar10(paths[0], split)
    return formats.read_svhn(paths[0], *(file.md5 for file in dataset.files if split in file.splits))


def _where_to_put(dataset: Dataset, split: Split) -> str:
    """Say which files are missing, where they go, and where they come from."""
    needed = " and ".join(file.url for file in dataset.files if split in file.splits)
    value = os.environ.get(_ENVIRONMENT)
    place = f"{_ENVIRONMENT}={value}" if value else f"a folder that {_ENVIRONMENT} names (not set now)"
    return (
        f"The {split} set of {dataset.name} is not on this machine: put {needed}, or {dataset.name}.npz, into {place}"
    )
