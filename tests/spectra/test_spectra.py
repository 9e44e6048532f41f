"""Measured spectra and comparisons: LAPACK = Lanczos, matching by rank, distances, labels."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.spectra import dense

mpl.use("Agg")


@pytest.fixture(scope="module")
def mixture():
    means = np.zeros((2, 300))
    means[0, 0] = means[1, 8] = 8
    return rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(300)])


@pytest.fixture(scope="module")
def data(mixture):
    return mixture.sample(240, seed=0)


DEQ = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)


@pytest.fixture(scope="module", params=["ck", "ntk"])
def pair(request, mixture, data):
    emp = rd.empirical_spectrum(data[0], DEQ, request.param)
    return emp, rd.predict_spectrum(DEQ, mixture, 240, request.param, "paper")


def test_eigenpairs_satisfy_their_equation(data, pair):
    emp, pred = pair
    G = rd.kernel(data[0], DEQ, pred.kind)
    assert np.allclose(G @ emp.vectors, emp.vectors * emp.eigenvalues, atol=1e-12)
    assert (np.diff(emp.eigenvalues) >= 0).all()
    assert emp.eigenvalues.sum() == pytest.approx(np.trace(G), rel=1e-12)


def test_lanczos_finds_the_top_of_the_exact_spectrum(data, pair):
    emp, pred = pair
    top = rd.empirical_spectrum(data[0], DEQ, pred.kind, method="lanczos", top=4)
    assert np.allclose(top.eigenvalues, emp.eigenvalues[-4:], rtol=1e-10)
    assert np.allclose(abs(np.sum(top.vectors[:, -2:] * emp.vectors[:, -2:], axis=0)), 1, atol=1e-8)


def test_top_limits_eigenvectors_not_eigenvalues(data):
    some = rd.empirical_spectrum(data[0], DEQ, "ck", top=3)
    assert some.eigenvalues.shape == (240,)
    assert some.vectors.shape == (240, 3)
    assert np.allclose(rd.kernel(data[0], DEQ) @ some.vectors, some.vectors * some.eigenvalues[-3:], atol=1e-12)


def test_smoothed_density_integrates_to_one(pair):
    emp, _ = pair
    x = np.linspace(emp.eigenvalues[0] - 2, emp.eigenvalues[-1] + 2, 20_001)
    assert np.trapezoid(emp.density(x), x) == pytest.approx(1, abs=1e-3)


def test_comparison_separates_outliers_from_the_bulk(pair, data):
    emp, pred = pair
    cmp = rd.compare(emp, pred, data[1])
    assert pred.outliers.size == 2
    # The two may come out in the other order, and are known by their directions.
    assert np.array_equal(np.sort(cmp.matched), emp.eigenvalues[-2:])
    assert cmp.bulk.size == 238
    assert cmp.ks < 0.06
    assert cmp.wasserstein < 0.06
    # The equivalent is off by 0.14 of the norm at p = 500, so by 0.18 at p = 300, and one draw adds noise to that.
    assert (cmp.outlier_errors < 0.3).all()
    # The two eigenvectors span the two class indicators, up to the noise of n = 240.
    assert cmp.alignments.sum() == pytest.approx(pred.alignments.sum(), abs=0.1)


def test_comparison_with_itself_is_exact(pair):
    emp, pred = pair
    n, r = pred.n, pred.outliers.size
    ideal = np.concatenate([pred.quantiles((np.arange(n - r) + 0.5) / (n - r)), pred.outliers])
    cmp = rd.compare(type(emp)(np.sort(ideal), emp.vectors, n, pred.kind, "exact"), pred)
    assert np.allclose(cmp.outlier_errors, 0)
    assert cmp.ks == pytest.approx(0.5 / (n - r), rel=1e-3)
    assert cmp.wasserstein < 3e-3


def test_partial_spectra_give_outliers_only(data, pair):
    emp, pred = pair
    top = rd.empirical_spectrum(data[0], DEQ, pred.kind, method="lanczos", top=3)
    cmp, whole = rd.compare(top, pred, data[1]), rd.compare(emp, pred, data[1])
    assert cmp.ks is None
    assert np.allclose(cmp.matched, whole.matched)
    assert np.allclose(cmp.alignments, whole.alignments, atol=1e-6)
    assert "not measured" in cmp.details()


def test_results_draw_themselves(pair, data):
    emp, pred = pair
    for result in (emp, pred, rd.compare(emp, pred, data[1])):
        ax = result.plot()
        assert ax.get_xlabel() == "eigenvalue"
        assert ax.get_ylabel().startswith("density")
        assert result.plot(ax) is ax
        ax.figure.clear()
    mpl.pyplot.close("all")


def test_summary_holds_the_numbers(pair, data):
    emp, pred = pair
    cmp = rd.compare(emp, pred, data[1])
    text = cmp.details()
    for value in (f"{cmp.ks:.4f}", *(f"{at:.4f}" for at in [*pred.outliers, *cmp.matched])):
        assert value in text


def test_the_largest_eigenvalues_are_shown_be_they_outliers_or_not(pair, data):
    emp, pred = pair
    line = next(line for line in rd.compare(emp, pred).details().splitlines() if "largest eigenvalues" in line)
    predicted, measured = (part.split()[-5:] for part in line.split("|"))
    assert measured == [f"{value:.4g}" for value in emp.eigenvalues[:-6:-1]]
    assert predicted == [f"{value:.4g}" for value in pred.all_values[:-6:-1]]


def test_a_distance_that_is_too_large_is_told(pair):
    emp, pred = pair
    scaled = replace(emp, eigenvalues=1.5 * emp.eigenvalues)
    assert rd.compare(scaled, pred).ks > 0.1
    assert "rely on large eigenvalues alone" in rd.compare(scaled, pred).details()
    assert "rely on" not in rd.compare(emp, pred).details()


def test_outliers_that_no_kernel_has_are_not_held_against_measured_ones(pair):
    emp, pred = pair
    positions = np.array([-0.3, *pred.outliers])
    isolated = replace(pred.isolated, positions=positions, alignments=np.vstack([[0.1, 0.1], pred.alignments]))
    found = rd.compare(emp, replace(pred, isolated=isolated), np.arange(emp.n) % 2)
    assert found.details().count("impossible") == 1
    measured = found.table().columns["measured alignment with class 1"]
    assert np.isnan(measured).tolist() == [True, False, False]
    assert np.isnan(found.table().columns["measured"]).tolist() == [True, False, False]
    marks = [line for line in found.plot().lines if line.get_label() == "measured outliers"]
    assert len(marks[0].get_xdata()) == 2


@pytest.mark.parametrize("method", ["exact", "lanczos", "slq"])
def test_a_wide_spectrum_is_drawn_over_a_logarithmic_axis_and_a_narrow_one_is_not(data, method):
    emp = rd.empirical_spectrum(data[0], DEQ, "ck", method=method, **({} if method == "exact" else {"top": 20}))
    ax = emp.plot()
    wide = emp.eigenvalues[-1] > 30 * max(emp.eigenvalues[0] if method != "slq" else emp.all_values[0], 1e-12)
    assert ax.get_xscale() == ("log" if wide else "linear")
    bars = ax.patches
    edges = [bars[0].get_x(), *(bar.get_x() + bar.get_width() for bar in bars)]
    unit = np.diff(np.log10(edges)) if wide else np.diff(edges)
    assert float(np.sum(unit * [bar.get_height() for bar in bars])) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda e, p, X, y: rd.compare(p, e), "EmpiricalSpectrum"),
        (lambda e, p, X, y: rd.compare(e, p, y[:-1]), "label"),
        (lambda e, p, X, y: rd.compare(rd.empirical_spectrum(X[:100], DEQ, p.kind), p), "n = 100"),
        (lambda e, p, X, y: rd.compare(rd.empirical_spectrum(X, DEQ, "ntk-full"), p), "ntk-full"),
        (lambda e, p, X, y: rd.empirical_spectrum(X, DEQ, method="svd"), "method"),
        (lambda e, p, X, y: rd.empirical_spectrum(X, DEQ, top=0), "top"),
        (lambda e, p, X, y: rd.empirical_spectrum(X, DEQ, top=500), "top"),
        (lambda e, p, X, y: e.density(0.0, bandwidth=-1), "bandwidth"),
    ],
)
def test_bad_input_is_refused(pair, data, call, says):
    with pytest.raises(rd.InvalidInputError, match=says):
        call(*pair, *data)


def test_large_matrices_have_an_estimate_of_their_time(monkeypatch):
    monkeypatch.setattr(dense, "_PART", 100)
    G = np.eye(400) + 1e-3
    kept = G.copy()
    clock = iter([1.0, 1.5])
    monkeypatch.setattr(dense, "perf_counter", lambda: next(clock))
    assert dense.expected_seconds(G) == pytest.approx(0.5 * 64)
    np.testing.assert_array_equal(G, kept)
    assert dense.expected_seconds(G[:199, :199]) is None


def test_memory_limit_names_the_way_out(data):
    with pytest.raises(rd.MemoryLimitError, match="lanczos"):
        rd.empirical_spectrum(data[0], DEQ, memory_limit=1000)
