"""The command line: what it prints and writes, and one line with exit code 2 for everything that is wrong."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq.activations.registry import ALIASES, EXAMPLES, REGISTRY
from rmtdeq.cli import example_mixture, main
from rmtdeq.cli import options as options_of_commands
from rmtdeq.cli import spectra as spectra_commands
from rmtdeq.cli.main import _parser
from rmtdeq.output import files as io
from rmtdeq.spectra import dense
from rmtdeq.spectra.assumptions import ASSUMPTIONS

SMALL = ["--dataset", "mixture", "--p", "120", "--n", "96"]


def test_solve_prints_the_coefficients(capsys):
    assert main(["solve", "--activation", "relu"]) == 0
    printed = capsys.readouterr().out
    coef = rd.solve(rd.DEQ("relu", 0.2, 0.8), 1.0)
    for value in (coef.tau, coef.gamma2, *coef.alpha, coef.kappa2, *coef.beta):
        assert f"{value:.10g}" in printed


def test_solve_prints_no_rounding(capsys):
    assert main(["solve", "--kind", "ntk-full"]) == 0
    printed = capsys.readouterr().out
    for name in ("alpha2", "alpha3", r"beta2 \(full\)", r"beta3 \(full\)"):
        assert re.search(rf"{name}  0\n", printed)


def test_activations_are_listed_under_every_name(capsys):
    assert main(["activations"]) == 0
    table = capsys.readouterr().out.partition("\n\n")[0].splitlines()[1:]
    rows = {row.split()[0]: row for row in table}
    assert tuple(rows) == rd.activation_names()
    assert all(re.search(rf"\b{other}\b", rows[ours]) for other, ours in ALIASES.items())
    assert "slope=0.01" in rows["leaky_relu"]
    assert "kinks at -1, 1" in rows["hard_tanh"]
    assert "jumps at" in rows["steps"]
    for name, row in rows.items():
        made = rd.activation(EXAMPLES.get(name, name))
        assert ("smooth" in row) == (not made.kinks)
        assert ("closed form" in row) == (made.dual_form is not None)
        assert EXAMPLES.get(name, "") in row
        assert REGISTRY[name].__doc__.partition("\n")[0].removesuffix(".") in row


def test_what_a_far_comparison_names_says_what_to_do(capsys):
    deq, mixture = rd.DEQ("relu"), rd.GaussianMixture(np.zeros((1, 4)), [1.0])
    X, _ = mixture.sample(60, 0)
    found = rd.compare(rd.empirical_spectrum(X, deq), rd.predict_spectrum(deq, mixture, 60, level="classwise"))
    assert found.ks > 0.1
    (named,) = {each for warning in found.warnings for each in re.findall(r"rmtdeq [a-z]+", warning)}
    assert main(named.split()[1:]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for each in ASSUMPTIONS for text in (each.name, each.sign, each.remedy))


def test_design_makes_one_layer_for_samples_of_one_norm(capsys, tmp_path):
    given = ["--activation", "gelu", "--uncentered", "--family", "hermite", "--kind", "ntk"]
    assert main(["design", *given, "--save", str(tmp_path / "net.json"), "--report", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr().out
    assert "on samples of one norm" in printed
    net = rd.ExplicitNetwork.load(tmp_path / "net.json")
    assert f"{net.on_sphere.residual:.1e} of the diagonal" in printed
    assert (net.depth, net.status) == (1, rd.DesignStatus.SPHERE)


def test_diagnose_knows_orthogonal_weights(capsys):
    assert main(["diagnose", "--sigma-a2", "0.5", "--uncentered", "--recurrent", "orthogonal"]) == 0
    found = rd.diagnose(rd.DEQ("tanh", 0.5, 0.8, centered=False), [1.0], recurrent="orthogonal")
    assert f"{found.smallest_singular_value[0]:.4g}" in capsys.readouterr().out


def test_predict_prints_and_draws(capsys, tmp_path):
    assert main(["predict", *SMALL, "--out", str(tmp_path / "p.pdf")]) == 0
    pred = rd.predict_spectrum(rd.DEQ("tanh", 0.2, 0.8), example_mixture(120, 2), 96)
    assert f"{pred.outliers[-1]:.5g}" in capsys.readouterr().out
    assert (tmp_path / "p.pdf").read_bytes()[:4] == b"%PDF"


def test_compare_writes_a_figure_and_its_manifest(capsys, tmp_path):
    out = tmp_path / "new" / "figure"
    command = ["compare", *SMALL, "--classes", "3", "--kind", "ck", "--seed", "5", "--level", "paper", "classwise"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["arguments"]["seed"] == 5
    assert record["versions"]["numpy"] == np.__version__
    result = record["results"]["ck, classwise"]
    assert f"{result['ks']:.3f}" in printed
    assert f"{record['results']['ck, paper']['ks']:.3f}" in printed
    assert result["verdict"] in printed
    assert np.shape(result["matched_alignments"]) == np.shape(result["alignments"]) == (len(result["outliers"]), 3)
    measured = record["results"]["ck, measured"]
    assert len(measured["eigenvalues"]) == len(result["eigenvalues"]) == 96
    assert np.sum(np.multiply(measured["density"], np.diff(measured["bin_edges"]))) == pytest.approx(1)
    assert sorted(path.name for path in out.parent.iterdir()) == ["figure.json", "figure.png"]


def test_compare_by_quadrature_goes_on_from_its_checkpoint(capsys, tmp_path):
    command = ["compare", "--dataset", "mixture", "--p", "300", "--n", "500", "--kind", "ntk", "--level", "classwise"]
    command += ["--method", "slq", "--top", "5", "--steps", "12", "--checkpoint", str(tmp_path / "kept"), "--verbose"]
    printed = []
    for out in ("figure-1", "figure-2"):
        assert main([*command, "--out", str(tmp_path / out)]) == 0
        printed.append(capsys.readouterr().out.replace(out, ""))
        assert "±" in printed[-1]
    assert printed[0] == printed[1]
    kept = tmp_path / "kept" / "ntk"
    assert list((tmp_path / "kept" / "kernel" / "ntk").glob("panel-*.npy"))
    assert len(list((kept / "slq").glob("step-*.npz"))) >= 12
    record = json.loads((tmp_path / "figure-1.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["results"]["ntk, classwise"]["ks_error"] > 0


def test_largest_eigenvalues_alone_have_no_distance(capsys):
    command = ["compare", "--dataset", "mixture", "--p", "400", "--n", "300", "--kind", "ck", "--level", "paper"]
    assert main([*command, "--method", "lanczos", "--top", "6"]) == 0
    assert "bulk not measured" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(capsys):
    runs = []
    for _ in range(2):
        main(["compare", *SMALL, "--kind", "ck", "--seed", "3"])
        runs.append(capsys.readouterr().out)
    assert runs[0] == runs[1]


def test_levels_are_those_asked_for(capsys):
    for options, levels in (
        ([], ["classwise"]),
        (["--level", "paper"], ["paper"]),
        (["--level", "paper", "classwise"], ["classwise", "paper"]),
    ):
        assert main(["compare", *SMALL, "--kind", "ck", "--verbose", *options]) == 0
        printed = capsys.readouterr().out
        assert f"level {' and '.join(levels)}\n" in printed
        assert re.findall("p = 120, level (.*)", printed) == levels


SHORT = [
    ["--dataset", "mixture", "--p", "120", "--classes", "3"],
    ["--dataset", "fashion-sample", "--n", "80"],
    ["--dataset", "digits", "--n", "120"],
    ["--dataset", "mixture", "--p", "120", "--level", "classwise", "paper"],
    ["--dataset", "mixture", "--p", "120", "--kind", "ck", "ntk", "ntk-full", "--level", "classwise", "paper"],
    ["--dataset", "mixture", "--p", "120", "--method", "lanczos", "--top", "5"],
]


@pytest.mark.parametrize("options", SHORT, ids=" ".join)
def test_a_comparison_takes_fifteen_lines_at_most(capsys, tmp_path, options):
    assert main(["compare", *options, "--save", str(tmp_path / "a"), "--out", str(tmp_path / "a")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 15
    assert lines[-1] == f"wrote {tmp_path / 'a.npz'}, {tmp_path / 'a.png'}, {tmp_path / 'a.json'}"
    assert "rely on" in lines[1]
    ranks = [line.split()[0] for line in lines if line.split()[0].isdigit()]
    assert ranks == [str(i + 1) for i in range(len(ranks))]
    assert len(ranks) == (10 if "ntk-full" not in options and "lanczos" not in options else len(ranks)) > 4


def test_a_table_of_a_stranger_takes_fifteen_lines_at_most(capsys, tmp_path):
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    rows = np.r_[:40, 80:120]
    np.save(tmp_path / "X.npy", found.data[rows] / found.data.std(axis=0))
    np.save(tmp_path / "y.npy", found.target_names[found.target[rows]])
    command = ["compare", "--data", str(tmp_path / "X.npy"), "--labels", str(tmp_path / "y.npy")]
    assert main([*command, "--activation", "relu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 15
    assert "2 classes (benign, malignant)" in lines[0]
    assert re.search("(benign|malignant) 0[.]", lines[4])


def test_arrays_are_saved_without_pickle_and_are_those_of_the_library(tmp_path):
    path = tmp_path / "spectrum.npz"
    assert main(["compare", *SMALL, "--kind", "ck", "--activation", "relu", "--save", str(path)]) == 0
    X, y = example_mixture(120, 2).sample(96, 0)
    deq, mixture = rd.DEQ("relu", 0.2, 0.8), example_mixture(120, 2)
    centre = {"tau0_squared": mixture.mean_squared_norm}
    found = rd.compare(rd.empirical_spectrum(X, deq, **centre), rd.predict_spectrum(deq, mixture, 96, **centre), y)
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["ck/eigenvalues"], found.empirical.eigenvalues, rtol=1e-9)
        np.testing.assert_allclose(arrays["ck/classwise/eigenvalues"], found.prediction.all_values, rtol=1e-9)
        np.testing.assert_allclose(arrays["ck/alignments"], found.leading, atol=1e-9)
        np.testing.assert_allclose(arrays["ck/classwise/matched"], found.matched, rtol=1e-9)
        assert list(arrays["classes"]) == ["class 0", "class 1"]
        assert arrays["ck/classwise/ks"] == pytest.approx(found.ks)
        width = np.diff(arrays["ck/bin_edges"])
        assert arrays["ck/density"] @ width == pytest.approx(1)
        assert arrays["ck/classwise/density"].shape == width.shape
        names = set(arrays)
    page = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
    assert {name.replace("ck/classwise", "KIND/LEVEL").replace("ck/", "KIND/") for name in names} == set(
        re.findall(r"^\| `((?:KIND|classes)[\w/]*)` \|", page, re.M)
    )


def test_predicted_arrays_are_saved(tmp_path):
    assert main(["predict", *SMALL, "--kind", "ntk", "--save", str(tmp_path / "p")]) == 0
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert arrays["ntk/classwise/eigenvalues"].shape == (96,)
        assert arrays["ntk/classwise/quantiles"][0] == pytest.approx(arrays["ntk/classwise/edges"][0, 0])


@pytest.mark.parametrize("dataset", ["fashion-sample", "digits"])
def test_compare_runs_on_the_bundled_images(capsys, dataset):
    assert main(["compare", "--dataset", dataset, "--n", "50", "--kind", "ck", "ntk", "--activation", "relu"]) == 0
    told = capsys.readouterr()
    assert told.out.count("(KS distance") == 2
    assert "level polynomial" in told.out
    assert "samples other than the 50 measured" in told.err


def test_design_prints_both_coefficients_and_saves_the_network(capsys, tmp_path):
    path = tmp_path / "net.json"
    assert main(["design", "--activation", "relu", "--sigma-a2", "0.2", "--kind", "ck", "--save", str(path)]) == 0
    printed = capsys.readouterr().out
    net = rd.ExplicitNetwork.load(path)
    for name, value in zip(("alpha1", "alpha2", "alpha3", "gamma2"), vars(net.coefficients()).values(), strict=True):
        assert re.search(rf"{name} +{value:.9f} +{value:.9f} ", printed)
    assert "exact" in printed


@pytest.mark.parametrize("kind", ["ck", "both"])
def test_design_compares_spectra_on_data(capsys, tmp_path, kind):
    out = tmp_path / "figure"
    assert main(["design", *SMALL, "--activation", "swish", "--kind", kind, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    record = json.loads(out.with_suffix(".json").read_text())
    assert out.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for result in [record["results"][each] for each in (("ck", "ntk") if kind == "both" else ("ck",))]:
        assert f"{result['distance']:.3g}" in printed
        assert result["distance"] < result["distance_plain"]


def test_class_wise_design_uses_the_norms_of_the_data(capsys):
    arguments = ["design", "--dataset", "fashion-sample", "--n", "80", "--activation", "tanh"]
    distances = []
    for option in ([], ["--class-wise"]):
        assert main([*arguments, *option]) == 0
        printed = capsys.readouterr().out
        assert ("class-wise" in printed) == bool(option)
        distances.append(float(re.search("kernel is ([^ ]+)", printed).group(1)))
    assert distances[1] < 0.01 < distances[0]


@pytest.fixture
def own_files(tmp_path):
    """Two classes of 120 samples with 300 features, far from the scaling of the theory, and their names."""
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 120)
    np.save(tmp_path / "X.npy", 40 + 7 * (rng.standard_normal((240, 300)) + np.outer(y, np.full(300, 0.2))))
    np.save(tmp_path / "y.npy", np.array(["left", "right"])[y])
    return ["--data", str(tmp_path / "X.npy"), "--labels", str(tmp_path / "y.npy")]


def test_own_samples_are_compared_and_reported(capsys, tmp_path, own_files):
    report = tmp_path / "own.html"
    options = ["--kind", "ck", "--level", "classwise", "--out", str(tmp_path / "own"), "--report", str(report)]
    assert main(["compare", *own_files, *options]) == 0
    printed = capsys.readouterr().out
    assert "n = 240, p = 300" in printed
    assert printed.startswith("X.npy: n = 240, p = 300, 2 classes (left, right); ")
    assert float(re.search("KS distance ([0-9.]+)", printed).group(1)) < 0.05
    arguments = json.loads((tmp_path / "own.json").read_text())["arguments"]
    assert arguments["data"].endswith("X.npy")
    assert "dataset" not in arguments
    page = report.read_text()
    assert "X.npy" in page
    assert "measured alignment with left" in page
    assert "measured alignment with right" in page
    assert "with class 0" not in page
    assert "fashion-sample" not in page


@pytest.mark.filterwarnings("always:The samples' squared norms")
def test_samples_of_another_scale_are_warned_of_once_and_in_one_line(capsys, tmp_path, own_files):
    np.save(tmp_path / "X.npy", 1e-4 * np.load(tmp_path / "X.npy"))
    assert main(["compare", *own_files, "--kind", "ck", "--level", "classwise", "--as-is"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("rmtdeq: The samples' squared norms are")


def test_what_takes_long_is_begun_on_demand_alone(capsys, tmp_path, own_files, monkeypatch):
    monkeypatch.setattr(spectra_commands, "_PATIENCE", 1e-3)
    monkeypatch.setattr(dense, "_PART", 100)
    command = ["compare", *own_files, "--kind", "ck", "--level", "classwise"]
    assert main(command) == 2
    assert "The eigenvalues of 240 x 240 matrices would take about" in capsys.readouterr().err
    assert main([*command, "--yes"]) == 0
    assert main([*command, "--checkpoint", str(tmp_path / "kept"), "--method", "lanczos", "--top", "3"]) == 0


@pytest.mark.filterwarnings("always::UserWarning")
def test_tables_are_compared_by_their_columns(capsys, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 90)
    values = rng.standard_normal((90, 12)) + y[:, None]
    values[:, 3] *= 1e3
    rows = [[*map(str, x), "always", ("left", "right")[a]] for x, a in zip(values, y, strict=True)]
    rows[4][5] = ""
    text = [[*(f"f{j}" for j in range(12)), "fixed", "side"], *rows]
    (tmp_path / "t.csv").write_text("\n".join(map(",".join, text)))
    command = [
        "compare",
        "--data",
        str(tmp_path / "t.csv"),
        "--label-column",
        "side",
        "--kind",
        "ck",
        "--activation",
        "relu",
    ]
    assert main(command) == 2
    assert "'f5' (1 of 90)" in capsys.readouterr().err
    assert main([*command, "--drop-missing"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("t.csv: n = 45, p = 12, 2 classes (left, right)")
    assert "predicting from 44 samples other than the 45 measured" in told.err
    assert "'f3' holds 100% of the variance" in told.err
    assert "'fixed' (constant)" in told.err
    assert main([*command, "--drop", "f5", "--standardize", "--level", "classwise"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("t.csv: n = 90, p = 11")
    assert "of the variance" not in told.err


def test_samples_left_unmeasured_predict_what_the_classes_do_not(capsys, tmp_path):
    rng = np.random.default_rng(0)
    few = rng.standard_normal((400, 3)) * [3.0, 2.0, 1.0]
    np.savez(tmp_path / "few.npz", X=np.hstack([few, 0.2 * rng.standard_normal((400, 9))]), y=rng.integers(0, 2, 400))
    command = ["compare", "--data", str(tmp_path / "few.npz"), "--kind", "ck", "--activation", "relu"]
    assert main([*command, "--level", "classwise"]) == 0
    told = capsys.readouterr()
    assert "--level polynomial" in told.err
    classwise = float(re.search("KS distance ([0-9.]+)", told.out).group(1))
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out.startswith("few.npz: n = 200,")
    assert "level polynomial" in told.out
    assert "KS distance expected" in told.out
    assert "predicting from 200 samples other than the 200 measured" in told.err
    assert "--level polynomial" not in told.err
    assert float(re.search("KS distance ([0-9.]+)", told.out).group(1)) < min(0.1, classwise / 3)
    assert main([*command, "--level", "polynomial", "--n", "390"]) == 2
    assert "of 400 only 10 are left: measure fewer, as with --n 200" in capsys.readouterr().err


def test_a_mixture_is_sampled_apart_from_what_is_measured(capsys):
    command = ["compare", "--dataset", "mixture", "--p", "200", "--kind", "ck", "--level", "polynomial", "classwise"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "level polynomial and classwise" in told.out
    assert "rely on nothing" not in told.out
    assert "--level" not in told.err


def test_a_class_of_one_sample_is_told_by_its_name(capsys, tmp_path, own_files):
    labels = np.load(tmp_path / "y.npy").astype("U8")
    labels[7] = "middle"
    np.save(tmp_path / "y.npy", labels)
    assert main(["predict", *own_files]) == 2
    assert "these have fewer: middle (1)" in capsys.readouterr().err


def test_classes_are_chosen_by_labels_that_are_texts(tmp_path, own_files):
    out = tmp_path / "own"
    options = ["--kind", "ck", "--level", "classwise", "--n", "60", "--out", str(out)]
    assert main(["predict", *own_files, "--classes", "right", *options]) == 0
    arguments = json.loads(out.with_suffix(".json").read_text())["arguments"]
    assert (arguments["classes"], arguments["p"]) == (["right"], None)


def test_labels_that_are_written_as_whole_numbers_are_those():
    given = [options_of_commands.label(text) for text in ("3", "-1", "03", "stage II", "3.5")]
    assert given == [3, -1, "03", "stage II", "3.5"]


def test_a_mixture_s_dimension_is_recorded_where_it_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(options_of_commands, "_DIMENSION", 60)
    command = ["predict", "--dataset", "mixture", "--n", "50", "--kind", "ck", "--level", "classwise"]
    assert main([*command, "--out", str(tmp_path / "a"), "--report", str(tmp_path / "a.html")]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["arguments"]["p"] == 60
    assert re.search(r"<t[hd][^>]*>p</t[hd]>", (tmp_path / "a.html").read_text())


def test_coefficients_that_vanish_are_held_against_the_diagonal_in_a_column_of_its_own(capsys):
    assert main(["design", "--activation", "tanh", "--kind", "ntk"]) == 0
    assert re.search(r"beta2 +0\.000000000 +0\.000000000 +0\n", capsys.readouterr().out)
    assert main(["design", "--activation", "tanh", "--kind", "ck", "--family", "leaky_relu"]) == 0
    assert re.search(r"alpha2 .*\d +of gamma2 [-0-9.e]+\n", capsys.readouterr().out)


def test_a_network_is_designed_for_own_samples(capsys, tmp_path, own_files):
    assert main(["design", *own_files, "--save", str(tmp_path / "net.json"), "--kind", "ck"]) == 0
    net = rd.ExplicitNetwork.load(tmp_path / "net.json")
    assert net.tau0_squared == pytest.approx(1, abs=0.01)
    distance = float(re.search("kernel is ([^ ]+)", capsys.readouterr().out).group(1))
    assert distance < 0.05


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["solve", "--activation", "relux"], "did you mean 'relu'"),
        (["solve", "--sigma-a3", "1"], "rmtdeq solve: unrecognized arguments: --sigma-a3 1 (did you mean '--sigma-a2'"),
        (["compare", "--datset=x"], "(did you mean '--dataset'?) (see rmtdeq compare --help)"),
        (["design", "extra"], "rmtdeq design: unrecognized arguments: extra (see rmtdeq design --help)"),
        (["slove"], "did you mean 'solve'"),
        (["solve", "--kind", "nkt"], "did you mean 'ntk'"),
        (["compare", "--dataset", "mixtur"], "did you mean 'mixture'"),
        (["solve", "--sigma-a2", "-1"], "sigma_a2"),
        (["design", "--family", "spline"], "hard_tanh"),
        (["design", "--kind", "ntk", "--family", "ternary"], "tangent"),
        (["design", "--out", "figure"], "--dataset"),
        (["design", "--class-wise"], "--dataset"),
        (["design", "--classes", "6", "8"], "--dataset"),
        (["design", *SMALL, "--save", "f/net.json", "--out", "f/net"], "overwritten"),
        (["design", *SMALL, "--class-wise", "--kind", "both"], "one kernel"),
        (["design", *SMALL, "--class-wise", "--family", "polynomial"], "piecewise linear"),
        (["design", "--dataset", "digit"], "mixture"),
        (["design", "--labels", "y.npy"], "--data X.npy"),
        (["compare", "--labels", "y.npy"], "--data"),
        (["predict", "--as-is"], "--data"),
        (["compare", "--data", "no-such-file.npy"], "no-such-file.npy does not exist"),
        (["compare", "--data", "X.npy", "--dataset", "mnist"], "not allowed with"),
        (["compare", "--data", "X.npy", "--data-dir", "."], "not for --data"),
        (["design", "--activation", "relu", "--uncentered"], "without --uncentered"),
        (["design", "--p", "100"], "--dataset mixture; name that"),
        (["predict", "--p", "100"], "--p is of --dataset mixture"),
        (["compare", "--data", "X.npy", "--p", "100"], "--p is of --dataset mixture"),
        (["predict", *SMALL, "--classes", "two"], "how many classes"),
        (["predict", "--classes", "sandals"], "did you mean 'sandal'"),
        (["solve", "--sigma-a2", "nan"], "sigma_a2"),
        (["solve", "--sigma-a2", "3", "--activation", "relu", "--uncentered"], "lower sigma_a2"),
        (["solve", "--tau0-squared", "0"], "tau0_squared"),
        (["solve", "--kind", "cnk"], "cnk"),
        (["predict", *SMALL, "--activation", "relu", "--uncentered", "--level", "paper"], "centered=True"),
        (["predict", *SMALL, "--classes", "6", "8"], "how many classes"),
        (["predict", "--dataset", "mixture", "--p", "4"], "needs p"),
        (["compare", "--dataset", "imagenet"], "imagenet"),
        (["compare", "--dataset", "digits", "--classes", "11", "12"], "11"),
        (["compare", "--dataset", "digits", "--n", "100000"], "100000"),
        (["compare", *SMALL, "--seed", "-1"], "seed"),
        (["compare", "--dataset", "mnist", "--data-dir", "no-such-folder"], "no-such-folder"),
        (["compare", "--dataset", "digits", "--data-dir", "."], "--data-dir is for data sets that are read from files"),
        (["predict", "--data-dir", "."], "not for fashion-sample; leave it out"),
        (["predict", *SMALL, "--data-dir", "."], "not for mixture; leave it out"),
        (["compare", *SMALL, "--n", "many"], "many"),
        (["compare", *SMALL, "--save", "spectrum.json"], "name it spectrum.npz"),
        (["predict", *SMALL, "--save", "spectrum.csv"], "name it spectrum.npz"),
        (["compare", *SMALL, "--top", "3"], "--method"),
        (["compare", *SMALL, "--checkpoint", "x"], "--method"),
        (["compare", *SMALL, "--method", "slq", "--steps", "1"], "steps"),
        (["compare", *SMALL, "--method", "slq", "--top", "0"], "top"),
        ([], "COMMAND"),
    ],
)
def test_what_is_wrong_takes_one_line_and_exit_code_2(capsys, arguments, says):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_out_in_an_impossible_place_is_reported(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["predict", *SMALL, "--out", str(tmp_path / "file" / "figure")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path):
    path = tmp_path / "figure.txt"
    path.write_text("old")

    def fail(beside):
        beside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        io.write_whole(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["figure.txt"]


def parsers(parser=None):
    """Yield the parser of the program, of its commands, and of their families."""
    parser = _parser() if parser is None else parser
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for each in action.choices.values():
                yield from parsers(each)


@pytest.mark.parametrize("parser", [*parsers()], ids=lambda parser: parser.prog)
def test_help_ends_with_examples_that_are_understood(parser):
    shown = parser.format_help().partition("\nexamples:\n  ")[2].splitlines()
    assert 1 <= len(shown) <= 2
    for example in map(str.strip, shown):
        program, *words = shlex.split(example.partition("|")[0])
        assert program == "rmtdeq"
        assert example.startswith(parser.prog)
        if words[-1] == "--help":
            assert any(each.prog == f"rmtdeq {' '.join(words[:-1])}" for each in parsers())
        else:
            assert _parser().parse_args(words)


def test_the_module_runs_as_a_program():
    run = subprocess.run(
        [sys.executable, "-m", "rmtdeq", "solve", "--kind", "ck"], capture_output=True, text=True, check=True
    )
    assert "alpha1" in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("command", "code"), [(["solve"], 141), (["reproduce", "list"], 141), (["solve", "--sigma-a2", "-1"], 2)]
)
def test_a_reader_that_goes_away_is_no_error(command, code):
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run([sys.executable, "-m", "rmtdeq", *command], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert run.returncode == code
    assert run.stderr.count("\n") == (code == 2)


def test_a_kernel_that_is_infinite_is_refused_before_any_is_computed(monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError("a kernel was computed")

    monkeypatch.setattr(rd, "empirical_spectrum", fail)
    command = ["compare", "--dataset", "fashion-sample", "--n", "96", "--sigma-a2", "3", "--level", "classwise"]
    assert main(command) == 2
    error = capsys.readouterr().err
    # A centred model is computed with as an uncentred one, which is not what its user gave.
    assert "The NTK of DEQ(tanh, sigma_a2=3, sigma_b2=0.8) is infinite" in error


TRAIN = ["train", "regression", "--n", "12", "--widths", "60", "30", "--epochs", "20"]


def test_train_prints_and_writes_what_the_library_computes(capsys, tmp_path):
    from rmtdeq.models import OverparameterizedDEQ
    from rmtdeq.training import stable_step

    out = tmp_path / "figure"
    assert main([*TRAIN, "--p", "10", "--seed", "4", "--test", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    record = json.loads(out.with_suffix(".json").read_text(), parse_constant=lambda name: pytest.fail(name))
    rng = np.random.default_rng(4)
    (X, y), test = (
        (rd.on_sphere(rng.standard_normal((size, 10)), np.sqrt(10)), rng.standard_normal(size)) for size in (12, 5)
    )
    models = [OverparameterizedDEQ(10, width, 0.08, 4).double() for width in (30, 60)]
    import torch

    step = min(stable_step(model, torch.from_numpy(X)) for model in models)
    assert record["results"]["step"] == pytest.approx(step, rel=1e-9)
    for model in models:
        run = rd.gradient_descent(model, X, y, step=step, epochs=20, test=test)
        found = record["results"][f"width {model.width}"]
        assert found["loss"] == pytest.approx([run.loss[0], run.loss[-1]], rel=1e-9)
        assert found["test loss"] == pytest.approx([run.test_loss[0], run.test_loss[-1]], rel=1e-9)
        assert run.summary() in printed
    assert "(9) λ0" in printed


def test_train_on_images_with_the_other_network(capsys, tmp_path):
    command = [
        "train",
        "regression",
        "--model",
        "implicit-relu",
        "--dataset",
        "digits",
        "--classes",
        "3",
        "5",
        "--n",
        "20",
    ]
    command += ["--widths", "50", "--epochs", "30", "--dtype", "float32", "--checkpoint", str(tmp_path / "kept")]
    printed = []
    for _ in range(2):
        assert main(command) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "ImplicitReLU(64 → 50 → 1" in printed[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "digits", "--classes", "1", "2", "3"], "two labels"),
        (["--dataset", "nothing"], "--dataset must be one of 'sphere'"),
        (["--n", "1"], "--n"),
        (["--sigma-w2", "0.2"], "1/8"),
        (["--model", "implicit-relu", "--gamma", "2"], "gamma"),
        (["--device", "nonsense"], "device"),
        (["--seed", "-1"], "seed"),
        (["--gamma", "0.1"], "--gamma is of --model implicit-relu"),
        (["--classes", "0", "1"], "--classes are of data sets"),
        (["--dataset", "digits", "--p", "10"], "--p is of --dataset sphere"),
        (["--data-dir", "."], "not for sphere; leave it out"),
        (["--dataset", "digits", "--data-dir", "."], "not for digits; leave it out"),
        (["--out", "/proc/nowhere/figure"], "cannot be written"),
        (["--widths", "0"], "width"),
        (["--step", "-1"], "step"),
        (["--tolerance", "0"], "tolerance"),
    ],
)
def test_train_refuses_what_makes_no_sense(capsys, options, message):
    assert main([*TRAIN, *options]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert message in errors


CLASSIFY = [
    "train",
    "classifier",
    "--model",
    "pcdeq-linear",
    "--n",
    "300",
    "--test",
    "200",
    "--epochs",
    "4",
    "--channels",
    "20",
]


def test_train_a_classifier(capsys, tmp_path):
    import torch

    from rmtdeq.models.pcdeq import linear_network

    out, weights = tmp_path / "figure", tmp_path / "new" / "net.pt"
    command = [
        *CLASSIFY,
        "--activation",
        "sigmoid",
        "--step",
        "0.005",
        "--seed",
        "2",
        "--checkpoint",
        str(tmp_path / "c"),
    ]
    assert main([*command, "--out", str(out), "--save", str(weights)]) == 0
    printed = capsys.readouterr().out
    assert "PcDEQLinear(20, sigmoid)" in printed
    assert "contraction <= 0." in printed
    assert out.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    record = json.loads(out.with_suffix(".json").read_text(), parse_constant=lambda name: pytest.fail(name))
    X, y, test = rd.load_classification("digits", n=300, test=200, seed=2)
    model = linear_network(64, 20, seed=2, activation="sigmoid")
    run = rd.train_classifier(model, X, y, test=test, epochs=4, step=0.005, seed=2)
    assert record["results"]["test accuracy"] == pytest.approx(run.test_accuracy.tolist(), abs=1e-9)
    assert record["results"]["iterations"] == {"3": pytest.approx(run.iterations[:, 0].tolist())}
    saved = torch.load(weights, weights_only=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(saved[name], value)
    assert main(command) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[:5] == printed.splitlines()[:5]


@pytest.mark.parametrize("model", ["pcdeq-conv", "pcdeq-three-blocks"])
def test_train_a_convolutional_classifier(capsys, model):
    channels = ["5"] if model == "pcdeq-conv" else ["3", "4", "5"]
    command = [
        "train",
        "classifier",
        "--model",
        model,
        "--n",
        "100",
        "--test",
        "0",
        "--epochs",
        "1",
        "--channels",
        *channels,
    ]
    command += ["--positivity", "clamp", "--tolerance", "1e-3", "--precision", "bfloat16", "--augment", "--batch", "20"]
    assert main([*command, "--classes", "1", "7", "--milestones", "1", "--weight-decay", "0"]) == 0
    printed = capsys.readouterr().out
    assert "100 samples, 1 epoch\n" in printed
    assert printed.count("positivity='clamp'") == len(channels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "sphere"], "one of"),
        (["--channels", "3", "4"], "one number"),
        (["--model", "pcdeq-three-blocks"], "three numbers"),
        (["--activation", "relu"], "'tanh', 'softsign', 'relu6', 'sigmoid'"),
        (["--step", "0"], "step"),
        (["--data-dir", "."], "not for digits; leave it out"),
        (["--save", "/proc/nowhere/net.pt"], "cannot be written"),
        (["--save", "/"], "is a folder"),
        (["--device", "nonsense"], "device"),
        (["--n", "5000"], "too many"),
        (["--tolerance", "-1"], "tolerance"),
    ],
)
def test_classifiers_refuse_what_makes_no_sense(capsys, options, message):
    assert main([*CLASSIFY, *options]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        (["train", "classifier", "--widths", "100"], "--widths 100"),
        (["train", "regression", "--channels", "3"], "--channels 3"),
        (["train", "regression", "--model", "pcdeq-linear"], "'deq', 'implicit-relu'"),
    ],
)
def test_each_family_has_only_its_own_options(capsys, command, unknown):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert unknown in error.replace("deq, implicit-relu", "'deq', 'implicit-relu'")
    assert f"see rmtdeq train {command[1]} --help" in error


def test_train_without_a_family_is_the_model_s_and_said_to_go(capsys):
    options = ["--n", "12", "--epochs", "2"]
    found = []
    for command in (["train", "regression"], ["train"]):
        assert main([*command, "--widths", "30", *options]) == 0
        found.append(capsys.readouterr())
    assert found[0].out == found[1].out
    assert "rmtdeq train is now rmtdeq train regression" in found[1].err
    assert main(["train", "--model=pcdeq-linear", "--dataset", "digits", "--test", "0", *options]) == 0
    assert "rmtdeq train is now rmtdeq train classifier" in capsys.readouterr().err


def test_diagnose_prints_what_is_foretold_and_measured(capsys, tmp_path):
    command = ["diagnose", *SMALL, "--width", "80", "--tolerance", "1e-3", "--out", str(tmp_path / "d")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    problem = example_mixture(120, 2)
    assert problem is not None
    assert printed.count("steps to a relative change of 0.001:") == 2
    assert "DEQModule" in printed
    assert "at width 80: spectral radius" in printed
    assert "at most, in single networks ±" in printed
    record = json.loads((tmp_path / "d.json").read_text())["results"]
    assert record["limit"] > 0.2
    assert len(record["measured"]["rate"]) == 8
    assert (tmp_path / "d.png").stat().st_size


def test_diagnose_takes_norms_in_the_place_of_data(capsys, tmp_path):
    given = ["--activation", "relu", "--uncentered", "--squared-norms", "0.5", "2", "--report", str(tmp_path / "r")]
    assert main(["diagnose", *given]) == 0
    found = rd.diagnose(rd.DEQ("relu", centered=False), [0.5, 2.0])
    assert found.summary() in capsys.readouterr().out
    assert "squared norm" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--width", "80"], "--dataset or --data"),
        ([*SMALL, "--squared-norms", "1"], "leave out --dataset"),
        (["--tolerance", "0"], "--tolerance must be > 0"),
        (["--sigma-a2", "3", "--activation", "relu", "--uncentered"], "must be below 2"),
    ],
)
def test_diagnose_refuses(capsys, given, said):
    assert main(["diagnose", *given]) == 2
    assert said in capsys.readouterr().err


def test_a_level_that_does_not_fit_is_refused_before_a_mixture_is_estimated(capsys, monkeypatch):
    monkeypatch.setattr(rd.GaussianMixture, "from_data", lambda *given, **options: pytest.fail("estimated"))
    command = ["compare", "--dataset", "digits", "--level", "paper", "--activation", "relu", "--uncentered"]
    assert main(command) == 2
    assert "needs activations without mean" in capsys.readouterr().err


def test_train_watches_the_stability(capsys, tmp_path):
    assert main([*TRAIN, "--watch", "stability", "--measure-every", "10", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert said.count("stability       spectral radius") == 2
    record = json.loads((tmp_path / "run.json").read_text())["results"]["width 60"]
    radius, smallest = record["spectral radius"], record["smallest singular value"]
    assert 0 < radius[0] < record["contraction"][0] < 1
    assert 0 < smallest[1] < 1
