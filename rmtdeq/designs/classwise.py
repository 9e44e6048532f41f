"""Designs that match a kernel at several squared norms at once: of each class, not of their mean only.

Around samples of squared norms (s, t) and small inner product x an entry is ``V + L x + P x²``.  V, L and P of a
network follow layer by layer: with Hermite coefficients h_k of σ at the scales of its inputs,
``F(ρ) = Σ_k h_k(s) h_k(t) (ρ/√(S_s S_t))^k`` is composed with the expansion of the layer before.  For activations that
are linear between knots, all expectations have closed forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtr

from rmtdeq._types import FloatArray, Kind
from rmtdeq.deq import DEQ
from rmtdeq.equivalents.scalar_kernel import diagonal_kernel, scalar_kernel
from rmtdeq.gauss import Activation, activation, moments
from rmtdeq.gauss.quadrature import normal_density

_KNOTS = np.array([-2.0, -1.25, -0.6, 0.0, 0.6, 1.25, 2.0])  # in units of τ0
_DEGREE = 8
_AROUND = np.array([0.93, 1.0, 1.07])  # where a class's norms lie
_APART = 0.02
_WEIGHTS = (100.0, 1.0, 0.1, 1.0)  # V of a block adds up, x² is of order 1/p
_SMALL = 1e-5
_STARTS = 3


@dataclass(frozen=True, eq=False)
class KernelAtNorms:
    """A kernel's expansion at pairs of squared norms.

    Attributes
    ----------
    value, slope, curvature : ndarray (N, N)
        V, L and P.
    diagonal : ndarray (N,)
    """

    value: FloatArray
    slope: FloatArray
    curvature: FloatArray
    diagonal: FloatArray

    def errors(self, other: KernelAtNorms, tau0_squared: float) -> tuple[FloatArray, ...]:
        """Return the differences of the four parts, in units of the other's mean diagonal."""
        size = other.diagonal.mean()
        pairs = np.triu_indices(other.diagonal.size)
        return (
            (self.value - other.value)[pairs] / size,
            (self.slope - other.slope)[pairs] * tau0_squared / size,
            (self.curvature - other.curvature)[pairs] * tau0_squared**2 / size,
            (self.diagonal - other.diagonal) / size,
        )

    def largest_error(self, other: KernelAtNorms, tau0_squared: float) -> float:
        """Return the largest difference of a value, a slope or a diagonal entry in those units."""
        value, slope, _, diagonal = self.errors(other, tau0_squared)
        return float(max(abs(part).max() for part in (value, slope, diagonal)))


def deq_at_norms(deq: DEQ, norms: FloatArray, kind: Kind) -> KernelAtNorms:
    """Expand the kernel of a DEQ that is not centred."""
    u, v = np.broadcast_arrays(norms[:, None], norms[None, :])
    jet = scalar_kernel(deq, u, v, np.zeros_like(u), kind)
    diagonal = diagonal_kernel(deq, norms, kind).value
    return KernelAtNorms(jet.value, jet.gradient[..., 2], 0.5 * jet.hessian[..., 2, 2], diagonal)


@dataclass(frozen=True, eq=False)
class Hinges:
    """Functions 1, x and |x - k| for each knot k, and their Gaussian expectations.

    Attributes
    ----------
    knots : ndarray (k,)
        Ascending.
    """

    knots: FloatArray

    def expectations(self, squares: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return Hermite coefficients, products and products of derivatives at scales √S.

        Parameters
        ----------
        squares : ndarray (N,)

        Returns
        -------
        hermite : ndarray (degree + 1, N, k + 2)
        products, slopes : ndarray (N, k + 2, k + 2)
        """
        scale = np.sqrt(squares)[:, None]
        a = self.knots / scale
        density, below = normal_density(a), ndtr(a)
        hermite = np.zeros((_DEGREE + 1, squares.size, self.knots.size + 2))
        hermite[0, :, 0] = 1.0
        hermite[1, :, 1] = scale[:, 0]
        hermite[0, :, 2:] = scale * (2 * density + a * (2 * below - 1))
        hermite[1, :, 2:] = scale * (1 - 2 * below)
        previous, polynomial = np.zeros_like(a), np.ones_like(a)
        for k in range(2, _DEGREE + 1):
            hermite[k, :, 2:] = scale * 2 * density * polynomial / np.sqrt(k * (k - 1))
            previous, polynomial = polynomial, (a * polynomial - np.sqrt(k - 2) * previous) / np.sqrt(k - 1)
        products, slopes = np.zeros((2, squares.size, self.knots.size + 2, self.knots.size + 2))
        products[:, 0], products[:, 1] = hermite[0], scale * hermite[1]
        slopes[:, 1, 1] = 1.0
        slopes[:, 1, 2:] = 1 - 2 * below
        # Between two knots i < j the product of |x - i| and |x - j| is minus that of x - i and x - j.
        low, high = np.minimum(a[:, :, None], a[:, None, :]), np.maximum(a[:, :, None], a[:, None, :])
        m0 = ndtr(high) - ndtr(low)
        m1 = normal_density(low) - normal_density(high)
        m2 = m0 + low * normal_density(low) - high * normal_density(high)
        whole = 1 + low * high
        products[:, 2:, 2:] = squares[:, None, None] * (whole - 2 * (m2 - (low + high) * m1 + low * high * m0))
        slopes[:, 2:, 2:] = 1 - 2 * m0
        for matrix in (products, slopes):
            matrix[:, 2:, :2] = np.swapaxes(matrix[:, :2, 2:], 1, 2)
        return hermite, products, slopes

    def member(self, c: FloatArray, scale: float = 1.0) -> Activation:
        """Return x ↦ Σ c_i e_i(x/scale)."""
        x = np.concatenate([[self.knots[0] - 1], self.knots, [self.knots[-1] + 1]])
        values = c[0] + c[1] * x + abs(x[:, None] - self.knots) @ c[2:]
        return activation("piecewise_linear", scale * x, values)


def network_at_norms(hinges: Hinges, layers: FloatArray, norms: FloatArray, kind: Kind) -> KernelAtNorms:
    """Expand the kernel of a network whose layers are sums of hinges, `layers` (L, k + 2) their coefficients."""
    squares, count = norms, norms.size
    V: FloatArray = np.zeros((count, count))
    L, P = V + 1, V
    start = 1.0 if kind == "ntk-full" else 0.0
    tangent = (start * V, start * L, start * P, start * norms)
    for c in layers:
        hermite, products, slopes = hinges.expectations(squares)
        h = hermite @ c
        roots = np.sqrt(squares)
        unit = np.outer(roots, roots)
        F = _derivatives(h, V / unit, unit)
        squares = (products @ c) @ c
        # The last layer's derivative F', composed with V + L x + P x² as F itself is.
        passed = (F[1], F[2] * L, F[2] * P + 0.5 * F[3] * L**2)
        V, L, P = F[0], F[1] * L, F[1] * P + 0.5 * F[2] * L**2
        if kind != "ck":
            tv, tl, tp, td = tangent
            tangent = (
                V + tv * passed[0],
                L + tv * passed[1] + tl * passed[0],
                P + tv * passed[2] + tl * passed[1] + tp * passed[0],
                squares + td * ((slopes @ c) @ c),
            )
    return KernelAtNorms(V, L, P, squares) if kind == "ck" else KernelAtNorms(*tangent)


def _derivatives(h: FloatArray, r: FloatArray, unit: FloatArray) -> list[FloatArray]:
    """F and its first three derivatives in ρ = r·unit, from Hermite coefficients (degree + 1, N)."""
    outer = h[:, :, None] * h[:, None, :]
    found: list[FloatArray] = []
    for order in range(4):
        total = np.zeros_like(r)
        for k in range(_DEGREE, order - 1, -1):
            falling = float(np.prod(np.arange(k - order + 1, k + 1)))
            total = total * r + falling * outer[k]
        found.append(total / unit**order)
    return found


def match_at_norms(
    deq: DEQ, tau0_squared: float, kind: Kind, norms: FloatArray, odd: bool
) -> tuple[tuple[Activation, ...], float]:
    """Fit a network to the kernel of a DEQ at and around given squared norms.

    Parameters
    ----------
    deq : DEQ
        Not centred.
    tau0_squared : float
        Where the first layer keeps the scale.
    kind : str
    norms : ndarray (K,)
    odd : bool
        Whether φ is; then one odd layer, otherwise two.

    Returns
    -------
    layers : tuple of Activation
    residual : float
        See `KernelAtNorms.largest_error`.
    """
    points = _points(norms)
    target = deq_at_norms(deq, points, kind)
    tau = np.sqrt(tau0_squared)
    hinges = Hinges(_KNOTS * tau)
    units = np.array([tau, np.sqrt(target.diagonal.mean())][-1 if odd else 0 :]) / tau
    parts = _odd_parts() if odd else np.eye(_KNOTS.size + 2)
    parts = parts * np.concatenate([[tau], np.ones(_KNOTS.size + 1)])

    def layers(free: FloatArray) -> FloatArray:
        return units[:, None] * (free.reshape(units.size, -1) @ parts)

    def residuals(free: FloatArray) -> FloatArray:
        errors = network_at_norms(hinges, layers(free), points, kind).errors(target, tau0_squared)
        weighted = [weight * part for weight, part in zip(_WEIGHTS, errors, strict=True)]
        return np.concatenate([*weighted, _SMALL * free])

    rng = np.random.default_rng(0)
    fits = []
    for _ in range(_STARTS):
        start = 0.05 * rng.standard_normal((units.size, parts.shape[0]))
        # Nearly linear, with a bend and no mean.
        start[:, 0 if odd else 1] = 1.0
        if not odd:
            start[:, 0] = -start[:, 2:] @ Hinges(_KNOTS).expectations(np.ones(1))[0][0, 0, 2:]
        fits.append(least_squares(residuals, start.ravel(), xtol=1e-12, ftol=1e-12, gtol=1e-12, max_nfev=200))
    best = layers(min(fits, key=lambda fit: fit.cost).x)
    residual = network_at_norms(hinges, best, points, kind).largest_error(target, tau0_squared)
    if odd:
        return (hinges.member(best[0]),), residual
    # Move scale between the layers until the first keeps it.
    factor = tau / np.sqrt(moments(hinges.member(best[0]), float(tau)).square)
    return (hinges.member(factor * best[0]), hinges.member(best[1], factor)), residual


def _points(norms: FloatArray) -> FloatArray:
    """Return the norms and their surroundings, those that nearly coincide once."""
    candidates = np.sort(np.outer(norms, _AROUND).ravel())
    kept = [candidates[0]]
    for norm in candidates[1:]:
        if norm > (1 + _APART) * kept[-1]:
            kept.append(norm)
    return np.array(kept)


def _odd_parts() -> FloatArray:
    """x, and |x - k| - |x + k| for each knot k > 0, in terms of the hinges."""
    middle = _KNOTS.size // 2
    parts = np.zeros((1 + middle, _KNOTS.size + 2))
    parts[0, 1] = 1.0
    for i in range(middle):
        parts[1 + i, 2 + middle + 1 + i], parts[1 + i, 2 + middle - 1 - i] = 1.0, -1.0
    return parts
