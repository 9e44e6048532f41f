"""Learning curves foretold from samples, against the errors that more of them come to."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy.special import softmax

import rmtdeq as rd
from rmtdeq.learning import PowerLaw, inverse_temperature, ridge_fit

DEQ = rd.DEQ("relu")
N = 160


def mixture(n, seed):
    """Samples of three classes, and their labels, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    means = 1.2 * np.eye(3, 20)
    return (means[labels] + rng.standard_normal((n, 20))) / np.sqrt(20), labels


@pytest.fixture(scope="module")
def samples():
    return mixture(N, seed=0)


@pytest.fixture(scope="module")
def curve(samples):
    return rd.learning_curve(*samples, DEQ, "ck", sizes=(40, 80, N, 4 * N), ridge=0.1)


def test_at_n_it_is_leaving_out(samples, curve):
    X, labels = samples
    fit = ridge_fit(rd.kernel(X, DEQ, "ck"), np.eye(3)[labels], 0.1)
    assert curve.mse[2] == pytest.approx(fit.loo_error, rel=1e-9)
    values = np.eye(3)[labels] - fit.residuals
    told = softmax(inverse_temperature(values, labels, prior=0) * values, axis=1)
    wrong = np.mean(values.argmax(axis=1) != labels), 1 - told.max(axis=1).mean()
    assert wrong[0] != wrong[1]
    assert curve.error_rate[2] == pytest.approx(np.mean(wrong), rel=1e-9)


@pytest.mark.parametrize("kind", ["ck", "ntk"])
def test_it_is_the_error_on_new_samples(kind):
    X, labels = mixture(300, seed=1)
    Z, others = mixture(1000, seed=2)
    sizes = (75, 150, 300, 1200)
    found = rd.learning_curve(X, labels, DEQ, kind, sizes=sizes, ridge=0.1)
    for size, mse, wrong in zip(sizes, found.mse, found.error_rate, strict=True):
        values = []
        for seed in range(1 if size > 300 else 4):
            x, y = mixture(size, seed=10 + seed)
            fit = ridge_fit(rd.kernel(x, DEQ, kind, tau0_squared=1.0), np.eye(3)[y], 0.1)
            values.append(rd.kernel(Z, DEQ, kind, Y=x, tau0_squared=1.0) @ fit.coefficients + fit.intercept)
        truth = np.mean([np.square(value - np.eye(3)[others]).mean() for value in values])
        rate = np.mean([value.argmax(axis=1) != others for value in values])
        assert mse == pytest.approx(truth, rel=0.1)
        assert wrong == pytest.approx(rate, rel=0.2)


def test_beyond_n_it_follows_the_law_of_the_errors_before(samples):
    X, labels = samples
    ladder = np.round(N * 2 ** (-np.arange(7) / 2)).astype(int)
    found = rd.learning_curve(X, labels, DEQ, "ck", sizes=[*ladder, 4 * N, 10**9], ridge=0.1)
    law = PowerLaw.through(ladder, found.mse[:7, None])
    np.testing.assert_allclose(found.mse[7:], law.at([4 * N, 10**9])[:, 0])
    assert found.exponent == law.exponent[0]
    assert found.floor == pytest.approx(law.floor[0])
    assert found.mse[8] >= found.floor
    _, power, level = np.polyfit(np.log(ladder / N), np.log(found.error_rate[:7]), 2)
    np.testing.assert_allclose(found.error_rate[7:], np.exp(level) * np.array([4.0, 1e9 / N]) ** power, rtol=1e-9)


@pytest.mark.parametrize(("floor", "exponent"), [(0.0, 0.3), (0.2, 0.5), (1.0, 1.0), (0.0, 0.05)])
def test_laws_go_through_what_follows_one(floor, exponent):
    sizes = np.array([1000, 500, 250, 125])
    factors = np.array([0.5, 3.0])
    values = floor + factors * sizes[:, None] ** -exponent
    law = PowerLaw.through(sizes, values)
    np.testing.assert_allclose(law.exponent, exponent)
    np.testing.assert_allclose(law.floor, floor, atol=1e-9)
    np.testing.assert_allclose(law.factor, factors, rtol=1e-8)
    np.testing.assert_allclose(law.at([4000]), floor + factors[None] * 4000**-exponent)


def test_what_falls_ever_faster_is_followed_on_its_tangent():
    sizes = np.array([1000, 707, 500, 354, 250])
    t = np.log(sizes / 1000)
    values = np.exp(-1 - 0.4 * t - 0.1 * t**2)
    law = PowerLaw.through(sizes, np.column_stack([values, 3 * values]))
    np.testing.assert_allclose(law.exponent, 0.4)
    np.testing.assert_allclose(law.floor, 0)
    np.testing.assert_allclose(law.at([1000, 4000]), np.exp(-1) * np.array([1, 4**-0.4])[:, None] * [1, 3])
    beyond = PowerLaw.through(sizes, values[:, None], ahead=1.0)
    np.testing.assert_allclose(beyond.exponent, 0.4 + 0.2 * np.log(2))
    # A tangent touches where it is taken.
    np.testing.assert_allclose(beyond.at([2000])[:, 0], np.exp(-1 - 0.4 * np.log(2) - 0.1 * np.log(2) ** 2))


def test_laws_do_not_rise_nor_fall_below_zero():
    sizes = np.array([1000, 500, 250, 125])
    rising, steep = np.array([2.0, 1.5, 1.2, 1.0]), sizes**-1.5
    law = PowerLaw.through(sizes, np.column_stack([rising, steep]))
    assert law.factor[0] == 0
    assert rising.min() < law.floor[0] < rising.max()
    assert (law.floor[1], law.exponent[1]) == (0.0, pytest.approx(1.0))


def test_bands_hold_the_curve_and_widen_beyond_n(curve):
    assert (curve.low < curve.mse).all()
    assert (curve.mse < curve.high).all()
    widths = np.log(curve.high / curve.low)
    assert widths[3] > widths[2] + 2 * 0.1 * np.log(curve.mse[2] / curve.mse[3])
    assert (curve.wrong.low < curve.error_rate).all()
    assert (curve.error_rate < curve.wrong.high).all()


def test_noise_is_not_learnt():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((200, 10)) / np.sqrt(10), 3 * rng.standard_normal(200)
    found = rd.learning_curve(X, y, rd.DEQ("tanh"), ridge=1e3)
    assert found.sizes.tolist() == [50, 100, 200, 400, 800]
    assert found.error_rate is None
    np.testing.assert_allclose(found.mse, np.var(y), rtol=0.05)
    assert found.floor == pytest.approx(np.var(y), rel=0.05)


def test_seeds_make_it_again(samples, curve):
    again = rd.learning_curve(*samples, DEQ, "ck", sizes=(40, 80, N, 4 * N), ridge=0.1, seed=0)
    np.testing.assert_array_equal(again.mse, curve.mse)
    np.testing.assert_array_equal(again.high, curve.high)


def test_labels_are_classes_of_any_name_and_numbers_are_targets(samples, curve):
    X, labels = samples
    options = {"sizes": (40, 80, N, 4 * N), "ridge": 0.1}
    named = rd.learning_curve(X, np.array(["a", "b", "c"])[labels], DEQ, "ck", **options)
    np.testing.assert_array_equal(named.error_rate, curve.error_rate)
    indicators = rd.learning_curve(X, np.eye(3)[labels], DEQ, "ck", **options)
    np.testing.assert_array_equal(indicators.mse, curve.mse)
    assert indicators.wrong is None


def test_it_is_a_table_and_a_picture(curve):
    frame = curve.to_frame()
    assert frame.index.tolist() == [40, 80, N, 4 * N]
    assert frame["extrapolated"].tolist() == [False, False, False, True]
    assert frame["mse"].tolist() == curve.mse.tolist()
    assert "n=160" in repr(curve)
    for quantity in ("mse", "error_rate"):
        ax = curve.plot(quantity=quantity)
        assert isinstance(ax, Axes)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), getattr(curve, quantity))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"X": np.ones((10, 3)), "y": np.arange(10.0)}, "at least, not from 10"),
        ({"y": np.ones(N, int)}, "one class"),
        ({"y": np.ones(N)}, "nothing to learn"),
        ({"y": np.arange(5)}, "one label for each"),
        ({"y": np.full(N, np.nan)}, "y holds"),
        ({"y": np.ones((3, 2))}, "y must be of shape"),
        ({"sizes": (1, 5)}, "at least 2"),
        ({"sizes": ()}, "sizes is empty"),
        ({"sizes": 1000}, "as in"),
        ({"ridge": -1.0}, "ridge"),
        ({"kind": "nngp"}, "kind"),
        ({"kind": ("ck", "ntk")}, "kind"),
        ({"deq": "relu"}, "deq must be"),
    ],
)
def test_what_makes_no_sense_is_refused(samples, change, says):
    given = {"X": samples[0], "y": samples[1], "deq": DEQ} | change
    with pytest.raises(rd.InvalidInputError, match=says):
        rd.learning_curve(**given)


def test_what_does_not_fit_is_refused_before_it_is_computed(samples, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a kernel was computed")

    monkeypatch.setattr("rmtdeq.learning.curve.kernel", never)
    with pytest.raises(rd.MemoryLimitError, match="take fewer samples"):
        rd.learning_curve(*samples, DEQ, memory_limit=1000)


def test_an_error_rate_of_no_classes_is_not_drawn(samples):
    found = rd.learning_curve(samples[0], samples[0][:, :2], DEQ, sizes=(N,), ridge=1.0)
    with pytest.raises(rd.InvalidInputError, match="no error rate"):
        found.plot(quantity="error_rate")
