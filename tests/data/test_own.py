"""Samples of a user's own files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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
    problem = own_problem(places["X"], scaling="none")
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
        (lambda f, t: own_problem(f["X"], _bad(t, "nan", np.full(N, np.nan))), "lacks 60 of the 60 labels"),
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
    np.savez(tmp_path / "both.npz", a=np.eye(3), b=np.eye(3))
    (tmp_path / "damaged.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:200])
    (tmp_path / "empty.npy").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "latin.csv").write_bytes("a,b\nä,1\n".encode("latin-1"))
    (tmp_path / "no.parquet").write_text("text")
    for name, says in {
        "both.npz": "several arrays, 'a', 'b'; call the samples X",
        "damaged.npy": r"damaged\.npy cannot be read.*write it again with numpy\.save",
        "empty.npy": r"empty\.npy holds no arrays of numpy: samples are read from \.npy, .*\.csv",
        "empty.csv": "is empty",
        "latin.csv": "no text in UTF-8",
        "no.parquet": "cannot be read as a .parquet file",
        "none.csv": "does not exist",
        "": "is a folder",
    }.items():
        with pytest.raises(rd.RmtdeqError, match=says):
            own_problem(str(tmp_path / name))


def test_files_of_python_objects_are_refused_without_a_word_of_how_to_run_them(files, tmp_path):
    with pytest.raises(rd.InvalidInputError, match="Python objects, not numbers") as refused:
        own_problem(files[0]["X"], _bad(tmp_path, "objects", np.array(["a"] * N, dtype=object), allow_pickle=True))
    assert "pickle" not in str(refused.value)


TEXTS = {
    "with a header": "length,width,kind\n1.5,2,ant\n2.5,3,bee\n0.5,5,ant\n",
    "without": "1.5,2,ant\n2.5,3,bee\n0.5,5,ant\n",
    "quoted": '"length, cm","width","kind"\r\n"1.5","2","ant"\r\n"2.5","3","bee"\r\n"0.5","5","ant"\r\n',
    "with semicolons and decimal commas": "length;width;kind\n1,5;2;ant\n2,5;3;bee\n0,5;5;ant\n",
    "with tabs": "length\twidth\tkind\n1.5\t2\tant\n2.5\t3\tbee\n0.5\t5\tant\n",
    "with blanks": "1.5   2 ant\n 2.5 3  bee\n0.5 5 ant",
    "with an index": ",length,width,kind\n0,1.5,2,ant\n1,2.5,3,bee\n2,0.5,5,ant\n",
    "with a byte order mark": "\ufefflength,width,kind\n1.5,2,ant\n\n2.5,3,bee\n0.5,5,ant\n",
}


@pytest.mark.filterwarnings("ignore:Columns of")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_is_read_however_it_is_written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    table = rd.load_table(path, label_column=-1)
    np.testing.assert_array_equal(table.X, [[1.5, 2], [2.5, 3], [0.5, 5]])
    assert table.y.tolist() == [0, 1, 0]
    assert table.class_names == ("ant", "bee")
    if "length" in text:
        assert table.feature_names[0].startswith("length")


@given(
    X=arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(2, 5)), elements=st.floats(-1e6, 1e6), unique=True),
    header=st.booleans(),
    delimiter=st.sampled_from(",;\t|"),
    texts=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_what_is_written_as_text_is_read_again(tmp_path_factory, X, header, delimiter, texts):
    path = tmp_path_factory.mktemp("text") / "t.csv"
    labels = ["even", "odd"] if texts else ["0", "1"]
    rows = [[*map(repr, map(float, x)), labels[i % 2]] for i, x in enumerate(X)]
    names = [[*(f"f{j}" for j in range(X.shape[1])), "label"]] if header else []
    path.write_text("\n".join(delimiter.join(row) for row in names + rows))
    table = rd.load_table(path, label_column="label" if header else X.shape[1])
    np.testing.assert_array_equal(table.X, X)
    assert table.class_names == tuple(labels)
    np.testing.assert_array_equal(table.y, np.arange(len(X)) % 2)


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    values = {f"f{j}": rng.standard_normal(N) for j in range(4)}
    values |= {"smokes": rng.random(N) < 0.5, "count": rng.integers(0, 9, N), "always": np.ones(N)}
    return pd.DataFrame(
        {**values, "never": np.full(N, np.nan), "kind": np.array(["ant", "bee"])[rng.integers(0, 2, N)]}
    )


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet", "nullable", "categories"])
def test_a_frame_and_its_files_are_the_same_table(frame, tmp_path, kind):
    source = frame
    if kind in ("csv", "parquet"):
        source = tmp_path / f"t.{kind}"
        getattr(frame, f"to_{kind}")(source)
    elif kind == "nullable":
        source = frame.convert_dtypes()
    elif kind == "categories":
        source = frame.astype({"kind": "category"})
    with pytest.warns(UserWarning, match=r"left out: 'never' \(empty\); 'always' \(constant\)"):
        table = rd.load_table(source, label_column="kind")
    assert table.feature_names == ("f0", "f1", "f2", "f3", "smokes", "count")
    np.testing.assert_allclose(table.X, frame[list(table.feature_names)].to_numpy(dtype=float), rtol=1e-15)
    assert [table.class_names[a] for a in table.y] == frame["kind"].tolist()
    assert repr(table).endswith(f"n={N}, p=6, 2 classes)")


def test_missing_values_are_named_by_their_columns_or_left_out_with_their_samples(frame, tmp_path):
    frame = frame.drop(columns=["always", "never"])
    frame.loc[[3, 7], "f1"] = np.nan
    frame.loc[5, "f3"] = np.nan
    frame["smokes"] = frame["smokes"].astype(object)
    frame.loc[9, "smokes"] = None
    frame.to_csv(tmp_path / "t.csv", index=False, na_rep="N/A")
    for source in (frame, tmp_path / "t.csv"):
        with pytest.raises(
            rd.InvalidInputError, match=r"'f1' \(2 of 60\), 'f3' \(1 of 60\), 'smokes' \(1 of 60\); .*--drop"
        ):
            rd.load_table(source, label_column="kind")
        with pytest.warns(UserWarning, match=f"^4 of the {N} samples"):
            table = rd.load_table(source, label_column="kind", drop_missing=True)
        kept = np.delete(np.arange(N), [3, 5, 7, 9])
        np.testing.assert_allclose(table.X, frame.loc[kept, list(table.feature_names)].to_numpy(dtype=float))
        fewer = rd.load_table(source, label_column="kind", drop=["f1", "f3", "smokes"])
        assert fewer.feature_names == ("f0", "f2", "count")
        assert len(fewer.X) == N
    frame.loc[11, "kind"] = None
    with pytest.raises(
        rd.InvalidInputError, match=r"Column 'kind' of table lacks 1 of the 60 labels; .*--drop-missing"
    ):
        rd.load_table(frame, label_column="kind")
    with pytest.warns(UserWarning, match=f"^5 of the {N} samples of table lack a value and were left out"):
        assert len(rd.load_table(frame, label_column="kind", drop_missing=True).X) == N - 5


def test_what_a_table_cannot_be_is_said_by_column(frame, tmp_path):
    frame = frame.drop(columns=["always", "never"])
    with pytest.raises(rd.InvalidInputError, match=r"such as ant, bee in 'kind': .*--label-column"):
        rd.load_table(frame)
    with pytest.raises(
        rd.InvalidInputError, match=r"no column 'kin' for the labels; did you mean 'kind'|did you mean 'kind'"
    ):
        rd.load_table(frame, label_column="kin")
    with pytest.raises(rd.InvalidInputError, match="no column 'f9' for drop"):
        rd.load_table(frame, label_column="kind", drop=["f9"])
    with pytest.raises(rd.InvalidInputError, match="labels, whole numbers or texts, not float64"):
        rd.load_table(frame.drop(columns="kind"), label_column="f0")
    with pytest.raises(rd.InvalidInputError, match="give labels or label_column"):
        rd.load_table(frame, "y.npy", label_column="kind")
    with pytest.raises(rd.InvalidInputError, match="a file or a pandas frame, not list"):
        rd.load_table([[1.0, 2.0]])
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,x\n3\n")
    with pytest.raises(rd.InvalidInputError, match=r"Row 4 of .* has 1 cells, and the first row 2"):
        rd.load_table(tmp_path / "ragged.csv")
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(rd.InvalidInputError, match="column, and has 7: 'f0', 'f1', 'f2', 'f3' and 3 more"):
        rd.load_table(tmp_path / "t.csv", tmp_path / "t.csv")
    table = rd.load_table(frame.drop(columns="kind"))
    assert table.class_names == ("all",)


def test_labels_come_beside_samples_or_from_a_file_of_text(files, tmp_path):
    places, X, y = files
    np.savez(tmp_path / "both.npz", X=X, y=y, other=X)
    np.savez(tmp_path / "sklearn.npz", data=X, target=y)
    (tmp_path / "y.csv").write_text("kind\n" + "\n".join(map(str, y)))
    (tmp_path / "names.txt").write_text("\n".join(np.array(["yes", "no", "maybe"])[y]))
    expected = own_problem(places["X"], places["y"])
    for files_ in ((tmp_path / "both.npz",), (tmp_path / "sklearn.npz",), (places["X"], tmp_path / "y.csv")):
        problem = own_problem(*files_)
        assert problem.class_names == ("0", "1", "2")
        np.testing.assert_array_equal(problem.X, expected.X)
        np.testing.assert_array_equal(problem.y, expected.y)
    assert own_problem(places["X"], tmp_path / "names.txt").class_names == ("maybe", "no", "yes")


def test_features_that_hold_the_variance_are_named_with_the_remedy():
    X = np.random.default_rng(0).standard_normal((50, 12)) * np.append(np.ones(11), 30.0)
    frame = pd.DataFrame(X, columns=[*(f"f{j}" for j in range(11)), "area"])
    with pytest.warns(UserWarning, match=r"'area' holds 98% of the variance of the 12 features.*--standardize"):
        own_problem(frame)
    problem = own_problem(frame, scaling="each")
    np.testing.assert_allclose(problem.X.var(axis=0), 1 / 12)


def test_moments_are_those_of_the_samples_that_are_not_measured(files):
    places, _, y = files
    problem = own_problem(places["X"], places["y"], n=20)
    moments = problem.moments()
    assert moments.count == 40
    measured = {x.tobytes() for x in problem.X.astype(np.float32)}
    assert not any(x.tobytes() in measured for x in moments.samples)
    both = np.bincount(problem.y, minlength=3) + moments.class_sizes
    np.testing.assert_array_equal(both, np.bincount(y))
    assert own_problem(places["X"], spared=0.5).n == 30
    with pytest.raises(rd.InvalidInputError, match="of 60 only 5 are left"):
        own_problem(places["X"], n=55).moments()


def test_a_table_is_split_at_random_into_what_is_measured_and_the_others():
    frame = pd.DataFrame({"a": np.arange(10.0), "b": np.arange(10.0) ** 2, "kind": ["x", "y"] * 5})
    table = rd.load_table(frame, label_column="kind")
    first, others = table.split(4, seed=1)
    assert (len(first.X), len(others.X)) == (4, 6)
    together = np.concatenate([first.X, others.X])
    assert not np.array_equal(together, table.X)
    np.testing.assert_array_equal(together[np.argsort(together[:, 0])], table.X)
    for part in (first, others):
        np.testing.assert_array_equal(part.y, part.X[:, 0] % 2)
        assert part.class_names == table.class_names
    np.testing.assert_array_equal(table.split(4, seed=1)[0].X, first.X)
    with pytest.raises(rd.InvalidInputError, match="leaves none of the 10"):
        table.split(10)


def test_one_column_to_drop_is_named_alone():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "remark": ["u", "v", "w"], "b": [1.0, 0.0, 3.0]})
    assert rd.load_table(frame, drop="remark").feature_names == ("a", "b")
    assert rd.load_table(frame, drop=1).feature_names == ("a", "b")


def test_texts_and_missing_values_are_named_at_once():
    frame = pd.DataFrame({"a": [1.0, np.nan, 4.0], "remark": ["u", "v", "w"], "kind": ["x", "y", "x"]})
    with pytest.raises(rd.InvalidInputError, match=r"in 'remark', 'kind': .*missing, too, in 'a' \(1 of 3\): .*drop-m"):
        rd.load_table(frame)
