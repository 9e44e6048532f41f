"""The four equations against 30-digit quadrature, and the coefficients against derivatives of the exact kernel."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from mpmath.ctx_mp import MPContext

import rmtdeq as rd
from rmtdeq.equivalents import solve

DIGITS = 30
mp = MPContext()
mp.dps = DIGITS


@dataclass(frozen=True)
class HighPrecision:
    """An activation in arbitrary precision: φ, φ' and the kinks of φ."""

    fn: object
    slope: object
    kinks: tuple[float, ...] = ()


def _logistic(u):
    return 1 / (1 + mp.exp(-u))


def _normal_cdf(u):
    return mp.erfc(-u / mp.sqrt(2)) / 2


def _normal_density(u):
    return mp.exp(-u * u / 2) / mp.sqrt(2 * mp.pi)


def _piecewise(knots, values):
    knots, values = [mp.mpf(x) for x in knots], [mp.mpf(y) for y in values]
    slopes = [(values[i + 1] - values[i]) / (knots[i + 1] - knots[i]) for i in range(len(knots) - 1)]

    def piece(u):
        return sum(1 for x in knots[1:-1] if u > x)

    return HighPrecision(
        lambda u: values[piece(u)] + slopes[piece(u)] * (u - knots[piece(u)]),
        lambda u: slopes[piece(u)],
        tuple(float(x) for x in knots[1:-1]),
    )


def _polynomial(*coefficients):
    ascending = [mp.mpf(c) for c in coefficients]
    slopes = [k * c for k, c in enumerate(ascending)][1:]
    return HighPrecision(lambda u: mp.polyval(ascending[::-1], u), lambda u: mp.polyval(slopes[::-1], u))


TENTH, BEND = mp.mpf(0.1), mp.mpf(0.4)  # of the double precision numbers

EXACT = {
    "tanh": HighPrecision(mp.tanh, lambda u: mp.sech(u) ** 2),
    "erf": HighPrecision(mp.erf, lambda u: 2 / mp.sqrt(mp.pi) * mp.exp(-u * u)),
    "relu": HighPrecision(lambda u: max(u, mp.zero), lambda u: mp.mpf(u > 0), (0.0,)),
    "leaky_relu(0.1)": HighPrecision(
        lambda u: u if u > 0 else TENTH * u, lambda u: mp.one if u > 0 else TENTH, (0.0,)
    ),
    "elu": HighPrecision(
        lambda u: u if u > 0 else mp.expm1(u), lambda u: mp.one if u > 0 else mp.exp(u), (0.0,)
    ),
    "swish": HighPrecision(
        lambda u: u * _logistic(u), lambda u: _logistic(u) * (1 + u * _logistic(-u))
    ),
    "gelu": HighPrecision(lambda u: u * _normal_cdf(u), lambda u: _normal_cdf(u) + u * _normal_density(u)),
    "softplus": HighPrecision(lambda u: mp.log1p(mp.exp(u)), _logistic),
    "sigmoid": HighPrecision(_logistic, lambda u: _logistic(u) * _logistic(-u)),
    "sin": HighPrecision(mp.sin, mp.cos),
    "hard_tanh(1, 0.5)": HighPrecision(
        lambda u: min(max(u, -mp.mpf(0.5)), mp.mpf(0.5)), lambda u: mp.mpf(abs(u) < 0.5), (-0.5, 0.5)
    ),
    "abs": HighPrecision(abs, mp.sign, (0.0,)),
    "polynomial(0.1, 1, 0.2, -0.05)": _polynomial(0.1, 1, 0.2, -0.05),
    "piecewise_linear([-1, 0, 1.5], [-0.3, -0.2, 1])": _piecewise([-1, 0, 1.5], [-0.3, -0.2, 1]),
    "bent sine": HighPrecision(
        lambda u: mp.sin(u) + max(u - BEND, mp.zero), lambda u: mp.cos(u) + mp.mpf(u > BEND), (0.4,)
    ),
}

SIGMA_A2 = (0.05, 0.2, 0.5, 0.8)
TAU0_SQUARED = (0.5, 1.0, 2.0)
SIGMA_B2 = 0.8
GRID = tuple(itertools.product(SIGMA_A2, TAU0_SQUARED, (True, False)))
# Every fifth point of the grid, each activation starting elsewhere: together they visit all of it.
THINNED = tuple(
    (spec, *GRID[(start + step) % len(GRID)]) for start, spec in enumerate(EXACT) for step in (0, 9, 19)
)


@lru_cache(maxsize=1)
def _legendre(count: int = 24):
    """Nodes and weights on [-1, 1] in 30 digits: Newton's method on P_n from numpy's nodes."""
    nodes, weights = [], []
    for start in np.polynomial.legendre.leggauss(count)[0]:
        x = mp.mpf(float(start))
        for _ in range(3):
            before, value = mp.one, x
            for k in range(2, count + 1):
                before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
            slope = count * (before - x * value) / (1 - x * x)
            x -= value / slope
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope**2))
    return nodes, weights


def _rule(breakpoints):
    """Nodes and weights for expectations over N(0, 1), split at the breakpoints."""
    edges = sorted({mp.mpf(k) for k in range(-12, 13)} | {b for b in breakpoints if abs(b) < 12})
    nodes, weights = [], []
    for low, high in itertools.pairwise(edges):
        half, middle = (high - low) / 2, (high + low) / 2
        for x, w in zip(*_legendre(), strict=True):
            nodes.append(middle + half * x)
            weights.append(half * w * _normal_density(nodes[-1]))
    return nodes, weights


@lru_cache(maxsize=1)
def _plain_rule():
    return _rule([mp.zero])


class Expectations:
    """The moments of φ(τξ) in 30 digits, by their definitions and Stein's lemma."""

    def __init__(self, phi: HighPrecision, tau) -> None:
        self.phi, self.tau = phi, tau
        off_origin = [k for k in phi.kinks if k]
        xi, w = _rule([mp.mpf(k) / tau for k in phi.kinks]) if off_origin else _plain_rule()
        values = [phi.fn(tau * x) for x in xi]
        self.nodes, self.weights = xi, w
        self.mean = mp.fdot(w, values)
        self.square = mp.fdot(w, [v * v for v in values])
        self.first = mp.fdot(w, [x * v for x, v in zip(xi, values, strict=True)]) / tau
        self.second = mp.fdot(w, [(x * x - 1) * v for x, v in zip(xi, values, strict=True)]) / tau**2
        self.square_second = mp.fdot(w, [(x * x - 1) * v * v for x, v in zip(xi, values, strict=True)]) / tau**2

    def first_square(self):
        return mp.fdot(self.weights, [self.phi.slope(self.tau * x) ** 2 for x in self.nodes])

    def gamma2(self, centered: bool):
        return self.square - self.mean**2 if centered else self.square

    def gamma2_slope(self, centered: bool):
        """Derivative of γ² in τ²."""
        return self.square_second / 2 - (self.mean * self.second if centered else 0)


def equilibrium(phi: HighPrecision, sigma_a2: float, tau0_squared: float, centered: bool, start: float):
    """τ* by Newton's method in 30 digits, its residual verified."""
    a2, base = mp.mpf(sigma_a2), mp.mpf(SIGMA_B2) * mp.mpf(tau0_squared)
    square = mp.mpf(start) ** 2
    for _ in range(6):
        at = Expectations(phi, mp.sqrt(square))
        gap = a2 * at.gamma2(centered) + base - square
        if abs(gap) < mp.mpf(10) ** (4 - DIGITS) * square:
            return at
        square += gap / (1 - a2 * at.gamma2_slope(centered))
    raise AssertionError(f"Newton's method left a residual of {mp.nstr(gap / square, 3)}")


def coefficients_in_30_digits(phi: HighPrecision, sigma_a2, tau0_squared, centered, start) -> dict[str, object]:
    at = equilibrium(phi, sigma_a2, tau0_squared, centered, start)
    a2, b2, t2 = mp.mpf(sigma_a2), mp.mpf(SIGMA_B2), mp.mpf(tau0_squared)
    g1, g2, slope2 = at.first**2, at.second**2, at.first_square()
    d0 = a2 * g1
    alpha4 = b2 / (1 - a2 * at.gamma2_slope(centered))
    alpha1 = b2 * g1 / (1 - d0)
    alpha2 = g2 * alpha4**2 / (4 * (1 - d0))
    rate = a2 * alpha1 + b2
    alpha3 = g2 * rate**2 / (2 * (1 - d0))
    d1 = a2 * g2 * rate
    beta1, full1 = alpha1 / (1 - d0), (alpha1 + b2 * g1) / (1 - d0)
    gamma2 = at.gamma2(centered)
    return {
        "tau": at.tau,
        "gamma2": gamma2,
        "alpha1": alpha1,
        "alpha2": alpha2,
        "alpha3": alpha3,
        "alpha4": alpha4,
        "kappa2": gamma2 / (1 - a2 * slope2),
        "beta1": beta1,
        "beta2": alpha2 / (1 - d0),
        "beta3": (alpha3 + beta1 * d1) / (1 - d0),
        "kappa2_full": (gamma2 + b2 * t2 * slope2) / (1 - a2 * slope2),
        "beta1_full": full1,
        "beta2_full": alpha2 / (1 - d0),
        "beta3_full": (alpha3 + b2 * g2 * rate + full1 * d1) / (1 - d0),
    }


def flat(coef: rd.Coefficients) -> dict[str, float]:
    values = {name: getattr(coef, name) for name in ("tau", "gamma2", "kappa2", "kappa2_full")}
    values |= {f"alpha{k}": a for k, a in enumerate(coef.alpha, 1)}
    values |= {f"beta{k}": b for k, b in enumerate(coef.beta, 1)}
    return values | {f"beta{k}_full": b for k, b in enumerate(coef.beta_full, 1)}


def errors(coef: rd.Coefficients, exact: dict[str, object]) -> dict[str, float]:
    """Relative errors; absolute ones, times 100, where the value is zero by symmetry (1e-10 then means 1e-12)."""
    return {
        name: float(abs(mp.mpf(float(value)) - exact[name]) * (100 if abs(exact[name]) < 1e-25 else 1 / abs(exact[name])))
        for name, value in flat(coef).items()
    }


def verify_ill_posed(error: Exception, phi: HighPrecision, deq: rd.DEQ, tau0_squared: float) -> None:
    """Check in 30 digits that the condition which the message names does fail."""
    text = str(error)
    a2, base = mp.mpf(deq.sigma_a2), mp.mpf(deq.sigma_b2) * mp.mpf(tau0_squared)
    if "no equilibrium" in text:
        for power in range(60):
            s = base * mp.mpf("1.35") ** power
            assert a2 * Expectations(phi, mp.sqrt(s)).gamma2(deq.centered) + base > s
        return
    start = rd.deq.preactivation_scale(deq, tau0_squared).value
    at = equilibrium(phi, deq.sigma_a2, tau0_squared, deq.centered, start)
    if "the diagonal of the kernel map" in text:
        assert a2 * at.gamma2_slope(deq.centered) >= 1
    elif "off the diagonal" in text:
        assert a2 * at.first**2 >= 1
    else:
        assert "the NTK is infinite" in text
        assert a2 * at.first_square() >= 1


def worst_error(deq: rd.DEQ, phi: HighPrecision, tau0_squared: float) -> tuple[float, str]:
    """Worst error of all coefficients, or of what is left when a kernel is ill-posed, with its name."""
    try:
        coef = solve(deq, tau0_squared, kind=("ck", "ntk", "ntk-full"))
    except rd.IllPosedError as error:
        verify_ill_posed(error, phi, deq, tau0_squared)
        return 0.0, f"ill-posed: {error}"
    exact = coefficients_in_30_digits(phi, deq.sigma_a2, tau0_squared, deq.centered, coef.tau)
    return max((value, name) for name, value in errors(coef, exact).items())


def test_composite_rule_agrees_with_adaptive_quadrature():
    phi, tau = EXACT["bent sine"], mp.mpf("1.1")
    at = Expectations(phi, tau)
    edges = [-12, -6, -2, mp.mpf(0.4) / tau, 2, 6, 12]
    for found, integrand in (
        (at.mean, lambda x: phi.fn(tau * x)),
        (at.second * tau**2, lambda x: (x * x - 1) * phi.fn(tau * x)),
        (at.first_square(), lambda x: phi.slope(tau * x) ** 2),
    ):
        exact = mp.quad(lambda x, f=integrand: f(x) * _normal_density(x), edges)
        assert abs(found - exact) < mp.mpf(10) ** (2 - DIGITS)


@pytest.mark.parametrize(("spec", "sigma_a2", "tau0_squared", "centered"), THINNED)
def test_coefficients_agree_with_30_digit_quadrature(make, spec, sigma_a2, tau0_squared, centered):
    deq = rd.DEQ(make(spec), sigma_a2, SIGMA_B2, centered=centered)
    error, name = worst_error(deq, EXACT[spec], tau0_squared)
    assert error < 1e-10, name
