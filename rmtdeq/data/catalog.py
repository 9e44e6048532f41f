"""The data sets that are known: their files, original addresses, checksums, licences and citations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from rmtdeq.data.formats import Split

Format: TypeAlias = Literal["idx", "cifar10", "svhn", "bundled"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, as its makers publish it.

    Attributes
    ----------
    name : str
        Its file name.
    url : str
        Where to download it.
    md5 : str
        The MD5 sum of the file as downloaded.
    splits : tuple of {"train", "test"}
        The parts of the data set that need it.
    md5_uncompressed : str or None
        The MD5 sum of what a gzipped file holds.
    """

    name: str
    url: str
    md5: str
    splits: tuple[Split, ...]
    md5_uncompressed: str | None = None


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set.

    Attributes
    ----------
    name : str
        The name that `load_dataset` takes.
    title : str
        Its full name.
    format : {"idx", "cifar10", "svhn", "bundled"}
        The format of its original files; a bundled one comes with the package.
    shape : tuple of int
        Shape of one image: (h, w) or (h, w, 3).
    classes : Mapping of int to str
        What each label means.
    sizes : Mapping of str to int
        How many images there are in "train" and, where there is such a part, "test".
    licence, citation : str
        On what terms it may be used, and whom to cite.
    files : tuple of DataFile
        The original files; empty for a bundled data set.
    """

    name: str
    title: str
    format: Format
    shape: tuple[int, ...]
    classes: Mapping[int, str]
    sizes: Mapping[Split, int]
    licence: str
    citation: str
    files: tuple[DataFile, ...] = ()


def _idx_files(base: str, sums: Mapping[str, tuple[str, str]]) -> tuple[DataFile, ...]:
    """Describe gzipped files of MNIST's kind, given for each the MD5 sums, gzipped and not."""
    return tuple(
        DataFile(f"{stem}.gz", f"{base}{stem}.gz", md5, ("train" if stem.startswith("train") else "test",), plain)
        for stem, (md5, plain) in sums.items()
    )


def _numbered(meanings: str) -> Mapping[int, str]:
    return MappingProxyType(dict(enumerate(meanings.split(", "))))


_DIGITS = _numbered("0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
_CLOTHES = _numbered("T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot")
_THINGS = _numbered("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck")
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_FASHION_LICENCE = "MIT, Copyright (c) 2017 Zalando SE"
_FASHION_CITATION = (
    "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
    "algorithms, arXiv:1708.07747 (2017)"
)

_ALL = (
    Dataset(
        name="mnist",
        title="MNIST handwritten digits",
        format="idx",
        shape=(28, 28),
        classes=_DIGITS,
        sizes=MappingProxyType({"train": 60_000, "test": 10_000}),
        licence="CC BY-SA 3.0",
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, "
            "Proceedings of the IEEE 86 (1998) 2278-2324"
        ),
        files=_idx_files(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",  # a mirror: yann.lecun.com turns programs away
            {
                "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
                "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
                "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
                "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
            },
        ),
    ),
    Dataset(
        name="fashion-mnist",
        title="Fashion-MNIST",
        format="idx",
        shape=(28, 28),
        classes=_CLOTHES,
        sizes=MappingProxyType({"train": 60_000, "test": 10_000}),
        licence=_FASHION_LICENCE,
        citation=_FASHION_CITATION,
        files=_idx_files(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            {
                "train-images-idx3-ubyte": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
                "train-labels-idx1-ubyte": ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
                "t10k-images-idx3-ubyte": ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
                "t10k-labels-idx1-ubyte": ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
            },
        ),
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        format="cifar10",
        shape=(32, 32, 3),
        classes=_THINGS,
        sizes=MappingProxyType({"train": 50_000, "test": 10_000}),
        licence="none stated; its maker asks for the citation",
        citation="A. Krizhevsky, Learning multiple layers of features from tiny images, technical report (2009)",
        files=(
            DataFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                ("train", "test"),
            ),
        ),
    ),
    Dataset(
        name="svhn",
        title="Street View House Numbers, cropped digits",
        format="svhn",
        shape=(32, 32, 3),
        classes=_DIGITS,
        sizes=MappingProxyType({"train": 73_257, "test": 26_032}),
        licence="for non-commercial use only",
        citation=(
            "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, Reading digits in natural images with "
            "unsupervised feature learning, NIPS workshop on deep learning and unsupervised feature learning (2011)"
        ),
        files=(
            DataFile("train_32x32.mat", f"{_SVHN}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", ("train",)),
            DataFile("test_32x32.mat", f"{_SVHN}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", ("test",)),
        ),
    ),
    Dataset(
        name="fashion-sample",
        title="Fashion-MNIST, the first 2000 sandals and the first 2000 sneakers",
        format="bundled",
        shape=(28, 28),
        classes=MappingProxyType({label: _CLOTHES[label] for label in (5, 7)}),
        sizes=MappingProxyType({"train": 4000}),
        licence=_FASHION_LICENCE,
        citation=_FASHION_CITATION,
    ),
    Dataset(
        name="digits",
        title="Optical recognition of handwritten digits (UCI), test set",
        format="bundled",
        shape=(8, 8),
        classes=_DIGITS,
        sizes=MappingProxyType({"train": 1797}),
        licence="CC BY 4.0",
        citation=(
            "E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository "
            "(1998), doi:10.24432/C50P49"
        ),
    ),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
"""The data sets that `load_dataset` knows, by name."""
