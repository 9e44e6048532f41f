"""The conditions under which gradient descent provably converges, checked on the network and data at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.progress import Stage
from rmtdeq._lib.types import FloatArray
from rmtdeq.models import ImplicitReLU, OverparameterizedDEQ
from rmtdeq.training.condition import Inequality, InitialCondition
from rmtdeq.training.inputs import samples_and_targets
from rmtdeq.training.limits import population_gram, require_theorem
from rmtdeq.training.norm import eigenvalues, spectral_norm

_NORM = 1e-5
_DELTAS = 400
_FAILURE = 0.01
_WIDEST = 1e18


@Stage("checking the condition at the start")
def check_initial_condition(
    model: OverparameterizedDEQ | ImplicitReLU,
    X: ArrayLike,
    y: ArrayLike,
    *,
    step: float | None = None,
    delta: float | None = None,
) -> InitialCondition:
    """Check the conditions of the papers' convergence theorems on a network before training.

    Parameters
    ----------
    model : OverparameterizedDEQ or ImplicitReLU
    X : array_like (n, p)
        In the model's scaling: squared norms p, or 1.
    y : array_like (n,)
    step : float, optional
        Learning rate for which the guarantee is wanted; the largest that is permitted by default.
    delta : float, optional
        How far the weights' norms may move during training, for `OverparameterizedDEQ`; by default what comes nearest
        to satisfying everything.

    Returns
    -------
    InitialCondition

    Raises
    ------
    InvalidInputError
        Another model; samples or targets that do not fit it; `delta` not between 0 and 1 - ‖W‖₂.

    Notes
    -----
    Over-parameterised DEQ (arXiv 2205.13814, Theorem 1): its conditions (7) to (9), where (9) is shown with the paper's
    constant 4 and with 8, which the last step of the proof needs.  With the paper's initialisation, ‖a‖ = 1, condition
    (9) cannot be met at any width: its right side is at least 8 m n/(1 - ‖W‖₂)⁴, and the smallest eigenvalue is at most
    the mean diagonal entry, m/(1 - σ_w²).  A small `read_out_scale` can meet it.

    ReLU implicit network (arXiv 2110.05645): γ within its bounds, and ΦᵀΦ at the start so close to its limit G_∞ that
    the tangent kernel, which exceeds it, has eigenvalues above λ_min(G_∞)/2.  The permitted step and the widths are
    orders of magnitude, without the theorem's constants.
    """
    require_theorem(model)
    eta = None if step is None else check.step(step)
    x, targets = samples_and_targets(model, X, y)
    if not bool((x.norm(dim=1) > 0).all()):
        raise InvalidInputError("A row of X is zero; the theorems speak of samples on a sphere (on_sphere).")
    population = population_gram(model, x.double().cpu().numpy())
    if isinstance(model, OverparameterizedDEQ):
        return _overparameterized(model, x, targets, population, eta, delta)
    if delta is not None:
        raise InvalidInputError("delta belongs to the theorem for OverparameterizedDEQ.")
    return _implicit_relu(model, x, targets, population, eta)


@dataclass(frozen=True)
class _Norms:
    """What the conditions of the over-parameterised DEQ are made of."""

    W: float
    U: float
    a: float
    X: float
    residual: float
    smallest: float

    def constants(self, delta: float) -> dict[str, float]:
        rho_w, rho_u, rho_a = self.W + delta, self.U + delta, self.a + delta
        c_w, c_u, c_a = rho_u * rho_a / (1 - rho_w) ** 2, rho_a / (1 - rho_w), rho_u / (1 - rho_w)
        return {"rho_w": rho_w, "rho_u": rho_u, "rho_a": rho_a, "c_w": c_w, "c_u": c_u, "c_a": c_a}

    def inequalities(self, delta: float) -> tuple[Inequality, ...]:
        c = self.constants(delta)
        square, size = c["c_w"] ** 2 + c["c_u"] ** 2, max(self.smallest, 0.0)
        return (
            Inequality(
                "(7) λ0 against the initial residual",
                self.smallest,
                4 / delta * max(c["c_w"], c["c_u"], c["c_a"]) * self.X * self.residual,
            ),
            Inequality(
                "(8) λ0^(3/2) against the initial residual",
                size**1.5,
                4 * (2 + math.sqrt(2)) / c["rho_a"] * square * self.X**2 * self.residual,
            ),
            Inequality("(9) λ0, as printed", self.smallest, 4 * square * self.X**2),
            Inequality("(9) λ0, as the proof needs it", self.smallest, 8 * square * self.X**2),
        )

    def best_delta(self) -> float:
        """The δ for which the worst inequality is nearest to being satisfied."""
        room = 1 - self.W
        candidates = np.concatenate([np.geomspace(1e-8, 0.5, _DELTAS), np.linspace(0.5, 0.999, _DELTAS)]) * room
        worst = [min(each.ratio for each in self.inequalities(delta)) for delta in candidates]
        return float(candidates[int(np.argmax(worst))])


def _overparameterized(
    model: OverparameterizedDEQ, x: Tensor, y: Tensor, population: FloatArray, step: float | None, delta: float | None
) -> InitialCondition:
    n, p, m = len(y), model.in_features, model.width
    lowest = float(np.linalg.eigvalsh(population)[0])
    with torch.no_grad():
        residual = float((model(x) - y).norm())
        smallest = float(eigenvalues(model.gram(x))[0])
        norms = _Norms(
            spectral_norm(model.W.detach())[0],
            float(torch.linalg.matrix_norm(model.U.detach().double(), 2)),
            float(model.a.norm()),
            float(x.norm()),
            residual,
            smallest,
        )
    assumptions = (
        Inequality("‖W‖₂ < 1", 1.0, norms.W),
        Inequality("norms √p, largest relative error", _NORM, float((x.norm(dim=1) / math.sqrt(p) - 1).abs().max())),
        _not_parallel(x),
    )
    if not assumptions[0].holds:
        raise InvalidInputError(f"The norm of W is {norms.W:.4g}; the theorem needs it below 1: lower sigma_w2.")
    chosen = (
        norms.best_delta() if delta is None else check.number(delta, "delta", low=0, high=1 - norms.W, open_low=True)
    )
    if chosen >= 1 - norms.W:
        raise InvalidInputError(f"delta must be below 1 - ‖W‖₂ = {1 - norms.W:.4g}, not {chosen:g}.")
    c = norms.constants(chosen)
    square = c["c_w"] ** 2 + c["c_u"] ** 2
    permitted = min(2 / smallest if smallest > 0 else 0.0, 2 * square / ((square + c["c_a"] ** 2) ** 2 * norms.X**2))
    targets = float(y.norm())

    def limit(width: float) -> _Norms:
        s = model.sigma_w2
        scale = model.read_out_scale
        outputs = scale**2 * n / (1 - s)  # the mean of ‖f(X)‖² over read-outs
        return _Norms(
            2 * math.sqrt(2 * s),
            math.sqrt(2 / p) * (math.sqrt(width) + math.sqrt(p)),
            scale,
            math.sqrt(n * p),
            math.sqrt(targets**2 + outputs),
            width * lowest,
        )

    orders = {"n²/λ*² log(n/(λ* t)), t = 0.01": math.inf, "n³/λ*²": math.inf}
    if lowest > 0:
        logarithm = math.log(max(n / (lowest * _FAILURE), math.e))
        orders = dict(zip(orders, (n**2 / lowest**2 * logarithm, n**3 / lowest**2), strict=True))
    return InitialCondition(
        model=model.describe(),
        source="arXiv 2205.13814",
        samples=n,
        width=m,
        assumptions=assumptions,
        inequalities=norms.inequalities(chosen),
        constants={"delta": chosen, "‖W‖": norms.W, "‖U‖": norms.U, "‖a‖": norms.a, **c, "‖f(X)-y‖": residual},
        gram="ZᵀZ",
        scaled_gram="ZᵀZ/m",
        smallest_eigenvalue=smallest,
        population_gram=population,
        population_eigenvalue=lowest,
        guaranteed_eigenvalue=max(smallest, 0.0) / 2,
        permitted_step=permitted,
        step=permitted if step is None else step,
        needed_width=_first_width(lambda width: limit(width).inequalities(limit(width).best_delta())),
        width_orders=orders,
    )


def _first_width(inequalities: Callable[[float], Sequence[Inequality]]) -> float:
    """The width from which on all inequalities hold, infinite if they do not at the largest one tried."""

    def hold(width: float) -> bool:
        return all(each.holds for each in inequalities(width))

    if not hold(_WIDEST):
        return math.inf
    low, high = 0.0, math.log(_WIDEST)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if hold(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _implicit_relu(
    model: ImplicitReLU, x: Tensor, y: Tensor, population: FloatArray, step: float | None
) -> InitialCondition:
    n, m = len(y), model.width
    lowest = float(np.linalg.eigvalsh(population)[0])
    with torch.no_grad():
        (phi,) = model.injected(x)
        smallest = float(eigenvalues(phi @ phi.T)[0])
        tangent = float(eigenvalues(model.tangent_kernel(x))[0])
        contraction = spectral_norm(model.recurrent().detach())[0]
        residual = float((model(x) - y).norm())
    permitted = max(lowest, 0.0) / n**2
    order = math.inf if lowest <= 0 else n**2 / lowest**2
    return InitialCondition(
        model=model.describe(),
        source="arXiv 2110.05645",
        samples=n,
        width=m,
        assumptions=(
            Inequality("γ at most 1/2", 0.5, model.gamma),
            Inequality("γ̃‖A‖₂ at most 1/4, that is γ ≤ 1/(4c)", 0.25, contraction),
            Inequality("norms 1, largest relative error", _NORM, float((x.norm(dim=1) - 1).abs().max())),
            _not_parallel(x),
        ),
        inequalities=(
            Inequality("λ_min(ΦᵀΦ) against λ*/2", smallest, lowest / 2),
            Inequality("λ_min(H(0)) against λ*/2", tangent, lowest / 2),
            Inequality("λ* > 0", lowest, np.finfo(float).tiny),
        ),
        constants={"γ̃‖A‖": contraction, "c": contraction / model.gamma if model.gamma else 0.0, "‖f(X)-y‖": residual},
        gram="ΦᵀΦ",
        scaled_gram="ΦᵀΦ",
        smallest_eigenvalue=smallest,
        population_gram=population,
        population_eigenvalue=lowest,
        guaranteed_eigenvalue=max(lowest, 0.0) / 2,
        permitted_step=permitted,
        step=permitted if step is None else step,
        needed_width=math.nan,
        width_orders={"n²/λ*²": order},
    )


def _not_parallel(x: Tensor) -> Inequality:
    """No two samples are parallel: 1 - |cos| of the nearest pair, against rounding."""
    unit = (x / x.norm(dim=1, keepdim=True)).double()
    cosines = (unit @ unit.T).abs().fill_diagonal_(0)
    least = 1 - float(cosines.max())
    return Inequality("no two samples parallel, 1 - |cos|", least, 10 * torch.finfo(x.dtype).eps)
