"""Layers z = σ(W z + x) with nonnegative W and a concave activation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.models.differentials import transformed
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.pcdeq.activation import ConcaveActivation
from rmtdeq.models.pcdeq.base import PcDEQ


class PcDEQLinear(PcDEQ):
    """The equilibrium z = σ(W z + x̃) of vectors, W ≥ 0 entry by entry; x̃ is x made positive.

    Parameters
    ----------
    features : int
        m: inputs and states are (N, m).
    activation : str, callable or ConcaveActivation
        ``"tanh"``, ``"softsign"``, ``"relu6"`` (pcDEQ-1, x̃ = softplus(5 x)/5), ``"sigmoid"`` (pcDEQ-2, x̃ = ReLU(x)),
        or a function on tensors that is nonnegative, increasing and concave on [0, ∞), which is checked.
    supremum : float, optional
        Bound of a callable's values.
    positivity : str
        ``"absolute"``: a parametrisation, W the absolute value of g v/‖v‖ with free g and v; ``"clamp"``, the paper's:
        negative g and v are set to zero before each use.
    map_input : bool
        Make inputs positive; without it they must be.
    seed : int, Generator or None
        Of the weights.
    solver : Solver, optional
        The plain iteration of the batch to 1e-4 in at most 2000 steps.

    Raises
    ------
    InvalidInputError
        Unknown names, or an activation that is not concave.

    Notes
    -----
    Source: Gabor, Piotrowski, Cavalcante, ICML 2024, arXiv 2402.04029.  Where the activation saturates, the equilibrium
    exists whatever the weights, is unique, and the iteration converges to it geometrically from anywhere.
    ``recurrent.weight`` is W, and setting it refuses negative entries.  Like other parametrised modules the layer is
    saved by its state dict, and not pickled.

    Examples
    --------
    >>> import torch
    >>> from rmtdeq.models.pcdeq import PcDEQLinear
    >>> layer = PcDEQLinear(5, "sigmoid", seed=0)
    >>> found = layer.solve(torch.zeros(2, 5))
    >>> found.certificate.worst < 0.51
    True
    """

    def __init__(
        self,
        features: int,
        activation: str | Callable[[Tensor], Tensor] | ConcaveActivation = "tanh",
        *,
        supremum: float | None = None,
        positivity: str = "absolute",
        map_input: bool = True,
        seed: Seed = None,
        solver: Solver | None = None,
    ) -> None:
        self.features = check.integer(features, "features")
        what = f"A layer of {self.features} x {self.features} weights"
        check.memory(8 * self.features**2, None, what, "take fewer features")
        recurrent = nn.Linear(self.features, self.features, bias=False)
        super().__init__(recurrent, activation, supremum, positivity, map_input, seed, solver)

    def affine(self, weight: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Return W z + x."""
        return torch.addmm(x, z, weight.T)

    def transposed(self, weight: Tensor, g: Tensor) -> Tensor:
        """Return Wᵀ g."""
        return g @ weight

    def check_shape(self, x: Tensor) -> None:
        """Raise unless x is (N, features)."""
        if x.dim() != 2 or x.shape[1] != self.features:
            raise InvalidInputError(
                f"Inputs of {type(self).__name__} are (N, {self.features}), not of shape {tuple(x.shape)}; others are "
                f"x.reshape(-1, {self.features})."
            )

    def _sizes(self) -> str:
        return str(self.features)


class PcDEQConv2d(PcDEQ):
    """The equilibrium z = σ(W * z + x̃) of images, W a nonnegative convolution that keeps their size.

    Parameters
    ----------
    channels : int
        Inputs and states are (N, channels, height, width).
    activation, supremum, positivity, map_input, seed, solver
        As for `PcDEQLinear`.
    kernel_size : int
        Odd.

    Raises
    ------
    InvalidInputError
        Unknown names, an even kernel, or an activation that is not concave.
    """

    def __init__(
        self,
        channels: int,
        activation: str | Callable[[Tensor], Tensor] | ConcaveActivation = "tanh",
        *,
        kernel_size: int = 3,
        supremum: float | None = None,
        positivity: str = "absolute",
        map_input: bool = True,
        seed: Seed = None,
        solver: Solver | None = None,
    ) -> None:
        self.channels = check.integer(channels, "channels")
        self.kernel_size = size = check.integer(kernel_size, "kernel_size")
        if size % 2 == 0:
            raise InvalidInputError(f"kernel_size must be odd, so that images keep their size, not {size}.")
        recurrent = nn.Conv2d(self.channels, self.channels, size, padding=size // 2, bias=False)
        super().__init__(recurrent, activation, supremum, positivity, map_input, seed, solver)

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return the inputs made positive, on a CPU in the order that its convolutions are fastest in."""
        (x,) = super().injected(x)
        ordered = x.device.type == "cpu" and not transformed(x)  # vmap knows no order of channels
        return (x.contiguous(memory_format=torch.channels_last) if ordered else x,)

    def affine(self, weight: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Return W * z + x."""
        return F.conv2d(z, weight, padding=weight.shape[2] // 2).add_(x)

    def transposed(self, weight: Tensor, g: Tensor) -> Tensor:
        """Return the transposed convolution of g."""
        return F.conv_transpose2d(g, weight, padding=weight.shape[2] // 2)

    def check_shape(self, x: Tensor) -> None:
        """Raise unless x is (N, channels, height, width)."""
        if x.dim() != 4 or x.shape[1] != self.channels or 0 in x.shape[2:]:
            raise InvalidInputError(
                f"Inputs of {type(self).__name__} are (N, {self.channels}, height, width), not of shape "
                f"{tuple(x.shape)}; a single image x is x[None]."
            )

    def _sizes(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"
