"""Machine code on disk: loaded where it is sound, made anew where it is not, done without where there is no place."""

from __future__ import annotations

import importlib.util
import logging

import numba
import pytest
from numba.core import caching

from rmtdeq._lib import compiled

SOURCE = "def plus(a, b):\n    return a + b\n"


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Return the function that compiles `plus` as a new process would, and its cache's folder."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    compiled._say_without_cache.cache_clear()
    path = tmp_path / "sums.py"
    path.write_text(SOURCE)

    def fresh():
        spec = importlib.util.spec_from_file_location("sums", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return compiled.compiled(nogil=True)(module.plus)

    yield fresh, folder
    compiled._say_without_cache.cache_clear()


def test_a_second_process_loads_what_the_first_compiled(function):
    fresh, _ = function
    first, second = fresh(), fresh()
    assert first(2, 3) == second(2, 3) == 5
    assert sum(first.stats.cache_misses.values()) == sum(second.stats.cache_hits.values()) == 1
    assert not sum(second.stats.cache_misses.values())


@pytest.mark.parametrize("damage", [lambda old: old[: len(old) // 2], lambda old: b"", lambda old: b"\x80\x04garbage"])
@pytest.mark.parametrize("which", ["*.nbi", "*.nbc"])
def test_damaged_files_are_replaced(function, which, damage, caplog):
    caplog.set_level(logging.INFO, "rmtdeq")
    fresh, folder = function
    assert fresh()(2, 3) == 5
    (path,) = folder.rglob(which)
    path.write_bytes(damage(path.read_bytes()))
    again, after = fresh(), fresh()
    assert again(2, 3) == 5
    assert "compiling anew" in caplog.text
    assert after(2, 3) == 5
    assert sum(after.stats.cache_hits.values()) == 1


def test_without_a_folder_everything_is_compiled_and_that_is_said_once(function, monkeypatch, caplog):
    fresh, _ = function
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert fresh()(2, 3) == fresh()(1, 4) == 5
    (said,) = (record for record in caplog.records if record.name == "rmtdeq._lib.compiled")
    assert "NUMBA_CACHE_DIR" in said.getMessage()


def test_a_full_disk_keeps_nothing_from_being_computed(function, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    fresh, _ = function
    monkeypatch.setattr(caching.IndexDataCacheFile, "_dump", full)
    assert fresh()(2, 3) == 5
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_a_folder_that_is_gone_is_made_again(function):
    fresh, folder = function
    plus = fresh()
    assert plus(2, 3) == 5
    for path in folder.rglob("*.nb?"):
        path.unlink()
    assert plus(2.0, 3.0) == 5.0
