"""Explicit networks of finite width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.activations import Activation
from rmtdeq.models.activations import TorchActivation
from rmtdeq.models.inputs import check_inputs
from rmtdeq.models.weights import gaussian, torch_generator


class ExplicitModule(nn.Module):
    """The network x ↦ σ_L(W_L … σ_1(W_1 x)/√m_1 …)/√m_L, its weights independent N(0, 1) entries.

    Inner products of its outputs tend to the conjugate kernel as the widths grow.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    widths : sequence of int
        m_1 … m_L.
    activations : sequence of Activation
        σ_1 … σ_L.
    seed : int, Generator or None
        Of the weights.

    Attributes
    ----------
    weights : ParameterList
        W_l of shape (m_l, m_{l-1}).
    """

    def __init__(
        self, in_features: int, widths: Sequence[int], activations: Sequence[Activation], seed: Seed = None
    ) -> None:
        super().__init__()
        sizes = [check.integer(in_features, "in_features"), *(check.integer(m, "width") for m in widths)]
        if len(widths) != len(activations):
            raise InvalidInputError(
                f"A network of {len(activations)} layers needs a width, or as many widths, not {len(widths)}."
            )
        generator = torch_generator(seed)
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.weights = nn.ParameterList(nn.Parameter(w) for w in gaussian(shapes, generator))
        self.activations = nn.ModuleList(TorchActivation(each) for each in activations)
        self.scales = [m**-0.5 for m in sizes[1:]]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (…, m_L) of inputs (…, p)."""
        check_inputs(x, self.weights[0])
        for weight, activation, scale in zip(self.weights, self.activations, self.scales, strict=True):
            x = activation(F.linear(x, weight)) * scale
        return x

    def extra_repr(self) -> str:
        """Show the sizes."""
        return " → ".join(str(size) for size in (self.weights[0].shape[1], *(w.shape[0] for w in self.weights)))
