"""Every experiment at a tiny size: whole files, finite numbers, the same from the same seed."""

from __future__ import annotations

import csv
import json
import re
import runpy
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rmtdeq._lib.errors import ConvergenceError, DataNotFoundError, InvalidInputError
from rmtdeq.cli import main, program
from rmtdeq.papers import EXPERIMENTS, Curve, Outcome, Report, Row, Setting, Status, find, run, run_all

DESCENT = {"n": 12, "p": 12, "widths": (40, 80), "epochs": 12}
READ_OUT = {"widths": (8, 16), "train": 120, "test": 60, "epochs": 2, "activations": ("tanh",), "sigma_a2": (0.2,)}
CLASSIFIER = {"n": 64, "test": 40, "epochs": 2, "draws": 1}
SPECTRA = {"activations": ("relu",), "kinds": ("ck",), "n": 60, "covariance": "scalar"}
TINY = {
    "spectra-mixture": {"p": 100, "activations": ("tanh",), "kinds": ("ck",)},
    "spectra-mnist": SPECTRA,
    "spectra-fashion-mnist": SPECTRA,
    "spectra-cifar10": SPECTRA | {"train": 200, "epochs": 1},
    "equivalent-error": {"ps": (60, 120), "activations": ("tanh",)},
    "solved-examples": {"p": 100},
    "design-mixture": {"p": 100, "n": 80, "activations": ("tanh",), "kinds": ("ck",)},
    "design-mnist": {"dataset": "digits", "n": 60, "activations": ("tanh",), "kinds": ("ck",)},
    "accuracy-mnist": READ_OUT,
    "read-out-rate": {"widths": (8,), "rates": (0.5, 1.0), "train": 120, "test": 60, "epochs": 2},
    "accuracy-fashion-mnist": READ_OUT,
    "accuracy-cifar10": READ_OUT | {"convnet_epochs": 1},
    "finite-width": {"n": 8, "p": 8, "widths": (32, 64), "activations": ("tanh",), "draws": 2},
    "population-gram": {"n": 10, "p": 10, "depths": 4, "widths": (50, 100), "draws": 2},
    "training-deq-sphere": DESCENT,
    "training-deq-mnist": DESCENT,
    "training-deq-cifar10": DESCENT,
    "training-relu-mnist": DESCENT | {"test": 12},
    "training-relu-fashion-mnist": DESCENT | {"test": 12},
    "training-relu-cifar10": DESCENT | {"test": 12},
    "training-relu-svhn": DESCENT | {"test": 12},
    "pcdeq-linear-mnist": CLASSIFIER,
    **{
        f"pcdeq-{network}-{dataset}": {**CLASSIFIER, "n": 16, "test": 8, "epochs": 1}
        for network in ("conv", "three-blocks")
        for dataset in ("mnist", "svhn", "cifar10")
    },
    "uncentred": {"p": 100, "activations": ("relu",), "kinds": ("ntk",)},
    "ten-classes": {"n": 150, "dataset": "digits", "covariance": "diagonal"},
    "predicted-training": {"widths": (64,), "p": 40, "n": 10, "share": 0.3},
    "kernel-accuracy": {"n": 200, "test": 100, "datasets": ("mnist",), "activations": ("relu",), "ridges": 3},
    "certificates": {"n": 8, "p": 8, "width": 40, "epochs": 12, "activations": ("sigmoid",), "classifier_epochs": 1},
    "whole-mnist": {"n": 300, "steps": 6, "top": 4, "n_subsample": 100, "dataset": "digits"},
}


def tiny(name: str, setting: Setting, out) -> Report:
    experiment = find(name)
    return run(experiment, replace(experiment.small, **TINY[name]), setting, out / name, "test")


# The same functions with other data; by default every function, every network and every data set is among the rest.
REPEATED = {
    "spectra-fashion-mnist",
    "accuracy-fashion-mnist",
    "training-deq-mnist",
    "training-relu-mnist",
    "training-relu-fashion-mnist",
    "training-relu-cifar10",
    "pcdeq-conv-mnist",
    "pcdeq-conv-cifar10",
    "pcdeq-three-blocks-mnist",
    "pcdeq-three-blocks-svhn",
}


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow if each in REPEATED else ()) for each in EXPERIMENTS]
)
def test_an_experiment_writes_whole_files_with_finite_numbers(name, data_dir, tmp_path):
    report = tiny(name, Setting(seed=1, data_dir=data_dir), tmp_path)
    assert report.status is Status.DONE, report.message
    figure, table, beside = report.files
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.read_bytes().rstrip().endswith(b"IEND\xaeB`\x82")
    with table.open() as lines:
        points = list(csv.reader(lines))
    assert points[0] == ["curve", "x", "y"]
    assert len(points) > 2
    assert np.isfinite([[float(x), float(y)] for _, x, y in points[1:]]).all()
    record = json.loads(beside.read_text())
    assert record["arguments"]["seed"] == 1
    assert {"numpy", "rmtdeq"} <= set(record["versions"])
    rows = report.outcome.rows
    assert len(record["results"]["rows"]) == len(rows) > 0
    assert np.isfinite([row.found for row in rows]).all()
    assert len({row.quantity for row in rows}) == len(rows)
    assert report.outcome.table().count("\n") == len(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.csv", f"{name}.json", f"{name}.png"]


@pytest.mark.parametrize(
    "name", ["spectra-mixture", "accuracy-mnist", "population-gram", "training-deq-sphere", "pcdeq-linear-mnist"]
)
def test_a_seed_fixes_the_numbers(name, data_dir, tmp_path):
    one, again, other = (tiny(name, Setting(seed, data_dir), tmp_path).outcome for seed in (3, 3, 4))
    found = [[row.found for row in outcome.rows] for outcome in (one, again, other)]
    assert found[0] == found[1] != found[2]
    assert one.csv() == again.csv() != other.csv()


@pytest.mark.parametrize("name", ["accuracy-mnist", "finite-width", "training-relu-mnist", "pcdeq-linear-mnist"])
def test_a_second_run_goes_on_from_the_checkpoint(name, data_dir, tmp_path):
    setting = Setting(0, data_dir, tmp_path / "kept")
    first, second = (tiny(name, setting, tmp_path).outcome for _ in range(2))
    assert {path.suffix for path in (tmp_path / "kept").rglob("*")} & {".npz", ".pt"}
    assert [row.found for row in first.rows] == [row.found for row in second.rows]
    assert first.csv() == second.csv()


def test_of_accuracies_what_is_finished_can_be_shown(data_dir, tmp_path):
    experiment, setting = find("kernel-accuracy"), Setting(0, data_dir, tmp_path / "kept")
    whole = tiny("kernel-accuracy", setting, tmp_path).outcome
    (tmp_path / "kept" / "accuracy" / "mnist-NTK-20-ReLU-layers.npz").unlink()
    parameters = replace(experiment.small, **TINY["kernel-accuracy"], finished=True)
    shown = run(experiment, parameters, setting, tmp_path / "shown", "test").outcome
    assert shown.rows == tuple(row for row in whole.rows if "20 ReLU layers" not in row.quantity)
    assert len(shown.rows) < len(whole.rows)
    nothing = run(experiment, parameters, Setting(0, data_dir), tmp_path / "nothing", "test")
    assert nothing.status is Status.FAILED
    assert "No kernel is finished" in nothing.message


def test_full_sizes_are_of_the_same_kind_and_not_smaller():
    for experiment in EXPERIMENTS.values():
        assert type(experiment.small) is type(experiment.full)
        assert experiment.small != experiment.full
        names = {field.name for field in fields(experiment.full)}
        for name in names & {"epochs", "train", "p", "widths", "ps", "draws"}:
            small, full = (getattr(of, name) for of in (experiment.small, experiment.full))
            assert np.max(small) <= np.max(full), (experiment.name, name)


def test_times_are_told_of_what_there_are_records_of(capsys):
    records = (Path(__file__).parents[2] / "figures" / "reproduce").glob("*.json")
    told = {name for name, each in EXPERIMENTS.items() if each.seconds is not None}
    assert told == {path.stem for path in records if not path.stem.endswith("-full")}
    assert main(["reproduce", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    after = {line.split()[0]: below for line, below in pairwise(lines) if line[0] != " "}
    assert {name for name in EXPERIMENTS if re.search(r"; \d+ (s|min)$", after[name])} == told


def test_list_shows_all(capsys):
    assert main(["reproduce", "list"]) == 0
    shown = capsys.readouterr().out
    for experiment in EXPERIMENTS.values():
        assert f"{experiment.name} " in shown
        assert experiment.title in shown
        assert experiment.source in shown


@pytest.mark.parametrize(
    ("name", "hint"), [("spectra-minst", "spectra-mnist"), ("pcdeq", "pcdeq-linear-mnist"), ("zzzz", "reproduce list")]
)
def test_unknown_names_get_suggestions(capsys, name, hint):
    assert main(["reproduce", "solved-examples", name]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert f"no experiment '{name}'" in errors
    assert hint in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--device", "nonsense"], "nonsense"), (["--seed", "-1"], "--seed"), (["--folder", "/proc/none"], "/proc/none")],
)
def test_what_makes_no_sense_is_told_before_any_work(monkeypatch, capsys, options, message):
    chosen = experiments(raising(AssertionError("it was run")))
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", {each.name: each for each in chosen})
    assert main(["reproduce", "all", *options]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n") == 1
    assert message in shown.err


def outcome(found: float = 1.0) -> Outcome:
    rows = (Row("good", found, 1.0, "law"), Row("small", 9.0, 1.0, "paper", caveat="smaller"))
    return Outcome(rows, (Curve("line", [1, 2], [3.0, 4.0]),), lambda figure: figure.subplots().plot([1, 2]))


def experiments(*functions):
    like = find("solved-examples")
    return [replace(like, name=f"number-{i}", function=function) for i, function in enumerate(functions)]


def raising(error):
    def function(parameters, setting):
        raise error

    return function


def test_all_goes_on_where_data_are_missing_or_something_fails(tmp_path):
    chosen = experiments(
        raising(DataNotFoundError("no files")),
        raising(ConvergenceError("never")),
        raising(ZeroDivisionError("slip")),
        lambda parameters, setting: outcome(),
    )
    reports = list(run_all(chosen, False, Setting(), tmp_path))
    assert [report.status for report in reports] == [Status.NO_DATA, Status.FAILED, Status.FAILED, Status.DONE]
    assert [report.message for report in reports] == ["no files", "never", "ZeroDivisionError: slip", ""]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".csv", ".json"}


@pytest.mark.parametrize(("error", "code"), [(DataNotFoundError("no files"), 0), (ValueError("wrong"), 2)])
def test_only_failures_are_failures(monkeypatch, capsys, tmp_path, error, code):
    chosen = {each.name: each for each in experiments(raising(error), lambda parameters, setting: outcome(1.25))}
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", chosen)
    assert main(["reproduce", "all", "--folder", str(tmp_path)]) == code
    shown = capsys.readouterr().out.splitlines()
    assert "number-0" in shown[-2]
    assert ("no data" if code == 0 else "failed") in shown[-2]
    assert str(error) in shown[-2]
    assert shown[-1].split() == ["number-1", "done", "0", "0.25", "good"]


def test_without_data_what_was_asked_for_by_name_has_failed(monkeypatch, capsys, tmp_path):
    chosen = {each.name: each for each in experiments(raising(DataNotFoundError("no files")))}
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", chosen)
    monkeypatch.setattr("rmtdeq.papers.find", chosen.get)
    assert main(["reproduce", "number-0", "--folder", str(tmp_path)]) == 2
    assert "no data: no files" in capsys.readouterr().out


def test_interrupting_says_where_the_others_are(monkeypatch, capsys, tmp_path):
    chosen = experiments(lambda parameters, setting: outcome(), raising(KeyboardInterrupt()))
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", {each.name: each for each in chosen})
    assert main(["reproduce", "all", "--folder", str(tmp_path)]) == 130
    assert f"Experiments before number-1 are in {tmp_path}" in capsys.readouterr().err
    assert (tmp_path / "number-0.png").exists()
    assert not list(tmp_path.glob("*number-1*"))


def test_full_runs_have_names_of_their_own(monkeypatch, tmp_path):
    seen = []
    chosen = experiments(lambda parameters, setting: seen.append(parameters) or outcome())
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", {each.name: each for each in chosen})
    for flags in ([], ["--full"]):
        assert main(["reproduce", "all", "--folder", str(tmp_path), *flags]) == 0
    assert seen == [chosen[0].small, chosen[0].full]
    assert {path.stem for path in tmp_path.iterdir()} == {"number-0", "number-0-full"}


def test_parameters_are_set_by_name(monkeypatch, tmp_path):
    seen = []
    chosen = experiments(lambda parameters, setting: seen.append(parameters) or outcome())
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", {each.name: each for each in chosen})
    setting = ["--set", "p=7"]
    for flags in (setting, ["--full", *setting]):
        assert main(["reproduce", "all", "--folder", str(tmp_path), *flags]) == 0
    assert seen == [replace(chosen[0].small, p=7), replace(chosen[0].full, p=7)]
    assert {path.stem for path in tmp_path.iterdir()} == {"number-0-set", "number-0-full-set"}


@pytest.mark.parametrize("setting", ["nothing=3", "p=many"])
def test_wrong_settings_are_refused_before_anything_is_computed(capsys, tmp_path, setting):
    names = ["reproduce", "solved-examples", "spectra-mixture", "--folder", str(tmp_path / "out")]
    assert main([*names, "--set", setting]) == 2
    captured = capsys.readouterr()
    assert "p=1000" in captured.err
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_the_former_name_of_the_folder_still_serves(monkeypatch, capsys, caplog, tmp_path):
    chosen = experiments(lambda parameters, setting: outcome())
    monkeypatch.setattr("rmtdeq.papers.EXPERIMENTS", {each.name: each for each in chosen})
    assert main(["reproduce", "all", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "number-0.png").exists()
    assert "--out of reproduce is now --folder" in caplog.text


def test_resume_goes_on_with_it(monkeypatch, capsys, tmp_path):
    like = find("finite-width")
    monkeypatch.setattr(
        "rmtdeq.papers.EXPERIMENTS",
        {"finite-width": replace(like, small=replace(like.small, **TINY["finite-width"]))},
    )
    kept = tmp_path / "kept"
    assert main(["reproduce", "all", "--folder", str(tmp_path / "out"), "--checkpoint", str(kept)]) == 0
    first = capsys.readouterr().out.splitlines()[1:]
    assert main(["resume", str(kept)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == first
    assert list((kept / "finite-width").rglob("*.npz"))


def test_rows_that_do_not_count_are_not_the_worst():
    found = outcome(0.5)
    assert found.worst.quantity == "good"
    assert found.rows[0].relative == 0.5
    assert found.rows[1].relative is None
    assert "not counted: smaller" in found.table()


@pytest.mark.parametrize(
    ("relation", "found", "off"), [("<=", 1.0, 0), ("<=", 3.0, 1), (">=", 3.0, 0), (">=", 1.0, -1)]
)
def test_bounds_are_exceeded_on_one_side(relation, found, off):
    row = Row("bounded", found, 2.0, "law", relation)
    assert row.difference == off
    assert ("holds" in Outcome((row,), (), print).table()) is (off == 0)


def test_relations_are_known():
    with pytest.raises(InvalidInputError, match="relation"):
        Row("odd", 1.0, 1.0, "law", "<")


SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_scripts_say_what_they_take(monkeypatch, capsys, script):
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert not done.value.code
    assert "--out" in capsys.readouterr().out


def test_a_program_takes_every_parameter(data_dir, tmp_path, capsys):
    arguments = ["--n", "40", "--activations", "tanh", "--kinds", "ck", "--seed", "2", "--data-dir", str(data_dir)]
    assert program("spectra-mnist", "unused", "", [*arguments, "--out", str(tmp_path / "a")], sigma_a2=0.3) == 0
    record = json.loads((tmp_path / "a.json").read_text())["arguments"]
    assert (record["n"], record["activations"], record["kinds"], record["seed"]) == (40, ["tanh"], ["ck"], 2)
    assert record["sigma_a2"] == 0.3
    assert "tanh, ck: KS distance" in capsys.readouterr().out
