"""Small data sets under the names of large ones."""

from __future__ import annotations

import numpy as np
import pytest

from rmtdeq.data.datasets import load_images


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Return a folder in which the UCI digits, enlarged, stand for MNIST, Fashion-MNIST, CIFAR-10 and SVHN."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = load_images("digits")
    bytes_ = (images.astype(int) * 255 // images.max()).astype(np.uint8)
    for name, size, coloured in (("mnist", 28, 0), ("fashion-mnist", 28, 0), ("cifar10", 32, 1), ("svhn", 32, 1)):
        places = np.arange(size) * 8 // size
        large = bytes_[:, places][:, :, places]
        if coloured:
            large = np.stack([large, large[:, ::-1], 255 - large], axis=-1)
        parts = {"x_train": large[:1200], "y_train": labels[:1200], "x_test": large[1200:], "y_test": labels[1200:]}
        np.savez(folder / f"{name}.npz", **parts)
    return folder
