"""Samples of a user's own files."""

from __future__ import annotations

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.data.problems import own_problem

N, P = 60, 12


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N)
    X = 5 + rng.standard_normal((N, P)) + y[:, None]
    places = {"X": X, "y": y + 1, "names": np.array(["ant", "bee", "cat"])[y], "X32": X.astype(np.float32)}
    places |= {"column": (y + 1.0)[:, None], "cubes": X.reshape(N, 3, 2, 2), "flags": y == 1}
    for name, array in places.items():
        np.save(tmp_path / f"{name}.npy", array)
    return {name: str(tmp_path / f"{name}.npy") for name in places}, X, y


def test_samples_are_centred_scaled_and_keep_their_labels(files):
    places, X, y = files
    problem = own_problem(places["X"], places["y"])
    assert (problem.n, problem.class_names, problem.name) == (N, ("1", "2", "3"), "X.npy")
    assert problem.tau0_squared == pytest.approx(1, abs=0.06)  # unbiased covariances are a little larger
    everything = rd.center_and_scale(X)
    rows = [int(np.abs(everything - x).sum(axis=1).argmin()) for x in problem.X]
    assert sorted(rows) == list(range(N))
    np.testing.assert_array_equal(problem.y, y[rows])
    mixture = rd.GaussianMixture.from_data(everything, y, "common", "auto")
    np.testing.assert_allclose(problem.mixture.means, mixture.means)


def test_labels_may_be_texts_columns_or_left_out(files):
    places, _, y = files
    numbered = own_problem(places["X"], places["y"])
    for name, classes in (("names", ("ant", "bee", "cat")), ("column", ("1", "2", "3"))):
        named = own_problem(places["X"], places[name])
        assert named.class_names == classes
        np.testing.assert_array_equal(named.y, numbered.y)
    assert own_problem(places["X"]).class_names == ("all",)
    assert own_problem(places["X"], places["flags"]).class_names == ("False", "True")
    assert own_problem(places["X"], places["flags"]).y.sum() == (y == 1).sum()


def test_arrays_of_images_are_flattened(files):
    places = files[0]
    np.testing.assert_array_equal(own_problem(places["cubes"]).X, own_problem(places["X"]).X)
    assert pytest.approx(own_problem(places["X"]).X, abs=1e-5) == own_problem(places["X32"]).X


def test_classes_are_those_asked_for_in_their_order(files):
    places, X, y = files
    problem = own_problem(places["X"], places["y"], classes=(3, 1), n=10)
    assert problem.class_names == ("3", "1")
    assert problem.n == len(problem.X) == len(problem.y) == 10
    everything = rd.center_and_scale(X[y != 1])
    for x, label in zip(problem.X, problem.y, strict=True):
        row = int(np.abs(everything - x).sum(axis=1).argmin())
        assert y[y != 1][row] == (2, 0)[label]


def test_classes_may_be_texts(files):
    places = files[0]
    problem = own_problem(places["X"], places["names"], classes=("cat", "ant"))
    assert problem.class_names == ("cat", "ant")
    np.testing.assert_array_equal(problem.X, own_problem(places["X"], places["y"], classes=(3, 1)).X)


def test_as_is_leaves_them_alone(files):
    places, X, _ = files
    problem = own_problem(places["X"], as_is=True)
    np.testing.assert_array_equal(np.sort(problem.X, axis=0), np.sort(X, axis=0))


def test_many_samples_are_drawn_from(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.standard_normal((4100, 3)))
    problem = own_problem(str(tmp_path / "X.npy"))
    assert problem.n == len(problem.X) == 4000
    other = own_problem(str(tmp_path / "X.npy"), n=100, seed=1)
    assert not np.array_equal(other.X, own_problem(str(tmp_path / "X.npy"), n=100, seed=2).X)
    np.testing.assert_array_equal(other.mixture.means, problem.mixture.means)


def _bad(tmp_path, name, array, **options):
    np.save(tmp_path / f"{name}.npy", array, **options)
    return str(tmp_path / f"{name}.npy")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f, t: own_problem(str(t / "none.npy")), "does not exist"),
        (lambda f, t: own_problem(f["X"], f["X"]), "one label for each of the 60"),
        (lambda f, t: own_problem(f["names"], f["X"]), r"are --data and --labels swapped\?"),
        (lambda f, t: own_problem(f["y"], f["X"]), r"are --data and --labels swapped\?"),
        (lambda f, t: own_problem(_bad(t, "turned", np.load(f["X"]).T), f["y"]), "is X transposed"),
        (lambda f, t: own_problem(f["X"], _bad(t, "short", np.zeros(5, int))), "one label for each"),
        (lambda f, t: own_problem(f["X"], _bad(t, "half", np.full(N, 0.5))), "whole numbers or texts"),
        (lambda f, t: own_problem(f["X"], _bad(t, "nan", np.full(N, np.nan))), "whole numbers or texts"),
        (lambda f, t: own_problem(f["X"], f["y"], classes=(1, 7)), "there is no 7"),
        (lambda f, t: own_problem(f["X"], f["y"], classes=(1, 1)), "named twice"),
        (lambda f, t: own_problem(f["X"], n=61), "more than the 60"),
        (lambda f, t: own_problem(f["X"], n=0), "n must be"),
        (lambda f, t: own_problem(f["y"]), "matrix"),
        (lambda f, t: own_problem(f["names"]), "real numbers"),
        (lambda f, t: own_problem(_bad(t, "holes", np.full((4, 4), np.nan))), "NaN"),
        (lambda f, t: own_problem(_bad(t, "objects", np.array([{}], dtype=object), allow_pickle=True)), "objects, not"),
        (lambda f, t: own_problem(f["X"], _bad(t, "alone", np.arange(N) // (N - 1))), "at least two"),
    ],
)
def test_other_files_are_refused(files, tmp_path, call, says):
    with pytest.raises(rd.RmtdeqError, match=says):
        call(files[0], tmp_path)


def test_files_of_other_kinds_are_refused(files, tmp_path):
    np.savez(tmp_path / "both.npz", X=np.eye(3))
    (tmp_path / "damaged.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:200])
    (tmp_path / "empty.npy").touch()
    with pytest.raises(rd.InvalidInputError, match="several arrays"):
        own_problem(str(tmp_path / "both.npz"))
    with pytest.raises(rd.InvalidInputError, match=r"damaged\.npy cannot be read.*write it again with numpy\.save"):
        own_problem(str(tmp_path / "damaged.npy"))
    with pytest.raises(rd.InvalidInputError, match=r"empty\.npy is no \.npy file; numpy\.save writes one\."):
        own_problem(str(tmp_path / "empty.npy"))


def test_a_table_of_text_comes_with_what_makes_it_an_array(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.arange(6.0).reshape(3, 2)
    for name, delimiter in (("a.csv", ","), ("b.tsv", "\t"), ("c.txt", " ")):
        np.savetxt(name, X, delimiter=delimiter)
        with pytest.raises(rd.InvalidInputError, match=rf"{name} is no \.npy file; .* makes one\.$") as refused:
            own_problem(name)
        exec(str(refused.value).split("; ")[1].removesuffix(" makes one."), {"numpy": np})
        np.testing.assert_array_equal(np.load(f"{name[0]}.npy"), X)


def test_files_of_python_objects_are_refused_without_a_word_of_how_to_run_them(files, tmp_path):
    with pytest.raises(rd.InvalidInputError, match="Python objects, not numbers") as refused:
        own_problem(files[0]["X"], _bad(tmp_path, "objects", np.array(["a"] * N, dtype=object), allow_pickle=True))
    assert "pickle" not in str(refused.value)
