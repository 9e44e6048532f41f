"""Kernel entries of a pair of samples in 50-digit arithmetic, for the exact binary values of the samples.

Closed forms of E φ(u)φ(v) as a product at some correlation, where the package integrates from the parallel pair on; for
activations without one a product of Gauss-Legendre panels in numpy's extended precision (18 digits).  It shares no code
with the package.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import mpmath as mp
import numpy as np

DIGITS = 50
LONG = np.longdouble


def normal_density(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def upper(x):
    """P(ξ > x)."""
    return mp.erfc(x / mp.sqrt(2)) / 2


@lru_cache(maxsize=2)
def _legendre(n):
    """Gauss-Legendre nodes and weights on [-1, 1] in the working precision."""
    nodes, weights = [], []
    for start in np.polynomial.legendre.leggauss(n)[0]:
        x = mp.findroot(lambda t: mp.legendre(n, t), mp.mpf(float(start)))
        slope = n * (x * mp.legendre(n, x) - mp.legendre(n - 1, x)) / (x * x - 1)
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope * slope))
    return nodes, weights


def both_above(h, k, r, s):
    """P(ξ > h, η > k) at correlation r = ±√(1 - s²), by an integral from independence on."""
    if s == 0:
        return upper(max(h, k)) if r > 0 else max(mp.mpf(0), upper(h) - upper(-k))
    nodes, weights = _legendre(30)
    sign, end = (1, mp.atan2(s, r)) if r >= 0 else (-1, mp.atan2(s, -r))
    # τ is the distance from parallel (or opposite), from π/2 down to `end`, on panels that halve it.
    total, right = mp.mpf(0), mp.pi / 2
    while right > end:
        left = max(end, right / 2)
        half, middle = (right - left) / 2, (right + left) / 2
        for x, w in zip(nodes, weights, strict=True):
            tau = middle + half * x
            sine = mp.sin(tau)
            exponent = (h * h + k * k - 2 * sign * h * k * mp.cos(tau)) / (2 * sine * sine)
            if exponent < 140:
                total += half * w * mp.exp(-exponent)
        right = left
    return upper(h) * upper(k) + sign * total / (2 * mp.pi)


class Pair:
    """Correlation r of two Gaussians with standard deviations a and b, s = √(1 - r²)."""

    def __init__(self, a, b, r, s):
        self.a, self.b, self.r, self.s = a, b, r, s


class Folded:
    """φ(u) = l·u + c·|u|."""

    def __init__(self, linear, absolute):
        self.linear, self.absolute = mp.mpf(linear), mp.mpf(absolute)

    def mean(self, a):
        return self.absolute * a * mp.sqrt(2 / mp.pi)

    def product(self, at):
        arc = mp.atan2(at.r, at.s)  # asin r
        folded = (2 / mp.pi) * (at.s + at.r * arc)
        return at.a * at.b * (self.linear**2 * at.r + self.absolute**2 * folded)

    def slope(self, at):
        return self.linear**2 + self.absolute**2 * (2 / mp.pi) * mp.atan2(at.r, at.s)


class Erf:
    def mean(self, a):
        return mp.mpf(0)

    def _inside(self, at):
        outside = (1 + 2 * at.a**2) * (1 + 2 * at.b**2)
        return outside, outside - 4 * (at.a * at.b * at.r) ** 2

    def product(self, at):
        inside = self._inside(at)[1]
        return (2 / mp.pi) * mp.atan2(2 * at.a * at.b * at.r, mp.sqrt(inside))

    def slope(self, at):
        return (4 / mp.pi) / mp.sqrt(self._inside(at)[1])


class Wave:
    """φ(u) = α sin(bu) + β cos(bu)."""

    def __init__(self, sine, cosine, frequency):
        self.sine, self.cosine, self.frequency = mp.mpf(sine), mp.mpf(cosine), mp.mpf(frequency)

    def mean(self, a):
        return self.cosine * mp.exp(-((self.frequency * a) ** 2) / 2)

    def _two(self, at):
        a, b = self.frequency * at.a, self.frequency * at.b
        squares, cross = (a**2 + b**2) / 2, a * b * at.r
        return mp.exp(cross - squares) / 2, mp.exp(-cross - squares) / 2

    def product(self, at):
        near, far = self._two(at)
        return self.sine**2 * (near - far) + self.cosine**2 * (near + far)

    def slope(self, at):
        near, far = self._two(at)
        return self.frequency**2 * (self.sine**2 * (near + far) + self.cosine**2 * (near - far))


class Exponential:
    """φ(u) = a exp(bu)."""

    def __init__(self, amplitude, rate):
        self.amplitude, self.rate = mp.mpf(amplitude), mp.mpf(rate)

    def mean(self, a):
        return self.amplitude * mp.exp((self.rate * a) ** 2 / 2)

    def product(self, at):
        a, b = self.rate * at.a, self.rate * at.b
        return self.amplitude**2 * mp.exp((a**2 + b**2) / 2 + a * b * at.r)

    def slope(self, at):
        return self.rate**2 * self.product(at)


class Polynomial:
    """By Hermite coefficients, of which a polynomial has as many as coefficients."""

    def __init__(self, *coefficients):
        self.coefficients = [mp.mpf(c) for c in coefficients]

    def _hermite(self, a):
        """E φ(aξ)He_k(ξ)/√k!, from E ξ^m He_k(ξ) = m!/(2^j j! ) with j = (m - k)/2."""
        count = len(self.coefficients)
        found = [mp.mpf(0)] * count
        for k in range(count):
            for m in range(k, count, 2):
                j = (m - k) // 2
                found[k] += self.coefficients[m] * a**m * mp.factorial(m) / (2**j * mp.factorial(j))
            found[k] /= mp.sqrt(mp.factorial(k))
        return found

    def mean(self, a):
        return self._hermite(a)[0]

    def product(self, at):
        pairs = zip(self._hermite(at.a), self._hermite(at.b), strict=True)
        return sum(x * y * at.r**k for k, (x, y) in enumerate(pairs))

    def slope(self, at):
        pairs = zip(self._hermite(at.a), self._hermite(at.b), strict=True)
        return sum(k * x * y * at.r ** (k - 1) for k, (x, y) in enumerate(pairs) if k) / (at.a * at.b)


class Gelu:
    """φ(u) = u P(Z < u): moments of (u, v) where u - Z and v - Z' are positive."""

    def mean(self, a):
        return a * a / mp.sqrt(2 * mp.pi * (1 + a * a))

    def _orthant(self, at):
        a2, b2, rho = at.a**2, at.b**2, at.a * at.b * at.r
        p, q = mp.sqrt(1 + a2), mp.sqrt(1 + b2)
        c = rho / (p * q)
        root = mp.sqrt((1 + a2 + b2 + (at.a * at.b * at.s) ** 2) / (p * q) ** 2)
        return a2, b2, rho, p, q, c, root

    def product(self, at):
        a2, b2, rho, p, q, c, root = self._orthant(at)
        arc = mp.atan2(c, root)
        chance = mp.mpf(1) / 4 + arc / (2 * mp.pi)
        square, cross = chance + c * root / (2 * mp.pi), (root + c * (mp.pi / 2 + arc)) / (2 * mp.pi)
        # u and v by regression on the two standardised differences, whose correlation is c.
        cov = [(a2 / p, rho / q), (rho / p, b2 / q)]
        weights = [((x - c * y) / root**2, (y - c * x) / root**2) for x, y in cov]
        (f, g), (h, k) = weights
        explained = f * h + g * k + c * (f * k + g * h)
        return (rho - explained) * chance + (f * h + g * k) * square + (f * k + g * h) * cross

    def slope(self, at):
        """E φ'φ', φ' = P(Z < u) + u f(u): each f is a Gaussian factor, which changes the covariance."""
        a2, b2, rho, _, _, c, root = self._orthant(at)
        chance = mp.mpf(1) / 4 + mp.atan2(c, root) / (2 * mp.pi)
        determinant = a2 * b2 * at.s**2

        # E[u f(u) P(Z' < v)] and its like: under f(u) u has variance a²/(1 + a²), and v's mean of slope rho/a² on u.
        def mixed(x2, y2):
            within = x2 / (1 + x2)
            rest = y2 - rho**2 / x2
            slope = rho / x2
            scale = mp.sqrt(1 + rest + slope**2 * within)
            return within * slope / (2 * mp.pi * scale * mp.sqrt(1 + x2))

        both = 1 + a2 + b2 + determinant
        return chance + mixed(a2, b2) + mixed(b2, a2) + rho / (2 * mp.pi * both ** mp.mpf("1.5"))


class Pieces:
    """Σ jumps 1(u > c) + linear·u + Σ bends max(u - c, 0) + constant."""

    def __init__(self, constant, linear, knots, bends, jumps):
        self.constant, self.linear = mp.mpf(constant), mp.mpf(linear)
        self.ramps = [(mp.mpf(c), b) for c, b in zip(knots, bends, strict=True) if b]
        self.steps = [(mp.mpf(c), j) for c, j in zip(knots, jumps, strict=True) if j]

    def mean(self, a):
        total = self.constant
        for c, bend in self.ramps:
            total += bend * (a * normal_density(c / a) - c * upper(c / a))
        for c, jump in self.steps:
            total += jump * upper(c / a)
        return total

    def product(self, at):
        assert not (self.ramps and self.steps)
        total = self.constant * (self.mean(at.a) + self.mean(at.b) - self.constant)
        rho = at.a * at.b * at.r
        total += self.linear**2 * rho
        for c, bend in self.ramps:
            # E[u (v - c)₊] = Cov(u, v) P(v > c)
            total += self.linear * bend * rho * (upper(c / at.a) + upper(c / at.b))
            for d, other in self.ramps:
                total += bend * other * self._ramps(at, c / at.a, d / at.b)
        for c, jump in self.steps:
            for d, other in self.steps:
                total += jump * other * both_above(c / at.a, d / at.b, at.r, at.s)
        return total

    def _ramps(self, at, h, k):
        r, s = at.r, at.s
        tail = both_above(h, k, r, s)
        if s == 0:
            if r > 0:
                top = max(h, k)
                single = (1 + h * k) * upper(top) + (top - h - k) * normal_density(top)
            else:  # between h and -k
                low, high = h, max(h, -k)
                mass, first = upper(low) - upper(high), normal_density(low) - normal_density(high)
                second = mass + low * normal_density(low) - high * normal_density(high)
                single = -second + (h - k) * first + h * k * mass
            return at.a * at.b * single
        joint = s * mp.exp(-(h * h - 2 * r * h * k + k * k) / (2 * s * s)) / (2 * mp.pi)
        left, right = normal_density(h) * upper((k - r * h) / s), normal_density(k) * upper((h - r * k) / s)
        return at.a * at.b * ((r + h * k) * tail - k * left - h * right + joint)

    def slope(self, at):
        if self.steps:
            return mp.inf
        total = self.linear**2
        for c, bend in self.ramps:
            total += self.linear * bend * (upper(c / at.a) + upper(c / at.b))
            for d, other in self.ramps:
                total += bend * other * both_above(c / at.a, d / at.b, at.r, at.s)
        return total


def pieces_of(knots, values):
    """Continuous, through values at knots, the outer pieces extended."""
    knots, values = [mp.mpf(x) for x in knots], [mp.mpf(y) for y in values]
    slopes = [(y1 - y0) / (x1 - x0) for (x0, x1), (y0, y1) in zip(pairwise(knots), pairwise(values), strict=True)]
    bends = [b - a for a, b in pairwise(slopes)]
    return Pieces(values[0] - slopes[0] * knots[0], slopes[0], knots[1:-1], bends, [0] * len(bends))


class Smooth:
    """A function on numpy's extended precision, its scale one, with its derivative; by quadrature."""

    def __init__(self, fn, slope):
        self.fn, self.gradient = fn, slope

    def single(self, a, shift):
        """E φ, E φ² and E φ'², φ less the shift."""
        a = LONG(str(a))
        xi, w = _rule(_grid(a))
        value, slope = self.fn(a * xi) - shift, self.gradient(a * xi)
        return w @ value, w @ (value * value), w @ (slope * slope)

    def pair(self, a, b, size_a, size_b, t, sign, shift):
        """E (φ(u)/size_a - sign φ(v)/size_b)² and E φ'φ' at 1 - 2t between u and sign·v."""
        s, r = 2 * np.sqrt(t * (1 - t)), 1 - 2 * t
        edges = np.concatenate([_grid(a), _grid(b), _grid(LONG(1) / max(s, LONG(1e-12)))])
        xi, weights = _rule(edges)
        keep = weights > 1e-24
        xi, weights = xi[keep], weights[keep]
        value_u, slope_u = (self.fn(a * xi) - shift) / size_a, self.gradient(a * xi)
        if s == 0:
            v = sign * b * xi
            gap = value_u - sign * (self.fn(v) - shift) / size_b
            return weights @ (gap * gap), weights @ (slope_u * self.gradient(v))
        of_v = _grid(b)
        distance = slope = LONG(0)
        for rows in np.array_split(np.arange(xi.size), max(1, xi.size // 150)):
            cuts = np.clip((of_v - r * xi[rows, None]) / s, -11, 11)
            regular = np.broadcast_to(np.linspace(-11, 11, 12, dtype=LONG), (rows.size, 12))
            cuts = np.sort(np.concatenate([regular, cuts], axis=1), axis=1)
            cuts = cuts[:, np.append(True, (np.diff(cuts, axis=1) > 0).any(axis=0))]
            zeta, inner = _panels(cuts, 20)
            v = sign * b * (r * xi[rows, None] + s * zeta)
            gap = value_u[rows, None] - sign * (self.fn(v) - shift) / size_b
            distance += weights[rows] @ (inner * gap * gap).sum(axis=1)
            slope += (weights[rows] * slope_u[rows]) @ (inner * self.gradient(v)).sum(axis=1)
        return distance, slope


@lru_cache(maxsize=2)
def _long_legendre(n):
    with mp.workdps(30):
        x, w = _legendre_at(n)
        return np.array([LONG(mp.nstr(a, 25)) for a in x]), np.array([LONG(mp.nstr(a, 25)) for a in w])


def _legendre_at(n):
    return _legendre.__wrapped__(n)


def _panels(edges, n):
    x, w = _long_legendre(n)
    half, middle = np.diff(edges, axis=-1)[..., None] / 2, (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    at = middle + half * x
    weights = half * w * np.exp(-at * at / 2) / np.sqrt(2 * LONG(np.pi) + LONG(2.4492935982947064e-16))
    return at.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


def _grid(a):
    """Edges towards zero, from 64 down to 1/4 in units of the function, u = aξ."""
    powers = LONG(2) ** np.arange(-2, 45)
    powers = powers[powers < 16 * max(a, LONG(1e-30))] / a
    return np.concatenate([-powers, [LONG(0)], powers])


def _rule(edges):
    regular = np.linspace(-13, 13, 27, dtype=LONG)
    edges = np.unique(np.concatenate([regular, edges[abs(edges) < 13]]))
    return _panels(edges, 32)


def _sigmoid(u):
    return 1 / (1 + np.exp(-np.clip(u, -11000, None)))


def _swish_slope(u):
    s = _sigmoid(u)
    return s + u * s * (1 - s)


def _mish_slope(u):
    gate = np.tanh(np.logaddexp(LONG(0), u))
    return gate + u * (1 - gate) * (1 + gate) * _sigmoid(u)


FORMS = {
    "relu": lambda: Folded(0.5, 0.5),
    "leaky_relu(0.1)": lambda: Folded((1 + mp.mpf(0.1)) / 2, (1 - mp.mpf(0.1)) / 2),
    "two_slopes(1.2, -0.3)": lambda: Folded((mp.mpf(1.2) - mp.mpf(0.3)) / 2, (mp.mpf(1.2) + mp.mpf(0.3)) / 2),
    "abs": lambda: Folded(0, 1),
    "erf": Erf,
    "sin": lambda: Wave(1, 0, 1),
    "cos": lambda: Wave(0, 1, 1),
    "sin(0.8, 1.3, 0.4)": lambda: Wave(0.8 * math.cos(0.4), 0.8 * math.sin(0.4), 1.3),
    "rbf(0.7)": lambda: Wave(1, 1, math.sqrt(2 * 0.7)),
    "exp(0.5, 0.6)": lambda: Exponential(0.5, 0.6),
    "gelu": Gelu,
    "monomial(2)": lambda: Polynomial(0, 0, 1),
    "hermite(3)": lambda: Polynomial(0, -mp.sqrt(1.5), 0, 1 / mp.sqrt(6)),
    "polynomial(0.1, 1, 0.2, -0.05)": lambda: Polynomial(0.1, 1.0, 0.2, -0.05),
    "hard_tanh(1, 0.5)": lambda: pieces_of([-1, -0.5, 0.5, 1], [-0.5, -0.5, 0.5, 0.5]),
    "hard_sigmoid": lambda: pieces_of([-4, -3, 3, 4], [0, 0, 1, 1]),
    "relu6": lambda: pieces_of([-1, 0, 6, 7], [0, 0, 6, 6]),
    "piecewise_linear([-1, 0, 1.5], [-0.3, -0.2, 1])": lambda: pieces_of([-1, 0, 1.5], [-0.3, -0.2, 1]),
    "piecewise_linear([-1, -0.5, 0.5, 1], [1, 0, 0, 1])": lambda: pieces_of([-1, -0.5, 0.5, 1], [1, 0, 0, 1]),
    "steps([-0.5, 0.8], [-1, 0, 1.5])": lambda: Pieces(-1, 0, [-0.5, 0.8], [0, 0], [1, 1.5]),
    "steps(0, -1, 1)": lambda: Pieces(-1, 0, [0], [0], [2]),
    "sign": lambda: Pieces(-1, 0, [0], [0], [2]),
    "tanh": lambda: Smooth(np.tanh, lambda u: np.cosh(np.clip(u, -5000, 5000)) ** -2),
    "sigmoid": lambda: Smooth(_sigmoid, lambda u: _sigmoid(u) * _sigmoid(-u)),
    "softplus": lambda: Smooth(lambda u: np.logaddexp(LONG(0), u), _sigmoid),
    "softsign": lambda: Smooth(lambda u: u / (1 + abs(u)), lambda u: (1 + abs(u)) ** LONG(-2)),
    "mish": lambda: Smooth(lambda u: u * np.tanh(np.logaddexp(LONG(0), u)), _mish_slope),
    "swish": lambda: Smooth(lambda u: u * _sigmoid(u), _swish_slope),
    "elu": lambda: Smooth(
        lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))), lambda u: np.where(u > 0, 1, np.exp(np.minimum(u, 0)))
    ),
}
"""The forms of activations by their names."""


@lru_cache(maxsize=64)
def form(spec):
    """Return the form of an activation."""
    return FORMS[spec]()


SMOOTH = tuple(name for name in FORMS if isinstance(form(name), Smooth))
"""Those by quadrature."""


def exact(numbers):
    """The binary values."""
    return [mp.mpf(float(number)) for number in numbers]


class Sample:
    """Scale, mean, second moment and squared slope of one sample; `start` is near its scale."""

    def __init__(self, phi, shift, a2, b2, x, start):
        self.norm = mp.fsum(c * c for c in x)
        self.phi, self.shift = phi, shift
        base = b2 * self.norm
        self.sigma = mp.mpf(float(start))
        if a2 == 0:
            self.sigma = mp.sqrt(base)
        else:
            self.sigma = self._root(a2, base)
        self.mean, self.square, self.slope = self._moments(self.sigma)

    def _moments(self, sigma):
        if sigma == 0:
            raise ValueError("a zero sample")
        if isinstance(self.phi, Smooth):
            return tuple(mp.mpf(str(each)) for each in self.phi.single(mp.nstr(sigma, 25), LONG(float(self.shift))))
        at, mean = Pair(sigma, sigma, mp.mpf(1), mp.mpf(0)), self.phi.mean(sigma)
        square = self.phi.product(at) - 2 * self.shift * mean + self.shift**2
        return mean - self.shift, square, self.phi.slope(at)

    def _root(self, a2, base):
        """By secants."""
        digits = mp.mpf(10) ** (-18 if isinstance(self.phi, Smooth) else -40)

        def gap(s):
            return s - a2 * self._moments(mp.sqrt(s))[1] - base

        before, at = self.sigma**2 * (1 + mp.mpf(10) ** -6), self.sigma**2
        gap_before = gap(before)
        for _ in range(30):
            here = gap(at)
            if here == gap_before or abs(here) <= digits * at:
                break
            before, gap_before, at = at, here, max(base, at - here * (at - before) / (here - gap_before))
        return mp.sqrt(at)


def entry(spec, shift, a2, b2, x, y, starts, value):
    """Return the entries of the three kernels, and the two samples; near the scales and the CK's entry given."""
    with mp.workdps(DIGITS + 10):
        a2, b2, shift, x, y = mp.mpf(float(a2)), mp.mpf(float(b2)), mp.mpf(float(shift)), exact(x), exact(y)
        phi = form(spec)
        u, v = (Sample(phi, shift, a2, b2, each, start) for each, start in zip((x, y), starts, strict=True))
        inner = mp.fsum(a * b for a, b in zip(x, y, strict=True))
        if x == y:
            return _kernels(u.square, u.slope, inner, a2, b2), u, v
        solve = _smooth_entry if isinstance(phi, Smooth) else _closed_entry
        return _kernels(*solve(phi, shift, a2, b2, u, v, inner, x, y, mp.mpf(float(value))), inner, a2, b2), u, v


def _kernels(value, slope, inner, a2, b2):
    if slope == mp.inf:
        return (value,)
    gain = 1 - a2 * slope
    return value, value / gain, (value + b2 * inner * slope) / gain


def diagonal(sample, a2, b2):
    """The kernels of a sample with itself."""
    with mp.workdps(DIGITS):
        return _kernels(sample.square, sample.slope, sample.norm, mp.mpf(float(a2)), mp.mpf(float(b2)))


def _closed_entry(phi, shift, a2, b2, u, v, inner, x, y, value):
    size = u.sigma * v.sigma

    def product(r):
        # s from the distance to ±1, which r has in its last digits.
        at = Pair(u.sigma, v.sigma, r, mp.sqrt((1 - r) * (1 + r)))
        return phi.product(at) - shift * (u.mean + v.mean + shift), at

    r = (a2 * value + b2 * inner) / size
    bound = 1 - mp.mpf(10) ** (8 - DIGITS)
    r = max(-bound, min(bound, r))
    for _ in range(200):
        found, at = product(r)
        steep = _jumping_slope(phi, at) if phi.__class__ is Pieces and phi.steps else phi.slope(at)
        step = (r * size - a2 * found - b2 * inner) / (size * (1 - a2 * steep))
        new = r - step
        if abs(new) > bound:
            new = r + (mp.sign(new) - r) * mp.mpf("0.99")
        done = abs(new - r) <= mp.mpf(10) ** -20 * (1 - abs(r)) or abs(r) > bound
        r = new
        if done or a2 == 0:
            break
    else:
        raise AssertionError("not settled")
    found, at = product(r)
    return found, phi.slope(at)


def _jumping_slope(phi, at):
    total = mp.mpf(0)
    for c, jump in phi.steps:
        for d, other in phi.steps:
            h, k = c / at.a, d / at.b
            exponent = (h * h + k * k - 2 * h * k * at.r) / (2 * at.s**2)
            total += jump * other * mp.exp(-exponent) / (2 * mp.pi * at.s * at.a * at.b)
    return total


def _smooth_entry(phi, shift, a2, b2, u, v, inner, x, y, value):
    """In t = (1 - |r|)/2, whose equation has no differences."""
    size = u.sigma * v.sigma
    sign = 1 if a2 * value + b2 * inner >= 0 else -1
    norms = mp.sqrt(u.norm * v.norm)
    a_u, a_v = (mp.sqrt(a2 * each.square) / each.sigma for each in (u, v))
    x_u, x_v = (mp.sqrt(b2 * each.norm) / each.sigma for each in (u, v))
    apart = 1 - sign * inner / norms
    constant = (a_u * x_v - a_v * x_u) ** 2 / (1 + a_u * a_v + x_u * x_v) + x_u * x_v * apart
    numbers = [LONG(mp.nstr(each, 25)) for each in (u.sigma, v.sigma, mp.sqrt(u.square), mp.sqrt(v.square))]
    t = max((1 - sign * (a2 * value + b2 * inner) / size) / 2, constant / 2)
    for _ in range(60):
        distance, slope = (
            mp.mpf(str(each)) for each in phi.pair(*numbers, LONG(mp.nstr(t, 25)), sign, LONG(float(shift)))
        )
        new = max(t - (t - (constant + a_u * a_v * distance / 2) / 2) / (1 - a2 * slope), constant / 2)
        done = abs(new - t) <= mp.mpf(10) ** -9 * t
        t = new
        if done or a2 == 0:
            break
    return sign * mp.sqrt(u.square * v.square) * (1 - distance / 2), slope
