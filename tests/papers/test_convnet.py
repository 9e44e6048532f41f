"""The network whose features stand for images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rmtdeq.papers import Setting
from rmtdeq.papers.convnet import FEATURES, feature_network, image_features


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return image_features("digits", 1200, 300, 4, Setting(0, checkpoint=tmp_path_factory.mktemp("kept")))


def test_it_learns_digits(digits):
    assert digits.run.test_accuracy[-1] > 0.9
    assert digits.run.loss[-1] < 0.5 * digits.run.loss[0]


def test_features_separate_the_classes(digits):
    """The nearest mean of a class, in features, is right more often than not on images that were not trained on."""
    (X, y), (Z, z) = (digits.X, digits.y), digits.test
    assert X.shape == (1200, FEATURES)
    assert Z.shape == (300, FEATURES)
    assert (X >= 0).all()
    means = np.stack([X[y == a].mean(axis=0) for a in range(10)])
    nearest = np.linalg.norm(Z[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == z).mean() > 0.85


def test_a_checkpoint_gives_the_same_features(tmp_path):
    setting = Setting(1, checkpoint=tmp_path)
    first, again = (image_features("digits", 200, 50, 1, setting) for _ in range(2))
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.test[0], again.test[0])


@pytest.mark.parametrize("image", [(1, 28, 28), (3, 32, 32)])
def test_images_of_any_kind(image):
    network = feature_network(image, 10, seed=0)
    assert network[0](torch.zeros(2, *image)).shape == (2, FEATURES)
    assert network(torch.zeros(2, *image)).shape == (2, 10)
    same = feature_network(image, 10, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))
