"""The four nonlinear equations of an implicit network, and the coefficients of its kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rmtdeq import _check
from rmtdeq._errors import IllPosedError, InvalidInputError
from rmtdeq._tables import Table, Tabular, without_rounding
from rmtdeq._types import KINDS, FloatArray, Kind
from rmtdeq.gauss import Moments, moments
from rmtdeq.network import DEQ, preactivation_scale
from rmtdeq.solvers import Status


@dataclass(frozen=True)
class KernelCoefficients:
    """What one kernel depends on: linear, ψψ and T coefficients, and the value on the diagonal.

    The equivalent of the kernel is ``linear·XXᵀ + V C Vᵀ + (diagonal - τ0²·linear) I`` with
    ``C = [[norm·ttᵀ + pair·T, norm·t], [norm·tᵀ, norm]]``.
    """

    linear: float
    norm: float
    pair: float
    diagonal: float


@dataclass(frozen=True)
class Coefficients(Tabular):
    """Solution of the four equations of a DEQ.

    Attributes
    ----------
    deq : DEQ
    tau0_squared : float
        Mean squared norm of the inputs.
    tau : float
        Standard deviation τ* of the pre-activation.
    mean : float
        E φ(τ* ξ), taken off φ where the model is centred.
    gamma2 : float
        Diagonal of the conjugate kernel.
    alpha : ndarray (4,)
        α1, α2, α3 and the auxiliary α4, the slope of τ*² in the squared norm of one input.
    kappa2, beta : float, ndarray (3,)
        Diagonal and β1, β2, β3 of the neural tangent kernel "ntk"; None where only the CK was asked for.
    kappa2_full, beta_full : float, ndarray (3,)
        The same for "ntk-full"; None likewise.
    residual : float
        Relative residual of the equation for τ*.
    status : Status

    Notes
    -----
    For an uncentred φ whose mean is not zero the α are the same expressions at the uncentred τ*; they then
    describe slopes at zero correlation, and no first-order equivalent of the kernel (`equivalent` says so).
    """

    deq: DEQ
    tau0_squared: float
    tau: float
    mean: float
    gamma2: float
    alpha: FloatArray
    kappa2: float | None
    beta: FloatArray | None
    kappa2_full: float | None
    beta_full: FloatArray | None
    residual: float
    status: Status

    def __repr__(self) -> str:
        kappa2 = "" if self.kappa2 is None else f", kappa2={self.kappa2:.6g}"
        return (
            f"Coefficients({self.deq}, tau0_squared={self.tau0_squared:g}: tau={self.tau:.6g}, "
            f"gamma2={self.gamma2:.6g}{kappa2}; {self.status})"
        )

    def of(self, kind: Kind) -> KernelCoefficients:
        """Return the coefficients of one kernel.

        Raises
        ------
        InvalidInputError
            The NTK's were not solved for.
        """
        if kind == "ck":
            return _kernel_coefficients(self.alpha, self.gamma2)
        beta, kappa2 = (self.beta, self.kappa2) if kind == "ntk" else (self.beta_full, self.kappa2_full)
        if beta is None or kappa2 is None:
            raise InvalidInputError(f"These coefficients hold no {kind}; call solve(..., kind={kind!r}).")
        return _kernel_coefficients(beta, kappa2)

    def table(self) -> Table:
        """Return the coefficients of the kernels that were solved for, one a row."""
        kinds = [kind for kind in KINDS if kind == "ck" or self.kappa2 is not None]
        rows = [self.of(kind) for kind in kinds]
        mean = float(without_rounding(self.mean, math.hypot(self.mean, math.sqrt(self.gamma2))))
        return Table(
            {name: [getattr(row, name) for row in rows] for name in _NAMES},
            kinds,
            "kind",
            f"{self.deq}, tau0_squared = {self.tau0_squared:g}",
            (
                f"tau = {self.tau:.10g}, mean of the activation {mean:.6g}, alpha4 = {self.alpha[3]:.10g}; "
                f"{self.status}, residual {self.residual:.1e}",
                "linear, norm, pair and diagonal are α1, α2, α3 and γ² of the ck, β1, β2, β3 and κ² of an ntk",
            ),
            dict(zip(_NAMES, vars(coefficient_scales(self.gamma2, self.tau0_squared)).values(), strict=True)),
        )


_NAMES = ("linear", "norm", "pair", "diagonal")


def coefficient_scales(diagonal: float, tau0_squared: float) -> KernelCoefficients:
    """Return the sizes next to which coefficients may be nothing but rounding: those that make up the diagonal."""
    linear, square = (diagonal / max(tau0_squared**power, 1e-300) for power in (1, 2))
    return KernelCoefficients(linear, square, square, diagonal)


def _kernel_coefficients(slopes: FloatArray, diagonal: float) -> KernelCoefficients:
    linear, norm, pair = (float(value) for value in slopes[:3])
    return KernelCoefficients(linear, norm, pair, diagonal)


def solve(deq: DEQ, tau0_squared: float, kind: str | Iterable[str] = ("ck", "ntk")) -> Coefficients:
    """Solve the four equations in (τ*, α1, α2, α3).

    Parameters
    ----------
    deq : DEQ
        Centred or not.
    tau0_squared : float
        τ0² > 0, the mean squared norm of the inputs (tr C°/p for a Gaussian mixture).
    kind : str or tuple of str
        The kernels that must be well posed.  With ``"ck"`` alone the NTK may be infinite and its coefficients
        are left out.

    Returns
    -------
    Coefficients
        Accurate to about twelve digits.

    Raises
    ------
    InvalidInputError
        τ0² is not a positive number, or `kind` is unknown.
    IllPosedError
        There is no equilibrium; σ_a² times the slope of the kernel map is 1 or more, on the diagonal or off
        it; or, for the NTK, σ_a² E φ'(τ*ξ)² is 1 or more and the kernel infinite.

    Notes
    -----
    arXiv 2402.02697, equations for τ*, α1 … α4 (CK) and β1 … β3, κ² (NTK).  "ntk-full" adds the gradient in
    the input weights B: its kernel is (G + σ_b² x·x' Ė)/(1 - σ_a² Ė), Ė = E φ'φ'.

    Examples
    --------
    >>> import rmtdeq as rd
    >>> coef = rd.solve(rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8), tau0_squared=1.0)
    >>> print(f"{coef.tau:.5f} {coef.gamma2:.5f} {coef.alpha[0]:.5f}")
    0.93487 0.36992 0.34499
    """
    kinds = _check.kinds(kind)
    found = preactivation_scale(deq.layer, tau0_squared)
    tau0_squared = float(tau0_squared)
    tau = found.value
    at = moments(deq.activation, tau)
    a2, b2 = deq.sigma_a2, deq.sigma_b2
    diagonal_slope = a2 * (at.variance_slope if deq.centered else 0.5 * at.square_second)
    _require_contraction(deq, diagonal_slope, "the diagonal of the kernel map has slope")
    d0 = a2 * at.first**2
    _require_contraction(deq, d0, "the kernel map off the diagonal has slope")

    alpha4 = b2 / (1 - diagonal_slope)
    alpha1 = b2 * at.first**2 / (1 - d0)
    alpha2 = (at.second * alpha4) ** 2 / (4 * (1 - d0))
    input_slope = a2 * alpha1 + b2
    alpha3 = (at.second * input_slope) ** 2 / (2 * (1 - d0))
    gamma2 = at.variance if deq.centered else at.square

    tangent = None
    if kinds != ("ck",):
        _require_contraction(deq, a2 * at.first_square, "the NTK is infinite: σ_a² E φ'(τ*ξ)² is")
        tangent = _tangent(deq, tau0_squared, at, gamma2, np.array([alpha1, alpha2, alpha3]), d0, input_slope)
    beta, kappa2, beta_full, kappa2_full = tangent or (None, None, None, None)
    return Coefficients(
        deq=deq,
        tau0_squared=tau0_squared,
        tau=tau,
        mean=at.mean,
        gamma2=gamma2,
        alpha=np.array([alpha1, alpha2, alpha3, alpha4]),
        kappa2=kappa2,
        beta=beta,
        kappa2_full=kappa2_full,
        beta_full=beta_full,
        residual=found.residual,
        status=found.status,
    )


def _tangent(
    deq: DEQ, tau0_squared: float, at: Moments, gamma2: float, alpha: FloatArray, d0: float, input_slope: float
) -> tuple[FloatArray, float, FloatArray, float]:
    """Coefficients of "ntk" and "ntk-full": the CK's, times the sum of the geometric series in σ_a² Ė."""
    a2, b2 = deq.sigma_a2, deq.sigma_b2
    alpha1, alpha2, alpha3 = alpha
    d1 = a2 * at.second**2 * input_slope
    # σ_b² x·x' Ė: linear term σ_b² E[φ']², and Ė itself moves with x·x' at the rate E[φ'']² input_slope.
    input_linear, input_pair = b2 * at.first**2, b2 * at.second**2 * input_slope
    remaining = 1 - a2 * at.first_square
    beta1, full1 = alpha1 / (1 - d0), (alpha1 + input_linear) / (1 - d0)
    beta2 = alpha2 / (1 - d0)
    beta3 = (alpha3 + beta1 * d1) / (1 - d0)
    full3 = (alpha3 + input_pair + full1 * d1) / (1 - d0)
    return (
        np.array([beta1, beta2, beta3]),
        gamma2 / remaining,
        np.array([full1, beta2, full3]),
        (gamma2 + b2 * tau0_squared * at.first_square) / remaining,
    )


def _require_contraction(deq: DEQ, slope: float, what: str) -> None:
    if not (math.isfinite(slope) and slope < 1):
        raise IllPosedError(
            f"{deq} is no contraction: {what} {slope:.4g}, and it must be below 1; lower sigma_a2 "
            "or the scale of the activation."
        )
