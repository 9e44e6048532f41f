"""Piecewise linear layers fitted to a kernel around given squared norms, and moved from there to an exact root.

Around samples of squared norms (s, t) and small inner product x an entry is ``V + L x + P x²``.  V, L and P of a
network follow layer by layer: with Hermite coefficients h_k of σ at the scales of its inputs,
``F(ρ) = Σ_k h_k(s) h_k(t) (ρ/√(S_s S_t))^k`` is composed with the expansion of the layer before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import least_squares

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.activations import Activation
from rmtdeq.designs.hinges import Hinges
from rmtdeq.designs.network import EXACT, DesignStatus, ExplicitNetwork, NormMatch, Targets, relative_errors
from rmtdeq.designs.recursion import propagate
from rmtdeq.network import Network, ordinary
from rmtdeq.theory import KernelCoefficients
from rmtdeq.theory.jets import diagonal_jet, entry_jet

_KNOTS = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])  # in units of τ0
_AROUND = np.array([0.93, 1.0, 1.07])  # where norms lie around those given
_APART = 0.02
_WEIGHTS = (100.0, 1.0, 0.1, 1.0)  # V of a block adds up, x² is of order 1/p
_SMALL = 1e-5
_EVALUATIONS = 60
_DAMPING = 1e-4
_STEPS = 30
_STEP = 1e-6
_ROOT = 1e-14
_DEARER, _NEAR = 2.0, 1e-3  # an exact root pays that leaves the fit no worse, or near


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


@dataclass(frozen=True, eq=False)
class KernelFit:
    """Layers fitted to a kernel.

    Attributes
    ----------
    layers : tuple of Activation
    residual : float
        The largest error, at any pair of norms, of V, of τ0² L or of the diagonal, over the mean diagonal.
    """

    layers: tuple[Activation, ...]
    residual: float


def deq_at_norms(deq: Network, norms: FloatArray, kind: Kind) -> KernelAtNorms:
    """Expand the kernel of a DEQ that is not centred."""
    u, v = np.broadcast_arrays(norms[:, None], norms[None, :])
    jet = entry_jet(deq, u, v, np.zeros_like(u), kind)
    diagonal = diagonal_jet(deq, norms, kind).value
    return KernelAtNorms(jet.value, jet.gradient[..., 2], 0.5 * jet.hessian[..., 2, 2], diagonal)


def network_at_norms(hinges: Hinges, layers: FloatArray, norms: FloatArray, kind: Kind) -> KernelAtNorms:
    """Expand the kernel of a network whose layers are sums of hinges, `layers` (L, k + 2) their coefficients."""
    squares, count = norms, norms.size
    V: FloatArray = np.zeros((count, count))
    L, P = V + 1, V
    start = 1.0 if kind == "ntk-full" else 0.0
    tangent = (start * V, start * L, start * P, start * norms)
    for c in layers:
        at = hinges.expectations(squares)
        roots = np.sqrt(squares)
        unit = np.outer(roots, roots)
        F = _derivatives(at.hermite @ c, V / unit, unit)
        squares = (at.products @ c) @ c
        # F' composed with V + L x + P x², as F itself is.
        passed = (F[1], F[2] * L, F[2] * P + 0.5 * F[3] * L**2)
        V, L, P = F[0], F[1] * L, F[1] * P + 0.5 * F[2] * L**2
        if kind != "ck":
            tv, tl, tp, td = tangent
            tangent = (
                V + tv * passed[0],
                L + tv * passed[1] + tl * passed[0],
                P + tv * passed[2] + tl * passed[1] + tp * passed[0],
                squares + td * ((at.slopes @ c) @ c),
            )
    return KernelAtNorms(V, L, P, squares) if kind == "ck" else KernelAtNorms(*tangent)


def _derivatives(h: FloatArray, r: FloatArray, unit: FloatArray) -> list[FloatArray]:
    """F and its first three derivatives in ρ = r·unit, from Hermite coefficients (degree + 1, N)."""
    outer = h[:, :, None] * h[:, None, :]
    found: list[FloatArray] = []
    for order in range(4):
        total = np.zeros_like(r)
        for k in range(len(h) - 1, order - 1, -1):
            total = total * r + float(np.prod(np.arange(k - order + 1, k + 1))) * outer[k]
        found.append(total / unit**order)
    return found


def fit_kernel(
    deq: Network, coefficients: KernelCoefficients, tau0_squared: float, kind: Kind, norms: FloatArray
) -> tuple[KernelFit, KernelFit]:
    """Fit a network to the kernel of a DEQ at and around given squared norms.

    Parameters
    ----------
    deq : DEQ
        Not centred.
    coefficients : KernelCoefficients
        Of the kernel at τ0²; where norm and pair vanish, one odd layer is fitted, otherwise two.
    tau0_squared : float
        Where layers have no mean and the first keeps the scale.
    kind : str
    norms : ndarray (K,)

    Returns
    -------
    exact, free : KernelFit
        The fit, and the root of the coefficients nearest to it in the metric of the fit; the root is exact only if
        there is one nearby.
    """
    points = _points(norms)
    wanted = deq_at_norms(deq, points, kind)
    search = _Search(tau0_squared, kind, coefficients, points, wanted)
    rng = np.random.default_rng(0)
    start = 0.05 * rng.standard_normal((search.depth, search.parts.shape[0]))
    start[:, 0] = 1.0  # nearly linear, with a bend
    # What is left to gain when it stops is far below the error of the expansion itself.
    found = least_squares(search.residuals, start.ravel(), xtol=1e-9, ftol=1e-9, gtol=1e-12, max_nfev=_EVALUATIONS)
    return search.result(search.to_root(found.x, found.jac)), search.result(found.x)


def fitted_network(deq: Network, targets: Targets, tau0_squared: float, norms: FloatArray) -> ExplicitNetwork:
    """Return a piecewise linear network fitted around squared norms, with exact coefficients where that pays.

    Parameters
    ----------
    deq : DEQ or Network
        Not centred.
    targets : dict of KernelCoefficients
        Of one kind, at τ0².
    tau0_squared : float
    norms : ndarray (K,)
    """
    ((kind, target),) = targets.items()
    squares = tuple(map(float, norms))
    root, free = fit_kernel(deq, target, tau0_squared, kind, norms)
    net = ExplicitNetwork(
        ordinary(root.layers),
        tau0_squared,
        targets,
        "piecewise_linear",
        DesignStatus.EXACT,
        NormMatch(squares, root.residual),
    )
    if net.residual <= EXACT and root.residual <= max(_DEARER * free.residual, _NEAR):
        return net
    match = NormMatch(squares, free.residual)
    return replace(net, layers=ordinary(free.layers), status=DesignStatus.CLASSWISE, at_norms=match)


class _Search:
    """What the fit minimises and the root makes vanish, as functions of the free coefficients."""

    def __init__(
        self,
        tau0_squared: float,
        kind: Kind,
        coefficients: KernelCoefficients,
        points: FloatArray,
        wanted: KernelAtNorms,
    ) -> None:
        self.tau0_squared, self.kind, self.coefficients = tau0_squared, kind, coefficients
        self.points, self.wanted = points, wanted
        self.tau = float(np.sqrt(tau0_squared))
        self.hinges = Hinges(_KNOTS * self.tau)
        self.at = self.hinges.expectations(np.array([tau0_squared]))
        self.odd = coefficients.norm == coefficients.pair == 0
        self.depth = 1 if self.odd else 2
        self.parts = _odd_parts() if self.odd else np.eye(_KNOTS.size + 2)[1:]
        self.parts[:, 0] -= self.parts @ self.at.hermite[0, 0]
        self.size = float(np.sqrt(wanted.diagonal.mean())) / self.tau

    def layers(self, free: FloatArray) -> FloatArray:
        """Coefficients of the hinges, (L, k + 2): no mean at scale τ0, and the first of two keeps it."""
        c = free.reshape(self.depth, -1) @ self.parts
        if self.depth == 2:
            c[0] *= self.tau / np.sqrt(c[0] @ self.at.products[0] @ c[0])
        c[-1] *= self.size
        return c

    def residuals(self, free: FloatArray) -> FloatArray:
        """Weighted errors of the kernel, and the coefficients themselves to make the least of them the solution."""
        found = network_at_norms(self.hinges, self.layers(free), self.points, self.kind)
        errors = found.errors(self.wanted, self.tau0_squared)
        return np.concatenate([*(w * part for w, part in zip(_WEIGHTS, errors, strict=True)), _SMALL * free])

    def errors(self, free: FloatArray) -> FloatArray:
        """Relative errors of the coefficients at τ0², those that do not vanish by symmetry."""
        found = propagate([self.at.moments(c) for c in self.layers(free)], self.tau0_squared, self.kind)
        errors = relative_errors(found, self.coefficients, self.tau0_squared)
        return errors[[0, 3]] if self.odd else errors

    def to_root(self, free: FloatArray, jacobian: FloatArray) -> FloatArray:
        """Newton's method, each step the one that changes the fit least."""
        metric = cho_factor(jacobian.T @ jacobian + _DAMPING * np.eye(free.size))
        steps = _STEP * np.eye(free.size)
        for _ in range(_STEPS):
            error = self.errors(free)
            if abs(error).max() < _ROOT:
                break
            slopes = np.array([self.errors(free + d) - self.errors(free - d) for d in steps]).T / (2 * _STEP)
            directions = cho_solve(metric, slopes.T)
            new = free - directions @ np.linalg.lstsq(slopes @ directions, error)[0]
            if not np.isfinite(new).all():
                break
            free = new
        return free

    def result(self, free: FloatArray) -> KernelFit:
        """Return the network and the error of its kernel."""
        layers = self.layers(free)
        found = network_at_norms(self.hinges, layers, self.points, self.kind)
        value, slope, _, diagonal = found.errors(self.wanted, self.tau0_squared)
        largest = float(max(abs(part).max() for part in (value, slope, diagonal)))
        return KernelFit(tuple(self.hinges.member(c) for c in layers), largest)


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
