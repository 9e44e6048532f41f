"""What figures of spectra say besides curves: verdicts, what leaves the axes, what is below zero."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import rmtdeq as rd
from rmtdeq.output.figures import (
    comparison_figure,
    diagnosis_figure,
    draw_alignments,
    draw_ranks,
    prediction_figure,
)

DEQ = rd.DEQ("tanh", 0.2, 0.8)


def compared(dataset, n, level="classwise"):
    """The comparison of a bundled data set's CK."""
    X, y = rd.load_dataset(dataset, n=n, seed=0)
    gmm = rd.GaussianMixture.from_data(*rd.load_dataset(dataset), "common")
    return rd.compare(rd.empirical_spectrum(X, DEQ), rd.predict_spectrum(DEQ, gmm, n, level=level), y)


@pytest.fixture(scope="module")
def ten():
    return compared("digits", 200)


@pytest.fixture(scope="module")
def two():
    return [compared("fashion-sample", 200, level) for level in ("classwise", "paper")]


def texts(figure):
    """All that is written in a figure and its parts."""
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_ranks_come_first_and_every_level_has_its_verdict(two):
    figure = comparison_figure(two, "sandal against sneaker")
    assert [ax.get_label() for ax in figure.axes] == ["ranks", "spectrum", "alignments", "errors"]
    assert figure.axes[-1].get_xlabel().startswith("rank")
    for each in two:
        assert f"{each.prediction.level}: {each.verdict.text}" in texts(figure)


def test_what_is_below_zero_is_named(ten):
    figure = comparison_figure([ten])
    assert ten.prediction.below_zero
    assert f"classwise, not drawn, below zero:\n{ten.prediction.below_zero}" in figure.axes[1].get_xlabel()
    below = int((ten.prediction.all_values <= 0).sum())
    assert f"{below} predicted not above zero" in figure.axes[0].get_xlabel()


def test_a_density_that_leaves_the_axes_is_marked_with_its_height(two):
    ax = two[0].plot(others=[two[1].prediction])
    top = ax.get_ylim()[1]
    steps = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    peaks = [patch.get_data().values.max() for patch in steps]
    assert max(peaks) > top
    marks = {text.get_text() for text in ax.texts}
    assert marks == {f"{peak:.2g}" for peak in peaks if peak > top}


def test_nothing_is_behind_the_legend(two, ten):
    for comparison in (*two, ten):
        ax = comparison.plot()
        ax.figure.draw_without_rendering()
        box = ax.get_legend().get_window_extent()
        bars = [bar for bar in ax.patches if hasattr(bar, "get_width") and bar.get_height() > 0]
        assert len(bars) > 10
        assert not any(box.overlaps(bar.get_window_extent()) for bar in bars)
        heights, edges, _ = next(patch for patch in ax.patches if hasattr(patch, "get_data")).get_data()
        inside = [box.contains(*ax.transData.transform(at)) for at in zip(edges[1:], heights, strict=True)]
        assert not any(inside)


def test_leading_eigenvectors_are_drawn_whether_outliers_or_not(two, ten):
    ax = mpl.figure.Figure().subplots()
    draw_alignments(two[0], ax, ["sandal", "sneaker"])
    heights = np.array([[bar.get_height() for bar in bars] for bars in ax.containers])
    np.testing.assert_allclose(heights.T, two[0].leading[:6])
    assert two[0].prediction.outliers.size < 6
    # Of ten classes a map, with circles where something is predicted.
    ax = mpl.figure.Figure().subplots()
    draw_alignments(ten, ax, list("abcdefghij"))
    np.testing.assert_array_equal(ax.images[0].get_array(), ten.leading.T)
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcdefghij")
    places = {round(x) for x, _ in ax.collections[0].get_offsets()}
    assert places <= set(range(10))
    assert places <= {199 - place for place in ten.places if place >= 0}


def test_without_labels_predicted_outliers_are_drawn(two, ten):
    for comparison in (two[0], ten):
        bare = rd.compare(comparison.empirical, comparison.prediction)
        ax = mpl.figure.Figure().subplots()
        draw_alignments(bare, ax)
        assert ax.get_xlabel() == "predicted outlier: number, eigenvalue"
        none = replace(comparison.prediction.isolated, positions=np.empty(0), alignments=np.empty((0, 2)))
        ax = mpl.figure.Figure().subplots()
        draw_alignments(rd.compare(comparison.empirical, replace(comparison.prediction, isolated=none)), ax)
        assert "no outliers predicted" in ax.texts[0].get_text()


def test_ranks_of_every_level_are_drawn(two):
    ax = mpl.figure.Figure().subplots()
    draw_ranks(two[0], ax, [two[1].prediction])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "measured",
        "paper level",
        "predicted (classwise)",
    ]


def test_a_prediction_s_figure_marks_what_leaves_it(two):
    figure = prediction_figure([each.prediction for each in two])
    top = figure.axes[0].get_ylim()[1]
    other = figure.axes[0].patches[1].get_data().values.max()
    assert (f"{other:.2g}" in texts(figure)) == (other > top)


def test_a_figure_is_laid_out_where_no_outlier_is_among_the_leading_eigenvectors():
    X, y = rd.load_dataset("fashion-sample", n=120)
    deq = rd.DEQ("relu")
    prediction = rd.predict_spectrum(deq, rd.GaussianMixture.from_data(X, y, "common"), 120, level="classwise")
    none = type(prediction.isolated)(np.empty(0), np.empty((0, 2)))
    figure = comparison_figure([rd.compare(rd.empirical_spectrum(X, deq), replace(prediction, isolated=none), y)])
    figure.draw_without_rendering()  # which warns, an error here, where the layout does not come out
    assert all(line.get_xdata().size for line in figure.axes[2].get_lines())


def test_one_comparison_is_drawn_and_saved_as_several_are(two, tmp_path):
    assert len(rd.comparison_figure(two[0]).axes) == len(rd.comparison_figure(two[:1]).axes)
    path = rd.save_comparisons(tmp_path / "two", two, ["sandal", "sneaker"])
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["classes"].tolist() == ["sandal", "sneaker"]
        np.testing.assert_array_equal(arrays["ck/classwise/eigenvalues"], two[0].prediction.all_values)
    with np.load(rd.save_comparisons(tmp_path / "one.npz", two[0])) as arrays:
        assert arrays["classes"].tolist() == ["class 0", "class 1"]
    with pytest.raises(rd.InvalidInputError, match=r"\.npz"):
        rd.save_comparisons(tmp_path / "one.csv", two)
    with pytest.raises(rd.InvalidInputError, match="at least one comparison"):
        rd.save_comparisons(tmp_path / "none.npz", [])


def test_a_diagnosis_is_drawn_with_what_was_measured():
    foretold = rd.diagnose(DEQ, [0.5, 1.0, 2.0])
    module = DEQ.to_torch(20, 60, seed=0).double()
    measured = rd.diagnose(module, np.random.default_rng(0).standard_normal((3, 20)) / np.sqrt(20))
    figure = diagnosis_figure([foretold, measured], "a model")
    left, middle, right = figure.axes
    assert len(left.get_lines()) == 9
    np.testing.assert_array_equal(middle.get_lines()[2].get_ydata(), foretold.iterations(1e-6))
    np.testing.assert_array_equal(middle.get_lines()[5].get_ydata(), measured.iterations(1e-6))
    np.testing.assert_array_equal(right.get_lines()[3].get_ydata(), measured.smallest_singular_value)
    assert middle.get_ylim()[1] >= measured.iterations(1e-6).max()
    diverging = rd.diagnose(rd.DEQ("tanh", 6.0, 0.8), 1.0)
    assert "does not come to rest" in texts(diagnosis_figure([diverging]))
