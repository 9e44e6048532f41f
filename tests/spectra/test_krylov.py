"""Spectra from products with the kernel: against LAPACK, from checkpoints, with honest error bars."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.spectra import krylov

mpl.use("Agg")

DEQ = rd.DEQ("tanh", sigma_a2=0.2, sigma_b2=0.8)
N, TOP = 900, 6
STEPS = {"slq": 24, "lanczos": None}


@pytest.fixture(name="X", scope="module")
def _x():
    means = np.zeros((2, 400))
    means[0, 0] = means[1, 8] = 8
    return rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(400)]).sample(N, seed=0)[0]


@pytest.fixture(scope="module")
def exact(X):
    return rd.empirical_spectrum(X, DEQ, "ntk")


@pytest.fixture(scope="module")
def slq(X):
    return rd.empirical_spectrum(X, DEQ, "ntk", method="slq", top=TOP, steps=64)


def cdf_of(values, x):
    return np.searchsorted(np.sort(values), x, side="right") / values.size


@pytest.mark.parametrize("method", ["lanczos", "slq"])
@pytest.mark.parametrize("storage", ["dense", "memory-mapped", "matrix-free"])
@pytest.mark.parametrize("top", [1, 20])
def test_top_eigenpairs_are_exact(X, exact, method, storage, top):
    found = rd.empirical_spectrum(X, DEQ, "ntk", method=method, storage=storage, top=top, steps=STEPS[method])
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues[-top:], rtol=1e-11)
    overlap = found.vectors.T @ exact.vectors[:, -top:]
    np.testing.assert_allclose(abs(overlap), np.eye(top), atol=1e-6)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(top), atol=1e-11)


def test_single_precision_entries_move_eigenvalues_by_rounding_only(X, exact):
    found = rd.empirical_spectrum(X, DEQ, "ntk", method="lanczos", storage="float32", top=TOP)
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues[-TOP:], rtol=2e-6)


def test_distribution_is_that_of_all_eigenvalues(exact, slq):
    values = exact.eigenvalues[:-TOP]
    assert abs(slq.rest.cdf(values) - cdf_of(values, values)).max() < 0.02
    assert slq.all_values.shape == (N,)
    assert (np.diff(slq.all_values) >= 0).all()
    # Single eigenvalues may lie on the wrong side of the gap, by the distribution's error.
    assert np.median(abs(slq.all_values / exact.eigenvalues - 1)) < 0.01
    np.testing.assert_array_equal(slq.all_values[-TOP:], slq.eigenvalues)
    x = np.linspace(exact.eigenvalues[0], 1.2 * np.quantile(values, 0.99), 50)
    assert abs(slq.density(x, 0.1) - exact.density(x, 0.1)).max() < 0.03 * exact.density(x, 0.1).max()


def test_masses_are_within_their_error_bars(X):
    """Of 20 seeds and 8 bins, those farther off than three standard errors, with steps that resolve the bins.

    A bar rests on 8 probes: Student's t with 7 degrees of freedom is beyond 3 with probability 0.02, so more than 16 of
    160 with probability below 1e-6, were bins independent.
    """
    X = X[::3]
    exact = rd.empirical_spectrum(X, DEQ, "ntk")
    edges = np.concatenate([[0.0], np.quantile(exact.eigenvalues, np.arange(1, 8) / 8), [2 * exact.eigenvalues[-1]]])
    true = exact.masses(edges)[0]
    far = 0
    for seed in range(20):
        found = rd.empirical_spectrum(X, DEQ, "ntk", method="slq", top=2, steps=32, seed=seed)
        mass, error = found.masses(edges)
        assert mass.sum() == pytest.approx(1, abs=1e-12)
        assert (error >= 0).all()
        far += int((abs(mass - true) > 3 * error + 1 / len(X)).sum())
    assert far <= 16


def test_more_steps_are_nearer_and_say_so(X, exact):
    values = exact.eigenvalues[:-2]
    distance, error = [], []
    for steps in (6, 12, 48):
        rest = rd.empirical_spectrum(X, DEQ, "ntk", method="slq", top=2, steps=steps).rest
        distance.append(abs(rest.cdf(values) - cdf_of(values, values)).max())
        error.append(rest.cdf_error(values).max())
    assert distance[0] > distance[1] > distance[2]
    assert error[0] > error[1] > error[2]


def test_small_matrices_are_known_completely(X):
    few = rd.empirical_spectrum(X[:50], DEQ, "ck", method="slq", top=3)
    all_of_them = rd.empirical_spectrum(X[:50], DEQ, "ck")
    assert few.complete
    assert few.rest is None
    np.testing.assert_allclose(few.eigenvalues, all_of_them.eigenvalues, rtol=1e-11)
    assert few.vectors.shape == (50, 3)
    whole = rd.empirical_spectrum(X[:50], DEQ, "ck", method="lanczos", top=50)
    np.testing.assert_allclose(whole.eigenvalues, all_of_them.eigenvalues, rtol=1e-11)


def test_outliers_below_those_measured_are_left_out(X):
    means = np.zeros((2, 400))
    means[0, 0] = means[1, 8] = 8
    mixture = rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(400)])
    prediction = rd.predict_spectrum(DEQ, mixture, N, "ntk", "classwise")
    assert prediction.outliers.size > 2
    found = rd.empirical_spectrum(X, DEQ, "ntk", method="lanczos", top=2)
    comparison = rd.compare(found, prediction)
    np.testing.assert_array_equal(comparison.matched[-2:], found.eigenvalues)
    assert np.isnan(comparison.matched[:-2]).all()
    below = int((prediction.outliers < 0).sum())
    lines = comparison.details().splitlines()
    assert below == 2
    assert [line.split()[2] for line in lines if line.split()[0].isdigit()][:below] == ["impossible"] * below
    # Of the other outliers, and of the bulk.
    assert comparison.details().count("not measured") == prediction.outliers.size - 2 - below + 1
    comparison.plot()
    found.plot()
    with pytest.raises(rd.InvalidInputError, match="None of the predicted outliers"):
        rd.compare(found, lowest_only(prediction))


def lowest_only(prediction):
    """The prediction with its outliers below the bulk alone."""
    from dataclasses import replace

    keep = prediction.outliers < prediction.edges[0][0]
    assert keep.any()
    found = prediction.isolated
    return replace(
        prediction, isolated=replace(found, positions=found.positions[keep], alignments=found.alignments[keep])
    )


@pytest.mark.parametrize("copies", [1, 3])
def test_singular_matrices_have_a_density(X, copies):
    few = np.repeat(X[:copies], 100, axis=0)
    found = rd.empirical_spectrum(few, DEQ, "ck", method="slq", top=2, steps=8)
    exact = rd.empirical_spectrum(few, DEQ, "ck")
    np.testing.assert_allclose(found.eigenvalues[-1], exact.eigenvalues[-1], rtol=1e-10)
    mass, error = found.masses([-np.inf, 1e-3 * exact.eigenvalues[-1], np.inf])
    np.testing.assert_allclose(mass, [1 - copies / few.shape[0], copies / few.shape[0]], atol=3 * error.max() + 1e-9)


@pytest.mark.parametrize("top", [150, 300])
def test_many_eigenvalues_are_found_in_good_time(X, top, seconds):
    exact = rd.empirical_spectrum(X[:300], DEQ, "ntk").eigenvalues
    with seconds(20.0):
        for method in ("lanczos", "slq"):
            found = rd.empirical_spectrum(X[:300], DEQ, "ntk", method=method, top=top)
            np.testing.assert_allclose(found.eigenvalues[-top:], exact[-top:], rtol=1e-9)


@pytest.mark.parametrize("top", [3, 30])
def test_repeated_eigenvalues_are_found_as_often_as_asked(top):
    X = np.eye(40)
    found = rd.empirical_spectrum(X, DEQ, "ck", method="lanczos", top=top)
    np.testing.assert_allclose(found.eigenvalues, rd.empirical_spectrum(X, DEQ).eigenvalues[-top:], rtol=1e-11)


class Counted:
    """Counts products, and interrupts one."""

    def __init__(self, monkeypatch, stop=None):
        self.products, self.stop = 0, stop
        original = krylov.KrylovSubspace.next_step

        def next_step(subspace, apply):
            if self.products == self.stop:
                raise KeyboardInterrupt
            self.products += 1
            return original(subspace, apply)

        monkeypatch.setattr(krylov.KrylovSubspace, "next_step", next_step)


@pytest.mark.parametrize("method", ["lanczos", "slq"])
def test_interrupted_and_begun_again_is_as_if_never_interrupted(X, tmp_path, method):
    options = {"kind": "ntk", "method": method, "top": TOP, "steps": STEPS[method], "checkpoint": tmp_path}
    with pytest.MonkeyPatch.context() as patch:
        undisturbed = Counted(patch)
        expected = rd.empirical_spectrum(X, DEQ, **options | {"checkpoint": tmp_path / "other"})
    with pytest.MonkeyPatch.context() as patch:
        Counted(patch, stop=4)
        with pytest.raises(KeyboardInterrupt):
            rd.empirical_spectrum(X, DEQ, **options)
    assert len(list((tmp_path / method).glob("*.npz"))) == 4
    with pytest.MonkeyPatch.context() as patch:
        resumed = Counted(patch)
        found = rd.empirical_spectrum(X, DEQ, **options)
    assert resumed.products == undisturbed.products - 4
    np.testing.assert_array_equal(found.eigenvalues, expected.eigenvalues)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    if method == "slq":
        np.testing.assert_array_equal(found.all_values, expected.all_values)


def test_more_steps_go_on_from_those_that_are_there(X, tmp_path):
    options = {"kind": "ntk", "method": "slq", "checkpoint": tmp_path, "top": 2}
    rd.empirical_spectrum(X, DEQ, **options, steps=12)
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        more = rd.empirical_spectrum(X, DEQ, **options | {"top": 3}, steps=30)
    kept = len(list((tmp_path / "slq").glob("*.npz")))
    assert counted.products <= kept - 12
    afresh = rd.empirical_spectrum(X, DEQ, "ntk", method="slq", top=3, steps=30)
    np.testing.assert_allclose(more.all_values, afresh.all_values, rtol=1e-9)


@pytest.mark.parametrize(
    ("what", "method", "changed"),
    [("block", "slq", {"block": 4}), ("block", "slq", {"seed": 1}), ("top", "lanczos", {"top": 5})],
)
def test_a_checkpoint_of_something_else_is_refused(X, tmp_path, what, method, changed):
    options = {"method": method, "top": 4, "steps": STEPS[method], "checkpoint": tmp_path}
    rd.empirical_spectrum(X[:100], DEQ, **options)
    with pytest.raises(rd.InvalidInputError, match=what):
        rd.empirical_spectrum(X[:100], DEQ, **options | changed)
    with pytest.raises(rd.InvalidInputError, match="samples"):
        rd.empirical_spectrum(X[1:101], DEQ, **options)


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:-40]),
                                    lambda p: np.savez(p, column=np.zeros((2, 2)), block=np.zeros((2, 2))),
                                    lambda p: np.savez(p, other=np.zeros(3))])  # fmt: skip
def test_damaged_steps_are_named(X, tmp_path, damage):
    options = {"method": "slq", "top": 4, "steps": 12, "checkpoint": tmp_path}
    rd.empirical_spectrum(X[:200], DEQ, **options)
    damage(tmp_path / "slq" / "step-0002.npz")
    with pytest.raises(rd.InvalidInputError, match="step-0002"):
        rd.empirical_spectrum(X[:200], DEQ, **options)


def test_vectors_of_a_similar_matrix_are_a_good_start(X):
    near = rd.empirical_spectrum(X, rd.DEQ("tanh", 0.2001, 0.8), "ntk", method="lanczos", top=TOP)
    counts = []
    for start in (None, near):
        with pytest.MonkeyPatch.context() as patch:
            counted = Counted(patch)
            found = rd.empirical_spectrum(X, DEQ, "ntk", method="lanczos", top=TOP, start=start)
        counts.append(counted.products)
        np.testing.assert_allclose(
            found.eigenvalues, rd.empirical_spectrum(X, DEQ, "ntk", top=1).eigenvalues[-TOP:], rtol=1e-10
        )
    assert counts[1] < counts[0]


def test_slow_convergence_is_reported(X, monkeypatch):
    monkeypatch.setattr(krylov, "_MOST_STEPS", 2)
    with pytest.raises(rd.ConvergenceError, match="of the 20 largest"):
        rd.empirical_spectrum(X, DEQ, method="lanczos", top=20)


def test_comparison_and_figures_take_a_quadrature(X, slq, exact):
    means = np.zeros((2, 400))
    means[0, 0] = means[1, 8] = 8
    prediction = rd.predict_spectrum(DEQ, rd.GaussianMixture(means, [1.0, 1 + 8 / np.sqrt(400)]), N, "ntk")
    y = np.repeat([0, 1], N // 2)
    by_quadrature, by_lapack = rd.compare(slq, prediction, y), rd.compare(exact, prediction, y)
    # Of the predicted outliers two are above the bulk, the others within it.
    np.testing.assert_allclose(by_quadrature.matched[-2:], by_lapack.matched[-2:], rtol=1e-11)
    # Below zero is none, and below the largest no vector.
    within = ~(by_quadrature.matched >= slq.eigenvalues[0])
    np.testing.assert_array_equal(np.isnan(by_quadrature.alignments).any(axis=1), within)
    assert np.isnan(by_quadrature.matched).sum() == (prediction.outliers < 0).sum()
    assert by_quadrature.ks == pytest.approx(by_lapack.ks, abs=0.03)
    assert by_quadrature.wasserstein == pytest.approx(by_lapack.wasserstein, abs=0.02)
    assert 0 < by_quadrature.ks_error < 0.06
    assert "±" in by_quadrature.details()
    assert "±" not in by_lapack.details()
    assert by_quadrature.bulk.size == N - (prediction.outliers > 0).sum()
    assert by_quadrature.plot().containers
    assert slq.plot().containers


@pytest.mark.parametrize("edges", [[1.0], [2.0, 1.0], [0.0, np.nan, 1.0], [[0.0, 1.0]]])
def test_edges_that_do_not_ascend_are_refused(exact, edges):
    with pytest.raises(rd.InvalidInputError, match="ascending"):
        exact.masses(edges)


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("steps", {"method": "slq", "steps": 3}),
        ("block", {"method": "slq", "block": 0}),
        ("seed", {"method": "slq", "seed": -1}),
        ("method", {"method": "slq", "storage": "disk"}),
        ("checkpoint", {"checkpoint": "x"}),
        ("storage", {"storage": "dense"}),
        ("start", {"method": "lanczos", "start": 3}),
        ("checkpoint", {"method": "lanczos", "checkpoint": 3}),
        ("checkpoint", {"method": "lanczos", "checkpoint": ""}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(X, says, options, seconds):
    with seconds(1.0), pytest.raises(rd.InvalidInputError, match=says):
        rd.empirical_spectrum(X, DEQ, **options)
