"""Work shared out among threads that each call BLAS for themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import Event, Lock, local
from typing import Any, TypeVar

from rmtdeq._progress import progress_bar

T = TypeVar("T")

_here = local()


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
        Name of the progress bar.
    progress : bool
        Show it, on a terminal.
    stopped_at : callable, optional
        Called with the exception that ends the work early (an item's, or an interrupt) and the number of items,
        counted from the first, that are all done; nothing is under way then.
    """
    queue, missing, stop = deque(enumerate(items)), set(range(len(items))), Event()

    with progress_bar(progress, total=len(items), desc=what, unit="block") as bar:

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
                    bar.update()
            except BaseException:
                stop.set()
                raise

        try:
            if workers == 1:
                run(0, queue)
                return
            shares = [deque(list(queue)[number::workers]) if fixed else queue for number in range(workers)]
            with _blas().limit(limits=1):
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


@lru_cache(maxsize=1)
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


class _OneBlasThread:
    """BLAS limited to one thread for as long as somebody in this process wants it so."""

    def __init__(self) -> None:
        self._lock, self._wanted, self._limit = Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._wanted:
                self._limit.enter_context(_blas().limit(limits=1))
            self._wanted += 1

    def leave(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                self._limit.close()


_one_blas_thread = _OneBlasThread()


@contextmanager
def alone() -> Iterator[None]:
    """Use no thread but this one, which is one of several that somebody else shares work out to."""
    _here.alone = True
    _one_blas_thread.enter()
    try:
        yield
    finally:
        _one_blas_thread.leave()
        _here.alone = False
