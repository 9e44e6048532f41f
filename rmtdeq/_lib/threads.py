"""Work shared out among threads that each call BLAS for themselves."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, local
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from rmtdeq._lib.progress import Stage

T = TypeVar("T")

_here = local()

_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def wait_patiently() -> None:
    """Let OpenMP's threads sleep while they wait for one another, unless the user has asked for something else.

    By default they spin.  Beside other programs on the same cores they spin for a thread that has no core: training
    took eight times as long as with threads that sleep.  OpenMP reads this when it is loaded, with torch or by numba,
    so it is for programs, which know that they are first.
    """
    for name, value in _PATIENT.items():
        os.environ.setdefault(name, value)


def threads(most: int | None = None) -> int:
    """Return how many threads to use: as many as numba would, but no more than `most`; one within `alone`."""
    if getattr(_here, "alone", False):
        return 1
    import numba
    from numba.np.ufunc import parallel

    # Asking numba launches its threads, which in an OpenMP library shared with torch undoes torch's number of threads.
    # Before that nobody can have set another number than the configured one.
    launched = getattr(parallel, "_is_initialized", True)
    count = int(numba.get_num_threads() if launched else numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return count if most is None else max(1, min(count, most))


def share_out(
    items: Sequence[T],
    work: Callable[[int], Callable[[T], None]],
    workers: int,
    *,
    fixed: bool = False,
    what: str = "",
    progress: bool = False,
    stopped_at: Callable[[BaseException, int], None] | None = None,
) -> None:
    """Do something with every item, in several threads.

    Parameters
    ----------
    items : sequence
    work : callable
        Called once in each thread with its number; returns what that thread does with an item.
    workers : int
        One of them is the caller's; if it is the only one, BLAS has its own.
    fixed : bool
        Each thread has the same items in every run; by default whoever is free takes the next.
    what : str
        Name of the stage.
    progress : bool
        Tell how far it is.
    stopped_at : callable, optional
        Called with the exception that ends the work early (an item's, or an interrupt) and the number of items,
        counted from the first, that are all done; nothing is under way then.
    """
    queue, missing, stop = deque(enumerate(items)), set(range(len(items))), Event()

    with Stage(what, len(items), show=progress) as stage:

        def run(number: int, own: deque[tuple[int, T]]) -> None:
            try:
                act = work(number)
                while own and not stop.is_set():
                    try:
                        index, item = own.popleft()
                    except IndexError:  # another thread took the last
                        return
                    act(item)
                    missing.discard(index)
                    stage.update()
            except BaseException:
                stop.set()
                raise

        try:
            if workers == 1:
                run(0, queue)
                return
            shares = [deque(list(queue)[number::workers]) if fixed else queue for number in range(workers)]
            with one_blas_thread:
                # The caller's thread is one of them.
                with ThreadPoolExecutor(workers - 1) as pool:
                    tasks = [pool.submit(run, number, shares[number]) for number in range(1, workers)]
                    run(0, shares[0])
                for task in tasks:
                    task.result()
        except BaseException as error:
            if stopped_at is not None:
                stopped_at(error, min(missing, default=len(items)))
            raise


class _OneBlasThread:
    """BLAS limited to one thread for as long as somebody in this process wants it so.

    BLAS has one number of threads for the whole process: whoever comes first remembers it, the last one to leave, in
    whichever thread, brings it back, and those in between find the limit and leave it.
    """

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _forget(self) -> None:
        self._lock, self._wanted, self._lift = Lock(), 0, _nothing

    def _after_fork(self) -> None:
        """Bring back the number in a forked process, which has none of the threads that wanted the limit."""
        self._lift()
        self._forget()

    def __enter__(self) -> None:
        with self._lock:
            try:
                if not self._wanted:
                    self._lift = _limit_blas()
                self._wanted += 1
            except BaseException:
                self._lift()
                raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._wanted = max(0, self._wanted - 1)
            if not self._wanted:
                lift, self._lift = self._lift, _nothing
                lift()


def _nothing() -> None:
    """Lift no limit."""


def _limit_blas() -> Callable[[], None]:
    """Give every BLAS that is loaded by now one thread; return what brings back what it had."""
    controller = ThreadpoolController().select(user_api="blas")
    limiter = controller.limit(limits=1)

    def anybody_may() -> None:
        # threadpoolctl lets only the thread that set the number of an OpenBLAS set it again, and ignores the others.
        for library in controller.lib_controllers:
            getattr(library, "clear_controlling_thread", lambda **_: None)(force=True)

    def lift() -> None:
        anybody_may()
        limiter.restore_original_limits()
        anybody_may()

    return lift


one_blas_thread = _OneBlasThread()


@contextmanager
def alone() -> Iterator[None]:
    """Use no thread but this one, which is one of several that somebody else shares work out to."""
    before = getattr(_here, "alone", False)
    _here.alone = True
    try:
        with one_blas_thread:
            yield
    finally:
        _here.alone = before
