"""What ridge regression with a Gram model predicts for new samples: a Gaussian law for each class.

The regression is f(x) = k(x)ᵀ c + b, c = Q (Y - 1 bᵀ), Q = (H + δ)^{-1}: Y holds a row of targets for each sample, t_a
in class a, and k(x) is the row of H that x would have, k(x) = W̃ᵀ w̃ + U L u.  With Woodbury's identity c = Q₀ U Γ,
Γ = (1 + L A)^{-1} √p E_J (t - b), E_J the first K columns of the identity, and for x in class a

    f(x) = t_a - Γ_Ja/√p - ψ Γ_ψa + w̃ᵀ (W̃ Q₀ (U_J Γ_J + U_ψ Γ_ψ) - R (s ⊗ μ) Γ_y),
    R = (1 + W̃ (diag λ + δ)^{-1} W̃ᵀ)^{-1},

Gaussian in w̃ and ψ.  The variance needs the equivalent of R Σ_a R, Σ_a = s_a s_aᵀ ⊗ C_a, the derivative of R in a
perturbation of its identity by Σ_a, in which the q_b move along.

Least-squares support vector machines have a law of this kind (Liao and Couillet, arXiv 1701.02967, for kernels of
distances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmtdeq._lib.errors import IllPosedError
from rmtdeq._lib.types import FloatArray
from rmtdeq.theory.rmt.model import GramModel
from rmtdeq.theory.rmt.projection import projected_resolvent
from rmtdeq.theory.rmt.resolvent import resolvent_diagonal

_HEIGHT = 1e-9
_STEP = 1e-7
_SINGULAR = 1e-12


@dataclass(frozen=True, eq=False)
class DecisionLaw:
    """The Gaussian law of a regression's values at new samples of each class.

    Attributes
    ----------
    means : ndarray (r, K, k)
        By ridge, class and target.
    covariances : ndarray (r, K, k, k)
    intercepts : ndarray (r, k)
        b.
    """

    means: FloatArray
    covariances: FloatArray
    intercepts: FloatArray


def decision_law(model: GramModel, targets: FloatArray, ridges: FloatArray, *, intercept: bool = True) -> DecisionLaw:
    """Return the law of what ridge regression with a Gram model's matrix predicts.

    Parameters
    ----------
    model : GramModel
    targets : ndarray (K, k)
        Of each class.
    ridges : ndarray (r,)
        δ >= 0.
    intercept : bool
        Whether a constant is learnt that the ridge leaves alone.

    Returns
    -------
    DecisionLaw

    Raises
    ------
    IllPosedError
        A ridge that leaves the matrix singular.
    ConvergenceError
        The mixture equations could not be solved.
    """
    lowest = float(model.shifts.min())
    scale = max(model.upper_bound - lowest, float(abs(model.shifts).max()))
    if lowest + ridges.min() <= _SINGULAR * scale:
        raise IllPosedError(
            f"With ridge = {ridges.min():g} the kernel is singular in the limit; take a larger one, as "
            f"{1e-3 * scale:.1g}."
        )
    points = -ridges + 1j * _HEIGHT * np.maximum(ridges, scale)
    q = resolvent_diagonal(model, points)
    k, p, c, v = model.shifts.size, model.covariances.dimension, model.ratios, model.norm_variances
    A = projected_resolvent(model, q).real
    chosen = np.zeros((3 * k, k))
    chosen[:k] = np.sqrt(p) * np.eye(k)
    # Γ of each class's indicator, (r, 3K, K); targets are mixtures of these.
    response = np.linalg.solve(np.eye(3 * k) + model.coupling @ A, np.broadcast_to(chosen, (len(ridges), 3 * k, k)))
    shifts = np.zeros((len(ridges), targets.shape[1]))
    if intercept:
        within = np.einsum("rij,rjk->rik", A, response)[:, :k].sum(axis=1)
        shifts = within @ targets / within.sum(axis=1, keepdims=True)
    gamma = response @ (targets - shifts[:, None, :])
    along, norms, means = gamma[:, :k], gamma[:, k : 2 * k], gamma[:, 2 * k :]

    _, jacobian = model.traces(q)
    pairs = -jacobian.real / c
    diagonal = q.real
    squares = c * diagonal**2
    # ξ = (1/p) tr Σ_b (R Σ_a R), which all other samples take part in.
    spread = pairs @ np.linalg.inv(np.eye(k) - squares[:, :, None] * pairs)
    own = np.einsum("rb,rbk,rbl->rbkl", squares, along, along)
    own += np.einsum("rb,rbk,rbl->rbkl", squares * v, norms, norms)
    variance = np.einsum("rab,rbkl->rakl", spread, own) + np.einsum("a,rak,ral->rakl", v, norms, norms)
    for a in range(k):
        direction = squares * spread[:, a] / c
        direction[:, a] += 1 / c[a]
        # A complex step: the form is analytic, and nothing is subtracted.
        size = _STEP / np.maximum(abs(direction / diagonal).max(axis=1), 1e-300)
        form = model.mean_form(diagonal + 1j * size[:, None] * direction).imag / size[:, None, None]
        variance[:, a] += np.einsum("rbk,rbc,rcl->rkl", means, form, means)
    return DecisionLaw(targets - along / np.sqrt(p), variance / p, shifts)
