"""Results as tables and data frames: the numbers of the results under names."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import rmtdeq as rd
from rmtdeq._lib.tables import Table, by_class
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


def test_representations_are_short_and_say_what_there_is(results, runs):
    prediction, comparison = results["prediction"], results["comparison"]
    every = [*results.values(), *runs.values(), prediction.bulk, prediction.isolated, prediction.model]
    for result in every:
        text = repr(result)
        assert text.startswith(f"{type(result).__name__}(")
        assert len(text) < 260
        assert "array" not in text
    for text in (repr(prediction), repr(comparison)):
        assert "ntk of DEQ(relu" in text
        assert "n=96" in text
        assert f"{len(prediction.outliers)} outliers" in text
    assert f"[{prediction.edges[0][0]:.4g}, {prediction.edges[0][1]:.4g}]" in repr(prediction)
    assert f"KS distance of the bulk {comparison.ks:.4f}" in repr(comparison)
    spectrum = results["spectrum"]
    assert f"all eigenvalues {spectrum.eigenvalues[0]:.4g} ... {spectrum.eigenvalues[-1]:.4g}" in repr(spectrum)
    assert f"distance={results['kernels'].distance:.3g}" in repr(results["kernels"])
    assert f"tau={results['solve'].tau:.6g}" in repr(results["solve"])


def test_a_spectrum_that_is_known_in_part_says_so():
    X = np.random.default_rng(0).standard_normal((600, 80)) / 80**0.5
    deq = rd.DEQ("relu", 0.2, 0.8)
    top = rd.empirical_spectrum(X, deq, method="lanczos", top=4, progress=False)
    assert "n=600, method='lanczos': the 4 largest eigenvalues" in repr(top)
    whole = rd.empirical_spectrum(X, deq, method="slq", top=4, steps=10, progress=False)
    assert "the others in distribution, 4 eigenvectors" in repr(whole)
    assert f"of {whole.rest.count} eigenvalues" in repr(whole.rest)


@pytest.mark.parametrize("ax", ["a.png", 3, np.empty(2, object)])
def test_what_is_no_axes_is_refused_with_how_a_picture_is_saved(results, runs, ax):
    for result in (*results.values(), *runs.values()):
        if hasattr(result, "plot"):
            with pytest.raises(rd.InvalidInputError, match=r"matplotlib Axes.*figure\.savefig\("):
                result.plot(ax)


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


def test_rounding_is_shown_as_zero_and_kept_in_frames():
    table = Table(
        {"share": [1.0, -3.1e-17, np.nan], "loss": [1.0, 1e-20, 0.0]}, [1, 2, 3], "row", scales={"share": 1.0}
    )
    np.testing.assert_array_equal(table.shown().columns["share"], [1.0, 0.0, np.nan])
    assert not np.signbit(table.shown().columns["share"][1])
    assert list(table.shown().columns["loss"]) == [1.0, 1e-20, 0.0]
    assert table.to_frame()["share"][2] == -3.1e-17
    coef = rd.solve(rd.DEQ("tanh", 0.2, 0.8), 1e-9)
    assert coef.alpha[1] != 0
    shown = coef.table().shown().columns
    np.testing.assert_array_equal(shown["pair"], 0.0)
    np.testing.assert_array_equal(shown["linear"], coef.to_frame()["linear"])
    assert "mean of the activation 0," in coef.table().notes[0]


def test_classes_are_named_in_columns_and_scales():
    table = Table(by_class(np.eye(11), "alignment") | {"size": np.ones(11)}, range(11), "row")
    table = replace(table, scales={"alignment with class 1": 1.0, "size": 2.0})
    named = table.with_classes(["shirt", "boot"])
    assert list(named.columns)[:3] == ["alignment with shirt", "alignment with boot", "alignment with class 2"]
    assert list(named.columns)[-2:] == ["alignment with class 10", "size"]
    assert named.scales == {"alignment with boot": 1.0, "size": 2.0}
    np.testing.assert_array_equal(named.columns["alignment with boot"], np.eye(11)[:, 1])
    assert table.with_classes([]).columns == table.columns


def test_alignments_of_nothing_have_no_sign(results):
    prediction = results["prediction"]
    noisy = replace(prediction.isolated, alignments=np.full_like(prediction.alignments, -3.1e-17))
    text = replace(prediction, isolated=noisy).summary()
    assert "0.000" in text
    assert "-0.000" not in text


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
    table, summary = comparison.table(), comparison.details()
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
