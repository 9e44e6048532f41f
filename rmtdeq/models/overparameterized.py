"""The over-parameterised DEQ of Ling, Xie, Wang, Zhang and Lin, AISTATS 2023 (arXiv 2205.13814)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.types import Seed
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.inputs import product
from rmtdeq.models.regression import Factor, ImplicitRegression, Point
from rmtdeq.models.weights import gaussian, torch_generator

_LARGEST = 0.125


class OverparameterizedDEQ(ImplicitRegression):
    """The network x ↦ aᵀz with z = ReLU(W z + U x), all weights trained.

    At the start W_ij ~ N(0, 2σ_w²/m), U_ij ~ N(0, 2/p), a_i ~ N(0, s_a²/m).  Inputs have squared norm p.  Inner
    products of the equilibria are m times the conjugate kernel of ``DEQ("relu", 2σ_w², 2, centered=False)`` on x/√p, up
    to O(√m).

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs (the paper's d).
    width : int
        m.
    sigma_w2 : float
        σ_w², below 1/8: ‖W‖₂ is about 2√2 σ_w.
    seed : int, Generator or None
        Of the weights.
    read_out_scale : float
        s_a, 1 in the paper.
    solver : Solver, optional

    Attributes
    ----------
    W, U, a : Parameter (m, m), (m, p), (m,)

    Raises
    ------
    InvalidInputError
        σ_w² is negative, or 1/8 or more.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        sigma_w2: float = 0.08,
        seed: Seed = None,
        *,
        read_out_scale: float = 1.0,
        solver: Solver | None = None,
    ) -> None:
        super().__init__(solver)
        p, m = check.integer(in_features, "in_features"), check.integer(width, "width")
        self.in_features, self.width = p, m
        self.sigma_w2 = check.number(sigma_w2, "sigma_w2", low=0)
        if self.sigma_w2 >= _LARGEST:
            raise InvalidInputError(
                f"sigma_w2 must be below 1/8, not {self.sigma_w2:g}: the norm of W is about 2 sqrt(2 sigma_w2), and at "
                "1 or more there need not be an equilibrium."
            )
        self.read_out_scale = check.number(read_out_scale, "read_out_scale", low=0, open_low=True)
        W, U, a = gaussian([(m, m), (m, p), (m,)], torch_generator(seed))
        self.W = nn.Parameter(W.mul_(math.sqrt(2 * self.sigma_w2 / m)))
        self.U = nn.Parameter(U.mul_(math.sqrt(2 / p)))
        self.a = nn.Parameter(a.mul_(self.read_out_scale / math.sqrt(m)))

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return U x."""
        return (product(x, self.U),)

    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once."""
        return torch.relu(F.linear(z, self.W) + injected[0])

    def read_out(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Return aᵀz of every row."""
        return z @ self.a

    def recurrent(self) -> Tensor:
        """Return W."""
        return self.W

    def factors(self, x: Tensor, point: Point) -> dict[str, Factor]:
        """Return the rank-one gradients of the outputs: z for a, b zᵀ for W, b xᵀ for U."""
        b = point.through[0]
        return {"a": Factor(torch.ones_like(b[:, :1]), point.z), "W": Factor(b, point.z), "U": Factor(b, x)}

    def extra_repr(self) -> str:
        """Show sizes and variance."""
        m, p = self.U.shape
        return f"{p} → {m} → 1, sigma_w2={self.sigma_w2:g}"
