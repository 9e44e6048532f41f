"""The predicted loss curve: a power of the kernel, and its deterministic equivalent."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmtdeq as rd
from rmtdeq.cli import example_mixture

matplotlib.use("Agg")

EPOCHS = np.array([0, 1, 2, 3, 10, 50, 200])


def kernel_of(n=12, seed=0):
    Z = np.random.default_rng(seed).standard_normal((n, 2 * n))
    return Z @ Z.T / n


def test_descent_is_what_its_steps_make_of_the_residual():
    K, rng = kernel_of(), np.random.default_rng(1)
    y, initial = rng.standard_normal(12), rng.standard_normal(12)
    step = 1.3 / np.linalg.eigvalsh(K)[-1]
    curve = rd.predict_training(K, y, step, initial=initial)
    r, losses = initial - y, []
    for _ in range(201):
        losses.append(0.5 * r @ r)
        r = r - step * K @ r
    np.testing.assert_allclose(curve.loss(EPOCHS), np.array(losses)[EPOCHS], rtol=1e-9)
    assert curve.loss(3).shape == ()


@pytest.mark.parametrize(("loss", "scale"), [("squares", 1.0), ("mse", 2 / (12 * 3))])
def test_twice_the_learning_rate_is_the_limit_of_descent(loss, scale):
    rng = np.random.default_rng(3)
    Z, targets = rng.standard_normal((12, 40)), rng.standard_normal((12, 3))
    limit = 2 * rd.learning_rate(Z @ Z.T, loss, outputs=3)

    def left(rate, steps=4000):
        weights = np.zeros((40, 3))
        for _ in range(steps):
            weights -= rate * scale * Z.T @ (Z @ weights - targets)
        return np.linalg.norm(Z @ weights - targets) / np.linalg.norm(targets)

    assert left(limit / 2) < 1e-6
    assert left(1.1 * limit, 400) > 1e6


def test_the_learning_rate_s_losses_are_torch_s():
    import torch

    rng = np.random.default_rng(4)
    deq, X = rd.DEQ("relu"), rng.standard_normal((30, 20)) / 20**0.5
    Z = deq.to_torch(20, 4000, seed=0).requires_grad_(False)(torch.from_numpy(X).float())
    K, labels = rd.kernel(X, deq), torch.from_numpy(rng.integers(0, 3, 30))
    targets = {"mse": torch.nn.functional.one_hot(labels).float(), "cross-entropy": labels}
    for name, loss in (("mse", torch.nn.MSELoss()), ("cross-entropy", torch.nn.CrossEntropyLoss())):
        read_out = torch.nn.Linear(4000, 3, bias=False)
        # Of finite width: a tenth short of the limit.
        descent = torch.optim.SGD(read_out.parameters(), lr=1.8 * rd.learning_rate(K, name, outputs=3))
        losses = []
        for _ in range(60):
            descent.zero_grad()
            losses.append(loss(read_out(Z), targets[name]))
            losses[-1].backward()
            descent.step()
        values = np.array([each.item() for each in losses])
        assert (np.diff(values) <= 1e-6).all()
        assert values[-1] < 0.5 * values[0]


def test_the_learning_rate_is_that_of_any_spectrum():
    deq, mixture = rd.DEQ("relu"), example_mixture(120, 2)
    X, _ = mixture.sample(96, 0)
    rate = rd.learning_rate(rd.kernel(X, deq))
    for method in ("exact", "lanczos"):
        measured = rd.empirical_spectrum(X, deq, method=method, top=3)
        assert rd.learning_rate(measured) == pytest.approx(rate, rel=1e-9)
    predicted = rd.predict_spectrum(deq, mixture, 96, "ck", "classwise")
    assert rd.learning_rate(predicted) == pytest.approx(rate, rel=0.2)
    of_entropy = rd.learning_rate(predicted, "cross-entropy")
    assert of_entropy == pytest.approx(2 * 96 * rd.learning_rate(predicted), rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.zeros((2, 2)),), "no positive eigenvalue"),
        ((np.zeros((0, 0)),), "no positive eigenvalue"),
        ((np.ones((2, 3)),), "square"),
        (([[1.0, 2.0], [0.0, 1.0]],), "symmetric"),
        ((np.eye(2), "hinge"), "loss"),
    ],
)
def test_what_has_no_learning_rate_is_refused(arguments, says):
    with pytest.raises(rd.InvalidInputError, match=says):
        rd.learning_rate(*arguments)


def test_flow_is_the_limit_of_small_steps():
    K, y = kernel_of(), np.random.default_rng(1).standard_normal(12)
    flow = rd.predict_training(K, y, 1.0, method="flow")
    for parts, error in ((100, 2e-1), (10_000, 2e-3)):
        descent = rd.predict_training(K, y, 1.0 / parts)
        np.testing.assert_allclose(descent.loss([parts, 2 * parts]), flow.loss([1, 2]), rtol=error)
    assert float(flow.loss(0.5)) < float(flow.loss(0.25))


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    method=st.sampled_from(["descent", "flow"]),
)
def test_loss_falls_from_the_initial_one_towards_zero(values, seed, method):
    y = np.random.default_rng(seed).standard_normal(len(values))
    curve = rd.predict_training(np.diag(values), y, 1.0, method=method)
    losses = curve.loss(np.arange(40))
    assert losses[0] == pytest.approx(0.5 * y @ y)
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()
    assert (losses >= 0).all()


def test_a_spectrum_serves_as_well_as_its_kernel():
    X = np.random.default_rng(0).standard_normal((40, 60)) / np.sqrt(60)
    deq = rd.DEQ("tanh", 0.2, 0.8)
    y = np.random.default_rng(1).standard_normal(40)
    of_kernel = rd.predict_training(rd.kernel(X, deq, "ntk"), y, 0.1)
    of_spectrum = rd.predict_training(rd.empirical_spectrum(X, deq, "ntk"), y, 0.1)
    np.testing.assert_allclose(of_spectrum.loss(EPOCHS), of_kernel.loss(EPOCHS), rtol=1e-9)


LATE = np.append(0, np.unique(np.round(np.geomspace(1, 1e15, 200))))
DUPLICATES = {
    "exact": {},
    "single precision": {"dtype": "float32"},
    "tf32 products": {"dtype": "float32", "products": "tf32"},
    "lanczos": {"method": "lanczos", "top": 60},
    "slq": {"method": "slq", "top": 60, "dtype": "float32"},
    "kernel": None,
    "kernel in single precision": {"dtype": "float32"},
}


@pytest.mark.parametrize("method", ["descent", "flow"])
@pytest.mark.parametrize("name", DUPLICATES)
def test_no_loss_rises_whatever_rounding_leaves_of_a_spectrum(name, method):
    """Of samples that occur twice half of the eigenvalues are zero: what is of them is never learnt."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((30, 40)) / np.sqrt(40), 2, axis=0)
    y, deq = rng.standard_normal(60), rd.DEQ("erf", 0.2, 0.8)
    if name.startswith("kernel"):
        spectrum = rd.kernel(X, deq, "ntk").astype((DUPLICATES[name] or {}).get("dtype", float))
        top = float(np.linalg.eigvalsh(spectrum.astype(float))[-1])
    else:
        spectrum = rd.empirical_spectrum(X, deq, "ntk", **DUPLICATES[name])
        top = float(spectrum.eigenvalues[-1])
    pairs = y.reshape(-1, 2)
    never = 0.25 * float(((pairs[:, 0] - pairs[:, 1]) ** 2).sum())
    for share in (0.3, 1.0, 1.99, 2 - 1e-12):
        losses = rd.predict_training(spectrum, y, share / top, method=method).loss(LATE)
        assert (np.diff(losses) <= 0).all()
        assert losses[0] == pytest.approx(0.5 * y @ y, rel=1e-5)
        if share <= 1.99:
            assert losses[LATE.searchsorted(1e3)] == pytest.approx(never, rel=1e-3)


def test_negative_eigenvalues_are_zeros_up_to_rounding():
    vectors = np.eye(3)
    for low in (-1e-7, -9e-6):
        curve = rd.predict_training(np.diag([1.0, low, -low]), [1.0, 1.0, 1.0], 1.0)
        np.testing.assert_array_equal(curve.loss([0, 1, 10**12, 1e300]), [1.5, 1.0, 1.0, 1.0])
    spectrum = rd.EmpiricalSpectrum(np.array([-2e-3, 0.5, 1.0]), vectors, 3, "ntk", "exact")
    np.testing.assert_array_equal(rd.predict_training(spectrum, np.ones(3), 1.0).loss([0, 10**9]), [1.5, 0.5])
    for values in ([-0.5, 0.5, 1.0], [-1.0, -1.0, -1.0], [np.nan, 0.5, 1.0]):
        with pytest.raises(rd.InvalidInputError, match=r"negative eigenvalues|NaN"):
            rd.predict_training(rd.EmpiricalSpectrum(np.array(values), vectors, 3, "ntk", "exact"), np.ones(3), 1.0)


@pytest.mark.parametrize("method", ["descent", "flow"])
@pytest.mark.parametrize("share", [0.5, 1.0, 1.0 + 1e-9, 1.9, 2 - 1e-6, 2 - 1e-10])
@pytest.mark.parametrize("n", [160, 900])
def test_no_loss_of_a_predicted_spectrum_rises(n, share, method):
    """Nor later than there are epochs; of more samples than dimensions the CK's null space is never learnt."""
    prediction = rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), example_mixture(200, 2), n, "ck", "classwise")
    top = max(prediction.edges[-1][1], prediction.outliers.max(initial=0.0))
    curve = rd.predict_training(prediction, [-1.0, 1.0], share / top, method=method)
    losses = curve.loss(np.append(0, np.unique(np.round(np.geomspace(1, 1e18, 300)))))
    assert losses[0] == pytest.approx(n / 2, rel=1e-6)
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()


def test_a_step_at_its_limit_is_refused_and_one_below_is_not():
    top = 0.3
    with pytest.raises(rd.InvalidInputError, match="diverges"):
        rd.predict_training(np.diag([top, 0.1]), [1.0, 1.0], 2 / top)
    curve = rd.predict_training(np.diag([top, 0.1]), [1.0, 1.0], np.nextafter(2 / top, 0))
    assert (np.diff(curve.loss(LATE)) <= 0).all()
    assert float(curve.loss(10_000)) == pytest.approx(0.5)  # it turns over and over


def test_curves_that_are_none_are_refused():
    for nodes, weights in (([1.0], [-1.0]), ([-1.0], [1.0]), ([np.nan], [1.0]), ([1.0], [np.inf])):
        with pytest.raises(rd.InvalidInputError, match="finite and not negative"):
            rd.LossCurve(np.array(nodes), np.array(weights), 0.1, "flow")
    with pytest.raises(rd.InvalidInputError, match="overflows"):
        rd.predict_training(np.eye(2), [1e200, 1.0], 0.1)


def test_a_loss_of_zero_is_a_curve():
    curve = rd.predict_training(np.eye(2), [0.0, 0.0], 0.1)
    assert curve.epochs_to(0.1) == 0
    np.testing.assert_array_equal(curve.loss(LATE), 0.0)
    curve.plot()


def test_flow_ends_where_nothing_can_be_learnt():
    curve = rd.predict_training(np.diag([2.0, 0.0]), [1.0, 3.0], 1e30, method="flow")
    np.testing.assert_array_equal(curve.loss([0, 1, 1e300, np.finfo(float).max]), [5.0, 4.5, 4.5, 4.5])


def test_epochs_to_a_share_of_the_loss():
    curve = rd.predict_training(np.diag([1.0, 0.01]), [1.0, 1.0], 1.0)
    count = curve.epochs_to(0.1)
    start = float(curve.loss(0))
    assert float(curve.loss(count)) <= 0.1 * start < float(curve.loss(count - 1))
    assert curve.epochs_to(1.0) == 0
    with pytest.raises(rd.InvalidInputError, match="does not fall"):
        rd.predict_training(np.diag([1.0, 0.0]), [1.0, 1.0], 1.0).epochs_to(0.1)


# Of the random matrix that the prediction is about, the kernel of one sample is off by O(p^{-1/2}); four seeds.
@pytest.mark.parametrize("method", ["descent", "flow"])
@pytest.mark.parametrize(
    ("activation", "centered", "targets"),
    [("tanh", True, [-1.0, 1.0]), ("relu", True, [0.0, 1.0]), ("relu", False, [-1.0, 1.0])],
)
def test_the_predicted_spectrum_foretells_what_the_kernel_does(activation, centered, targets, method):
    deq, gmm, n = rd.DEQ(activation, 0.2, 0.8, centered=centered), example_mixture(600, 2), 480
    prediction = rd.predict_spectrum(deq, gmm, n, "ntk")
    top = max(prediction.edges[-1][1], prediction.outliers.max(initial=0.0))
    step = 0.7 / top
    predicted = rd.predict_training(prediction, targets, step, method=method)
    measured = []
    for seed in range(4):
        X, labels = gmm.sample(n, seed)
        K = rd.kernel(X, deq, "ntk", tau0_squared=gmm.mean_squared_norm)
        measured.append(rd.predict_training(K, np.array(targets)[labels], step, method=method))
    until = int(np.median([curve.epochs_to(0.01) for curve in measured]))
    epochs = np.unique(np.linspace(0, until, 20).astype(int))
    mean = np.mean([curve.loss(epochs) for curve in measured], axis=0)
    assert float(predicted.loss(0)) == pytest.approx(float(measured[0].loss(0)), rel=1e-9)
    np.testing.assert_allclose(predicted.loss(epochs), mean, rtol=0.15)
    assert predicted.epochs_to(0.1) == pytest.approx(np.mean([c.epochs_to(0.1) for c in measured]), rel=0.1, abs=1)


def test_the_class_resolvent_has_its_poles_at_the_outliers():
    deq, gmm, n = rd.DEQ("tanh", 0.2, 0.8), example_mixture(400, 2), 320
    prediction = rd.predict_spectrum(deq, gmm, n, "ck")
    for outlier, row in zip(prediction.outliers, prediction.alignments, strict=True):
        height = 1e-5 * outlier
        form = prediction.class_resolvent(outlier + 1j * height)
        # Near a pole (λ - z)^{-1} = i/height: the residue is the product of the eigenvector's components.
        np.testing.assert_allclose(np.diagonal(form).imag * height, row, rtol=1e-3, atol=1e-4)
    far = prediction.class_resolvent(np.array([1e7j]))
    np.testing.assert_allclose(-1e7j * far[0], np.eye(2), atol=1e-4)
    with pytest.raises(rd.InvalidInputError, match="upper half plane"):
        prediction.class_resolvent(1.0)


@pytest.mark.parametrize("share", [0.3, 1.0, 1.6, 1.95])
def test_steps_of_every_stable_length_have_the_curve_of_their_spectrum(share):
    # Against the quantiles of the bulk and, for the outliers, their alignments.
    gmm = rd.GaussianMixture(np.zeros((2, 300)), [1.0, 1.0])
    prediction = rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), gmm, 240, "ck")
    step = share / prediction.edges[-1][1]
    q = prediction.quantiles((np.arange(20000) + 0.5) / 20000)
    curve = rd.predict_training(prediction, [1.0, -1.0], step)
    for epochs in (0, 1, 2, 5, 20, 60, 200, 500):
        expected = 120 * np.mean((1 - step * q) ** (2 * epochs))
        assert float(curve.loss(epochs)) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_prediction_without_outliers_has_the_bulk_s_mass():
    # Equal classes cannot be told apart: every vector sees the bulk alone.
    p = 300
    gmm = rd.GaussianMixture(np.zeros((2, p)), [1.0, 1.0])
    prediction = rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), gmm, 240, "ck")
    curve = rd.predict_training(prediction, [1.0, -1.0], 1.0, method="flow")
    q = prediction.quantiles((np.arange(4000) + 0.5) / 4000)
    expected = [0.5 * 240 * np.mean(np.exp(-2 * t * q)) for t in (0.0, 0.5, 2.0)]
    np.testing.assert_allclose(curve.loss([0.0, 0.5, 2.0]), expected, rtol=0.02)


def test_targets_that_are_all_equal_and_several_classes():
    prediction = rd.predict_spectrum(rd.DEQ("relu", 0.2, 0.8, centered=False), example_mixture(300, 3), 240, "ntk")
    curve = rd.predict_training(prediction, [1.0, 1.0, 1.0], 0.5 / prediction.outliers[-1])
    assert float(curve.loss(0)) == pytest.approx(120.0)
    # The mean is the leading eigenvector of an uncentred kernel: it is learnt first.
    assert float(curve.loss(10)) < 0.02 * float(curve.loss(0))


BAD = {
    "shape of y": (lambda: rd.predict_training(np.eye(3), [1.0, 2.0], 0.1), "samples"),
    "not square": (lambda: rd.predict_training(np.ones((2, 3)), [1.0, 2.0], 0.1), "square"),
    "not symmetric": (lambda: rd.predict_training([[1.0, 2.0], [0.0, 1.0]], [1.0, 2.0], 0.1), "symmetric"),
    "negative": (lambda: rd.predict_training([[1.0, 0.0], [0.0, -1.0]], [1.0, 2.0], 0.1), "negative eigenvalues"),
    "NaN": (lambda: rd.predict_training([[np.nan]], [1.0], 0.1), "NaN"),
    "step": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 0.0), "step"),
    "diverges": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 2.0), "diverges"),
    "method": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 1.0, method="adam"), "method"),
    "initial": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 1.0, initial=[1.0]), "initial"),
    "half epochs": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 1.0).loss(0.5), "whole"),
    "negative epochs": (lambda: rd.predict_training(np.eye(2), [1.0, 2.0], 1.0).loss(-1), "from 0"),
    "targets of samples for a prediction": (
        lambda: rd.predict_training(
            rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), example_mixture(100, 2), 80), np.ones(80), 0.1
        ),
        "2 classes",
    ),
    "top only": (
        lambda: rd.predict_training(rd.empirical_spectrum(np.eye(4), rd.DEQ("tanh", 0.2, 0.8), top=2), np.ones(4), 0.1),
        "without top",
    ),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(make, match):
    with pytest.raises(rd.InvalidInputError, match=match):
        make()


def test_plots_are_labelled():
    ax = rd.predict_training(np.eye(2), [1.0, 2.0], 0.1).plot()
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "loss"
    assert ax.get_yscale() == "log"


def test_a_mixture_is_no_spectrum():
    with pytest.raises(rd.InvalidInputError, match="of a mixture it is predict_spectrum"):
        rd.predict_training(rd.GaussianMixture(np.zeros((1, 5)), [1.0]), np.ones(4), 1.0)
