"""Kernels of networks: recurrent and ordinary layers, one on another and in branches, with biases, normalised."""

from __future__ import annotations

import os
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

import rmtdeq as rd
from rmtdeq.activations import dual
from rmtdeq.kernels.angular import FAR, angular_function
from rmtdeq.kernels.plan import Plan, make_plan
from rmtdeq.kernels.samples import Samples

KINDS = ("ck", "ntk", "ntk-full")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def relu_layers():
    return rd.Network([rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1)] * 3)


NETWORKS = {
    "three ReLU layers with biases": relu_layers(),
    "dense, equilibrium, dense": rd.Network(
        [rd.Layer("leaky_relu(0.2)", sigma_b2=1.5), rd.DEQ("tanh", 0.4, 0.8), rd.Layer("abs")]
    ),
    "smooth, biased": rd.Network(
        [rd.Layer("swish", sigma_b2=1.3, sigma_c2=0.2), rd.DEQ("gelu", 0.3, 0.9, centered=False, sigma_c2=0.1)]
    ),
    "centred": rd.Network([rd.DEQ("relu", 0.3, 0.8), rd.Layer("elu", centered=True), rd.DEQ("tanh", 0.2, 0.8)]),
    "DEQ with a bias": rd.DEQ("relu", 0.4, 0.8, centered=False, sigma_c2=0.3),
    "normalised": rd.Network(
        [
            rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1, normalized=True),
            rd.Layer("tanh", 0.4, 0.8, 0.1, normalized=True),
            rd.Layer("leaky_relu(0.2)", sigma_b2=1.5, normalized=True),
        ]
    ),
    "RMS norms": rd.Network(
        [
            rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1, after=rd.RMSNorm()),
            rd.Layer("tanh", 0.3, 0.8, 0.1, before=rd.RMSNorm(0.2), after=rd.RMSNorm(0.1)),
            rd.Residual(rd.Layer("relu", centered=True, before=rd.LayerNorm(0.3), after=[rd.RMSNorm(), rd.RMSNorm(1)])),
            rd.Layer("leaky_relu(0.2)", sigma_b2=1.5, after=rd.RMSNorm(0.5)),
        ]
    ),
    "residual blocks": rd.Network(
        [
            rd.Layer("relu", sigma_b2=2.0),
            rd.Residual([rd.Layer("relu", sigma_c2=0.1, normalized=True), rd.Layer("elu", centered=True)], 0.5),
            rd.Residual(rd.Layer("relu")),
            rd.Layer("abs", sigma_b2=0.7, sigma_c2=0.1),
        ]
    ),
    "branches from the samples on": rd.Network(
        [
            rd.Concatenation([(), rd.Layer("relu"), [rd.Layer("tanh", sigma_b2=1.5), rd.DEQ("swish", 0.3, 0.8)]]),
            rd.Layer("relu"),
            rd.Concatenation([rd.Layer("gelu"), ()], weights=(0.7, 1.3)),
        ]
    ),
    "one jump at the top": rd.Network([rd.Layer("relu", sigma_b2=2.0), rd.Layer("steps(0, -1, 1)")]),
}
SMOOTH = [name for name in NETWORKS if name != "one jump at the top"]


def samples(n=14, p=20, seed=0):
    """Gaussian ones of different norms, a zero row, equal, parallel, opposite and nearly parallel rows among them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) / np.sqrt(p)
    X[1], X[2], X[3] = X[0], 1.7 * X[0], -X[0]
    X[4] = X[0] + 1e-4 * X[5]
    X[6] = 0
    return X


def scalar(network, u, v, x):
    """CK, "ntk" and "ntk-full" of pairs by plain iteration of dual activations, with slope 0.4 at most: 0.4^30 = 1e-12.

    Of (k,) squared norms and inner products.
    """
    equal = (u == v) & (x == u)
    norms, places = np.unique([u, v], return_inverse=True)
    known = [{"norms": norms, "ck": x, "ntk": x, "ntk-full": x}]

    def given(sources, name):
        return sum(weight * known[number + 1][name] for number, weight in sources)

    def through(steps, q):
        for each in steps:
            q = np.divide(q, q + each.epsilon, out=np.zeros_like(q), where=q > 0)
        return q

    def made(layer, inside):
        square = dual(layer.activation, inside, inside, inside).product
        return square, through(layer.after, square)

    for layer, sources in zip(network.layers, network.sources, strict=False):
        a2, b2, c2 = layer.sigma_a2, layer.sigma_b2, layer.sigma_c2
        steps = 30 if a2 else 0
        variance = below = b2 * given(sources, "norms") + c2
        for _ in range(steps):
            variance = a2 * made(layer, through(layer.before, variance))[1] + below
        inside = through(layer.before, variance)
        square, norms = made(layer, inside)
        found = {"norms": norms}
        # Both samples' factors before and after φ.
        (s, t), (steep, gain) = (
            variance[places.reshape(2, -1)],
            (
                np.sqrt(np.divide(b, a, out=np.ones_like(a), where=a > 0))[places.reshape(2, -1)].prod(axis=0)
                for a, b in ((variance, inside), (square, norms))
            ),
        )
        covariance = below = b2 * given(sources, "ck") + c2
        for _ in range(steps + 1):
            covariance = np.clip(covariance, -np.sqrt(s * t), np.sqrt(s * t))
            covariance[equal] = s[equal]
            at = dual(layer.activation, *inside[places.reshape(2, -1)], covariance * steep)
            covariance = a2 * gain * at.product + below
        slope, found["ck"] = gain * steep * at.slope, gain * at.product
        fixed = all(number == -1 for number, _ in sources)
        for kind in ("ntk", "ntk-full"):
            under = 0.0 if kind == "ntk" and fixed else b2 * given(sources, kind) + c2
            found[kind] = (found["ck"] + slope * under) / (1 - a2 * slope)
        known.append(found)
    return np.array([given(network.sources[-1], kind) for kind in ("ck", "ntk", "ntk-full")])


@pytest.mark.parametrize("name", SMOOTH)
def test_kernels_are_the_recursion_of_dual_activations(name):
    X, network = samples(), NETWORKS[name].pinned(1.0)
    found = np.array(rd.kernel(X, network, KINDS))
    i, j = np.transpose([(7, 7), (7, 8), (0, 2), (0, 3), (0, 4), (6, 7), (6, 6)])
    if not any(layer.sigma_c2 for layer in network.layers):
        i, j = i[:-1], j[:-1]  # zero rows have a kernel where there is a bias
    products = X @ X.T
    expected = scalar(network, products[i, i], products[j, j], products[i, j])
    atol = np.where((i == 0) & (j == 4), 2e-8, 1e-9)
    assert (abs(found[:, i, j] - expected) <= atol + 1e-9 * abs(expected)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree(name):
    X = np.concatenate([samples(), np.random.default_rng(3).standard_normal((90, 20)) / 4])
    kinds = KINDS if name in SMOOTH else ("ck",)
    expected = rd.kernel(X, NETWORKS[name], kinds, backend="numba")
    for backend in ("numpy", "torch"):
        for one, other in zip(rd.kernel(X, NETWORKS[name], kinds, backend=backend), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * abs(other).max())
            np.testing.assert_array_equal(other, other.T)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_triton_agrees(name):
    if DEVICE == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
        pytest.importorskip("triton")
    X = np.concatenate([samples(), np.random.default_rng(3).standard_normal((50, 20)) / 4])
    kinds = KINDS if name in SMOOTH else ("ck",)
    for one, other in zip(
        rd.kernel(X, NETWORKS[name], kinds, backend="triton", device=DEVICE),
        rd.kernel(X, NETWORKS[name], kinds),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * abs(other).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["three ReLU layers with biases", "dense, equilibrium, dense"])
def test_blocks_operators_and_files_hold_the_same_kernel(name, kind, tmp_path):
    rng = np.random.default_rng(2)
    X, network = rng.standard_normal((150, 30)) / np.sqrt(30), NETWORKS[name].pinned(1.0)
    exact = rd.kernel(X, network, kind)
    np.testing.assert_allclose(rd.kernel(X[:20], network, kind, Y=X), exact[:20], rtol=0, atol=1e-12)
    V = rng.standard_normal((150, 3))
    for method in ("dense", "memory-mapped", "matrix-free"):
        op = rd.kernel_operator(X, network, kind, method=method)
        np.testing.assert_allclose(op @ V, exact @ V, rtol=0, atol=1e-11 * abs(exact).max())
    single = rd.kernel(X, network, kind, dtype="float32")
    np.testing.assert_allclose(single, exact, rtol=0, atol=3e-6 * abs(exact).max())
    found = rd.empirical_spectrum(X, network, kind, method="slq", top=5, seed=0, progress=False)
    np.testing.assert_allclose(found.eigenvalues[-5:], np.linalg.eigvalsh(exact)[-5:], rtol=1e-8)


def test_a_bias_is_one_more_feature():
    X, deq = samples(), rd.DEQ("swish", 0.4, 0.8, centered=False, sigma_c2=0.2)
    longer = np.concatenate([X, np.full((len(X), 1), np.sqrt(0.2 / 0.8))], axis=1)
    plain = replace(deq, sigma_c2=0.0)
    for one, other in zip(rd.kernel(X, deq, KINDS), rd.kernel(longer, plain, KINDS), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_a_network_of_one_recurrent_layer_is_the_deq():
    X, deq = samples(), rd.DEQ("relu", 0.3, 0.8)
    for one, other in zip(rd.kernel(X, rd.Network([deq]), KINDS), rd.kernel(X, deq, KINDS), strict=True):
        np.testing.assert_array_equal(one, other)
    top = rd.Layer("tanh")
    assert rd.Network([deq, top]).layers == (deq.layer, top)


def test_a_designed_network_is_a_network():
    X = samples()
    net = rd.design(rd.DEQ("relu", 0.2, 0.8), 1.0)
    np.testing.assert_array_equal(rd.kernel(X, net), net.kernel(X))
    np.testing.assert_allclose(rd.kernel_operator(X, net, "ntk") @ X, rd.kernel(X, net, "ntk") @ X, atol=1e-12)


def test_tangent_kernels_of_jumps_above_the_first_layer_are_infinite():
    X = samples()
    for kind in ("ntk", "ntk-full"):
        with pytest.raises(rd.IllPosedError, match="jumps"):
            rd.kernel(X, NETWORKS["one jump at the top"], kind)
    first = rd.Network([rd.Layer("steps(0, -1, 1)"), rd.Layer("relu", sigma_b2=2.0)])
    assert np.isfinite(rd.kernel(X[:6], first, "ntk")).all()
    with pytest.raises(rd.IllPosedError, match="jumps"):
        rd.kernel(X, first, "ntk-full")


def test_layers_without_biases_are_functions_of_the_angle():
    """Whatever the depth, one sum: to 1e-14 what twenty layers are in thirty digits, and what other engines have."""
    network = rd.Network([rd.Layer("relu", sigma_b2=2.0)] * 20)
    X = np.concatenate([samples(), np.random.default_rng(3).standard_normal((120, 20))])
    found = rd.kernel(X, network, KINDS)
    assert angular_function(make_plan(Samples(X, None), network, KINDS)).whole.shape == (3, 48)
    for one, other in zip(rd.kernel(X, network, KINDS, backend="numpy"), found, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-11 * one.max())
        np.testing.assert_array_equal(other, other.T)
    np.testing.assert_allclose(
        rd.kernel(X[:9], network, "ntk", Y=X, dtype="float32"), found[1][:9], rtol=0, atol=1e-5 * found[1].max()
    )
    i, j = 30, 80
    with mpmath.workdps(30):
        norms, inner = (
            [mpmath.fdot(map(float, X[a]), map(float, X[b])) for a, b in pairs]
            for pairs in (((i, i), (j, j)), ((i, j),))
        )
        size = mpmath.sqrt(norms[0] * norms[1])
        r = ntk = inner[0] / size
        full = r
        for depth in range(20):
            angle = mpmath.acos(r)
            value, slope = (mpmath.sqrt(1 - r * r) + r * (mpmath.pi - angle)) / mpmath.pi, 1 - angle / mpmath.pi
            ntk = value + ntk * slope if depth else value
            full, r = value + full * slope, value
        expected = [float(size * each) for each in (r, ntk, full)]
    np.testing.assert_allclose([each[i, j] for each in found], expected, rtol=3e-14)


@pytest.mark.parametrize("depth", [2, 20])
def test_samples_far_from_parallel_need_no_angle(depth):
    """Powers of the cosine and the sum over angles meet where one follows on the other."""
    network = rd.Network([rd.Layer("leaky_relu(0.1)", sigma_b2=2.0)] * depth)
    cosine = np.concatenate([FAR * np.linspace(-1, 1, 128), FAR * np.linspace(1 + 1e-15, 4, 64), [-0.5] * 64])
    X, Y = np.tile([1.0, 0.0], (2, 1)), np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)
    for kind in KINDS:
        exact = rd.kernel(X, network, kind, Y=Y, backend="numpy")
        np.testing.assert_allclose(rd.kernel(X, network, kind, Y=Y), exact, rtol=0, atol=1e-14 * exact.max())


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ["tanh", "erf", "sin(1, 1)", "swish", "relu", "cos(1, 1)"])
def test_nearly_orthogonal_samples_take_one_step(activation, depth):
    """Odd series and others, settled at once, are what the other engine iterates to."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((130, 1500)) / np.sqrt(1500) * rng.uniform(0.8, 1.2, (130, 1))
    network = rd.Network([rd.Layer(activation, sigma_a2=0.2, sigma_b2=0.7)] * depth)
    found, exact = (rd.kernel(X, network, KINDS, backend=backend) for backend in ("numba", "numpy"))
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-13 * other.max())


@pytest.mark.parametrize("given", [[rd.Layer("relu"), rd.Layer("relu", sigma_c2=0.1)], ["relu"], ["relu", "tanh"]])
def test_other_layers_are_no_functions_of_the_angle(given):
    network = rd.Network(given)
    assert angular_function(make_plan(Samples(samples(), None), network, KINDS)) is None


def test_dropout_changes_what_a_sample_has_with_itself():
    X, layer = samples()[4:], rd.Layer("relu", sigma_c2=0.1)
    for plain, found in zip(
        rd.kernel(X, rd.Network([layer]), KINDS),
        rd.kernel(X, rd.Network([replace(layer, dropout=0.2)]), KINDS),
        strict=True,
    ):
        np.testing.assert_allclose(found, plain + np.diag(plain.diagonal() / 4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_engines_agree_on_dropout(backend):
    """Above it equal samples are at an angle, which closed forms of the next layers have from below."""
    network = rd.Network([rd.Layer("relu", dropout=0.3), rd.Layer("tanh", dropout=0.1), rd.Layer("abs", sigma_c2=0.1)])
    X = samples()
    for one, other in zip(
        rd.kernel(X, network, KINDS, backend=backend), rd.kernel(X, network, KINDS, backend="numba"), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * other.max())
        assert other[0, 1] < 0.95 * other[0, 0]


def test_features_of_norm_one_are_those_of_normalised_pre_activations():
    """Of ReLU, E φ(ξ)² is a half: with features of twice the square the next layer has twice the variance."""
    X, norm = samples(), rd.RMSNorm()
    after = [rd.Layer("relu", 0.0, 0.7, 0.1, after=norm)] * 2
    before = [rd.Layer("relu", 0.0, b2, 0.1, before=norm) for b2 in (0.7, 1.4)]
    for one, other in zip(*(rd.kernel(X, rd.Network(each), KINDS) for each in (after, before)), strict=True):
        np.testing.assert_allclose(one, 2 * other, rtol=0, atol=1e-13 * one.max())
    np.testing.assert_allclose(rd.kernel(X, rd.Network(after)).diagonal(), 1.0, rtol=1e-14)


def test_features_of_norm_one_forget_the_size_of_a_sample():
    """Of ReLU, however small the sample is; what is nothing stays nothing."""
    X, network = samples()[7:], rd.Network([rd.Layer("relu", after=rd.RMSNorm())])
    scaled = np.geomspace(1e-100, 1, len(X))[:, None] * X
    scaled[3] = 0
    expected = rd.kernel(X, network, KINDS[0])
    expected[3] = expected[:, 3] = 0
    np.testing.assert_allclose(rd.kernel(scaled, network, KINDS[0]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("place", "given"),
    [("after", rd.LayerNorm()), ("before", rd.Dropout(0.1)), ("after", [rd.Dropout(0.1), rd.RMSNorm()]), ("after", 3)],
)
def test_steps_where_they_do_not_go_are_refused(place, given):
    with pytest.raises(rd.InvalidInputError, match=place):
        rd.Layer("relu", **{place: given})


def test_a_branch_may_be_a_network_and_weights_multiply():
    X = samples()
    block = rd.Network([rd.Concatenation([(), rd.Layer("tanh")], weights=(2.0, 3.0))])
    assert rd.Network([block]) == block
    nested = rd.Network([rd.Concatenation([block, rd.Layer("tanh")], weights=(0.5, 1.0))])
    parts = [X @ X.T, *[rd.kernel(X, rd.Network(["tanh"]))] * 2]
    np.testing.assert_allclose(
        rd.kernel(X, nested), sum(w * K for w, K in zip((1.0, 1.5, 1.0), parts, strict=True)), rtol=0, atol=1e-13
    )
    twice = rd.Network([block, block])
    assert twice.depth == 2
    assert twice.sources == (((-1, 1.0),), ((-1, 2.0), (0, 3.0)), ((-1, 4.0), (0, 6.0), (1, 3.0)))


def test_layers_wired_one_on_another_are_a_chain():
    relu, tanh = rd.Layer("relu"), rd.Layer("tanh")
    chain = rd.Network([relu, tanh])
    assert rd.Network([rd.Concatenation([relu]), rd.Network([tanh])]) == chain
    assert chain.sequential
    assert not rd.Network([rd.Residual("relu")]).sequential


@pytest.mark.parametrize(
    ("branches", "weights"),
    [((), None), ("relu", None), (3, None), (["relu"], (1.0, 2.0)), (["relu", ()], (1.0, 0.0)), ([3], None)],
)
def test_what_is_no_concatenation_is_refused(branches, weights):
    with pytest.raises(rd.InvalidInputError):
        rd.Concatenation(branches, weights)


@pytest.mark.parametrize("name", ["normalised", "residual blocks"])
def test_what_knows_chains_alone_says_so(name):
    X, network = samples(), NETWORKS[name].pinned(1.0)
    for call in (
        lambda: rd.solve(network, 1.0),
        lambda: rd.design(network, 1.0),
        lambda: rd.diagnose(rd.Network([network, rd.DEQ("tanh")]), X),
    ):
        with pytest.raises(rd.InvalidInputError, match="without concatenations, normalisation and dropout"):
            call()


@pytest.mark.parametrize("given", [[], "relu", None, 3, [rd.Layer("relu"), 5]])
def test_what_is_no_network_is_refused(given):
    with pytest.raises(rd.InvalidInputError):
        rd.Network(given)


@pytest.mark.parametrize("given", ["relu", None, rd.Layer("relu")])
def test_functions_want_a_network(given):
    with pytest.raises(rd.InvalidInputError, match="Network"):
        rd.kernel(np.eye(3), given)


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
def test_layers_that_make_all_samples_parallel_take_no_pair_by_itself(backend, monkeypatch):
    """Small weights and a bias: after ten layers angles are 1e-5, and every digit of 1 - cos is still there."""
    network = rd.Network([rd.Layer("relu", sigma_b2=0.2, sigma_c2=0.01), rd.Layer("leaky_relu(0.1)", sigma_b2=0.3)] * 5)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 40)) * rng.uniform(0.1, 0.3, (30, 1))
    plan = make_plan(Samples(X, None), network, KINDS)
    i, j = np.tril_indices(30, -1)
    expected = plan.pairs(i, j, KINDS)

    def forbidden(*_):
        raise AssertionError("a pair went by itself")

    monkeypatch.setattr(Plan, "pairs", forbidden)
    for kind, found in zip(KINDS, rd.kernel(X, network, KINDS, backend=backend), strict=True):
        np.testing.assert_allclose(found[i, j], expected[kind], rtol=1e-12)


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
def test_an_even_layer_makes_opposite_samples_equal(backend):
    network = rd.Network([rd.Layer("abs"), rd.DEQ("tanh", 0.2, 0.8), rd.Layer("relu")])
    x = np.random.default_rng(0).standard_normal((1, 10)) / 3
    for kind, found in zip(KINDS, rd.kernel(np.concatenate([x, -x]), network, KINDS, backend=backend), strict=True):
        if kind != "ntk-full":  # whose gradient in the input weights is odd
            np.testing.assert_allclose(found, found[0, 0], rtol=1e-11, err_msg=kind)
