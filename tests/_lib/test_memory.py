"""How much memory there is: the least that the machine and the groups of the process leave."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from rmtdeq._lib.memory import available_memory

GIB = 1 << 30


@pytest.fixture(autouse=True)
def eight(monkeypatch):
    """A machine with 8 GiB to be had."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GIB))


def machine(root, group, **files):
    """Write the files of a process in some control group."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_limits_it_is_the_machines(tmp_path):
    assert available_memory(machine(tmp_path, "0::/\n")) == 8 * GIB


@pytest.mark.parametrize("limited", ["a/", "a/b/"])
def test_a_container_limits_what_is_within_it(tmp_path, limited):
    files = {f"{limited}memory.max": f"{2 * GIB}\n", f"{limited}memory.current": f"{GIB}\n"}
    files[f"{limited}memory.stat"] = f"anon 5\ninactive_file {GIB // 4}\n"
    assert available_memory(machine(tmp_path, "0::/a/b\n", **files)) == GIB + GIB // 4


def test_limits_of_the_first_version(tmp_path):
    files = {"memory/job/memory.limit_in_bytes": f"{3 * GIB}", "memory/job/memory.usage_in_bytes": f"{GIB}"}
    assert available_memory(machine(tmp_path, "4:cpu:/x\n5:memory:/job\n", **files)) == 2 * GIB


def test_no_limit_and_a_limit_that_is_used_up(tmp_path):
    free = machine(tmp_path / "free", "0::/a\n", **{"a/memory.max": "max\n", "a/memory.current": "5\n"})
    assert available_memory(free) == 8 * GIB
    full = machine(tmp_path / "full", "0::/a\n", **{"a/memory.max": "4096\n", "a/memory.current": "8192\n"})
    assert available_memory(full) == 0


def test_without_descriptions_of_groups_it_is_the_machines(tmp_path):
    assert available_memory(tmp_path) == 8 * GIB


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="the system has no such limit")
def test_a_limited_address_space_limits():
    code = (
        "import resource; from rmtdeq._lib.memory import available_memory; before = available_memory();"
        f"resource.setrlimit(resource.RLIMIT_AS, ({GIB}, {GIB})); print(available_memory(), before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    limited, free = map(int, done.stdout.split())
    assert 0 < limited < min(GIB, free)
