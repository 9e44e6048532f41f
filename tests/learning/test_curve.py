"""Learning curves foretold from samples, against the errors that more of them come to."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy.optimize import brentq
from scipy.special import softmax

import rmtdeq as rd
from rmtdeq.learning import FreedomLaw, degrees_of_freedom, inverse_temperature, ridge_fit

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


def test_degrees_of_freedom_are_traces_where_they_are_measured(samples, curve):
    K = rd.kernel(samples[0], DEQ, "ck")
    values = np.linalg.eigvalsh(K)
    assert curve.degrees[2] == pytest.approx((values / (values + 0.1)).sum(), rel=1e-9)
    assert (np.diff(curve.degrees) > 0).all()
    X, _ = mixture(4 * N, seed=5)
    more = np.linalg.eigvalsh(rd.kernel(X, DEQ, "ck", tau0_squared=1.0))
    assert curve.degrees[3] == pytest.approx((more / (more + 0.1)).sum(), rel=0.03)


POPULATION = np.arange(1, 30_001) ** -1.5
POPULATION /= POPULATION.sum()


def closed_form(size, ridge, squares):
    """Error and degrees of freedom where samples are alike, of coefficients with such squares on the eigenvectors."""

    def learning(level):
        return POPULATION / (POPULATION + np.exp(level))

    learnt = learning(brentq(lambda level: learning(level).sum() + ridge * np.exp(-level) - size, -30, 10))
    return ((1 - learnt) ** 2 * squares).sum() * size / (size - (learnt**2).sum()), learnt.sum()


@pytest.mark.parametrize("decay", [1.5, 2.0])
def test_where_samples_are_alike_it_is_the_closed_form(monkeypatch, decay):
    n, targets = 250, 40
    rng = np.random.default_rng(7)
    squares = np.arange(1, len(POPULATION) + 1) ** -decay
    X = rng.standard_normal((n, len(POPULATION)))
    y = X @ (np.sqrt(squares)[:, None] * rng.standard_normal((len(POPULATION), targets)))
    monkeypatch.setattr("rmtdeq.learning.curve.kernel", lambda *_, **__: (X * POPULATION) @ X.T)
    for ridge in (1e-4, 1e-2, 1.0):
        found = rd.learning_curve(X, y, DEQ, sizes=(n, 2 * n, 4 * n), ridge=ridge)
        foretold = np.array([closed_form(size, ridge, squares) for size in found.sizes])
        np.testing.assert_allclose(found.degrees, foretold[:, 1], rtol=0.01)
        np.testing.assert_allclose(found.mse, foretold[:, 0], rtol=0.05)


@pytest.mark.parametrize("power", [-0.3, 0.0, -1.5])
@pytest.mark.parametrize("sign", [1, -1])
def test_laws_go_through_what_follows_one(power, sign):
    sizes = np.repeat([1000.0, 500.0, 250.0], 30)
    degrees = np.tile(np.geomspace(0.001, 0.99, 30), 3) * sizes

    def values(degrees, sizes):
        share = degrees / sizes
        noise = np.exp(0.3 * share + 0.2 * share**2 + 0.1 * share**3 + 2 / sizes)
        return (degrees**power * noise**sign)[:, None] * [1.0, 3.0]

    law = FreedomLaw.through(degrees, sizes, values(degrees, sizes), 700.0, sign=sign)
    # As a power of the degrees of freedom also where none were measured.
    new = np.array([30.0, 5000.0, 90_000.0]), np.array([300, 20_000, 100_000])
    np.testing.assert_allclose(law.at(*new), values(*new), rtol=1e-6)


def test_laws_neither_rise_with_directions_nor_gain_by_noise():
    sizes = np.repeat([400.0, 200.0, 100.0], 25)
    degrees = np.tile(np.geomspace(0.005, 0.99, 25), 3) * sizes
    rising = degrees**0.2 * np.exp(-degrees / sizes)
    law = FreedomLaw.through(degrees, sizes, np.column_stack([rising, 2 * rising]), 280.0)
    at_knots = law.at(np.exp(law.knots), np.full(len(law.knots), 1e9))[:, 0]
    assert (np.diff(at_knots) <= 1e-6).all()
    assert (np.diff(law.at(np.full(40, 50.0), np.geomspace(60, 1e5, 40)), axis=0) <= 1e-9).all()
    np.testing.assert_allclose(law.coefficients[0, 1] - law.coefficients[0, 0], np.log(2))


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0])
def test_the_law_of_effective_ridges_tells_degrees_of_freedom(ridge):
    kappa = np.geomspace(1e-5, 0.5, 60)
    degrees = (POPULATION / (POPULATION + kappa[:, None])).sum(axis=1)
    sizes = np.repeat([2000.0, 1800.0, 1600.0], 60)
    law = FreedomLaw.through(np.tile(degrees, 3), sizes, np.tile(kappa, 3)[:, None], 1000.0)
    assert degrees_of_freedom(law, 800, ridge) == pytest.approx(closed_form(800, ridge, 1.0)[1], rel=0.01)
    assert degrees_of_freedom(law, 800, 0.0) == 800


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
