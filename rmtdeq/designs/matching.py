"""Members of a family whose kernel has given coefficients: exact roots, or where there are none the nearest.

With one basis (see `families`) for each of two layers and the first scaled to keep τ_1 = τ_0, a target (t_1, t_2, t_3,
diagonal) asks for g_1, h_1, k_1 of the first layer and g_2, h_2 of the second (E σ', E σ'', ½E(σ²)'') such that

    m g_1²g_2² = t_1,   p_A A + C/4 = t_2,   q_A A + q_B B = t_3,   A = g_2²h_1², B = h_2²g_1⁴, C = h_2²k_1²

with whole or half numbers that depend on the kind only.  For a split g_1² of the linear part and an angle θ that shares
out the rest of the first layer, the first and the third equation give g_2 and h_2, the second is one equation in θ, and
the diagonal a quadratic one in the second layer's coefficient of e_3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq, least_squares

from rmtdeq._lib.types import FloatArray, Kind
from rmtdeq.designs.families import Basis, Family
from rmtdeq.designs.network import EXACT, DesignStatus, ExplicitNetwork, Targets, relative_errors
from rmtdeq.designs.recursion import moments_of_member, propagate
from rmtdeq.network import ordinary
from rmtdeq.theory import KernelCoefficients

_THRESHOLDS = 65
_SPLITS = 64
_ANGLES = np.linspace(-np.pi / 2, np.pi / 2, 181)
_TURNS = np.linspace(0, np.pi / 2, 2048)[1:-1]
_ZERO = 1e-13

_STARTS, _AGAIN = 12, 3
_SAME = 1e-4
_ROOT = 1e-24


@dataclass(frozen=True)
class _Rules:
    """Numbers of the recursion for a kind: of one layer, and of two."""

    single_linear: float
    linear: float
    norm: float
    pair_first: float
    pair_second: float


_RULES: dict[Kind, _Rules] = {
    "ck": _Rules(1, 1, 0.25, 0.5, 0.5),
    "ntk": _Rules(1, 2, 0.5, 1, 1.5),
    "ntk-full": _Rules(2, 3, 0.5, 2, 2.5),
}

Path = Callable[[FloatArray], FloatArray]
Excess = Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]
Vectors = tuple[FloatArray, ...]
"""Coefficients c of each layer in its basis."""


def exact_networks(family: Family, targets: Targets, tau0_squared: float) -> Iterator[ExplicitNetwork]:
    """Yield candidates for an exact match, whose coefficients need not all be the targets'."""
    ((kind, target),) = targets.items()
    if not family.differentiable and kind != "ck":
        return
    for basis in _shapes(family, target, tau0_squared, kind):
        roots = one_layer(basis, target, tau0_squared, kind)
        yield from (network_of(family, (basis,), root, targets, tau0_squared) for root in roots)
    if family.thresholds is None and target.norm > 0:
        basis = family.basis(0.0)
        roots = two_layers(basis, basis, target, tau0_squared, kind)
        yield from (network_of(family, (basis, basis), root, targets, tau0_squared) for root in roots)


def _shapes(family: Family, target: KernelCoefficients, tau0_squared: float, kind: Kind) -> list[Basis]:
    """The family's functions; those with a threshold at the ones where one layer has the target's diagonal."""
    if family.thresholds is None:
        return [family.basis(0.0)]

    def excess(log_threshold: float) -> float:
        basis = family.basis(float(np.exp(log_threshold)))
        roots = one_layer(basis, target, tau0_squared, kind)
        if not roots:
            return np.nan
        c = roots[0][0]
        form = np.eye(3) + (basis.slopes if kind == "ntk-full" else 0.0)
        return float(c @ form @ c / target.diagonal - 1)

    low, high = np.log(family.thresholds)
    grid = np.linspace(low, high, _THRESHOLDS)
    values = np.array([excess(at) for at in grid])
    brackets = [
        (a, b) for (a, b), (left, right) in zip(pairwise(grid), pairwise(values), strict=True) if left * right <= 0
    ]
    return [family.basis(float(np.exp(brentq(excess, a, b, xtol=1e-15, rtol=1e-15)))) for a, b in brackets]


def network_of(
    family: Family,
    bases: tuple[Basis, ...],
    vectors: Vectors,
    targets: Targets,
    tau0_squared: float,
    status: DesignStatus = DesignStatus.EXACT,
) -> ExplicitNetwork:
    """Return the network of members of a family, whose coefficients in its bases are given."""
    layers, scale = [], tau0_squared
    for basis, c in zip(bases, vectors, strict=True):
        layers.append(basis.member(c, float(np.sqrt(scale))))
        scale = float(c @ c)
    return ExplicitNetwork(ordinary(layers), tau0_squared, targets, family.name, status)


def nearest_network(family: Family, targets: Targets, tau0_squared: float) -> ExplicitNetwork:
    """Return the network of one or two layers with the least squares of relative errors, from several starts."""
    best = _fitted(family, 1, targets, tau0_squared)
    if best.residual > EXACT:
        best = min(best, _fitted(family, 2, targets, tau0_squared), key=lambda net: net.residual)
    return best


def _fitted(family: Family, depth: int, targets: Targets, tau0_squared: float) -> ExplicitNetwork:
    # Unknown: the direction of the first layer's c, whose length is fixed; the second's c; the thresholds.
    sample = family.basis(1.0)
    used = np.flatnonzero([True, sample.even, sample.free])
    count, moving = used.size, family.thresholds is not None

    def unpack(parameters: FloatArray) -> tuple[tuple[Basis, ...], Vectors]:
        vectors, bases = [], []
        for layer in range(depth):
            c = np.zeros(3)
            c[used] = parameters[layer * count : (layer + 1) * count]
            # A layer and its mirror images in both axes do the same to kernels.
            c = np.array([abs(c[0]), abs(c[1]), c[2] if c[0] >= 0 else -c[2]])
            if depth == 2 and layer == 0:
                c *= np.sqrt(tau0_squared) / max(float(np.linalg.norm(c)), 1e-300)
            vectors.append(c)
            bases.append(family.basis(float(np.exp(parameters[depth * count + layer])) if moving else 1.0))
        return tuple(bases), tuple(vectors)

    def errors(parameters: FloatArray) -> FloatArray:
        bases, vectors = unpack(parameters)
        squares = [tau0_squared, *(float(c @ c) for c in vectors)]
        scales = [float(np.sqrt(square)) for square in squares[:depth]]
        layers = [moments_of_member(b, c, t) for b, c, t in zip(bases, vectors, scales, strict=True)]
        return np.concatenate(
            [
                relative_errors(propagate(layers, tau0_squared, kind), target, tau0_squared)
                for kind, target in targets.items()
            ]
        )

    size = np.sqrt(max(target.diagonal for target in targets.values()))
    rng = np.random.default_rng(0)
    best, cost, met = np.empty(0), np.inf, 0
    low = np.full(depth * (count + moving), -np.inf)
    high = -low
    if moving and family.thresholds is not None:
        low[depth * count :], high[depth * count :] = np.log(family.thresholds)
    for _ in range(_STARTS):
        # Layers are nearly linear, with a bend.
        shape = rng.standard_normal((depth, count)) * np.array([0.3, 0.3, 0.1])[:count] + np.eye(count)[0]
        start = np.concatenate([shape.ravel() * size, rng.uniform(-1, 0.3, depth * moving)])
        found = least_squares(errors, start, bounds=(low, high), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=300)
        met = met + 1 if abs(found.cost - cost) <= _SAME * cost else met * (found.cost > cost)
        if found.cost < cost:
            best, cost = found.x, found.cost
        # An exact root, or the same minimum met again and again.
        if cost < _ROOT or met == _AGAIN:
            break
    status = DesignStatus.TRADE_OFF if len(targets) > 1 else DesignStatus.INFEASIBLE
    net = network_of(family, *unpack(best), targets, tau0_squared, status)
    return replace(net, status=DesignStatus.EXACT) if net.residual <= EXACT else net


def one_layer(basis: Basis, target: KernelCoefficients, tau0_squared: float, kind: Kind) -> list[Vectors]:
    """Return the layers whose linear and norm coefficients, and diagonal if there is an e_3, are the target's."""
    rules, tau = _RULES[kind], np.sqrt(tau0_squared)
    c1 = np.sqrt(target.linear / rules.single_linear) * tau / basis.linear
    c2 = 0.0
    if target.norm > 0:
        if not basis.even:
            return []
        c2 = 2 * np.sqrt(target.norm) * tau0_squared / (np.sqrt(2) * basis.curved)
    form = np.eye(3) + (basis.slopes if kind == "ntk-full" else 0.0)
    if not basis.free:
        return [(np.array([c1, c2, 0.0]),)]
    return [(np.array([c1, c2, c3]),) for c3 in _third(form, c1, c2, target.diagonal)]


def two_layers(
    first: Basis, second: Basis, target: KernelCoefficients, tau0_squared: float, kind: Kind
) -> list[Vectors]:
    """Return exact roots for the linear, norm and pair coefficients, and for the diagonal if there is an e_3."""
    if not (first.even and second.even and target.linear > 0):
        return []
    rules = _RULES[kind]
    # By symmetry c_2 ≥ 0.  Splits are denser towards the ends, where feasible sets shrink to.
    if first.free:
        shares = np.sin(np.linspace(0, np.pi / 2, _SPLITS + 2)[1:-1]) ** 2
        lines = [(partial(_first_layer, tau0_squared, share), _ANGLES) for share in shares]
    else:
        lines = [(partial(_straight_or_bent, tau0_squared), _TURNS)]

    def excess(c: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What the second equation is off by, and g_2² and h_2²; NaN where h_2² would be negative."""
        g = (first.linear * c[0]) ** 2 / tau0_squared
        h = 2 * (first.curved * c[1] / tau0_squared) ** 2
        k = np.einsum("i...,ij,j...->...", c, first.square, c) / tau0_squared
        slope = target.linear / (rules.linear * g)
        from_first = slope * h
        bend = (target.pair - rules.pair_first * from_first) / (rules.pair_second * g**2)
        bend = np.where(abs(bend) * g**2 <= _ZERO * target.pair, 0.0, bend)
        with np.errstate(invalid="ignore"):
            off = np.where(bend >= 0, rules.norm * from_first + bend * k**2 / 4 - target.norm, np.nan)
        return off, slope, bend

    found: list[Vectors] = []
    for at, parameters in lines:
        off = excess(at(parameters))[0]
        for i in np.flatnonzero(off[:-1] * off[1:] <= 0):
            c = at(np.asarray(_root(partial(_along, excess, at), parameters[i], parameters[i + 1])))
            _, slope, bend = excess(c)
            d1 = float(np.sqrt(slope) * np.sqrt(tau0_squared) / second.linear)
            d2 = float(np.sqrt(bend) * tau0_squared / (np.sqrt(2) * second.curved))
            form = np.eye(3)
            if kind != "ck":
                passed_on = 1 + (c @ first.slopes @ c / tau0_squared if kind == "ntk-full" else 0.0)
                form = form + passed_on * second.slopes
            if second.free:
                found.extend((c, np.array([d1, d2, d3])) for d3 in _third(form, d1, d2, target.diagonal))
            else:
                found.append((c, np.array([d1, d2, 0.0])))
    return found


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-15, rtol=1e-14))


def _along(excess: Excess, at: Path, t: float) -> float:
    return float(excess(at(np.asarray(t)))[0])


def _straight_or_bent(tau0_squared: float, angle: FloatArray) -> FloatArray:
    """c of length τ0 without e_3."""
    return np.sqrt(tau0_squared) * np.array([np.cos(angle), np.sin(angle), np.zeros_like(angle)])


def _first_layer(tau0_squared: float, share: float, angle: FloatArray) -> FloatArray:
    """c of length τ0, a given share of its square in e_1."""
    rest = np.sqrt((1 - share) * tau0_squared)
    ones = np.ones_like(angle)
    return np.array([np.sqrt(share * tau0_squared) * ones, rest * np.cos(angle), rest * np.sin(angle)])


def _third(form: FloatArray, c1: float, c2: float, diagonal: float) -> list[float]:
    """Solve cᵀ form c = diagonal for c_3; no root if even the best c_3 makes it too large."""
    linear = 2 * form[0, 2] * c1
    constant = form[0, 0] * c1**2 + form[1, 1] * c2**2 - diagonal
    discriminant = linear**2 - 4 * form[2, 2] * constant
    if discriminant < -_ZERO * diagonal * form[2, 2]:
        return []
    root = np.sqrt(max(discriminant, 0.0))
    return [(-linear + sign * root) / (2 * form[2, 2]) for sign in (-1, 1)]
