"""Jobs that are killed, run out of disk, or are met by another process come to the same numbers, or are refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib.checkpoint import Checkpoint
from rmtdeq.cli import main

JOB = """
import sys, numpy as np, rmtdeq as rd
from rmtdeq.kernels import blocks as fill
from rmtdeq.kernels.stores import host as host_matrix
from rmtdeq.kernels.stores import panels
for module in (fill, host_matrix, panels):
    module.HEIGHT, module.WIDTH = 32, 64
panels.PANEL_BYTES = 16384
X = np.random.default_rng(0).standard_normal((920, 50)) / 50**0.5
spectrum = rd.empirical_spectrum(
    X, rd.DEQ("relu", 0.3, 0.8), "ntk", method="slq", top=4, steps=20, checkpoint=sys.argv[1], progress=False
)
np.savez(sys.argv[2], top=spectrum.eigenvalues, vectors=spectrum.vectors, nodes=spectrum.all_values)
"""


def run(folder: Path, result: Path, killed_after: float | None = None) -> int:
    """Run the job, and kill it after some seconds."""
    process = subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(result)], stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=killed_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return -signal.SIGKILL
    assert killed_after is not None or process.returncode == 0, errors[-2000:]
    return process.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return folder, result and seconds of the job."""
    folder = tmp_path_factory.mktemp("whole")
    start = time.monotonic()
    run(folder / "job", folder / "result.npz")
    seconds = time.monotonic() - start
    assert len(list((folder / "job" / "kernel").glob("panel-*.npy"))) >= 200
    return folder, np.load(folder / "result.npz"), seconds


@pytest.mark.parametrize("moment", [0.8, *(pytest.param(0.4 + 0.06 * k, marks=pytest.mark.slow) for k in range(10))])
def test_a_killed_job_comes_to_the_same_bits(tmp_path, undisturbed, moment):
    """Killed after some part of the time that it takes, in the first part of which Python starts."""
    folder, exact, seconds = undisturbed
    jitter = np.random.default_rng(int(100 * moment)).uniform(0, 0.06)
    assert run(tmp_path / "job", tmp_path / "result.npz", (moment + jitter) * seconds) in (0, -signal.SIGKILL)
    run(tmp_path / "job", tmp_path / "result.npz")
    found = np.load(tmp_path / "result.npz")
    for name in exact.files:
        np.testing.assert_array_equal(found[name], exact[name])
    # The names of panels hold checksums of their entries.
    panels = [{path.name for path in (place / "job" / "kernel").glob("panel-*")} for place in (folder, tmp_path)]
    assert panels[0] == panels[1]


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a file system of 2 MiB, which needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    yield place if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_a_job_to_go_on_with(tmp_path, small_disk, monkeypatch):
    from rmtdeq.kernels import blocks as fill
    from rmtdeq.kernels.stores import choice as storage
    from rmtdeq.kernels.stores import host as host_matrix
    from rmtdeq.kernels.stores import panels

    for module in (fill, host_matrix, panels):
        monkeypatch.setattr(module, "HEIGHT", 32)
        monkeypatch.setattr(module, "WIDTH", 64)
    monkeypatch.setattr(panels, "PANEL_BYTES", 65536)
    X, deq = np.random.default_rng(0).standard_normal((900, 50)) / 50**0.5, rd.DEQ("relu", 0.3, 0.8)
    options = {"method": "slq", "top": 4, "steps": 8, "progress": False}
    exact = rd.empirical_spectrum(X, deq, "ntk", storage="memory-mapped", **options)
    # The disk fills up after the room was asked for.
    monkeypatch.setattr(storage, "free_space", lambda folder: 1 << 40)
    place = tmp_path / "job"
    if small_disk is not None:
        place = small_disk / "job"
    else:
        whole = panels.write_whole

        def full(path, *rest):
            if len(list(path.parent.glob("panel-*"))) == 7:
                raise OSError(28, "No space left on device")
            return whole(path, *rest)

        monkeypatch.setattr(panels, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        rd.empirical_spectrum(X, deq, "ntk", checkpoint=place, **options)
    kept = sorted(path.name for path in (place / "kernel").glob("panel-*.npy"))
    assert kept
    assert not list((place / "kernel").glob(".*"))
    monkeypatch.undo()
    for module in (fill, host_matrix, panels):
        monkeypatch.setattr(module, "HEIGHT", 32)
        monkeypatch.setattr(module, "WIDTH", 64)
    monkeypatch.setattr(panels, "PANEL_BYTES", 65536)
    roomy = tmp_path / "roomy"
    shutil.copytree(place, roomy)
    found = rd.empirical_spectrum(X, deq, "ntk", checkpoint=roomy, **options)
    np.testing.assert_array_equal(found.eigenvalues, exact.eigenvalues)
    np.testing.assert_array_equal(found.vectors, exact.vectors)
    assert set(kept) <= {path.name for path in (roomy / "kernel").glob("panel-*.npy")}


COMPARE = [
    "compare",
    "--dataset",
    "digits",
    "--classes",
    "0",
    "1",
    "--n",
    "100",
    "--kind",
    "ck",
    "--method",
    "slq",
    "--top",
    "3",
]


def test_resume_runs_the_command_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMPARE, "--steps", "8", "--checkpoint", "job", "--out", "first"]) == 0
    said = capsys.readouterr().out
    (tmp_path / "first.png").unlink()
    monkeypatch.chdir(tmp_path.parent)
    assert main(["resume", str(tmp_path / "job")]) == 0
    again = capsys.readouterr().out
    assert again.startswith("rmtdeq compare --dataset digits")
    assert again.partition("\n")[2] == said
    assert (tmp_path / "first.png").exists()


def test_a_copy_of_a_job_and_another_command_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMPARE, "--steps", "8", "--checkpoint", "job"]) == 0
    shutil.copytree("job", "copy")
    assert main(["resume", "copy"]) == 2
    assert f"the job in {tmp_path / 'job'}, and this is a copy" in capsys.readouterr().err
    assert main(["train", "regression", "--widths", "50", "--n", "20", "--epochs", "2", "--checkpoint", "job"]) == 2
    assert "the checkpoint of another command, rmtdeq compare" in capsys.readouterr().err
    # Called again, the copy is a job of its own.
    assert main([*COMPARE, "--steps", "8", "--checkpoint", "copy"]) == 0
    assert main(["resume", "copy"]) == 0


def test_training_is_resumed_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "regression", "--widths", "50", "--n", "20", "--checkpoint", str(tmp_path / "job")]
    assert main([*arguments, "--epochs", "5"]) == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "job")]) == 0
    assert "--epochs 5" in capsys.readouterr().out


def test_a_refused_command_leaves_the_job_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMPARE, "--steps", "8", "--checkpoint", "job"]) == 0
    before = (tmp_path / "job" / "job.json").read_text()
    other = ["--kind", "ntk", "ck", "--seed", "4", "--steps", "8", "--checkpoint", "job"]
    assert main([*COMPARE[:8], *other, "--method", "slq"]) == 2
    assert (tmp_path / "job" / "job.json").read_text() == before
    assert main([*COMPARE, "--steps", "10", "--checkpoint", "job"]) == 0
    assert '"10"' in (tmp_path / "job" / "job.json").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rmtdeq": "0.0.1"}, "version 0.0.1"),
        ({"arguments": "compare"}, "not the record of a job"),
        ({"arguments": ["resume", "x"]}, "not the record of a job"),
        ({"arguments": [1]}, "not the record of a job"),
        ({"working folder": "/nowhere/at/all"}, "no longer there"),
        (None, "cannot be read"),
    ],
)
def test_a_job_that_cannot_go_on_is_refused_with_the_reason(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    assert main([*COMPARE, "--steps", "8", "--checkpoint", str(tmp_path / "job")]) == 0
    path = tmp_path / "job" / "job.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    assert main(["resume", str(tmp_path / "job")]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_job_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nothing"):
        assert main(["resume", str(folder)]) == 2
        assert "not the --checkpoint of a command" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


HOLD = """
import sys, time
from rmtdeq._lib.checkpoint import Checkpoint
kept = Checkpoint(sys.argv[1], {"n": 1}, "job")
print("there", flush=True)
time.sleep(60)
"""


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        with pytest.raises(rd.InvalidInputError, match="Another process is at work"):
            Checkpoint(tmp_path, {"n": 1}, "job")
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()
    # A process that was killed holds nothing.
    kept = Checkpoint(tmp_path, {"n": 1}, "job")
    Checkpoint(tmp_path, {"n": 1}, "job").close()
    kept.close()
