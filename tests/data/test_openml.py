"""Tables of OpenML, as scikit-learn would return them; nothing is fetched here."""

from __future__ import annotations

from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from sklearn.utils import Bunch

import rmtdeq as rd
from rmtdeq.cli import main

N = 60


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    kind = np.tile(["cat", "dog", "owl"], N // 3)
    features = rng.standard_normal((N, 4)) + 4 * (kind == "dog")[:, None]
    columns = {f"f{j}": features[:, j] for j in range(4)}
    return pd.DataFrame({**columns, "animal": pd.Categorical(kind)})


@pytest.fixture
def openml(monkeypatch, frame):
    """Answers in the place of OpenML, and what was asked."""
    asked = []

    def fetch(name, **options):
        asked.append((name, options))
        return Bunch(frame=frame, target_names=["animal"])

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    return asked


def test_it_is_a_table_of_labels_centred_and_scaled(openml, frame):
    X, y = rd.load_dataset("openml:pets", seed=0)
    assert X.shape == (N, 4)
    assert openml[0][0] == "pets"
    assert openml[0][1]["version"] == "active"
    np.testing.assert_allclose(np.square(X).sum(axis=1).mean(), 1.0)
    np.testing.assert_allclose(X.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_array_equal(np.bincount(y), [N // 3] * 3)
    raw, labels = rd.load_dataset("openml:pets@2", raw=True, seed=0)
    assert openml[1][1]["version"] == 2
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_allclose(rd.center_and_scale(raw), X)


def test_classes_and_numbers_are_chosen(openml):
    X, y = rd.load_dataset("openml:pets", classes=("owl", "cat"), n=20, shuffle=True)
    assert len(X) == 20
    np.testing.assert_array_equal(np.bincount(y), [10, 10])
    assert (np.diff(y) != 0).sum() > 1


def test_the_command_line_learns_from_it(openml, capsys):
    assert main(["fit", "--dataset", "openml:pets", "--standardize", "--activation", "relu"]) == 0
    assert "pets: DEQ(relu" in capsys.readouterr().out
    assert main(["fit", "--dataset", "openml:pets", "--label-column", "animal"]) == 2
    assert "OpenML says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (URLError("no route"), rd.DataNotFoundError, "load_table"),
        (ValueError("Unknown data set pets"), rd.InvalidInputError, "Unknown data set"),
        (Bunch(frame=pd.DataFrame({"a": [1.0, 2.0]}), target_names=[]), rd.InvalidInputError, "no columns of targets"),
        (
            Bunch(frame=pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, 1.5]}), target_names=["b"]),
            rd.InvalidInputError,
            "DEQRegressor",
        ),
    ],
    ids=["no network", "no such table", "no labels", "numbers"],
)
def test_what_goes_wrong_is_said_with_the_remedy(monkeypatch, answer, error, said):
    def fetch(name, **_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    with pytest.raises(error, match=said):
        rd.load_dataset("openml:pets")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("openml:", {}, "openml:NAME"),
        ("openml:pets@new", {}, "openml:NAME@VERSION"),
        ("openml:pets", {"split": "test"}, "one table"),
        ("openml:pets", {"n": 1000}, "more than the 60"),
        ("openml:pets", {"classes": "cat"}, "a sequence"),
        ("openml:pets", {"classes": ("fish",)}, "no fish"),
    ],
)
def test_what_makes_no_sense_is_refused(openml, name, options, said):
    with pytest.raises(rd.InvalidInputError, match=said):
        rd.load_dataset(name, **options)
