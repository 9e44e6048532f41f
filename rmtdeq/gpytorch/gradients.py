"""Kernels of networks as differentiable functions of samples and variances, in torch.

Values are those of `rmtdeq.kernel`; gradients go through all layers once more, block by block (`adjoints`), so that
nothing of n² entries is kept but the kernel and its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation
from rmtdeq.gpytorch.adjoints import Adjoints, diagonal_of, of_rows, pull_back, samples_back
from rmtdeq.gpytorch.device import pull_back_there
from rmtdeq.kernels.computation import Computation, Placement, placement
from rmtdeq.kernels.engines.choice import engine_of
from rmtdeq.kernels.matrix import fill_matrix
from rmtdeq.kernels.plan import NetworkTables, Plan, plan_with, tabulate
from rmtdeq.network import Layer, Network


@dataclass(frozen=True)
class Task:
    """What is computed of a network whose variances are tensors.

    Attributes
    ----------
    activations : tuple of Activation
        Of the layers, from the input on.
    kind : str
    """

    activations: tuple[Activation, ...]
    kind: Kind

    def tables(self, variances: Tensor, *norms: FloatArray) -> NetworkTables:
        """Tabulate what samples of these squared norms need, at variances (layers, 3)."""
        numbers = variances.tolist()
        network = Network([Layer(phi, *of) for phi, of in zip(self.activations, numbers, strict=True)])
        squared_norms = np.concatenate([np.ravel(each) for each in norms])
        # Samples that are all zero are treated as they are beside others.
        if not squared_norms.max():
            squared_norms = np.append(squared_norms, 1.0)
        return tabulate(network, (self.kind,), squared_norms)


def kernels(task: Task, variances: Tensor, x1: Tensor, x2: Tensor | None) -> Tensor:
    """Return kernels with gradients of first order in samples and variances.

    Parameters
    ----------
    task : Task
    variances : Tensor (batch or 1, layers, 3)
        σ_a², σ_b², σ_c².
    x1, x2 : Tensor (batch, n, p), (batch, m, p)
        In double precision; x2 is None where they are the same samples: their diagonal depends on norms alone.

    Returns
    -------
    Tensor (batch, n, m)
    """
    return _Kernels.apply(task, variances, x1, x2)


def diagonals(task: Task, variances: Tensor, x: Tensor) -> Tensor:
    """Return the diagonals of the kernels of samples (batch, n, p), (batch, n), with gradients."""
    return _Diagonals.apply(task, variances, (x * x).sum(-1))


class _Kernels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task: Task, variances: Tensor, x1: Tensor, x2: Tensor | None) -> Tensor:
        left, right = _samples(x1), None if x2 is None else _samples(x2)
        places = [placement(X, None if right is None else right[at], Computation()) for at, X in enumerate(left)]
        plans = _plans(task, variances, places)
        shape = *x1.shape[:2], (x1 if x2 is None else x2).shape[1]
        found = x1.new_empty(shape)
        for plan, place, target in zip(plans, places, found, strict=True):
            # An array shares the tensor's memory.
            output = target.numpy() if place.device is None else target
            fill_matrix(engine_of(plan, place), {task.kind: output})
        ctx.task, ctx.plans, ctx.many, ctx.home = task, plans, len(variances) > 1, variances.device
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        found = [_pulled(plan, ctx.task.kind, each) for plan, each in zip(ctx.plans, grads[0], strict=True)]
        variances = np.stack([each.variances for each in found])
        of_variances = variances if ctx.many else variances.sum(axis=0, keepdims=True)
        of_Y = [torch.as_tensor(each.Y) for each in found if each.Y is not None]
        of_X = torch.stack([torch.as_tensor(each.X) for each in found])
        return None, torch.from_numpy(of_variances).to(ctx.home), of_X, torch.stack(of_Y) if of_Y else None


def _pulled(plan: Plan, kind: Kind, weights: Tensor) -> Adjoints:
    if weights.device.type == "cpu":
        return pull_back(plan, kind, weights.numpy())
    return pull_back_there(plan, kind, weights)


def _samples(x: Tensor) -> Any:
    """Samples as the engines of their device take them."""
    return x.detach().numpy() if x.device.type == "cpu" else x.detach()


class _Diagonals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, task: Task, variances: Tensor, norms: Tensor) -> Tensor:
        given = _array(norms)
        shared = None if len(variances) > 1 else task.tables(variances[0], given)
        ctx.task, ctx.samples, ctx.home = task, [], variances.device
        for number, each in enumerate(given):
            tables = shared or task.tables(variances[number], each)
            ctx.samples.append(of_rows(tables.at(each, each).layers))
        found = [diagonal_of(each, task.kind)[-1] for each in ctx.samples]
        return torch.from_numpy(np.stack(found)).to(norms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        found = [
            samples_back(samples, ctx.task.kind, None, weights)
            for samples, weights in zip(ctx.samples, _array(grads[0]), strict=True)
        ]
        of_norms, of_variances = (torch.from_numpy(np.stack(each)) for each in zip(*found, strict=True))
        return None, of_variances.to(ctx.home), of_norms.to(grads[0])


def _plans(task: Task, variances: Tensor, places: Sequence[Placement]) -> list[Plan]:
    """One plan for each of a batch; where they share variances, of the same tables."""
    norms = [each.inputs.squared_norms() for each in places]
    shared = task.tables(variances[0], *(each for pair in norms for each in pair)) if len(variances) == 1 else None
    return [
        plan_with(shared or task.tables(variances[number], *pair), place.inputs, pair)
        for number, (place, pair) in enumerate(zip(places, norms, strict=True))
    ]


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy()
