"""Results as tables and data frames: the numbers of the results under names."""

import numpy as np
import pandas as pd
import pytest

import rmtdeq as rd
from rmtdeq.curves import ClassificationRun, TrainingRun


@pytest.fixture(scope="module")
def results():
    """Return one result of each kind of spectrum and design."""
    deq = rd.DEQ("relu", 0.2, 0.8)
    gmm = rd.GaussianMixture(np.eye(2, 120) * 8, [1.0, 1.6])
    X, y = gmm.sample(96, seed=0)
    pred = rd.predict_spectrum(deq, gmm, n=96, kind="ntk")
    emp = rd.empirical_spectrum(X, deq, kind="ntk")
    net = rd.design(deq, gmm.mean_squared_norm, kind="both")
    return {
        "solve": rd.solve(deq, 1.0),
        "prediction": pred,
        "spectrum": emp,
        "comparison": rd.compare(emp, pred, y),
        "without labels": rd.compare(emp, pred),
        "network": net,
        "kernels": rd.compare_kernels(X, deq, net),
    }


@pytest.fixture(scope="module")
def runs():
    """Return the course of two trainings."""
    t = np.arange(6.0)
    training = TrainingRun(
        "DEQ", 10, 5, 0.1, t, 1 / (1 + t), None, t.astype(int), t.astype(int), np.array([0, 5]), t[:2] + 1, t[:2] + 2
    )
    classifier = ClassificationRun(
        "net", 7, 5, 1 / (1 + t), t / 10, t / 20, t + 1, ("0", "2"), np.outer(t, [1, 2]), np.outer(t, [3, 4])
    )
    return {"training": training, "classifier": classifier}


def test_frames_hold_the_tables(results, runs):
    for result in (results | runs).values():
        table, frame = result.table(), result.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == list(table.columns)
        assert frame.index.name == table.name
        assert table.title
        rows = table.rows()
        assert len(rows) == len(frame) > 0
        for row, (name, values) in zip(rows, frame.iterrows(), strict=True):
            assert row[0] == name
            np.testing.assert_array_equal(row[1:], values.tolist())


def test_outliers_stand_beside_what_was_measured(results):
    comparison, frame = results["comparison"], results["comparison"].to_frame()
    assert list(frame.index) == list(range(1, len(comparison.matched) + 1))
    np.testing.assert_array_equal(frame["predicted"], comparison.prediction.outliers)
    error = abs(frame["predicted"] - frame["measured"]) / frame["measured"]
    np.testing.assert_allclose(frame["relative error"], error)
    for a in range(2):
        np.testing.assert_array_equal(frame[f"measured alignment with class {a}"], comparison.alignments[:, a])
        np.testing.assert_array_equal(
            results["prediction"].to_frame()[f"alignment with class {a}"],
            frame[f"predicted alignment with class {a}"],
        )
    assert not any("measured alignment" in name for name in results["without labels"].to_frame())
    # The printed table begins and ends as this one does.
    table, summary = comparison.table(), comparison.summary()
    assert summary.startswith(table.title)
    assert all(note in summary for note in table.notes)


def test_eigenvalues_are_ranked_from_the_largest(results):
    frame = results["spectrum"].to_frame()
    assert frame["eigenvalue"].is_monotonic_decreasing
    assert frame.index[0] == 1
    kernels = results["kernels"].to_frame()
    assert all(kernels[name].is_monotonic_decreasing for name in kernels)
    assert kernels.loc[1, "DEQ"] == results["kernels"].deq[-1]


def test_coefficients_are_those_of_each_kernel(results):
    coef, frame = results["solve"], results["solve"].to_frame()
    np.testing.assert_array_equal(frame.loc["ck", ["linear", "norm", "pair"]], coef.alpha[:3])
    np.testing.assert_array_equal(frame.loc["ntk-full", "diagonal"], coef.kappa2_full)
    assert list(rd.solve(coef.deq, 1.0, "ck").to_frame().index) == ["ck"]
    net, designed = results["network"], results["network"].to_frame()
    for kind in ("ck", "ntk"):
        assert designed.loc[f"{kind}, pair", "DEQ"] == net.targets[kind].pair
        assert designed.loc[f"{kind}, pair", "network"] == net.coefficients(kind).pair
        assert designed.loc[f"{kind}, pair", "relative error"] == net.errors(kind)[2]


def test_courses_are_by_epoch(runs):
    training = runs["training"].to_frame()
    assert training.index.name == "epoch"
    np.testing.assert_array_equal(training["recurrent norm"].dropna(), runs["training"].recurrent_norm)
    assert list(training["recurrent norm"].dropna().index) == [0, 5]
    classifier = runs["classifier"].to_frame()
    assert list(classifier.index) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(classifier["iterations of 2"], runs["classifier"].iterations[:, 1])


def test_conditions_are_those_of_the_theorem():
    from rmtdeq.models import OverparameterizedDEQ

    X = rd.on_sphere(np.random.default_rng(0).standard_normal((6, 10)), norm=10**0.5)
    condition = rd.check_initial_condition(OverparameterizedDEQ(10, 50, 0.08, 0), X, np.arange(6.0))
    frame = condition.to_frame()
    assert bool(frame["holds"].all()) == condition.holds
    np.testing.assert_allclose(frame["ratio"], frame["left"] / frame["right"])
