"""Kernel entries against plain fixed-point iteration with an independent two-dimensional quadrature."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.kernels import pairs as exact
from rmtdeq.kernels.pairs import solve_pairs
from rmtdeq.kernels.samples import Angles
from rmtdeq.kernels.scales import Profile, scale_table

KINDS = ("ck", "ntk", "ntk-full")
SPECS = ("tanh", "relu", "elu", "gelu", "hard_tanh(1, 0.5)", "bent sine")
# Correlation and norms of two inputs.
PAIRS = (
    (0.0, 1.0, 1.0),
    (0.5, 0.2, 2.0),
    (-0.8, 1.0, 1.3),
    (0.97, 1.0, 1.0),
    (0.995, 0.2, 2.0),
    (1 - 1e-4, 1.0, 1.3),
    (1 - 1e-6, 1.0, 1.0),
    (1 - 1e-8, 1.0, 1.0),
    (1 - 1e-8, 1.0, 1.3),
    (-1 + 1e-3, 1.0, 1.0),
    (1.0, 0.7, 0.7),
)


def two_samples(correlation, norm_x, norm_y, p=5):
    x, e = np.linalg.qr(np.random.default_rng(1).standard_normal((p, 2)))[0].T
    if correlation == 1 and norm_x == norm_y:
        return norm_x * x, norm_y * x
    return norm_x * x, norm_y * (correlation * x + np.sqrt(1 - correlation**2) * e)


def pair_entries(x, y, deq):
    return np.array([m[0, 0] for m in rd.kernel(x[None], deq, KINDS, Y=y[None])])


def worst_error(deq, ref, pairs):
    """Largest error relative to the diagonals, over pairs and kernels."""
    errors = []
    for pair in pairs:
        x, y = two_samples(*pair)
        errors.append(abs(pair_entries(x, y, deq) - ref.entry(x, y)) / ref.scale(x, y))
    return np.max(errors)


@pytest.mark.parametrize(("sigma_a2", "centered"), [(0.2, True), (0.5, False)])
@pytest.mark.parametrize("name", SPECS)
def test_entries_agree_with_an_independent_quadrature(make, reference, name, sigma_a2, centered):
    deq = rd.DEQ(make(name), sigma_a2, 0.8, centered=centered).pinned(1.0)
    # Pairs of a callable are slow: every third one.
    pairs = PAIRS[1::3] if name == "bent sine" else PAIRS
    assert worst_error(deq, reference(deq, name), pairs) < 2e-11


@pytest.mark.slow
@pytest.mark.parametrize("sigma_a2", [0.05, 0.4, 0.7])
def test_entries_of_every_activation_agree_with_an_independent_quadrature(spec, make, reference, sigma_a2):
    deq = rd.DEQ(make(spec), sigma_a2, 0.8).pinned(1.0)
    if spec.startswith("polynomial"):
        deq = rd.DEQ(make(spec), sigma_a2 / 4, 0.8).pinned(1.0)
    assert worst_error(deq, reference(deq, spec), PAIRS) < 1e-10


def test_random_pairs_agree_with_an_independent_quadrature(make, reference, gaussian):
    X = gaussian(5, 6, seed=3)
    for name in ("tanh", "elu", "two kinks"):
        deq = rd.DEQ(make(name), 0.4, 0.7).pinned(1.0)
        ref, kernels = reference(deq, name), rd.kernel(X, deq, KINDS)
        for i, j in ((0, 1), (2, 4), (3, 3), (1, 4)):
            found = np.array([m[i, j] for m in kernels])
            assert (abs(found - ref.entry(X[i], X[j])) < 1e-12 * ref.scale(X[i], X[j])).all()


@pytest.mark.parametrize("name", SPECS)
def test_equal_samples_hold_the_diagonal(make, gaussian, name):
    deq, X = rd.DEQ(make(name), 0.4, 0.8), gaussian(2, 5)
    X = X[[0, 1, 0, 0, 1]]
    for kernel in rd.kernel(X, deq, KINDS):
        np.testing.assert_allclose(kernel[[0, 0, 1], [2, 3, 4]], kernel.diagonal()[[0, 0, 1]], rtol=2e-13)


def test_equal_samples_need_no_quadrature(make, monkeypatch):
    def forbidden(*_):
        raise AssertionError("an expectation was computed")

    monkeypatch.setattr(exact, "difference_form", forbidden)
    norms, sigma, mean = np.array([[1.0, 1.3], [0.8, 1.1], [0.2, 0.3]])
    square, slopes = np.array([0.4, 0.7]), np.array([0.5, 0.6])
    layer, same = rd.Layer(make("elu"), 0.4, 0.8), Profile(norms, sigma, mean, square, slopes, sigma, np.ones(2))
    for dual in (None, forbidden):
        value, slope, _ = solve_pairs(layer, same, same, Angles(np.ones(2), np.zeros(2)), dual)
        np.testing.assert_allclose(value, square, rtol=1e-15)
        np.testing.assert_allclose(slope, slopes, rtol=1e-15)


@pytest.mark.parametrize("name", ["relu", "hard_tanh(1, 0.5)", "abs", "elu"])
def test_tangent_kernel_is_lipschitz_at_equal_samples(make, gaussian, name):
    # Slopes of a kinked φ depend on the angle to first order: an entry of samples ε apart is O(ε) off the diagonal.
    deq, x = rd.DEQ(make(name), 0.4, 0.8).pinned(1.0), gaussian(1, 5, seed=2)
    step = gaussian(1, 5, seed=4)
    diagonal = rd.kernel(x, deq, "ntk")[0, 0]
    off = [abs(rd.kernel(x, deq, "ntk", Y=x + e * step)[0, 0] / diagonal - 1) / e for e in (1e-4, 1e-6, 1e-8, 1e-10)]
    assert max(off) < 5
    assert off[-1] == pytest.approx(off[1], rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.1)", "abs"])
@pytest.mark.parametrize("factor", [1.2, 10.0, 1 + 1e-9])
def test_parallel_samples_of_a_homogeneous_activation_are_multiples_of_the_diagonal(make, gaussian, name, factor):
    deq = rd.DEQ(make(name), 0.5, 0.8, centered=False)
    for seed in range(5):
        x = gaussian(1, 5, seed)
        for one, across in zip(rd.kernel(x, deq, KINDS), rd.kernel(x, deq, KINDS, Y=factor * x), strict=True):
            assert across[0, 0] == pytest.approx(factor * one[0, 0], rel=1e-12)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_nearly_parallel_samples_of_every_distance_settle(gaussian, scale):
    # Of small norm, too: there the knots of hard tanh lie far out in the tails.
    deq, X, step = rd.DEQ("hard_tanh(1, 1)", 0.5, 0.8), scale * gaussian(20, 5), scale * gaussian(20, 5, seed=9)
    distances = 10.0 ** np.arange(-15, -1)
    Y = np.concatenate([sign * X + d * step for d in distances for sign in (1, -1)])
    G, T = rd.kernel(X, deq, ("ck", "ntk"), Y=Y)
    assert np.isfinite(T).all()
    itself = rd.kernel(X, deq).diagonal()
    paired = np.array([G[:, k * 20 : k * 20 + 20].diagonal() for k in range(len(Y) // 20)])
    lag = np.repeat(distances, 2)[:, None]
    np.testing.assert_array_less(abs(abs(paired) / itself - 1), np.broadcast_to(10 * lag + 1e-12, paired.shape))


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "hard_tanh(1, 0.5)"])
def test_odd_activations_give_odd_kernels(make, gaussian, name):
    deq, X, Y = rd.DEQ(make(name), 0.4, 0.8), gaussian(4, 3), gaussian(5, 3, seed=1)
    Y[0] = X[0] * 0.99 + 0.01 * Y[0]
    for plain, flipped in zip(rd.kernel(X, deq, KINDS, Y=Y), rd.kernel(X, deq, KINDS, Y=-Y), strict=True):
        np.testing.assert_allclose(flipped, -plain, atol=1e-10)


def test_pairs_are_solved_alone_as_they_are_together(make):
    layer = rd.DEQ(make("elu"), 0.4, 0.8).pinned(1.0).layer
    profile = scale_table(layer, 0.4, 1.2).profile(np.array([1.0, 1.2, 0.4]))
    versine = np.array([0.1, 0.0, 0.3])
    u, v, angles = profile, profile.at(np.array([2, 1, 0])), Angles(1 - versine, versine)
    together = np.array(solve_pairs(layer, u, v, angles)[:2])
    some = [np.array([i]) for i in range(3)]
    alone = np.array([solve_pairs(layer, u.at(i), v.at(i), angles.at(i))[:2] for i in some])[..., 0].T
    np.testing.assert_allclose(together, alone, rtol=1e-13)
    assert together[0, 1] == pytest.approx(profile.square[1], rel=1e-15)


def test_pairs_that_cannot_settle_raise():
    deq = rd.DEQ(rd.Activation(lambda u: np.sin(40 * u)), 0.2, 0.8, centered=False)
    with pytest.raises(rd.RmtdeqError, match="lower sigma_a2"):
        rd.kernel(np.eye(2)[[0, 0]] * [[1.0], [1.0 + 1e-3]], deq, "ntk")


JUMPS = {
    "steps": (lambda: rd.activation("steps(0, 0, 1)"), lambda r: 0.5 - np.arccos(r) / (2 * np.pi)),
    "sign": (lambda: rd.Activation(np.sign, kinks=(0,)), lambda r: 1 - 2 * np.arccos(r) / np.pi),
}


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
@pytest.mark.parametrize("name", JUMPS)
def test_layers_that_jump_at_every_angle(name, backend):
    """Without recurrence the entry is the arc-sine law, for parallel and opposite samples, too."""
    made, law = JUMPS[name]
    angles = np.array([0.0, 1e-9, 1e-6, 1e-3, 0.04, 0.5, 1.5, 3.0, np.pi - 1e-3, np.pi])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    K = rd.kernel(X, rd.DEQ(made(), 0.0, 1.0, centered=False), backend=backend)
    np.testing.assert_allclose(K[0], law(np.cos(angles)), atol=1e-8)
    assert np.linalg.eigvalsh(K)[0] > -1e-8
    near = rd.kernel([[1, 0], [0.999, 0.04]], rd.DEQ(made(), 0.0, 1.0, centered=False), backend=backend)
    assert near[0, 1] == pytest.approx({"steps": 0.4936, "sign": 0.974}[name], abs=6e-4)


@pytest.mark.parametrize("family", ["ternary", "quantised"])
def test_designed_layers_that_jump_make_a_kernel(family):
    X, _ = rd.load_dataset("digits", n=200)
    X[0], X[2] = X[1], -X[3]
    K = rd.design(rd.DEQ("relu", 0.2, 0.8), tau0_squared=1.0, kind="ck", family=family).kernel(X, "ck")
    diagonal = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    assert (abs(K) <= diagonal * (1 + 1e-9)).all()
    assert np.linalg.eigvalsh(K)[0] > -1e-6 * len(X)
