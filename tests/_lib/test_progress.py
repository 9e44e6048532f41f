"""Programs without standard error, or with one that is closed: services, and what runs without a window."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib import progress
from rmtdeq._lib.progress import Stage, afford, clear_line, patience, told_in_log


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_stage_is_told_on_a_terminal_alone_and_taken_off_it(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Stage("half", 2) as stage:
            stage.update()
            time.sleep(0.5)
        with Stage("none", 2, show=False) as stage:
            time.sleep(0.5)
        assert ("half, 50%" in stream.getvalue()) == shown
        assert "none" not in stream.getvalue()
        assert stream.getvalue().endswith("\r\x1b[K") == shown


def test_a_log_has_a_line_for_each_outermost_stage_that_lasts(monkeypatch):
    monkeypatch.setattr(progress, "LATE", 0.1)
    monkeypatch.setattr(progress, "_YOUNG", 0.1)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with told_in_log():
        for what in ("reading", "training"):
            with Stage(what, 40, initial=20, unit="epoch") as stage:
                stage.update(10)
                for _ in range(8):
                    with Stage("kernel"):
                        time.sleep(0.1)
        with Stage("brief"):
            pass
    with Stage("the library's"):
        time.sleep(0.5)
    lines = stream.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["rmtdeq: reading", "rmtdeq: training"]
    assert all(", epoch 31 of 40: kernel" in line for line in lines)


def test_nothing_begins_that_takes_longer_than_patience(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    with patience(100.0):
        afford(99.0, "It")
        with pytest.raises(rd.LongComputationError, match=r"^It would take about 2 min, and .* 2 min .*--yes"):
            afford(101.0, "It")
        with Stage("kernel", 1000, initial=100, show=False) as stage:
            clock[0] += 1.0
            stage.update(1)  # at a pace that is not known yet
            clock[0] += 9.0
            stage.update(89)
            clock[0] += 90.0
            with pytest.raises(rd.LongComputationError, match=r"The kernel, of which 19\.1% is done, would"):
                stage.update(1)
        with Stage("uncounted", show=False) as stage:
            clock[0] += 1e6
            stage.update(1)
    afford(1e9, "It")


@pytest.mark.slow
def test_a_command_that_takes_long_says_where_it_is():
    command = [sys.executable, "-c", "from rmtdeq._lib import progress; progress.LATE = progress._YOUNG = 0.05; "]
    command[-1] += (
        "from rmtdeq.cli import main; main(['compare', '--dataset', 'mixture', '--p', '1500', '--level', 'classwise'])"
    )
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    stages = [line.removeprefix("rmtdeq: ").partition(",")[0] for line in run.stderr.splitlines()]
    assert {"eigenvalues of the ck", "eigenvalues of the ntk"} <= set(stages)
    assert len(stages) == len(set(stages))


def test_what_holds_the_interpreter_is_told_before(monkeypatch):
    monkeypatch.setattr(progress, "LATE", 2.0)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with told_in_log():
        for what, seconds in (("eigenvalues", 7.2), ("few eigenvalues", 0.3)):
            with Stage(what, seconds=seconds):
                pass
    assert stream.getvalue() == "rmtdeq: eigenvalues, about 7 s to go\n"


def test_what_is_left_is_in_proportion_to_what_is_done():
    stage = Stage("kernel", 10, initial=2)
    with stage:
        assert stage.left(stage.since + 3) is None
        stage.update(2)
        assert stage.left(stage.since + 3) == pytest.approx(9)
        assert stage.times(stage.since + 3) == "3 s, about 9 s to go"
        stage.update(6)
        assert stage.left(stage.since + 3) == 0
    assert Stage("eigenvalues").left(0.0) is None


def test_a_line_of_the_stages_makes_room_for_others(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with Stage("eigenvalues"):
        time.sleep(0.5)
        drawn = stream.getvalue()
        assert clear_line()
        assert stream.getvalue().startswith(drawn + "\r\x1b[K")


@pytest.mark.parametrize("stream", ["none", "closed", "bare"])
def test_work_is_done_without_standard_error(monkeypatch, stream):
    closed = io.StringIO()
    closed.close()
    X, deq = np.eye(12), rd.DEQ("tanh", 0.2, 0.8)
    monkeypatch.setattr(sys, "stderr", {"none": None, "closed": closed, "bare": object()}[stream])
    rd.kernel(X, deq)
    rd.kernel_operator(X, deq, progress=True, method="matrix-free") @ np.ones(12)
    rd.empirical_spectrum(X, deq, method="slq", top=1, steps=4, progress=True)
    rd.sample_features(X, deq, 20)


@pytest.mark.parametrize(("closed", "code"), [("2>&-", 0), (">&-", 0), (">&- 2>&-", 0)])
def test_the_command_line_without_streams(closed, code):
    command = f"exec {sys.executable} -m rmtdeq solve --activation relu {closed}"
    assert subprocess.run(command, shell=True, check=False).returncode == code


def test_a_message_without_standard_error_is_not_told_on_standard_output():
    command = f"exec {sys.executable} -m rmtdeq solve --activation rleu 2>&-"
    run = subprocess.run(command, shell=True, check=False, stdout=subprocess.PIPE)
    assert (run.returncode, run.stdout) == (2, b"")
