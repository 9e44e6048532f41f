"""Files that could not be written in the end are refused before anything is computed."""

import os
import stat

import pytest

from rmtdeq import cli
from rmtdeq._lib import files
from rmtdeq._lib.errors import InvalidInputError
from rmtdeq.output.files import figure_path

SMALL = ["--dataset", "mixture", "--p", "120", "--n", "96", "--kind", "ck"]


@pytest.fixture
def nothing_computed(monkeypatch):
    """Fail if a command comes to load or draw its data."""
    from rmtdeq.cli import designs, regressions, spectra

    def fail(*_):
        raise AssertionError("computed before the outputs were checked")

    for module, name in ((spectra, "problem_of"), (designs, "problem_of"), (regressions, "data_of")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr("rmtdeq.load_classification", fail)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("", "no name"),
        ("new/", "folder"),
        (".", "folder"),
        ("new/..", "folder"),
        ("folder*", "is a folder"),
        ("plain", "is a folder; name a file in it"),
        ("file.png/x", "cannot be written"),
        ("/proc/x", "cannot be written"),
        ("/proc/nowhere/x", "cannot be written"),
        ("a" * 250, "too long"),
        ("pipe*", "no regular file"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["compare", *SMALL, "--out"],
        ["compare", *SMALL, "--report"],
        ["predict", *SMALL, "--report"],
        ["design", *SMALL, "--save"],
        ["design", *SMALL, "--report"],
        ["train", "regression", "--n", "12", "--out"],
        ["train", "classifier", "--model", "pcdeq-linear", "--save"],
    ],
    ids=lambda command: " ".join((command[0], command[-1])),
)
def test_it_is_refused_at_once(nothing_computed, capsys, tmp_path, monkeypatch, command, bad, says):
    monkeypatch.chdir(tmp_path)
    suffix = ".html" if command[-1] == "--report" else ".png"
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "file.png").write_text("old")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert cli.main([*command, bad.replace("*", suffix)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert command[-1] in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert stat.S_ISFIFO(os.stat(tmp_path / f"pipe{suffix}").st_mode)


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "a.png", "--report", "a.html", "--save", "a.json"],
        ["--report", "x", "--save", "x.html"],
        ["--report", "a.html", "--save", "sub/../a.html"],
    ],
)
def test_no_file_is_written_over_another(nothing_computed, capsys, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["design", *SMALL, *options]) == 2
    assert "overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["own.txt", "figures/x.jpg", "x.JSON"])
@pytest.mark.parametrize("command", ["compare", "predict", "design"])
def test_a_figure_of_another_kind_is_refused(nothing_computed, capsys, tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, *SMALL, "--out", name]) == 2
    assert f"name it {name.split('.')[0]}.png" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_number_is_no_suffix():
    assert [str(figure_path(name)) for name in ("sigma-0.2", "a.SVG")] == ["sigma-0.2.png", "a.SVG"]


def test_what_can_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    for name in ("new.txt", "some/new/folder/file.txt", "old.txt"):
        files.require_writable(tmp_path / name, "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        files.require_writable(tmp_path / "x", "--out")
