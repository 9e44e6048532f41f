"""A small convolutional network, and the features that it makes of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rmtdeq as rd
from rmtdeq._lib.types import IntArray, Seed
from rmtdeq.models.weights import on_device, seeded
from rmtdeq.papers.setting import Setting

FEATURES = 256
_CHANNELS = (32, 64, 128)
_BATCH = 500
_MILESTONES = (0.6, 0.85)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of images, with labels, and how the network that makes them was trained.

    Attributes
    ----------
    X, y : ndarray (n, 256), (n,)
    test : (ndarray, ndarray)
    run : ClassificationRun
    """

    X: np.ndarray[Any, Any]
    y: IntArray
    test: tuple[np.ndarray[Any, Any], IntArray]
    run: rd.ClassificationRun


def feature_network(image: tuple[int, int, int], classes: int = 10, seed: Seed = None) -> nn.Sequential:
    """Return a classifier of three convolutions, 256 features and a linear layer.

    Parameters
    ----------
    image : (int, int, int)
        Channels, height and width.
    classes : int
    seed : int, Generator or None
        Of the weights.
    """
    rng = np.random.default_rng(seed)
    with seeded(rng):
        layers: list[nn.Module] = []
        before = image[0]
        for stride, channels in zip((1, 2, 2), _CHANNELS, strict=True):
            layers += [
                nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            before = channels
        body = [*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * before, FEATURES), nn.ReLU()]
        return nn.Sequential(nn.Sequential(*body), nn.Linear(FEATURES, classes))


def image_features(dataset: str, train: int, test: int, epochs: int, setting: Setting) -> ImageFeatures:
    """Train the network on a data set's images, and return its features of them.

    Parameters
    ----------
    dataset : str
    train, test : int
        Images to train and to test on; 0 tests on none.
    epochs : int
    setting : Setting
        With a checkpoint, the training goes on from there.
    """
    X, y, held = rd.load_classification(dataset, n=train, test=test, seed=setting.seed, data_dir=setting.data_dir)
    model = on_device(feature_network(X.shape[1:], int(y.max()) + 1, setting.seed), setting.device, "float32")
    run = rd.train_classifier(
        model,
        X,
        y,
        test=held if len(held[1]) else None,
        epochs=epochs,
        batch=128,
        step=2e-3,
        weight_decay=0.05,
        milestones=sorted({max(1, int(share * epochs)) for share in _MILESTONES}),
        augment=X.shape[1] == 3,
        seed=setting.seed,
        checkpoint=setting.folder("convnet"),
    )
    model.eval()
    return ImageFeatures(_features(model[0], X), y, (_features(model[0], held[0]), held[1]), run)


@torch.no_grad()
def _features(body: nn.Module, X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    like = next(body.parameters())
    parts: list[Tensor] = [body(rows.to(like)).cpu() for rows in torch.from_numpy(X).split(_BATCH)]
    return np.asarray(torch.cat(parts).numpy()) if parts else np.empty((0, FEATURES), np.float32)
