"""An independent reference for the kernels: plain fixed-point iteration with two-dimensional quadrature.

It shares no code with the package but the activation itself.  The pair is written in symmetric coordinates,
u = σ_u (c p + s q), v = σ_v (c p - s q) with c = cos θ/2, s = sin θ/2, where the package conditions v on u.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

# Triton has no wheels but for Linux, and machines with a GPU may lack Dask.
NEEDED = {"test_triton.py": "triton", "test_cluster.py": "distributed"}
collect_ignore = [name for name, module in NEEDED.items() if not find_spec(module)]


def pytest_terminal_summary(terminalreporter):
    """Say where the engines of torch and Triton were tried: on a CPU they prove nothing of a GPU."""
    if find_spec("torch"):
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        terminalreporter.write_line(f"torch and Triton computed on: {device}")


REACH = 9.5
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
REGULAR = np.linspace(-REACH, REACH, 11)


def _panels(edges):
    """Gauss-Legendre nodes on each panel, and weights times the normal density."""
    half, middle = np.diff(edges, axis=-1)[..., None] / 2, (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    x = middle + half * NODES
    shape = (*edges.shape[:-1], -1)
    return x.reshape(shape), (half * WEIGHTS * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)).reshape(shape)


def _split(breakpoints):
    """Sorted edges of [-REACH, REACH], cut at the breakpoints (last axis)."""
    breakpoints = np.clip(breakpoints, -REACH, REACH)
    regular = np.broadcast_to(REGULAR, (*breakpoints.shape[:-1], REGULAR.size))
    return np.sort(np.concatenate([regular, breakpoints], axis=-1), axis=-1)


class Reference:
    """Kernel entries of an uncentred model, one pair of samples at a time."""

    def __init__(self, deq, slope):
        assert not deq.centered
        self.phi, self.slope, self.a2, self.b2 = deq.activation, slope, deq.sigma_a2, deq.sigma_b2
        self.kinks = np.asarray(deq.activation.kinks, dtype=float)

    def single(self, variance):
        """E φ(u)² and E φ'(u)² for u ~ N(0, variance)."""
        sigma = np.sqrt(variance)
        if sigma == 0:
            return float(self.phi(np.zeros(1))[0]) ** 2, float(self.slope(np.zeros(1))[0]) ** 2
        x, w = _panels(_split(self.kinks / sigma))
        return w @ self.phi(sigma * x) ** 2, w @ self.slope(sigma * x) ** 2

    def pair(self, variance_u, variance_v, covariance):
        """E φ(u)φ(v) and E φ'(u)φ'(v)."""
        sigma_u, sigma_v = np.sqrt(variance_u), np.sqrt(variance_v)
        r = np.clip(covariance / (sigma_u * sigma_v), -1, 1)
        c, s = np.sqrt((1 + r) / 2), np.sqrt((1 - r) / 2)
        h, k = self.kinks / sigma_u, self.kinks / sigma_v
        # The inner variable is the one with the larger coefficient, `big`; sign: v = σ_v (big·inner ∓ small·outer).
        big, small, sign = (c, s, 1.0) if c >= s else (s, c, -1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings = np.ravel(h[:, None] - sign * k) / (2 * small)
        outer, weights = _panels(_split(crossings[np.isfinite(crossings)]))
        at = small * outer[:, None]
        inner, inner_weights = _panels(_split(np.concatenate([(h - at) / big, (sign * k + at) / big], axis=1)))
        u, v = sigma_u * (big * inner + at), sigma_v * sign * (big * inner - at)
        weights = weights[:, None] * inner_weights
        return (weights * self.phi(u) * self.phi(v)).sum(), (weights * self.slope(u) * self.slope(v)).sum()

    def variance(self, squared_norm):
        """The fixed point K_ii, and E φ², E φ'² there."""
        variance = self.b2 * squared_norm + self.a2 * float(self.phi(np.zeros(1))[0]) ** 2
        for _ in range(2000):
            square, slope = self.single(variance)
            moved = self.a2 * square + self.b2 * squared_norm
            if abs(moved - variance) <= 1e-15 * moved:
                return moved, square, slope
            variance = moved
        raise AssertionError("the diagonal did not settle")

    def entry(self, x, y):
        """All three kernels of two samples, by iterating K ← σ_a² G(K) + σ_b² x·y."""
        (variance_u, square, slope), (variance_v, _, _) = self.variance(x @ x), self.variance(y @ y)
        inner = x @ y
        if np.array_equal(x, y):
            return self._kernels(square, slope, inner)
        if variance_u * variance_v == 0:
            return self._kernels(0.0, 0.0, inner)
        covariance = self.b2 * inner
        for _ in range(400):
            value, slope = self.pair(variance_u, variance_v, covariance)
            moved = self.a2 * value + self.b2 * inner
            if abs(moved - covariance) <= 1e-15 * np.sqrt(variance_u * variance_v):
                return self._kernels(value, slope, inner)
            covariance = moved
        raise AssertionError("the entry did not settle")

    def _kernels(self, value, slope, inner):
        gain = 1 - self.a2 * slope
        return np.array([value, value / gain, (value + self.b2 * inner * slope) / gain])

    def scale(self, x, y):
        """The kernels' geometric mean of the two diagonal entries, against which errors are measured."""
        return np.sqrt(self.entry(x, x) * self.entry(y, y))


@pytest.fixture(scope="session")
def reference(slope_of):
    """Return the function from an uncentred model and the name of its activation to its reference."""
    return lambda deq, spec: Reference(deq, slope_of(spec))


@pytest.fixture(scope="session")
def gaussian():
    """Return the function from n, p and a seed to n samples of squared norm about one."""
    return lambda n, p, seed=0: np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p)
