"""The ReLU implicit network of Gao, Liu, Liu, Rajan and Gao, ICLR 2022 (arXiv 2110.05645)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.types import Seed
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.inputs import product
from rmtdeq.models.regression import Factor, ImplicitRegression, Point
from rmtdeq.models.weights import gaussian, torch_generator


class ImplicitReLU(ImplicitRegression):
    """The network x ↦ uᵀz + vᵀφ with z = ReLU(γ̃ A z + φ), φ = ReLU(W x)/√m and γ̃ = γ/√m, all weights trained.

    At the start A and W have independent N(0, 1) entries, u and v random signs.  Inputs have norm one.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    width : int
        m.
    gamma : float
        γ, at most min(1/2, 1/(4c)) where ‖A‖₂ ≤ c√m, and ‖A‖₂ is about 2√m: γ̃‖A‖₂ is about 2γ.
    seed : int, Generator or None
        Of the weights.
    solver : Solver, optional

    Attributes
    ----------
    A, W, u, v : Parameter (m, m), (m, p), (m,), (m,)

    Raises
    ------
    InvalidInputError
        γ is not in [0, 1/2].
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        gamma: float = 0.1,
        seed: Seed = None,
        *,
        solver: Solver | None = None,
    ) -> None:
        super().__init__(solver)
        p, m = check.integer(in_features, "in_features"), check.integer(width, "width")
        self.in_features, self.width = p, m
        self.gamma = check.number(gamma, "gamma", low=0, high=0.5)
        self.scale = m**-0.5
        A, W, u, v = gaussian([(m, m), (m, p), (m,), (m,)], torch_generator(seed))
        self.A, self.W = nn.Parameter(A), nn.Parameter(W)
        self.u, self.v = nn.Parameter(u.sign_()), nn.Parameter(v.sign_())

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return φ."""
        return (self.scale * torch.relu(product(x, self.W)),)

    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once."""
        return torch.relu(torch.add(injected[0], F.linear(z, self.A), alpha=self.gamma * self.scale))

    def read_out(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Return uᵀz + vᵀφ of every row."""
        return z @ self.u + injected[0] @ self.v

    def recurrent(self) -> Tensor:
        """Return γ̃ A."""
        return self.gamma * self.scale * self.A

    def factors(self, x: Tensor, point: Point) -> dict[str, Factor]:
        """Return the rank-one gradients of the outputs.

        z for u, φ for v, γ̃ b zᵀ for A, and E (b + v) xᵀ/√m for W, E the indicator of W x > 0.
        """
        phi, b, direct = point.injected[0], point.through[0], point.direct[0]
        ones = torch.ones_like(b[:, :1])
        open_ = (phi > 0).to(phi.dtype)
        return {
            "A": Factor(self.gamma * self.scale * b, point.z),
            "W": Factor(self.scale * open_ * (b + direct), x),
            "u": Factor(ones, point.z),
            "v": Factor(ones, phi),
        }

    def extra_repr(self) -> str:
        """Show sizes and γ."""
        m, p = self.W.shape
        return f"{p} → {m} → 1, gamma={self.gamma:g}"
