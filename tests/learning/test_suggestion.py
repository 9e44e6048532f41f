"""Networks in order of their error on samples left out, against the regressions themselves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy.stats import norm, ttest_rel

import rmtdeq as rd
from rmtdeq.learning import ridge_fit, ridge_path

NETWORKS = [rd.DEQ("relu"), rd.DEQ("tanh", sigma_c2=0.3), rd.DEQ("sin", 0.0, 3.0)]


def mixture(n, seed, p=20):
    """Samples of three classes, and their labels, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    means = 1.2 * np.eye(3, p)
    return (means[labels] + rng.standard_normal((n, p))) / np.sqrt(p), labels


@pytest.fixture(scope="module")
def samples():
    return mixture(90, seed=0)


@pytest.fixture(scope="module")
def found(samples):
    return rd.suggest(*samples, networks=NETWORKS)


def fit_of(candidate, X, targets):
    K = rd.kernel(rd.center_and_scale(X), candidate.network, candidate.kind, tau0_squared=1.0)
    return ridge_fit(K, targets, candidate.ridge)


def test_errors_are_those_of_n_refits(samples, found):
    X, labels = samples
    targets = np.eye(3)[labels]
    best = found.candidates[0]
    K = rd.kernel(rd.center_and_scale(X), best.network, best.kind, tau0_squared=1.0)
    errors = []
    for i in range(len(X)):
        others = np.arange(len(X)) != i
        fit = ridge_fit(np.ascontiguousarray(K[np.ix_(others, others)]), targets[others], best.ridge)
        errors.append(np.square(K[i, others] @ fit.coefficients + fit.intercept - targets[i]).mean())
    assert best.mse == pytest.approx(np.mean(errors), rel=1e-9)


def test_every_ridge_is_the_best_of_its_path_and_the_order_that_of_errors(samples, found):
    X, labels = samples
    for each in found.candidates:
        K = rd.kernel(rd.center_and_scale(X), each.network, each.kind, tau0_squared=1.0)
        path = ridge_path(np.array(K), np.eye(3)[labels])
        best = min(map(path.fit, path.grid()), key=lambda fit: fit.loo_error)
        assert each.ridge == pytest.approx(best.ridge)
        assert each.mse == pytest.approx(best.loo_error)
    errors = [each.mse for each in found.candidates]
    assert errors == sorted(errors)
    # A layer without recurrence has two kernels that differ, the others three.
    assert len(errors) == 3 + 3 + 2


def test_the_test_is_a_paired_one(samples, found):
    X, labels = samples
    targets = np.eye(3)[labels]
    best, *others = (np.square(fit_of(each, X, targets).residuals).mean(axis=1) for each in found.candidates)
    assert found.candidates[0].p_value == 1.0
    for each, errors in zip(found.candidates[1:], others, strict=True):
        assert each.p_value == pytest.approx(norm.sf(ttest_rel(errors, best).statistic), rel=1e-6)
        assert each.as_good == (each.p_value >= 0.05)


def test_estimators_are_made_from_it(samples, found):
    X, labels = samples
    for rank, each in enumerate(found.candidates):
        model = rd.DEQClassifier(**found.parameters(rank)).fit(X, labels)
        assert model.loo_error_[0] == pytest.approx(each.mse, rel=1e-9)
        assert model.loo_error_rate_[0] == pytest.approx(each.error_rate, abs=1e-12)
    assert found.parameters()["deq"] is found.best
    assert (found.parameters()["kind"], found.parameters()["ridge"]) == (found.kind, found.ridge)


def test_it_knows_samples_by_their_inner_products(samples, found):
    X, labels = samples
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((150, 20)))
    turned = rd.suggest(X @ turn.T, labels, networks=NETWORKS)
    for one, other in zip(found.candidates, turned.candidates, strict=True):
        assert one.name == other.name
        assert one.mse == pytest.approx(other.mse, rel=1e-6)


def test_most_are_compared_on_fewer_samples_and_the_best_on_all():
    X, labels = mixture(810, seed=3, p=6)
    found = rd.suggest(X, labels, networks=[*NETWORKS, rd.DEQ("relu", 0.0, sigma_c2=1.0)], kinds=("ck", "ntk"))
    order = [each.samples for each in found.candidates]
    assert sorted(order) == [405] * 3 + [810] * 3
    final = [each for each in found.candidates if each.samples == 810]
    assert found.candidates[0] in final
    fit = fit_of(found.candidates[0], X, np.eye(3)[labels])
    assert found.candidates[0].mse == pytest.approx(fit.loo_error, rel=1e-9)
    # Those left behind are as far behind as they were on the samples that all were compared on.
    half = np.random.default_rng(0).permutation(810)[:405]
    scaled = rd.center_and_scale(X[half], reference=X)
    errors = {}
    for each in found.candidates:
        K = rd.kernel(scaled, each.network, each.kind, tau0_squared=np.square(scaled).sum(axis=1).mean())
        path = ridge_path(np.array(K), np.eye(3)[labels[half]])
        errors[each] = min(fit.loo_error for fit in path.fits(path.grid()))
    for each in found.candidates:
        if each not in final:
            assert each.mse / found.candidates[0].mse == pytest.approx(errors[each] / min(errors.values()), rel=1e-9)
            assert errors[each] >= max(errors[one] for one in final)
    behind = order.index(405)
    assert found.candidates[behind].error_rate is None
    assert found.parameters(behind)["ridge"] == "loo"


def test_on_some_of_the_samples_the_ridge_is_left_open(samples):
    found = rd.suggest(*samples, networks=NETWORKS[:1], most=60)
    assert found.n == 60
    assert found.parameters()["ridge"] == "loo"


def test_targets_that_are_numbers(samples):
    X, _ = samples
    y = X[:, 0] * X[:, 1] * 20
    found = rd.suggest(X, y, networks=NETWORKS, kinds="ck")
    assert found.candidates[0].error_rate is None
    assert found.candidates[0].mse < np.var(y)
    assert "error rate" not in found.table().columns
    model = rd.DEQRegressor(**found.parameters()).fit(X, y)
    assert model.loo_error_[0] == pytest.approx(found.candidates[0].mse, rel=1e-9)


def test_the_grid_is_every_combination(samples):
    found = rd.suggest(*samples, activations=["relu", "tanh"], sigma_a2=[0.1], sigma_b2=[0.5, 1.0], sigma_c2=[0.0])
    assert len({repr(each.network) for each in found.candidates}) == 4


def test_it_is_shown(found):
    assert isinstance(found.plot(), Axes)
    assert found.summary().startswith(found.candidates[0].name)
    table = found.table()
    assert len(table.rows()) == len(found.candidates)
    assert "not significantly worse" in found.summary()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"activations": "relu"}, "activations"),
        ({"sigma_a2": 0.2}, "sigma_a2"),
        ({"networks": []}, "no networks"),
        ({"networks": ["relu"]}, "Network"),
        ({"kinds": "nngp"}, "kind"),
        ({"most": 3}, "most"),
        ({"scale": "yes"}, "scale"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(samples, changed, said):
    with pytest.raises(rd.InvalidInputError, match=said):
        rd.suggest(*samples, **changed)


def test_too_few_samples_one_class_and_no_room_are_refused(samples):
    X, labels = samples
    with pytest.raises(rd.InvalidInputError, match="8 samples"):
        rd.suggest(X[:5], labels[:5])
    with pytest.raises(rd.InvalidInputError, match="one class"):
        rd.suggest(X, np.zeros(len(X), dtype=int))
    with pytest.raises(rd.MemoryLimitError, match="most"):
        rd.suggest(X, labels, memory_limit=1000)
    with pytest.raises(rd.InvalidInputError, match="candidates"):
        rd.suggest(X, labels, networks=NETWORKS[:1], kinds="ck").parameters(1)
