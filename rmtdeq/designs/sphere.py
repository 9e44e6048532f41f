"""One hidden layer with the kernel of a network on a sphere, to all orders.

Between samples of one squared norm s a kernel's entry is a function of their cosine, f(t) = Σ a_l t^l, a_l ≥ 0.  The
layer ``φ(u) = Σ ε_l √b_l he_l(u/√s)``, he_l = He_l/√l! and ε_l = ±1, has the conjugate kernel g(t) = Σ b_l t^l (Mehler)
and, with its input weights trained as well, the tangent kernel

    Θ(t) = g(t) + t g'(t) = Σ (1 + l) b_l t^l,

a differential equation for g that is one for each coefficient (Simon, Anand and DeWeese, ICML 2022): b_l = a_l, or
a_l/(1 + l) for "ntk-full".  The signs are free: any of them have this kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import polynomial as poly

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation, activation, hermite_coefficients, moments
from rmtdeq.designs.network import DesignStatus, ExplicitNetwork, SphereMatch, without_rounding
from rmtdeq.kernels import kernel
from rmtdeq.network import Network, ordinary, preactivation_scale, require_plain
from rmtdeq.theory import KernelCoefficients
from rmtdeq.theory.jets import diagonal_jet, entry_jet

HERMITE = "hermite"
"""The family's name."""

_POINTS = 4096
_DEGREE = 512
_STEPS = 100
_SETTLED = 1e-15
_NOTHING = 1e-15

_REACH = 6.0
"""Standard deviations up to which the layer is a spline; one pre-activation in 5·10⁸ is beyond."""

_INTERVALS, _MANY_INTERVALS = 480, 1200
"""Pieces of the spline; the second where high orders make a kink, so that its own are nothing beside that."""

_ROUGH = 1e-9

_LAST = 256
"""Orders well below are kept as they are, and those well above left out."""

_SIGNS = np.array([-1.0, 1.0, 1.0, -1.0])
_ANGLES = 65


def sphere_series(network: Network, squared_norm: float, kind: Kind) -> FloatArray:
    """Return the coefficients a_l of a kernel's entry as a power series in the cosine of two samples.

    Parameters
    ----------
    network : Network
    squared_norm : float
        Of both samples; centred activations are centred there.
    kind : str

    Returns
    -------
    ndarray (2048,)
        Nonnegative but for rounding.

    Raises
    ------
    IllPosedError
        There is no equilibrium, or the iteration is no contraction: σ_a² E φ'(τ*ξ)² ≥ 1.

    Notes
    -----
    The entry is computed where the cosine runs around the unit circle of the complex plane, where Mehler's series
    converges as well, and the coefficients are its Fourier coefficients.
    """
    require_plain(network, "One layer with the same kernel on the sphere")
    t = np.exp(1j * np.pi * np.arange(_POINTS // 2 + 1) / (_POINTS // 2))
    square, value = squared_norm, squared_norm * t
    tangent = value if kind == "ntk-full" else None
    for layer in network.resting(squared_norm):
        a2, b2, c2 = layer.sigma_a2, layer.sigma_b2, layer.sigma_c2
        scale = preactivation_scale(layer, square).value
        squares = hermite_coefficients(layer.activation, scale, _DEGREE) ** 2
        steep = poly.polyder(squares) / scale**2
        r = _correlations(squares, a2 / scale**2, (b2 * value + c2) / scale**2)
        value, slope = poly.polyval(r, squares), poly.polyval(r, steep)
        if kind != "ck":
            below = 0.0 if tangent is None else slope * (b2 * tangent + c2)
            tangent = (value + below) / (1 - a2 * slope)
        square = moments(layer.activation, scale).square
    entry = value if tangent is None else tangent
    return np.fft.irfft(entry.conj())[: _POINTS // 2]


def _correlations(squares: FloatArray, gain: float, source: np.ndarray) -> np.ndarray:
    """Solve ``r = gain Σ_k squares_k r^k + source`` by Newton's method from zero.

    As power series all iterates have nonnegative coefficients, and grow to the solution's: none leaves the unit disk.
    """
    r = np.zeros_like(source)
    slopes = poly.polyder(squares)
    for _ in range(_STEPS):
        step = (gain * poly.polyval(r, squares) + source - r) / (1 - gain * poly.polyval(r, slopes))
        r = r + step
        if abs(step).max() <= _SETTLED:
            break
    return r


def network_on_sphere(deq: Network, tau0_squared: float, kind: Kind) -> ExplicitNetwork:
    """Return one layer with the kernel of a network for samples of one norm.

    Parameters
    ----------
    deq : Network
        Not centred.
    tau0_squared : float
        The samples' squared norm.
    kind : str
        ``"ntk"`` is that of training with the first layer's weights fixed, of one layer the conjugate kernel.

    Raises
    ------
    IllPosedError
        As for `sphere_series`.
    """
    phi, match = _hermite_twin(deq, tau0_squared, kind)
    entry = entry_jet(deq, tau0_squared, tau0_squared, 0.0, kind)
    target = KernelCoefficients(
        linear=float(entry.gradient[2]),
        norm=float(entry.hessian[0, 1]),
        pair=float(entry.hessian[2, 2] / 2),
        diagonal=float(diagonal_jet(deq, np.array([tau0_squared]), kind).value[0]),
    )
    targets = {kind: without_rounding(target, tau0_squared)}
    return ExplicitNetwork(ordinary([phi]), tau0_squared, targets, HERMITE, DesignStatus.SPHERE, on_sphere=match)


def _hermite_twin(network: Network, squared_norm: float, kind: Kind) -> tuple[Activation, SphereMatch]:
    """Return the activation of one hidden layer with a network's kernel on the sphere, and how well it has it.

    Notes
    -----
    Signs + + - - + + … of the orders 1, 2, 3, … make a function that oscillates nowhere, since ``Σ (±c)^l he_l/√l!``
    with such signs are sines and cosines.  High orders, which make a kink at zero, are taken off smoothly.  The sum is
    evaluated at equally spaced points up to six standard deviations, and what is used is the natural cubic spline
    through them.
    """
    series = sphere_series(network, squared_norm, kind)
    order = np.arange(series.size)
    if kind == "ntk-full":
        series = series / (1 + order)
    series = np.where(series > _NOTHING * series.sum(), series, 0.0)
    signs = np.where(order > 0, _SIGNS[order % 4], 1.0)
    terms = (signs * np.sqrt(series) * np.exp(-4 * (order / _LAST) ** 4))[: 2 * _LAST]
    intervals = _MANY_INTERVALS if series[_LAST:].sum() > _ROUGH * series.sum() else _INTERVALS
    x = np.arange(-intervals // 2, intervals // 2 + 1) * (2 * _REACH / intervals)
    reach = _REACH * np.sqrt(squared_norm)
    phi = activation("spline", [-reach, reach], _hermite_sum(terms, x))
    return phi, SphereMatch(squared_norm, _largest_error(network, phi, squared_norm, kind), float(reach))


def _hermite_sum(terms: FloatArray, x: FloatArray) -> FloatArray:
    """Return Σ_l terms_l He_l(x)/√l!, summed in units of exp(x²/4), in which all of them are below one."""
    unit = np.exp(-0.25 * x * x)
    before, now = np.zeros_like(x), unit
    total = np.zeros_like(x)
    for order, term in enumerate(terms):
        total += term * now
        before, now = now, (x * now - np.sqrt(order) * before) / np.sqrt(order + 1)
    return total / unit


def _largest_error(network: Network, phi: Activation, squared_norm: float, kind: Kind) -> float:
    """Compare exact entries between a sample and others at angles from 0 to π."""
    angles = np.pi * (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, _ANGLES)))
    X = np.sqrt(squared_norm) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wanted = kernel(X[:1], network, kind, Y=X, tau0_squared=squared_norm, backend="numpy", progress=False)[0]
    squares = hermite_coefficients(phi, float(np.sqrt(squared_norm)), _DEGREE) ** 2
    found = poly.polyval(np.cos(angles), squares * (1 + np.arange(squares.size) if kind == "ntk-full" else 1.0))
    return float(abs(found - wanted).max() / wanted[0])
