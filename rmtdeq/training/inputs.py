"""Samples and targets as a model takes them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.models import ImplicitRegression


def samples_and_targets(
    model: ImplicitRegression, X: ArrayLike, y: ArrayLike, which: str = ""
) -> tuple[Tensor, Tensor]:
    """Return checked samples (n, p) and targets (n,), in the model's precision and on its device."""
    samples = check.samples(X, f"{which}X")
    targets = check.real_array(y, f"{which}y")
    if targets.ndim != 1:
        raise InvalidInputError(
            f"{which}y must hold one target a sample, of shape (n,), not {targets.shape}; a column becomes that by "
            "y.ravel()."
        )
    if samples.shape[1] != model.in_features:
        raise InvalidInputError(
            f"{which}X has {samples.shape[1]} features and the model takes {model.in_features}; they must agree."
        )
    if len(targets) != len(samples):
        raise InvalidInputError(f"{which}y holds {len(targets)} targets for the {len(samples)} samples of {which}X.")
    like = next(model.parameters())
    x, t = (torch.from_numpy(np.array(each)).to(like) for each in (samples, targets))
    return x, t
