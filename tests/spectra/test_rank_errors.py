"""Errors rank by rank, and of the effective degrees of freedom."""

import json

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.cli import main
from rmtdeq.output.figures import comparison_figure

DEQ = rd.DEQ("relu", 0.2, 0.8)


@pytest.fixture(scope="module")
def comparison():
    X, y = rd.load_dataset("digits")
    order = np.random.default_rng(0).permutation(len(X))
    measured, others = order[:300], order[300:]
    pred = rd.predict_spectrum(DEQ, rd.DataMoments.from_data(X[others], y[others]), 300)
    return rd.compare(rd.empirical_spectrum(X[measured], DEQ, tau0_squared=1.0), pred, y[measured])


def test_degrees_of_freedom_are_traces(comparison):
    found, n = comparison.rank_errors, 300
    values = comparison.empirical.eigenvalues
    for ridge, freedom, error in zip(found.ridges, found.freedom, found.freedom_errors, strict=True):
        K = np.diag(values)
        expected = np.trace(K @ np.linalg.inv(K + ridge * n * np.eye(n)))
        assert freedom == pytest.approx(expected, rel=1e-9)
        predicted = comparison.prediction.all_values
        assert error == pytest.approx(abs((predicted / (predicted + ridge * n)).sum() / expected - 1), abs=1e-9)


def test_samples_of_the_same_data_foretell_the_degrees_of_freedom(comparison):
    assert comparison.rank_errors.freedom_errors.max() < 0.05
    assert comparison.rank_errors.upper < 3 * comparison.prediction.expected_error.upper
    assert str(comparison.rank_errors) in comparison.details()


def test_a_perfect_prediction_has_no_error():
    values = np.geomspace(1e-3, 10, 50)
    found = rd.RankErrors.between(values, values)
    assert (found.upper, found.whole) == (0.0, 0.0)
    assert not found.freedom_errors.any()
    assert rd.RankErrors.between(np.append(-1.0, values[1:]), values).freedom_errors.max() < 0.1


def test_the_top_of_a_spectrum_has_none():
    X, y = rd.load_dataset("digits", n=200)
    pred = rd.predict_spectrum(DEQ, rd.DataMoments.from_data(X, y), 200)
    top = rd.empirical_spectrum(X, DEQ, method="lanczos", top=5, tau0_squared=1.0)
    assert rd.compare(top, pred).rank_errors is None
    (errors,) = (ax for ax in comparison_figure([rd.compare(top, pred)]).axes if ax.get_label() == "errors")
    assert errors.get_lines()[-1].get_xdata().tolist() == [1, 2, 3, 4, 5]


def test_largest_eigenvalues_without_a_gap_are_paired_by_rank_and_drawn_as_a_density(comparison):
    r = comparison.prediction.outliers.size
    assert comparison.prediction.gapless
    np.testing.assert_array_equal(comparison.matched, comparison.empirical.eigenvalues[-r:])
    ax = comparison.plot()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"predicted", "eigenvalues"}
    steps = next(patch for patch in ax.patches if hasattr(patch, "get_data")).get_data()
    assert (steps.values * np.diff(np.log10(steps.edges))).sum() == pytest.approx(1, abs=0.02)


def test_moments_of_the_measured_samples_are_noticed():
    X, y = rd.load_dataset("digits", n=200)
    pred = rd.predict_spectrum(DEQ, rd.DataMoments.from_data(X, y), 200, tau0_squared=1.0)
    same = rd.compare(rd.empirical_spectrum(X, DEQ, tau0_squared=1.0), pred, y)
    assert any("other samples" in warning for warning in same.warnings)
    assert "which is no test" in same.summary()
    with pytest.raises(rd.InvalidInputError, match="must name 10 classes"):
        same.summary(["a"])


def test_the_manifest_has_them(tmp_path):
    assert main(["compare", "--dataset", "digits", "--n", "60", "--kind", "ck", "--out", str(tmp_path / "d")]) == 0
    record = json.loads((tmp_path / "d.json").read_text())
    (found,) = (each for name, each in record["results"].items() if name == "ck, polynomial")
    assert len(found["degrees_of_freedom_errors"]) == len(found["ridges"]) == 6
    assert found["log_error"] >= 0
