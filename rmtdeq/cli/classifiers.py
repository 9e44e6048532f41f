"""Training classifiers with positive concave equilibrium layers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rmtdeq
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.files import write_whole
from rmtdeq._lib.optional import require
from rmtdeq.cli.options import data_dir_of, record_of, save

if TYPE_CHECKING:
    from torch import nn


def train(options: argparse.Namespace) -> int:
    """Train one classifier, and show its certificate."""
    name = options.dataset
    X, y, test = rmtdeq.load_classification(
        name,
        classes=options.classes,
        n=options.n,
        test=options.test,
        seed=options.seed,
        data_dir=data_dir_of(options, name),
    )
    torch = require("torch")
    model = network_of(options, X.shape[1:], int(max(y.max(), test[1].max(initial=0))) + 1)
    run = rmtdeq.train_classifier(
        model,
        X,
        y,
        test=test if len(test[1]) else None,
        seed=options.seed,
        epochs=options.epochs,
        batch=options.batch,
        step=options.step,
        weight_decay=options.weight_decay,
        milestones=options.milestones,
        precision=options.precision,
        augment=options.augment,
        checkpoint=options.checkpoint,
    )
    if options.save:
        # Before anything is printed: a reader that goes away must not cost the weights.
        state = model.state_dict()
        write_whole(Path(options.save), lambda beside: torch.save(state, beside))
    print(run.summary())
    for layer in _layers(model):
        print(f"layer           {layer.extra_repr()}")
    if options.save:
        print(f"wrote {options.save}")
    if options.out:
        from rmtdeq.output.figures import classification_figure

        figure = classification_figure([run], f"{options.model}, {name}, n = {len(y)}")
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
    from rmtdeq.models.pcdeq import SOLVER
    from rmtdeq.models.weights import on_device

    layer: dict[str, Any] = {"solver": SOLVER}
    if options.tolerance is not None:
        layer["solver"] = replace(SOLVER, tolerance=options.tolerance)
    if options.activation is not None:
        layer["activation"] = options.activation
    if options.positivity is not None:
        layer["positivity"] = options.positivity
    model = NETWORKS[options.model](image, options.channels, classes=classes, seed=options.seed, **layer)
    return on_device(model, options.device, "float32")
