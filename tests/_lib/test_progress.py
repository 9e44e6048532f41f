"""Programs without standard error, or with one that is closed: services, and what runs without a window."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

import rmtdeq as rd
from rmtdeq._lib.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar(True, total=2, desc="half") as bar:
            bar.update()
        with progress_bar(False, total=2, desc="none") as bar:
            bar.update()
        assert ("half" in stream.getvalue()) == shown
        assert "none" not in stream.getvalue()


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
