"""Functions that numba compiles, their machine code kept on disk where there is a place for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator: `numba.njit` with a cache that is done without where it cannot be read or written.

    A package that is installed read-only, in a container without a home say, has no place for files; a file may be
    damaged, or the disk full.  None of that keeps a function from being compiled for this process.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError):  # numba found no folder
            _say_without_cache()
        return dispatcher

    return decorate


class _Cache(FunctionCache):
    """Numba's cache, of which what fails is done without."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever reading a damaged pickle raises
            logger.info("Machine code in %s cannot be read (%r): compiling anew.", self.cache_path, error)
            self._attempt(self.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        self._attempt(super().save_overload, sig, data)

    def _attempt(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            write(*arguments)
        except Exception as error:  # no room, no permission, a folder that is gone
            logger.info("Machine code cannot be kept in %s (%r).", self.cache_path, error)
            _say_without_cache()


@cache
def _say_without_cache() -> None:
    logger.warning(
        "There is no place to keep machine code in: every process compiles the kernel engine for itself (about 5 s). "
        "Set NUMBA_CACHE_DIR to a folder that can be written."
    )
