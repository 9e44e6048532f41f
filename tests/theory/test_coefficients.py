"""The four equations against 30-digit quadrature, and the coefficients against derivatives of the exact kernel."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from mpmath.ctx_mp import MPContext

import rmtdeq as rd
from rmtdeq.network import preactivation_scale
from rmtdeq.theory import solve

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

    def horner(values, u):
        total = mp.zero
        for c in reversed(values):
            total = total * u + c
        return total

    return HighPrecision(lambda u: horner(ascending, u), lambda u: horner(slopes, u))


TENTH, BEND = mp.mpf(0.1), mp.mpf(0.4)  # of the double precision numbers

EXACT = {
    "tanh": HighPrecision(mp.tanh, lambda u: mp.sech(u) ** 2),
    "erf": HighPrecision(mp.erf, lambda u: 2 / mp.sqrt(mp.pi) * mp.exp(-u * u)),
    "relu": HighPrecision(lambda u: max(u, mp.zero), lambda u: mp.mpf(u > 0), (0.0,)),
    "leaky_relu(0.1)": HighPrecision(lambda u: u if u > 0 else TENTH * u, lambda u: mp.one if u > 0 else TENTH, (0.0,)),
    "elu": HighPrecision(lambda u: u if u > 0 else mp.expm1(u), lambda u: mp.one if u > 0 else mp.exp(u), (0.0,)),
    "swish": HighPrecision(lambda u: u * _logistic(u), lambda u: _logistic(u) * (1 + u * _logistic(-u))),
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
KINDS = ("ck", "ntk", "ntk-full")
GRID = tuple(itertools.product(SIGMA_A2, TAU0_SQUARED, (True, False)))


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
    found = {name: mp.mpf(float(value)) for name, value in flat(coef).items()}
    sizes = {name: mp.mpf("0.01") if abs(value) < 1e-25 else abs(value) for name, value in exact.items()}
    return {name: float(abs(found[name] - exact[name]) / sizes[name]) for name in exact}


def verify_ill_posed(error: Exception, phi: HighPrecision, deq: rd.DEQ, tau0_squared: float) -> None:
    """Check in 30 digits that the condition which the message names does fail."""
    text = str(error)
    a2, base = mp.mpf(deq.sigma_a2), mp.mpf(deq.sigma_b2) * mp.mpf(tau0_squared)
    if "no equilibrium" in text:
        for power in range(60):
            s = base * mp.mpf("1.35") ** power
            assert a2 * Expectations(phi, mp.sqrt(s)).gamma2(deq.centered) + base > s
        return
    start = preactivation_scale(deq.layer, tau0_squared).value
    at = equilibrium(phi, deq.sigma_a2, tau0_squared, deq.centered, start)
    if "the diagonal of the kernel map" in text:
        assert a2 * at.gamma2_slope(deq.centered) >= 1
    elif "off the diagonal" in text:
        assert a2 * at.first**2 >= 1
    else:
        assert "is infinite: σ_a² E φ'²" in text
        assert a2 * at.first_square() >= 1


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


@pytest.mark.parametrize("spec", EXACT)
def test_coefficients_agree_with_30_digit_quadrature(make, spec):
    phi, solved = EXACT[spec], 0
    for sigma_a2, tau0_squared, centered in GRID:
        deq = rd.DEQ(make(spec), sigma_a2, SIGMA_B2, centered=centered)
        try:
            coef = solve(deq, tau0_squared, kind=KINDS)
        except rd.IllPosedError as error:
            verify_ill_posed(error, phi, deq, tau0_squared)
            continue
        exact = coefficients_in_30_digits(phi, sigma_a2, tau0_squared, centered, coef.tau)
        for name, error in errors(coef, exact).items():
            assert error < 1e-11, (name, deq, tau0_squared)
        solved += 1
    assert solved >= len(GRID) - 2


@pytest.mark.parametrize(
    ("spec", "sigma_a2", "tau0_squared"),
    [
        *itertools.product(["tanh", "relu", "bent sine"], [0.95], [1.0]),
        *itertools.product(["tanh", "relu", "bent sine"], [0.5], [1e-6]),
        *itertools.product(["relu", "hard_tanh(1, 0.5)"], [0.5], [1e4]),
    ],
)
def test_coefficients_agree_with_30_digit_quadrature_at_extreme_scales(make, spec, sigma_a2, tau0_squared):
    coef = solve(rd.DEQ(make(spec), sigma_a2, SIGMA_B2), tau0_squared, kind=KINDS)
    exact = coefficients_in_30_digits(EXACT[spec], sigma_a2, tau0_squared, True, coef.tau)
    for name, error in errors(coef, exact).items():
        assert error < 1e-10, name


def test_relu_example_to_five_digits():
    coef = solve(rd.DEQ("relu", 0.2, 0.8), 1.0)
    assert coef.tau == pytest.approx(0.92657, abs=5e-6)
    assert coef.gamma2 == pytest.approx(0.29262, abs=5e-6)
    np.testing.assert_allclose(coef.alpha, [0.21053, 0.03596, 0.06919, 0.85852], rtol=0, atol=5e-6)


# Central differences of eighth order on nine points.
FIRST = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
SECOND = np.array([-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560])


def scalar_kernels(deq: rd.DEQ, u, v, x) -> dict[str, np.ndarray]:
    """The kernels of two samples of squared norms u, v and inner product x, entrywise."""
    left = np.stack([np.sqrt(u), np.zeros_like(u)], axis=1)
    right = np.stack([x / np.sqrt(u), np.sqrt(v - x * x / u)], axis=1)
    return {k: np.diag(m) for k, m in zip(KINDS, rd.kernel(left, deq, KINDS, Y=right), strict=True)}


@pytest.mark.parametrize(("sigma_a2", "tau0_squared"), [(0.2, 1.0), (0.5, 2.0)])
def test_coefficients_are_derivatives_of_the_scalar_kernels(phi, sigma_a2, tau0_squared):
    deq = rd.DEQ(phi, sigma_a2, 0.8)
    coef = solve(deq, tau0_squared, kind=KINDS)
    pinned, h = deq.pinned(tau0_squared), 0.02 * tau0_squared
    offsets = np.arange(-4, 5) * h
    norm = np.full(9, tau0_squared)
    along = scalar_kernels(pinned, norm, norm, offsets)
    u, v = (a.ravel() for a in np.meshgrid(tau0_squared + offsets, tau0_squared + offsets, indexing="ij"))
    across = scalar_kernels(pinned, u, v, np.zeros_like(u))
    for kind in KINDS:
        expected = coef.of(kind)
        size = max(1.0, expected.diagonal)
        assert FIRST @ along[kind] / h == pytest.approx(expected.linear, rel=1e-10, abs=1e-10 * size)
        assert SECOND @ along[kind] / h**2 / 2 == pytest.approx(expected.pair, rel=1e-9, abs=1e-10 * size)
        mixed = FIRST @ across[kind].reshape(9, 9) @ FIRST / h**2
        assert mixed == pytest.approx(expected.norm, rel=1e-9, abs=1e-10 * size)


def test_diagonal_coefficients_are_those_of_the_scalar_kernels(phi):
    deq = rd.DEQ(phi, 0.3, 0.8)
    coef = solve(deq, 1.0, kind=KINDS)
    pinned, offsets = deq.pinned(1.0), np.arange(-4, 5) * 0.02
    samples = np.sqrt(1.0 + offsets)[:, None]
    for kind in KINDS:
        assert rd.kernel(samples[4:5], pinned, kind)[0, 0] == pytest.approx(coef.of(kind).diagonal, rel=1e-12)
    diagonal = [rd.kernel(x[None], pinned)[0, 0] for x in samples]
    slope_of_scale = 0.3 * (FIRST @ diagonal) / 0.02 + 0.8
    assert slope_of_scale == pytest.approx(coef.alpha[3], rel=1e-10)


@pytest.mark.parametrize("constant", [1.0, -50.0, 1e3])
def test_constant_added_to_the_activation_leaves_a_centred_model_unchanged(constant):
    plain = flat(solve(rd.DEQ(np.tanh, 0.4, 0.8), 1.3, kind=KINDS))
    moved = flat(solve(rd.DEQ(lambda u: np.tanh(u) + constant, 0.4, 0.8), 1.3, kind=KINDS))
    for name, value in plain.items():
        assert moved[name] == pytest.approx(value, rel=1e-15 * abs(constant) + 1e-12, abs=1e-13 * abs(constant))


@pytest.mark.parametrize("spec", ["tanh", "erf", "sin", "hard_tanh(1, 0.5)"])
def test_odd_activations_have_no_second_order_terms_and_need_no_centring(spec):
    centered, plain = (solve(rd.DEQ(spec, 0.4, 0.8, centered=c), 1.0) for c in (True, False))
    assert flat(centered) == pytest.approx(flat(plain), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(np.concatenate([centered.alpha[1:3], centered.beta[1:]]), 0, atol=1e-14)


def test_scaling_the_activation_is_scaling_the_recurrence():
    # c·φ with σ_a² is φ with c²σ_a², and every kernel is c² times as large.
    scaled = solve(rd.DEQ("hard_tanh(3, 0.5)", 0.05, 0.8), 1.0, kind=KINDS)
    plain = solve(rd.DEQ("hard_tanh(1, 0.5)", 0.45, 0.8), 1.0, kind=KINDS)
    assert scaled.tau == pytest.approx(plain.tau, rel=1e-13)
    np.testing.assert_allclose(scaled.alpha[:3], 9 * plain.alpha[:3], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scaled.beta_full, 9 * plain.beta_full, rtol=1e-12, atol=1e-14)
    assert scaled.kappa2_full == pytest.approx(9 * plain.kappa2_full, rel=1e-12)


def test_conjugate_kernel_alone_leaves_the_tangent_coefficients_out():
    coef = solve(rd.DEQ("tanh", 0.2, 0.8), 1.0, kind="ck")
    assert (coef.kappa2, coef.beta, coef.kappa2_full, coef.beta_full) == (None,) * 4
    assert coef.of("ck").diagonal == coef.gamma2
    for kind in ("ntk", "ntk-full"):
        with pytest.raises(rd.InvalidInputError, match="call solve"):
            coef.of(kind)


def test_infinite_tangent_kernel_is_refused_but_the_conjugate_kernel_is_served():
    deq = rd.DEQ(lambda u: np.sin(3 * u), 0.5, 0.8)
    with pytest.raises(rd.IllPosedError, match=r"NTK of .* is infinite.*lower sigma_a2"):
        solve(deq, 1.0)
    assert solve(deq, 1.0, kind="ck").status.value == "converged"


def test_tangent_kernel_of_a_discontinuous_activation_is_infinite():
    deq = rd.DEQ(rd.Activation(np.sign, kinks=(0.0,)), 0.01, 0.8)
    with pytest.raises(rd.IllPosedError, match=r"NTK of .* is infinite"):
        solve(deq, 1.0, kind="ntk")
    # E sign(τξ)² = 1, E[ξ sign] = √(2/π).
    coef = solve(deq, 1.0, kind="ck")
    assert coef.tau**2 == pytest.approx(0.01 + 0.8, rel=1e-14)
    first_squared = 2 / np.pi / 0.81
    assert coef.alpha[0] == pytest.approx(0.8 * first_squared / (1 - 0.01 * first_squared), rel=1e-13)


@pytest.mark.parametrize(
    ("spec", "sigma_a2"), [("relu", 2.5), ("polynomial(0, 1, 5)", 0.5), ("abs", 1.0), (np.exp, 0.2), (np.expm1, 3.0)]
)
def test_no_fixed_point_is_refused_in_under_a_second(spec, sigma_a2, seconds):
    with seconds(1.0), pytest.raises(rd.IllPosedError, match=r"no equilibrium.*lower sigma_a2"):
        solve(rd.DEQ(spec, sigma_a2, 0.8, centered=False), 1.0)


def test_slope_of_one_on_the_diagonal_is_refused():
    # E φ² = s/2 for the ReLU: σ_a² = 2 is the edge, and beyond it the equation has no solution.
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        solve(rd.DEQ("relu", 2.0, 0.8, centered=False), 1.0)
    assert solve(rd.DEQ("relu", 1.9, 0.8, centered=False), 1.0, kind="ck").tau ** 2 == pytest.approx(0.8 / 0.05)


def test_close_pair_of_fixed_points_is_not_stepped_over():
    # E φ² = s + 2 c s² + … for u + c u²: the two fixed points of s = σ_a²(s + 3 c² s²) + σ_b² meet at a fold.
    a2, b2, c = 0.5, 0.1, 0.1
    quadratic, edge = 3 * a2 * c * c, (1 - a2) ** 2 / (4 * 3 * a2 * c * c)
    for below in (1e-2, 1e-4, 1e-6):
        s0 = edge * (1 - below)
        deq = rd.DEQ(f"polynomial(0, 1, {c})", a2, b2, centered=False)
        lower = ((1 - a2) - np.sqrt((1 - a2) ** 2 - 4 * quadratic * s0)) / (2 * quadratic)
        coef_tau = preactivation_scale(deq.layer, s0 / b2).value
        assert coef_tau**2 == pytest.approx(lower, rel=1e-7)
    with pytest.raises(rd.IllPosedError):
        solve(deq, edge * 1.001 / b2)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "a", None, 1j, [1.0], np.ones(2)])
def test_variances_that_are_no_variances_are_refused(value):
    with pytest.raises(rd.InvalidInputError, match="sigma_a2 must be"):
        rd.DEQ("tanh", value, 0.8)
    with pytest.raises(rd.InvalidInputError, match="sigma_b2 must be"):
        rd.DEQ("tanh", 0.2, value)
    with pytest.raises(rd.InvalidInputError, match="tau0_squared must be"):
        solve(rd.DEQ("tanh", 0.2, 0.8), value)


def test_zero_is_a_recurrent_variance_and_no_other():
    coef = solve(rd.DEQ("tanh", 0.0, 0.8), 1.0)
    assert coef.tau**2 == pytest.approx(0.8, rel=1e-15)
    np.testing.assert_allclose(coef.alpha[:3], coef.beta, rtol=1e-15)
    with pytest.raises(rd.InvalidInputError, match="sigma_b2 must be > 0"):
        rd.DEQ("tanh", 0.2, 0.0)
    with pytest.raises(rd.InvalidInputError, match="tau0_squared must be > 0"):
        solve(rd.DEQ("tanh", 0.2, 0.8), 0.0)


@pytest.mark.parametrize("kind", ["CK", "ntk_full", "", (), ("ck", "ck"), ("ck", "nothing"), [1]])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(rd.InvalidInputError, match="kind"):
        solve(rd.DEQ("tanh", 0.2, 0.8), 1.0, kind=kind)


@pytest.mark.parametrize("deq", ["tanh", None, 3])
def test_what_is_no_model_is_refused(deq):
    with pytest.raises(rd.InvalidInputError, match="deq must be a DEQ"):
        solve(deq, 1.0)
