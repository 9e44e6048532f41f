"""The kernel of a network of infinite width as a module of GPyTorch."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.constraints import Interval, Positive
from gpytorch.kernels import Kernel
from gpytorch.priors import Prior
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import KINDS, Function
from rmtdeq.activations import Activation
from rmtdeq.gpytorch.gradients import Task, diagonals, kernels
from rmtdeq.network import DEQ, Network, contraction_range, require_plain

_PARAMETERS = ("sigma_a2", "sigma_b2", "sigma_c2")


class DEQKernel(Kernel):
    """A kernel of a network of infinite width, for Gaussian processes in GPyTorch and BoTorch.

    Its parameters are the variances of the network's weights, which start where they are given: σ_a² of recurrent
    layers, σ_b² of all, σ_c² of those with a bias.  Samples are taken as they are; σ_b² takes up their scale.

    Parameters
    ----------
    network : DEQ, Network, Activation, str or callable
        An activation stands for ``DEQ(activation, centered=False)``.
    kind : str
        ``"ck"``, ``"ntk"`` (input weights and bias of the first layer fixed) or ``"ntk-full"`` (all weights trained).
    tau0_squared : float
        Where centred activations are centred, once and for all, at the variances given.
    sigma_a2_prior, sigma_b2_prior, sigma_c2_prior : gpytorch.priors.Prior, optional
    sigma_a2_constraint, sigma_b2_constraint, sigma_c2_constraint : gpytorch.constraints.Interval, optional
        By default σ_a² stays where every recurrent layer is a contraction, whatever σ_b² and the samples (see
        `rmtdeq.DEQKernel`), or below its double where there is no such range; the others are positive.
    **kwargs
        Of `gpytorch.kernels.Kernel`: ``batch_shape``, ``active_dims``.

    Attributes
    ----------
    sigma_a2, sigma_b2, sigma_c2 : Tensor (*batch_shape, layers)
        The variances of the layers that have them, from the input on; ``raw_sigma_a2`` and so on are what is optimised.

    Raises
    ------
    InvalidInputError
        Unknown kinds or activations; a variance beyond its constraint.
    IllPosedError
        When evaluated: no contraction, an infinite NTK.

    Notes
    -----
    Values are those of `rmtdeq.kernel`.  They and their gradients are computed in double precision, where the samples
    are, and come in that of the samples.  Gradients are of first order; within about 1e-10 of their size, of nearly
    parallel samples 1e-8, those of a tangent kernel being infinite for parallel ones.  Beyond a kernel and its gradient
    nothing of n² entries is kept.  Samples are the same where x2 is x1, or equal and without gradients.

    Examples
    --------
    A process of GPyTorch's, or a model of BoTorch's (this needs ``pip install "rmtdeq[gpytorch]"``)::

        from rmtdeq.gpytorch import DEQKernel

        kernel = gpytorch.kernels.ScaleKernel(DEQKernel(rd.DEQ("relu", 0.3, 0.8, sigma_c2=0.1)))
        model = botorch.models.SingleTaskGP(X, y, covar_module=kernel)
    """

    has_lengthscale = False

    def __init__(
        self,
        network: Network | Activation | str | Function = "relu",
        kind: str = "ck",
        *,
        tau0_squared: float = 1.0,
        sigma_a2_prior: Prior | None = None,
        sigma_b2_prior: Prior | None = None,
        sigma_c2_prior: Prior | None = None,
        sigma_a2_constraint: Interval | None = None,
        sigma_b2_constraint: Interval | None = None,
        sigma_c2_constraint: Interval | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        (self.kind,) = check.kinds(check.choice(kind, "kind", KINDS))
        given = network if isinstance(network, Network) else DEQ(network, centered=False)
        require_plain(given, "A kernel with gradients")
        self.layers = given.pinned(check.squared_norm(tau0_squared, "tau0_squared")).layers
        self._register("sigma_a2", sigma_a2_prior, sigma_a2_constraint or self._contraction())
        self._register("sigma_b2", sigma_b2_prior, sigma_b2_constraint or Positive())
        self._register("sigma_c2", sigma_c2_prior, sigma_c2_constraint or Positive())

    def _contraction(self) -> Interval:
        recurrent = [layer for layer in self.layers if layer.recurrent]
        highest = max((2 * layer.sigma_a2 for layer in recurrent), default=1.0)
        ranges = [contraction_range(layer.activation) for layer in recurrent]
        known = [each[1] for each in ranges if each is not None]
        if len(known) == len(ranges) and known:
            highest = min(known)
        return Interval(0.0, highest)

    def _register(self, name: str, prior: Prior | None, constraint: Interval) -> None:
        start = [getattr(layer, name) for layer in self.layers if getattr(layer, name) > 0]
        if not start:
            return
        if not all(float(constraint.lower_bound.min()) < each < float(constraint.upper_bound.max()) for each in start):
            raise InvalidInputError(f"{name} = {start} is not within its constraint, {constraint}; pass another one.")
        self.register_parameter(f"raw_{name}", torch.nn.Parameter(torch.zeros(*self.batch_shape, len(start))))
        self.register_constraint(f"raw_{name}", constraint)
        self._set(name, torch.tensor(start).expand(*self.batch_shape, len(start)))
        if prior is not None:
            self.register_prior(f"{name}_prior", prior, lambda m: m._get(name), lambda m, value: m._set(name, value))

    def _get(self, name: str) -> Tensor:
        raw = f"raw_{name}"
        if not hasattr(self, raw):
            raise AttributeError(f"No layer of this kernel has a {name}.")
        return getattr(self, f"{raw}_constraint").transform(getattr(self, raw))

    def _set(self, name: str, value: Any) -> None:
        raw = getattr(self, f"raw_{name}")
        value = torch.as_tensor(value).to(raw)
        self.initialize(**{f"raw_{name}": getattr(self, f"raw_{name}_constraint").inverse_transform(value)})

    @property
    def sigma_a2(self) -> Tensor:
        """Variances of the recurrent weights, (*batch_shape, recurrent layers)."""
        return self._get("sigma_a2")

    @sigma_a2.setter
    def sigma_a2(self, value: Any) -> None:
        self._set("sigma_a2", value)

    @property
    def sigma_b2(self) -> Tensor:
        """Variances of the input weights, (*batch_shape, layers)."""
        return self._get("sigma_b2")

    @sigma_b2.setter
    def sigma_b2(self, value: Any) -> None:
        self._set("sigma_b2", value)

    @property
    def sigma_c2(self) -> Tensor:
        """Variances of the biases, (*batch_shape, layers with a bias)."""
        return self._get("sigma_c2")

    @sigma_c2.setter
    def sigma_c2(self, value: Any) -> None:
        self._set("sigma_c2", value)

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False, **params: Any
    ) -> Tensor:
        """Return the kernel of samples.

        Parameters
        ----------
        x1, x2 : Tensor (..., n, p), (..., m, p)
        diag : bool
            Return the entries of each sample of `x1` with that of `x2` in its place alone, (..., n).
        last_dim_is_batch : bool
            Not supported: a kernel of single features is another one.
        **params
            Not used.

        Returns
        -------
        Tensor (..., n, m)
        """
        if last_dim_is_batch:
            raise InvalidInputError("DEQKernel has no last_dim_is_batch; give each feature a kernel with active_dims.")
        same = _same(x1, x2)
        batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], self.batch_shape)
        variances = self._variances()
        if self.batch_shape.numel() > 1:
            variances = variances.expand(*batch, *variances.shape[-2:])
        variances = variances.reshape(-1, *variances.shape[-2:])
        first, second = (
            each.double().expand(*batch, *each.shape[-2:]).reshape(-1, *each.shape[-2:]) for each in (x1, x2)
        )
        task = Task(tuple(layer.activation for layer in self.layers), self.kind)
        if diag and same:
            result = diagonals(task, variances, first)
        else:
            result = kernels(task, variances, first, None if same else second)
            result = result.diagonal(dim1=-2, dim2=-1) if diag else result
        return result.reshape(*batch, *result.shape[1:]).to(x1.dtype)

    def _variances(self) -> Tensor:
        """All layers' variances, (*batch_shape, layers, 3), in double precision."""
        given = {
            name: iter(self._get(name).double().unbind(-1)) for name in _PARAMETERS if hasattr(self, f"raw_{name}")
        }
        nothing = self.raw_sigma_b2.new_zeros(self.batch_shape, dtype=torch.double)
        rows = [
            torch.stack([next(given[name]) if getattr(layer, name) > 0 else nothing for name in _PARAMETERS], dim=-1)
            for layer in self.layers
        ]
        return torch.stack(rows, dim=-2)


def _same(x1: Tensor, x2: Tensor) -> bool:
    """Say whether two tensors are the same samples, and have their gradients in common."""
    if x1 is x2:
        return True
    if x1.shape != x2.shape:
        return False
    if torch.is_grad_enabled() and (x1.requires_grad or x2.requires_grad):
        views = x1._base is not None and x1._base is x2._base
        both = x1.requires_grad and x2.requires_grad
        return views and both and x1.data_ptr() == x2.data_ptr() and x1.stride() == x2.stride()
    return torch.equal(x1, x2)
