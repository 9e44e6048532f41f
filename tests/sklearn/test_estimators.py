"""Estimators that learn with the kernels: what scikit-learn asks of its own, and what leaving out promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import rmtdeq as rd

PARAMETERS = {
    "deq": rd.Network(["relu", rd.DEQ("tanh")]),
    "kind": "ntk-full",
    "ridge": [0.1, 1.0],
    "scale": False,
    "fit_intercept": False,
    "backend": "numpy",
    "dtype": "float32",
    "device": None,
    "memory_limit": 1e9,
    "solver": "direct",
    "checkpoint": None,
    "centres": None,
}

LEFT_OUT = {
    "check_sample_weight_equivalence_on_dense_data": "A copy stays where a sample is left out; all of a weight goes."
}


@pytest.fixture(scope="module")
def waves():
    """Samples on a sphere, 60 to learn from and 40 others, and two functions of them with noise."""
    rng = np.random.default_rng(0)
    X = rd.on_sphere(rng.standard_normal((100, 5)))
    y = np.column_stack([np.sin(3 * X[:, 0]) + 4, X[:, 1] * X[:, 2]]) + 0.05 * rng.standard_normal((100, 2))
    return X[:60], y[:60], X[60:], y[60:]


@pytest.fixture(scope="module")
def digits():
    """The bundled images of handwritten digits, 400 to learn from and 400 others."""
    X, y = rd.load_dataset("digits", n=800, seed=0)
    return X[::2], y[::2], X[1::2], y[1::2]


@pytest.mark.parametrize("kind", ["ck", "ntk", "ntk-full"])
def test_a_regression_is_that_of_the_kernel(waves, kind):
    X, y, Z, _ = waves
    mine = rd.DEQRegressor(rd.DEQ("relu"), kind, ridge=0.1, scale=False, fit_intercept=False).fit(X, y)
    theirs = KernelRidge(kernel=rd.DEQKernel("relu", kind=kind), alpha=0.1).fit(X, y)
    np.testing.assert_allclose(mine.predict(Z), theirs.predict(Z), atol=1e-9)
    np.testing.assert_allclose(mine.dual_coef_, theirs.dual_coef_, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("deq", "kind"), [("relu", "ck"), (rd.DEQ("tanh", 0.4), "ntk")])
def test_leaving_out_is_refitting_the_estimator(waves, deq, kind, weighted):
    X, y = waves[0][:12], waves[1][:12]
    w = np.random.default_rng(1).uniform(0.5, 2.0, 12) if weighted else None
    # All norms are one, so that a centred network is the same without one of the samples.
    mine = rd.DEQRegressor(deq, kind, ridge=[1e-3, 0.3], scale=False).fit(X, y, w)
    for ridge, error in zip(mine.ridges_, mine.loo_error_, strict=True):
        one = clone(mine).set_params(ridge=ridge)
        given = None if w is None else {"sample_weight": w}
        predicted = cross_val_predict(one, X, y, cv=LeaveOneOut(), params=given)
        assert error == pytest.approx(np.average(np.square(y - predicted), axis=0, weights=w).mean(), rel=1e-9)


def test_a_classifier_s_leaving_out_is_refitting_too(waves):
    X, y = waves[0][:30], np.where(waves[1][:30, 0] > 4, "high", "low")
    mine = rd.DEQClassifier(ridge=0.3, scale=False).fit(X, y)
    rate = np.mean(cross_val_predict(mine, X, y, cv=LeaveOneOut()) != y)
    assert 0.05 < rate < 0.5
    assert mine.loo_error_rate_ == [pytest.approx(rate)]


@pytest.mark.parametrize("ridge", ["loo", "gcv"])
def test_the_ridge_is_the_best_and_errors_are_those_of_new_samples(waves, ridge):
    X, y, Z, truth = waves
    mine = rd.DEQRegressor("relu", ridge=ridge).fit(X, y)
    errors = mine.loo_error_ if ridge == "loo" else mine.gcv_error_
    assert mine.ridge_ == mine.ridges_[errors.argmin()]
    assert np.mean((mine.predict(Z) - truth) ** 2) == pytest.approx(errors.min(), rel=0.5)
    assert mine.score(Z, truth) > 0.8
    single = rd.DEQRegressor("relu", ridge=mine.ridge_).fit(X, y)
    np.testing.assert_allclose(single.predict(Z), mine.predict(Z), atol=1e-8)
    np.testing.assert_allclose(single.loo_error_, mine.loo_error_[errors.argmin()], rtol=1e-8)


def test_targets_are_learnt_one_as_all(waves):
    X, y, Z, _ = waves
    both = rd.DEQRegressor(ridge=0.1).fit(X, y)
    for k in range(2):
        one = rd.DEQRegressor(ridge=0.1).fit(X, y[:, k])
        assert one.predict(Z).shape == (40,)
        assert isinstance(one.intercept_, float)
        np.testing.assert_allclose(one.predict(Z), both.predict(Z)[:, k], atol=1e-10)
    assert rd.DEQRegressor(ridge=0.1).fit(X, y[:, :1]).predict(Z).shape == (40, 1)


@pytest.mark.parametrize("deq", ["tanh", rd.DEQ("relu", centered=False)])
def test_units_of_the_samples_and_shifts_do_not_matter(waves, deq):
    X, y, Z, _ = waves
    mine = rd.DEQRegressor(deq, ridge=0.1).fit(X, y)
    other = rd.DEQRegressor(deq, ridge=0.1).fit(1e5 * X + 30, y - 100)
    np.testing.assert_allclose(other.predict(1e5 * Z + 30), mine.predict(Z) - 100, atol=1e-8)
    plain = rd.DEQRegressor(deq, ridge=0.1, scale=False).fit(rd.center_and_scale(X), y)
    np.testing.assert_allclose(plain.predict(rd.center_and_scale(Z, reference=X)), mine.predict(Z), atol=1e-9)


def test_samples_of_weight_zero_are_not_there_and_those_of_two_are_twice(waves):
    X, y, Z, _ = waves
    counts = np.arange(60) % 3
    mine = rd.DEQRegressor("tanh", ridge=0.1).fit(X, y, counts)
    again = rd.DEQRegressor("tanh", ridge=0.1).fit(X.repeat(counts, axis=0), y.repeat(counts, axis=0))
    assert len(mine.X_fit_) == 40
    np.testing.assert_allclose(mine.predict(Z), again.predict(Z), atol=1e-9)
    classes = rd.DEQClassifier(ridge=0.1).fit(X, counts, counts)
    assert classes.classes_.tolist() == [1, 2]


def test_digits_are_told_apart_and_the_error_rate_is_known_before(digits):
    X, y, Z, labels = digits
    mine = rd.DEQClassifier().fit(X, y)
    wrong = np.mean(mine.predict(Z) != labels)
    assert wrong < 0.05
    rate = mine.loo_error_rate_[mine.loo_error_.argmin()]
    assert rate == pytest.approx(wrong, abs=3 * np.sqrt(wrong / 400) + 0.01)


@pytest.mark.parametrize("classes", [2, 10])
def test_probabilities_are_calibrated(digits, classes):
    X, y, Z, labels = digits
    if classes == 2:
        y, labels = y % 2, labels % 2
    mine = rd.DEQClassifier(ridge=1.0).fit(X, y)
    P = mine.predict_proba(Z)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (mine.classes_[P.argmax(axis=1)] == mine.predict(Z)).all()
    values = mine.decision_function(Z)
    logits = np.column_stack([np.zeros(len(Z)), values]) if classes == 2 else values
    losses = [log_loss(labels, softmax(mine.inverse_temperature_ * s * logits, axis=1)) for s in (0.3, 1, 3)]
    assert log_loss(labels, P) == pytest.approx(losses[1])
    assert losses[1] < min(losses[0], losses[2])
    if classes == 2:
        assert ((values > 0) == (mine.predict(Z) == mine.classes_[1])).all()


@pytest.mark.parametrize("names", [np.array(list("zebra"))[:3], ["a", "bc", "def"], [True, False, True], [7, -3, 2]])
def test_labels_are_of_any_type(digits, names):
    X, y, Z, labels = digits
    (X, y), (Z, labels) = ((samples[of < 3], of[of < 3]) for samples, of in ((X, y), (Z, labels)))
    names = np.array(names, dtype=object) if isinstance(names[0], str) else np.array(names)
    mine = rd.DEQClassifier(ridge=0.1).fit(X, names[y])
    assert mine.classes_.tolist() == np.unique(names).tolist()
    assert np.mean(mine.predict(Z) == names[labels]) > 0.9


def test_tensors_are_arrays(waves):
    X, y, Z, _ = waves
    labels = (y[:, 0] > 4).astype(int)
    mine = rd.DEQClassifier(ridge=0.1).fit(torch.tensor(X, requires_grad=True), torch.tensor(labels))
    assert mine.classes_.dtype.kind == "i"
    assert (mine.predict(torch.tensor(Z)) == rd.DEQClassifier(ridge=0.1).fit(X, labels).predict(Z)).all()
    regression = rd.DEQRegressor(ridge=0.1).fit(torch.tensor(X), torch.tensor(y))
    np.testing.assert_array_equal(regression.predict(Z), rd.DEQRegressor(ridge=0.1).fit(X, y).predict(Z))


def test_they_are_copied_kept_and_searched(digits, waves):
    X, y, Z, labels = digits
    for estimator in (rd.DEQRegressor, rd.DEQClassifier):
        assert estimator(**PARAMETERS).get_params() == PARAMETERS
        assert clone(estimator(**PARAMETERS)).get_params() == PARAMETERS
    grid = {"deqclassifier__deq": [rd.DEQ("relu"), rd.DEQ("tanh", 0.5)], "deqclassifier__kind": ["ntk"]}
    pipeline = make_pipeline(StandardScaler(), rd.DEQClassifier(ridge=0.1))
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X[::2], y[::2])
    assert search.best_score_ > 0.85
    assert search.score(Z, labels) > 0.85
    for model in (search.best_estimator_, rd.DEQRegressor().fit(*waves[:2])):
        data = Z if model is search.best_estimator_ else waves[2]
        assert (pickle.loads(pickle.dumps(model)).predict(data) == model.predict(data)).all()


def test_predictions_in_blocks_are_those_in_one(waves, monkeypatch):
    X, y, Z, _ = waves
    mine = rd.DEQRegressor("tanh", ridge=0.1).fit(X, y)
    whole = mine.predict(Z)
    monkeypatch.setattr("rmtdeq.learning.regression._ENTRIES", 7 * 60)
    np.testing.assert_allclose(mine.predict(Z), whole, rtol=1e-11)
    np.testing.assert_allclose(mine.predict(Z[3:4]), whole[3:4], rtol=1e-11)


def test_engines_and_precisions_agree(waves):
    X, y, Z, _ = waves
    exact = rd.DEQRegressor("tanh", ridge=0.1).fit(X, y).predict(Z)
    for options in ({"backend": "numpy"}, {"backend": "torch", "device": "cpu"}):
        np.testing.assert_allclose(rd.DEQRegressor("tanh", ridge=0.1, **options).fit(X, y).predict(Z), exact, rtol=1e-9)
    for ridge in (0.1, "loo"):
        single = rd.DEQRegressor("tanh", ridge=ridge, dtype="float32").fit(X, y)
        same = rd.DEQRegressor("tanh", ridge=ridge).fit(np.float32(X), y)
        assert single.X_fit_.dtype == same.X_fit_.dtype == np.float32
        np.testing.assert_allclose(same.predict(np.float32(Z)), single.predict(Z), atol=1e-2)
    np.testing.assert_allclose(
        rd.DEQRegressor("tanh", ridge=0.1, dtype="float32").fit(X, y).predict(Z), exact, atol=1e-3
    )


@pytest.mark.parametrize(
    ("estimator", "unlike_copies"),
    [
        (rd.DEQRegressor(ridge=1.0), {}),
        pytest.param(rd.DEQRegressor(rd.DEQ("erf"), "ck"), LEFT_OUT, marks=pytest.mark.slow),
        (rd.DEQClassifier(), LEFT_OUT),
        pytest.param(rd.DEQClassifier(ridge=0.1, fit_intercept=False), LEFT_OUT, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_scikit_learn_accepts_them_as_its_own(estimator, unlike_copies):
    results = check_estimator(estimator, on_skip=None, expected_failed_checks=unlike_copies)
    assert len(results) > 50
    # That check wants SCIPY_ARRAY_API in the environment before anything is imported.
    done = [each for each in results if each["check_name"] not in {"check_array_api_input", *unlike_copies}]
    assert {each["status"] for each in done} == {"passed"}


@pytest.mark.parametrize(
    ("estimator", "change", "error", "says"),
    [
        (rd.DEQRegressor(ridge=0.0), {"X": np.eye(5).repeat(2, axis=0)}, rd.IllPosedError, "take a ridge of"),
        (
            rd.DEQRegressor(ridge=0.0, centres=10),
            {"X": np.eye(5).repeat(2, axis=0)},
            rd.IllPosedError,
            "take a ridge of",
        ),
        (rd.DEQRegressor(ridge=-1.0), {}, rd.InvalidInputError, "ridge must be >= 0"),
        (rd.DEQRegressor(ridge="cv"), {}, rd.InvalidInputError, "'loo', 'gcv'"),
        (rd.DEQRegressor(), {"y": np.full(10, np.nan)}, rd.InvalidInputError, "leave these samples out"),
        (rd.DEQRegressor(), {"X": np.ones((10, 2))}, rd.InvalidInputError, "all the same"),
        (rd.DEQRegressor(), {"sample_weight": np.eye(10)[0]}, rd.InvalidInputError, "two samples"),
        (rd.DEQRegressor(rd.DEQ("relu", 2.5)), {}, rd.IllPosedError, "lower sigma_a2"),
        (
            rd.DEQRegressor(memory_limit=3e6, solver="direct"),
            {"X": np.eye(500), "y": np.ones(500)},
            rd.MemoryLimitError,
            "float32",
        ),
        (rd.DEQRegressor(solver="iterative", centres=3), {}, rd.InvalidInputError, "solver='nystrom'"),
        (rd.DEQRegressor(centres=0), {}, rd.InvalidInputError, "centres"),
        (rd.DEQRegressor(centres=3, checkpoint="nowhere"), {}, rd.InvalidInputError, "two passes"),
        (rd.DEQClassifier(), {"y": np.ones(10)}, rd.InvalidInputError, "one class"),
        (rd.DEQClassifier(), {"y": np.linspace(0, 1, 10)}, rd.InvalidInputError, "continuous"),
    ],
)
def test_errors_say_what_to_do(estimator, change, error, says):
    given = {"X": np.random.default_rng(0).standard_normal((10, 3)), "y": np.arange(10) % 2} | change
    with pytest.raises(error, match=says):
        estimator.fit(**given)


def test_nothing_is_computed_for_what_does_not_fit(monkeypatch):
    def never(*_, **__):
        raise AssertionError("a kernel was computed")

    monkeypatch.setattr("rmtdeq.learning.regression.kernel", never)
    X, y = np.random.default_rng(0).standard_normal((1000, 3)), np.ones(1000)
    with pytest.raises(rd.MemoryLimitError, match="one ridge instead of several"):
        rd.DEQRegressor(memory_limit=15e6, solver="direct").fit(X, y)
    for ridge in (0.1, "loo"):
        with pytest.raises(rd.MemoryLimitError, match="learn from fewer samples"):
            rd.DEQRegressor(ridge=ridge, memory_limit=1e6, dtype="float32", solver="direct").fit(X, y)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_conjugate_gradients_predict_what_the_decomposition_does(tmp_path, backend):
    """With the kernel and solutions in a folder, from which the next fit goes on; or the kernel as a tensor."""
    X, y = rd.load_dataset("digits", n=500, seed=0)
    given = {"ridge": [1.0, 0.1, 0.01], "deq": "relu"}
    direct = rd.DEQClassifier(**given, solver="direct").fit(X[::2], y[::2])
    folder = tmp_path / "fit"
    for _ in range(2):
        iterative = rd.DEQClassifier(**given, solver="iterative", checkpoint=folder, backend=backend)
        iterative.fit(X[::2], y[::2])
        assert iterative.ridge_ == direct.ridge_
        np.testing.assert_allclose(iterative.decision_function(X), direct.decision_function(X), atol=1e-4)
    assert len(list((folder / "ridges").glob("ridge-*.npz"))) == 3
    with pytest.raises(rd.InvalidInputError, match="holds another"):
        rd.DEQClassifier(**given, solver="iterative", checkpoint=folder).fit(X[::2], 9 - y[::2])


def test_a_folder_is_for_conjugate_gradients(tmp_path):
    X, y = rd.load_dataset("digits", n=50, seed=0)
    with pytest.raises(rd.InvalidInputError, match="solver='iterative'"):
        rd.DEQClassifier(checkpoint=tmp_path / "fit").fit(X, y)
    with pytest.raises(rd.InvalidInputError, match="solver must be one of"):
        rd.DEQClassifier(solver="qr").fit(X, y)


def test_on_the_span_of_all_samples_nothing_is_lost(digits):
    X, y, Z, _ = digits
    whole = rd.DEQClassifier().fit(X, y)
    found = rd.DEQClassifier(centres=len(X), ridge=whole.ridges_).fit(X, y)
    kept = whole.ridges_ > 1e-4
    np.testing.assert_allclose(found.loo_error_[kept], whole.loo_error_[kept], rtol=1e-6)
    np.testing.assert_array_equal(found.loo_error_rate_[kept], whole.loo_error_rate_[kept])
    assert found.ridge_ == whole.ridge_
    np.testing.assert_allclose(found.predict_proba(Z), whole.predict_proba(Z), atol=1e-6)


def test_samples_that_are_too_many_are_learnt_on_some_of_them(caplog, tmp_path):
    rng = np.random.default_rng(0)
    mapped = np.lib.format.open_memmap(tmp_path / "samples.npy", "w+", float, (3500, 4))
    mapped[:] = rng.standard_normal(mapped.shape)
    y = np.sin(2 * mapped[:, 0]) + 0.1 * rng.standard_normal(len(mapped))
    given = {"deq": "tanh", "ridge": 1e-3}
    model = rd.DEQRegressor(**given, memory_limit=45e6).fit(mapped, y)
    assert caplog.text.count("solver='nystrom'") == 1
    assert model.X_fit_.shape == (1000, 4)
    whole = rd.DEQRegressor(**given).fit(mapped, y)
    Z = rng.standard_normal((100, 4))
    assert np.std(model.predict(Z) - whole.predict(Z)) < 0.02
    np.testing.assert_allclose(model.loo_error_, whole.loo_error_, rtol=0.02)
