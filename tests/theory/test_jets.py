"""The kernels' entries as functions of two squared norms and an inner product, and their derivatives."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.theory.jets import diagonal_jet, entry_jet

KINDS = ("ck", "ntk", "ntk-full")
ACTIVATIONS = (
    "tanh",
    "relu",
    "swish",
    "gelu",
    "elu",
    "softplus",
    "sigmoid",
    "leaky_relu(0.1)",
    "two kinks",
)
POINT = (1.1, 0.8, 0.13)  # u, v, x
PARALLEL = (1.1, 0.8, 0.9 * np.sqrt(1.1 * 0.8))


def samples(u, v, x):
    """Return two samples of squared norms u and v and inner product x."""
    return np.array([[np.sqrt(u), 0.0], [x / np.sqrt(u), np.sqrt(v - x * x / u)]])


def differences(f, point, step):
    """Return gradient and Hessian of f, (m, d) -> (m,), by central differences extrapolated from four step sizes."""
    point = np.asarray(point, dtype=float)
    d, unit, steps = point.size, np.eye(point.size), step / 2.0 ** np.arange(4)
    pairs = [(a, b) for a in range(d) for b in range(a)]
    moves = np.concatenate(
        [np.zeros((1, d)), unit, -unit]
        + [[unit[a] + unit[b], unit[a] - unit[b], unit[b] - unit[a], -unit[a] - unit[b]] for a, b in pairs]
    )
    values = f((point + steps[:, None, None] * moves).reshape(-1, d)).reshape(4, -1)
    up, down, mixed = values[:, 1 : 1 + d], values[:, 1 + d : 1 + 2 * d], values[:, 1 + 2 * d :].reshape(4, -1, 4)
    gradient = extrapolated((up - down) / (2 * steps[:, None]))
    hessian = np.diag(extrapolated((up - 2 * values[:, :1] + down) / steps[:, None] ** 2))
    cross = extrapolated(mixed @ [1, -1, -1, 1] / (4 * steps[:, None] ** 2)) if pairs else []
    for (a, b), value in zip(pairs, cross, strict=True):
        hessian[a, b] = hessian[b, a] = value
    return gradient, hessian


def extrapolated(rows):
    """Extrapolate rows, of which each has half the step of the one before and an even error, to step zero."""
    order = 1
    while len(rows) > 1:
        rows = (4**order * rows[1:] - rows[:-1]) / (4**order - 1)
        order += 1
    return rows[0]


def check_derivatives(function, deq, point, kind, step=0.05):
    """Compare a jet with differences of its values, relative to the largest derivative where that is above one."""
    at = function(deq, *(np.array([coordinate]) for coordinate in point), kind)
    gradient, hessian = differences(lambda points: function(deq, *points.T, kind).value, point, step)
    for given, expected in ((at.gradient[0], gradient), (at.hessian[0], hessian)):
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-7 * max(1.0, abs(expected).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("x", [0.13, -0.4, PARALLEL[2]], ids=["near orthogonal", "negative", "near parallel"])
def test_values_are_the_kernels_entries(make, activation, kind, x):
    deq = rd.DEQ(make(activation), 0.3, 0.7, centered=False)
    u, v, _ = POINT
    expected = rd.kernel(samples(u, v, x), deq, kind=kind)
    assert entry_jet(deq, u, v, x, kind).value == pytest.approx(expected[0, 1], rel=1e-11)
    np.testing.assert_allclose(diagonal_jet(deq, np.array([u, v]), kind).value, np.diag(expected), rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pinned_model_has_the_entries_of_the_centred_one(kind):
    deq = rd.DEQ("swish", 0.3, 0.7)
    expected = rd.kernel(samples(*POINT), deq, kind=kind, tau0_squared=1.3)
    pinned = deq.pinned(1.3)
    assert entry_jet(pinned, *POINT, kind).value == pytest.approx(expected[0, 1], rel=1e-11)
    assert diagonal_jet(pinned, np.array([1.1]), kind).value[0] == pytest.approx(expected[0, 0], rel=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_and_hessian_are_those_of_the_value(make, activation, kind):
    check_derivatives(entry_jet, rd.DEQ(make(activation), 0.3, 0.7, centered=False), POINT, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slope_and_curvature_of_the_diagonal_are_those_of_its_value(make, activation, kind):
    check_derivatives(diagonal_jet, rd.DEQ(make(activation), 0.3, 0.7, centered=False), POINT[:1], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_derivatives_hold_for_nearly_parallel_samples(activation, kind):
    check_derivatives(entry_jet, rd.DEQ(activation, 0.3, 0.7, centered=False), PARALLEL, kind, step=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", [POINT, PARALLEL], ids=["orthogonal", "parallel"])
def test_derivatives_hold_where_a_mean_makes_all_preactivations_parallel(point, kind):
    deq = rd.DEQ("softplus", 0.8, 0.7, centered=False)
    check_derivatives(entry_jet, deq, point, kind, step=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "two kinks"])
def test_swapping_the_samples_swaps_the_derivatives(make, activation, kind):
    deq = rd.DEQ(make(activation), 0.3, 0.7, centered=False)
    u, v, x = POINT
    one, other = entry_jet(deq, u, v, x, kind), entry_jet(deq, v, u, x, kind)
    swap = [1, 0, 2]
    np.testing.assert_allclose(one.value, other.value, rtol=1e-13)
    np.testing.assert_allclose(one.gradient, other.gradient[swap], atol=1e-13)
    np.testing.assert_allclose(one.hessian, other.hessian[np.ix_(swap, swap)], atol=1e-12)
    np.testing.assert_allclose(one.hessian, one.hessian.T, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_points_are_broadcast_and_agree_with_one_point_at_a_time(kind):
    deq = rd.DEQ("elu", 0.3, 0.7, centered=False)
    u, v = np.array([[1.1], [0.6], [2.0]]), np.array([0.8, 1.1])
    x = 0.5 * np.array([[1, -1], [0, 1], [-1, 1.5]]) * np.sqrt(u * v)
    at = entry_jet(deq, u, v, x, kind)
    assert (at.value.shape, at.gradient.shape, at.hessian.shape) == ((3, 2), (3, 2, 3), (3, 2, 3, 3))
    for i, j in np.ndindex(3, 2):
        one = entry_jet(deq, u[i, 0], v[j], x[i, j], kind)
        for name in ("value", "gradient", "hessian"):
            np.testing.assert_allclose(getattr(at, name)[i, j], getattr(one, name), atol=1e-12)
    along = diagonal_jet(deq, u[:, 0], kind)
    assert (along.value.shape, along.gradient.shape, along.hessian.shape) == ((3,), (3, 1), (3, 1, 1))
    for i in range(3):
        one = diagonal_jet(deq, u[i], kind)
        for name in ("value", "gradient", "hessian"):
            np.testing.assert_array_equal(getattr(along, name)[i], getattr(one, name)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_network_has_a_linear_kernel(kind):
    a2, b2 = 0.3, 0.7
    deq = rd.DEQ("polynomial(0, 1)", a2, b2, centered=False)
    u, v, x = POINT
    # G = σ_b² x/(1 - σ_a²); each slope is one, so that the NTK divides by 1 - σ_a² and the inputs' weights add σ_b² x.
    slope = {"ck": b2 / (1 - a2), "ntk": b2 / (1 - a2) ** 2, "ntk-full": b2 / (1 - a2) ** 2 + b2 / (1 - a2)}[kind]
    at = entry_jet(deq, u, v, x, kind)
    assert at.value == pytest.approx(slope * x, rel=1e-13)
    np.testing.assert_allclose(at.gradient, [0, 0, slope], atol=1e-13)
    np.testing.assert_allclose(at.hessian, np.zeros((3, 3)), atol=1e-13)
    along = diagonal_jet(deq, np.array([u]), kind)
    assert along.value[0] == pytest.approx(slope * u, rel=1e-12)
    assert along.gradient[0, 0] == pytest.approx(slope, rel=1e-12)
    assert along.hessian[0, 0, 0] == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.1)", "abs"])
def test_the_kernel_of_a_homogeneous_activation_is_homogeneous(activation, kind):
    deq = rd.DEQ(activation, 0.3, 0.7, centered=False)
    scale = 7.0
    one, larger = (entry_jet(deq, *(s * np.array(POINT)), kind) for s in (1.0, scale))
    np.testing.assert_allclose(larger.value, scale * one.value, rtol=1e-12)
    np.testing.assert_allclose(larger.gradient, one.gradient, atol=1e-12)
    np.testing.assert_allclose(larger.hessian, one.hessian / scale, atol=1e-12)
    # Euler: of degree one, so that the gradient leads to the value and the Hessian to nothing.
    assert one.gradient @ POINT == pytest.approx(float(one.value), rel=1e-12)
    np.testing.assert_allclose(one.hessian @ POINT, np.zeros(3), atol=1e-12)


FREE = partial(rd.DEQ, sigma_b2=0.7, centered=False)
STEEP = rd.Activation(lambda u: np.sin(3 * u), lambda u: 3 * np.cos(3 * u))
BAD = {
    "a centred model": (rd.DEQ("relu", 0.3, 0.7), POINT, "ck", "pinned"),
    "beyond Cauchy-Schwarz": (FREE("relu", 0.3), (1.0, 1.0, 1.1), "ck", "inner products smaller"),
    "equal samples": (FREE("relu", 0.3), (1.0, 1.0, 1.0), "ck", "inner products smaller"),
    "no norm": (FREE("relu", 0.3), (0.0, 1.0, 0.0), "ck", "must be positive"),
    "NaN": (FREE("relu", 0.3), (1.0, 1.0, np.nan), "ck", "remove or impute"),
    "unknown kernel": (FREE("relu", 0.3), POINT, "gram", "'ck', 'ntk', 'ntk-full'"),
}


@pytest.mark.parametrize(("deq", "point", "kind", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_remedy(deq, point, kind, remedy):
    with pytest.raises(rd.InvalidInputError, match=remedy):
        entry_jet(deq, *point, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_contraction_is_no_kernel(kind):
    deq = FREE("relu", 3.0)
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        entry_jet(deq, *POINT, kind)
    with pytest.raises(rd.IllPosedError, match="lower sigma_a2"):
        diagonal_jet(deq, np.array([1.1]), kind)


@pytest.mark.parametrize("kind", ["ntk", "ntk-full"])
def test_an_infinite_ntk_is_refused_where_the_ck_is_none(kind):
    deq = FREE(STEEP, 0.3)
    assert np.isfinite(entry_jet(deq, *POINT).value)
    with pytest.raises(rd.IllPosedError, match="infinite"):
        entry_jet(deq, *POINT, kind)
    with pytest.raises(rd.IllPosedError, match="infinite"):
        diagonal_jet(deq, np.array([1.1]), kind)


def test_samples_too_parallel_for_derivatives_of_a_kinked_activation_are_refused():
    with pytest.raises(rd.IllPosedError, match=r"nearly parallel.*center_and_scale\(X\) before from_data"):
        entry_jet(FREE("elu", 0.3), 1.0, 1.0, 0.999)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize("x", [0.13, -0.6])
def test_folded_lines_have_the_derivatives_of_their_series(kind, shift, x):
    """In closed form, and by Hermite coefficients as those of any callable."""
    phi = rd.activation("two_slopes(1.2, -0.3)").minus(shift)
    series = rd.Activation(lambda u: phi(u), phi.slope, kinks=(0.0,))
    closed, found = (entry_jet(FREE(each, 0.3), 1.1, 0.8, x, kind) for each in (phi, series))
    for name in ("value", "gradient", "hessian"):
        np.testing.assert_allclose(getattr(closed, name), getattr(found, name), rtol=0, atol=2e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("r", [0.98, -0.98])
def test_folded_lines_have_derivatives_next_to_parallel(kind, r):
    point = (1.1, 0.8, r * np.sqrt(1.1 * 0.8))
    check_derivatives(entry_jet, FREE("leaky_relu(0.1)", 0.3), point, kind, step=2e-3)


STACKS = {
    "dense, equilibrium": rd.Network([rd.Layer("relu", sigma_b2=1.5), rd.DEQ("tanh", 0.4, 0.8)]),
    "with biases": rd.Network(
        [rd.Layer("swish", sigma_b2=1.3, sigma_c2=0.2), rd.Layer("abs"), rd.DEQ("gelu", 0.3, 0.9, sigma_c2=0.1)]
    ),
    "centred": rd.Network([rd.DEQ("relu", 0.3, 0.8), rd.Layer("elu", centered=True)]),
    "normalised": rd.Network(
        [rd.Layer("relu", 0.3, 0.9, 0.1, normalized=True), rd.Layer("swish", sigma_b2=1.5, normalized=True)]
    ),
    "RMS norms": rd.Network(
        [
            rd.Layer("relu", sigma_c2=0.1, after=rd.RMSNorm(0.2)),
            rd.Layer("tanh", 0.3, 0.9, before=rd.RMSNorm(0.4), after=rd.RMSNorm(0.3)),
            rd.Layer("swish", sigma_c2=0.1, after=rd.RMSNorm()),
        ]
    ),
    "branches": rd.Network([rd.Residual(["relu", rd.DEQ("tanh", 0.3, 0.8)], 0.6), rd.Residual("relu"), "erf"]),
}


@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
@pytest.mark.parametrize("name", STACKS)
def test_the_expansion_of_a_stack_is_that_of_its_kernel(name, kind):
    """Values are entries of the kernel; slopes and curvatures their differences."""
    network, h = STACKS[name].pinned(1.0), 1e-3

    def entry(u, v, x):
        pair = np.array([[np.sqrt(u), 0.0], [x / np.sqrt(u), np.sqrt(v - x * x / u)]])
        return rd.kernel(pair, network, kind, backend="numpy", progress=False)[0, 1]

    at = np.array([0.9, 1.2, 0.15])
    jet = entry_jet(network, *at, kind)
    steps = h * np.eye(3)
    assert float(jet.value) == pytest.approx(entry(*at), rel=1e-11)
    slopes = [(entry(*(at + e)) - entry(*(at - e))) / (2 * h) for e in steps]
    np.testing.assert_allclose(jet.gradient, slopes, rtol=1e-5, atol=1e-5)
    bends = [
        [
            (entry(*(at + e + f)) - entry(*(at + e - f)) - entry(*(at - e + f)) + entry(*(at - e - f))) / (4 * h * h)
            for f in steps
        ]
        for e in steps
    ]
    np.testing.assert_allclose(jet.hessian, bends, rtol=1e-4, atol=1e-4)
    diagonal = diagonal_jet(network, at[:1], kind)
    ends = [rd.kernel([[np.sqrt(u)]], network, kind, backend="numpy")[0, 0] for u in at[0] + np.array([-h, 0.0, h])]
    assert float(diagonal.value[0]) == pytest.approx(ends[1], rel=1e-11)
    assert float(diagonal.gradient[0, 0]) == pytest.approx((ends[2] - ends[0]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("level", ["classwise", "paper"])
def test_the_equivalent_of_a_stack_comes_nearer_as_p_grows(level):
    """Relative operator-norm errors at p = 200 and 800, the mean of two seeds: they halve, or do better."""
    network = rd.Network([rd.DEQ("relu", 0.3, 0.8), rd.Layer("swish", centered=True)])
    errors = []
    for p in (200, 800):
        means = np.zeros((2, p))
        means[0, 0] = means[1, 1] = 6
        gmm = rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(p)])
        found = []
        for seed in range(2):
            X, y = gmm.sample(int(0.8 * p), seed=seed)
            exact = rd.kernel(X, network, ("ck", "ntk"), tau0_squared=gmm.mean_squared_norm)
            for kernel, near in zip(exact, rd.equivalent(X, y, network, gmm, ("ck", "ntk"), level), strict=True):
                found.append(np.linalg.norm(kernel - near, 2) / np.linalg.norm(kernel, 2))
        errors.append(np.mean(found))
    assert errors[1] < 0.55 * errors[0]


def test_the_spectrum_of_a_stack_with_biases_is_foretold():
    network = rd.Network([rd.Layer("relu", sigma_b2=2.0, sigma_c2=0.1)] * 3)
    means = np.zeros((2, 600))
    means[0, 0] = means[1, 1] = 8
    gmm = rd.GaussianMixture(means, [1.0, 1.3])
    X, y = gmm.sample(480, seed=0)
    for kind in ("ck", "ntk"):
        pred = rd.predict_spectrum(network, gmm, 480, kind)
        emp = rd.empirical_spectrum(X, network, kind, tau0_squared=gmm.mean_squared_norm)
        assert rd.compare(emp, pred, y).ks < 0.03
        assert pred.outliers[-1] == pytest.approx(emp.eigenvalues[-1], rel=0.01)


def test_the_first_order_theory_has_no_bias():
    with pytest.raises(rd.InvalidInputError, match="without bias"):
        rd.solve(rd.DEQ("tanh", 0.2, 0.8, sigma_c2=0.1), 1.0)
