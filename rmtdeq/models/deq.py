"""Deep equilibrium models of finite width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmtdeq._lib import check
from rmtdeq._lib.types import KINDS, Seed
from rmtdeq.activations import Activation
from rmtdeq.models.activations import FeatureMap, StepLike, TensorFunction
from rmtdeq.models.fixed_point import Solver
from rmtdeq.models.implicit import ImplicitModule, Trace, sensitivity
from rmtdeq.models.inputs import check_inputs, product
from rmtdeq.models.regression import Factor, ImplicitRegression, Point, input_factors
from rmtdeq.models.weights import gaussian, orthogonal, torch_generator


class DEQModule(FeatureMap, ImplicitModule):
    """The network x ↦ z with z = φ(σ_a A z + σ_b B x)/√m, A and B of independent N(0, 1) entries.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    width : int
        m.
    activation : Activation
        φ, its shift included.
    sigma_a2, sigma_b2, sigma_c2 : float
        The bias is there where σ_c² > 0.
    seed : int, Generator or None
        Of the weights.
    solver : Solver, optional
    torch_activation : callable, optional
        φ (without shift) on tensors, where it was made from a callable.
    recurrent : {"gaussian", "orthogonal"}
        What A is: of independent N(0, 1) entries, or √m times an orthogonal matrix.
    before, after : sequence of Step
        What is done to pre-activations and features besides, as of a `rmtdeq.Layer`; dropout, to the equilibrium.

    Attributes
    ----------
    A, B : Parameter (m, m), (m, p)
    c : Parameter (m,) or None
    """

    c: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        width: int,
        activation: Activation,
        sigma_a2: float,
        sigma_b2: float,
        seed: Seed = None,
        *,
        sigma_c2: float = 0.0,
        solver: Solver | None = None,
        torch_activation: TensorFunction | None = None,
        recurrent: str = "gaussian",
        before: Sequence[StepLike] = (),
        after: Sequence[StepLike] = (),
    ) -> None:
        super().__init__(solver)
        kept = check.recurrent(recurrent) == "gaussian"
        p, m = check.integer(in_features, "in_features"), check.integer(width, "width")
        self.set_features(m, activation, torch_activation, before, after)
        self.sigma_a, self.sigma_b, self.sigma_c = sigma_a2**0.5, sigma_b2**0.5, sigma_c2**0.5
        A, B, *c = gaussian([(m, m), (m, p), *([(m,)] if sigma_c2 else [])], torch_generator(seed))
        self.A, self.B = nn.Parameter(A if kept else orthogonal(A)), nn.Parameter(B)
        self.register_parameter("c", nn.Parameter(c[0]) if c else None)

    def forward(self, x: Tensor, trace: Trace | None = None) -> Tensor:
        """Return the equilibria (…, m) of inputs (…, p), with gradients by implicit differentiation.

        Parameters
        ----------
        x : Tensor
        trace : Trace, optional
            Where the solves begin and what they came to.

        Raises
        ------
        ConvergenceError
            The iteration, or that of the gradient, does not come to rest.
        """
        x = self.own(x)
        check_inputs(x, self.B)
        z = super().forward(x.reshape(-1, x.shape[-1]), trace)
        return self.dropout(z.reshape(*x.shape[:-1], z.shape[-1]))

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return σ_b B x + σ_c c."""
        given = self.sigma_b * product(x, self.B)
        return (given if self.c is None else given + self.sigma_c * self.c,)

    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once."""
        return self.features(torch.add(injected[0], F.linear(z, self.A), alpha=self.sigma_a))

    def extra_repr(self) -> str:
        """Show sizes and variances."""
        m, p = self.B.shape
        bias = f", sigma_c2={self.sigma_c**2:g}" if self.sigma_c else ""
        return f"{p} → {m}, sigma_a2={self.sigma_a**2:g}, sigma_b2={self.sigma_b**2:g}{bias}"

    def row_gradients(self, x: Tensor, z: Tensor, g: Tensor) -> tuple[dict[str, Factor], Tensor]:
        """Return the gradients of g·z in the weights, row by row, and that in the inputs.

        Parameters
        ----------
        x, z : Tensor (N, p), (N, m)
            Inputs and their equilibria.
        g : Tensor (N, m)
        """
        (b,) = sensitivity(self.map(), z, self.injected(x), g, self.solver)
        return self.factors(x, z, b), self.sigma_b * (b @ self.B)

    def factors(self, x: Tensor, z: Tensor, b: Tensor) -> dict[str, Factor]:
        """Return the gradients σ_a b zᵀ in A, σ_b b xᵀ in B and σ_c b in the bias, b being that in what is injected."""
        of_inputs = input_factors(b, x, self.sigma_b, self.sigma_c, self.c)
        return {"A": Factor(self.sigma_a * b, z), **of_inputs}


class DEQRegression(ImplicitRegression):
    """The scalar network x ↦ vᵀz(x) on the equilibria of a DEQ, v of independent N(0, 1) entries.

    As its width grows, its tangent kernel tends to the infinite-width NTK of the DEQ.

    Parameters
    ----------
    in_features : int
        The dimension p of the inputs.
    width : int
        m.
    activation : Activation
    sigma_a2, sigma_b2, sigma_c2 : float
    seed : int, Generator or None
        Of the weights; A and B are those of the `DEQModule` with this seed.
    kind : str
        ``"ntk"``: v and A are trained; ``"ntk-full"``: B and the bias as well; ``"ck"``: v alone.
    solver : Solver, optional
    torch_activation : callable, optional
        φ (without shift) on tensors, where it was made from a callable.
    recurrent : {"gaussian", "orthogonal"}
        What A is before training, as for `DEQModule`.

    Attributes
    ----------
    features : DEQModule
    v : Parameter (m,)
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        activation: Activation,
        sigma_a2: float,
        sigma_b2: float,
        seed: Seed = None,
        *,
        kind: str = "ntk",
        sigma_c2: float = 0.0,
        solver: Solver | None = None,
        torch_activation: TensorFunction | None = None,
        recurrent: str = "gaussian",
    ) -> None:
        super().__init__(solver)
        self.kind = check.choice(kind, "kind", KINDS)
        self.in_features, self.width = check.integer(in_features, "in_features"), check.integer(width, "width")
        rng = check.generator(seed)
        self.features = DEQModule(
            in_features,
            width,
            activation,
            sigma_a2,
            sigma_b2,
            rng,
            sigma_c2=sigma_c2,
            solver=solver,
            torch_activation=torch_activation,
            recurrent=recurrent,
        )
        (v,) = gaussian([(self.width,)], torch_generator(rng))
        self.v = nn.Parameter(v)
        self.features.A.requires_grad_(kind != "ck")
        self.features.B.requires_grad_(kind == "ntk-full")
        if self.features.c is not None:
            self.features.c.requires_grad_(kind == "ntk-full")

    def injected(self, x: Tensor) -> tuple[Tensor]:
        """Return σ_b B x + σ_c c."""
        return self.features.injected(x)

    def step(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Apply the layer once."""
        return self.features.step(z, *injected)

    def read_out(self, z: Tensor, *injected: Tensor) -> Tensor:
        """Return vᵀz of every row."""
        return z @ self.v

    def recurrent(self) -> Tensor:
        """Return σ_a A/√m."""
        return self.features.sigma_a * self.features.scale * self.features.A

    def extra_repr(self) -> str:
        """Show sizes, variances and what is trained."""
        features = self.features
        return (
            f"{self.in_features} → {self.width} → 1, {features.activation.extra_repr()}, "
            f"sigma_a2={features.sigma_a**2:g}, sigma_b2={features.sigma_b**2:g}, kind={self.kind!r}"
        )

    def factors(self, x: Tensor, point: Point) -> dict[str, Factor]:
        """Return the rank-one gradients of the outputs: z for v, and those of the features' weights."""
        b = point.through[0]
        of_features = self.features.factors(x, point.z, b)
        return {"v": Factor(torch.ones_like(b[:, :1]), point.z)} | {f"features.{k}": f for k, f in of_features.items()}
