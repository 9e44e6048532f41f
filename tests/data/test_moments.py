"""What is remembered of data."""

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.data import moments as module
from rmtdeq.data.moments import KEPT
from rmtdeq.data.problems import Problem


def cloud(n=300, p=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) / np.sqrt(p) + 0.2 * rng.standard_normal(p)
    return X, rng.integers(3, size=n)


def test_moments_are_those_of_all_samples_and_kept_ones_are_among_them_once():
    X, y = cloud()
    found = rd.DataMoments.from_data(X, y, kept=100)
    np.testing.assert_allclose(found.mean, X.mean(axis=0), rtol=1e-12)
    assert found.mean_squared_norm == pytest.approx((X * X).sum(axis=1).mean(), rel=1e-12)
    assert found.class_sizes.tolist() == np.bincount(y).tolist()
    rows = [int(np.flatnonzero((X.astype(np.float32) == each).all(axis=1))[0]) for each in found.samples]
    assert len(set(rows)) == 100
    assert found.labels.tolist() == y[rows].tolist()


def test_the_choice_does_not_depend_on_blocks(monkeypatch, tmp_path):
    X, y = cloud()
    whole = rd.DataMoments.from_data(X, y, kept=50, seed=3)
    monkeypatch.setattr(module, "_BLOCK", 8 * 12 * 7)
    np.save(tmp_path / "X.npy", X)
    parts = rd.DataMoments.from_data(np.load(tmp_path / "X.npy", mmap_mode="r"), y, kept=50, seed=3)
    np.testing.assert_array_equal(whole.samples, parts.samples)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    assert whole.mean_squared_norm == pytest.approx(parts.mean_squared_norm, rel=1e-14)


def test_dask_arrays_are_read_in_blocks(monkeypatch):
    import dask.array as da

    X, y = cloud()
    monkeypatch.setattr(module, "_BLOCK", 8 * 12 * 64)
    found = rd.DataMoments.from_data(da.from_array(X, chunks=(50, 12)), y, kept=50)
    np.testing.assert_array_equal(found.samples, rd.DataMoments.from_data(X, y, kept=50).samples)


def test_what_is_saved_is_loaded(tmp_path):
    found = rd.DataMoments.from_data(*cloud(), kept=40)
    again = rd.DataMoments.load(found.save(tmp_path / "moments"))
    assert repr(again) == repr(found)
    assert again.summary() == found.summary()
    np.testing.assert_array_equal(again.samples, found.samples)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(rd.InvalidInputError, match=r"DataMoments\.save"):
        rd.DataMoments.load(tmp_path / "other.npz")
    with pytest.raises(rd.InvalidInputError, match=r"DataMoments\.save"):
        rd.DataMoments.load(tmp_path / "text.npz")
    with pytest.raises(rd.DataNotFoundError, match="no file"):
        rd.DataMoments.load(tmp_path / "absent.npz")


def test_the_effective_dimension_is_the_covariances():
    p = 40
    variances = 1 / np.arange(1, p + 1)
    # 1500 samples know it to about 2 %: 0.1 is five deviations.
    moments = rd.DataMoments.from_mixture(rd.GaussianMixture(np.zeros((1, p)), [variances]), kept=1500, seed=0)
    assert moments.effective_dimension == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.zeros((3, 2))}, "four samples"),
        ({"X": np.zeros(5)}, "one row a sample"),
        ({"X": np.full((9, 2), np.nan)}, "NaN"),
        ({"X": np.ones((9, 2)), "y": [0, 1]}, "one label"),
        ({"X": np.ones((9, 2)), "kept": 2}, "at least 4"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(rd.InvalidInputError, match=message):
        rd.DataMoments.from_data(**arguments)


@pytest.mark.parametrize(("measured", "kept"), [(4, KEPT), (4 * KEPT, KEPT), (4 * KEPT + 1, 2 * KEPT)])
def test_where_many_samples_are_measured_more_of_the_others_are_kept(measured, kept):
    everything, labels = np.random.default_rng(0).standard_normal((7 * KEPT, 2)), np.zeros(7 * KEPT, dtype=int)
    problem = Problem(
        "two features", everything[:measured], labels[:measured], None, measured, 2.0, ("all",), (everything, labels)
    )
    assert len(problem.moments().samples) == kept
