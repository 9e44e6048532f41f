"""Training of classifiers by AdamW on shuffled batches."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from rmtdeq._lib import check
from rmtdeq._lib.errors import ConvergenceError, InvalidInputError
from rmtdeq._lib.moved import deprecated
from rmtdeq._lib.progress import Stage
from rmtdeq.curves import ClassificationRun
from rmtdeq.models import traced
from rmtdeq.training.course import Course, Samples

PRECISIONS = ("float32", "bfloat16", "float16")


def train_classifier(
    model: nn.Module,
    X: ArrayLike,
    y: ArrayLike,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    epochs: int = 20,
    batch: int = 64,
    step: float = 1e-3,
    weight_decay: float = 1e-2,
    milestones: Iterable[int] = (),
    precision: str = "float32",
    augment: bool = False,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
    rate: float | None = None,
) -> ClassificationRun:
    """Train a network that maps inputs to logits by AdamW on the cross-entropy.

    Parameters
    ----------
    model : torch.nn.Module
        `rmtdeq.models.pcdeq.linear_network`, or any other; it is trained in place, on its device.
    X : array_like (n, …)
        Inputs as the model takes them.
    y : array_like (n,)
        Labels 0 … K-1.
    test : (X, y), optional
        Samples that are classified after each epoch.
    epochs, batch : int
        Batches of two at least; a last one of one sample is left out.
    step : float
        Learning rate; a tenth of it after each of the `milestones`.
    weight_decay : float
    milestones : iterable of int
        Epochs.
    precision : str
        ``"float32"``, or mixed precision with ``"bfloat16"`` or ``"float16"``, in which equilibria are solved in the
        precision of their weights all the same.
    augment : bool
        Shift images (n, channels, height, width) by up to 4 pixels, and mirror half of them.
    seed : int
        Of the order of the samples, the augmentation, and torch's random numbers in the model.
    checkpoint : path, optional
        Folder that keeps the state twice a minute, and at the end.  The same call with the same folder and the same
        model before training goes on from there, also with more `epochs`, to the same numbers, bit for bit on a CPU
        with as many threads.
    progress : bool
        Tell how far it is if standard error is a terminal.
    rate : float, optional
        What `step` was called; goes with the next release.

    Returns
    -------
    ClassificationRun

    Raises
    ------
    InvalidInputError
        Shapes or labels that do not fit; a checkpoint that belongs to another training.
    ConvergenceError
        The loss becomes NaN or infinite, or an equilibrium is not found.
    """
    if rate is not None:
        deprecated("train_classifier(rate=...)", "train_classifier(step=...)")
        step = rate
    total = check.integer(epochs, "epochs", low=0)
    settings: dict[str, Any] = {
        "batch": check.integer(batch, "batch", low=2),
        "step": check.number(step, "step", low=0, high=1e6, open_low=True),
        "weight decay": check.number(weight_decay, "weight_decay", low=0, high=1e6),
        "precision": check.choice(precision, "precision", PRECISIONS),
        "augmented": check.flag(augment, "augment"),
        "seed": check.integer(seed, "seed", low=0),
    }
    if not np.iterable(milestones):
        raise InvalidInputError(f"milestones must be a sequence of epochs such as (7,), not {milestones!r}.")
    settings["milestones"] = sorted(check.integer(each, "a milestone") for each in milestones)
    course = Course(model, Samples(model, X, y, "", augment), None if test is None else _test(model, test), settings)
    course.try_out()
    if checkpoint is not None:
        course.keep_in(check.folder(checkpoint, "checkpoint"), total)
    try:
        with (
            course.own_random_numbers(),
            traced(model) as traces,
            Stage("training", total, initial=min(course.epoch, total), unit="epoch", show=progress) as stage,
        ):
            while course.epoch < total:
                course.run_epoch(traces, stage)
                stage.update()
                course.save(always=course.epoch == total)
    except KeyboardInterrupt as error:
        error.add_note(course.kept())
        raise
    except ConvergenceError as error:
        raise ConvergenceError(f"Training broke down in epoch {course.epoch + 1}: {error}") from error
    return course.result()


def _test(model: nn.Module, test: Any) -> Samples:
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise InvalidInputError("test must be a pair (X, y) of samples and labels.")
    return Samples(model, test[0], test[1], "test ")
