"""Training classifiers with positive concave equilibrium layers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rmtdeq
from rmtdeq import _check
from rmtdeq._errors import InvalidInputError
from rmtdeq._files import write_whole
from rmtdeq._optional import require
from rmtdeq._types import FloatArray, IntArray
from rmtdeq.cli.options import record_of, save

if TYPE_CHECKING:
    from torch import nn

_HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class Images:
    """Images (n, channels, height, width), each channel of mean 0 and variance 1 in the training set, and labels."""

    name: str
    X: FloatArray
    y: IntArray
    test: tuple[FloatArray, IntArray]
    classes: int


def train(options: argparse.Namespace) -> int:
    """Train one classifier, and show its certificate."""
    if options.save:
        _writable(options.save)
    data = images_of(options)
    torch = require("torch")
    model = network_of(options, data.X.shape[1:], data.classes)
    settings = {
        "epochs": options.epochs,
        "batch": options.batch,
        "rate": options.rate,
        "weight_decay": options.weight_decay,
        "milestones": options.milestones,
        "precision": options.precision,
        "augment": options.augment,
    }
    run = rmtdeq.train_classifier(
        model,
        data.X,
        data.y,
        test=data.test if len(data.test[1]) else None,
        seed=options.seed,
        checkpoint=options.checkpoint,
        **{name: value for name, value in settings.items() if value is not None},
    )
    print(run.summary())
    for layer in _layers(model):
        print(f"layer           {layer.extra_repr()}")
    if options.save:
        state = model.state_dict()
        print(f"wrote {write_whole(Path(options.save), lambda beside: torch.save(state, beside))}")
    if options.out:
        from rmtdeq.plots import classification_figure

        figure = classification_figure([run], f"{options.model}, {data.name}, n = {len(data.y)}")
        save(figure, options, record_of("train", options, numbers(run)))
    return 0


def numbers(run: rmtdeq.ClassificationRun) -> dict[str, Any]:
    """Return what a manifest keeps of a run."""
    return {
        "model": run.model,
        "parameters": run.parameters,
        "loss": run.loss,
        "accuracy": run.accuracy,
        "test accuracy": run.test_accuracy,
        "seconds an epoch": run.seconds,
        "iterations": dict(zip(run.layers, run.iterations.T, strict=True)),
        "adjoint iterations": dict(zip(run.layers, run.adjoint_iterations.T, strict=True)),
    }


def _layers(model: nn.Module) -> list[Any]:
    from rmtdeq.models.pcdeq import PcDEQ

    return [each for each in model.modules() if isinstance(each, PcDEQ)]


def _writable(path: str) -> None:
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"--save {path} cannot be written: {error}.") from error
    if Path(path).is_dir():
        raise InvalidInputError(f"--save {path} is a folder; name a file.")


def _linear(image: tuple[int, int, int], channels: list[int] | None, **others: Any) -> nn.Module:
    from rmtdeq.models.pcdeq import linear_network

    return linear_network(int(np.prod(image)), 80 if channels is None else _one(channels), **others)


def _conv(image: tuple[int, int, int], channels: list[int] | None, **others: Any) -> nn.Module:
    from rmtdeq.models.pcdeq import conv_network

    return conv_network(image, None if channels is None else _one(channels), **others)


def _three_blocks(image: tuple[int, int, int], channels: list[int] | None, **others: Any) -> nn.Module:
    from rmtdeq.models.pcdeq import three_block_network

    return three_block_network(image, channels, **others)


def _one(channels: list[int]) -> int:
    if len(channels) != 1:
        raise InvalidInputError(f"--channels takes one number for this network, not {len(channels)}.")
    return channels[0]


NETWORKS: dict[str, Callable[..., Any]] = {
    "pcdeq-linear": _linear,
    "pcdeq-conv": _conv,
    "pcdeq-three-blocks": _three_blocks,
}


def network_of(options: argparse.Namespace, image: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network of the options."""
    require("torch")
    from dataclasses import replace

    from rmtdeq.models.pcdeq import SOLVER
    from rmtdeq.models.weights import place

    layer: dict[str, Any] = {"solver": SOLVER}
    if options.tolerance is not None:
        layer["solver"] = replace(SOLVER, tolerance=options.tolerance)
    if options.activation is not None:
        layer["activation"] = options.activation
    if options.positivity is not None:
        layer["positivity"] = options.positivity
    model = NETWORKS[options.model](image, options.channels, classes=classes, seed=options.seed, **layer)
    return place(model, options.device, "float32")


def images_of(options: argparse.Namespace) -> Images:
    """Load the images of the options; a fifth is held out where the data set has no test images."""
    name = options.dataset or "digits"
    if name not in rmtdeq.dataset_names():
        raise InvalidInputError(f"--dataset must be one of {', '.join(rmtdeq.dataset_names())}, not {name!r}.")
    from rmtdeq.data.catalog import DATASETS

    shape, sizes = DATASETS[name].shape, DATASETS[name].sizes
    given = {
        "classes": options.classes,
        "seed": _check.integer(options.seed, "--seed", low=0),
        "data_dir": options.data_dir,
    }
    wanted = None if options.test is None else _check.integer(options.test, "--test", low=0)
    if "test" in sizes:
        train = rmtdeq.load_dataset(name, n=options.n, raw=True, **given)
        test = rmtdeq.load_dataset(name, n=wanted or None, raw=True, split="test", **given)
        if wanted == 0:
            test = (test[0][:0], test[1][:0])
    else:
        pixels, labels = rmtdeq.load_dataset(name, raw=True, **given)
        order = np.random.default_rng(options.seed).permutation(len(labels))
        held = int(_HELD_OUT * len(labels)) if wanted is None else wanted
        rest = len(labels) - held if options.n is None else _check.integer(options.n, "--n")
        if rest < 1 or held + rest > len(labels):
            raise InvalidInputError(f"{name} has {len(labels)} images; --n and --test cannot be {rest} and {held}.")
        train = (pixels[order[held : held + rest]], labels[order[held : held + rest]])
        test = (pixels[order[:held]], labels[order[:held]])
    X, mean, spread = _standardised(train[0], shape)
    T, _, _ = _standardised(test[0], shape, mean, spread)
    return Images(name, X, train[1], (T, test[1]), int(max(train[1].max(), test[1].max(initial=0))) + 1)


def _standardised(
    pixels: Any, shape: tuple[int, ...], mean: FloatArray | None = None, spread: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return images (n, channels, height, width) with the channels' mean taken off and divided by their spread."""
    channels = shape[2] if len(shape) == 3 else 1
    images = pixels.reshape(len(pixels), shape[0], shape[1], channels).transpose(0, 3, 1, 2).astype(np.float32)
    if mean is None or spread is None:
        mean = images.mean(axis=(0, 2, 3), dtype=np.float64)
        spread = np.maximum(images.std(axis=(0, 2, 3), dtype=np.float64), 1e-12)
    images -= mean.astype(np.float32)[:, None, None]
    images /= spread.astype(np.float32)[:, None, None]
    return images, mean, spread
