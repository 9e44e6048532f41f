"""The four nonlinear equations of an implicit network, and the coefficients of its kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rmtdeq._lib import check
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq._lib.solvers import Status
from rmtdeq._lib.tables import Table, Tabular, without_rounding
from rmtdeq._lib.types import KINDS, FloatArray, Kind
from rmtdeq.activations import moments
from rmtdeq.network import Layer, Network, preactivation_scale, require_network, require_plain
from rmtdeq.network.wellposed import require_contraction, require_diagonal_contraction, require_finite_tangent


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
    """Solution of the four equations of a network, layer after layer.

    Attributes
    ----------
    deq : Network
    tau0_squared : float
        Mean squared norm of the inputs.
    tau : float
        Standard deviation τ* of the pre-activation, of the last layer.
    mean : float
        E φ(τ* ξ) of the last layer, taken off φ where it is centred.
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

    deq: Network
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


def solve(deq: Network, tau0_squared: float, kind: str | Iterable[str] = ("ck", "ntk")) -> Coefficients:
    """Solve the four equations in (τ*, α1, α2, α3).

    Parameters
    ----------
    deq : DEQ or Network
        Centred or not; without bias.
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
        τ0² is not a positive number, `kind` is unknown, or a layer has a bias.
    IllPosedError
        There is no equilibrium; σ_a² times the slope of the kernel map is 1 or more, on the diagonal or off
        it; or, for the NTK, σ_a² E φ'(τ*ξ)² is 1 or more and the kernel infinite.

    Notes
    -----
    arXiv 2402.02697, equations for τ*, α1 … α4 (CK) and β1 … β3, κ² (NTK).  "ntk-full" adds the gradient in
    the input weights B: its kernel is (G + σ_b² x·x' Ė)/(1 - σ_a² Ė), Ė = E φ'φ'.  A layer over another has the
    coefficients of that one's kernel in the place of those of x·x', (1, 0, 0).

    Examples
    --------
    >>> import rmtdeq as rd
    >>> coef = rd.solve(rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8), tau0_squared=1.0)
    >>> print(f"{coef.tau:.5f} {coef.gamma2:.5f} {coef.alpha[0]:.5f}")
    0.93487 0.36992 0.34499
    """
    require_network(deq)
    require_plain(deq, "The first-order expansion, of which designs are made,")
    kinds = check.kinds(kind)
    tangent = kinds != ("ck",)
    state = _input(check.squared_norm(tau0_squared, "tau0_squared"))
    for layer in deq.layers:
        state = _through(layer, state, tangent)
    return Coefficients(
        deq=deq,
        tau0_squared=float(tau0_squared),
        tau=state.tau,
        mean=state.mean,
        gamma2=state.square,
        alpha=state.alpha,
        kappa2=state.tangents[0][1] if tangent else None,
        beta=state.tangents[0][0] if tangent else None,
        kappa2_full=state.tangents[1][1] if tangent else None,
        beta_full=state.tangents[1][0] if tangent else None,
        residual=state.residual,
        status=Status.CONVERGED,
    )


@dataclass(frozen=True)
class _State:
    """What the recursion over layers carries.

    Attributes
    ----------
    alpha : ndarray (4,)
        The CK's α1 … α3, and the slope of the scale τ² in the sample's squared norm.
    square, norm_slope : float
        The CK's diagonal, and its slope in the sample's squared norm.
    tangents : tuple
        β1 … β3 and κ² of "ntk" and of "ntk-full".
    """

    alpha: FloatArray
    square: float
    norm_slope: float
    tangents: tuple[tuple[FloatArray, float], ...]
    tau: float = 0.0
    mean: float = 0.0
    residual: float = 0.0


def _input(tau0_squared: float) -> _State:
    """The samples' inner products; "ntk" starts at nothing, the first layer's input weights being fixed."""
    nothing, gram = (np.zeros(3), 0.0), (np.array([1.0, 0.0, 0.0]), tau0_squared)
    return _State(np.array([1.0, 0.0, 0.0, 1.0]), tau0_squared, 1.0, (nothing, gram))


def _through(layer: Layer, below: _State, tangent: bool) -> _State:
    """Solve a layer's equations, its input having the coefficients `below`."""
    if layer.sigma_c2:
        raise InvalidInputError(
            f"The first-order theory is that of networks without bias, and {layer.title} has one: take the class-wise "
            "level, or sigma_c2=0."
        )
    found = preactivation_scale(layer, below.square)
    at = moments(layer.activation, found.value)
    a2, b2 = layer.sigma_a2, layer.sigma_b2
    slope, bend = at.first**2, at.second**2
    along = at.variance_slope if layer.centered else 0.5 * at.square_second
    require_diagonal_contraction(layer.title, a2 * along)
    require_contraction(layer.title, a2 * slope)

    rest = 1 - a2 * slope
    scale_slope = b2 * below.norm_slope / (1 - a2 * along)
    alpha1 = b2 * below.alpha[0] * slope / rest
    input_slope = a2 * alpha1 + b2 * below.alpha[0]
    alpha2 = b2 * below.alpha[1] * slope / rest + (at.second * scale_slope) ** 2 / (4 * rest)
    alpha3 = b2 * below.alpha[2] * slope / rest + (at.second * input_slope) ** 2 / (2 * rest)
    square = at.variance if layer.centered else at.square
    tangents = below.tangents
    if tangent:
        steepness = a2 * at.first_square
        require_finite_tangent(layer.title, steepness)
        # The CK's and what comes from below, times the sum of the geometric series in σ_a² Ė, which moves with the
        # inner product at the rate σ_a² E[φ'']² input_slope.
        tangents = ()
        for beta, diagonal in below.tangents:
            own = np.array([alpha1, alpha2, alpha3]) + b2 * slope * beta
            own[2] += b2 * bend * input_slope * beta[0] + own[0] / rest * (a2 * bend * input_slope)
            tangents += ((own / rest, (square + b2 * diagonal * at.first_square) / (1 - steepness)),)
    return _State(
        np.array([alpha1, alpha2, alpha3, scale_slope]),
        square,
        along * scale_slope,
        tangents,
        found.value,
        at.mean,
        max(below.residual, found.residual),
    )


def largest_mean(network: Network, tau0_squared: float) -> float:
    """Return the largest mean of the features of an uncentred layer, relative to their size."""
    largest, square = 0.0, tau0_squared
    for layer in network.layers:
        at = moments(layer.activation, preactivation_scale(layer, square).value)
        square = at.variance if layer.centered else at.square
        if not layer.centered:
            largest = max(largest, abs(at.mean) / math.sqrt(square))
    return largest
