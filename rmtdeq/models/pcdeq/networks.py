"""The paper's classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.models.pcdeq.layers import PcDEQConv2d, PcDEQLinear
from rmtdeq.models.weights import seeded

_POOL = 8


def linear_network(
    in_features: int = 784, width: int = 80, classes: int = 10, seed: Seed = None, **layer: Any
) -> nn.Sequential:
    """Return the classifier linear – normalisation – `PcDEQLinear` – normalisation – linear.

    Parameters
    ----------
    in_features : int
        Entries of an input, (N, …), which is flattened.
    width, classes : int
    seed : int, Generator or None
        Of all weights.
    **layer
        Of the equilibrium layer, such as activation, positivity and solver.

    Returns
    -------
    torch.nn.Sequential
        With 784 inputs and width 80, 70,410 parameters.
    """
    p, m, k = (check.integer(value, name) for value, name in _named(in_features, width, classes))
    rng = check.generator(seed)
    with seeded(rng):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(p, m),
            nn.BatchNorm1d(m),
            PcDEQLinear(m, seed=rng, **layer),
            nn.BatchNorm1d(m),
            nn.Linear(m, k),
        )


def conv_network(
    image: tuple[int, int, int] = (1, 28, 28),
    channels: int | None = None,
    classes: int = 10,
    seed: Seed = None,
    **layer: Any,
) -> nn.Sequential:
    """Return the classifier convolution – normalisation – `PcDEQConv2d` – normalisation – mean over 8 × 8 – linear.

    Parameters
    ----------
    image : (int, int, int)
        Channels, height and width of the inputs (N, …); at least 8 × 8.
    channels : int, optional
        Of the equilibrium layer: 82 for grey images and 125 for coloured ones.
    classes, seed, **layer
        As for `linear_network`.

    Returns
    -------
    torch.nn.Sequential
        69,136 parameters for MNIST, 164,760 for SVHN and CIFAR-10.
    """
    colours, height, width = _image(image)
    m = (82 if colours == 1 else 125) if channels is None else check.integer(channels, "channels")
    if min(height, width) < _POOL:
        raise InvalidInputError(f"Images of conv_network have at least {_POOL} x {_POOL} pixels, not {image}.")
    rng = check.generator(seed)
    with seeded(rng):
        return nn.Sequential(
            *_block(colours, m, 1, rng, layer),
            nn.AvgPool2d(_POOL),
            nn.Flatten(),
            nn.Linear(m * (height // _POOL) * (width // _POOL), check.integer(classes, "classes")),
        )


def three_block_network(
    image: tuple[int, int, int] = (1, 28, 28),
    channels: Sequence[int] | None = None,
    classes: int = 10,
    seed: Seed = None,
    **layer: Any,
) -> nn.Sequential:
    """Return the classifier of three blocks convolution – normalisation – `PcDEQConv2d` – normalisation, and a linear.

    Parameters
    ----------
    image : (int, int, int)
        Channels, height and width of the inputs (N, …); each of the last two convolutions halves height and width.
    channels : sequence of three int, optional
        Of the blocks: (12, 24, 48) for grey images and (20, 50, 80) for coloured ones; the paper's larger network for
        augmented CIFAR-10 has (100, 120, 140).
    classes, seed, **layer
        As for `linear_network`.

    Returns
    -------
    torch.nn.Sequential
        41,278 parameters for MNIST, 130,950 for SVHN and CIFAR-10, 661,470 for the larger network.
    """
    colours = _image(image)[0]
    sizes = ((12, 24, 48) if colours == 1 else (20, 50, 80)) if channels is None else tuple(channels)
    if len(sizes) != 3:
        raise InvalidInputError(f"channels must be three numbers, one for each block, not {channels!r}.")
    a, b, c = (check.integer(size, "channels") for size in sizes)
    rng = check.generator(seed)
    with seeded(rng):
        return nn.Sequential(
            *_block(colours, a, 1, rng, layer),
            *_block(a, b, 2, rng, layer),
            *_block(b, c, 2, rng, layer),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(c, check.integer(classes, "classes")),
        )


def _block(before: int, channels: int, stride: int, seed: Seed, layer: dict[str, Any]) -> list[nn.Module]:
    return [
        nn.Conv2d(before, channels, 3, stride=stride, padding=1),
        nn.BatchNorm2d(channels),
        PcDEQConv2d(channels, seed=seed, **layer),
        nn.BatchNorm2d(channels),
    ]


def _image(image: tuple[int, int, int]) -> tuple[int, int, int]:
    if not isinstance(image, (tuple, list)) or len(image) != 3:
        raise InvalidInputError(f"image must be (channels, height, width), not {image!r}.")
    colours, height, width = (check.integer(size, "image") for size in image)
    return colours, height, width


def _named(in_features: int, width: int, classes: int) -> list[tuple[int, str]]:
    return [(in_features, "in_features"), (width, "width"), (classes, "classes")]
