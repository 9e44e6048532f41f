"""The commands that learn with a kernel: what they print is what the library computes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import rmtdeq as rd
from rmtdeq.cli import example_mixture, main

N = ["--dataset", "digits", "--n", "80"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of two classes and a number that depends on the features, in a file."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((90, 3))
    kinds = np.where(features[:, 0] + 0.3 * rng.standard_normal(90) > 0, "up", "down")
    height = features[:, 0] - 2 * features[:, 1] + 0.1 * rng.standard_normal(90)
    path = tmp_path_factory.mktemp("own") / "table.csv"
    rows = [f"{a},{b},{c},{h},{k}" for (a, b, c), h, k in zip(features, height, kinds, strict=True)]
    path.write_text("\n".join(["a,b,c,height,kind", *rows]) + "\n")
    return str(path)


def results(path):
    return json.loads(path.read_text())["results"]


def test_fit_tells_both_errors_and_writes_predictions(capsys, tmp_path, table):
    files = ["--out", str(tmp_path / "fit"), "--report", str(tmp_path / "r.html"), "--save", str(tmp_path / "p.csv")]
    own = ["--data", table, "--label-column", "kind", "--standardize"]
    assert main(["fit", *own, "--activation", "relu", "--ridge", "0.1", "1", *files]) == 0
    printed = capsys.readouterr().out
    found = results(tmp_path / "fit.json")
    assert found["samples"] == 72
    assert found["ridge"] in (0.1, 1.0)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "target,predicted"
    pairs = [line.split(",") for line in lines[1:]]
    assert len(pairs) == found["samples of the test"] == 18
    wrong = np.mean([target != predicted for target, predicted in pairs])
    assert found["told wrong in the test"] == pytest.approx(wrong)
    assert wrong < 0.3
    assert f"{100 * wrong:.2f} %" in printed
    assert "Errors" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "fit.png").stat().st_size


@pytest.mark.parametrize("scaling", [["--standardize"], [], ["--as-is"]], ids=str)
@pytest.mark.parametrize(
    ("column", "left"), [(["--label-column", "kind"], "kind"), (["--target-column", "height"], "height")]
)
def test_fit_keeps_a_model_of_the_table_as_it_is(tmp_path, table, scaling, column, left):
    """It predicts from the rows of the file what the test had predicted."""
    files = ["--model", str(tmp_path / "model"), "--save", str(tmp_path / "p.csv")]
    other = [] if left == "kind" else ["--drop", "kind"]
    assert main(["fit", "--data", table, *column, *other, *scaling, "--ridge", "0.1", *files]) == 0
    model = rd.load_estimator(tmp_path / "model.npz")
    names = list(model.feature_names_in_)
    assert names == [each for each in ("a", "b", "c", "height") if each != left]
    order = np.random.default_rng(0).permutation(90)[72:]
    rows = pd.read_csv(table).iloc[order][names]
    predicted = [line.split(",")[1] for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    if left == "kind":
        assert model.predict(rows).tolist() == predicted
    else:
        np.testing.assert_allclose(model.predict(rows), np.array(predicted, dtype=float), rtol=1e-9)


def test_fit_is_the_estimator(tmp_path):
    assert main(["fit", *N, "--activation", "relu", "--test", "0", "--out", str(tmp_path / "fit")]) == 0
    X, y = rd.load_dataset("digits")
    chosen = np.random.default_rng(0).permutation(len(X))[:80]
    model = rd.DEQClassifier("relu").fit(X[chosen], y[chosen])
    found = results(tmp_path / "fit.json")
    np.testing.assert_allclose(found["left out"], model.loo_error_, rtol=1e-6)
    assert found["ridge"] == pytest.approx(model.ridge_)


def test_a_checkpoint_is_gone_on_from(tmp_path):
    given = ["fit", *N, "--ridge", "0.1", "0.01", "--out", str(tmp_path / "fit")]
    assert main(given) == 0
    direct = results(tmp_path / "fit.json")
    for _ in range(2):
        assert main([*given, "--checkpoint", str(tmp_path / "kept")]) == 0
        found = results(tmp_path / "fit.json")
        assert found["mean squared error of the test"] == pytest.approx(
            direct["mean squared error of the test"], rel=1e-3
        )
    assert main(["resume", str(tmp_path / "kept")]) == 0


def test_numbers_of_a_table_are_learnt(tmp_path, table):
    files = ["--out", str(tmp_path / "fit"), "--save", str(tmp_path / "p.csv")]
    given = ["--target-column", "height", "--drop", "kind", "--standardize", "--ridge", "gcv"]
    assert main(["fit", "--data", table, *given, *files]) == 0
    found = results(tmp_path / "fit.json")
    pairs = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)
    assert found["mean squared error of the test"] == pytest.approx(np.square(np.diff(pairs, axis=1)).mean())
    assert found["mean squared error of the test"] < 0.2 * pairs[:, 0].var()
    assert not any(name.startswith("told") for name in found)


def test_learn_prints_the_curve_and_measures(capsys, tmp_path):
    files = ["--out", str(tmp_path / "curve"), "--report", str(tmp_path / "r.html")]
    assert main(["learn", *N, "--activation", "relu", "--sizes", "40", "160", "--measure", *files]) == 0
    X, y = rd.load_dataset("digits")
    chosen = np.random.default_rng(0).permutation(len(X))[:80]
    curve = rd.learning_curve(X[chosen], y[chosen], rd.DEQ("relu"), sizes=(40, 160))
    found = results(tmp_path / "curve.json")
    np.testing.assert_allclose(found["mse"], curve.mse, rtol=1e-6)
    printed = capsys.readouterr().out
    assert f"{curve.mse[1]:.4g}" in printed
    assert printed.count("measured") == 2
    for row, size in enumerate(("40", "160")):
        assert found["measured"][size]["mse"] == pytest.approx(curve.mse[row], rel=0.35)


def test_a_mixture_foretells_its_own_curve(capsys, tmp_path):
    given = ["--dataset", "mixture", "--p", "200", "--n", "160", "--sizes", "80", "160"]
    assert main(["learn", *given, "--ridge", "1", "--out", str(tmp_path / "curve")]) == 0
    assert capsys.readouterr().out.count("from the mixture") == 2
    found = results(tmp_path / "curve.json")
    gmm = example_mixture(200, 2)
    expected = rd.predict_learning(rd.DEQ("tanh"), gmm, None, (80, 160), 1.0, "ntk")
    np.testing.assert_allclose(found["from the mixture"]["mse"], expected.mse[:, 0])
    np.testing.assert_allclose(found["from the mixture"]["mse"], found["mse"], rtol=0.2)


def test_suggest_orders_networks(capsys, tmp_path):
    grid = [
        "--activations",
        "relu",
        "tanh",
        "--sigma-a2",
        "0.2",
        "--sigma-b2",
        "0.8",
        "--sigma-c2",
        "0",
        "--kind",
        "ck",
    ]
    files = ["--out", str(tmp_path / "s"), "--report", str(tmp_path / "r.html")]
    assert main(["suggest", *N, *grid, *files]) == 0
    X, y = rd.load_dataset("digits")
    chosen = np.random.default_rng(0).permutation(len(X))[:80]
    found = rd.suggest(
        X[chosen], y[chosen], activations=["relu", "tanh"], sigma_a2=[0.2], sigma_b2=[0.8], sigma_c2=[0.0], kinds="ck"
    )
    assert found.candidates[0].name in capsys.readouterr().out
    rows = results(tmp_path / "s.json")["candidates"]
    np.testing.assert_allclose([row["mse"] for row in rows], [each.mse for each in found.candidates], rtol=1e-6)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["fit", *N, "--ridge", "best"], "loo, gcv, or numbers"),
        (["fit", *N, "--ridge", "-1"], "--ridge"),
        (["fit", *N, "--test", "1"], "--test"),
        (["fit", *N, "--save", "p.txt"], ".csv"),
        (["fit", *N, "--model", "m.pkl"], ".npz"),
        (["fit", *N, "--save", "p.csv", "--test", "0"], "--test 0"),
        (["fit", "--dataset", "mixture", "--classes", "1", "--p", "30"], "--labels"),
        (["fit", "--dataset", "digits", "--n", "5"], "--n must be from 20"),
        (["learn", *N, "--sizes", "1"], "--sizes"),
        (["learn", *N, "--ridge", "-1"], "--ridge"),
        (["learn", "--dataset", "digits", "--n", "1790", "--measure"], "lower --n"),
        (["learn", *N, "--target-column", "height"], "--data"),
        (["suggest", *N, "--activations", "rellu"], "relu"),
        (["suggest", *N, "--sigma-a2", "-1"], "sigma_a2"),
        (["suggest", "--dataset", "digits", "--n", "90000"], "90000"),
    ],
)
def test_what_is_wrong_is_said_before_long_work(capsys, monkeypatch, command, says):
    for name in ("kernel", "suggest", "learning_curve"):
        monkeypatch.setattr(rd, name, lambda *_, **__: pytest.fail("computed"))
    assert main(command) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--target-column", "weight"], "'height'"),
        (["--target-column", "height", "--label-column", "kind"], "one too many"),
        (["--target-column", "height", "--classes", "up"], "--classes"),
    ],
)
def test_columns_of_targets_that_do_not_fit_are_refused(capsys, table, given, says):
    assert main(["fit", "--data", table, "--drop", "kind", *given]) == 2
    assert says in capsys.readouterr().err
