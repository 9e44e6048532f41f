"""Images and labels as a classifier takes them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.data.catalog import DATASETS
from rmtdeq.data.datasets import load_dataset

Part: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]

_HELD_OUT = 0.2


def load_classification(
    name: str,
    *,
    classes: Iterable[int | str] | None = None,
    n: int | None = None,
    test: int | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64], Part]:
    """Return training and test images, standardised channel by channel.

    Parameters
    ----------
    name, classes, data_dir
        As for `load_dataset`.
    n : int, optional
        Training images; default: all.
    test : int, optional
        Test images; default: all.  Of a data set without a test part a random fifth, unless told otherwise, is held
        out.
    seed : int
        Of the draw.

    Returns
    -------
    X : ndarray of float32, shape (n, channels, height, width)
        Each channel has mean 0 and variance 1 over the training images.
    y : ndarray of int64, shape (n,)
        Labels 0 … K-1.
    test : (ndarray, ndarray)
        The same of the test images, with the transform of the training images; empty if `test` is 0.

    Raises
    ------
    InvalidInputError, DataNotFoundError, MemoryLimitError
        As `load_dataset` does.

    Examples
    --------
    >>> from rmtdeq.data import load_classification
    >>> X, y, (X_test, y_test) = load_classification("digits")
    >>> X.shape, X_test.shape
    ((1438, 1, 8, 8), (359, 1, 8, 8))
    """
    check.choice(name, "name", DATASETS)
    shape, sizes = DATASETS[name].shape, DATASETS[name].sizes
    wanted = None if test is None else check.integer(test, "test", low=0)
    seed = check.integer(seed, "seed", low=0)
    # Used twice; what is no sequence of labels is refused by load_dataset.
    labels_wanted = tuple(classes) if np.iterable(classes) and not isinstance(classes, (str, bytes)) else classes
    if "test" in sizes:
        pixels, y = load_dataset(name, classes=labels_wanted, n=n, seed=seed, data_dir=data_dir, raw=True)
        held, y_held = load_dataset(
            name, classes=labels_wanted, n=wanted or None, split="test", seed=seed, data_dir=data_dir, raw=True
        )
        if wanted == 0:
            held, y_held = held[:0], y_held[:0]
    else:
        everything, labels = load_dataset(name, classes=labels_wanted, data_dir=data_dir, raw=True)
        order = np.random.default_rng(seed).permutation(len(labels))
        kept_back = int(_HELD_OUT * len(labels)) if wanted is None else wanted
        count = len(labels) - kept_back if n is None else check.integer(n, "n")
        if count < 1 or kept_back + count > len(labels):
            raise InvalidInputError(
                f"{name} has {len(labels)} images of these classes: {count} to train with and {kept_back} to test with "
                "are too many, or leave none."
            )
        back, rest = order[:kept_back], order[kept_back : kept_back + count]
        (held, y_held), (pixels, y) = (everything[back], labels[back]), (everything[rest], labels[rest])
    channels = shape[2] if len(shape) == 3 else 1
    check.memory(8 * (pixels.size + held.size), None, "The images", "ask for fewer with n")
    X, X_held = (
        each.reshape(len(each), *shape[:2], channels).transpose(0, 3, 1, 2).astype(np.float32)
        for each in (pixels, held)
    )
    mean = X.mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)[0]
    spread = X.std(axis=(0, 2, 3), dtype=np.float64, keepdims=True)[0]
    # A channel that is the same everywhere says nothing, and stays zero.
    scale = np.divide(1.0, spread, out=np.ones_like(spread), where=spread > 0).astype(np.float32)
    for images in (X, X_held):
        images -= mean.astype(np.float32)
        images *= scale
    return X, y, (X_held, y_held)
