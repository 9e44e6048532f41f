"""At which stage a long computation is: one line that moves on a terminal, a line a stage in the log of a program.

Work opens a stage, `with Stage("kernel", total=…)`, and counts on it.  A thread of its own tells, so that counting
costs nothing, and what counts nothing, as LAPACK, is told as well.  Where nobody reads, nothing is written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from threading import Event, RLock, Thread
from time import monotonic, sleep
from typing import Any

LATE = 2.0
"""Seconds for which a program's log may be silent."""

_YOUNG = 1.0
"""A stage that has lasted as long is worth a line, and has counted enough for an estimate."""

_AGAIN = 600.0
_TICK = 0.2
_BAR = 20
_WIDTH = 80
_MINUTE, _HOUR = 90.0, 5400.0


class Stage(ContextDecorator):
    """Some work under way, while it is entered.

    Parameters
    ----------
    what : str
        "kernel", "eigenvalues of the CK".
    total : number, optional
        How much there is to count.
    initial : number
        How much of it was done before.
    unit : str
        What is counted, where a reader counts it too: "epoch"; a share is told of anything else.
    seconds : float, optional
        What it takes, about, where it counts nothing; told at once.
    show : bool
        Whether it is told at all.
    """

    def __init__(
        self,
        what: str,
        total: float | None = None,
        *,
        initial: float = 0,
        unit: str = "",
        seconds: float | None = None,
        show: bool = True,
    ) -> None:
        self.what, self.total, self.n, self.unit = what, total, initial, unit
        self.note = ""
        self._initial, self.seconds, self._show = initial, seconds, show
        self.since = self.told = -1.0

    def _recreate_cm(self) -> Stage:
        return Stage(
            self.what, self.total, initial=self._initial, unit=self.unit, seconds=self.seconds, show=self._show
        )

    def __enter__(self) -> Stage:
        self.since = monotonic()
        if self._show:
            _teller.open(self)
        return self

    def __exit__(self, *_: object) -> None:
        _teller.close(self)

    def update(self, count: float = 1) -> None:
        """Count what was done."""
        self.n += count

    def reset(self) -> None:
        """Count from the start, as programs that download do."""
        self.n = self._initial

    def close(self) -> None:
        """Tell no more of it."""
        _teller.close(self)

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1."""
        return min(1.0, self.n / self.total) if self.total else None

    def left(self, now: float) -> float | None:
        """Return about how many seconds there are to go, where anything tells."""
        passed, done = now - self.since, self.n - self._initial
        if self.total and done > 0:
            return passed * max(0.0, self.total - self.n) / done
        return None if self.seconds is None else max(0.0, self.seconds - passed)

    def head(self) -> str:
        """Return what is done, and how far it is."""
        text = self.what
        if self.total:
            now = min(self.n + 1, self.total)
            text += f", {self.unit} {now:g} of {self.total:g}" if self.unit else f", {self.share:.0%}"
        return f"{text} ({self.note})" if self.note else text

    def times(self, now: float) -> str:
        """Return how long it has taken, and how long it will take."""
        passed, left = now - self.since, self.left(now)
        parts = [duration(passed)] * (left is None or passed >= _YOUNG)
        return ", ".join(parts if left is None else [*parts, f"about {duration(left)} to go"])


def duration(seconds: float) -> str:
    """Return a time in the unit that it is told in."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < _HOUR else f"{seconds / 3600:.1f} h"


class _Teller:
    """The thread that tells of the stages that are open, the outermost first."""

    def __init__(self) -> None:
        self.log = False
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked process has neither the thread nor the work."""
        self._lock, self._open, self._busy = RLock(), list[Stage](), Event()
        self._thread: Thread | None = None
        self._drawn = False
        self._said = monotonic()

    def open(self, stage: Stage) -> None:
        terminal = _on_a_terminal()
        if not (terminal or self.log):
            return
        with self._lock:
            self._open.append(stage)
            self._busy.set()
            if self._thread is None:
                self._thread = Thread(target=self._watch, name="rmtdeq-progress", daemon=True)
                self._thread.start()
        # LAPACK holds the interpreter, so that what is known of its time is told before.
        if stage.seconds is not None or (terminal and stage.since - self._said > _TICK):
            self._tell()

    def close(self, stage: Stage) -> None:
        with self._lock:
            if stage not in self._open:
                return
            self._open.remove(stage)
            if not self._open:
                self._busy.clear()
                self.clear()

    def begin(self) -> None:
        """A program's log is silent from now on."""
        self.log, self._said = True, monotonic()

    def clear(self) -> None:
        """Leave the terminal's line to others."""
        with self._lock:
            if self._drawn:
                _write("\r\x1b[K")
                self._drawn = False

    def _watch(self) -> None:
        while True:
            self._busy.wait()
            sleep(_TICK)
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            if not self._open:
                return
            now = monotonic()
            if _on_a_terminal():
                self._drawn, self._said = True, now
                _write(f"\r{_line(self._open, now)}\x1b[K")
            elif self.log and self._is_due(self._open[0], now):
                self._open[0].told = self._said = now
                _write(f"rmtdeq: {_heads(self._open)}, {self._open[-1].times(now)}\n")

    def _is_due(self, stage: Stage, now: float) -> bool:
        if stage.told >= 0:
            return now - stage.told >= _AGAIN
        soon = (stage.seconds or 0.0) >= max(_YOUNG, LATE)
        return soon or (now - self._said >= LATE and now - stage.since >= _YOUNG)


def _heads(stages: list[Stage]) -> str:
    return ": ".join(stage.head() for stage in stages)


def _line(stages: list[Stage], now: float) -> str:
    """Return what is told of the stages in one line of a terminal."""
    last = stages[-1]
    done = 0 if last.share is None else round(_BAR * last.share)
    bar = "" if last.share is None else f" {'█' * done}{'░' * (_BAR - done)}"
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH
    except (OSError, ValueError, AttributeError):
        width = _WIDTH
    return f"{_heads(stages)}{bar} {last.times(now)}"[: width - 1]


def _write(text: str) -> None:
    """Write on standard error, which a program may have closed."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        return


def _on_a_terminal() -> bool:
    """Say whether anybody sees standard error; services have none, and programs close theirs."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


_teller = _Teller()


@contextmanager
def told_in_log() -> Iterator[None]:
    """Tell of stages in a log, a line each, as a program does whose standard error is no terminal."""
    _teller.begin()
    try:
        yield
    finally:
        _teller.log = False


def clear_line(*_: Any) -> bool:
    """Take the line of the stages off the terminal, for another; a filter of logging that lets all pass."""
    _teller.clear()
    return True
