"""Entries of pairs at any norms and angles against arithmetic of many digits that shares no code with the package."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import precise
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rmtdeq as rd

BOUND = 1e-12
"""Relative to √(K_ii K_jj)."""

WIDE = 1e3
"""Scale of both pre-activations from which on pieces that end level lose digits in proportion."""

NOTHING = 1e-20
"""Expectations as small as this, of functions that vanish around zero, may count as zero."""

STEEPEST = {
    "erf": 4 / np.pi,
    "sigmoid": 1 / 16,
    "swish": 1.2105,
    "mish": 1.186,
    "gelu": 1.2744,
    "two_slopes(1.2, -0.3)": 1.44,
    "sin(0.8, 1.3, 0.4)": 1.0817,
    "rbf(0.7)": 2.8,
}
"""Largest φ'²: one elsewhere, or the pieces' own."""

GROWING = ("polynomial", "monomial", "hermite", "exp")
"""Those whose slopes have no bound."""

JUMPING = ("steps(", "sign")

PIECES = ("hard_tanh", "hard_sigmoid", "relu6", "piecewise")


def steepest(spec):
    if not spec.startswith(PIECES):
        return STEEPEST.get(spec, 1.0)
    u = np.linspace(-2, 2, 4001)
    return float((np.diff(rd.DEQ(spec, 0.1, 1.0).activation(u)) / np.diff(u)).max() ** 2)


@st.composite
def cases(draw, specs):
    """A model that contracts, and two samples."""
    spec = draw(st.sampled_from(specs))
    log = st.floats(-6, 0.3 if spec.startswith(GROWING) else 6)
    norm = 10 ** draw(log)
    other = norm if draw(st.booleans()) and draw(st.booleans()) else 10 ** draw(log)
    # Of equal samples a recurrence over a jump has two fixed points, a matrix the stable one off its diagonal.
    parallel = draw(st.integers(0, 9)) == 0 and not spec.startswith(JUMPING)
    angle = 0.0 if parallel else 10 ** draw(st.floats(-9, math.log10(math.pi / 2)))
    share = 0.0 if draw(st.integers(0, 6)) == 0 else draw(st.floats(0.01, 0.95))
    # The limit of one that grows depends on the norms; a jump's on the angle, and is zero for parallel samples.
    sigma_a2 = share * (0.05 if spec.startswith(GROWING) else 0.3 if spec.startswith(JUMPING) else 1 / steepest(spec))
    model = rd.DEQ(spec, sigma_a2, 10 ** draw(st.floats(-1, 1)), centered=draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    u, w = np.linalg.qr(rng.standard_normal((draw(st.integers(2, 4)), 2)))[0].T
    y = draw(st.sampled_from([1.0, -1.0])) * (np.cos(angle) * u + np.sin(angle) * w)
    return spec, model, np.stack([norm * u, other * y])


def check(case, *backends):
    spec, model, X = case
    kinds = ("ck",) if spec.startswith(JUMPING) else ("ck", "ntk", "ntk-full")
    try:
        pinned = model.pinned(float(np.mean(np.sum(X**2, axis=1))))
        found_by = {
            backend: [np.asarray(G) for G in rd.kernel(X, pinned, kinds, backend=backend, progress=False)]
            for backend in backends
        }
    except rd.IllPosedError:
        # What is taken off large samples' features may be too much for small ones, and slopes may have no bound.
        assert spec.startswith(GROWING) or (model.centered and pinned.activation.shift != 0)
        return
    a2, b2, G = model.sigma_a2, model.sigma_b2, found_by[backends[0]][0]
    starts = [math.sqrt(a2 * G[i, i] + b2 * (x @ x)) for i, x in enumerate(X)]
    expected, *samples = precise.entry(spec, pinned.activation.shift, a2, b2, *X, starts, G[0, 1])
    diagonals = [precise.diagonal(sample, a2, b2) for sample in samples]
    bound = BOUND * max(1.0, min(starts) / WIDE) if spec.startswith(PIECES) else BOUND
    for k, kind in enumerate(kinds):
        own = [float(diagonal[k]) for diagonal in diagonals]
        size = float(mp.sqrt(abs(diagonals[0][k] * diagonals[1][k])))
        for backend, kernels in found_by.items():
            found = kernels[k]
            assert abs(found[0, 1] - expected[k]) <= bound * size + NOTHING, (backend, kind)
            assert found[1, 0] == found[0, 1]
            assert (abs(np.diag(found) - own) <= BOUND * np.array(own) + NOTHING).all(), (backend, kind)


CLOSED = tuple(name for name in precise.FORMS if name not in precise.SMOOTH)
options = {"derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=24, **options)
@given(case=cases(CLOSED))
def test_entries_with_a_closed_form(case):
    check(case, "numba", "numpy", "torch")


@settings(max_examples=8, **options)
@given(case=cases(precise.SMOOTH))
def test_entries_by_quadrature(case):
    check(case, "numpy")


@pytest.mark.slow
@pytest.mark.parametrize("spec", precise.FORMS)
@settings(max_examples=math.ceil(2000 / len(precise.FORMS)), **options)
@given(data=st.data())
def test_two_thousand_entries(spec, data):
    check(data.draw(cases((spec,))), data.draw(st.sampled_from(["numba", "numpy", "torch"])))


@pytest.mark.parametrize("spec", ["relu", "leaky_relu(0.1)", "abs"])
@pytest.mark.parametrize("seed", range(6))
def test_nearly_parallel_samples_of_many_norms_settle(spec, seed):
    rng = np.random.default_rng(seed)
    X = np.logspace(-2, 1, 120)[:, None] * (rng.standard_normal(20) / 20**0.5 + 1e-4 * rng.standard_normal((120, 20)))
    for G in rd.kernel(X, rd.DEQ(spec, 0.2, 0.8, centered=False), ("ck", "ntk"), progress=False):
        size = np.sqrt(np.diag(G))
        assert (abs(G) <= (1 + 1e-12) * np.outer(size, size)).all()


def test_a_pair_of_far_norms_near_the_limit_settles():
    X = np.array([[0.10137186470832997, 1.66491308873071e-05], [10, 0]])
    check(("relu", rd.DEQ("relu", 0.9, 0.1, centered=False), X), "numpy")
